"""The cache of TensorRT plans: built when needed, kept under everything that they depend on, never trusted unread.

    CACHE/step.fp16.rtx.0123456789abcdef.plan           the plan
                                        .plan.json      its key's parts, sha256 and bytes
                                        .runtime-cache  kernels that TensorRT-RTX finished on this card
                                        .lock           held by the process that builds

A plan is used where the key is the same and its bytes are those that were written. Everything else is built again, with
a line that says why. Where the folder cannot be used, plans are built into memory and not kept.
"""

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.contract import Graph, ModelConfig
from engines.locks import locked
from engines.manifest import sha256, write_atomically
from engines.plan_build import FLAVOURS, TARGETS, build, card, library
from engines.profiles import CANDIDATES, profile

VARIABLE = "MASKVAT_CACHE"
KEEP = 4  # plans per graph, precision and flavour; those used longest ago are removed
RECIPE = 1  # rises when this program builds differently from the same parts
Parts = dict[str, Any]


def default_cache() -> Path:
    """MASKVAT_CACHE, or the platform's folder for what can be made again."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "maskvat"


@dataclass(frozen=True)
class PlanOptions:
    """What a plan is built for, and where it is kept."""

    config: ModelConfig
    precision: str = "fp32"  # of the file: its name in the cache and a part of the key
    candidates: int = CANDIDATES  # the largest batch
    targets: tuple[str, ...] = TARGETS  # compute capabilities; TensorRT-RTX only
    cache: Path | None = None  # None: default_cache()
    # told why something is built or not kept
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).warning)


@dataclass(frozen=True)
class EnginePlan:
    """A plan that is ready to be deserialised."""

    path: Path  # where it is kept; no file where `kept` is false
    data: bytes
    flavour: str
    runtime_cache: Path  # where TensorRT-RTX's runner may keep its kernels
    kept: bool = True
    built: bool = False  # by this call


def key_parts(flavour: str, onnx: Path, graph: Graph, options: PlanOptions) -> Parts:
    """Everything that a plan depends on. Raises BackendUnavailable where the library or its card is missing."""
    module = library(flavour)
    parts: Parts = {
        "recipe": RECIPE,
        "ONNX file": _digest(onnx),
        "shape profile": profile(options.config, graph, options.candidates),
        "precision": options.precision,
        "library": f"{FLAVOURS[flavour]} {module.__version__}",
    }
    if flavour == "rtx":
        parts["targets"] = sorted(options.targets)
    else:
        here = card()
        parts |= {"card": here.name, "compute capability": here.compute_capability, "driver": here.driver}
    decoded: Parts = json.loads(json.dumps(parts))  # as it is read again: tuples are lists
    return decoded


def _digest(onnx: Path) -> str:
    """sha256 of a file and of the weights beside it."""
    data = onnx.with_name(onnx.name + ".data")
    return " ".join(sha256(path) for path in (onnx, data) if path.is_file() or path is onnx)


def find(flavour: str, onnx: Path, graph: Graph, options: PlanOptions) -> EnginePlan:
    """The plan of a strongly typed ONNX file, out of the cache or built now.

    `flavour` is "rtx" (TensorRT-RTX) or "trt" (TensorRT). Raises BackendUnavailable with the reason where neither is
    possible, and OSError where the ONNX file cannot be read.
    """
    parts = key_parts(flavour, onnx, graph, options)
    slot = _Slot(options.cache or default_cache(), f"{graph.name}.{options.precision}.{flavour}", parts)
    shapes = profile(options.config, graph, options.candidates)

    def make(reason: str) -> bytes:
        options.say(f"building the {FLAVOURS[flavour]} plan of {graph.name} ({options.precision}): {reason}")
        return build(library(flavour), onnx, graph, shapes, options.targets if flavour == "rtx" else ())

    data, kept, built = slot.get(make, options.say)
    return EnginePlan(slot.path, data, flavour, slot.path.with_suffix(".runtime-cache"), kept, built)


class _Slot:
    """One plan's place in the cache."""

    def __init__(self, folder: Path, stem: str, parts: Parts) -> None:
        self.folder, self.stem, self.parts = folder, stem, parts
        self.key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{stem}.{self.key[:16]}.plan"
        self.about = self.path.with_suffix(".plan.json")

    def get(self, make: Callable[[str], bytes], say: Callable[[str], None]) -> tuple[bytes, bool, bool]:
        """The plan's bytes, whether they are kept, and whether `make(reason)` made them now."""
        data, _ = self.read()
        if data is not None:
            return data, True, False
        built: bytes | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_suffix(".lock"), lambda: say(f"another process builds {self.path}: waiting")):
                data, reason = self.read()  # another process may have been first
                if data is not None:
                    return data, True, False
                built = make(reason)
                self.write(built)
        except OSError as error:
            advice = f"set {VARIABLE} to a folder that can be written to and has room"
            say(f"{self.path.name} is not kept, so the next start builds it again: {error}; {advice}")
            return built if built is not None else make("it cannot be kept"), False, True
        return built, True, True

    def read(self) -> tuple[bytes | None, str]:
        """The plan's bytes where they are what was written for this key; else None and why not."""
        try:
            if not self.about.is_file():
                return None, self._other()
            about = _read_json(self.about)
            if about.get("key") != self.key:
                return None, f"{self.about.name} is of another plan"
            data = self.path.read_bytes()
        except OSError as error:
            return None, f"the kept one cannot be read ({error})"
        if len(data) != about.get("bytes"):
            return None, f"the kept one is broken ({len(data)} of {about.get('bytes')} bytes)"
        if hashlib.sha256(data).hexdigest() != about.get("sha256"):
            return None, "the kept one is broken (its sha256 is not the one written down)"
        try:
            os.utime(self.about)  # used now: see KEEP
        except OSError:
            pass  # a read-only cache serves all the same
        return data, ""

    def _others(self) -> list[Path]:
        """The descriptions of this graph's plans under any key, the one used last first."""
        found = []
        for path in self.folder.glob(f"{self.stem}.*.plan.json"):
            try:
                found.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:  # another process removed it
                continue
        return [path for _, path in sorted(found, reverse=True)]

    def _other(self) -> str:
        """Why there is no plan under this key: what the plan used last was built for."""
        for path in self._others():
            had = _read_json(path).get("parts")
            if isinstance(had, dict):
                changed = sorted(
                    name for name in had.keys() | self.parts.keys() if had.get(name) != self.parts.get(name)
                )
                return "; ".join(f"{n}: {_short(had.get(n))} before, now {_short(self.parts.get(n))}" for n in changed)
        return "there is none yet"

    def write(self, data: bytes) -> None:
        """Plan first, its description last: without that it is not used. The lock is held. Raises OSError."""
        for leftover in self.folder.glob(f"{self.path.stem}.*.part"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        about = {"key": self.key, "parts": self.parts, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_atomically(self.about, json.dumps(about | {"built": time.strftime("%Y-%m-%d %H:%M:%S")}, indent=1) + "\n")
        for old in self._others()[KEEP:]:
            plan = old.with_suffix("")
            for path in (old, plan, plan.with_suffix(".runtime-cache")):  # the lock stays: someone may wait for it
                path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file holds none."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, FileNotFoundError):
        return {}
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
