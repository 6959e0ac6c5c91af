"""Sound in, out and between sample rates: lengths are exact, nothing is late, and no half file is left behind."""

import os
import resource
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.audio import read_audio, replacing, resample, write_wav
from runtime.errors import MediaError, OptionError
from tests.support.media import Picture, Sound, clicks, delay, steady, write_video

RATE = 44100


def tones(times: Any, highest: float, seed: int = 0) -> Any:
    """30 sines below `highest` Hz under a bell around 0.5 s, at any instants."""
    rng = np.random.default_rng(seed)
    waves = [np.sin(2 * np.pi * (f * times + p)) for f, p in rng.uniform((50, 0), (highest, 1), (30, 2))]
    return np.sum(waves, axis=0) / 30 * np.exp(-(((times - 0.5) / 0.1) ** 2))


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Files cannot grow past `limit` bytes: what a full disk does, without filling one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---------------------------------------------------------------- resampling
@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (44100, 48000), (16000, 44100), (8000, 44101)])
def test_resample_is_exact_and_in_time(source: int, target: int) -> None:
    length, highest = source + 37, 0.4 * min(source, target)
    x = tones(np.arange(length) / source, highest).astype(np.float32)
    y = resample(np.stack([x, 0.5 * x])[None], source, target)
    assert y.shape == (1, 2, round(length * target / source)) and y.dtype == np.float32
    reference = tones(np.arange(y.shape[-1]) / target, highest)
    assert abs(delay(reference.astype(np.float32), y[0, 0], target)) < 1e-6
    error = y[0, 0] - reference
    assert 10 * np.log10(np.mean(reference**2) / np.mean(error**2)) > 90  # decibels
    np.testing.assert_allclose(y[0, 1], 0.5 * y[0, 0], atol=1e-7)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 10, 100, 70_000])
def test_resample_lengths(length: int) -> None:
    for source, target in ((44100, 16000), (16000, 44100), (44100, 44100), (3, 2)):
        y = resample(np.ones(length, np.float32), source, target)
        assert y.shape == (round(Fraction(length * target, source)),)
        assert np.isfinite(y).all()


def test_resample_stops_what_the_target_cannot_hold() -> None:
    x = np.sin(2 * np.pi * 12000 * np.arange(RATE) / RATE)
    y = resample(x, RATE, 16000)
    assert np.abs(y[1000:-1000]).max() < 1e-3
    with pytest.raises(OptionError, match="at least 1 Hz"):
        resample(x, RATE, 0)


# ---------------------------------------------------------------- reading
CODECS = {
    "a.wav": ("pcm_s16le", 44100),
    "b.wav": ("pcm_u8", 44100),
    "c.wav": ("pcm_f32le", 44100),
    "a.flac": ("flac", 44100),
    "a.mp3": ("libmp3lame", 44100),
    "a.m4a": ("aac", 44100),
    "a.opus": ("libopus", 48000),
    "a.aiff": ("pcm_s32be", 44100),
}


@pytest.mark.parametrize("name", CODECS)
def test_read_averages_channels_and_is_in_time(tmp_path: Path, name: str) -> None:
    codec, rate = CODECS[name]
    left = clicks(rate, rate)
    path = write_video(tmp_path / name, None, Sound(np.stack([left, np.zeros_like(left)]), rate, codec))
    for target in (44100, 16000):
        audio = read_audio(path, target)
        reference = resample(left / 2, rate, target)
        assert audio.dtype == np.float32 and len(audio) - target in range(0, 1024)
        assert abs(delay(reference, audio, target)) < 1e-4
        assert np.abs(audio).max() == pytest.approx(np.abs(reference).max(), rel=0.1)


def test_read_from_a_video(tmp_path: Path) -> None:
    sound = clicks(RATE, RATE)
    path = write_video(tmp_path / "a.mp4", Picture(steady(10, 25)), Sound(sound[None], RATE, "aac", start=0.25))
    audio = read_audio(path, RATE)  # from the stream's own first sample: the encoder's priming, then the sound
    assert 0 <= delay(sound, audio, RATE) < 0.03
    with pytest.raises(MediaError, match="no sound that can be decoded; give a file with a sound track"):
        read_audio(write_video(tmp_path / "b.mp4", Picture([0])), RATE)
    with pytest.raises(MediaError, match="no such file"):
        read_audio(tmp_path / "c.wav", RATE)
    with pytest.raises(MediaError, match="is empty"):
        (tmp_path / "d.wav").touch()
        read_audio(tmp_path / "d.wav", RATE)


def test_holes_are_silence_so_that_the_rest_keeps_its_place(tmp_path: Path) -> None:
    sound = clicks(RATE, RATE)
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream: Any = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for part in (0, 1):
            half = sound[None, part * RATE // 2 : (part + 1) * RATE // 2]
            frame: Any = av.AudioFrame.from_ndarray((half * 32767).astype(np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), part * RATE  # half a second late
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    audio = read_audio(tmp_path / "a.mkv", RATE)
    reference = np.concatenate([sound[: RATE // 2], np.zeros(RATE // 2, np.float32), sound[RATE // 2 :]])
    assert abs(len(audio) - len(reference)) < RATE // 1000
    assert abs(delay(reference, audio, RATE)) < 1e-3


def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.wav", None, Sound(clicks(RATE, RATE)[None], RATE, "pcm_s16le"))
    path.write_bytes(path.read_bytes()[: RATE + 44])
    assert abs(len(read_audio(path, RATE)) - RATE // 2) < 64  # less the header


# ---------------------------------------------------------------- writing
def test_wav_is_rounded_clipped_and_in_time(tmp_path: Path) -> None:
    sound = clicks(RATE, RATE) * 0.9
    sound[:4] = (1.5, -1.5, 0.4 / 32768, 0.6 / 32768)
    write_wav(tmp_path / "a.wav", sound, RATE)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, RATE, RATE)
        samples = np.frombuffer(file.readframes(RATE), "<i2")
    assert samples[:4].tolist() == [32767, -32768, 0, 1]
    back = read_audio(tmp_path / "a.wav", RATE)
    assert np.abs(back[4:] - sound[4:]).max() <= 0.5 / 32768 + 1e-9  # hence no sample of delay
    write_wav(tmp_path / "empty.wav", np.zeros(0, np.float32), 16000)
    with wave.open(str(tmp_path / "empty.wav")) as file:
        assert file.getnframes() == 0


@pytest.mark.parametrize(
    ("audio", "rate"),
    [(np.zeros((2, 9)), RATE), (np.array([np.nan]), RATE), (np.array([np.inf]), RATE), (np.zeros(9), 0)],
)
def test_wav_refuses_what_is_no_sound(tmp_path: Path, audio: Any, rate: int) -> None:
    with pytest.raises(OptionError):
        write_wav(tmp_path / "a.wav", audio, rate)
    assert os.listdir(tmp_path) == []


def test_wav_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    sound = np.zeros(RATE, np.float32)
    kept = tmp_path / "kept.wav"
    kept.write_bytes(b"old")
    with file_size_limit(10_000), pytest.raises(MediaError, match=r"cannot write .*kept\.wav: .*choose another folder"):
        write_wav(kept, sound, RATE)
    assert kept.read_bytes() == b"old"
    with pytest.raises(MediaError, match="does not exist; create it"):
        write_wav(tmp_path / "no" / "a.wav", sound, RATE)
    with pytest.raises(MediaError, match="it is a folder"):
        write_wav(tmp_path, sound, RATE)
    with pytest.raises(MediaError, match="not a regular file"):
        write_wav(os.devnull, sound, RATE)
    assert os.listdir(tmp_path) == ["kept.wav"]


def test_full_disk_and_no_permission_are_told(tmp_path: Path) -> None:
    for number, advice in ((28, "the disk is full; free some space"), (13, "no permission to write in")):
        with pytest.raises(MediaError, match=advice), replacing(tmp_path / "a") as part:
            part.write_text("half")
            raise OSError(number, "reason")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
