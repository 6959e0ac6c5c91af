"""The training loop of every network: AdamW, warm-up, polynomial decay, clipping, logs, resumable state.

A task provides the module and the loss of one step. Its batches must be a pure function of (seed, step), so that an
interrupted run continues exactly from its last state. Learning rates, warm-up, shape of the decay and weight decay
default to the paper's (section 4.0.3); the paper does not state the other settings.
"""

import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from train.distributed import max_over_processes, rank, to_full, world_size
from train.errors import TrainingError
from train.loop.ema import Average
from train.loop.reporting import Reports, Sample
from train.loop.run_state import Run, load_best, load_state, save_best, save_state
from train.recipe import COUNT, NATURAL, POSITIVE, Ranges, check

EXPLODED, PATIENCE = 100, 50  # a loss above EXPLODED medians for PATIENCE steps in a row is divergence
RESULTS = ("last", "best")
RECENT, ENOUGH = 1000, 100  # the median is taken over at most RECENT and at least ENOUGH losses
ADVICE = "lower learning_rate or clip_norm (--set loop.learning_rate=...); the run then continues from its last state"


class Task(Protocol):
    """A trainable task. `loss` and `validate` may use torch's global generator: the loop seeds it for every step."""

    module: nn.Module
    options: Any  # a dataclass: the [task] table of its recipe
    steps: int  # steps done, for the provenance in `finish`; the loop sets it

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Loss of this step's batch, a pure function of (the task's seed, step), and numbers for the log."""
        ...

    def validate(self) -> dict[str, float]: ...

    def finish(self, out: Path) -> None:
        """Save the trained component. Every process calls it; the first one writes."""
        ...


@runtime_checkable
class PartsTask(Protocol):
    """A task that splits its batch into parts and over processes; it has `backward` in place of `loss`."""

    def backward(self, step: int) -> dict[str, float]:
        """Compute gradients averaged over processes; return "loss" and other numbers of the whole batch."""
        ...


@runtime_checkable
class GeneratingTask(Protocol):
    """A task that can also be validated by generated samples."""

    def validate_generated(self, validated: dict[str, float]) -> tuple[dict[str, float], list[Sample]]:
        """Score generated samples, given the numbers of `validate`; return scores and some of the samples.

        The loop keeps the weights with the highest "aggregate".
        """
        ...


@dataclass(frozen=True)
class LoopConfig:
    """How long and how to train.

    A run that is killed at any moment and started again gives the same weights, bit for bit, as an uninterrupted run on
    the same machine with the same number of threads. At most `save_every` steps are repeated. With `minutes` the
    learning rate follows the clock, so no two runs are equal: use `steps` alone if a run must be repeatable.
    """

    steps: int = 400_000
    learning_rate: float = 2e-4
    final_learning_rate: float = 1e-6
    warmup_steps: int = 3000
    power: float = 1.0  # exponent of the polynomial decay
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.96)
    clip_norm: float = 1.0
    seed: int = 0
    save_every: int = 1000  # steps
    keep_states: int = 2  # number of newest states to keep
    result: str = "last"  # weights to save as the component: "last", or "best" by generated validation
    log_every: int = 50
    validate_every: int = 1000
    generate_every: int = 10_000  # steps between validations by generated samples, if the task has them
    tensorboard: bool = False  # also write DIR/tensorboard
    minutes: float | None = None  # time budget; the decay then follows the used share of it
    ema: float | None = None  # decay of averaged weights, such as 0.999; the averaged weights are then the result

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("steps", "save_every", "keep_states", "log_every", "validate_every", "generate_every"), COUNT),
        **dict.fromkeys(("learning_rate", "clip_norm", "minutes"), POSITIVE),
        **dict.fromkeys(("final_learning_rate", "warmup_steps", "power", "weight_decay", "seed"), NATURAL),
    }

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "betas", tuple(self.betas))  # TOML and JSON give lists
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers from 0 to below 1, not {list(self.betas)}")
        if self.result not in RESULTS:
            raise ValueError(f"unknown result {self.result!r}; choose from {', '.join(RESULTS)}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(
                f"ema must lie between 0 and 1, not {self.ema}; leave it out to use the weights of the last step"
            )

    def rate(self, step: int, progress: float) -> float:
        """Learning rate at a step: linear warm-up times polynomial decay over progress in [0, 1]."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        span = self.learning_rate - self.final_learning_rate
        return warmup * (self.final_learning_rate + span * max(0.0, 1 - progress) ** self.power)

    def progress(self, step: int, seconds: float) -> float:
        """Completed share of the run: of the time budget if there is one, otherwise of the steps after warm-up."""
        if self.minutes is not None:
            return min(1.0, seconds / (60 * self.minutes))
        return min(1.0, max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))

    def is_done(self, step: int, seconds: float) -> bool:
        return step >= self.steps or (self.minutes is not None and seconds >= 60 * self.minutes)


@dataclass
class _DivergenceWatch:
    """Detects a loss that has exploded but is still finite."""

    usual: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    exploded: int = 0  # so many steps in a row

    def check(self, loss: float, step: int) -> None:
        """Raises TrainingError at the PATIENCE-th exploded loss in a row."""
        middle = median(self.usual) if len(self.usual) >= ENOUGH else 0.0
        if middle <= 0 or loss <= EXPLODED * middle:
            self.usual.append(loss)
            self.exploded = 0
            return
        self.exploded += 1
        if self.exploded == PATIENCE:
            what = f"the loss {loss:.3g} of step {step} is the {PATIENCE}th in a row above {EXPLODED} times the median"
            raise TrainingError(f"{what} {middle:.3g}; {ADVICE}")


# ---------------------------------------------------------------- the loop
def fit(task: Task, config: LoopConfig, out: Path) -> dict[str, Any]:
    """Train until the steps or the minutes are used up, or until SIGTERM or Ctrl-C.

    Continues from out/state/ if it exists. Returns {"finished": bool, "step", "seconds"} and the numbers of the last
    validation. `task.finish` runs only at the end; it and validation use the averaged weights if `ema` is set. Raises
    TrainingError if the loss or the gradient is not finite, the loss has exploded, or a state cannot be written; the
    last state is then unchanged. Every process of torchrun must call it; the first one writes.
    """
    out.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in task.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay)
    average = Average(task.module, config.ema) if config.ema is not None else None
    run, watch = load_state(out, task.module, optimizer, average), _DivergenceWatch()
    done, stopped, results = config.is_done(run.step, run.seconds), False, dict[str, float]()
    devices = [p.device for p in parameters[:1] if p.device.type == "cuda"]
    reports = Reports(out, config, run, getattr(task, "cost", None), getattr(task, "facts", None))
    with torch.random.fork_rng(devices=devices), _stop_signal() as stop, reports:
        while not (done or stopped):
            begin = run.seconds
            numbers = one_step(task, config, run, optimizer)
            numbers = reports.step(numbers, run, run.seconds - begin)
            watch.check(numbers["loss"], run.step)
            if average is not None:
                average.update(task.module, run.step)
            stopped, run.seconds = _agree(stop.is_set(), run.seconds)
            done = config.is_done(run.step, run.seconds)
            generated = done or run.step % config.generate_every == 0
            validated = generated or run.step % config.validate_every == 0
            if validated:
                with average.applied(task.module) if average else nullcontext():
                    results = _validate(task, config, run, reports if generated else None)
            numbers["progress"] = round(config.progress(run.step, run.seconds), 5)
            if validated or run.step == 1 or run.step % config.log_every == 0:
                reports.log(numbers | (results if validated else {}))
            if done or stopped or (run.step % config.save_every == 0 and not watch.exploded):
                save_state(out, run, task.module, optimizer, average, config.keep_states)
    if done:
        with average.applied(task.module) if average else nullcontext():
            _finish(task, config, run, out)
    return {"finished": done, "step": run.step, "seconds": run.seconds} | results


def _finish(task: Task, config: LoopConfig, run: Run, out: Path) -> None:
    """Save the component with the module's weights, or with the best weights."""
    task.steps = run.step
    if config.result == "best":
        best = load_best(out, task.module)
        if best is None and rank() == 0:
            print("no weights were scored; the last weights are saved instead of the best", file=sys.stderr)
        task.steps = run.step if best is None else best
    task.finish(out)


def one_step(task: Task, config: LoopConfig, run: Run, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Do one update, advance `run`, and return the numbers for the log."""
    begin = time.monotonic()
    rate = config.rate(run.step, config.progress(run.step, run.seconds))
    for group in optimizer.param_groups:
        group["lr"] = rate
    task.module.train()
    torch.manual_seed(config.seed * 1_000_003 + run.step)  # dropout draws from the global generator
    optimizer.zero_grad(set_to_none=True)
    numbers = task.backward(run.step) if isinstance(task, PartsTask) else _backward(task, run.step)
    if not math.isfinite(numbers["loss"]):
        raise TrainingError(_divergence_message("loss", numbers["loss"], run.step))
    norm = to_full(nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], config.clip_norm)).item()
    if not math.isfinite(norm):
        raise TrainingError(_divergence_message("gradient", norm, run.step))
    optimizer.step()
    run.step += 1
    run.seconds += time.monotonic() - begin
    return {"step": run.step, "seconds": round(run.seconds, 2), "rate": rate, "gradient": norm} | numbers


def _backward(task: Task, step: int) -> dict[str, float]:
    """Compute the gradients of a task whose batch is not split."""
    loss, numbers = task.loss(step)
    if math.isfinite(loss.item()):
        loss.backward()
    return {"loss": loss.item()} | numbers


def _agree(stop: bool, seconds: float) -> tuple[bool, float]:
    """Share decisions: whether any process was asked to stop, and the longest time of all processes."""
    if world_size() == 1:
        return stop, seconds
    values = max_over_processes(torch.tensor([float(stop), seconds], dtype=torch.float64))
    return bool(values[0]), values[1].item()


def _divergence_message(what: str, value: float, step: int) -> str:
    return f"the {what} of step {step} is {value}; {ADVICE}"


def _validate(task: Task, config: LoopConfig, run: Run, reports: Reports | None) -> dict[str, float]:
    """Return the numbers of `task.validate`; with `reports`, also score generated samples and keep the best weights."""
    begin = time.monotonic()
    task.module.eval()
    torch.manual_seed(config.seed)
    with torch.no_grad():
        results = dict(task.validate())
        if reports is not None and isinstance(task, GeneratingTask):
            scores, samples = task.validate_generated(results)
            results |= scores
            reports.log_samples(samples, run.step)
            if "aggregate" in scores:
                save_best(reports.out, run, task.module, scores["aggregate"])
    _, run.seconds = _agree(False, run.seconds + time.monotonic() - begin)
    return {f"validation_{name}": value for name, value in results.items()}


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; only the main thread can receive signals."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def describe(config: LoopConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return asdict(config) | {"betas": list(config.betas)}
