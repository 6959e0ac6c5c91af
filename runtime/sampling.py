"""What a caller gives to a generation and gets from it."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from engines.contract import FloatArray, Int32Array
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
