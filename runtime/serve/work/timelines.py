"""Timelines for clients: the worker's names of video and sounds are replaced by those of the client's own folder."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runtime.deliver.timeline.xml_text import file_url, xml_document
from runtime.serve.store import Job
from runtime.serve.work.job_request import JobSpec

HOSTS = ("", "localhost")  # in file addresses: FCPXML has none, xmeml has this one
DOCTYPES = {".xml": "xmeml", ".fcpxml": "fcpxml"}
LUA_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def timeline_for_client(text: str, suffix: str, job: Job, folder: Path, media_folder: str) -> str:
    """A timeline in which video and sounds lie in the client's folder, under their names for download.

    Without a folder the sounds have no folder, and a video that the client named by its path has that path.
    """
    assert job.result is not None
    spec = JobSpec(**job.spec)
    base = media_folder.rstrip("/\\") + "/" if media_folder else ""
    if re.match(r"[A-Za-z]:|\\\\", base):  # Windows
        base = base.replace("\\", "/")
    table = _names(Path(spec.video), base + spec.file_name if base else spec.clip)
    for result in job.result["results"]:
        if result["kind"] == "sound":
            table |= _names(folder / result["name"], base + result["download"])
    if suffix == ".otio":
        return json.dumps(_replaced(json.loads(text), table), indent=1, ensure_ascii=False) + "\n"
    return _lua(text, table) if suffix == ".lua" else _xml(text, table, DOCTYPES.get(suffix, ""))


def _names(ours: Path, theirs: str) -> dict[str, str]:
    """How a timeline writes a file's path, address and name, and what stands there instead."""
    addresses = {file_url(ours, host): _address(theirs, host) for host in HOSTS}
    return {str(ours): theirs, ours.name: theirs.rpartition("/")[2]} | addresses


def _address(path: str, host: str) -> str:
    """A path as a file address; a name without a folder stays a name."""
    if "/" not in path:
        return quote(path)
    return f"file://{host}{quote(path if path.startswith('/') else f'/{path}', safe='/:')}"


def _replaced(value: Any, table: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return table.get(value, value)
    if isinstance(value, list):
        return [_replaced(item, table) for item in value]
    return {key: _replaced(item, table) for key, item in value.items()} if isinstance(value, dict) else value


def _xml(text: str, table: Mapping[str, str], doctype: str) -> str:
    root = ET.fromstring(text)
    for element in root.iter():
        element.text = table.get(element.text or "", element.text or "") or None
        for name, value in element.attrib.items():
            element.set(name, table.get(value, value))
    return xml_document(root, doctype)


def _lua(text: str, table: Mapping[str, str]) -> str:
    """The first line is a comment, with the video's name."""

    def quoted(found: re.Match[str]) -> str:
        plain = re.sub(r"\\(.)", r"\1", found[1])
        return '"' + re.sub(r'["\\]', r"\\\g<0>", table.get(plain, plain)) + '"'

    comment, end, rest = text.partition("\n")
    for ours, theirs in table.items():
        comment = comment.replace(ours, theirs)
    return comment + end + LUA_TEXT.sub(quoted, rest)
