"""One run of benchmarks.card: which parts come next, with how much time, and what is kept of each."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import inf, isfinite

from benchmarks.card.parts import Part
from benchmarks.card.runner import Outcome, Runner, parsed
from benchmarks.card.store import CUT, DONE, FAILED, LEFT_OUT, LOST, TRIES, WAITING, Store

MARGIN = 25.0  # seconds of the limit that are kept for stopping a part and writing results
SAY = Callable[[str], None]


@dataclass
class Session:
    """Runs parts until all are done, the time is over, or the GPU is lost."""

    store: Store
    runner: Runner
    limit: float | None  # seconds
    say: SAY = print
    clock: Callable[[], float] = time.monotonic
    again: frozenset[str] = frozenset()  # parts to run although they are done
    begin: float | None = None  # of the limit, on the clock; default: now

    def __post_init__(self) -> None:
        if self.begin is None:
            self.begin = self.clock()

    def left(self) -> float:
        """Seconds for the next part."""
        if self.limit is None or self.begin is None:
            return inf
        return self.limit - MARGIN - (self.clock() - self.begin)

    def waiting(self, parts: Sequence[Part]) -> list[Part]:
        """The parts to run, new ones first: one that was cut or failed must not keep the others from their turn."""
        given_up = {p.name for p in parts if not self.unfinished(p) and self.store.status(p.name) == FAILED}
        rest = [p for p in parts if p.left_out is None and p.after not in given_up and self.needed(p, parts)]
        return sorted(rest, key=lambda p: (p.seconds is None, self.store.tries(p.name)))

    def unfinished(self, part: Part) -> bool:
        """Whether a part is to be run: not if it is done, or has failed too often, unless it is named."""
        if part.name in self.again:
            return True
        status = self.store.status(part.name)
        return status != DONE and not (status == FAILED and self.store.tries(part.name) >= TRIES)

    def needed(self, part: Part, parts: Sequence[Part]) -> bool:
        """Whether a part is to be run now; files for other parts only if one of these is."""
        after = [p for p in parts if p.after == part.name]
        return self.unfinished(part) and (
            not (part.local and after) or any(p.left_out is None and self.unfinished(p) for p in after)
        )

    def run(self, parts: Sequence[Part]) -> bool:
        """Run what can be run. Returns whether the GPU is still there."""
        for part in parts:
            if part.left_out is not None and self.store.status(part.name) != DONE:
                self.keep(part, Outcome(LEFT_OUT, part.left_out))
        started: set[str] = set()
        while (part := self.next_part([p for p in self.waiting(parts) if p.name not in started], parts)) is not None:
            started.add(part.name)
            outcome = self.run_one(part)
            self.keep(part, outcome)
            if outcome.status == LOST:
                self.say("the GPU does not answer any more; what was measured is kept, and the rest waits")
                break
        for part in parts:
            if part in self.waiting(parts) and self.store.status(part.name) is None:
                self.keep(part, Outcome(WAITING, "there was no time, or a part before it is not done"))
        return all(self.store.status(name) != LOST for name in started)

    def run_one(self, part: Part) -> Outcome:
        """Run a part, and find out why it ended early."""
        seconds = min(self.left(), part.seconds or self.left())
        self.say(f"{part.name}: {part.what}" + (f", at most {seconds:.0f} s" if isfinite(seconds) else ""))
        try:
            outcome = self.runner.run(part, seconds)
        except KeyboardInterrupt:
            self.keep(part, Outcome(CUT, "interrupted"))
            raise
        if outcome.status == DONE:
            return outcome
        if not self.runner.card_is_there():
            return replace(outcome, status=LOST, reason=f"the GPU is gone: {outcome.reason}")
        if outcome.status == CUT and part.seconds is not None and seconds == part.seconds:
            return replace(outcome, status=FAILED, reason=f"took more than its {part.seconds:.0f} s")
        return outcome

    def next_part(self, waiting: Sequence[Part], parts: Sequence[Part]) -> Part | None:
        """The next part that has its predecessor and enough time for a start."""
        known = {p.name for p in parts}
        for part in waiting:
            ready = part.after is None or part.after not in known or self.store.status(part.after) == DONE
            if ready and self.left() >= part.least:
                return part
        return None

    def keep(self, part: Part, outcome: Outcome) -> None:
        """Write a part's record now, whatever comes next."""
        tried = outcome.status in (CUT, FAILED, LOST)
        record = {"name": part.name, "what": part.what, "status": outcome.status, "reason": outcome.reason}
        record |= {"local": True} if part.local else {}
        record |= {"seconds": round(outcome.seconds, 1), "date": date.today().isoformat()}
        record |= {"tries": self.store.tries(part.name) + tried, "result": parsed(outcome.result)}
        if outcome.output:
            record["output"] = outcome.output
        self.store.put(record)
        if outcome.status not in (LEFT_OUT, WAITING):
            self.say(f"{part.name}: {outcome.status}" + (f": {outcome.reason}" if outcome.reason else ""))
