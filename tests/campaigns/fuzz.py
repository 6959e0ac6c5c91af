"""`python -m tests.campaigns.fuzz`: damaged media through reading, and through the whole command with `--mux`.

Each case is one damaged file in a forked process with limits on resident memory, time and file size. A case is good if
the file was read, or refused with one line. Faults: a process that died by a signal, a hang, too much memory, a
traceback, an error of several lines, an output or a temporary file that is left, a descriptor or thread that leaks.
The same seed makes the same cases. The last line is one JSON object. The exit status is 1 if a fault was found.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import machine
from runtime import infer
from runtime.audio import read_audio
from runtime.errors import MaskVATError
from runtime.video import FrameGrid, Video
from tests.campaigns import sandbox
from tests.campaigns.corpus import write_corpus
from tests.campaigns.mutate import mutated
from tests.support.fake_engines import FakeBundle, small_config, write_bundle

READ, REFUSED, LEAK = 0, 1, 71
MOST_FRAMES = 2000  # of each grid that one case reads: a file may claim to last for days
PLANTS = ("crash", "hang", "leak", "memory")
GRIDS = (FrameGrid(8, 32, 32), FrameGrid(25, 32, 32))


@dataclass(frozen=True)
class Case:
    """One damaged file."""

    number: int
    source: Path
    mutations: str
    data: bytes


def make_case(files: Sequence[Path], seed: int, number: int) -> Case:
    """Case `number` of a seed; every kind of file in turn."""
    rng = np.random.default_rng([seed, number])
    source, other = files[number % len(files)], files[int(rng.integers(len(files)))]
    data, names = mutated(source.read_bytes(), other.read_bytes(), rng)
    return Case(number, source, names, data)


# ---------------------------------------------------------------- what a case runs
def read(path: Path) -> int:
    """Read picture and sound as the runtime does: READ, REFUSED, or LEAK."""
    before = _held()
    status = READ
    try:
        with Video(path) as video:
            for n, _ in enumerate(video.sample(GRIDS)):
                if n >= 2 * MOST_FRAMES:
                    break
        with contextlib.suppress(MaskVATError):  # many files have no sound
            read_audio(path, 44100)
    except MaskVATError as error:
        print(f"error: {error}", file=sys.stderr)
        status = REFUSED
    if _held() != before:
        print(f"descriptors and threads {before} before, {_held()} after", file=sys.stderr)
        return LEAK
    return status


def _held() -> tuple[int, int]:
    import gc

    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def planted(kind: str, path: Path) -> int:
    """What proves that the campaign sees faults: one case in twenty, by the file's size, crashes, hangs or leaks."""
    if path.stat().st_size % 20 == 0:
        if kind == "crash":
            os.kill(os.getpid(), 11)
        elif kind == "hang":
            time.sleep(3600)
        elif kind == "memory":
            held = bytearray(3 << 30)
            held[::4096] = b"x" * len(held[::4096])
        else:
            before = _held()
            os.open(os.devnull, os.O_RDONLY)
            return LEAK if _held() != before else READ
    return read(path)


def command(path: Path, bundle: Path) -> int:
    """The whole command as a process of its own, with a copy of the video, on engines of a kilobyte."""
    outputs = ["-o", str(path.parent / "out.wav"), "--mux", str(path.parent / f"copy{path.suffix}")]
    options = ["--engines", str(bundle), "--backend", "cpu", "--steps", "1", "--progress", "none"]
    sys.argv = ["runtime.infer", str(path), *outputs, *options]
    return infer.process()


# ---------------------------------------------------------------- the verdict
def verdict(outcome: sandbox.Outcome, folder: Path, case: str) -> str:
    """ "read", "refused", or the name of a fault."""
    if outcome.killed:
        return outcome.killed
    if outcome.status == LEAK:
        return "leak"
    if "Traceback" in outcome.output or outcome.status not in (READ, REFUSED):
        return "traceback"
    left = {p.name for p in folder.iterdir()} - {case, "log"}
    if any(name.startswith(".") or name.endswith(".part") for name in left):
        return "temporary file left"
    errors = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    if outcome.status == REFUSED:
        if left:
            return "output of a failed command"
        if len(errors) != 1:
            return "no advice" if not errors else "several errors"
        after = outcome.output.partition("error: ")[2].strip()
        return "refused" if "\n" not in after else "error of several lines"
    return "read"


def run_case(
    case: Case, folder: Path, limits: sandbox.Limits, run: Callable[[Path], int]
) -> tuple[str, sandbox.Outcome]:
    """One case in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / f"case{case.source.suffix}"
        path.write_bytes(case.data)
        outcome = sandbox.run(lambda: run(path), Path(own) / "log", limits)
        return verdict(outcome, Path(own), path.name), outcome


def make_corpus(folder: Path) -> tuple[list[Path], list[str]]:
    """Write the seeds in a forked process: encoders leave threads, and a process with threads must not fork."""

    def write() -> int:
        _, missing = write_corpus(folder / "corpus")
        (folder / "missing.json").write_text(json.dumps(missing))
        return 0

    made = sandbox.run(write, folder / "corpus.log", sandbox.Limits(seconds=300))
    if made.status != 0:
        raise SystemExit(f"error: the corpus could not be written:\n{made.output}")
    return sorted((folder / "corpus").iterdir()), json.loads((folder / "missing.json").read_text())


@dataclass
class Campaign:
    """The cases of one way of running them, counted."""

    name: str
    run: Callable[[Path], int]
    limits: sandbox.Limits
    keep: Path | None  # folder that the files of faults are kept in

    def __call__(self, files: Sequence[Path], seed: int, count: int, folder: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        faults, peak, slowest, begin = [], 0.0, 0.0, time.monotonic()
        for number in range(count):
            case = make_case(files, seed, number)
            found, outcome = run_case(case, folder, self.limits, self.run)
            counts[found] += 1
            peak, slowest = max(peak, outcome.peak_mb), max(slowest, outcome.seconds)
            if found not in ("read", "refused"):
                last = outcome.output.strip().splitlines()[-1:] or [""]
                faults.append({"case": number, "file": case.source.name, "mutations": case.mutations, "fault": found,
                               "seconds": round(outcome.seconds, 1), "says": last[0][:200]})  # fmt: skip
                print(f"FAULT {self.name} {faults[-1]}", file=sys.stderr, flush=True)
                if self.keep:
                    self.keep.mkdir(parents=True, exist_ok=True)
                    (self.keep / f"{self.name}-{seed}-{number}{case.source.suffix}").write_bytes(case.data)
            if (number + 1) % 500 == 0:
                print(f"{self.name}: {number + 1} of {count}, {dict(counts)}", file=sys.stderr, flush=True)
        return {"cases": count, "counts": dict(counts), "faults": faults, "peak_mb": round(peak),
                "slowest_seconds": round(slowest, 1), "seconds": round(time.monotonic() - begin)}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="damaged files that are read (default: 10,000)")
    parser.add_argument("--commands", type=int, default=1_000, help="damaged files for the command (default: 1,000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same cases (default: 0)")
    parser.add_argument("--plant", choices=PLANTS, help="make this fault on purpose; the campaign must find it")
    parser.add_argument("--seconds", type=float, default=30, help="most seconds of a case (default: 30)")
    parser.add_argument("--keep", type=Path, help="folder for the files that show faults")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, missing = make_corpus(folder)
        bundle = write_bundle(folder / "bundle", FakeBundle(small_config(), self_test=True))
        limits = sandbox.Limits(seconds=args.seconds)
        reading = (lambda path: planted(args.plant, path)) if args.plant else read
        results = {
            "reading": Campaign("reading", reading, limits, args.keep)(files, args.seed, args.cases, folder),
            "command": Campaign("command", lambda path: command(path, bundle), limits, args.keep)(
                files, args.seed + 1, args.commands, folder
            ),
        }
    faults = sum(len(result["faults"]) for result in results.values())
    document = {"campaign": "fuzz", "seed": args.seed, "corpus": [p.name for p in files], "not_written": missing,
                "machine": machine.facts()} | results  # fmt: skip
    print(f"{faults} faults in {args.cases} files read and {args.commands} commands")
    print(json.dumps(document))
    if args.out:
        args.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
