"""How much the server may keep: uploads, results, and what accepted jobs may still write; and what stays free."""

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.serve.config import GB, MB, Limits
from runtime.serve.problems import Problem
from runtime.serve.state import KEPT


@dataclass
class Storage:
    """Counts bytes. Every accepted job reserves what its results may have at most, until it ends."""

    state: Path
    limits: Limits
    arriving: int = 0  # bytes of uploads that are being received
    kept: int = 0  # bytes of uploads and results
    _reserved: dict[str, int] = field(default_factory=dict)  # job -> bytes

    @property
    def reserved(self) -> int:
        """Bytes that accepted jobs may still write."""
        return sum(self._reserved.values())

    def reserve(self, job_id: str, size: int) -> None:
        self._reserved[job_id] = size

    def job_ended(self, job_id: str, kept: int = 0) -> None:
        """A job keeps so many bytes, and needs no more."""
        self._reserved.pop(job_id, None)
        self.kept += kept

    def check_upload(self, size: int) -> None:
        """Raises Problem if there is no room for so many bytes more of an upload."""
        self._check_room(size, "delete some, or wait")

    def check_job(self, size: int) -> None:
        """Raises Problem if there is no room for the results of a job, which may have `size` bytes."""
        limit, text = self.limits.storage_bytes, f"the results of this job may have {in_words(size)}"
        ask = "ask for fewer takes, a lower rate, fewer bits, no video or a shorter range"
        if size > limit:
            raise Problem("option_error", f"{text}, and the server keeps {in_words(limit)} (--max-storage); {ask}")
        self._check_room(size, f"{text}; {ask}, delete something, or wait")

    def _check_room(self, size: int, advice: str) -> None:
        limit, floor = self.limits.storage_bytes, self.limits.free_bytes
        used, reserved = self.kept + self.arriving, self.reserved
        if used + reserved + size > limit:
            text = f"uploads and results may have {in_words(limit)} together (--max-storage)"
            more = f"they have {in_words(used)}, and jobs that wait or run may need {in_words(reserved)}"
            raise Problem("storage_full", f"{text}; {more}; {advice}")
        if self.free() < floor + reserved + size:
            text = f"the server's disk is almost full, and {in_words(floor)} must stay free (--min-free)"
            raise Problem("storage_full", f"{text}; {advice}")

    def free(self) -> int:
        """Bytes that are free on the disk."""
        return shutil.disk_usage(self.state).free

    @property
    def disk_is_low(self) -> bool:
        """Whether less is free than must stay so: then no job begins."""
        return self.free() < self.limits.free_bytes

    async def measure(self) -> None:
        """Count what is on the disk. What came while it counted is added."""
        before = self.kept
        size = await asyncio.to_thread(lambda: sum(size_of(self.state / name) for name in KEPT))
        self.kept = size + max(0, self.kept - before)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, a link as itself."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile
            total += path.lstat().st_size if path.is_file() else 0
    return total


def in_words(size: int) -> str:
    """Bytes for people: "1.3 GB", "20 MB"."""
    return f"{size / GB:.3g} GB" if size >= GB else f"{size / MB:.3g} MB"
