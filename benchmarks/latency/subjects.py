"""What `benchmarks.latency` measures: bundles, the networks they were exported from, and one precision of a bundle.

A size that has no trained weights gets random ones (they serve for speed), written as a system folder and exported like
any other. Both are kept in a cache folder under the hash of what made them, so that a second run starts at once.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import typed
from engines.backends import BACKENDS
from engines.contract import CONTRACT_VERSION, SIZES, ModelConfig, graphs
from engines.manifest import MANIFEST, MINI, Manifest, write_atomically
from runtime.errors import OptionError
from train.extras import requires_extra

if TYPE_CHECKING:
    from torch import nn

RANDOM = ("mini", "small", "base")  # sizes that are made here
ROOT = Path(__file__).resolve().parent.parent
MAKERS = ("benchmarks/latency/subjects.py", "engines/contract.py", "train/models/maskvat.py", "export/bundle.py",
          "export/graphs.py", "export/onnx_export.py", "export/quantise.py", "export/step.py")  # fmt: skip
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "transformers")
SPREAD = 0.02  # of random modulations, which a fresh network has at zero
PROVENANCE = {"code_licence": "Apache-2.0", "data_licence": "none", "origin": "seed 0", "trained": False}


@dataclass(frozen=True)
class Subject:
    """One bundle, and the system folder of its PyTorch networks where there is one."""

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


def key(*parts: Any) -> str:
    """Short hash of what decides a cached folder: its making's code, the packages, and `parts`."""
    digest = hashlib.sha256(repr((CONTRACT_VERSION, *parts)).encode())
    for name in PACKAGES:
        try:
            digest.update(version(name).encode())
        except PackageNotFoundError:
            digest.update(b"absent")
    for name in MAKERS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


def made(folder: Path, make: Any) -> Path:
    """`folder`, made by make(part) where it is not there yet; a reader never sees half of it."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            make(part)
            part.chmod(0o755)
            os.replace(part, folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, and made the same
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


# ---------------------------------------------------------------- random systems
def small_parts() -> dict[str, "tuple[nn.Module, str]"]:
    """The bundled system's components, untrained: role -> network and kind."""
    from train.models import beats, codec, mobilenet, s3d, scav

    return {
        "codec": (codec.FrameCodec(codec.FrameCodecConfig()), "framecodec"),
        "frame_encoder": (mobilenet.MobileNetV2(mobilenet.MobileNetV2Config()), "mobilenet_v2"),
        "sync_encoder": (s3d.S3D(s3d.BUNDLED), "s3d"),
        "audio_encoder": (beats.BEATs(beats.BUNDLED), "beats"),
        "scav": (scav.SCAV(scav.BUNDLED), "scav"),
    }


def frames_of_base() -> str:
    """The frame encoder that can be had here at size base: the paper's CLIP, or MobileNetV2 without open_clip."""
    from train.models.loading import import_library

    try:
        import_library("open_clip")
    except ImportError:
        return "mobilenet_v2"
    return "clip"


def official_parts() -> dict[str, "tuple[nn.Module, str]"]:
    """The paper's components at their sizes, with random weights. Where open_clip is missing, MobileNetV2 for CLIP."""
    from train.models import beats, clip_image, dac, mobilenet, s3d, scav

    frames: tuple[Any, str] = (
        (clip_image.CLIP(), "clip")
        if frames_of_base() == "clip"
        else (mobilenet.MobileNetV2(mobilenet.MobileNetV2Config()), "mobilenet_v2")
    )
    return {
        "codec": (dac.DAC(), "dac"),
        "frame_encoder": frames,
        "sync_encoder": (s3d.S3D(s3d.S3DConfig()), "s3d"),
        "audio_encoder": (beats.BEATs(beats.BEATsConfig()), "beats"),
        "scav": (scav.SCAV(replace(scav.SCAVConfig(), clip_dim=frames[0].dim)), "scav"),
    }


def agreed(parts: dict[str, "tuple[nn.Module, str]"]) -> dict[str, Any]:
    """What the transformer's configuration takes over from its components."""
    from functools import reduce

    from export.graphs import AGREEMENT

    found = {field: reduce(getattr, path.split("."), parts[role][0]) for field, role, path in AGREEMENT}
    return found | {"codec_latent": parts["codec"][0].embedding_table().shape[-1]}  # type: ignore[operator]


def write_random(size: str, folder: Path) -> None:
    """A system of random weights, seed 0: `mini` in the shipped bundle's design, larger ones hybrid.

    `mini` and `small` have the bundled components' networks, `base` the paper's (DAC, CLIP, S3D, BEATs).
    """
    import torch

    from train.checkpoint import save
    from train.models.maskvat import MaskVAT

    torch.manual_seed(0)
    parts = official_parts() if size == "base" else small_parts()
    design = json.loads((MINI / MANIFEST).read_text(encoding="utf-8"))["config"]["design"] if size == "mini" else None
    sizes = {k: v for k, v in SIZES[size].items() if k != "codec_latent"}
    model = MaskVAT(ModelConfig(**sizes | agreed(parts) | {"design": design or "hybrid"}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modulation" in name:
                parameter.normal_(std=SPREAD)
    for role, (module, kind) in (parts | {"maskvat": (model, "maskvat")}).items():
        save(folder, role, module, kind, PROVENANCE | {"name": f"random {kind}"})


def export_system(system: Path, name: str, folder: Path) -> None:
    """Every graph in fp32, the step also in int8, without the parity run of `python -m export`."""
    from export.bundle import Options, bundle_config, load_components, provenance, write_graphs
    from export.graphs import check_agreement, graph_modules

    components = load_components(system)
    check_agreement(components)
    config = bundle_config(components)
    options = Options(system, folder, precision="fp32", int8=True, name=name)
    files = write_graphs(options, graph_modules(components, fold=True), graphs(config), folder)
    Manifest(name=name, config=config, files=files, weights=provenance(system)).save(folder)


def exported(system: Path, name: str, cache: Path) -> Path:
    """The bundle of a system folder, from the cache or made now. Raises OptionError where it cannot be exported."""
    try:
        with requires_extra("export", __name__):
            from train.errors import CheckpointError
    except ModuleNotFoundError as error:
        raise OptionError(f"the system {system} cannot be exported: {error}") from error
    try:
        content = (system / "meta.json").read_text(encoding="utf-8")  # holds every file's sha256
        return made(cache / f"bundle-{name}-{key(content, name)}", lambda part: export_system(system, name, part))
    except (CheckpointError, ImportError, OSError) as error:
        raise OptionError(f"the system {system} cannot be exported: {error}") from error


def random_subject(size: str, cache: Path) -> Subject:
    """Raises OptionError where PyTorch or the exporter's packages are missing."""
    try:
        with requires_extra("export", __name__):
            import onnxscript  # noqa: F401
            import torch  # noqa: F401
        decides = (size, frames_of_base()) if size == "base" else (size,)
        system = made(cache / f"system-{size}-{key(*decides)}", lambda part: write_random(size, part))
        return Subject(size, exported(system, size, cache), system)
    except (ModuleNotFoundError, ImportError) as error:
        raise OptionError(f"size {size} with random weights cannot be made here: {error}") from error


# ---------------------------------------------------------------- precisions
def precisions(subject: Subject, backend: str) -> list[str]:
    """Precisions of the step that there are for a backend, the one that the runtime takes first."""
    files = subject.manifest["files"].values()
    have = {entry["precision"] for entry in files if entry["graph"] == "step"}
    if backend.startswith("tensorrt"):
        have = {entry.precision for entry in typed.read(subject.bundle).values() if entry.graph == "step"}
        return [p for p in typed.PRECISIONS if p in have]
    return [p for p in BACKENDS[backend].precisions if p in have]


def view(subject: Subject, backend: str, precision: str, folder: Path) -> Path:
    """The bundle with one precision only, where a graph has it: files are linked, not copied."""
    values, name = subject.manifest, f"{subject.name}-{backend}-{precision}"
    files: dict[str, dict[str, Any]] = values["files"]
    if backend.startswith("tensorrt"):  # the choice is among the typed graphs, which need the files they come from
        keep = set(files)
    else:
        has = {entry["graph"] for entry in files.values() if entry["precision"] == precision}
        keep = {n for n, e in files.items() if e["graph"] and (e["precision"] == precision or e["graph"] not in has)}
        keep |= {n for n, e in files.items() if not e["graph"] and n.removesuffix(".data") in keep}
    where = hashlib.sha256(str(subject.bundle.resolve()).encode()).hexdigest()[:8]  # names need not be unique
    out = folder / f"{name}-{where}"
    if not out.is_dir():
        out.mkdir(parents=True)
        for file in sorted(keep):
            link(subject.bundle / file, out / file)
        for table in ("files", "self_test"):
            values[table] = {n: e for n, e in values.get(table, {}).items() if n in keep}
        write_atomically(out / MANIFEST, json.dumps(values, indent=1) + "\n")
        if backend.startswith("tensorrt"):
            link_typed(subject, precision, out)
    return out


def link_typed(subject: Subject, precision: str, bundle: Path) -> None:
    """The typed graphs of one precision, and fp32 ones for graphs that lack it, beside another bundle."""
    entries = typed.read(subject.bundle)
    has = {e.graph for e in entries.values() if e.precision == precision}
    keep = {n: e for n, e in entries.items()
            if e.precision == precision or (e.precision == "fp32" and e.graph not in has)}  # fmt: skip
    if keep:
        (bundle / typed.FOLDER).mkdir()
        for file in {file for entry in keep.values() for file in entry.sha256}:
            link(subject.bundle / typed.FOLDER / file, bundle / typed.FOLDER / file)
        typed.write(bundle, keep)


def link(source: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)


def named(texts: Sequence[str], option: str) -> dict[str, Path]:
    """NAME=DIR or DIR (named after itself) -> folder by name. Raises OptionError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.rpartition("=")
        folder = Path(path)
        name = name or folder.resolve().name
        if not folder.is_dir():
            raise OptionError(f"{option} {text}: {folder} is no folder; give NAME=FOLDER or FOLDER")
        if name in found:
            raise OptionError(f"{option} {text}: the name {name} is given twice; give NAME=FOLDER to tell them apart")
        found[name] = folder
    return found
