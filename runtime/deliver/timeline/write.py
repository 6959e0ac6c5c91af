"""Write a timeline file; the suffix decides which kind."""

from collections.abc import Callable
from pathlib import Path

from runtime.audio import PathLike, replacing
from runtime.deliver.containers import join_or
from runtime.deliver.timeline.fcpxml import fcpxml_text
from runtime.deliver.timeline.lua_table import lua_text
from runtime.deliver.timeline.mlt import mlt_text
from runtime.deliver.timeline.model import Timeline
from runtime.deliver.timeline.otio import otio_text
from runtime.deliver.timeline.xmeml import xmeml_text
from runtime.errors import OptionError

WRITERS: dict[str, Callable[[Timeline], str]] = {
    ".otio": otio_text,
    ".mlt": mlt_text,
    ".xml": xmeml_text,
    ".fcpxml": fcpxml_text,
    ".lua": lua_text,
}


def check_timeline_file(path: PathLike) -> None:
    """Raise OptionError if no kind of timeline file has the suffix of this name."""
    if Path(path).suffix.lower() not in WRITERS:
        raise OptionError(f"cannot write the timeline {path}; give a name that ends in {join_or(WRITERS)}")


def write_timeline(path: PathLike, timeline: Timeline) -> None:
    """Write a timeline file, whole or not at all. Raises OptionError for an unknown suffix, MediaError if it fails."""
    check_timeline_file(path)
    text = WRITERS[Path(path).suffix.lower()](timeline)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
