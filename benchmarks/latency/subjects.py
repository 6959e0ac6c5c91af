"""The subjects of benchmarks.latency: bundles, and the PyTorch systems that they were exported from.

A size without trained weights gets random weights, because speed does not depend on the weights. They are written as a
system folder and exported. A cache folder keeps both, named by a hash of the code and packages that made them.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.common import torchvision_stub
from benchmarks.common.machine import ROOT
from benchmarks.common.random_system import base_frame_encoder, write_random
from engines import typed
from engines.backends import BACKENDS
from engines.contract import CONTRACT_VERSION, ModelConfig, graphs
from engines.manifest import MANIFEST, Manifest, write_atomically
from runtime.errors import OptionError
from train.extras import requires_extra

MAKERS = ("benchmarks/common/random_system.py", "benchmarks/latency/subjects.py", "engines/contract.py",
          "export/*.py", "train/models/*.py")  # fmt: skip
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "transformers")


@dataclass(frozen=True)
class Subject:
    """One bundle, and the system folder of its PyTorch networks if it is known."""

    name: str
    bundle: Path
    system: Path | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.bundle / MANIFEST).read_text(encoding="utf-8"))
        return values

    @property
    def config(self) -> ModelConfig:
        return ModelConfig.from_dict(self.manifest["config"])

    @property
    def trained(self) -> bool:
        return all(w["trained"] for w in self.manifest["weights"])


def source_files() -> list[Path]:
    """The code that decides the content of cached folders."""
    return [path for pattern in MAKERS for path in sorted(ROOT.glob(pattern))]


def cache_key(*parts: Any) -> str:
    """Short hash of everything that decides the content of a cached folder: code, package versions, and `parts`."""
    digest = hashlib.sha256(repr((CONTRACT_VERSION, *parts)).encode())
    for name in PACKAGES:
        try:
            digest.update(version(name).encode())
        except PackageNotFoundError:
            digest.update(b"absent")
    for path in source_files():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cached_folder(folder: Path, make: Any) -> Path:
    """Return `folder`; call make(temporary folder) first if it does not exist. It appears only when it is complete."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            make(part)
            part.chmod(0o755)
            os.replace(part, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process made the same folder first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


# ---------------------------------------------------------------- exported systems
def export_system(system: Path, name: str, folder: Path) -> None:
    """Export every graph in fp32, and the step also in int8. Parity is not measured."""
    from engines.words import vocabulary
    from export.bundle import Options, bundle_config, load_components, provenance, write_graphs, write_words
    from export.graphs import check_agreement, graph_modules

    components = load_components(system)
    check_agreement(components)
    config = bundle_config(components)
    options = Options(system, folder, precision="fp32", int8=True, name=name)
    files = write_graphs(options, graph_modules(components, fold=True), graphs(config), folder)
    files |= write_words(options, components, folder)
    Manifest(name, config, files, vocabulary.FILE, weights=provenance(system)).save(folder)


def cached_export(system: Path, name: str, cache: Path) -> Path:
    """The bundle of a system folder, from the cache or exported now. Raises OptionError if it cannot be exported."""
    try:
        with requires_extra("export", __name__):
            from train.errors import CheckpointError
    except ModuleNotFoundError as error:
        raise OptionError(f"the system {system} cannot be exported: {error}") from error
    try:
        content = (system / "meta.json").read_text(encoding="utf-8")  # has the sha256 of every file
        return cached_folder(
            cache / f"bundle-{name}-{cache_key(content, name)}", lambda part: export_system(system, name, part)
        )
    except (CheckpointError, ImportError, OSError) as error:
        raise OptionError(f"the system {system} cannot be exported: {error}") from error


def random_weights_subject(size: str, cache: Path) -> Subject:
    """A system with random weights and its bundle, from the cache or made now.

    Raises OptionError if PyTorch or a package for the export is missing.
    """
    try:
        with requires_extra("export", __name__):
            import onnxscript  # noqa: F401
            import torch  # noqa: F401
        torchvision_stub.install()  # CLIP and DAC of `base` import torchvision
        key_parts = (size, base_frame_encoder()) if size == "base" else (size,)
        system = cached_folder(cache / f"system-{size}-{cache_key(*key_parts)}", lambda part: write_random(size, part))
        return Subject(size, cached_export(system, size, cache), system)
    except (ModuleNotFoundError, ImportError) as error:
        raise OptionError(f"size {size} with random weights cannot be made: {error}") from error


# ---------------------------------------------------------------- precisions
def precisions(subject: Subject, backend: str) -> list[str]:
    """Precisions of the step that a backend can use, in the order in which the runtime prefers them."""
    files = subject.manifest["files"].values()
    present = {entry["precision"] for entry in files if entry["graph"] == "step"}
    if backend.startswith("tensorrt"):
        present = {entry.precision for entry in typed.read(subject.bundle).values() if entry.graph == "step"}
        return [p for p in typed.PRECISIONS if p in present]
    return [p for p in BACKENDS[backend].precisions if p in present]


def select_precision(subject: Subject, backend: str, precision: str, folder: Path) -> Path:
    """Make a bundle with one precision only, for every graph that has it. Files are linked, not copied."""
    values, name = subject.manifest, f"{subject.name}-{backend}-{precision}"
    files: dict[str, dict[str, Any]] = values["files"]
    if backend.startswith(
        "tensorrt"
    ):  # precisions differ in the typed graphs; these need all files that they were made from
        keep = set(files)
    else:
        has = {entry["graph"] for entry in files.values() if entry["precision"] == precision}
        keep = {n for n, e in files.items() if e["graph"] and (e["precision"] == precision or e["graph"] not in has)}
        others = {n for n, e in files.items() if not e["graph"]}  # words, and weights, which steps may share
        keep |= {n for n in others if not n.endswith(".data") or n.removesuffix(".data") in keep}
    where = hashlib.sha256(str(subject.bundle.resolve()).encode()).hexdigest()[:8]  # names need not be unique
    out = folder / f"{name}-{where}"
    if not out.is_dir():
        out.mkdir(parents=True)
        for file in sorted(keep):
            link_or_copy(subject.bundle / file, out / file)
        for table in ("files", "self_test"):
            values[table] = {n: e for n, e in values.get(table, {}).items() if n in keep}
        write_atomically(out / MANIFEST, json.dumps(values, indent=1) + "\n")
        if backend.startswith("tensorrt"):
            link_typed(subject, precision, out)
    return out


def link_typed(subject: Subject, precision: str, bundle: Path) -> None:
    """Link the typed graphs of one precision into another bundle; graphs without it in fp32."""
    entries = typed.read(subject.bundle)
    has = {e.graph for e in entries.values() if e.precision == precision}
    keep = {n: e for n, e in entries.items()
            if e.precision == precision or (e.precision == "fp32" and e.graph not in has)}  # fmt: skip
    if keep:
        (bundle / typed.FOLDER).mkdir()
        for file in {file for entry in keep.values() for file in entry.sha256}:
            link_or_copy(subject.bundle / typed.FOLDER / file, bundle / typed.FOLDER / file)
        typed.write(bundle, keep)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the file system has no hard links."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def named_folders(texts: Sequence[str], option: str) -> dict[str, Path]:
    """Parse NAME=DIR, or DIR whose name is its folder name. Raises OptionError for missing folders and equal names."""
    found: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.rpartition("=")
        folder = Path(path)
        name = name or folder.resolve().name
        if not folder.is_dir():
            raise OptionError(f"{option} {text}: {folder} is not a folder; give NAME=FOLDER or FOLDER")
        if name in found:
            raise OptionError(
                f"{option} {text}: the name {name} is used twice; choose different names with NAME=FOLDER"
            )
        found[name] = folder
    return found
