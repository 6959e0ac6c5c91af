"""Make small media files for tests with PyAV and NumPy, so that the repository needs none.

Frame n of a video is a uniform grey whose level encodes n. A test can read n from any decoded frame, at any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TICK = Fraction(1, 90000)  # time base of the pictures: every usual frame rate is a whole number of ticks, or nearly
LEVELS, STEP, LOWEST = 50, 4, 24  # frame n is grey LOWEST + STEP * (n % LEVELS)


@dataclass(frozen=True)
class Picture:
    """A video stream. `times` are the time stamps of the frames, `last` is the duration of the last frame (seconds)."""

    times: Sequence[float | Fraction]
    last: float | Fraction = Fraction(1, 25)
    size: tuple[int, int] = (64, 48)  # width, height
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    rotation: int = 0  # degrees, counter-clockwise, as PyAV gives it back
    flips: tuple[bool, bool] = (False, False)  # left-right, upside down; after the rotation
    tick: Fraction = TICK
    options: tuple[tuple[str, str], ...] = ()
    images: Sequence[NDArray[np.uint8]] | None = None  # [height, width, 3] per frame, in place of the grey levels


@dataclass(frozen=True)
class Sound:
    audio: NDArray[np.float32]  # [channels, L]
    rate: int
    codec: str
    start: float = 0.0


def steady(count: int, fps: float | Fraction, start: float | Fraction = 0) -> list[Fraction]:
    """Time stamps of a constant frame rate."""
    return [Fraction(start) + n / Fraction(fps) for n in range(count)]


def level(n: int) -> int:
    return LOWEST + STEP * (n % LEVELS)


def number(frame: NDArray[np.uint8]) -> int:
    """Which frame (modulo LEVELS) a decoded frame is."""
    return round((float(frame.mean()) - LOWEST) / STEP)


def expected(times: Sequence[Fraction], last: Fraction, fps: int) -> list[int]:
    """The frame numbers that a grid of `fps` shows: the rule of runtime.video, written down directly."""
    times = [t - times[0] for t in times]
    shown, k = [], 0
    while k == 0 or Fraction(k, fps) < times[-1] + last:
        shown.append(max(n for n, t in enumerate(times) if t <= Fraction(2 * k + 1, 2 * fps)) % LEVELS)
        k += 1
    return shown


def grey(n: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.full((size[1], size[0], 3), level(n), np.uint8)


def card(width: int, height: int) -> NDArray[np.uint8]:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 0, 0)
    image[: height // 2, width // 2 :] = (0, 200, 0)
    image[height // 2 :, : width // 2] = (0, 0, 200)
    image[height // 2 :, width // 2 :] = 200
    return image


def noisy(count: int) -> list[NDArray[np.uint8]]:
    """Grey levels with noise, so that packets have some size."""
    rng = np.random.default_rng(0)
    return [
        np.clip(grey(n, (96, 64)) + rng.integers(-9, 10, (64, 96, 3)), 0, 255).astype(np.uint8) for n in range(count)
    ]


def clicks(length: int, rate: int, period: float = 0.5, first: float = 0.25) -> NDArray[np.float32]:
    """Short 2 kHz bursts of 4 ms, for measuring alignment."""
    audio = np.zeros(length, np.float32)
    burst = np.sin(2 * np.pi * 2000 * np.arange(int(0.004 * rate)) / rate).astype(np.float32) * 0.8
    for at in np.arange(first, length / rate - 0.01, period):
        i = round(at * rate)
        audio[i : i + len(burst)] = burst[: length - i]
    return audio


def delay(reference: NDArray[np.float32], other: NDArray[np.float32], rate: int) -> float:
    """Seconds by which `other` lags `reference`: the peak of their cross-correlation, parabola-interpolated."""
    n = 1 << (len(reference) + len(other)).bit_length()
    spectrum = np.fft.rfft(other, n) * np.conj(np.fft.rfft(reference, n))
    correlation = np.fft.irfft(spectrum, n)
    peak = int(np.argmax(correlation))
    before, at, after = (float(correlation[(peak + d) % n]) for d in (-1, 0, 1))
    bend = before - 2 * at + after
    fine = peak + (0.5 * (before - after) / bend if bend else 0.0)
    return (fine - n if fine > n / 2 else fine) / rate


def write_video(
    path: Path, picture: Picture | None, sound: Sound | None = None, cover: bool = False, **open_options: Any
) -> Path:
    """Write a file; the container comes from the suffix. `cover` adds an attached picture (mp4 only)."""
    with av.open(str(path), "w", **open_options) as out:
        cover_stream = _add_cover(out) if cover else None
        video = _add_picture(out, picture) if picture else None
        audio = _add_sound(out, sound) if sound else None
        if cover_stream is not None:
            frame = av.VideoFrame.from_ndarray(grey(LEVELS - 1, (200, 200)))
            out.mux(cover_stream.encode(frame.reformat(format="yuvj420p")))
            out.mux(cover_stream.encode(None))
        if video is not None and picture is not None:
            _encode_picture(out, video, picture)
        if audio is not None and sound is not None:
            _encode_sound(out, audio, sound)
    return path


def write_timed(
    path: Path, rate: Fraction, code: str | None, frames: int = 9, first: int = 0, sound: Sound | None = None
) -> Path:
    """A video whose file says which timecode its time zero has; its first picture is frame `first`."""
    with av.open(str(path), "w") as out:
        codec = "mpeg2video" if path.suffix == ".mxf" else "libx264"
        stream: Any = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        audio = None if sound is None else _add_sound(out, sound)
        if code is not None:
            (out if path.suffix == ".mkv" else stream).metadata["timecode"] = code
        for n in range(first, first + frames):
            frame = av.VideoFrame.from_ndarray(grey(n, (64, 48)))
            frame.pts, frame.time_base = n, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            _encode_sound(out, audio, sound)
    return path


def _add_cover(out: Any) -> Any:
    stream = out.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 200, 200, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    return stream


def _add_picture(out: Any, picture: Picture) -> Any:
    lossless = {"qp": "0", "preset": "ultrafast", "threads": "1"} if picture.codec == "libx264" else {}
    options = dict(picture.options) or lossless
    stream = out.add_stream(picture.codec, rate=25, options=options)
    stream.width, stream.height = picture.size
    stream.pix_fmt = picture.pix_fmt
    stream.codec_context.time_base = picture.tick
    if picture.rotation or any(picture.flips):
        stream.set_display_rotation(picture.rotation, *picture.flips)
    return stream


def _encode_picture(out: Any, stream: Any, picture: Picture) -> None:
    ends = [*picture.times[1:], Fraction(picture.times[-1]) + Fraction(picture.last)]
    durations: dict[int, int] = {}  # by time stamp: encoders forget that of the last frame
    packets: list[Any] = []
    for n, (at, end) in enumerate(zip(picture.times, ends, strict=True)):
        image = picture.images[n] if picture.images is not None else grey(n, picture.size)
        frame = av.VideoFrame.from_ndarray(image).reformat(format=picture.pix_fmt)
        frame.time_base = picture.tick
        frame.pts = round(Fraction(at) / picture.tick)
        frame.duration = durations[frame.pts] = round((Fraction(end) - Fraction(at)) / picture.tick)
        packets += stream.encode(frame)
    for packet in [*packets, *stream.encode(None)]:
        packet.duration = durations.get(packet.pts, packet.duration)
        out.mux(packet)


def _add_sound(out: Any, sound: Sound) -> Any:
    stream = out.add_stream(sound.codec, rate=sound.rate)
    stream.layout = "mono" if sound.audio.shape[0] == 1 else "stereo"
    stream.codec_context.time_base = Fraction(1, sound.rate)
    return stream


def _encode_sound(out: Any, stream: Any, sound: Sound) -> None:
    layout = "mono" if sound.audio.shape[0] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.audio), format="fltp", layout=layout)
    frame.sample_rate = sound.rate
    frame.time_base = Fraction(1, sound.rate)
    frame.pts = round(sound.start * sound.rate)
    resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=sound.rate)
    for converted in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(stream.encode(converted))
    out.mux(stream.encode(None))


def bad_file(kind: str, path: Path) -> None:
    """Make something at `path` that is not a video."""
    if kind == "a folder":
        path.mkdir()
    elif kind == "audio only":
        write_video(path, None, Sound(clicks(22050, 44100)[None], 44100, "aac"))
    elif kind == "no decodable frame":
        _undecodable(path)
    elif kind != "missing":
        noise = np.random.default_rng(0).bytes(100_000)
        subtitles = b"1\n00:00:01,000 --> 00:00:02,000\nhello\n"
        path.write_bytes({"empty": b"", "text": b"not a video\n" * 99, "noise": noise, "subtitles": subtitles}[kind])


def _undecodable(path: Path) -> None:
    """Write a valid header and invalid packets."""
    picture = Picture(steady(5, 25), codec="ffv1", pix_fmt="yuv420p")
    good = write_video(path.with_suffix(".mkv"), picture)
    with av.open(str(good)) as source, av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                junk = av.Packet(b"\xff" * 7)
                junk.stream, junk.pts, junk.dts, junk.time_base = stream, packet.pts, packet.dts, packet.time_base
                out.mux(junk)


def cut_video(source: Path, target: Path, first: int, end: int) -> Path:
    """Copy frames [first, end) of a video without loss, by packets. Both must be key frames, or `end` the end."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as out:
        stream = opened.streams.video[0]
        copied: Any = out.add_stream_from_template(stream)
        packets = [packet for packet in opened.demux(stream) if packet.size]
        stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
        begin, stop = stamps[first], stamps[end] if end < len(stamps) else stamps[-1] + 1
        for packet in packets:
            if packet.pts is not None and packet.dts is not None and begin <= packet.pts < stop:
                packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, copied
                out.mux(packet)
    return target
