"""The timeline of one call: its video, and the files of its takes."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from runtime.deliver.delivery import DeliveredSound
from runtime.deliver.timeline.model import Timeline, TimelineSound, sound_frames
from runtime.edit.timecode import Span
from runtime.edit.timing import VideoTiming
from runtime.media.wav import BYTES
from runtime.video import Video


def timeline_of(
    video: Path,
    timing: VideoTiming,
    files: Sequence[tuple[Path, DeliveredSound]],
    span: Span | None = None,
    stamped: bool = False,
) -> Timeline:
    """Lay the files of takes on the video, one track each, where `span` says (None: on all of it).

    `stamped`: the files are broadcast WAV, whose time stamps count from the video's timecode.
    """
    begin = Fraction(0) if span is None else span.begin
    sounds = []
    for number, (path, sound) in enumerate(files, 1):
        rate, samples = sound.form.rate, sound.length
        first, frames = sound_frames(round(begin * rate), samples, rate, timing.rate)
        stamp = (timing.start.frame if timing.start is not None else 0) + first if stamped else 0
        depth = 8 * BYTES[sound.form.bits]
        name = f"MaskVAT take {number}"
        path = path.absolute()
        sounds.append(TimelineSound(path, name, rate, sound.form.channels, depth, samples, first, frames, stamp))
    with Video(video) as opened:
        size = opened.width, opened.height
    return Timeline(video.name, timing.rate, video.absolute(), timing.frames, size, sounds, timing.start)
