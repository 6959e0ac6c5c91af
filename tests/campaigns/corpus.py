"""Small valid files of every container and codec that a user might bring: the seeds of the media campaign."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.media import Picture, Sound, clicks, steady, write_video

FRAMES, FPS, RATE = 12, 25, 44100


@dataclass(frozen=True)
class Kind:
    """One seed: suffix of the container, codec and pixel format of the picture, codec of the sound ("" for none)."""

    suffix: str
    codec: str
    sound: str = ""
    pix_fmt: str = "yuv420p"

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.suffix, self.codec, self.sound) if part)


KINDS = (
    Kind("mp4", "libx264"),
    Kind("mp4", "libx264", "aac"),
    Kind("mp4", "libx265", "aac"),
    Kind("mp4", "mpeg4", "libmp3lame"),
    Kind("mp4", "libsvtav1", "libopus"),
    Kind("m4v", "libx264", "aac"),
    Kind("mov", "libx264", "pcm_s16le"),
    Kind("mov", "prores_ks", "pcm_s16le", "yuv422p10le"),
    Kind("mov", "mjpeg", "", "yuvj420p"),
    Kind("mov", "qtrle", "", "argb"),
    Kind("mkv", "libx264", "aac"),
    Kind("mkv", "ffv1", "flac"),
    Kind("mkv", "libvpx-vp9", "libopus"),
    Kind("mkv", "mpeg2video", "ac3"),
    Kind("webm", "libvpx", "libopus"),
    Kind("webm", "libvpx-vp9"),
    Kind("avi", "mpeg4", "libmp3lame"),
    Kind("avi", "mjpeg", "pcm_s16le", "yuvj420p"),
    Kind("avi", "rawvideo", "", "bgr24"),
    Kind("ts", "libx264", "aac"),
    Kind("ts", "mpeg2video", "mp2"),
    Kind("m2ts", "libx264", "ac3"),
    Kind("mpg", "mpeg2video", "mp2"),
    Kind("flv", "flv", "libmp3lame"),
    Kind("flv", "libx264", "aac"),
    Kind("wmv", "wmv2", "wmav2"),
    Kind("3gp", "h263p", "aac"),
    Kind("gif", "gif", "", "rgb8"),
    Kind("h264", "libx264"),
    Kind("m1v", "mpeg1video"),
    Kind("y4m", "wrapped_avframe"),
    Kind("nut", "ffv1", "flac"),
    Kind("mxf", "mpeg2video", "pcm_s16le"),
)


def write_corpus(folder: Path, kinds: Sequence[Kind] = KINDS) -> tuple[list[Path], list[str]]:
    """Write the kinds; returns the files and a line for each kind that this build of libav cannot write."""
    folder.mkdir(parents=True, exist_ok=True)
    files, missing = [], []
    for kind in kinds:
        path = folder / f"{kind.name}.{kind.suffix}"
        try:
            _write(path, kind)
            files.append(path)
        except (av.FFmpegError, ValueError) as error:
            path.unlink(missing_ok=True)
            missing.append(f"{kind.name}: {error}")
    return files, missing


def _write(path: Path, kind: Kind) -> None:
    size = (352, 288) if kind.codec == "h263p" else (64, 48)
    tick = Fraction(1, FPS)
    picture = Picture(steady(FRAMES, FPS), tick, size, kind.codec, kind.pix_fmt, tick=tick, images=list(_images(size)))
    rate = 48000 if kind.sound in ("libopus", "ac3") or kind.suffix == "mxf" else RATE
    sound = Sound(clicks(rate * FRAMES // FPS, rate, 0.2, 0.05)[None], rate, kind.sound) if kind.sound else None
    write_video(path, picture, sound)


def _images(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """A bright square that moves over noise."""
    rng = np.random.default_rng(0)
    for n in range(FRAMES):
        image = rng.integers(40, 90, (size[1], size[0], 3), dtype=np.uint8)
        image[8:24, 3 * n : 3 * n + 16] = 220
        yield image
