"""Elapsed wall-clock time and processor time. Other work on the machine changes processor time less."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Elapsed:
    """Wall-clock seconds, and processor seconds of all threads of this process."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Elapsed":
        """Read both clocks. The difference of two readings is the time between them."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Elapsed") -> "Elapsed":
        return Elapsed(self.wall - other.wall, self.cpu - other.cpu)
