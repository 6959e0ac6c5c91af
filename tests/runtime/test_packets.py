"""Packets of streams that begin in the middle of a file."""

from pathlib import Path

import av
import pytest

from runtime.media.packets import read_packets
from runtime.video import FrameGrid, Video
from tests.support.media import Picture, Sound, clicks, steady, write_video

FRAMES = 20


def late_sound(path: Path) -> Path:
    """An FLV whose header, and first 12 tags, say nothing of its sound."""
    whole = write_video(path, Picture(steady(FRAMES, 25), codec="flv", options=(("g", "5"),)),
                        Sound(clicks(35280, 44100)[None], 44100, "libmp3lame")).read_bytes()  # fmt: skip
    header, tags, at = bytearray(whole[:13]), [], 13
    header[4] = 1  # a picture, no sound
    while at + 11 < len(whole):
        size = 11 + int.from_bytes(whole[at + 1 : at + 4], "big") + 4
        tags.append(whole[at : at + size])
        at += size
    pictures, sounds = ([tag for tag in tags if tag[0] == kind] for kind in (9, 8))
    path.write_bytes(bytes(header) + b"".join([*pictures[:-2], *sounds, *pictures[-2:]]))
    return path


def test_packets_of_an_unknown_stream_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = late_sound(tmp_path / "late.flv")
    with av.open(str(path), options={"probesize": "32", "analyzeduration": "0"}) as container:
        video = container.streams.video[0]
        assert len([p for p in read_packets(container, video) if p.size]) == FRAMES


class Faulty:
    """A container whose demuxer raises IndexError at every third packet, as PyAV does at a stream it does not know."""

    def __init__(self, packets: list[int]) -> None:
        self.left = iter(packets)

    def demux(self, _: object) -> object:
        for packet in self.left:
            if packet % 3 == 0:
                raise IndexError("list index out of range")
            yield packet


def test_reading_continues_after_every_unknown_packet() -> None:
    assert list(read_packets(Faulty(list(range(1, 11))), None)) == [1, 2, 4, 5, 7, 8, 10]  # type: ignore[arg-type]


def test_the_whole_picture_is_read(tmp_path: Path) -> None:
    with Video(late_sound(tmp_path / "late.flv")) as video:
        assert len(list(video.sample([FrameGrid(25, 16, 16)]))) == FRAMES
