"""Loudness by EBU R 128 against signals of known level, and the gain that follows from it."""

from dataclasses import astuple, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime import MediaError, OptionError
from runtime.deliver.levels import Gain, check_own_sound, choose_gain, decibels, fade_ends, own_sound
from runtime.deliver.loudness import Loudness, measure_loudness
from tests.support.media import Picture, Sound, steady, write_video

RATES = [44100, 48000]


def tone(level: float, seconds: float, rate: int, frequency: float = 997.0) -> np.ndarray:
    """A sine of that level in dBFS, faded at its ends."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 10 ** (level / 20) * np.sin(2 * np.pi * frequency * t)
    return fade_ends(wave.astype(np.float32), rate // 100)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_of_23_dbfs_measures_23_lufs_on_two_speakers(rate: int) -> None:
    """EBU Tech 3341, case 1: a stereo sine of -23 dBFS at 1 kHz is -23 LUFS; one speaker alone gives 3 LU less."""
    found = measure_loudness(tone(-23, 20, rate), rate)
    assert found.dual_mono
    assert found.integrated == pytest.approx(-23, abs=0.1)
    assert found.momentary_max == pytest.approx(-23, abs=0.1) and found.short_term_max == pytest.approx(-23, abs=0.1)
    assert found.range == pytest.approx(0, abs=0.1) and found.true_peak == pytest.approx(-23, abs=0.3)
    one = measure_loudness(tone(-23, 20, rate), rate, dual_mono=False)
    assert one.integrated == pytest.approx(-26.01, abs=0.1) and not one.dual_mono


def test_maxima_are_those_of_the_loudest_moment() -> None:
    """EBU Tech 3341, case 3, shortened: the quiet parts fall below the relative gate."""
    quiet, loud = tone(-36, 5, 48000), tone(-23, 30, 48000)
    found = measure_loudness(np.concatenate([quiet, loud, quiet]), 48000)
    assert found.integrated == pytest.approx(-23, abs=0.1)
    assert found.momentary_max == pytest.approx(-23, abs=0.1) and found.short_term_max == pytest.approx(-23, abs=0.1)


def test_loudness_range_of_two_levels() -> None:
    """EBU Tech 3342, case 1: 20 s at -20 and 20 s at -30 dBFS have a range of 10 LU."""
    found = measure_loudness(np.concatenate([tone(-20, 20, 48000), tone(-30, 20, 48000)]), 48000)
    assert found.range == pytest.approx(10, abs=1)


def test_true_peak_lies_between_the_samples() -> None:
    """EBU Tech 3341, case 16: a quarter of the rate, sampled 45 degrees from its peaks, is 3 dB above its samples."""
    t = np.arange(48000)
    wave = (0.5 * np.sin(2 * np.pi * t / 4 + np.pi / 4)).astype(np.float32)
    wave = fade_ends(wave, 4800)
    assert 20 * np.log10(np.abs(wave).max()) == pytest.approx(-9.03, abs=0.01)
    assert measure_loudness(wave, 48000).true_peak == pytest.approx(-6.02, abs=0.2)


def test_the_peak_of_a_quiet_sound_is_not_rounded_away() -> None:
    wave = tone(-70.5, 1, 48000)
    assert measure_loudness(wave, 48000).true_peak == pytest.approx(-70.5, abs=0.05)


def test_a_peak_at_the_very_end_counts() -> None:
    wave = np.zeros(48017, np.float32)
    wave[-1] = 0.5
    assert measure_loudness(wave, 48000).true_peak == pytest.approx(-6.02, abs=0.5)


@pytest.mark.parametrize("rate", RATES)
def test_what_a_short_or_silent_sound_does_not_have(rate: int) -> None:
    assert astuple(measure_loudness(np.zeros(0, np.float32), rate)) == (None,) * 5 + (True,)
    assert astuple(measure_loudness(np.zeros(5 * rate, np.float32), rate)) == (None,) * 5 + (True,)
    short = measure_loudness(tone(-20, 0.35, rate), rate)
    assert short.integrated is None and short.momentary_max is None and short.true_peak is not None
    one = measure_loudness(tone(-20, 1, rate), rate)
    assert one.integrated is not None and one.short_term_max is None and one.range is None
    three = measure_loudness(tone(-20, 3, rate), rate)
    assert three.short_term_max == pytest.approx(-20, abs=0.1) and three.range is None
    assert measure_loudness(tone(-20, 3.6, rate), rate).range == pytest.approx(0, abs=0.5)
    faint = measure_loudness(tone(-90, 5, rate), rate)
    assert faint.integrated is None and faint.true_peak == pytest.approx(-90, abs=0.3)


# ---------------------------------------------------------------- gain
def test_the_gain_reaches_the_target() -> None:
    audio = tone(-30, 5, 48000)
    gain = choose_gain(measure_loudness(audio, 48000), 0.0, -23.0, -1.0)
    assert gain.set_by == "lufs" and gain.decibels == pytest.approx(7, abs=0.1)
    assert measure_loudness(audio * decibels(gain.decibels), 48000).integrated == pytest.approx(-23, abs=0.05)


def test_the_peak_wins_over_loudness_and_gain() -> None:
    audio = tone(-30, 5, 48000)
    audio[48000] = 0.5  # a click of -6 dBFS
    before = measure_loudness(audio, 48000)
    for gain in (choose_gain(before, 0.0, -20.0, -1.0), choose_gain(before, 12.0, None, -1.0)):
        assert gain.set_by == "peak" and gain.decibels < 7
        after = measure_loudness(audio * decibels(gain.decibels), 48000)
        assert after.true_peak == pytest.approx(-1, abs=0.02)


def test_without_a_reason_the_gain_is_the_given_one() -> None:
    quiet = measure_loudness(tone(-30, 1, 48000), 48000)
    assert choose_gain(quiet, -3.5, None, None) == Gain(-3.5, "gain")
    assert choose_gain(quiet, 0.0, None, -1.0) == Gain(0.0, "gain")  # a limit lifts nothing
    silent = measure_loudness(np.zeros(48000, np.float32), 48000)
    assert choose_gain(silent, 3.0, None, -1.0) == Gain(3.0, "gain")


@pytest.mark.parametrize("audio", [np.zeros(96000, np.float32), tone(-20, 0.2, 48000)])
def test_silence_cannot_have_a_loudness(audio: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"cannot be brought to -23 LUFS: it is silent, or shorter than 0.4 s"):
        choose_gain(measure_loudness(audio, 48000), 0.0, -23.0, None)


def test_a_peak_at_its_limit_is_not_lowered_by_rounding() -> None:
    loudness = replace(Loudness(-20, 0, -20, -20, -1.0, True), true_peak=-0.998)
    assert choose_gain(loudness, 0.0, None, -1.0).set_by == "gain"
    assert choose_gain(replace(loudness, true_peak=-0.9), 0.0, None, -1.0).decibels == pytest.approx(-0.1)


# ---------------------------------------------------------------- fades and the video's own sound
def test_fades_are_smooth_symmetric_and_short() -> None:
    audio = np.ones(1000, np.float32)
    faded = fade_ends(audio, 100)
    assert faded[0] < 0.001 and np.all(np.diff(faded[:100]) > 0) and np.all(faded[100:900] == 1)
    assert np.array_equal(faded, faded[::-1]) and audio.min() == 1
    assert fade_ends(audio, 0) is audio
    assert np.array_equal(fade_ends(audio, 5000), fade_ends(audio, 500))  # at most half of the sound
    assert len(fade_ends(audio[:1], 100)) == 1


def test_the_own_sound_keeps_its_place(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 24000)).astype(np.float32)
    picture = Picture(steady(20, 10, start=Fraction(3, 10)), last=Fraction(1, 10))
    path = write_video(tmp_path / "x.mkv", picture, Sound(noise, 48000, "pcm_s16le", start=0.5))
    own = own_sound(path, 48000, Fraction(3, 10), 96000, 3600)  # the picture begins at 0.3 s, the sound at 0.5 s
    assert own.shape == (96000,) and not own[:9600].any() and not own[9600 + 24000 :].any()
    assert np.abs(own[9600 : 9600 + 24000] - noise.mean(axis=0)).max() < 1e-4
    later = own_sound(path, 48000, Fraction(3, 10) + 1, 100, 3600)  # a range that begins a second later
    assert not later.any()
    inside = own_sound(path, 48000, Fraction(3, 5), 1000, 3600)
    assert np.abs(inside - noise.mean(axis=0)[4800:5800]).max() < 1e-4


def test_a_video_without_sound_has_nothing_to_mix(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mp4", Picture(steady(5, 10)))
    with pytest.raises(OptionError, match="has no sound to mix with; leave out --mix"):
        check_own_sound(path)
    with pytest.raises(MediaError, match="has no sound to mix with"):
        own_sound(path, 48000, Fraction(0), 100, 3600)
