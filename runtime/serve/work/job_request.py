"""What a job asks for: checked when it comes, and written as a request to a worker when it is done."""

import argparse
import json
from argparse import Namespace
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runtime.commands.make import get_parser, read_options
from runtime.commands.stdio.requests import args_of
from runtime.commands.words import KnownWords
from runtime.deliver.containers import CONTAINERS
from runtime.deliver.timeline.write import WRITERS
from runtime.edit.timecode import TimeRange
from runtime.errors import ManifestError, OptionError
from runtime.sampling import number
from runtime.serve.config import Limits
from runtime.serve.store import Values

OURS = frozenset({  # flags that the server sets
    "help", "video", "output", "mux", "report", "timeline", "save", "take", "overwrite", "sidecar", "engines",
    "backend", "precision", "threads", "progress", "quiet", "debug", "max_duration",
})  # fmt: skip
CHANGES = frozenset({"redo", "vary", "extend", "other_clip"})  # flags that need a take
SOUNDS = ("wav", "flac")
TIMELINES = tuple(suffix[1:] for suffix in WRITERS)
PRIORITIES = (-10, 10)
FALLBACK = ".mkv"  # container of the video with sound, if the upload's own cannot be written
FIELDS = {"file_id", "path", "take", "options", "deliver", "priority", "label"}


@dataclass(frozen=True)
class Deliver:
    """Which files a job makes, besides the takes and the report."""

    sound: str = "wav"
    video: bool = False
    timeline: str | None = None

    @classmethod
    def read(cls, values: object) -> "Deliver":
        """Raises OptionError."""
        if not isinstance(values, dict) or set(values) - {"sound", "video", "timeline"}:
            raise OptionError('deliver is an object such as {"sound": "wav", "video": true, "timeline": "otio"}')
        found = cls(**values)
        if found.sound not in SOUNDS:
            raise OptionError(f"deliver.sound is {found.sound!r}; choose from {', '.join(SOUNDS)}")
        if not isinstance(found.video, bool):
            raise OptionError(f"deliver.video is {found.video!r}; give true or false")
        if found.timeline is not None and found.timeline not in TIMELINES:
            raise OptionError(f"deliver.timeline is {found.timeline!r}; choose from {', '.join(TIMELINES)}")
        return found


@dataclass(frozen=True)
class JobSpec:
    """A checked request. `video` is a path of this machine; `label` is what the client calls the job's results."""

    video: str
    label: str
    source: Values  # {"file_id": ...} or {"path": ...}
    options: Values
    deliver: Values
    take: Values | None = None  # {"job_id": ..., "number": ...}
    must_ask: bool = False  # a client that only stops asking has left: the job is then cancelled
    reserve: int = 0  # bytes that its results may have; 0: not known, an earlier version took the job
    name: str = ""  # of the video's file, as the client knows it; "": the label

    @property
    def file_name(self) -> str:
        """The name of the video's file on the client's side."""
        return self.name or self.label

    @property
    def clip(self) -> str:
        """What the client calls the video: the name of its upload, or the path that it gave."""
        return str(self.source.get("path", self.file_name))

    def to_dict(self) -> Values:
        return asdict(self)


@cache
def option_actions() -> dict[str, argparse.Action]:
    """The options of a job: name -> the flag of `maskvat make` that it is."""
    return {action.dest: action for action in get_parser()._actions if action.dest not in OURS}


def read_job_options(values: object, has_take: bool, known: KnownWords) -> Values:
    """Check options as the command would. Raises OptionError."""
    if not isinstance(values, dict):
        raise OptionError('options is an object such as {"steps": 8, "seed": 7}')
    allowed = option_actions()
    options = {str(name).replace("-", "_"): value for name, value in values.items() if value is not None}
    for name, value in options.items():
        if name not in allowed:
            raise OptionError(f"there is no option {name!r}; choose from {', '.join(sorted(allowed))}")
        if name in CHANGES and value is not False and not has_take:
            raise OptionError(f"option {name} changes a take; say which one with take")
    plain = {name: value for name, value in options.items() if name not in CHANGES}
    args = args_of({"video": "video", "options": plain})
    if has_take:
        _check_changes(args, options)
    sampling, _, edit = read_options(args)
    with suppress(ManifestError):  # a worker will say what is wrong with the bundle
        known.check(edit.words, sampling)
    return options


def _check_changes(args: Namespace, options: Values) -> None:
    """Check what can be checked without the take. Raises OptionError."""
    changes = [name for name in ("redo", "vary", "extend") if options.get(name, False) is not False]
    if "extend" in changes and len(changes) > 1:
        raise OptionError("extend cannot be combined with redo or vary; make two jobs")
    if "redo" in changes:
        TimeRange.parse(str(options["redo"]))
    if "vary" in changes and number("vary", options["vary"], 0, 1) == 0:
        raise OptionError("vary is 0; it must be above 0, because nothing would change")
    if "extend" in changes and options["extend"] is not True:
        raise OptionError(f"extend is {json.dumps(options['extend'])}; give true, and the new end as range")
    if hasattr(args, "range") and "extend" not in changes:
        raise OptionError("a take has a range of its own; use range only with extend")
    given = sorted(getattr(args, "given", ()))
    if not changes and given:
        raise OptionError(f"option {given[0]} changes nothing in a take; say what to make anew: redo, vary or extend")


def read_priority(value: object) -> int:
    low, high = PRIORITIES
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise OptionError(f"priority is {json.dumps(value)}; give a whole number from {low} to {high}")
    return value


def worker_request(spec: JobSpec, folder: Path, take: Path | None, limits: Limits) -> dict[str, Any]:
    """The fields of `generate` for a job, whose files all go to `folder`."""
    deliver = Deliver(**spec.deliver)
    options = dict(spec.options) | {
        "report": str(folder / "report.json"),
        "save": str(folder / "take.npz"),
        "max_duration": limits.video_seconds,
    }
    if deliver.video:
        options["mux"] = str(folder / f"video{video_suffix(spec)}")
    if deliver.timeline is not None:
        options["timeline"] = str(folder / f"timeline.{deliver.timeline}")
    if take is not None:
        options["from"] = str(take)
    return {
        "video": spec.video,
        "name": spec.clip,
        "output": str(folder / f"sound.{deliver.sound}"),
        "options": options,
    }


def video_suffix(spec: JobSpec) -> str:
    """The container of the video with sound: the upload's, if it can be written."""
    suffix = Path(spec.file_name).suffix.lower()
    return ".mp4" if spec.must_ask else suffix if suffix in CONTAINERS else FALLBACK
