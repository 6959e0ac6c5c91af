"""The files of a finished job: complete or not, their names for clients, and a report that holds no other names."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engines.manifest import write_atomically
from runtime.serve.store import Values
from runtime.serve.work.client_names import client_report

MEDIA_TYPES = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime",
    ".mkv": "video/x-matroska", ".webm": "video/webm", ".avi": "video/x-msvideo", ".npz": "application/octet-stream",
    ".json": "application/json", ".otio": "application/json", ".xml": "application/xml",
    ".fcpxml": "application/xml", ".mlt": "application/xml",
}  # fmt: skip
KINDS = {"sound": "sound", "take": "take", "video": "video", "report": "report", "timeline": "timeline"}
REPORT = "report.json"


@dataclass(frozen=True)
class Result:
    """A file of a job. `name` is its name on this machine and in addresses, `download` the name for the client."""

    name: str
    kind: str
    take: int | None  # from 1
    bytes: int
    media_type: str
    download: str


def written_report(folder: Path) -> Values | None:
    """The report of a worker that ended after it had given all files their names; None if it did not get so far.

    Files get their names one after the other when all of them are written, so it did if none is missing.
    """
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        names = [Path(path).name for path in report["outputs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all((folder / name).is_file() for name in names):
        return None
    for left in folder.glob(".maskvat-*"):
        shutil.rmtree(left, ignore_errors=True)
    return dict(report)


def finish_results(folder: Path, report: Values, label: str, names: Mapping[str, str]) -> tuple[Values, list[Result]]:
    """The report as a client may see it, also in its file, and the files that it names. Raises OSError.

    `names`: what a client calls the paths of this machine.
    """
    files = [Path(path).name for path in report["outputs"]]
    downloads = {str(folder / name): _download(name, label) for name in files}
    report = client_report(report, downloads | dict(names))
    if REPORT in files:
        write_atomically(folder / REPORT, json.dumps(report, indent=1) + "\n")
    return report, [_result(folder / name, label) for name in files]


def _result(path: Path, label: str) -> Result:
    kind = KINDS[path.name.partition(".")[0]]
    take = _take_number(path.name) if kind in ("sound", "take") else None
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return Result(path.name, kind, take, path.stat().st_size, media_type, _download(path.name, label))


def _download(name: str, label: str) -> str:
    """A file's name for the client: that of the video, with the number of the take."""
    path, number = PurePosixPath(name), _take_number(name)
    extra = f".take{number}" if number > 1 else ".sound" if name.startswith("video.") else ""
    return f"{PurePosixPath(label).stem or 'video'}{extra}{path.suffix}"


def _take_number(name: str) -> int:
    number = PurePosixPath(name).stem.rpartition(".take")[2]
    return int(number) if number.isdecimal() else 1
