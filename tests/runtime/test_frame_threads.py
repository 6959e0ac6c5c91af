"""Frames that are decoded side by side are those that are decoded one after the other, whatever the file."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime.media import frame_threads
from runtime.video import FrameGrid, Part, Video
from tests.support.media import Picture, noisy, steady, write_video

GRIDS = (FrameGrid(8, 32, 32), FrameGrid(25, 32, 32))
Read = tuple[list[tuple[int, bytes]], Fraction, list[str]]
OPTIONS = {
    "h264.mp4": ("libx264", (("g", "12"), ("bf", "3"))),
    "open-gop.mkv": ("libx264", (("x264-params", "open-gop=1:keyint=12:bframes=3"),)),
    "interlaced.mov": ("libx264", (("x264-params", "tff=1"), ("flags", "+ildct+ilme"))),
    "transport.ts": ("libx264", (("g", "12"),)),
    "hevc.mp4": ("libx265", (("x265-params", "log-level=none:keyint=12"),)),
    "prores.mov": ("prores_ks", ()),
    "vp9.webm": ("libvpx-vp9", (("deadline", "realtime"), ("cpu-used", "8"))),
    "vp8.webm": ("libvpx", (("deadline", "realtime"),)),
}


def read(path: Path, part: Part | None = None) -> Read:
    with Video(path, part=part) as video:
        shown = [(grid, image.tobytes()) for grid, image in video.sample(GRIDS)]
        return shown, video.duration, video.warnings


def reference(monkeypatch: pytest.MonkeyPatch, path: Path, part: Part | None = None) -> Read:
    with monkeypatch.context() as patch:
        patch.setattr(frame_threads, "DECODERS", ())
        return read(path, part)


def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether frame threads were used, for each pass that begins from now on."""
    found, begin = list[bool](), frame_threads.FrameThreads.__init__

    def spied(self: frame_threads.FrameThreads, *args: object) -> None:
        begin(self, *args)
        found.append(self.used)

    monkeypatch.setattr(frame_threads.FrameThreads, "__init__", spied)
    return found


def clip(path: Path, name: str, frames: int = 60) -> Path:
    codec, options = OPTIONS[name]
    pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    images = noisy(frames)
    picture = Picture(steady(frames, 25), codec=codec, size=(96, 64), options=options, images=images, pix_fmt=pixels)
    return write_video(path / name, picture)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    path = clip(tmp_path, name)
    slow = reference(monkeypatch, path)
    used = passes(monkeypatch)
    assert read(path) == slow and len(slow[0]) > 60
    assert used == [name not in ("vp8.webm", "hevc.mp4")]  # which do not say that a frame is damaged


def test_a_part_in_the_middle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("h264.mp4", "open-gop.mkv"):
        path = clip(tmp_path, name)
        part = Part(Fraction(6, 5), Fraction(1), Fraction(25), seekable=True)
        assert read(path, part) == reference(monkeypatch, path, part)


def times(path: Path) -> tuple[list[Fraction], list[str]]:
    with Video(path) as video:
        return [time for time, _ in video._frames], video.warnings


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", ["h264.mp4", "open-gop.mkv", "prores.mov", "vp9.webm"])
def test_damage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, seed: int) -> None:
    """The same frames are shown and skipped. Those after the damage may look different each time: libav draws what is
    missing from memory that it used before."""
    path, rng = clip(tmp_path, name), np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    begin = int(rng.integers(len(data) // 3, len(data) // 2))
    data[begin : begin + 400] = rng.bytes(400)
    path.write_bytes(data)
    with monkeypatch.context() as patch:
        patch.setattr(frame_threads, "DECODERS", ())
        slow, shown = times(path), read(path)
    used = passes(monkeypatch)
    assert times(path) == slow and read(path)[0][:16] == shown[0][:16]
    again = [True, False]  # a pass with threads, and one without from the damage on
    if any("damaged" in text for text in slow[1]):
        assert used == again + again
    else:  # threads sometimes see damage that one thread hides
        assert used in ([True, True], [True, *again], [*again, True], again + again)


def test_an_error_that_is_swallowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """H.264's decoder skips other frames in about one pass of four, unless it is told to fail at any error."""
    path, rng = clip(tmp_path, "open-gop.mkv"), np.random.default_rng(128)
    data = bytearray(path.read_bytes())
    begin = int(rng.integers(len(data) // 3, len(data)))
    data[begin : begin + 400] = bytes(min(400, len(data) - begin))
    path.write_bytes(data)
    with monkeypatch.context() as patch:
        patch.setattr(frame_threads, "DECODERS", ())
        slow = times(path)
    assert "damaged" in slow[1][0] and all(times(path) == slow for _ in range(20))


def test_damage_before_a_part_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = clip(tmp_path, "h264.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 4 : len(data) // 4 + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    assert "damaged" in read(path)[2][0]
    part = Part(Fraction(8, 5), Fraction(1, 2), Fraction(25))
    shown, _, warnings = read(path, part)
    assert not warnings and len(shown) == len(reference(monkeypatch, path, part)[0])


def test_frames_that_are_lost_at_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A decoder that swallows its last error gives fewer frames than there are packets."""
    path = clip(tmp_path, "h264.mp4")
    whole, used = read(path), passes(monkeypatch)
    settled = frame_threads.FrameThreads.settled

    def lossy(self: frame_threads.FrameThreads, packet: object, frames: list) -> list:
        return settled(self, packet, frames[:-1] if self.used and packet is None else frames)

    monkeypatch.setattr(frame_threads.FrameThreads, "settled", lossy)
    assert read(path) == whole and used == [True, False]
