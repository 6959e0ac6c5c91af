"""A system folder: NAME.safetensors for each component, and meta.json that describes them.

meta.json: {"components": {NAME: {"kind", "config", "provenance", "sha256"}}}. `kind` names the class that is rebuilt
from `config`; `provenance` states the origin of the weights and their licences. No file here is a pickle.

Saving is safe: two processes may save into one folder at the same time, and a process that is killed while it saves
leaves either the old component or the new one. While NAME.safetensors is replaced, the entry in meta.json describes the
new file and holds the old entry as "previous"; `read_meta` picks the one whose sha256 the file has.
"""

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engines.contract import ModelConfig
from engines.locks import locked
from runtime.audio import replacing
from train.errors import CheckpointError
from train.models.loading import file_sha256

KINDS = {  # kind -> class; each class has `.config` (a dataclass) and `from_config(dict)`
    "maskvat": "train.models.maskvat:MaskVAT",
    "framecodec": "train.models.codec:FrameCodec",
    "dac": "train.models.dac:DAC",
    "mobilenet_v2": "train.models.mobilenet:MobileNetV2",
    "clip": "train.models.clip_image:CLIP",
    "clip_text": "train.models.clip_text:CLIPText",
    "s3d": "train.models.s3d:S3D",
    "beats": "train.models.beats:BEATs",
    "scav": "train.models.scav:SCAV",
}
COMPONENTS = ("maskvat", "codec", "frame_encoder", "sync_encoder", "audio_encoder", "scav")
OPTIONAL = ("text_encoder",)  # a system may lack it
PREPARED_ARRAYS = {  # component -> the prepared array that it makes
    "codec": "codes",
    "frame_encoder": "frame_features",
    "sync_encoder": "sync_features",
    "audio_encoder": "audio_features",
}
PROVENANCE = ("name", "code_licence", "data_licence", "origin", "trained")  # every component states these


def resolve(reference: str) -> Any:
    """Import the object that "module:name" or "module:Class.method" names."""
    module, _, name = reference.partition(":")
    return reduce(getattr, name.split("."), importlib.import_module(module))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader never sees half a file."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors atomically. A tensor with two names is stored twice."""
    with replacing(path) as part:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, str(part))
        part.chmod(0o644)  # safetensors creates the file for its owner only


def read_meta(folder: Path) -> dict[str, Any]:
    """Read the meta.json of a system folder; {"components": {}} if there is none yet.

    Raises CheckpointError if the file is damaged.
    """
    path = Path(folder) / "meta.json"
    if not path.exists():
        return {"components": {}}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); train or import the components again") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("components"), dict):
        raise CheckpointError(f"{path} has no table of components; train or import the components again")
    for name, entry in meta["components"].items():
        previous = entry.pop("previous", None)
        if previous and not _has_weights_of(entry, _weights_path(folder, name)):
            meta["components"][name] = previous  # the save stopped before the weights were replaced
    return meta


def _weights_path(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}.safetensors"


def _has_weights_of(entry: dict[str, Any], path: Path) -> bool:
    return path.exists() and file_sha256(path) == entry["sha256"]


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Exclude other processes that save into the folder. Without file locks, warn and continue."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / ".lock"))
        except OSError as error:  # hours of training must not be lost for a lock
            print(f"cannot lock {folder} ({error}): let no other process save into it now", file=sys.stderr)
        yield


def save(
    folder: Path | str,
    name: str,
    module: nn.Module,
    kind: str,
    provenance: dict[str, Any],
    state: dict[str, Tensor] | None = None,
) -> Path:
    """Store a component with its `module.config` under `name`; return the path of the weights.

    An older component of that name is replaced; others stay. `state` replaces the module's own state dict, for example
    with averaged weights. Raises CheckpointError for an unknown name or kind, or an incomplete provenance.
    """
    if name not in COMPONENTS + OPTIONAL:
        raise CheckpointError(f"unknown component {name!r}; choose from {', '.join(COMPONENTS + OPTIONAL)}")
    if kind not in KINDS:
        raise CheckpointError(f"unknown kind {kind!r}; choose from {', '.join(KINDS)}")
    missing = [key for key in PROVENANCE if key not in provenance]
    if missing:
        raise CheckpointError(f"the provenance of {name} lacks {', '.join(missing)}; state where the weights come from")
    entry = {"kind": kind, "config": asdict(module.config), "provenance": provenance}  # type: ignore[call-overload]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        return _replace(folder, name, entry, module.state_dict() if state is None else state)


def _replace(folder: Path, name: str, entry: dict[str, Any], state: dict[str, Tensor]) -> Path:
    """Replace weights and entry of a component. After every line the folder holds the old component or the new one."""
    for leftover in folder.glob(".maskvat-*.part"):  # of a writer that was killed: no other writer is at work
        leftover.unlink()
    path, new = _weights_path(folder, name), folder / f".{name}.new"
    write_tensors(new, state)
    entry = entry | {"sha256": file_sha256(new)}
    meta = read_meta(folder)
    if old := meta["components"].get(name):
        meta["components"][name] = entry | {"previous": old}
        write_json(folder / "meta.json", meta)
    os.replace(new, path)
    meta["components"][name] = entry
    write_json(folder / "meta.json", meta)
    return path


def encoding_sha256(folder: Path | str, name: str) -> str:
    """A digest of what a component's encoding depends on; raises CheckpointError if the folder lacks the component.

    That is the sha256 of its weights, unless its class names the tensors that encode (`ENCODING`): a codec whose
    decoder is trained further gives the same codes, so what was prepared with it stays valid.
    """
    folder = Path(folder)
    entry = _entry(folder, name)
    kind = resolve(KINDS[entry["kind"]])
    names = getattr(kind, "ENCODING", ())
    if not names:
        return str(entry["sha256"])
    config = {key: value for key, value in entry["config"].items() if key not in getattr(kind, "DECODING", ())}
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    with safe_open(str(_weights_path(folder, name)), "pt") as file:
        for tensor in names:
            found.update(file.get_tensor(tensor).numpy().tobytes())
    return found.hexdigest()


def remove(folder: Path | str, name: str) -> bool:
    """Remove a component; returns whether there was one."""
    folder = Path(folder)
    with _only_writer(folder):
        meta = read_meta(folder)
        if meta["components"].pop(name, None) is None:
            return False
        write_json(folder / "meta.json", meta)
        _weights_path(folder, name).unlink(missing_ok=True)
    return True


def load(folder: Path | str, name: str, device: str = "cpu") -> nn.Module:
    """Rebuild a component from its configuration and weights, in eval mode.

    Raises CheckpointError if the folder lacks the component, its file was altered, or the weights do not fit exactly.
    """
    folder = Path(folder)
    path, entry = _weights_path(folder, name), _entry(folder, name)
    if not path.exists():
        raise CheckpointError(f"{path} is missing although meta.json lists it; copy it back or train it again")
    if not _has_weights_of(entry, path):
        entry = _entry(folder, name)  # another process may have replaced the component meanwhile
        if not _has_weights_of(entry, path):
            raise CheckpointError(f"{path} is not the file that meta.json describes (sha256 differs); copy it again")
    old = [key for key in entry["config"] if key.startswith("clip_")]
    if old:
        raise CheckpointError(
            f"{name} in {folder} was trained for contract 2 (it has {', '.join(old)}); train it again with "
            "`python -m train.fit`, after `python -m train.prepare`"
        )
    try:
        module: nn.Module = resolve(KINDS[entry["kind"]]).from_config(entry["config"])
        module.load_state_dict(load_file(str(path)), strict=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name} in {folder} does not fit this version of {entry['kind']}: {error}") from error
    return module.to(torch.device(device)).eval()


def _entry(folder: Path, name: str) -> dict[str, Any]:
    components = read_meta(folder)["components"]
    if name not in components:
        known = ", ".join(components) or "nothing"
        raise CheckpointError(f"{folder} has no component {name!r}, only {known}; train or import it into this folder")
    entry: dict[str, Any] = components[name]
    if entry["kind"] not in KINDS:
        raise CheckpointError(f"{name} in {folder} is of unknown kind {entry['kind']!r}; known are {', '.join(KINDS)}")
    return entry


def system_config(components: Mapping[str, nn.Module], **options: Any) -> ModelConfig:
    """Derive the contract's sizes from components. `options` (design, transformer sizes, ...) give the other fields."""
    facts: dict[str, Any] = {}
    if codec := components.get("codec"):
        books, size, latent = codec.embedding_table().shape
        facts |= {"n_codebooks": books, "codebook_size": size, "codec_latent": latent, "codec_context": codec.context}
        facts |= {"sample_rate": codec.config.sample_rate, "hop_length": codec.config.hop_length}
    for name, role, fields in (
        ("frame", "frame_encoder", ("resize", "size", "dim")),
        ("sync", "sync_encoder", ("fps", "resize", "size", "dim", "stride", "offset")),
        ("audio", "audio_encoder", ("dim",)),
        ("scav", "scav", ("dim",)),
    ):
        if module := components.get(role):
            facts |= {f"{name}_{field}": getattr(module, field) for field in fields}
    return ModelConfig(**(options | facts))
