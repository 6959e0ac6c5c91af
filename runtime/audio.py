"""Media files, opened and replaced safely, and sound in and out of them."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from math import gcd, prod
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from runtime.errors import MediaError, OptionError
from runtime.media.file_kind import check_encryption, not_media
from runtime.media.packets import read_packets
from runtime.media.wav import WavFormat, integers, wav_header, wav_samples

FloatArray = NDArray[np.float32]
Sound = NDArray[np.floating[Any]]
PathLike = str | os.PathLike[str]

NOT_MEDIA = ("tty", "bin", "xbin", "adf", "idf", "concat")  # text that libav would draw, or lists of other files
GAP_SECONDS = (Fraction(1, 10), Fraction(10))  # holes of this size in the time stamps are filled with silence
FILTER_SIZE = 64  # taps of the resampling filter at the lower rate: above 100 dB of signal to error
BLOCK = 1 << 16  # samples handled at a time
MAX_RATE = 768_000  # Hz
MAX_DURATION = 6 * 3600  # seconds: a longer file is refused unless the caller allows it


# ---------------------------------------------------------------- files
def open_media(path: PathLike) -> InputContainer:
    """Open a local media file for reading.

    Raises MediaError with advice when it is missing, not a file, empty, not readable, or not a media file.
    """
    try:
        if os.path.isdir(path):
            raise MediaError(f"{path} is a folder; give the path of one file")
        if not os.path.isfile(path):
            os.stat(path)  # says why, where there is a reason
            raise MediaError(f"{path} is not a regular file; save the video to a file first")
        with open(path, "rb") as file:
            if not file.read(1):
                raise MediaError(f"{path} is empty (0 bytes); copy or download it again")
        # An absolute path is never taken for a URL; the whitelist keeps playlists from reaching the network.
        options = {"protocol_whitelist": "file,crypto,data", "pattern_type": "none"}
        container = av.open(os.path.abspath(path), "r", container_options=options, metadata_errors="replace")
    except FileNotFoundError as error:
        raise MediaError(f"{path}: no such file; check the path") from error
    except PermissionError as error:
        raise MediaError(f"{path}: no permission to read it; change its permissions or copy it elsewhere") from error
    except (OSError, ValueError, av.FFmpegError) as error:
        raise MediaError(not_media(path, getattr(error, "strerror", None) or str(error))) from error
    if container.format.name in NOT_MEDIA:
        container.close()
        raise MediaError(not_media(path, "it is text"))
    return container


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """A temporary name beside `path` to write to. It takes the name `path` when the block ends well, and is deleted
    otherwise: a reader never sees half a file. An OSError of the block becomes a MediaError with advice.
    """
    target = Path(path)
    part = target.with_name(f".maskvat-{secrets.token_hex(6)}.part")
    try:
        if target.exists() and not target.is_file():
            raise MediaError(f"cannot write {path}: it is {'a folder' if target.is_dir() else 'not a regular file'}")
        yield part
        os.replace(part, target)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise cannot_write(target, error) from error
        raise


def cannot_write(path: Path, error: OSError) -> MediaError:
    """The error of a file that cannot be written, with advice."""
    return MediaError(f"cannot write {path}: {_write_advice(error, path.parent)}")


def _write_advice(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write in {folder}; choose another folder"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"the folder {folder} does not exist; create it or choose another"
    return f"{error.strerror or error}; choose another folder"


# ---------------------------------------------------------------- sound in
def check_length(path: PathLike, seconds: float | Fraction, max_duration: float) -> None:
    """Raise MediaError when a file lasts longer than is allowed."""
    if seconds > max_duration:
        raise MediaError(
            f"{path} lasts {duration_text(seconds)} or more, and at most {duration_text(max_duration)} is allowed; "
            "cut it, or raise the limit (--max-duration, in seconds)"
        )


def duration_text(seconds: float | Fraction) -> str:
    """A duration in hours, or in seconds if it is below one hour."""
    return f"{float(seconds) / 3600:.1f} h" if seconds >= 3600 else f"{float(seconds):.4g} s"


def read_audio(path: PathLike, rate: int, max_duration: float = MAX_DURATION) -> FloatArray:
    """The sound of any media file: float32 [L] at `rate` Hz, all channels averaged, from the stream's first sample on.

    Packets that cannot be decoded, and gaps in the time stamps, are silence, so that what follows keeps its place.
    Raises MediaError when the file cannot be read, lasts longer than `max_duration` seconds, has no sound, or none of
    it can be decoded.
    """
    seconds = Fraction(0)
    with open_media(path) as container:
        stream = next((s for s in container.streams.audio if s.codec_context is not None), None)
        if stream is None:
            raise MediaError(f"{path} has no sound that can be decoded; give a file with a sound track")
        parts: list[tuple[int, list[FloatArray]]] = []  # runs of one sample rate; nearly always a single one
        try:
            for frame, silence in _sound_frames(container, stream, path):
                if not parts or parts[-1][0] != frame.sample_rate:
                    parts.append((frame.sample_rate, []))
                seconds += Fraction(silence + frame.samples, frame.sample_rate)
                check_length(path, seconds, max_duration)
                parts[-1][1].extend([np.zeros(silence, np.float32), _mono(frame)])
        except (ValueError, av.FFmpegError) as error:
            raise MediaError(f"{path}: its sound cannot be decoded ({error}); convert it with ffmpeg") from error
    if not parts:
        raise MediaError(f"{path}: none of its sound can be decoded; copy the file again, or convert it with ffmpeg")
    return np.concatenate([resample(np.concatenate(chunks), source, rate) for source, chunks in parts])


def _sound_frames(container: InputContainer, stream: AudioStream, path: PathLike) -> Iterator[tuple[AudioFrame, int]]:
    """(frame, samples of silence that belong before it)."""
    due: Fraction | None = None  # when the next frame should begin, seconds
    packets = read_packets(container, stream)
    while True:
        packet = None
        with suppress(av.FFmpegError):  # a file that breaks off ends there
            packet = next(packets, None)
        if packet is not None and packet.size == 0:
            continue  # a dropped packet, which a decoder would take for the end
        if packet is not None and due is None:
            check_encryption(path, packet)
        frames: list[AudioFrame] = []
        with suppress(av.FFmpegError):
            frames = stream.decode(packet)
        for frame in frames:
            start = None if frame.pts is None or stream.time_base is None else frame.pts * stream.time_base
            gap = Fraction(0) if start is None or due is None else start - due
            filled = GAP_SECONDS[0] < gap < GAP_SECONDS[1]
            yield frame, round(gap * frame.sample_rate) if filled else 0
            begin = due if start is None or (due is not None and abs(gap) <= GAP_SECONDS[0]) else start
            due = None if begin is None else begin + Fraction(frame.samples, frame.sample_rate)
        if packet is None:
            return


def _mono(frame: AudioFrame) -> FloatArray:
    """Average of a frame's channels, float32 [samples] within [-1, 1]."""
    data = frame.to_ndarray()
    planes = data if frame.format.is_planar else data.reshape(-1, frame.layout.nb_channels).T
    mono = planes.mean(axis=0, dtype=np.float64)
    if data.dtype == np.uint8:
        mono = mono / 128 - 1
    elif data.dtype.kind == "i":
        mono = mono / 2 ** (8 * data.dtype.itemsize - 1)
    return np.asarray(mono, np.float32)


def resample(audio: Sound, source_rate: int, target_rate: int) -> FloatArray:
    """audio [..., L] at source_rate -> float32 [..., round(L * target_rate / source_rate)], without delay.

    Output sample n stands for the instant n / target_rate; what lies outside the input is silence.
    """
    if min(source_rate, target_rate) < 1:
        raise OptionError(f"sample rates must be at least 1 Hz; got {source_rate} and {target_rate}")
    rows = np.asarray(audio, np.float32).reshape(prod(audio.shape[:-1]), audio.shape[-1])
    if source_rate == target_rate:
        return rows.reshape(audio.shape).copy()
    length = round(Fraction(audio.shape[-1] * target_rate, source_rate))
    out = np.empty((len(rows), length), np.float32)
    for row, target in zip(rows, out, strict=True):
        target[:] = _resample_row(row, source_rate, target_rate, length)
    return out.reshape(*audio.shape[:-1], length)


def _resample_row(row: FloatArray, source_rate: int, target_rate: int, length: int) -> FloatArray:
    """One channel through swresample. Silence goes before and after it, because swresample mirrors the sound at its
    ends, and gives nothing for a sound shorter than its filter; before it, a whole number of periods of the two rates.
    """
    common = gcd(source_rate, target_rate)
    reach = FILTER_SIZE * max(1, -(-source_rate // target_rate))  # samples of the input that the filter can see
    periods = -(-reach // (source_rate // common))
    lead = np.zeros(periods * (source_rate // common), np.float32)
    skip = periods * (target_rate // common)
    resampler = AudioResampler("fltp", "mono", target_rate, options={"filter_size": str(FILTER_SIZE)})
    blocks = [row[i : i + BLOCK] for i in range(0, len(row), BLOCK)]
    frames: list[AudioFrame] = []
    for block in [lead, *blocks, np.zeros(2 * reach, np.float32), None]:
        frames += resampler.resample(None if block is None else audio_frame(block, source_rate))
    return np.concatenate([f.to_ndarray()[0] for f in frames])[skip : skip + length]


def audio_frame(block: FloatArray | NDArray[np.int16], rate: int, first: int | None = None) -> AudioFrame:
    """Mono samples [n], float32 or int16, as a frame; its time stamp is the number of its `first` sample."""
    layout = "s16" if block.dtype == np.int16 else "fltp"
    row: Any = np.ascontiguousarray(block)[None]
    frame = AudioFrame.from_ndarray(row, format=layout, layout="mono")
    frame.sample_rate = rate
    frame.time_base = Fraction(1, rate)
    frame.pts = first
    return frame


# ---------------------------------------------------------------- sound out
def check_sound(audio: Sound, rate: int) -> FloatArray:
    """audio [L], finite, at a possible rate, as float32; raises OptionError otherwise."""
    if audio.ndim != 1 or not np.isfinite(audio).all():
        raise OptionError(f"sound must be one row of finite samples; got {list(audio.shape)}, NaN or infinity")
    if not 1 <= rate <= MAX_RATE:
        raise OptionError(f"the sample rate must lie between 1 and {MAX_RATE} Hz; got {rate}")
    return audio.astype(np.float32, copy=False)


def pcm16(audio: FloatArray) -> NDArray[np.int16]:
    """[-1, 1] -> 16-bit samples, rounded to the nearest; what is louder is clipped, never wrapped."""
    return np.asarray(integers(audio, 16), "<i2")


def write_wav(path: PathLike, audio: Sound, rate: int) -> None:
    """Write mono audio [L] in [-1, 1] as 16-bit PCM WAV, atomically; MediaError when it cannot be written."""
    audio, form = check_sound(audio, rate), WavFormat(rate)
    with replacing(path) as part, open(part, "xb") as file:
        file.write(wav_header(form, len(audio)))
        file.writelines(wav_samples(form, audio))
