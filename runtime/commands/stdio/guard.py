"""Run `maskvat stdio` in a child process: if a library crashes, the host gets a last line that says so."""

import signal
from collections.abc import Sequence
from contextlib import suppress

from runtime.commands import signals
from runtime.commands.crash_guard import recover_from, run_in_child
from runtime.commands.standard_streams import print_event, say


def process(argv: Sequence[str]) -> int:
    """Run `maskvat stdio` as a process of its own. Returns its exit status."""

    def run() -> int:
        from runtime.commands.stdio.start import standalone

        return standalone(argv)

    end = run_in_child(run, "--debug" in argv)
    if isinstance(end, int):
        return end
    signals.handle(signal.SIG_IGN)  # only the cleaning up and the exit are left
    published = recover_from(end.messages)
    if end.told_status is not None:
        return end.told_status
    stopped = end.stop_signal
    code, text = ("stopped", signals.STOPPED) if stopped else end.explain(end.messages)
    if published:
        text = f"{'stopped' if stopped else text}; the files were written before"
    request = next((m["request"] for m in reversed(end.messages) if "request" in m), None)
    say(text if stopped else f"error: {text}")
    facts = {"published": True} if published else {}
    with suppress(OSError, ValueError):  # the host may be gone
        print_event("error", id=request, code=code, message=text, fatal=True, **facts)
    return 128 + stopped if stopped else 1
