"""The files of a finished job: their names for clients, and timelines that name a client's paths."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote
from xml.sax.saxutils import escape

from runtime.serve.store import Job, Values

MEDIA_TYPES = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime",
    ".mkv": "video/x-matroska", ".webm": "video/webm", ".avi": "video/x-msvideo", ".npz": "application/octet-stream",
    ".json": "application/json", ".otio": "application/json", ".xml": "application/xml",
    ".fcpxml": "application/xml", ".mlt": "application/xml",
}  # fmt: skip
KINDS = {"sound": "sound", "take": "take", "video": "video", "report": "report", "timeline": "timeline"}


@dataclass(frozen=True)
class Result:
    """A file of a job. `name` is its name on this machine and in addresses, `download` the name for the client."""

    name: str
    kind: str
    take: int | None  # from 1
    bytes: int
    media_type: str
    download: str


def results_of(folder: Path, report: Values, label: str) -> list[Result]:
    """The files that a report names."""
    names = [Path(path).name for path in report["outputs"]]
    return [_result(folder / name, label) for name in names]


def _result(path: Path, label: str) -> Result:
    kind = KINDS[path.name.partition(".")[0]]
    number = path.stem.rpartition(".take")[2]
    take = (int(number) if number.isdecimal() else 1) if kind in ("sound", "take") else None
    stem = PurePosixPath(label).stem or "video"
    extra = f".take{take}" if take is not None and take > 1 else ".sound" if kind == "video" else ""
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return Result(path.name, kind, take, path.stat().st_size, media_type, f"{stem}{extra}{path.suffix}")


def timeline_for_client(text: str, job: Job, folder: Path, media_folder: str) -> str:
    """A timeline in which the paths of this machine are replaced by those of the client's folder.

    The client's folder holds the video under its label, and the sounds under their names for download.
    """
    assert job.result is not None
    names = {job.spec["video"]: job.spec["label"]}
    names |= {str(folder / r["name"]): r["download"] for r in job.result["results"] if r["kind"] == "sound"}
    base = media_folder.replace("\\", "/").rstrip("/")
    for ours, name in names.items():
        theirs = f"{base}/{name}" if base else name
        for form in (_json, _xml, _url):  # how each kind of timeline writes a path
            text = text.replace(form(ours), form(theirs))
    return text


def _json(path: str) -> str:
    return json.dumps(path)[1:-1]


def _xml(path: str) -> str:
    return escape(path, {'"': "&quot;"})


def _url(path: str) -> str:
    return quote(path)
