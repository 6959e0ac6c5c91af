"""Recognise a video again by its content, whatever its name. Quick for files of any size."""

import os
from dataclasses import dataclass
from hashlib import sha256

from runtime.audio import PathLike, open_media
from runtime.errors import MediaError

BLOCKS, BLOCK = 64, 16384  # what is read of a large file: so many blocks of so many bytes, evenly spread


@dataclass(frozen=True)
class Fingerprint:
    """A video's name, size in bytes, and digest of its content ("" if a host gave frames without one)."""

    name: str
    size: int
    digest: str

    def matches(self, other: "Fingerprint") -> bool:
        """Whether both are the same content, as far as is known."""
        if not self.digest or not other.digest:
            return True
        return (self.size, self.digest) == (other.size, other.digest)

    def __str__(self) -> str:
        return f"{self.name} ({self.size} bytes, {self.digest[:8] or 'no fingerprint'})"


def file_fingerprint(path: PathLike) -> Fingerprint:
    """Read the fingerprint of a file: all of a small one, 1 MiB of a large one. Raises MediaError."""
    try:
        if not os.path.isfile(path):  # reading a named pipe would wait for ever
            raise OSError("it is not a regular file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = sha256(str(size).encode())
            if size <= BLOCKS * BLOCK:
                digest.update(file.read())
            else:
                for n in range(BLOCKS):  # the first block begins the file, the last one ends it
                    file.seek((size - BLOCK) * n // (BLOCKS - 1))
                    digest.update(file.read(BLOCK))
    except OSError as error:
        open_media(path).close()  # says what is wrong
        raise MediaError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    return Fingerprint(os.path.basename(os.fspath(path)), size, digest.hexdigest())
