"""Ways to damage a file. Each is a pure function of the bytes and a random generator, so a case can be made again."""

from collections.abc import Callable

import numpy as np

Mutation = Callable[[bytes, bytes, np.random.Generator], bytes]
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 2**64 - 1)


def flip_bits(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Flip 1 to 256 single bits."""
    out = bytearray(data)
    for at in rng.integers(0, len(out), 2 ** int(rng.integers(0, 9))):
        out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)


def flip_header(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits among the first and last kilobyte, where containers keep their tables."""
    out = bytearray(data)
    for _ in range(2 ** int(rng.integers(0, 6))):
        at = int(rng.integers(0, min(1024, len(out))))
        out[at if rng.random() < 0.5 else len(out) - 1 - at] ^= 1 << int(rng.integers(8))
    return bytes(out)


def cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Keep only the beginning."""
    return data[: int(rng.integers(0, len(data)))]


def drop(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Take out a piece."""
    a, b = sorted(int(x) for x in rng.integers(0, len(data), 2))
    return data[:a] + data[b:]


def repeat(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Insert a copy of a piece, up to 50 times: packets, clocks and tables appear again."""
    a, b = sorted(int(x) for x in rng.integers(0, len(data), 2))
    b = min(b, a + 65536)
    at = int(rng.integers(0, len(data)))
    return data[:at] + data[a:b] * int(rng.integers(1, 51)) + data[at:]


def splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The beginning of this file and the end of another one."""
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def swap(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Exchange two pieces: packets of one stream lie where the other's were."""
    size = int(rng.integers(1, max(2, len(data) // 4)))
    a, b = sorted(int(x) for x in rng.integers(0, max(1, len(data) - size), 2))
    if b - a < size:
        return data
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def extreme(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Set fields of 1 to 8 bytes to extreme values: sizes, counts, time stamps, rates."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        width = int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice(np.array(EXTREMES, dtype=object))) & (1 << 8 * width) - 1
        at = int(rng.integers(0, max(1, min(len(out), 4096 if rng.random() < 0.6 else len(out)) - width)))
        out[at : at + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")
    return bytes(out)


def fill(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a piece with zeros, ones or noise."""
    a, b = sorted(int(x) for x in rng.integers(0, len(data), 2))
    b = min(b, a + 4096)
    junk = {0: bytes(b - a), 1: b"\xff" * (b - a), 2: rng.bytes(b - a)}[int(rng.integers(3))]
    return data[:a] + junk + data[b:]


MUTATIONS: tuple[Mutation, ...] = (flip_bits, flip_header, cut, drop, repeat, splice, swap, extreme, extreme, fill)


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """One to three mutations in a row; the new bytes and the mutations' names."""
    names = []
    for _ in range(int(rng.integers(1, 4))):
        mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        if data:
            data = mutation(data, other, rng)
        names.append(mutation.__name__)
    return data, "+".join(names)
