"""What a generation is asked for besides its options: an earlier take to go on with, and changes to what it sees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from numbers import Real
from typing import Literal

from engines.contract import FloatArray
from runtime.edit.timecode import RANGE_HELP, TimeRange
from runtime.errors import OptionError
from runtime.rng import MAX_SEED
from runtime.sampling import SamplingConfig, number
from runtime.take import Take
from runtime.windows import Window

RangeLike = TimeRange | str | tuple[float | Fraction, float | Fraction]
FeatureHook = Callable[[Window, FloatArray], FloatArray]


@dataclass(frozen=True)
class GenerationRequest:
    """What to do besides making a new sound for all that is seen. `redo`, `vary` and `extend` make one.

    A hook gets a window and its frame features [1, N, frame_dim] and returns features of the same shape.
    """

    take: Take | None = None  # an earlier take of the same video, whose other tokens stay as they are
    kind: Literal["new", "redo", "vary", "extend"] = "new"
    range: TimeRange | None = (
        None  # redo, vary: the part to change (None: all); extend: the new range (None: to the end)
    )
    share: float = 1.0  # of the tokens in that part that are made anew
    other_clip: bool = False  # go on even if the video is not the take's
    picture: FeatureHook | None = None  # changes what is seen, before `condition`
    other_side: FeatureHook | None = None  # what guidance leads away from; None: [NULL]

    @property
    def has_hooks(self) -> bool:
        """Whether it has a hook, which may look at a window's pictures."""
        return self.picture is not None or self.other_side is not None

    def sampling(self) -> SamplingConfig:
        """The options if none are given: the defaults, or those of the take with the next seed and one candidate."""
        if self.take is None:
            return SamplingConfig()
        made = self.take.report.sampling
        return replace(made, seed=made.seed + 1 if made.seed < MAX_SEED else 0, candidates=1, takes=1, budget=())


def redo(take: Take, range: RangeLike, share: float = 1.0) -> GenerationRequest:
    """Fill a range of a take anew. All tokens outside of it stay the same.

    Seconds and frames count from the take's start, timecode is the video's. Raises OptionError.
    """
    return GenerationRequest(take, "redo", as_range(range), _share(share))


def vary(take: Take, share: float) -> GenerationRequest:
    """Fill about this share of a take's tokens anew, 0 to 1, spread evenly over time and codebooks; the rest stays.

    The positions follow from the seed. Raises OptionError.
    """
    return GenerationRequest(take, "vary", None, _share(share))


def extend(take: Take, range: RangeLike | None = None) -> GenerationRequest:
    """Continue a take to the end of the video, or to a longer range of the video that begins where the take does.

    All tokens that the take has stay the same. Raises OptionError.
    """
    return GenerationRequest(take, "extend", None if range is None else as_range(range))


def as_range(value: RangeLike) -> TimeRange:
    """A range from any form: a `TimeRange`, text such as "2.1-3.4", or two numbers of seconds. Raises OptionError."""
    if isinstance(value, TimeRange):
        return value
    if isinstance(value, str):
        return TimeRange.parse(value)
    try:
        begin, end = value
        if not all(isinstance(x, Real) and not isinstance(x, bool) and 0 <= x for x in (begin, end)):
            raise ValueError
        return TimeRange.of_seconds(*(x if isinstance(x, Fraction) else Fraction(repr(float(x))) for x in (begin, end)))
    except OptionError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"{value!r} is not a range; {RANGE_HELP}, or two numbers of seconds") from error


def _share(value: float) -> float:
    share = number("share", value, 0, 1)
    if share == 0:
        raise OptionError("share is 0; it must be above 0, because nothing would change")
    return share
