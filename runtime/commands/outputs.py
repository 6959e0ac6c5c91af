"""The command's output files: their names, checks before and after the work, and writing all of them or none."""

import json
import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.manifest import write_atomically
from runtime.commands import signals
from runtime.commands.crash_guard import tell
from runtime.commands.deliverables import PIPE, Delivery, plan_sounds, write_to_pipe
from runtime.commands.editing import plan_takes, save_takes
from runtime.commands.staging import Message, Staging
from runtime.deliver.delivery import DeliveredSound, DeliveryConfig, sound_content, write_take
from runtime.deliver.levels import own_sound
from runtime.deliver.mux import check_container, mux
from runtime.deliver.placement import whole_track
from runtime.deliver.timeline.model import check_names
from runtime.deliver.timeline.takes import timeline_of
from runtime.deliver.timeline.write import write_timeline
from runtime.errors import MediaError, OptionError
from runtime.take import Take
from runtime.video import Video


@dataclass(frozen=True)
class Outputs:
    """The files that a call will write."""

    sounds: list[Path]  # one for each take; none if the sound goes to a pipe
    muxed: Path | None
    report: Path | None
    timeline: Path | None = None
    sidecars: list[Path] = field(default_factory=list)  # one for each sound, or none
    takes: list[Path] = field(default_factory=list)  # one for each take, or none

    @property
    def files(self) -> list[Path]:
        return (
            self.sounds
            + [p for p in (self.muxed, self.report, self.timeline) if p is not None]
            + self.sidecars
            + self.takes
        )


def plan_outputs(args: Namespace, config: DeliveryConfig, try_copy: bool = True) -> Outputs:
    """Choose the outputs' names and check them before any work starts.

    Names must differ, be in folders that can be written, and be new unless --overwrite is given. `try_copy` also opens
    the video and tries whether the copy can hold it. Raises MediaError, OptionError.
    """
    video: Path = args.video
    if video.is_dir():
        raise MediaError(f"{video} is a folder; give the path of one file")
    sounds = plan_sounds(args, config)
    muxed: Path | None = getattr(args, "mux", None)
    if muxed == Path():
        muxed = video.with_name(f"{video.stem}.sound{video.suffix}")
    if muxed is not None:
        check_container(muxed, video if try_copy else None, args.existing)
    sidecars = [path.with_suffix(".json") for path in sounds] if args.sidecar else []
    if hasattr(args, "timeline"):
        check_names([video, *sounds])
    report, timeline = getattr(args, "report", None), getattr(args, "timeline", None)
    outputs = Outputs(sounds, muxed, report, timeline, sidecars, plan_takes(args))
    seen = {path.resolve() for path in (video, getattr(args, "take", video))}  # what is read is never replaced
    for path in outputs.files:
        if path.resolve() in seen:
            raise OptionError(f"{path} is named twice; give what is read and each output different names")
        seen.add(path.resolve())
        check_output(path, video, args.overwrite)
        if not path.parent.is_dir():
            raise MediaError(f"cannot write {path}: the folder {path.parent} does not exist")
        if not os.access(path.parent, os.W_OK):
            raise MediaError(f"cannot write {path}: no permission to write in {path.parent}")
    return outputs


def check_output(path: Path, video: Path, overwrite: bool) -> None:
    """Check that a file may get this name now. Raises MediaError if it would replace what must stay."""
    if path.is_dir():
        raise MediaError(f"cannot write {path}: it is a folder; give a file name")
    if path.exists() and not path.is_file():  # a reader of a named pipe would wait for ever
        raise MediaError(f"cannot write {path}: it is not a regular file; give another name")
    if path.exists() and video.exists() and path.samefile(video):  # a link: the names differ
        raise MediaError(f"cannot write {path}: it is another name of the video {video}; give another name")
    if os.path.lexists(path) and not overwrite:
        raise MediaError(exists(path))


def exists(path: Path) -> str:
    return f"{path} exists; give --overwrite to replace it, or another name"


@contextmanager
def staged(
    files: list[Path], video: Path, overwrite: bool, tell: Callable[[Message], None] = tell
) -> Iterator[dict[Path, Path]]:
    """Yield a temporary path for each file; when the block ends well, give all files their final names.

    The temporary files lie in hidden folders beside the final ones. They are removed after an error. `tell` tells the
    parent process what it needs after a crash.
    """
    try:
        with Staging(files, overwrite, tell) as staging:
            yield staging.parts
            staging.publish(lambda path: check_output(path, video, overwrite))
    except MediaError as error:
        raise MediaError(unstaged(str(error))) from error
    except FileExistsError as error:
        raise MediaError(exists(Path(error.filename))) from error
    except OSError as error:
        folder, reason = files[0].parent, error.strerror or error
        raise MediaError(f"cannot write in {folder}: {reason}; free some space or choose another folder") from error


def unstaged(text: str) -> str:
    """Remove the names of `staged` folders from a message."""
    return re.sub(r"\.maskvat-\w+[/\\]", "", text)


def write_outputs(args: Namespace, outputs: Outputs, takes: list[Take], delivery: Delivery) -> dict[str, Any]:
    """Write all outputs, or none of them. Returns the report, with what was written."""
    sounds = delivery.sounds(args, takes)
    report = takes[0].report.to_dict() | delivery.facts()
    report["rate"] = args.rate
    report["outputs"] = [str(p) for p in outputs.files]
    report["warnings"] += delivery.warnings(sounds, outputs.timeline)
    files = outputs.sounds or [PIPE]
    report["takes"] = [
        {"file": str(p), "candidate": t.candidate, "score": t.score} for p, t in zip(files, takes, strict=True)
    ]
    start, span = None if delivery.timing is None else delivery.timing.start, takes[0].span
    written = outputs.sounds if delivery.streamed else []
    with staged([p for p in outputs.files if p not in written], args.video, args.overwrite) as parts:
        for n, (path, sound) in enumerate(zip(outputs.sounds, sounds, strict=False), 1):
            made = path in written
            facts = sound.facts() if made else write_take(parts[path], sound, delivery.config, n, start=start)
            report["takes"][n - 1] |= facts
        save_takes(outputs.takes, parts, takes)
        if outputs.muxed is not None:
            report["warnings"] += map(unstaged, write_muxed(args, sounds[0], parts[outputs.muxed], delivery.config))
        if outputs.timeline is not None and delivery.timing is not None:
            named = list(zip(outputs.sounds, sounds, strict=True))
            timeline = timeline_of(args.video, delivery.timing, named, span, args.bwf)
            write_timeline(parts[outputs.timeline], timeline)
        if delivery.pipe:
            content = sound_content(sounds[0], delivery.config, start=start)
            if not delivery.streamed:
                write_to_pipe(content)
            report["takes"][0] |= content.facts
        if outputs.report is not None:
            write_atomically(parts[outputs.report], json.dumps(report, indent=1) + "\n")
        for path, entry in zip(outputs.sidecars, report["takes"], strict=False):
            write_atomically(parts[path], json.dumps(report | {"takes": [entry]}, indent=1) + "\n")
    return report


def write_muxed(args: Namespace, sound: DeliveredSound, path: Path, config: DeliveryConfig) -> list[str]:
    """Write the video with a sound; that of a range lies where it belongs. Returns warnings."""
    take, audio, start = sound.take, sound.audio, sound.take.start
    if take.span is not None:
        with Video(args.video, args.max_duration) as video:
            start, length = video.start, video.expected_duration
        lead, own = max(0, round((take.start - start) * take.sample_rate)), None
        if config.mix is not None:
            samples = max(lead + len(audio), round((length or 0) * take.sample_rate))
            own = own_sound(args.video, take.sample_rate, start, samples, args.max_duration)
        audio = whole_track(sound, config, lead, own)
    return mux(
        args.video,
        audio,
        take.sample_rate,
        path,
        existing=args.existing,
        start=start,
        max_duration=args.max_duration,
        check_cancelled=signals.check,
    )
