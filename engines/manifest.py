"""A bundle is a folder of ONNX graphs with one manifest.json that describes them.

    {"contract_version": 3, "name": ..., "config": {ModelConfig}, "built_with": {...},
     "files": {"step.onnx": {"graph": "step", "precision": "fp16", "bytes": ..., "sha256": ...}},
     "vocabulary": "vocabulary.npz", "tokeniser": "",
     "parity": {"step": {...}}, "weights": [{"role", "name", "trained", "licence", "data_licence", "origin"}]}

The transformer's weights may also have "distilled_guidance".

Loading verifies every file, so that a file that is missing, truncated, altered or made for another contract never runs.
Opening a file later verifies it again if it has changed since.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines.advice import unless_app
from engines.base import MaskVATError
from engines.contract import CONTRACT_VERSION, ModelConfig, graphs
from engines.fields import from_json

Stamp = tuple[int, ...]  # what changes whenever a file is written or replaced

MANIFEST = "manifest.json"
MINI = Path(__file__).parent / "mini"  # the shipped bundle
UPDATE = "update this program: `git pull`, then `pip install '.[cpu]'` (or the extra that you use)"
REPAIR = "restore it with `git checkout -- engines/mini` or reinstall the package"


class ManifestError(MaskVATError):
    """A bundle is missing, incomplete, altered, or made for another contract."""

    code = "manifest_error"


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write to a temporary file, then rename it, so that a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle. `graph` is "" for external data of graphs, the vocabulary and the tokeniser."""

    graph: str
    precision: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Weights:
    """Where the weights of one component come from, and the licences of the weights and of their training data."""

    role: str  # the component: maskvat, codec, frame_encoder, ...
    name: str
    trained: bool  # False: random weights, whose results mean nothing
    licence: str
    data_licence: str
    origin: str
    distilled_guidance: float = 0.0  # guidance that the network gives in one pass (train.tasks.distillation); 0: none

    def __post_init__(self) -> None:
        if not 0 <= self.distilled_guidance <= 100:
            raise ValueError(f"distilled_guidance is {str(self.distilled_guidance)[:20]}; allowed are 0 to 100")


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    name: str
    config: ModelConfig
    files: dict[str, BundleFile]
    vocabulary: str  # name of the file with the words (engines.words.vocabulary)
    tokeniser: str = ""  # name of the text encoder's table (engines.words.tokeniser); "" without a text encoder
    built_with: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    self_test: dict[str, Any] = field(default_factory=dict)  # see engines.selftest
    weights: tuple[Weights, ...] = ()
    contract_version: int = CONTRACT_VERSION

    def save(self, folder: Path) -> None:
        values = asdict(self) | {"config": self.config.to_dict()}
        for entry in values["weights"]:
            if not entry["distilled_guidance"]:
                del entry["distilled_guidance"]  # which older programs do not know
        write_atomically(folder / MANIFEST, json.dumps(values, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "Manifest":
        """Read and verify the bundle in `folder`. Raises ManifestError, which names the file and how to repair it."""
        folder = Path(folder)
        manifest = cls.read(folder)
        for name, entry in manifest.files.items():
            _verify(folder, name, entry)
        missing = sorted(set(graphs(manifest.config)) - {f.graph for f in manifest.files.values()})
        if missing:
            raise ManifestError(f"{folder / MANIFEST} lists no file for {', '.join(missing)}; {repair_hint(folder)}")
        manifest._check_words(folder)
        return manifest

    def _check_words(self, folder: Path) -> None:
        """Raise ManifestError unless vocabulary and tokeniser are listed files. Their contents are checked later."""
        wanted = {"vocabulary": self.vocabulary}
        if self.config.text_context or self.tokeniser:
            wanted["tokeniser"] = self.tokeniser
        for role, name in wanted.items():
            if name not in self.files or self.files[name].graph:
                given = f"{name!r} is not among its files" if name else "it names none"
                raise ManifestError(f"{folder / MANIFEST} has no {role}: {given}; {repair_hint(folder)}")

    @property
    def distilled_guidance(self) -> float:
        """Guidance that one pass of the network gives, so that sampling must add none; 0: sampling guides."""
        return next((weights.distilled_guidance for weights in self.weights if weights.role == "maskvat"), 0.0)

    def file_for(self, graph: str, precisions: tuple[str, ...], reader: str) -> str:
        """The file of a graph in the first of `precisions` that the bundle has.

        Raises ManifestError if it has none of them; `reader` is what that message calls the backend.
        """
        have = {f.precision: name for name, f in reversed(self.files.items()) if f.graph == graph}
        found = next((have[p] for p in precisions if p in have), None)
        if found is None:
            raise ManifestError(
                f"the bundle {self.name} has {graph} in {', '.join(have) or 'no precision'}, and {reader} runs "
                f"{', '.join(precisions)}; export it again with one of these"
            )
        return found

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read the manifest without checking the files. Raises ManifestError."""
        path = folder / MANIFEST
        if not path.is_file():
            raise ManifestError(f"no bundle in {folder}: {MANIFEST} is missing; {repair_hint(folder)}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = values["contract_version"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ManifestError(f"{path} cannot be read ({error!r}); {repair_hint(folder)}") from error
        if version != CONTRACT_VERSION:
            newer = isinstance(version, int) and version > CONTRACT_VERSION
            update = unless_app(UPDATE, "get a newer version of this app")
            versions = f"contract version {version}, this program runs {CONTRACT_VERSION}"
            raise ManifestError(f"{path} has {versions}; {update if newer else repair_hint(folder)}")
        try:
            values["config"] = ModelConfig.from_dict(values["config"])
            values["files"] = {str(name): from_json(BundleFile, entry) for name, entry in values["files"].items()}
            values["weights"] = tuple(from_json(Weights, entry) for entry in values["weights"])
            return from_json(cls, values)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ManifestError(f"{path} is not a manifest ({error}); {repair_hint(folder)}") from error


def repair_hint(folder: Path) -> str:
    """The command that repairs a bundle."""
    if folder.resolve() == MINI.resolve():
        return unless_app(REPAIR, "copy the app's folder here again")
    return f"write it again with `python -m export CHECKPOINT {folder}`"


def _verify(folder: Path, name: str, entry: BundleFile) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or folder.resolve() not in path.resolve().parents:
        raise ManifestError(f"{folder / MANIFEST} names {name!r}, which lies outside the bundle; {repair_hint(folder)}")
    if not path.is_file():
        raise ManifestError(f"{path} is missing; {repair_hint(folder)}")
    size = path.stat().st_size
    if size != entry.bytes:
        raise ManifestError(f"{path} has {size} bytes, not {entry.bytes} (truncated or altered); {repair_hint(folder)}")
    if sha256(path) != entry.sha256:
        raise ManifestError(f"{path} was altered (its sha256 is not the manifest's); {repair_hint(folder)}")


class VerifiedFiles:
    """The manifest of a bundle, and the state in which its files were when their contents were verified."""

    def __init__(self, folder: Path) -> None:
        """Verify every file. Raises ManifestError."""
        self.folder = folder
        names = Manifest.read(folder).files
        self._stamps = {name: self._stamp(name) for name in names}  # before: a later change shows
        self.manifest = Manifest.load(folder)

    def _stamp(self, name: str) -> Stamp | None:
        """What changes whenever a file is written or replaced."""
        try:
            found = os.stat(self.folder / name)
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    @contextmanager
    def unchanged(self, name: str) -> Iterator[None]:
        """Open a file in this block: what is opened is what was verified. Raises ManifestError otherwise.

        Files of weights beside the graphs are checked, too. A file whose time stamps have changed is read again.
        """
        names = [n for n, entry in self.manifest.files.items() if n == name or not entry.graph]
        for n in names:
            if self._stamp(n) != self._stamps.get(n):
                self._verify_again(n)
        before = {n: self._stamp(n) for n in names}
        yield
        changed = [n for n in names if self._stamp(n) != before[n]]
        if changed:
            raise ManifestError(f"{self.folder / changed[0]} has changed while it was opened; open the bundle again")

    def _verify_again(self, name: str) -> None:
        path, stamp = self.folder / name, self._stamp(name)
        try:
            intact = sha256(path) == self.manifest.files[name].sha256
        except OSError:
            intact = False
        if not intact:
            raise ManifestError(f"{path} has changed since it was verified; {repair_hint(self.folder)}")
        self._stamps[name] = stamp
