"""Strongly typed graphs for TensorRT, beside a bundle's own: `BUNDLE/typed/`, written by `python -m export.tensorrt`.

    typed/typed.json   {"files": {"step.fp16.onnx": {"graph": "step", "precision": "fp16", "source": sha256 of the
                       bundle's file that it was derived from, "sha256": {"step.fp16.onnx": ...}, "candidates": 10,
                       "targets": ["sm80", ...]}}}

They are not part of the bundle, which is complete without them. A graph that was derived from another file is not used.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engines.manifest import Manifest, sha256, write_atomically
from engines.plan_build import TARGETS
from engines.profiles import CANDIDATES

FOLDER, INDEX = "typed", "typed.json"
PRECISIONS = ("fp16", "bf16", "fp32")  # that TensorRT can run, the preferred one first
SOURCES = ("fp32", "fp16")  # of the bundle's files to derive them from, the most exact first


@dataclass(frozen=True)
class TypedFile:
    """One strongly typed graph."""

    graph: str
    precision: str
    source: str  # sha256 of the bundle's file that it was derived from
    sha256: dict[str, str]  # of the file and of the weights beside it, by name
    candidates: int = CANDIDATES  # largest batch of its plans
    targets: tuple[str, ...] = TARGETS  # compute capabilities of its TensorRT-RTX plans


def source_file(manifest: Manifest, graph: str) -> str:
    """The bundle's file that a graph's typed file is derived from: the most exact one. Raises ManifestError."""
    return manifest.file_for(graph, SOURCES, "TensorRT")


def read(bundle: Path) -> dict[str, TypedFile]:
    """Read the index without verifying the files. Empty if there is none or it cannot be read."""
    try:
        values = json.loads((bundle / FOLDER / INDEX).read_text(encoding="utf-8"))
        files = {str(name): TypedFile(**entry) for name, entry in values["files"].items()}
        return {name: replace(file, targets=tuple(file.targets)) for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write(bundle: Path, files: dict[str, TypedFile]) -> None:
    values = {"files": {name: asdict(entry) for name, entry in files.items()}}
    write_atomically(bundle / FOLDER / INDEX, json.dumps(values, indent=1) + "\n")


def find(
    bundle: Path, manifest: Manifest, graph: str, precisions: tuple[str, ...]
) -> tuple[Path | None, str, list[str]]:
    """Find the typed file of a graph, in the first of `precisions` whose file exists and is intact.

    Returns (path, precision, notes); path is None if there is no such file. Notes say which files are not used and why.
    """
    notes: list[str] = []
    entries = {e.precision: (n, e) for n, e in read(bundle).items() if e.graph == graph}
    for precision in precisions:
        if precision in entries:
            name, entry = entries[precision]
            problem = _problem(bundle / FOLDER, name, entry, manifest.files[source_file(manifest, graph)].sha256)
            if not problem:
                return bundle / FOLDER / name, precision, notes
            notes.append(f"{FOLDER}/{name} is not used: {problem}; write it again with `python -m export.tensorrt`")
    return None, "", notes


def _problem(folder: Path, name: str, entry: TypedFile, source: str) -> str:
    if entry.source != source:
        return "it was not derived from this bundle's file"
    if name not in entry.sha256 or any(Path(n).name != n for n in entry.sha256):
        return "the index does not list its files correctly"
    for file, digest in entry.sha256.items():
        path = folder / file
        if not path.is_file():
            return f"{file} is missing"
        if sha256(path) != digest:
            return f"{file} was altered"
    return ""
