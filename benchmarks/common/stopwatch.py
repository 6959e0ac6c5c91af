"""What something took: seconds, and processor seconds, which other work on the machine changes less."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds, and processor seconds of all threads of this process."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Spent":
        """Where the clocks stand: differences are what was spent between."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.cpu - other.cpu)
