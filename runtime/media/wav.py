"""The bytes of a WAV file: 16-bit, 24-bit or float samples, chunks for editors, and RF64 (EBU Tech 3306) above 4 GB."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Bits = Literal["16", "24", "float"]
Chunk = tuple[bytes, bytes]  # four letters, content

BLOCK = 1 << 16  # samples encoded at a time
SIZE_LIMIT = 2**32 - 1  # RIFF counts bytes in 32 bits
PCM, FLOAT = 1, 3  # format tags
BYTES: dict[Bits, int] = {"16": 2, "24": 3, "float": 4}  # of one sample


@dataclass(frozen=True)
class WavFormat:
    """How the samples are stored. Two channels hold the same sound."""

    rate: int  # Hz
    bits: Bits = "16"
    channels: int = 1

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels."""
        return BYTES[self.bits] * self.channels


def wav_header(form: WavFormat, samples: int, chunks: Sequence[Chunk] = (), limit: int = SIZE_LIMIT) -> bytes:
    """Everything before the samples. `chunks` come first; a file above `limit` bytes becomes an RF64 file."""
    size = form.block * samples
    rest = b"".join(_chunk(name, content) for name, content in chunks)
    rest += _chunk(b"fmt ", _fmt(form))
    if form.bits == "float":
        rest += _chunk(b"fact", struct.pack("<I", min(samples, SIZE_LIMIT)))
    total = 4 + len(rest) + 8 + size + size % 2
    if total <= limit:
        return struct.pack("<4sI4s", b"RIFF", total, b"WAVE") + rest + struct.pack("<4sI", b"data", size)
    sizes = _chunk(b"ds64", struct.pack("<QQQI", total + 36, size, samples, 0))
    return struct.pack("<4sI4s", b"RF64", SIZE_LIMIT, b"WAVE") + sizes + rest + struct.pack("<4sI", b"data", SIZE_LIMIT)


def endless_header(form: WavFormat) -> bytes:
    """As `wav_header`, for a pipe. Both sizes are 0xFFFFFFFF, as FFmpeg writes them too: up to the end."""
    header = bytearray(wav_header(form, 0))
    header[4:8] = header[-4:] = b"\xff" * 4
    return bytes(header)


def growing_header(form: WavFormat, samples: int, limit: int = SIZE_LIMIT) -> bytes:
    """As `wav_header`, and always of one length: the chunk `JUNK` keeps the place of the sizes of an RF64 file."""
    header = wav_header(form, samples, [(b"JUNK", bytes(28))], limit)
    return header if header.startswith(b"RIFF") else wav_header(form, samples, limit=0)


def raw_samples(form: WavFormat, audio: FloatArray) -> Iterator[bytes]:
    """The samples of mono audio [L] in [-1, 1], block by block: little-endian, channels interleaved."""
    for first in range(0, len(audio), BLOCK):
        block = encode(audio[first : first + BLOCK], form.bits)
        yield block.repeat(form.channels, axis=0).tobytes()


def wav_samples(form: WavFormat, audio: FloatArray) -> Iterator[bytes]:
    """As `raw_samples`, with the padding to a whole number of words that ends the file."""
    yield from raw_samples(form, audio)
    if form.block * len(audio) % 2:
        yield b"\0"


def encode(audio: FloatArray, bits: Bits) -> NDArray[np.uint8]:
    """[L] in [-1, 1] -> little-endian samples [L, bytes]. Integers are rounded to the nearest; samples above
    full scale are clipped. Float samples are kept as they are.
    """
    if bits == "float":
        samples: NDArray[Any] = audio.astype("<f4")
    else:
        samples = integers(audio, int(bits)).astype("<i4" if bits == "24" else "<i2")
    width = samples.itemsize
    return samples[:, None].view(np.uint8).reshape(len(audio), width)[:, : BYTES[bits]]


def integers(audio: FloatArray, bits: int) -> NDArray[np.int32]:
    """[-1, 1] -> whole numbers of that many bits, at most 24, which float32 holds exactly."""
    scale = 2.0 ** (bits - 1)
    return np.asarray(np.clip(np.rint(audio * np.float32(scale)), -scale, scale - 1), np.int32)


def _fmt(form: WavFormat) -> bytes:
    width = BYTES[form.bits]
    tag = FLOAT if form.bits == "float" else PCM
    content = struct.pack("<HHIIHH", tag, form.channels, form.rate, form.rate * form.block, form.block, 8 * width)
    return content + b"\0\0" if tag == FLOAT else content  # other formats than PCM give the size of an extension


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) % 2)
