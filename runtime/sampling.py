"""What a caller gives to a generation and gets from it."""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

from engines.contract import FloatArray, Int32Array
from runtime.decode import SCHEDULES
from runtime.errors import OptionError
from runtime.rng import MAX_SEED


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample: one per call. Defaults are the paper's (section 4.3). Raises OptionError."""

    steps: int = 32  # unmasking steps, 1 to 1024
    guidance: float = 3.0  # (1 + g) * conditional - g * null; 0 is off and costs nothing. The paper: 2 to 4
    diversity: float = 8.0  # scale of the Gumbel noise on the confidence, annealed to 0
    seed: int = 0  # 0 to 2^64 - 1
    candidates: int = 1  # how many to choose among, 1 to 256
    takes: int = 1  # how many of them to return, best first
    # ways to do less; the paper's sampler knows none of them
    schedule: str = "cosine"  # how the share of masked tokens falls: a name of runtime.decode.SCHEDULES
    guidance_from: float = 0.0  # share of the steps before guidance begins, 0 to 1; steps without it cost half
    guidance_until: float = 1.0  # share of the steps after which it ends
    budget: tuple[int, ...] = ()  # candidates kept at each of so many moments on the way: (4, 1) of 10

    def __post_init__(self) -> None:
        def check(name: str, low: float, high: float, kind: type = int) -> None:
            value = getattr(self, name)
            fits = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
            if not fits or not low <= value <= high:
                word = "a number" if kind is float else "a whole number"
                raise OptionError(f"{name} is {value!r}; it must be {word} from {low} to {high}")

        check("steps", 1, 1024)
        check("guidance", 0, 100, float)
        check("diversity", 0, 1000, float)
        check("seed", 0, MAX_SEED)
        check("candidates", 1, 256)
        check("takes", 1, self.candidates)
        check("guidance_from", 0, 1, float)
        check("guidance_until", self.guidance_from, 1, float)
        if self.schedule not in SCHEDULES:
            raise OptionError(f"schedule is {self.schedule!r}; choose from {', '.join(SCHEDULES)}")
        self._check_budget()

    def _check_budget(self) -> None:
        numbers = self.budget if isinstance(self.budget, tuple) else (None,)
        falling = all(type(n) is int for n in numbers) and all(a > b for a, b in pairwise((self.candidates, *numbers)))
        if not falling or (numbers and numbers[-1] < self.takes):
            raise OptionError(
                f"budget is {self.budget!r}; it must be falling whole numbers as (4, 1), below candidates "
                f"({self.candidates}), the last one at least takes ({self.takes})"
            )
        if len(numbers) >= self.steps:
            raise OptionError(f"budget has {len(numbers)} numbers; with {self.steps} steps there is room for fewer")


def read_budget(text: str) -> tuple[int, ...]:
    """A budget in the words of a command line: "4,1", or nothing. Raises OptionError."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise OptionError(f"budget is {text!r}; give falling whole numbers with commas between them, as 4,1") from error


@dataclass(frozen=True)
class Progress:
    """Where a generation stands. `fraction` of the whole is an estimate until the video has been read."""

    stage: str  # video, sample, codec, select
    window: int  # from 0
    step: int  # steps done in this window, by the candidates at work
    steps: int
    fraction: float  # never falls


@dataclass(frozen=True)
class Take:
    """One finished sound. `score` is the mean SCAV distance (lower is better), None where nothing was ranked."""

    audio: FloatArray  # [L] mono, within [-1, 1], exactly as long as the picture
    sample_rate: int
    candidate: int
    score: float | None
    codes: Int32Array  # [K, T]
    duration: Fraction  # of the picture, seconds
    report: dict[str, Any] = field(repr=False, compare=False)  # shared by the takes of one call
