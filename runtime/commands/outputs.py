"""The command's output files: their names, checks before and after the work, and writing all of them or none."""

import json
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.contract import FloatArray
from engines.manifest import write_atomically
from runtime.audio import resample, write_wav
from runtime.commands import signals
from runtime.commands.crash_guard import tell
from runtime.commands.staging import Staging
from runtime.deliver.mux import check_container, mux
from runtime.errors import MediaError, OptionError
from runtime.take import Take


@dataclass(frozen=True)
class Outputs:
    """The files that a call will write."""

    wavs: list[Path]
    muxed: Path | None
    report: Path | None

    @property
    def files(self) -> list[Path]:
        return self.wavs + [p for p in (self.muxed, self.report) if p is not None]


def plan_outputs(args: Namespace) -> Outputs:
    """Choose the outputs' names and check them before any work starts.

    Names must differ, be in folders that can be written, and be new unless --overwrite is given. Raises MediaError,
    OptionError.
    """
    video: Path = args.video
    if video.is_dir():
        raise MediaError(f"{video} is a folder; give the path of one file")
    wav: Path = getattr(args, "output", video.with_suffix(".wav"))
    if wav.suffix.lower() != ".wav":
        raise OptionError(f"the output {wav} is not a .wav file; for a video with sound use --mux {wav}")
    wavs = [wav] + [wav.with_name(f"{wav.stem}.take{n}.wav") for n in range(2, args.takes + 1)]
    muxed: Path | None = getattr(args, "mux", None)
    if muxed == Path():
        muxed = video.with_name(f"{video.stem}.sound{video.suffix}")
    if muxed is not None:
        check_container(muxed, video, args.existing)
    outputs = Outputs(wavs, muxed, getattr(args, "report", None))
    seen = {video.resolve()}
    for path in outputs.files:
        if path.resolve() in seen:
            raise OptionError(f"{path} is named twice; give the video and each output different names")
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
def staged(files: list[Path], video: Path, overwrite: bool) -> Iterator[dict[Path, Path]]:
    """Yield a temporary path for each file; when the block ends well, give all files their final names.

    The temporary files lie in hidden folders beside the final ones. They are removed after an error.
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


def at_rate(take: Take, rate: int) -> FloatArray:
    """The sound at another rate, again as long as the picture, rounded to one sample of that rate."""
    if rate == take.sample_rate:
        return take.audio
    audio = resample(take.audio, take.sample_rate, rate)
    length = max(1, round(take.duration * rate))
    return np.pad(audio, (0, max(0, length - len(audio))), mode="edge")[:length]


def write_outputs(args: Namespace, outputs: Outputs, takes: list[Take]) -> dict[str, Any]:
    """Write all outputs, or none of them. Returns the report, with what was written."""
    report = takes[0].report.to_dict()
    report["rate"] = args.rate
    report["outputs"] = [str(p) for p in outputs.files]
    report["takes"] = [
        {"file": str(p), "candidate": t.candidate, "score": t.score} for p, t in zip(outputs.wavs, takes, strict=True)
    ]
    with staged(outputs.files, args.video, args.overwrite) as parts:
        for path, take in zip(outputs.wavs, takes, strict=True):
            write_wav(parts[path], at_rate(take, args.rate), args.rate)
        if outputs.muxed is not None:
            best = takes[0]
            warnings = mux(
                args.video,
                best.audio,
                best.sample_rate,
                parts[outputs.muxed],
                existing=args.existing,
                start=best.start,
                max_duration=args.max_duration,
                check_cancelled=signals.check,
            )
            report["warnings"] += map(unstaged, warnings)
        if outputs.report is not None:
            write_atomically(parts[outputs.report], json.dumps(report, indent=1) + "\n")
    return report
