"""Reports of a running training by the first process: DIR/log.jsonl, a bar or lines on stderr, TensorBoard."""

import json
import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from train.distributed import rank, world_size
from train.extras import requires_extra
from train.loop.flops import Cost, gemm_peak

RECENT = 20  # speed is a mean over so many steps
BAR_NUMBERS = ("loss", "tokens_per_second", "mfu")  # shown on the bar, beside its own ETA


@dataclass(frozen=True)
class Sample:
    """A validation example: the generated sound and the reference, each [L] at `rate`."""

    name: str
    generated: NDArray[np.float32]
    reference: NDArray[np.float32]
    rate: int
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # [height, width, 3] by name


class Lengths(Protocol):
    """The part of LoopConfig that reports need."""

    @property
    def steps(self) -> int: ...

    @property
    def minutes(self) -> float | None: ...

    @property
    def tensorboard(self) -> bool: ...


class Progress(Protocol):
    """The part of run_state.Run that reports need."""

    step: int
    seconds: float


class Reports:
    """A context manager. Call `step` at every step, `log` when due, `log_samples` after generated validation."""

    def __init__(
        self, out: Path, config: Lengths, run: Progress, cost: Cost | None, facts: dict[str, float] | None = None
    ) -> None:
        """`facts` of the run, for example whether it uses bfloat16, are added to every line of the log."""
        self.out, self.config, self.cost, self.is_first = out, config, cost, rank() == 0
        self.facts = facts or {}
        self.peak = gemm_peak(cost.device, cost.dtype) * world_size() if cost and self.is_first else 0.0
        self.durations: deque[float] = deque(maxlen=RECENT)
        self.bar, self.board = None, None
        if self.is_first and sys.stderr.isatty():
            timed = config.minutes is not None
            total, initial = (round(60 * config.minutes), run.seconds) if timed else (config.steps, run.step)
            unit = "s" if timed else "step"
            self.bar = tqdm(total=total, initial=min(initial, total), unit=unit, dynamic_ncols=True)
        if self.is_first and config.tensorboard:
            with requires_extra("tensorboard", __name__):
                from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=run.step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in (self.bar, self.board):
            if part is not None:
                part.close()

    def step(self, numbers: dict[str, float], run: Progress, seconds: float) -> dict[str, float]:
        """Add speed and remaining seconds to the numbers of a step that took `seconds`; advance the bar."""
        self.durations.append(seconds)
        mean = sum(self.durations) / len(self.durations)
        timed = self.config.minutes is not None
        left = 60 * self.config.minutes - run.seconds if timed else (self.config.steps - run.step) * mean
        numbers = numbers | {"eta": round(max(0.0, left), 1)}
        if self.cost and self.is_first:
            numbers |= {"tokens_per_second": self.cost.tokens / mean, "mfu": self.cost.flops / mean / self.peak}
        if self.bar is not None:
            self.bar.set_postfix({k: f"{numbers[k]:.4g}" for k in BAR_NUMBERS if k in numbers}, refresh=False)
            self.bar.update(min(run.seconds if timed else run.step, self.bar.total) - self.bar.n)
        return numbers

    def log(self, numbers: dict[str, float]) -> None:
        """Write a line to log.jsonl and stderr, and points to TensorBoard's curves."""
        if not self.is_first:
            return
        numbers = numbers | self.facts
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(numbers) + "\n")
        words = {name: f"{value:.5g}" for name, value in numbers.items()}
        words["eta"] = str(timedelta(seconds=round(numbers["eta"])))
        line = "  ".join(f"{name} {value}" for name, value in words.items())
        if self.bar is None:
            print(line, file=sys.stderr, flush=True)
        elif any(name.startswith("validation_") for name in numbers):
            self.bar.write(line, file=sys.stderr)
        if self.board is not None:
            for name, value in numbers.items():
                if name not in ("step", "eta", *self.facts):
                    group = "validation" if name.startswith("validation_") else "training"
                    self.board.add_scalar(f"{group}/{name.removeprefix('validation_')}", value, int(numbers["step"]))
            self.board.flush()

    def log_samples(self, samples: list[Sample], step: int) -> None:
        """Write sounds and pictures to TensorBoard."""
        if self.board is None:
            return
        for sample in samples:
            for name, picture in sample.pictures.items():
                self.board.add_image(f"{sample.name}/{name}", picture, step, dataformats="HWC")
            for name, audio in (("generated", sample.generated), ("reference", sample.reference)):
                self.board.add_audio(f"{sample.name}/{name}", audio[None], step, sample_rate=sample.rate)
        self.board.flush()
