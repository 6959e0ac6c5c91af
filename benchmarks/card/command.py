"""The command on the machine with the GPU: plan, run, take home."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.card.home import carry_states
from benchmarks.card.parts import Machine, Part, Places, get_parts
from benchmarks.card.probe import probe
from benchmarks.card.runner import ProcessRunner
from benchmarks.card.session import MARGIN, Session
from benchmarks.card.store import CARD, DONE, FAILED, LEFT_OUT, WAITING, OutputLimit, Store
from benchmarks.common.machine import ROOT, revision
from runtime.errors import MaskVATError, OptionError

LEAST_LIMIT = 60.0  # seconds
WAITS = 75  # exit status if another run would do more


def read_pack(root: Path) -> dict[str, Any]:
    """What pack.json says; without a pack, that there is no training. Raises MaskVATError if files are missing."""
    path = root / "pack" / "pack.json"
    if not path.is_file():
        return {"trainings": [], "revision": None, "left_out": []}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    whole = {name: size for name, size in values["files"].items() if ".piece" not in name}
    bad = [name for name, size in whole.items() if not (root / name).is_file() or (root / name).stat().st_size != size]
    if bad:
        raise MaskVATError(f"{len(bad)} files of the pack are missing or altered, such as {bad[0]}; copy it again")
    return values


def chosen_parts(parts: Sequence[Part], only: Sequence[str] | None) -> list[Part]:
    """The parts whose names match. Raises OptionError if a pattern matches none."""
    for pattern in only or ():
        if not any(fnmatch(part.name, pattern) for part in parts):
            raise OptionError(
                f"--only {pattern}: there is no such part; the parts are {', '.join(p.name for p in parts)}"
            )
    return [p for p in parts if only is None or any(fnmatch(p.name, pattern) for pattern in only)]


def plan_text(parts: Sequence[Part], store: Store, machine: Machine, limit: float | None) -> str:
    """What will be done, in order, with the most that each part may take."""
    lines = [f"GPU: {machine.card or 'none'}; {machine.memory_mb:.0f} MB are free"]
    lines.append(
        "time: " + ("no limit" if limit is None else f"{limit:.0f} s, of which {MARGIN:.0f} s are kept for writing")
    )
    width = max(len(part.name) for part in parts)
    for part in parts:
        status = store.status(part.name)
        most = "what is left" if part.seconds is None else f"at most {part.seconds:.0f} s"
        state = f"left out: {part.left_out}" if part.left_out else most
        if status is not None and status != LEFT_OUT:
            state = f"{status} before" if status == DONE else f"{state} ({status} before)"
        lines.append(f"  {part.name:{width}}  {part.what}: {state}")
    return "\n".join(lines)


def measure(args: Namespace) -> int:
    """Run all parts that are not done; returns the exit status."""
    if args.time_limit is not None and not args.time_limit >= LEAST_LIMIT:
        raise OptionError(f"--time-limit {args.time_limit:g}: it must be at least {LEAST_LIMIT:g} seconds")
    limit, work = OutputLimit.parse(args.max_output), args.work.resolve()
    for folder in (work, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    environment, pack, begin = dict(os.environ), read_pack(ROOT), time.monotonic()
    machine = probe(ROOT, environment)
    header = {"benchmark": "card", "date": date.today().isoformat(), "revision": revision() or pack["revision"]}
    header |= {"machine": machine.facts, "memory_mb": machine.memory_mb, "backends": machine.backends}
    store = Store(work, args.out, limit, header, ROOT / "pack" / "results" / CARD)
    session = Session(store, ProcessRunner(ROOT, work, environment), args.time_limit, begin=begin)
    parts = chosen_parts(get_parts(machine, Places(ROOT, work), pack["trainings"]), args.only)
    session.again = frozenset(p.name for p in parts) if args.only else frozenset()
    print(plan_text(parts, store, machine, args.time_limit), flush=True)
    if args.plan:
        return 0
    there = True
    try:
        there = session.run(parts)
    finally:
        for line in carry_states(store, pack["trainings"]):
            print(f"note: {line}")
    return finish(parts, session, there)


def finish(parts: Sequence[Part], session: Session, there: bool) -> int:
    """Print how the parts ended; returns the exit status. Raises MaskVATError if the GPU was lost, or parts failed."""
    session.again = frozenset()  # what was named has had its turn
    store, waiting = session.store, [p.name for p in session.waiting(parts)]
    counts: dict[str, int] = {}
    for part in parts:
        status = store.status(part.name) or WAITING
        counts[status] = counts.get(status, 0) + 1
    print(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; results: {store.out / CARD}")
    if not there:
        raise MaskVATError("the GPU was lost; check it with `nvidia-smi`, then run the same command again")
    if waiting:
        print(f"the same command goes on with {', '.join(waiting)}")
        return WAITS
    if failed := [p.name for p in parts if store.status(p.name) == FAILED]:
        raise MaskVATError(f"{', '.join(failed)} failed; their words are in {store.out / CARD}")
    return 0
