"""The parts of benchmarks.card: what each does, how long it may take, its command, and why it is left out here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZES = ("mini", "small", "base")
CARDS = ("cuda", "tensorrt", "tensorrt-rtx")  # backends
STEPS, CANDIDATES = (4, 8, 16, 32), (1, 4, 10)
# seconds at most, for each size
PREPARE = {"mini": 90, "small": 150, "base": 420}
PAIRS = {"mini": 300, "small": 300, "base": 480}  # max-autotune times many kernels before the first clip
POINTS = {"mini": 120, "small": 150, "base": 240}
# megabytes on the GPU: with one candidate and PyTorch's baselines beside it; for each more candidate
MEMORY = {"mini": (4000, 300), "small": (5000, 500), "base": (12000, 1200)}
GPU_TESTS, SELF_TEST, PROBE = 240.0, {"cuda": 90.0, "tensorrt": 400.0, "tensorrt-rtx": 200.0}, 120.0
LEAST_TRAINING = 30.0  # seconds; less is not worth the start
OUT = "{out}"  # in a command: the file for its JSON result


@dataclass(frozen=True)
class Machine:
    """What the probe found: the GPU, its free memory in MB, and for each backend why it cannot be used (or None)."""

    card: str | None
    memory_mb: float = 0.0
    backends: dict[str, str | None] = field(default_factory=dict)
    torch: str | None = None  # why PyTorch cannot use the GPU
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def usable(self) -> list[str]:
        """The backends of the GPU that work."""
        return [name for name in CARDS if name in self.backends and self.backends[name] is None]


@dataclass(frozen=True)
class Part:
    """One part. `command` comes after `python`; without `seconds` it takes the time that is left."""

    name: str
    what: str
    seconds: float | None
    command: tuple[str, ...]
    left_out: str | None = None
    after: str | None = None  # a part that must be done before
    least: float = 10.0  # seconds that are worth a start
    local: bool = False  # its result is files of this machine: on another one it is done again


@dataclass(frozen=True)
class Places:
    """The checkout, which has the pack, and the folder of this run."""

    root: Path
    work: Path

    @property
    def cache(self) -> Path:
        return self.work / "cache"

    @property
    def pack(self) -> Path:
        return self.root / "pack"


def card_reason(machine: Machine) -> str | None:
    """Why no part that computes on the GPU can run; None if there is a GPU."""
    return None if machine.card else "there is no NVIDIA GPU here: check nvidia-smi and CUDA_VISIBLE_DEVICES"


def memory_reason(machine: Machine, size: str, candidates: int) -> str | None:
    """Why a size does not fit on the GPU; None if it does."""
    first, more = MEMORY[size]
    needed = first + more * (candidates - 1)
    if machine.memory_mb >= needed:
        return None
    return f"needs about {needed} MB on the GPU; {machine.memory_mb:.0f} MB are free"


# ---------------------------------------------------------------- the table
def get_parts(machine: Machine, places: Places, trainings: Sequence[dict[str, Any]]) -> list[Part]:
    """All parts in their order; `trainings` are the runs of the pack."""
    return [
        *test_parts(machine, places),
        *(part for size in SIZES for part in size_parts(machine, places, size)),
        *training_parts(machine, places, trainings),
    ]


def test_parts(machine: Machine, places: Places) -> Iterator[Part]:
    """The test lane `gpu`, and the self-test of each backend."""
    lane = ("-m", "benchmarks.card.lane", "--out", OUT)
    yield Part("gpu-tests", "tests marked gpu", GPU_TESTS, lane, card_reason(machine))
    for name in CARDS:
        reason = card_reason(machine) or machine.backends.get(name, "the probe did not report it")
        command = ("-m", "benchmarks.card.self_test", name, "--cache", str(places.cache), "--out", OUT)
        yield Part(f"self-test-{name}", f"every graph on {name} against the CPU", SELF_TEST[name], command, reason)


def size_parts(machine: Machine, places: Places, size: str) -> Iterator[Part]:
    """Export, pairs with PyTorch, and points of one size."""
    backends = machine.usable
    none = "no backend of ours works on this GPU: " + "; ".join(f"{k}: {v}" for k, v in machine.backends.items())
    reason = card_reason(machine) or (None if backends else none)
    prepare = f"prepare-{size}"
    command = ("-m", "benchmarks.card.prepare", size, "--cache", str(places.cache), "--out", OUT, *backends)
    yield Part(prepare, f"random weights of {size}, exported and typed", PREPARE[size], command, reason, local=True)
    latency = ("-m", "benchmarks.latency", "--sizes", size, "--cache", str(places.cache), "--no-quality", "--out", OUT)
    latency = (*latency, "--backend", *backends)
    torch = reason or machine.torch or memory_reason(machine, size, 1)
    steps = "32" if size == "mini" else "8"
    pairs = (*latency, "--no-points", "--pair-steps", steps)
    yield Part(f"pairs-{size}", f"{size} beside PyTorch eager and compiled, floor, kernels", PAIRS[size], pairs, torch,
               prepare, least=60.0)  # fmt: skip
    points = (*latency, "--baselines", "none", "--no-profiles", "--steps", *map(str, STEPS))
    for count in CANDIDATES:
        lacking = reason or memory_reason(machine, size, count)
        what = f"{size}, {'one candidate' if count == 1 else f'{count} candidates'}, {STEPS[0]} to {STEPS[-1]} steps"
        yield Part(
            f"points-{size}-{count}", what, POINTS[size], (*points, "--candidates", str(count)), lacking, prepare
        )


def training_parts(machine: Machine, places: Places, trainings: Sequence[dict[str, Any]]) -> Iterator[Part]:
    """The trainings of the pack, each from where its last run ended."""
    reason = card_reason(machine) or machine.torch
    for training in trainings:
        name = training["name"]
        command = ("-m", "benchmarks.card.training", name, "--work", str(places.work), "--out", OUT)
        what = f"training of {name} for the time that is left"
        yield Part(f"train-{name}", what, None, command, reason, least=LEAST_TRAINING)
    if not trainings:
        yield Part("train", "training", None, (), "the pack has no training; make one with --train RECIPE.toml")
