"""Times one generation of a system by stage, also when a part of its work is left out.

Published systems need minutes to hours per clip on a CPU. Their own code runs from the first line to the last, but of
calls that are alike only some are computed. For each call that is left out the clock charges what it would have taken:
the mean of the rows that were computed, or the seconds at its size, interpolated between the sizes that were computed.
Before the first of such calls, one is made that counts nowhere.
"""

import copy
import statistics
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np

Function = Callable[..., Any]


class Part(ABC):
    """Work of one kind, of which only a part is computed. `charge` is the seconds of the rest."""

    def __init__(self, clock: "Clock", stage: str, unit: str) -> None:
        self.clock, self.stage, self.unit = clock, stage, unit
        self.computed = self.all = 0

    def run(self, function: Function, *args: Any, **options: Any) -> tuple[Any, float]:
        """Call a function; return its answer and seconds."""
        begin = time.perf_counter()
        answer = function(*args, **options)
        return answer, time.perf_counter() - begin

    @abstractmethod
    def charge(self) -> float: ...

    def note(self) -> str:
        return f"{self.computed} of {self.all} {self.unit}"


class Rows(Part):
    """The first `limit` rows of all batches are computed; others get the last answer."""

    def __init__(self, clock: "Clock", stage: str, unit: str, limit: int) -> None:
        super().__init__(clock, stage, unit)
        self.limit, self.seconds = limit, 0.0
        self.last: Any = None

    def wrap(self, function: Function) -> Function:
        def wrapped(batch: Any, *args: Any, **options: Any) -> Any:
            import torch

            count = min(len(batch), self.limit - self.computed)
            answers = []
            if count:
                if not self.computed:
                    self.clock.not_counted(function, batch[:1], *args, **options)
                answer, seconds = self.run(function, batch[:count], *args, **options)
                self.seconds += seconds
                self.computed += count
                self.last = answer[-1:]
                answers.append(answer)
            self.all += len(batch)
            rest = len(batch) - count
            return torch.cat([*answers, self.last.expand(rest, *self.last.shape[1:])])

        return wrapped

    def charge(self) -> float:
        return (self.all - self.computed) * self.seconds / max(1, self.computed)


class Calls(Part):
    """A call is computed if no call of about its size was: of sizes at least `apart`, so 1 means of equal sizes.

    Other calls get a copy of the answer of the nearest size.
    """

    def __init__(self, clock: "Clock", stage: str, unit: str, size: Function, apart: int = 1) -> None:
        super().__init__(clock, stage, unit)
        self.size, self.apart = size, apart
        self.seconds: dict[int, float] = {}
        self.answers: dict[int, Any] = {}
        self.left_out: list[int] = []

    def wrap(self, function: Function) -> Function:
        def wrapped(*args: Any, **options: Any) -> Any:
            size, self.all = self.size(*args), self.all + 1
            nearest = min(self.answers, key=lambda other: abs(other - size), default=None)
            if nearest is None or abs(nearest - size) >= self.apart:
                if not self.computed:
                    self.clock.not_counted(function, *args, **options)
                answer, self.seconds[size] = self.run(function, *args, **options)
                self.answers[size] = copy.deepcopy(answer)  # callers may change what they get
                self.computed += 1
                return answer
            self.left_out.append(size)
            return copy.deepcopy(self.answers[nearest])

        return wrapped

    def charge(self) -> float:
        sizes = sorted(self.seconds)
        seconds = [self.seconds[size] for size in sizes]
        charges = np.interp(self.left_out, sizes, seconds)
        if len(sizes) > 1:  # beyond the largest size the line goes on
            slope = (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2])
            charges = charges + slope * np.maximum(np.array(self.left_out) - sizes[-1], 0)
        return float(np.sum(charges))


class Clock:
    """Use it in a `with` statement: it changes functions of a system, and puts them back at its end.

    `whole`: leave nothing out.
    """

    def __init__(self, whole: bool = False) -> None:
        self.whole = whole
        self.parts: list[Part] = []
        self.ran: dict[str, float] = defaultdict(float)
        self.excluded = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _replace(self, owner: Any, name: str, wrap: Callable[[Function], Function]) -> None:
        self._stack.enter_context(patch.object(owner, name, wrap(getattr(owner, name))))

    def not_counted(self, function: Function, *args: Any, **options: Any) -> None:
        """Call a function, and count its seconds nowhere."""
        begin = time.perf_counter()
        function(*args, **options)
        self.excluded += time.perf_counter() - begin

    def stage(self, stage: str, owner: Any, name: str) -> None:
        """Count the seconds of all calls of owner.name in a stage."""

        def wrap(function: Function) -> Function:
            def wrapped(*args: Any, **options: Any) -> Any:
                begin, excluded = time.perf_counter(), self.excluded
                answer = function(*args, **options)
                self.ran[stage] += time.perf_counter() - begin - (self.excluded - excluded)
                return answer

            return wrapped

        self._replace(owner, name, wrap)

    def rows(self, stage: str, owner: Any, name: str, limit: int, unit: str) -> None:
        """Compute at most `limit` rows of the batches [N, ...] that owner.name gets."""
        self._leave_out(owner, name, Rows(self, stage, unit, limit))

    def calls(self, stage: str, owner: Any, name: str, size: Function, unit: str, apart: int = 1) -> None:
        """Compute one call of owner.name per size. `size` gets its arguments."""
        self._leave_out(owner, name, Calls(self, stage, unit, size, apart))

    def _leave_out(self, owner: Any, name: str, part: Any) -> None:
        if not self.whole:
            self.parts.append(part)
            self._replace(owner, name, part.wrap)

    def measure(self, generate: Callable[[], Any], rest: str) -> dict[str, Any]:
        """Call `generate`; seconds of all and of each stage, and what was computed. `rest`: the stage of other time."""
        begin = time.perf_counter()
        generate()
        wall = time.perf_counter() - begin - self.excluded
        stages, notes = dict(self.ran), {}
        stages[rest] = stages.get(rest, 0.0) + wall - sum(self.ran.values())
        charged: dict[str, float] = defaultdict(float)
        for part in self.parts:
            if part.all > part.computed:
                charged[part.stage] += part.charge()
                notes[part.stage] = part.note()
        for stage, seconds in charged.items():
            stages[stage] = stages.get(stage, 0.0) + seconds
        return {"seconds": wall + sum(charged.values()), "computed_seconds": wall, "stages": stages, "in_part": notes}


def fastest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run with the fewest seconds, with those of all runs: other work on the machine only adds to them."""
    best = min(runs, key=lambda run: float(run["seconds"]))
    every = [float(run["seconds"]) for run in runs]
    return best | {"all": every, "median": statistics.median(every)}
