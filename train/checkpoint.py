"""One folder holds a whole system: NAME.safetensors for each component, and meta.json that says what they are.

meta.json: {"components": {NAME: {"kind", "config", "provenance", "sha256"}}}. `kind` names the class that is rebuilt
from `config`; `provenance` says where the weights come from and under which licences. Nothing here is a pickle.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engines.contract import ModelConfig
from runtime.audio import replacing
from train.errors import CheckpointError
from train.models.loading import file_sha256

KINDS = {  # kind -> class; each class has `.config` (a dataclass) and `from_config(dict)`
    "maskvat": "train.models.maskvat:MaskVAT",
    "framecodec": "train.models.codec:FrameCodec",
    "dac": "train.models.dac:DAC",
    "mobilenet_v2": "train.models.mobilenet:MobileNetV2",
    "clip": "train.models.clip_image:CLIP",
    "s3d": "train.models.s3d:S3D",
    "beats": "train.models.beats:BEATs",
    "scav": "train.models.scav:SCAV",
}
COMPONENTS = ("maskvat", "codec", "frame_encoder", "sync_encoder", "audio_encoder", "scav")
USED = {  # component -> the prepared array that it makes
    "codec": "codes",
    "frame_encoder": "clip_features",
    "sync_encoder": "sync_features",
    "audio_encoder": "audio_features",
}
PROVENANCE = ("name", "code_licence", "data_licence", "origin", "trained")  # every component states these


def resolve(reference: str) -> Any:
    """The object that "module:name" or "module:Class.method" points to, imported when asked for."""
    module, _, name = reference.partition(":")
    return reduce(getattr, name.split("."), importlib.import_module(module))


def write_json(path: Path, value: Any) -> None:
    """Write JSON; a reader never sees half a file."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors atomically. Tied tensors are stored once per name."""
    with replacing(path) as part:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, str(part))
        part.chmod(0o644)  # safetensors makes a private file


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.json of a system folder; {"components": {}} where there is none yet."""
    path = Path(folder) / "meta.json"
    if not path.exists():
        return {"components": {}}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); train or import the components again") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("components"), dict):
        raise CheckpointError(f"{path} has no table of components; train or import the components again")
    return meta


def save(
    folder: Path | str,
    name: str,
    module: nn.Module,
    kind: str,
    provenance: dict[str, Any],
    state: dict[str, Tensor] | None = None,
) -> Path:
    """Store a component under `name`, replacing an older one; other components stay. Returns the weights' path.

    `module.config` is stored with it. `state` replaces the module's own state dict (averaged weights, say).
    """
    if name not in COMPONENTS:
        raise CheckpointError(f"unknown component {name!r}; choose from {', '.join(COMPONENTS)}")
    if kind not in KINDS:
        raise CheckpointError(f"unknown kind {kind!r}; choose from {', '.join(KINDS)}")
    missing = [key for key in PROVENANCE if key not in provenance]
    if missing:
        raise CheckpointError(f"the provenance of {name} lacks {', '.join(missing)}; state where the weights come from")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_tensors(path, module.state_dict() if state is None else state)
    meta = read_meta(folder)
    config = asdict(module.config)  # type: ignore[call-overload]
    meta["components"][name] = {"kind": kind, "config": config, "provenance": provenance, "sha256": file_sha256(path)}
    write_json(folder / "meta.json", meta)
    return path


def load(folder: Path | str, name: str, device: str = "cpu") -> nn.Module:
    """Rebuild a component from its configuration and weights, in eval mode.

    Raises CheckpointError when the folder lacks it, its file was altered, or the weights do not fit exactly.
    """
    folder = Path(folder)
    components = read_meta(folder)["components"]
    if name not in components:
        known = ", ".join(components) or "nothing"
        raise CheckpointError(f"{folder} has no component {name!r}, only {known}; train or import it into this folder")
    entry, path = components[name], folder / f"{name}.safetensors"
    if entry["kind"] not in KINDS:
        raise CheckpointError(f"{name} in {folder} is of unknown kind {entry['kind']!r}; known are {', '.join(KINDS)}")
    if not path.exists():
        raise CheckpointError(f"{path} is missing although meta.json lists it; copy it back or train it again")
    if file_sha256(path) != entry["sha256"]:
        raise CheckpointError(f"{path} is not the file that meta.json describes (sha256 differs); copy it again")
    try:
        module: nn.Module = resolve(KINDS[entry["kind"]]).from_config(entry["config"])
        module.load_state_dict(load_file(str(path)), strict=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} in {folder} does not fit this version of {entry['kind']}: {error}") from error
    return module.to(torch.device(device)).eval()


def system_config(components: Mapping[str, nn.Module], **options: Any) -> ModelConfig:
    """The contract's sizes for these components. What they are overrides `options` (design, transformer sizes, ...)."""
    facts: dict[str, Any] = {}
    if codec := components.get("codec"):
        books, size, latent = codec.embedding_table().shape
        facts |= {"n_codebooks": books, "codebook_size": size, "codec_latent": latent, "codec_context": codec.context}
        facts |= {"sample_rate": codec.config.sample_rate, "hop_length": codec.config.hop_length}
    for name, role, fields in (
        ("clip", "frame_encoder", ("resize", "size", "dim")),
        ("sync", "sync_encoder", ("fps", "resize", "size", "dim", "stride", "offset")),
        ("audio", "audio_encoder", ("dim",)),
        ("scav", "scav", ("dim",)),
    ):
        if module := components.get(role):
            facts |= {f"{name}_{field}": getattr(module, field) for field in fields}
    return ModelConfig(**(options | facts))
