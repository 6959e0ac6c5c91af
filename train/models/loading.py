"""Functions that all weights loaders share: read, rename, fold, load strictly, and report errors.

Nothing here downloads. A loader reads a path without running code from the file, maps its names to ours, and loads
strictly: no tensor may be missing or left over.
"""

import copy
import hashlib
import importlib
import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

State = dict[str, Tensor]
T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class WeightsError(ValueError):
    """A weights file cannot be read or does not fit the network. The message says what to do."""


def import_library(name: str) -> Any:
    """Import a library that only some components need.

    Raises ImportError that says how to install it, or why it does not import.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"this component needs {name.partition('.')[0]} ({error}); pip install '.[train]'") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            f"{name} is installed but cannot be imported ({error}). Usually torchvision was built for another torch: "
            "install torch and torchvision from the same index (both for CPU, or both for the same CUDA)"
        ) from error


def read_config(config_class: type[T], values: Mapping[str, Any]) -> T:
    """Make a config dataclass from JSON values; lists become tuples. Raises ValueError for unknown keys."""
    if not is_dataclass(config_class):
        raise TypeError(f"{config_class} is not a dataclass")
    known = [f.name for f in fields(config_class)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{config_class.__name__}: unknown keys {', '.join(unknown)}; known are {', '.join(known)}")
    return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Inert:
    """Placeholder for an object in a file that is not a tensor: accepts every call of the unpickler, does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, *_: Any) -> None: ...

    append = extend = add = __setitem__

    def __call__(self, *_: Any) -> "Inert":
        return self


class InertUnpickler(pickle.Unpickler):
    """Imports only plain containers and the functions that rebuild tensors; every other name becomes Inert."""

    KNOWN = {("collections", "OrderedDict")} | {
        ("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.KNOWN or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(importlib.import_module(module), name)
        return Inert


def load_tensors(path: Path) -> Any:
    """Load a PyTorch file without running code from it; other objects, such as a configuration, become Inert."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        module = SimpleNamespace(__name__="inert", Unpickler=InertUnpickler)
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)


def read_file(path: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """Read a `.safetensors` or PyTorch file without running code from it.

    `sha256` is the digest that the file must have, or the beginning of it. Raises WeightsError.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; give the path of a file that you have downloaded")
    if sha256 is not None and not (digest := file_sha256(path)).startswith(sha256):
        raise WeightsError(
            f"{path} has sha256 {digest}, expected {sha256}...; the download is incomplete, or it is another file"
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        content = load_tensors(path)
    except Exception as error:  # torch raises many types here; the reason is the same
        raise WeightsError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}). If you trust its source, open it once "
            "where its own packages are installed, keep only the state dict and save that as .safetensors"
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, expected a dict of tensors")
    return content


def read_state(path: str | Path, sha256: str | None = None) -> State:
    """Read the state dict of a file; remove wrappers ("state_dict", "model") and the prefix "module."."""
    content = read_file(path, sha256)
    for wrapper in ("state_dict", "model"):
        if isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    wrong = [k for k, v in content.items() if not isinstance(v, Tensor)]
    if wrong or not content:
        raise WeightsError(f"{path} is not a plain state dict; entries that are not tensors: {wrong[:5]}")
    return strip_prefix(content, "module.")


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """Remove `prefix` from all names if every name has it."""
    if state and all(k.startswith(prefix) for k in state):
        return {k.removeprefix(prefix): v for k, v in state.items()}
    return dict(state)


def select_prefix(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> State:
    """Only the names that begin with one of `prefixes` (old -> new), renamed."""
    return {
        new + k.removeprefix(old): v for k, v in state.items() for old, new in prefixes.items() if k.startswith(old)
    }


def rename(state: Mapping[str, Tensor], rules: Iterable[tuple[str, str]]) -> State:
    """Rename tensors by (regular expression, replacement) rules, in order. Raises WeightsError if two names collide."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    out: State = {}
    for name, value in state.items():
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        if name in out:
            raise WeightsError(f"two tensors of the file map to the same name {name}")
        out[name] = value
    return out


def fold_weight_norm(state: Mapping[str, Tensor], axis: int = 0) -> State:
    """weight = g * v / ||v||, the norm over all axes but `axis` (DAC: 0, also transposed convolutions; BEATs: 2).

    Supports the old names (weight_g, weight_v) and the new ones (parametrizations.weight.original0, original1).
    """
    pairs = {".weight_g": ".weight_v", ".parametrizations.weight.original0": ".parametrizations.weight.original1"}
    out = dict(state)
    for name in list(state):
        for g_end, v_end in pairs.items():
            if name.endswith(g_end):
                stem = name.removesuffix(g_end)
                if stem + v_end not in state:
                    raise WeightsError(f"{name} has no partner {stem + v_end}; the file is incomplete")
                g, v = out.pop(name).double(), out.pop(stem + v_end)
                norm = v.double().norm(dim=[d for d in range(v.ndim) if d != axis], keepdim=True)
                if g.shape != norm.shape:
                    raise WeightsError(f"{name} has shape {list(g.shape)}, expected {list(norm.shape)}: wrong axis?")
                out[stem + ".weight"] = (g * v.double() / norm).to(v.dtype)
    return out


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state whose names and shapes all match. Otherwise raise WeightsError that lists the differences."""
    want = module.state_dict()
    missing, extra = sorted(set(want) - set(state)), sorted(set(state) - set(want))
    shapes = [
        f"{k} {list(state[k].shape)}, expected {list(want[k].shape)}"
        for k in sorted(set(want) & set(state))
        if state[k].shape != want[k].shape
    ]
    problems = [
        f"{len(names)} {what} (first: {', '.join(names[:3])})"
        for what, names in (("tensors missing", missing), ("unexpected tensors", extra), ("wrong shapes", shapes))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Check that the file and the configuration belong together"
        )
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, strict=True)


def fold_batch_norm(module: M) -> M:
    """Return a copy in eval mode; each BatchNorm is folded into the convolution declared just before it."""
    module = copy.deepcopy(module).eval()
    for parent in module.modules():
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return module
