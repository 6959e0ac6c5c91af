"""`python -m tests.campaigns.kill9`: kill -9 at random moments of everything that writes files.

It kills the command with all of its outputs, `train.fit`, `train.prepare` and the building of TensorRT plans.
After every kill each file under a final name must be whole, no checkpoint older than one interval may be lost, and
every process that the work started must end. The same work must then succeed without help, with the same bytes as a
run that nobody killed. The same seed draws the same moments. The exit status is 1 if a fault was found; the last line
is JSON. Linux only.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import runtime.commands.make  # before the forks: it is the command, which `infer` imports late  # noqa: F401
from tests.campaigns import report, sandbox
from tests.campaigns.killed import WORKS, Work

DEAD = -signal.SIGKILL
WAIT = 10.0  # seconds for the rest of a process group to clean up and end


@dataclass(frozen=True)
class Life:
    """How a run ended."""

    status: int
    seconds: float  # how long it ran
    left: list[str]  # processes that it started and that had not ended some seconds later; they are killed then

    def faults(self) -> list[str]:
        return [f"a process goes on: {name}" for name in self.left]


def life(work: Work, log: Path, seconds: float = 600.0, everything: bool = True) -> Life:
    """Run the work in a forked process and kill it after some seconds.

    `everything`: kill the whole process group, as the out-of-memory killer or a shutdown does; otherwise the parent.
    """
    begin = time.monotonic()
    child = sandbox.start(work.run, log, sandbox.Limits(file_mb=4096))
    status = None
    while status is None and time.monotonic() - begin < seconds:
        done, code = os.waitpid(child, os.WNOHANG)
        status = code if done else None
        time.sleep(0.001)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL) if everything else os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    lasted = time.monotonic() - begin
    while (left := _started_by(child)) and time.monotonic() - begin < lasted + WAIT:
        time.sleep(0.01)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return Life(os.waitstatus_to_exitcode(status), lasted, list(left.values()))


def _started_by(child: int) -> dict[int, str]:
    """The processes of the session that a child began, with their commands; zombies are none."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            state, _, _, session = rest.split()[:4]
            if int(session) == child and state != "Z":
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                found[int(folder.name)] = " ".join(words).strip()[:100] or name.partition("(")[2]
    return found


def campaign(work: Work, kills: int, seed: int) -> dict[str, Any]:
    """Kill one work so many times; what happened, and the faults."""
    rng = np.random.default_rng([seed, *work.name.encode()])
    log, begin = work.folder / "log", time.monotonic()
    work.write()
    first = life(work, log)
    whole = first.seconds
    if first.status != work.good or first.left:
        raise SystemExit(f"error: {work.name} does not work:\n{log.read_text(errors='replace')}{first.faults()}")
    work.keep_reference()
    counts: Counter[str] = Counter()
    faults: list[str] = []
    while counts["killed"] < kills and counts["killed"] + counts["ended before"] < 3 * kills:
        number = counts["killed"] + counts["ended before"]
        work.begin(number)
        moment = float(rng.uniform(0, whole))
        run = life(work, log, moment, everything=work.whole_group(number))
        found = work.check() + run.faults()
        if run.status == DEAD:
            counts["killed"] += 1
        else:
            counts["ended before"] += 1
            whole = 0.5 * (whole + run.seconds)
            found += [] if run.status == work.good else [f"exit status {run.status}: {_tail(log)}"]
        if run.status != DEAD or work.always_again:
            again = life(work, log)
            found += work.check_again(again.status, _tail(log), counts) + again.faults()
        for fault in found:
            faults.append(f"kill {number} after {moment:.2f} s: {fault}")
            print(f"FAULT {work.name} {faults[-1]}", file=sys.stderr, flush=True)
    print(f"{work.name}: {dict(counts)}, {len(faults)} faults", file=sys.stderr, flush=True)
    return {"counts": dict(counts), "faults": faults, "seconds_of_one_run": round(whole, 2),
            "seconds": round(time.monotonic() - begin)}  # fmt: skip


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])[-400:]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kill9", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="how often to kill each (default: 50)")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS), help="what runs (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments (default: 0)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", file=sys.stderr)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.works:
            folder = Path(temporary) / name
            folder.mkdir()
            results[name] = campaign(WORKS[name](folder), args.kills, args.seed)
    faults = sum(len(result["faults"]) for result in results.values())
    print(f"{faults} faults in {sum(r['counts'].get('killed', 0) for r in results.values())} kills")
    report.finish("kill9", {"seed": args.seed} | results, args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
