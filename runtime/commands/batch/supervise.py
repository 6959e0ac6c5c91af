"""Run a batch in a child process. If a library crashes on one video, a new child continues with the others.

The parent imports little: it forks before anything heavy is loaded.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.commands import signals
from runtime.commands.crash_guard import ChildEnd, recover_from, run_in_child
from runtime.commands.standard_streams import say

Result = dict[str, Any]  # "status", and what the summary says about a sound


@dataclass
class BatchState:
    """What is known of a batch, by the number of the sound. A new child process starts from it."""

    entries: list[Any] | None = None  # as JSON values; None until the checks have passed
    results: dict[int, Result] = field(default_factory=dict)
    alone: list[int] = field(default_factory=list)  # were being made when a library crashed; one of them did it

    def learn(self, end: ChildEnd) -> bool:
        """Note what a child did before it crashed, and clean up after it. Returns whether the others can continue."""
        for message in end.messages:
            self.entries = message.get("entries", self.entries)
            if "result" in message:
                self.results[message["job"]] = message["result"]
        begun = dict.fromkeys(m["job"] for m in end.messages if "job" in m and m["job"] not in self.results)
        suspects = []
        for number in begun:
            messages = [m for m in end.messages if m.get("job") == number]
            if recover_from(messages):
                self.results[number] = {"status": "done"}
            else:
                suspects.append(number)
        if len(suspects) == 1:
            code, text = end.explain([m for m in end.messages if m.get("job") == suspects[0]])
            self.results[suspects[0]] = {"status": "failed", "error": {"code": code, "message": text}}
        else:
            self.alone = suspects
        return bool(begun)


def how_to_go_on(overwrite: bool) -> str:
    """What to do after a batch was stopped. Outputs that --overwrite has not reached yet exist, too."""
    again = "to make every sound again" if overwrite else "with --skip-existing to make the others"
    return f"run it again {again}"


def process(argv: Sequence[str], prog: str = "maskvat batch") -> int:
    """Run `maskvat batch` as a process of its own. Returns its exit status."""
    state, debug = BatchState(), "--debug" in argv

    def run() -> int:
        from runtime.commands.batch.run import standalone

        return standalone(argv, state)

    while True:
        end = run_in_child(run, debug)
        if isinstance(end, int):
            return end
        if end.told_status is not None:
            return end.told_status
        go_on = state.learn(end)
        if end.stop_signal:
            signals.handle(signal.SIG_IGN)  # only the exit is left
            done = sum(r["status"] == "done" for r in state.results.values())
            say(f"stopped; {done} of {len(state.entries or ())} sounds are done; {how_to_go_on('--overwrite' in argv)}")
            return 128 + end.stop_signal
        if not go_on:
            say(f"error: {end.explain(end.messages)[1]}")
            return 1
