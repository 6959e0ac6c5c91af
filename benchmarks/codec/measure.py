"""Measures of benchmarks.codec: spectral distance, SI-SDR, attacks, noise floor, used codes, and speed."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from benchmarks.codec.transients import LEAD, attack, pre_echo, rise_time
from benchmarks.common.bundle_codec import RATE
from engines.contract import FloatArray
from runtime.audio import resample
from train.evaluate.bootstrap import summarise
from train.extras import requires_extra

with requires_extra("bench", __name__):
    import torch

    from train.evaluate.codec import Codec
    from train.tasks.codec import mel_distance, si_sdr

SECONDS = 2  # of each recording

OPUS_RATE = 48000
BITRATES = (8, 16, 24)  # kbit/s
LAG = 441  # samples in each direction: the aligned SI-SDR searches 10 ms
FLOOR = 1e-9  # least RMS level: -180 dBFS

Roundtrip = Callable[[FloatArray], FloatArray]  # [L] -> [L] at RATE


def opus(audio: FloatArray, kbps: int) -> FloatArray:
    """Encode and decode audio [L] at RATE as mono Opus. The time stamps of the stream compensate its delay."""
    samples = resample(audio, RATE, OPUS_RATE)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ogg") as media:
        stream = media.add_stream("libopus", rate=OPUS_RATE, layout="mono")
        stream.bit_rate = kbps * 1000
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.rate, frame.pts, frame.time_base = OPUS_RATE, 0, Fraction(1, OPUS_RATE)
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    buffer.seek(0)
    out = np.zeros(len(samples) + OPUS_RATE, np.float32)
    with av.open(buffer) as media:
        for frame in media.decode(audio=0):
            start = round((frame.pts or 0) * (frame.time_base or 0) * OPUS_RATE)
            part = frame.to_ndarray().reshape(-1)[max(0, -start) :]
            out[max(0, start) : max(0, start) + len(part)] = part
    return resample(out, OPUS_RATE, RATE)[: len(audio)]


# ---------------------------------------------------------------- measures
def aligned(decoded: FloatArray, original: FloatArray) -> FloatArray:
    """Shift `decoded` by at most 10 ms to where it correlates best: speech coders delay the signal."""
    size = 1 << (len(decoded) + len(original)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size)), size)
    lag = int(np.argmax(np.concatenate([cross[-LAG:], cross[: LAG + 1]]))) - LAG
    padded = np.pad(decoded, LAG)
    return padded[LAG + lag : LAG + lag + len(original)]


def decibels(audio: NDArray[np.floating]) -> float:
    """RMS level in dBFS."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(audio, dtype=np.float64))) + FLOOR))


@dataclass
class Numbers:
    """One value per recording."""

    mel: list[float] = field(default_factory=list)
    si_sdr: list[float] = field(default_factory=list)
    si_sdr_aligned: list[float] = field(default_factory=list)
    rise: list[float] = field(default_factory=list)  # rise time of the decoded attack over the original's
    pre_echo: list[float] = field(default_factory=list)  # dB over the original's 20 ms before the attack


def add_recording(numbers: Numbers, original: FloatArray, roundtrip: Roundtrip) -> None:
    """Measure one recording, then its attack in a copy with silence before it."""
    decoded = np.ascontiguousarray(roundtrip(original))
    x, y = torch.from_numpy(original), torch.from_numpy(decoded)
    numbers.mel.append(mel_distance(y, x, RATE))
    numbers.si_sdr.append(si_sdr(y, x))
    numbers.si_sdr_aligned.append(si_sdr(torch.from_numpy(aligned(decoded, original).copy()), x))
    delayed = np.concatenate([np.zeros(round(LEAD * RATE), np.float32), original])
    found = attack(delayed, RATE)
    if found is not None:
        decoded = roundtrip(delayed)
        numbers.rise.append(rise_time(decoded, found, RATE) / found.seconds)
        numbers.pre_echo.append(pre_echo(decoded, delayed, found, RATE))


def noise_floor(roundtrip: Roundtrip) -> dict[str, float]:
    """Output level (dBFS) for digital silence and for white noise at -60 dBFS."""
    noise = np.random.default_rng(0).standard_normal(SECONDS * RATE).astype(np.float32) * np.float32(1e-3)
    silence = np.zeros(SECONDS * RATE, np.float32)
    return {"silence_dbfs": decibels(roundtrip(silence)), "noise_at_minus_60_dbfs": decibels(roundtrip(noise))}


def measure(sounds: Sequence[FloatArray], roundtrip: Roundtrip) -> dict[str, Any]:
    """All measures of one codec."""
    numbers = Numbers()
    for sound in sounds:
        add_recording(numbers, sound, roundtrip)
    out: dict[str, Any] = {"mel": summarise(numbers.mel)}
    for name in ("si_sdr", "si_sdr_aligned", "rise", "pre_echo"):
        out[name] = summarise(getattr(numbers, name), median=True)
    return out | noise_floor(roundtrip)


def codes_used(codec: Codec, sounds: Sequence[FloatArray]) -> list[int]:
    """Number of different codes that the recordings use, by codebook."""
    codes = np.concatenate([codec.encode(sound) for sound in sounds], axis=1)
    return [len(np.unique(level)) for level in codes]


def speed(codec: Codec, sounds: Sequence[FloatArray], repeat: int = 3) -> dict[str, float]:
    """Seconds of sound per second of computing, best of `repeat` runs on 10 s of sound."""
    audio = np.resize(np.concatenate(sounds), 10 * RATE).astype(np.float32)
    codes = codec.encode(audio)  # warm-up
    codec.decode(codes)
    work: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.encode(audio),
        "decode": lambda: codec.decode(codes),
    }
    out = {}
    for name, run in work.items():
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        out[f"{name}_x_realtime"] = 10 / min(times)
    return out
