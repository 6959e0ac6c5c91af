"""What is said of a file that cannot be used: unsupported, encrypted and damaged are told apart."""

import struct
from pathlib import Path

import av
import pytest

from runtime.audio import open_media
from runtime.errors import MediaError
from runtime.media.file_kind import protection
from runtime.video import Video
from tests.support.media import Picture, steady, write_video

HEADS = {
    "zip": (b"PK\x03\x04" + bytes(range(200)), "a ZIP archive or an office document; unpack it"),
    "rar": (b"Rar!\x1a\x07\x00" + bytes(range(200)), "a RAR archive; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(range(200)), "a 7z archive"),
    "pdf": (b"%PDF-1.7\n" + bytes(range(200)), "a PDF document"),
    "page": (b"\n <!DOCTYPE HTML><html><body>Not found</body></html>", "a web page, .* download"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer, .* git lfs pull"),
    "zeros": (bytes(100_000), "empty but for zeros: its content was never written"),
    "openssl": (b"Salted__" + bytes(range(200)), "encrypted .OpenSSL.; decrypt it first"),
    "r3d": (struct.pack(">I4s", 300, b"RED2") + bytes(range(200)), "REDCODE RAW, which is not supported; convert"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_files_that_are_no_media_are_named(tmp_path: Path, kind: str) -> None:
    content, words = HEADS[kind]
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        Video(tmp_path / "a.mp4")
    assert "damaged" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_recording_that_did_not_finish(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4", Picture(steady(25, 25))).read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(MediaError, match=r"without its index \(no moov box\): the recording or the download did not"):
        Video(tmp_path / "b.mp4")


def test_animated_webp_is_not_called_damaged(tmp_path: Path) -> None:
    body = b"VP8X" + struct.pack("<IB3x", 10, 2) + bytes(6) + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", 32) + bytes(32)
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    with pytest.raises(MediaError, match="is an animated WebP picture, which cannot be read; convert it to GIF or MP4"):
        Video(tmp_path / "a.webp")


def test_a_still_webp_or_a_damaged_one_is_no_animation(tmp_path: Path) -> None:
    body = b"VP8X" + struct.pack("<IB3x", 10, 0) + bytes(60)
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    with pytest.raises(MediaError, match="damaged or incomplete"):
        Video(tmp_path / "a.webp")


def test_an_encrypted_mp4_is_called_encrypted(tmp_path: Path) -> None:
    picture = Picture(steady(10, 25))
    protect = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
    }
    path = write_video(tmp_path / "a.mp4", picture, container_options=protect)
    with pytest.raises(MediaError, match=r"is encrypted .*; give a copy without copy protection"):
        Video(path)


def test_a_scrambled_broadcast_is_called_encrypted(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "a.ts", Picture(steady(25, 25))).read_bytes())
    for at in range(0, len(data), 188):
        if (data[at + 1] & 31) << 8 | data[at + 2] >= 0x100 and data[at + 3] & 0x10:
            begin = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
            data[at + 3] |= 0xC0
            data[begin : at + 188] = bytes(b ^ 0x5A for b in data[begin : at + 188])
    (tmp_path / "b.ts").write_bytes(data)
    with pytest.raises(MediaError, match=r"encrypted .a scrambled broadcast.; give a copy without"):
        Video(tmp_path / "b.ts")


def test_a_picture_without_a_decoder_is_unsupported_by_name(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mov", Picture(steady(5, 25), codec="mjpeg", pix_fmt="yuvj420p")).read_bytes()
    (tmp_path / "b.mov").write_bytes(data.replace(b"jpeg\x00\x00\x00\x00\x00\x00", b"brxq\x00\x00\x00\x00\x00\x00"))
    with pytest.raises(MediaError, match=r"format that is not supported \(.*brxq.*\); the file may be intact: convert"):
        Video(tmp_path / "b.mov")


def test_a_plain_stream_is_not_protected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", Picture(steady(5, 25)))
    with open_media(path) as container:
        assert protection(container, container.streams.video[0]) is None
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        stream.metadata["enc_key_id"] = "AAAA"
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(MediaError, match=r"encrypted .Matroska content encryption."):
        Video(tmp_path / "b.mkv")
