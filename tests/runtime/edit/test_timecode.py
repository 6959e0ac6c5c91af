"""Timecode, ranges and sample counts: exact arithmetic over the usual frame rates, checked against OpenTimelineIO."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import OptionError
from runtime.edit.timecode import Span, Timecode, TimeRange, dropped_per_minute, exact_rate, frame_samples, time_base

RATES = {"23.976": "24000/1001", "24": "24", "25": "25", "29.97": "30000/1001", "30": "30", "50": "50"}
RATES["59.94"] = "60000/1001"
PAL, NTSC = Fraction(25), Fraction(30000, 1001)
rates = st.sampled_from([Fraction(text) for text in RATES.values()])
frames = st.integers(0, 24 * 3600 * 23)  # less than a day at every rate


def drops(rate: Fraction) -> list[bool]:
    return [False, True] if dropped_per_minute(rate) else [False]


@pytest.mark.parametrize(("short", "exact"), RATES.items())
def test_short_forms_of_rates_become_exact(short: str, exact: str) -> None:
    assert exact_rate(short) == exact_rate(float(short)) == exact_rate(exact) == Fraction(exact)
    assert exact_rate(Fraction(exact) * Fraction(100001, 100000)) == Fraction(exact)  # an average by the file's clock


def test_other_rates_stay_as_they_are() -> None:
    assert exact_rate(Fraction(91, 4)) == Fraction(91, 4)
    assert exact_rate(12.5) == Fraction(25, 2)
    for wrong in (0, -25, "x", "1/0", float("nan"), float("inf"), 1001):
        with pytest.raises(OptionError, match="frame rate"):
            exact_rate(wrong)


# ---------------------------------------------------------------- timecode
@pytest.mark.parametrize(
    ("text", "rate", "frame", "reference"),
    [
        ("10:00:00:00", PAL, 900000, 1728000000),
        ("01:00:00;00", NTSC, 107892, 172799827),
        ("01:00:00:00", NTSC, 108000, 172972800),
        ("01:00:00:00", Fraction(24000, 1001), 86400, 172972800),
        ("01:00:00;00", Fraction(60000, 1001), 215784, 172799827),
        ("00:00:59;29", NTSC, 1799, 2881278),
        ("00:01:00;02", NTSC, 1800, 2882880),
        ("00:10:00;00", NTSC, 17982, 28799971),
        ("23:59:59;29", NTSC, 2589407, 4147194251),
    ],
)
def test_known_timecodes(text: str, rate: Fraction, frame: int, reference: int) -> None:
    code = Timecode.parse(text, rate)
    assert (code.frame, code.samples(48000), str(code)) == (frame, reference, text)


@settings(deadline=None)
@given(frames, rates)
def test_timecode_survives_text(frame: int, rate: Fraction) -> None:
    for drop in drops(rate):
        code = Timecode(frame, rate, drop)
        assert Timecode.parse(str(code), rate) == code
        if drop:  # some programs write ; throughout
            assert Timecode.parse(str(code).replace(":", ";"), rate) == code


@settings(deadline=None)
@given(frames, rates)
def test_opentimelineio_gives_the_same_timecode(frame: int, rate: Fraction) -> None:
    opentime = pytest.importorskip("opentimelineio", reason="needs opentimelineio: pip install '.[test]'").opentime
    for drop in drops(rate):
        text = opentime.RationalTime(frame, float(rate)).to_timecode(float(rate), drop_frame=drop)
        assert str(Timecode(frame, rate, drop)) == text
        assert opentime.from_timecode(text, float(rate)).value == frame


@pytest.mark.parametrize("rate", [NTSC, Fraction(60000, 1001)])
def test_drop_frame_skips_numbers_and_keeps_to_the_clock(rate: Fraction) -> None:
    base, skipped = time_base(rate), dropped_per_minute(rate)
    texts = [str(Timecode(n, rate, True)) for n in range(base * 60 * 21)]
    missing = {f"00:{m:02}:00;{f:02}" for m in range(21) if m % 10 for f in range(skipped)}
    assert len(set(texts)) == len(texts) and not missing & set(texts)
    assert all(a < b for a, b in pairwise(texts))
    for text in missing:
        with pytest.raises(OptionError, match=f"skips the frames 00 to 0{skipped - 1} there; the next one is .*;0"):
            Timecode.parse(text, rate)
    day = Timecode(0, rate, True).day
    assert abs(day / rate - 86400) < Fraction(1, 10)


def test_timecode_wraps_at_midnight() -> None:
    for rate, drop in ((PAL, False), (NTSC, True), (NTSC, False)):
        last = Timecode(Timecode(0, rate, drop).day - 1, rate, drop)
        assert str(last)[:8] == "23:59:59" and str(last.plus(1)) == f"00:00:00{';' if drop else ':'}00"


@pytest.mark.parametrize(
    ("text", "rate", "message"),
    [
        ("01:00:00:25", PAL, "no timecode 01:00:00:25 at 25 frames per second; frames go to 24"),
        ("01:00:00:30", NTSC, "at 29.97 frames per second; frames go to 29"),
        ("01:00:60:00", PAL, "hours go to 23, minutes and seconds to 59"),
        ("24:00:00:00", PAL, "hours go to 23"),
        ("01:00:00;00", PAL, "25 frames per second has no drop-frame timecode; write ':'"),
        ("01:00:00;00", Fraction(24000, 1001), "23.976 frames per second has no drop-frame timecode"),
        ("01:00:00", PAL, "01:00:00 is not timecode; write HH:MM:SS:FF"),
        ("-1:00:00:00", PAL, "is not timecode"),
    ],
)
def test_timecode_that_the_rate_does_not_have(text: str, rate: Fraction, message: str) -> None:
    with pytest.raises(OptionError) as error:
        Timecode.parse(text, rate)
    assert message in str(error.value)


# ---------------------------------------------------------------- ranges
@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10**5), rates, st.sampled_from([44100, 48000]))
def test_a_range_has_exactly_the_samples_of_its_frames(first: int, length: int, rate: Fraction, hertz: int) -> None:
    span = TimeRange.parse(f"{first}f-{first + length}f").resolve(rate)
    num, den = rate.numerator, rate.denominator
    assert span == Span.of_frames(first, first + length, rate)
    assert span.samples(hertz) == round(Fraction(length * hertz * den, num)) == frame_samples(length, rate, hertz)
    assert abs(span.samples(hertz) - length * hertz / rate) <= Fraction(1, 2)


@settings(deadline=None)
@given(st.integers(0, 80000), st.integers(1, 5000), st.integers(0, 10**6), rates)
def test_frames_seconds_and_timecode_name_the_same_range(first: int, length: int, start: int, rate: Fraction) -> None:
    end = first + length
    span = Span.of_frames(first, end, rate)
    seconds = [f"{float(n / rate):.4f}" for n in (first, end)]
    assert TimeRange.parse("-".join(seconds)).resolve(rate) == span
    for drop in drops(rate):
        origin = Timecode(start, rate, drop)
        text = f"{origin.plus(first)}-{origin.plus(end)}"
        assert TimeRange.parse(text).resolve(rate, origin) == span


def test_timecode_counts_from_the_start_of_the_video_and_seconds_do_not() -> None:
    start = Timecode.parse("01:00:00:00", PAL)
    assert TimeRange.parse("01:00:02:05-01:00:04:00").resolve(PAL, start) == Span.of_frames(55, 100, PAL)
    assert TimeRange.parse("00:00:02:05-00:00:04:00").resolve(PAL) == Span.of_frames(55, 100, PAL)
    assert TimeRange.parse("2.2-4").resolve(PAL, start) == Span.of_frames(55, 100, PAL)
    late = Timecode.parse("23:59:59:00", PAL)
    assert TimeRange.parse("23:59:59:10-00:00:01:00").resolve(PAL, late) == Span.of_frames(10, 50, PAL)


def test_a_video_of_variable_rate_takes_seconds() -> None:
    span = TimeRange.parse("2.1-3.4").resolve(None)
    assert (span.begin, span.end, span.frames, span.rate) == (Fraction("2.1"), Fraction("3.4"), None, None)
    assert span.samples(44100) == 57330 and span.seconds == Fraction("1.3")
    for text in ("1f-2f", "00:00:01:00-00:00:02:00"):
        with pytest.raises(OptionError, match=r"frame rate varies, so the range .* must be in seconds"):
            TimeRange.parse(text).resolve(None)


@pytest.mark.parametrize("text", ["", "3", "a-b", "1-2-3", "-1-3", "1:2-3", "1f-", "1e3-2e3", "nan-inf", "1.5f-2f"])
def test_what_is_not_a_range(text: str) -> None:
    with pytest.raises(OptionError, match=r"is not a range; give IN-OUT in seconds \(2.1-3.4\), frames"):
        TimeRange.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3.4-2.1", "the range 3.4-2.1 ends before it begins"),
        ("30f-20f", "ends before it begins"),
        ("00:00:02:00-00:00:01:00", "ends before it begins"),
        ("2-2", "has no frame"),
        ("7f-7f", "has no frame"),
        ("2.001-2.002", "has no frame at 25 frames per second"),
        ("1-50f", "mixes seconds and frames"),
        ("8-11", "the range 8-11 is not inside the video; the video lasts 10.000 s (250 frames)"),
        ("251f-252f", "is not inside the video"),
        ("00:00:01;00-00:00:02;00", "25 frames per second has no drop-frame timecode"),
    ],
)
def test_ranges_that_a_video_does_not_have(text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        TimeRange.parse(text).resolve(PAL, None, Fraction(10))
    assert message in str(error.value)


def test_timecode_outside_of_the_video_names_its_start() -> None:
    start = Timecode.parse("01:00:00;00", NTSC)
    with pytest.raises(OptionError, match="its first picture is at 01:00:00;00"):
        TimeRange.parse("00:59:59;00-01:00:01;00").resolve(NTSC, start, Fraction(10))
    with pytest.raises(OptionError, match="counts in drop frame, so 01:00:01:00 needs ';' before the frames"):
        TimeRange.parse("01:00:01:00-01:00:02:00").resolve(NTSC, start)
    with pytest.raises(OptionError, match="counts in non-drop timecode, so 01:00:01;00 needs ':'"):
        TimeRange.parse("01:00:01;00-01:00:02;00").resolve(NTSC, Timecode.parse("01:00:00:00", NTSC))
