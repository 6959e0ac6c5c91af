"""From a take to a file: every option, what it changes, and that the defaults change nothing."""

from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime import OptionError, Take
from runtime.audio import read_audio, resample, write_wav
from runtime.deliver.delivery import DeliveryConfig, at_rate, deliver_take, sound_content, write_take
from runtime.deliver.levels import fade_ends
from runtime.deliver.loudness import measure_loudness
from runtime.edit.timecode import Span, Timecode
from tests.support.takes import REPORT, make_take

RATE = 44100
PAL = Fraction(25)
MADE = datetime(2026, 11, 29, 12, 0, 0)


def noise(seconds: float = 4.0, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, round(seconds * RATE)).astype(np.float32)


def take(audio: np.ndarray | None = None) -> Take:
    audio = noise() if audio is None else audio
    return make_take(audio, duration=Fraction(len(audio), RATE), report=replace(REPORT, samples=len(audio)))


# ---------------------------------------------------------------- defaults
def test_the_defaults_write_the_same_bytes_as_ever(tmp_path: Path) -> None:
    sound = deliver_take(take(), DeliveryConfig())
    assert sound.audio is sound.samples() is sound.take.audio and sound.warnings == ()
    write_take(tmp_path / "a.wav", sound, DeliveryConfig())
    write_wav(tmp_path / "b.wav", noise(), RATE)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_another_rate_writes_the_same_bytes_as_ever(tmp_path: Path) -> None:
    config = DeliveryConfig(rate=48000)
    write_take(tmp_path / "a.wav", deliver_take(take(), config), config)
    write_wav(tmp_path / "b.wav", resample(noise(), RATE, 48000)[: 4 * 48000], 48000)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_length_at_another_rate_is_that_of_the_picture() -> None:
    for duration in (Fraction(1001, 1000), Fraction(1, 7)):
        audio = noise(float(duration))
        assert len(at_rate(audio, RATE, duration, 48000)) == round(duration * 48000)


def test_facts_of_a_plain_file(tmp_path: Path) -> None:
    facts = write_take(tmp_path / "a.wav", deliver_take(take(), DeliveryConfig()), DeliveryConfig())
    loudness = facts.pop("loudness")
    assert facts == {
        "rate": RATE, "bits": "16", "channels": 1, "samples": 4 * RATE, "gain": {"decibels": 0.0, "set_by": "gain"},
    }  # fmt: skip
    assert loudness["integrated"] == measure_loudness(noise(), RATE).integrated and loudness["dual_mono"] is True
    assert set(loudness) == {
        "integrated", "range", "momentary_max", "short_term_max", "true_peak", "dual_mono",
    }  # fmt: skip


# ---------------------------------------------------------------- levels
def test_gain_is_in_decibels() -> None:
    sound = deliver_take(take(), DeliveryConfig(gain=-6))
    assert np.allclose(sound.audio, noise() * 10 ** (-6 / 20), rtol=1e-6)
    assert sound.loudness.integrated == pytest.approx(measure_loudness(noise(), RATE).integrated - 6, abs=0.02)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_target_loudness_is_reached(tmp_path: Path, channels: int) -> None:
    config = DeliveryConfig(lufs=-23, peak=-1, bits="24", rate=48000, channels=channels)
    sound = deliver_take(take(), config)
    facts = write_take(tmp_path / "a.wav", sound, config)
    assert sound.warnings == () and facts["gain"]["set_by"] == "lufs"
    assert facts["loudness"]["integrated"] == pytest.approx(-23, abs=0.05)
    assert measure_loudness(read_audio(tmp_path / "a.wav", 48000), 48000).integrated == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("peak", [None, -3.0])
def test_the_peak_wins_and_the_report_says_so(peak: float | None) -> None:
    limit = -1.0 if peak is None else peak
    sound = deliver_take(take(), DeliveryConfig(lufs=-1, peak=peak))
    assert sound.gain.set_by == "peak" and sound.loudness.true_peak == pytest.approx(limit, abs=0.02)
    (warning,) = sound.warnings
    assert "LUFS and not -1: a louder sound would exceed the true peak of" in warning and f"{limit:g} dBTP" in warning


def test_a_peak_alone_only_lowers() -> None:
    assert np.array_equal(deliver_take(take(), DeliveryConfig(peak=-1)).audio, noise())
    loud = deliver_take(take(noise(level=1.0)), DeliveryConfig(peak=-6))
    assert loud.loudness.true_peak == pytest.approx(-6, abs=0.02) and loud.gain.decibels < 0


def test_silence_has_no_target() -> None:
    silent = take(np.zeros(RATE, np.float32))
    with pytest.raises(OptionError, match="cannot be brought to -23 LUFS"):
        deliver_take(silent, DeliveryConfig(lufs=-23))
    assert not deliver_take(silent, DeliveryConfig(gain=20, peak=-1)).audio.any()


@pytest.mark.parametrize("bits", ["16", "float"])
def test_clipping_is_reported_and_float_files_keep_it(tmp_path: Path, bits: str) -> None:
    config = DeliveryConfig(gain=30, bits=bits)
    sound = deliver_take(take(), config)
    write_take(tmp_path / "a.wav", sound, config)
    loudest = np.abs(read_audio(tmp_path / "a.wav", RATE)).max()
    if bits == "float":
        assert sound.warnings == () and loudest > 3
    else:
        (warning,) = sound.warnings
        assert "samples are louder than full scale and are clipped; use --peak -1" in warning and loudest <= 1


def test_ranges_are_faded_and_whole_videos_are_not() -> None:
    span = Span.of_frames(50, 150, PAL)
    five = round(0.005 * RATE)
    assert np.array_equal(deliver_take(take(), DeliveryConfig(), span).audio, fade_ends(noise(), five))
    assert np.array_equal(deliver_take(take(), DeliveryConfig(fade=0), span).audio, noise())
    ten = deliver_take(take(), DeliveryConfig(fade=10)).audio
    assert np.array_equal(ten, fade_ends(noise(), 441))


def test_a_mix_adds_the_take_to_the_own_sound() -> None:
    own = noise(seed=1)
    mixed = deliver_take(take(), DeliveryConfig(mix=-12), own=own).audio
    assert np.allclose(mixed, own + noise() * 10 ** (-12 / 20), atol=1e-7)
    for wrong in (None, own[:-1]):
        with pytest.raises(OptionError, match="needs the video's own sound"):
            deliver_take(take(), DeliveryConfig(mix=0), own=wrong)


# ---------------------------------------------------------------- files
def test_a_broadcast_wav_says_where_it_belongs(tmp_path: Path) -> None:
    config = DeliveryConfig(bwf=True, bits="24", rate=48000)
    start, span = Timecode.parse("10:00:00:00", PAL), Span.of_frames(50, 150, PAL)
    sound = deliver_take(take(), config, span)
    facts = write_take(tmp_path / "a.wav", sound, config, 2, span, start, MADE)
    assert facts["time_reference"] == 1728000000 + 2 * 48000
    with av.open(str(tmp_path / "a.wav")) as container:
        tags = container.metadata
    assert tags["time_reference"] == str(facts["time_reference"])
    assert tags["originator_reference"] == facts["identifier"]
    assert tags["comment"] == "x.mp4" and tags["date"] == "2026-11-29"  # FFmpeg's name of the description
    for fact in ("bundle=fake", "seed=0", "steps=32", "candidate=0", "MaskVAT 1.0"):
        assert fact in tags["coding_history"]
    write_take(tmp_path / "b.wav", sound, config, 2, span, start, MADE)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    other = write_take(tmp_path / "c.wav", deliver_take(take(noise(seed=3)), config, span), config, 2, span, start)
    assert other["identifier"] != facts["identifier"]


def test_the_span_of_the_take_counts_without_saying_it_again(tmp_path: Path) -> None:
    config, start = DeliveryConfig(bwf=True, rate=48000), Timecode.parse("10:00:00:00", PAL)
    of_range = replace(take(), span=Span.of_frames(50, 150, PAL))
    sound = deliver_take(of_range, config)
    assert np.array_equal(sound.audio, fade_ends(noise(), round(0.005 * RATE)))
    facts = write_take(tmp_path / "a.wav", sound, config, start=start)
    assert facts["time_reference"] == sound_content(sound, config, start=start).facts["time_reference"]
    assert facts["time_reference"] == 1728000000 + 2 * 48000
    frames = deliver_take(take(), config, Span.of_frames(25, 125, PAL))  # a host knows where its frames lie
    assert sound_content(frames, config, start=start).facts["time_reference"] == 1728000000 + 48000


def test_flac_carries_the_settings(tmp_path: Path) -> None:
    config = DeliveryConfig(bits="24")
    facts = write_take(tmp_path / "a.flac", deliver_take(take(), config), config, 2)
    assert "time_reference" not in facts
    with av.open(str(tmp_path / "a.flac")) as container:
        tags = {key.upper(): value for key, value in container.metadata.items()}
    assert (
        tags["TITLE"] == "x.mp4"
        and "seed: 0" in tags["COMMENT"]
        and "2" in (tags.get("TRACK"), tags.get("TRACKNUMBER"))
    )


# ---------------------------------------------------------------- options
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": "32"}, "bits is '32'; choose from 16, 24, float"),
        ({"bits": 16}, "bits is 16; choose from"),
        ({"channels": 3}, "channels is 3; it must be a whole number from 1 to 2"),
        ({"rate": 0}, "rate is 0; it must be a whole number from 1 to 768000"),
        ({"gain": 61}, "gain is 61; it must be a number from -120 to 60"),
        ({"gain": float("nan")}, "gain is nan"),
        ({"fade": -1}, "fade is -1; it must be a number from 0 to 60000"),
        ({"mix": float("-inf")}, "mix is -inf"),
        ({"lufs": 1}, "lufs is 1; it must be a number from -70 to 0"),
        ({"peak": 0.5}, "peak is 0.5; it must be a number from -60 to 0"),
        ({"lufs": -23, "gain": 3}, "gain and lufs both set the level; give one of them"),
    ],
)
def test_values_that_are_not_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as error:
        DeliveryConfig(**options)
    assert message in str(error.value)


def test_numpy_numbers_become_plain_ones() -> None:
    config = DeliveryConfig(rate=np.int32(48000), channels=np.int64(2), gain=np.float32(-3), fade=np.int16(5))
    assert config == DeliveryConfig(rate=48000, channels=2, gain=-3.0, fade=5.0)
    assert all(type(getattr(config, name)) in (int, float) for name in ("rate", "channels", "gain", "fade"))
