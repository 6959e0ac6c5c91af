"""What a client sees in place of this machine's paths: the names that it gave itself, and those of its downloads."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.serve.store import Values
from runtime.serve.work.job_request import JobSpec


def names_for_client(spec: JobSpec, state: Path, folder: Path, take: Path | None, engines: Path) -> dict[str, str]:
    """Paths of a job, and what a client calls them. A longer path comes before one that it begins with."""
    names = {spec.video: spec.clip}
    if "file_id" in spec.source:
        names[Path(spec.video).name] = spec.file_name
    if take is not None and spec.take is not None:
        names[str(take)] = f"take {spec.take['number']} of {spec.take['job_id']}"
    return names | {f"{folder}{os.sep}": "", f"{state}{os.sep}": "", str(engines): "the bundle"}


def client_text(text: str, names: Mapping[str, str]) -> str:
    """A text in which paths of this machine are replaced."""
    for ours, theirs in names.items():
        text = text.replace(ours, theirs)
    return text


def client_report(report: Values, names: Mapping[str, str]) -> Values:
    """A report in which paths of this machine are replaced, in every text."""

    def replaced(value: Any) -> Any:
        if isinstance(value, str):
            return client_text(value, names)
        if isinstance(value, list):
            return [replaced(item) for item in value]
        return {key: replaced(item) for key, item in value.items()} if isinstance(value, dict) else value

    return {key: replaced(value) for key, value in report.items()}
