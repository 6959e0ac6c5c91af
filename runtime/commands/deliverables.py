"""The flags that say how a sound is delivered: format, levels, broadcast WAV, timeline. They are checked first."""

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from engines.contract import FloatArray
from runtime.audio import check_length
from runtime.commands import signals
from runtime.commands.editing import Edit
from runtime.commands.standard_streams import is_terminal, usable
from runtime.deliver.delivery import DeliveredSound, DeliveryConfig, SoundContent, deliver_take
from runtime.deliver.levels import check_own_sound, own_sound
from runtime.deliver.sound_file import check_sound_file, write_wav_to
from runtime.deliver.timeline.write import check_timeline_file
from runtime.edit.timecode import Span
from runtime.edit.timing import VideoTiming, read_timing
from runtime.errors import MediaError, OptionError
from runtime.media.wav import WavFormat
from runtime.take import Take

PIPE = Path("-")  # as an output: the WAV goes to standard output
RATES = (44100, 48000, 88200, 96000)


def add_delivery_options(add: Callable[..., object]) -> None:
    """Add the flags that set the fields of DeliveryConfig, and those of the files beside the sound."""
    add("--rate", type=int, choices=RATES, default=44100, help="sample rate of the sound file in Hz")
    add("--bits", choices=("16", "24", "float"), default="16", help="bits per sample")
    add("--channels", type=int, choices=(1, 2), default=1, help="1, or 2 with the same sound in both")
    add("--bwf", action="store_true",
        help="broadcast WAV: time stamp from the video's timecode, loudness, how the sound was made")  # fmt: skip
    add("--gain", type=float, metavar="DB", default=0.0, help="make the sound louder or quieter, -120 to 60 dB")
    add("--fade", type=float, metavar="MS", default=argparse.SUPPRESS,
        help="fade in and out, 0 to 60000 ms (default: 5 for a range, none for a whole video)")  # fmt: skip
    add("--mix", type=float, metavar="DB", default=argparse.SUPPRESS,
        help="add the sound to the video's own sound, at this level, -120 to 60 dB")  # fmt: skip
    add("--lufs", type=float, metavar="LUFS", default=argparse.SUPPRESS,
        help="bring the sound to this loudness, -70 to 0, as far as --peak allows")  # fmt: skip
    add("--peak", type=float, metavar="DBTP", default=argparse.SUPPRESS,
        help="keep the true peak at or below this, -60 to 0 (default: -1 with --lufs, else no limit)")  # fmt: skip
    add("--silence", metavar="off|auto|DB", default="off",
        help="silence where nothing should sound: auto judges by motion and by how sure the model was, a level such as "
        "-50 silences what is quieter")  # fmt: skip
    add("--timeline", type=Path, metavar="FILE", default=argparse.SUPPRESS,
        help="also write a timeline with every take as a track: .otio, .xml (xmeml), .mlt, .fcpxml, .lua")  # fmt: skip
    add("--sidecar", action="store_true", help="also write a .json beside each sound file: the report and its facts")


def read_delivery(args: Namespace) -> DeliveryConfig:
    """The configuration that the flags give. Raises OptionError."""
    names = ("bits", "rate", "channels", "gain", "fade", "mix", "lufs", "peak", "silence", "bwf")
    if hasattr(args, "timeline"):
        check_timeline_file(args.timeline)
    return DeliveryConfig(**{name: getattr(args, name) for name in names if hasattr(args, name)})


@dataclass(frozen=True)
class Delivery:
    """How the flags want the sound files. Everything is checked before any work."""

    config: DeliveryConfig
    timing: VideoTiming | None  # of the video, if a file needs it
    pipe: bool  # the WAV goes to standard output
    span: Span | None = None  # the part of the video to make a sound for
    streamed: bool = False  # the sound is written already

    def sounds(self, args: Namespace, takes: Sequence[Take]) -> list[DeliveredSound]:
        """The takes at their delivered level. Raises OptionError for --lufs if a take is silent."""
        own: FloatArray | None = None
        if self.config.mix is not None:
            first = takes[0]
            own = own_sound(args.video, first.sample_rate, first.start, len(first.audio), args.max_duration)
        delivered = []
        for take in takes:
            signals.check()
            delivered.append(deliver_take(take, self.config, own=own))
        return delivered

    def facts(self) -> dict[str, Any]:
        """What the report says about the video's timing."""
        if self.timing is None:
            return {}
        start = self.timing.start
        return {"frame_rate": str(self.timing.rate), "start_timecode": None if start is None else str(start)}

    def warnings(self, takes: Sequence[DeliveredSound], timeline: Path | None) -> list[str]:
        """Warnings about levels, timing and timeline, each once."""
        found = [w for sound in takes for w in sound.warnings]
        if self.timing is not None:
            found += self.timing.warnings
            if timeline is not None and not self.timing.steady:
                found.append(
                    f"{timeline}: the video's frame rate varies; the timeline counts {float(self.timing.rate):.3f} "
                    "frames per second"
                )
        return list(dict.fromkeys(found))


def plan_sounds(args: Namespace, config: DeliveryConfig) -> list[Path]:
    """The names of the sound files; none for a pipe. Raises OptionError if a name does not fit the flags."""
    first: Path = getattr(args, "output", args.video.with_suffix(".wav"))
    if first == PIPE:
        _check_pipe(args)
        return []
    check_sound_file(first, WavFormat(args.rate, config.bits, config.channels), config.bwf)
    suffix = first.suffix.lower()
    return [first] + [first.with_name(f"{first.stem}.take{n}{suffix}") for n in range(2, args.takes + 1)]


def plan_delivery(args: Namespace, config: DeliveryConfig, edit: Edit) -> Delivery:
    """Check that the video has what the flags need. Raises OptionError, MediaError."""
    if config.mix is not None:
        check_own_sound(args.video)
    needed = config.bwf or hasattr(args, "timeline") or edit.needs_timing
    timing = read_timing(args.video, signals.check) if needed else None
    if timing is not None and (config.mix is not None or hasattr(args, "mux")):
        check_length(args.video, timing.duration, args.max_duration)  # they need all of the video
    span = None if edit.span is None or timing is None else timing.resolve(edit.span, timing.duration)
    return Delivery(config, timing, getattr(args, "output", None) == PIPE, span)


def _check_pipe(args: Namespace) -> None:
    """Refuse flags that do not go together with a WAV on standard output."""
    if args.takes > 1:
        raise OptionError(f"--takes is {args.takes}, and a pipe takes one sound; give -o FILE.wav")
    for flag in ("timeline", "sidecar"):
        if getattr(args, flag, False):
            raise OptionError(f"--{flag} needs a sound file; give -o FILE.wav in place of -o -")
    if args.progress == "json":
        raise OptionError("--progress json and -o - both write to standard output; give -o FILE.wav or drop --progress")
    standard_output()


def standard_output() -> BinaryIO:
    """Standard output for bytes. Raises MediaError if there is none, or if it is a terminal."""
    if is_terminal(sys.stdout):
        raise MediaError("-o - would print the WAV on the terminal; redirect it (`-o - > sound.wav`), or name a file")
    stream: BinaryIO | None = getattr(sys.stdout, "buffer", None) if usable(sys.stdout) else None
    if stream is None:
        raise MediaError("-o - needs a standard output that takes bytes; name a file")
    return stream


def write_to_pipe(content: SoundContent) -> None:
    """Write a WAV to standard output. Raises BrokenPipeError if its reader is gone."""
    stream = standard_output()
    write_wav_to(stream, content.samples, content.sound.form, content.chunks)
    stream.flush()
