"""Name what a file is when it cannot be used: unsupported, encrypted or damaged, each with advice that fits."""

import os
import struct
from collections.abc import Sequence
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from engines.advice import memory_is_limited
from runtime.errors import MediaError

PathLike = str | os.PathLike[str]

PLAYLISTS = frozenset({"hls", "dash", "imf"})  # libav's formats whose pictures are in other files
HEAD = 1 << 16  # bytes looked at
AGAIN = "copy or download it again"
SIGNATURES: Sequence[tuple[bytes, str]] = (
    (b"PK\x03\x04", "a ZIP archive or an office document; unpack it and give the video inside"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it and give the video inside"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it and give the video inside"),
    (b"\x1f\x8b", "a gzip archive; unpack it and give the video inside"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it and give the video inside"),
    (b"%PDF", "a PDF document; give a video file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"),
    (b"Salted__", "encrypted (OpenSSL); decrypt it first"),
    (b"age-encryption.org/", "encrypted (age); decrypt it first"),
    (b"-----BEGIN PGP", "encrypted (PGP); decrypt it first"),
    (b"\x7fELF", "a program; give a video file"),
    (b"MZ", "a program; give a video file"),
)
ENCRYPTED_TAGS = ("encv", "enca", "drmi", "drms")  # sample entries of protected MP4 and MOV files
ENCRYPTED_ASF = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")  # ASF's content encryption object
NO_DRM = "give a copy without copy protection"


def not_media(path: PathLike, reason: str) -> str:
    """The message for a file that no demuxer opens; `reason` is libav's word on it."""
    head = _head(path)
    known = _named(head)
    if known:
        return f"{path} is {known}"
    if _scrambled(head):
        return f"{path} is encrypted (a scrambled broadcast); {NO_DRM}"
    if head[4:8] in (b"ftyp", b"mdat", b"wide") and b"moov" not in _boxes(path):
        return (
            f"{path} is an MP4 or MOV file without its index (no moov box): the recording or the download did not "
            f"finish; {AGAIN}, or repair it with a tool for such recordings"
        )
    return (
        f"{path} is not a video or sound file that can be read ({reason}); "
        "if it should be one, it is damaged or incomplete: copy it again, or convert it with ffmpeg"
    )


def protection(container: InputContainer, stream: Stream) -> str | None:
    """How a stream is encrypted, or None."""
    tag = getattr(stream.codec_context, "codec_tag", "") if stream.codec_context is not None else ""
    if tag in ENCRYPTED_TAGS:
        return f"encrypted (sample entry {tag})"
    if "enc_key_id" in {key.lower() for key in stream.metadata}:
        return "encrypted (Matroska content encryption)"
    return None


def check_encryption(path: PathLike, packet: "Packet[Any]") -> None:
    """Raise MediaError when a packet is encrypted (MP4 and MOV): a decoder would make noise of it, or nothing."""
    if packet.has_sidedata("encryption_info"):
        raise MediaError(f"{path} is encrypted (common encryption, as streaming services use it); {NO_DRM}")


def undecodable(path: PathLike, container: InputContainer, codec: str) -> str:
    """The message for a picture of which no frame can be decoded."""
    head, name = _head(path), container.format.name
    if _animated_webp(head):
        return f"{path} is an animated WebP picture, which cannot be read; convert it to GIF or MP4"
    if name == "asf" and ENCRYPTED_ASF in head:
        return f"{path} is encrypted (Windows Media DRM); {NO_DRM}"
    if name == "mpegts" and _scrambled(head):
        return f"{path} is encrypted (a scrambled broadcast); {NO_DRM}"
    cause = "the file is damaged or incomplete: copy it again, or convert it with ffmpeg"
    if memory_is_limited():
        cause = f"the memory limit (`ulimit -v`) may be too low: raise it. Otherwise {cause}"
    return f"{path}: no frame of its picture ({codec}) can be decoded; {cause}"


def no_decoder(path: PathLike, codec: str) -> str:
    """The message for a picture in a format that is unsupported. The file itself is not at fault."""
    return (
        f"{path}: its picture is in a format that is not supported ({codec}); the file may be intact: "
        "convert it, for example to H.264, with the program of the camera's maker or with ffmpeg"
    )


def _head(path: PathLike) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD)


def _named(head: bytes) -> str | None:
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    start = head[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a video: the download failed; open the page in a browser and download the video itself"
    if head[4:8] in (b"RED1", b"RED2"):
        return "REDCODE RAW, which is not supported; convert it with the camera maker's program"
    if _animated_webp(head):
        return "an animated WebP picture, which cannot be read; convert it to GIF or MP4"
    if not head.strip(b"\0"):
        return f"empty but for zeros: its content was never written; {AGAIN}"
    return None


def _animated_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & 2)


def _boxes(path: PathLike) -> set[bytes]:
    """Types of the boxes at the top of an MP4 or MOV file; at most a thousand of them."""
    found: set[bytes] = set()
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        for _ in range(1000):
            file.seek(at)
            header = file.read(16)
            if len(header) < 8:
                break
            length, kind = struct.unpack(">I4s", header[:8])
            if length == 1 and len(header) == 16:
                length = struct.unpack(">Q", header[8:])[0]
            found.add(kind)
            if length < 8 or at + length > size:
                break
            at += length
    return found


def _scrambled(head: bytes) -> bool:
    """Whether most packets of a transport stream that carry data are marked as scrambled."""
    start = next((i for i in range(min(204, len(head))) if head[i : i + 377 : 188] == b"GGG"), None)
    if start is None:
        return False
    marked = [bool(head[i + 3] & 0xC0) for i in range(start, len(head) - 188, 188) if head[i + 3] & 0x10]
    return 2 * sum(marked) > len(marked)
