"""Frame rates, timecode and ranges of a video, in exact arithmetic.

A frame rate is a fraction: 29.97 means 30000/1001. Timecode numbers frames at the next whole rate, the time base. In
drop frame, the first numbers of most minutes are skipped (2 at 29.97, 4 at 59.94), so that it keeps to the clock.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Self

from runtime.errors import OptionError

SNAP = Fraction(1, 10000)  # relative difference up to which a rate counts as a standard one, such as 23.98
RATE_LIMIT = 1000  # frames per second
TIMECODE = re.compile(r"(\d{1,2})[:;](\d{2})[:;](\d{2})([:;])(\d{2,3})")
SECONDS, FRAMES = re.compile(r"\d+(?:\.\d+)?"), re.compile(r"(\d+)f")
RANGE_HELP = "give IN-OUT in seconds (2.1-3.4), frames (120f-180f) or timecode (01:00:02:05-01:00:04:00)"

Unit = Literal["seconds", "frames", "timecode"]


def exact_rate(rate: Fraction | float | str) -> Fraction:
    """Return frames per second as a fraction; a number close to a standard rate (23.976, 29.97) becomes that rate.

    Raises OptionError if it is not a frame rate.
    """
    try:
        value = Fraction(rate)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        raise OptionError(f"{rate} is not a frame rate; give a number such as 25, 29.97 or 30000/1001") from error
    if not 0 < value <= RATE_LIMIT:
        raise OptionError(f"the frame rate is {rate}; it must lie above 0 and be at most {RATE_LIMIT}")
    base = max(1, round(value))
    for standard in (Fraction(base), Fraction(base * 1000, 1001)):
        if abs(value - standard) <= SNAP * standard:
            return standard
    return value


def time_base(rate: Fraction) -> int:
    """Frame numbers in a second of timecode: the next whole rate."""
    return -(-rate.numerator // rate.denominator)


def dropped_per_minute(rate: Fraction) -> int:
    """Frame numbers that drop frame skips at the start of most minutes; 0 if the rate has no drop frame."""
    base = time_base(rate)
    return base // 15 if base % 30 == 0 and rate == Fraction(base * 1000, 1001) else 0


def rate_text(rate: Fraction) -> str:
    """A rate in the usual short form: 25, 29.97, 23.976."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def frame_samples(frames: int | Fraction, rate: Fraction, sample_rate: int) -> int:
    """Samples in a number of frames, rounded to the nearest."""
    return round(frames * sample_rate / rate)


@dataclass(frozen=True)
class Timecode:
    """A frame's number on the clock of a recording. `frame` counts from 00:00:00:00, and wraps around after a day."""

    frame: int
    rate: Fraction
    drop: bool = False

    def __post_init__(self) -> None:
        if self.drop and not dropped_per_minute(self.rate):
            raise OptionError(
                f"{rate_text(self.rate)} frames per second has no drop-frame timecode; write ':' before the frames"
            )

    @classmethod
    def parse(cls, text: str, rate: Fraction) -> Self:
        """Read HH:MM:SS:FF, or HH:MM:SS;FF for drop frame. Raises OptionError if the rate has no such timecode."""
        match = TIMECODE.fullmatch(text.strip())
        if not match:
            raise OptionError(f"{text} is not timecode; write HH:MM:SS:FF, or HH:MM:SS;FF for drop frame")
        hours, minutes, seconds, frames = (int(match[i]) for i in (1, 2, 3, 5))
        base, drop = time_base(rate), match[4] == ";"
        if hours > 23 or minutes > 59 or seconds > 59:
            raise OptionError(f"there is no timecode {text}; hours go to 23, minutes and seconds to 59")
        if frames >= base:
            raise OptionError(
                f"there is no timecode {text} at {rate_text(rate)} frames per second; frames go to {base - 1:02}"
            )
        whole_minutes = 60 * hours + minutes
        number = (60 * whole_minutes + seconds) * base + frames
        code = cls(number, rate, drop)
        if drop:
            skipped = dropped_per_minute(rate)
            if minutes % 10 and seconds == 0 and frames < skipped:
                raise OptionError(
                    f"there is no timecode {text}: drop frame at {rate_text(rate)} skips the frames 00 to "
                    f"{skipped - 1:02} there; the next one is {text[: match.start(5)]}{skipped:02}"
                )
            code = cls(number - skipped * (whole_minutes - whole_minutes // 10), rate, drop)
        return code

    def __str__(self) -> str:
        base, number = time_base(self.rate), self.frame % self.day
        if self.drop:
            skipped = dropped_per_minute(self.rate)
            minute, ten = 60 * base - skipped, 600 * base - 9 * skipped
            tens, rest = divmod(number, ten)
            number += 9 * skipped * tens + skipped * max(0, (rest - skipped) // minute)
        seconds, frames = divmod(number, base)
        mark = ";" if self.drop else ":"
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frames:02}"

    @property
    def day(self) -> int:
        """Frames in 24 hours of timecode."""
        return 1440 * 60 * time_base(self.rate) - (1440 - 144) * (dropped_per_minute(self.rate) if self.drop else 0)

    @property
    def seconds(self) -> Fraction:
        """Time since 00:00:00:00. An hour of timecode without drop frame lasts 3603.6 s at 29.97."""
        return self.frame / self.rate

    def samples(self, sample_rate: int) -> int:
        """Samples since 00:00:00:00: the TimeReference of a broadcast WAV."""
        return frame_samples(self.frame, self.rate, sample_rate)

    def plus(self, frames: int) -> "Timecode":
        """Return the timecode of a later frame, past midnight if need be."""
        return Timecode((self.frame + frames) % self.day, self.rate, self.drop)


@dataclass(frozen=True)
class Span:
    """A part of a video, [begin, end) in seconds after the first picture, and in frames if the video counts them."""

    begin: Fraction
    end: Fraction
    rate: Fraction | None = None  # frames per second; None for a video of variable rate
    frames: tuple[int, int] | None = None  # [first, end)

    @classmethod
    def of_frames(cls, first: int, end: int, rate: Fraction) -> Self:
        """The frames [first, end) of a video."""
        return cls(first / rate, end / rate, rate, (first, end))

    @property
    def seconds(self) -> Fraction:
        """How long the part lasts."""
        return self.end - self.begin

    def samples(self, sample_rate: int) -> int:
        """Samples of its sound: the rounded exact length."""
        return round(self.seconds * sample_rate)


@dataclass(frozen=True)
class TimeRange:
    """IN-OUT as it was given. `resolve` turns it into a part of one video."""

    unit: Unit
    begin: str
    end: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read IN-OUT in seconds, frames or timecode. Raises OptionError with the accepted forms."""
        parts = [part.strip() for part in text.split("-")]
        units = [_unit(part) for part in parts]
        if len(parts) != 2 or None in units:
            raise OptionError(f"{text} is not a range; {RANGE_HELP}")
        if units[0] != units[1] or units[0] is None:
            raise OptionError(f"the range {text} mixes {units[0]} and {units[1]}; use the same unit for IN and OUT")
        result = cls(units[0], *parts)
        if result.unit != "timecode":
            begin, end = (Fraction(part.removesuffix("f")) for part in parts)
            _check_order(text, begin, end)
        return result

    @classmethod
    def of_seconds(cls, begin: Fraction, end: Fraction) -> Self:
        """The range between two times. Raises OptionError if it is reversed or empty."""
        _check_order(f"{float(begin):g}-{float(end):g}", begin, end)
        return cls("seconds", str(begin), str(end))

    def __str__(self) -> str:
        if self.unit == "seconds" and "/" in self.begin + self.end:
            return f"{float(Fraction(self.begin)):g}-{float(Fraction(self.end)):g}"
        return f"{self.begin}-{self.end}"

    def resolve(
        self,
        rate: Fraction | None,
        start: Timecode | None = None,
        duration: Fraction | None = None,
        whole: str = "video",
    ) -> Span:
        """Find the part of a video: frames if the video has a constant `rate`, and seconds if not (rate None).

        Seconds become the nearest frames. Timecode counts from `start`, the timecode of the first picture (None:
        00:00:00:00). `duration` is the video's length in seconds, if it is known. `whole` is what errors call it.
        Raises OptionError for a range that is reversed, empty, or outside the video.
        """
        if rate is None:
            span = self._resolve_seconds()
        else:
            first, end = self._frames(rate, start)
            _check_order(str(self), first, end, f" at {rate_text(rate)} frames per second")
            span = Span.of_frames(first, end, rate)
        self._check_inside(span, start, duration, whole)
        return span

    def _resolve_seconds(self) -> Span:
        if self.unit != "seconds":
            raise OptionError(f"the video's frame rate varies, so the range {self} must be in seconds, such as 2.1-3.4")
        return Span(Fraction(self.begin), Fraction(self.end))

    def _frames(self, rate: Fraction, start: Timecode | None) -> tuple[int, int]:
        if self.unit == "seconds":
            return round(Fraction(self.begin) * rate), round(Fraction(self.end) * rate)
        if self.unit == "frames":
            return int(self.begin[:-1]), int(self.end[:-1])
        origin = start or Timecode(0, rate, ";" in self.begin)
        first, end = (_frames_after(origin, Timecode.parse(text, rate), text) for text in (self.begin, self.end))
        return first, end

    def _check_inside(self, span: Span, start: Timecode | None, duration: Fraction | None, whole: str) -> None:
        if span.begin >= 0 and (duration is None or span.end <= duration):
            return
        first = f", and its first picture is at {start}" if self.unit == "timecode" and start else ""
        length = "" if duration is None else f"; the {whole} lasts {float(duration):.3f} s"
        frames = f" ({round(duration * span.rate)} frames)" if duration is not None and span.rate is not None else ""
        raise OptionError(f"the range {self} is not inside the {whole}{length}{frames}{first}")


def _unit(text: str) -> Unit | None:
    if SECONDS.fullmatch(text):
        return "seconds"
    if FRAMES.fullmatch(text):
        return "frames"
    return "timecode" if TIMECODE.fullmatch(text) else None


def _check_order(text: str, begin: Fraction | int, end: Fraction | int, where: str = "") -> None:
    if begin > end:
        raise OptionError(f"the range {text} ends before it begins; give the earlier time first")
    if begin == end:
        raise OptionError(f"the range {text} has no frame{where}; OUT is the first frame after the range")


def _frames_after(start: Timecode, code: Timecode, text: str) -> int:
    """Frames from the first picture to a timecode. A video may run past midnight; more than half a day is negative."""
    if start.drop != code.drop:
        kind, mark = ("drop frame", ";") if start.drop else ("non-drop timecode", ":")
        raise OptionError(f"the video counts in {kind}, so {text} needs '{mark}' before the frames")
    after = (code.frame - start.frame) % start.day
    return after if after <= start.day // 2 else after - start.day
