"""The cache of TensorRT plans. Plans are built when needed, and stored under a key of everything they depend on.

    CACHE/step.fp16.rtx.0123456789abcdef.plan           the plan
                                        .plan.json      its key's parts, sha256 and size
                                        .runtime-cache  kernels that TensorRT-RTX finished on this GPU
                                        .lock           held by the process that builds the plan

A plan is used if its key is the same and its bytes have not changed. Otherwise it is built again, and a log line says
why. If the folder cannot be used, plans are built in memory and not kept.
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
KEEP = 4  # plans per graph, precision and flavour; the least recently used are removed
RECIPE = 1  # rises when this program builds another plan from the same parts
Parts = dict[str, Any]


def default_cache() -> Path:
    """The folder in MASKVAT_CACHE, or the platform's cache folder."""
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
    """What to build a plan for, and where to keep it."""

    config: ModelConfig
    precision: str = "fp32"  # of the ONNX file; part of the key and of the plan's name
    candidates: int = CANDIDATES  # the largest batch
    targets: tuple[str, ...] = TARGETS  # compute capabilities; TensorRT-RTX only
    cache: Path | None = None  # None: default_cache()
    # called with the reason when a plan is built or cannot be kept
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).warning)


@dataclass(frozen=True)
class EnginePlan:
    """A plan, ready to be deserialised."""

    path: Path  # where it is kept; there is no file if `kept` is False
    data: bytes
    flavour: str
    runtime_cache: Path  # where TensorRT-RTX may keep its kernels
    kept: bool = True
    built: bool = False  # whether this call built it


def key_parts(flavour: str, onnx: Path, graph: Graph, options: PlanOptions) -> Parts:
    """Everything that a plan depends on. Raises BackendUnavailable if the library or its GPU is missing."""
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
    decoded: Parts = json.loads(json.dumps(parts))  # as it will be read: tuples become lists
    return decoded


def _digest(onnx: Path) -> str:
    """The sha256 of a file, and of the weights beside it: its own, and those that it shares with another file."""
    graph = onnx.name.partition(".")[0]
    beside = (onnx.with_name(name) for name in (f"{onnx.name}.data", f"{graph}.weights"))
    return " ".join(sha256(path) for path in (onnx, *beside) if path.is_file() or path is onnx)


def find(flavour: str, onnx: Path, graph: Graph, options: PlanOptions) -> EnginePlan:
    """Get the plan of a strongly typed ONNX file from the cache, or build it.

    `flavour` is "rtx" (TensorRT-RTX) or "trt" (TensorRT). Raises BackendUnavailable with the reason if the plan cannot
    be built, and OSError if the ONNX file cannot be read.
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
        """Return the plan's bytes, whether they are kept, and whether `make(reason)` built them now."""
        data, _ = self.read()
        if data is not None:
            return data, True, False
        built: bytes | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_suffix(".lock"), lambda: say(f"another process builds {self.path}; waiting")):
                data, reason = self.read()  # another process may have built it meanwhile
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
        """Read the plan's bytes. Returns None and the reason if they are not what was written for this key."""
        try:
            if not self.about.is_file():
                return None, self._other()
            about = _read_json(self.about)
            if about.get("key") != self.key:
                return None, f"{self.about.name} describes another plan"
            data = self.path.read_bytes()
        except OSError as error:
            return None, f"the stored plan cannot be read ({error})"
        if len(data) != about.get("bytes"):
            return None, f"the stored plan is damaged ({len(data)} of {about.get('bytes')} bytes)"
        if hashlib.sha256(data).hexdigest() != about.get("sha256"):
            return None, "the stored plan is damaged (its sha256 has changed)"
        try:
            os.utime(self.about)  # marks it as used now: see KEEP
        except OSError:
            pass  # a read-only cache is fine
        return data, ""

    def _others(self) -> list[Path]:
        """The descriptions of this graph's plans under any key, the most recently used first."""
        found = []
        for path in self.folder.glob(f"{self.stem}.*.plan.json"):
            try:
                found.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:  # another process removed it
                continue
        return [path for _, path in sorted(found, reverse=True)]

    def _other(self) -> str:
        """Why there is no plan under this key: how the most recently used plan differs."""
        for path in self._others():
            had = _read_json(path).get("parts")
            if isinstance(had, dict):
                changed = sorted(
                    name for name in had.keys() | self.parts.keys() if had.get(name) != self.parts.get(name)
                )
                return "; ".join(f"{n}: {_short(had.get(n))} before, now {_short(self.parts.get(n))}" for n in changed)
        return "there is none yet"

    def write(self, data: bytes) -> None:
        """Write the plan, then its description, without which the plan is not used. Needs the lock. Raises OSError."""
        for leftover in self.folder.glob(f"{self.path.stem}.*.part"):  # from a process that was killed
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
            for path in (old, plan, plan.with_suffix(".runtime-cache")):  # the lock stays: another may wait for it
                path.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Returns an empty one if the file does not hold any."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, FileNotFoundError):
        return {}
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
