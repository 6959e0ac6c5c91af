"""The options of a generation, and its progress. The sampling loop itself is in runtime.decode."""

from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Literal

from runtime.decode import SCHEDULES
from runtime.errors import OptionError
from runtime.rng import MAX_SEED

Stage = Literal[
    "video",  # decode the video and encode its pictures
    "sample",  # unmask tokens, step by step
    "select",  # score candidates
    "codec",  # turn tokens into sound
]


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int. Raises OptionError unless it is an integer from `low` to `high`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= int(value) <= high:
        raise OptionError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")
    return int(value)


def number(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float. Raises OptionError unless it is a real number from `low` to `high`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low <= float(value) <= high:
        raise OptionError(f"{name} is {value!r}; it must be a number from {low} to {high}")
    return float(value)


@dataclass(frozen=True)
class SamplingConfig:
    """Options of one generation. The defaults are the paper's (section 4.0.3).

    NumPy numbers are accepted and stored as plain ints and floats. Raises OptionError if a value is not allowed.
    """

    steps: int = 32  # unmasking steps, 1 to 1024
    guidance: float = 3.0  # (1 + g) * conditional - g * null; 0 turns it off and costs nothing. The paper: 2 to 4
    diversity: float = 8.0  # scale of the Gumbel noise on the confidence, annealed to 0
    seed: int = 0  # 0 to 2^64 - 1
    candidates: int = 1  # sounds to choose among, 1 to 256
    takes: int = 1  # sounds to return, the best first
    # ways to save time that the paper's sampler does not have
    schedule: str = "cosine"  # how the share of masked tokens falls: a name in runtime.decode.SCHEDULES
    guidance_from: float = 0.0  # share of the steps before guidance begins, 0 to 1; steps without it cost half
    guidance_until: float = 1.0  # share of the steps after which guidance ends
    budget: tuple[int, ...] = ()  # candidates to keep at each of several points on the way, e.g. (4, 1) out of 10

    def __post_init__(self) -> None:
        def store(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # the dataclass is frozen

        store("steps", whole_number("steps", self.steps, 1, 1024))
        store("guidance", number("guidance", self.guidance, 0, 100))
        store("diversity", number("diversity", self.diversity, 0, 1000))
        store("seed", whole_number("seed", self.seed, 0, MAX_SEED))
        store("candidates", whole_number("candidates", self.candidates, 1, 256))
        store("takes", whole_number("takes", self.takes, 1, self.candidates))
        store("guidance_from", number("guidance_from", self.guidance_from, 0, 1))
        store("guidance_until", number("guidance_until", self.guidance_until, self.guidance_from, 1))
        if self.schedule not in SCHEDULES:
            raise OptionError(f"schedule is {self.schedule!r}; choose from {', '.join(SCHEDULES)}")
        store("budget", self._checked_budget())

    def _checked_budget(self) -> tuple[int, ...]:
        given: object = self.budget
        whole = isinstance(given, tuple) and all(isinstance(n, Integral) and not isinstance(n, bool) for n in given)
        kept = tuple(int(n) for n in self.budget) if whole else ()
        falling = whole and all(a > b for a, b in pairwise((self.candidates, *kept)))
        if not falling or (kept and kept[-1] < self.takes):
            raise OptionError(
                f"budget is {self.budget!r}; it must be falling whole numbers such as (4, 1), below candidates "
                f"({self.candidates}), the last one at least takes ({self.takes})"
            )
        if len(kept) >= self.steps:
            raise OptionError(
                f"budget has {len(kept)} numbers; with {self.steps} steps there is room for {self.steps - 1} at most"
            )
        return kept

    def check_stream(self) -> None:
        """Raise OptionError unless one candidate is left after the first window, whose sound is heard first."""
        if (self.budget or (self.candidates,))[-1] > 1:
            raise OptionError(
                f"candidates is {self.candidates}; a stream is heard before the last window is made, so it cannot wait "
                "for their ranking: give 1, or a budget that ends in 1, which chooses in the first window"
            )


def read_budget(text: str) -> tuple[int, ...]:
    """Read a budget as given on the command line: "4,1", or "" for none. Raises OptionError."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise OptionError(f"budget is {text!r}; give falling whole numbers separated by commas, such as 4,1") from error


@dataclass(frozen=True)
class Progress:
    """How far a generation has come. `fraction` is an estimate; it never falls and is 1.0 once, in the last report."""

    stage: Stage  # what is being done
    window: int  # from 0
    step: int  # unmasking steps done in this window
    steps: int  # unmasking steps of a window
    fraction: float  # of the whole generation, 0 to 1
