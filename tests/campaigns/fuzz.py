"""`python -m tests.campaigns.fuzz`: damaged media through reading, and through the whole command with `--mux`.

Each case is one damaged file in a forked process with limits on resident memory, time and file size. A process reads a
few files, one after the other; if it does not end well, the file that it was reading is read again in a process of its
own. A case is good if the file was read, or refused with one line. Faults: a process that died by a signal, a hang, too
much memory, a traceback, an error of several lines, an output or a temporary file that is left, a descriptor or thread
that leaks. The same seed makes the same cases. The last line is one JSON object; it says which lines of the code that
reads and writes media the cases reached. The exit status is 1 if a fault was found.
"""

import argparse
import contextlib
import gc
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import runtime.commands.make  # before the forks: it is the command, which `infer` imports late
from runtime import infer
from runtime.audio import read_audio
from runtime.errors import MaskVATError
from runtime.video import FrameGrid, Video
from tests.campaigns import report, sandbox
from tests.campaigns.corpus import KINDS, write_corpus
from tests.campaigns.lines import Lines
from tests.campaigns.mutate import mutated
from tests.support.fake_engines import FakeBundle, small_config, write_bundle
from tests.support.paths import ROOT

READ, REFUSED, LEAK = 0, 1, 71
GOOD = ("read", "refused")
BATCH, TRACE_EVERY = 25, 5
SETTLE = 2.0  # seconds
RUNTIME = Path(runtime.__file__).parent
MOST_FRAMES = 2000  # of each grid that one case reads: a file may claim to last for days
COPIES = ("", ".mkv", "", ".mp4", "", ".mov", "", ".avi")  # suffix of the copy; "" is that of the case
OUTPUTS = (set(), {"out", "copy"}, {"out", "copy", "report"})  # of reading, and of the command
PLANTS = ("crash", "hang", "leak", "memory")
TRACED = ("video.py", "audio.py", "media/*.py", "deliver/*.py", "commands/outputs.py", "commands/staging.py")
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
    status = _read(path)
    if _grown(before):
        print(f"descriptors and threads {before} before, {_held()} after", file=sys.stderr)
        return LEAK
    return status


def _read(path: Path) -> int:
    try:
        with Video(path) as video:
            for n, _ in enumerate(video.sample(GRIDS)):
                if n >= 2 * MOST_FRAMES:
                    break
        with contextlib.suppress(MaskVATError):  # many files have no sound
            read_audio(path, 44100)
        return READ
    except MaskVATError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED


def _held() -> tuple[int, int]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def _grown(before: tuple[int, int]) -> bool:
    """Whether more is held than before. A decoder's threads end a moment after it was closed."""
    end = time.monotonic() + SETTLE
    while any(now > then for now, then in zip(_held(), before, strict=True)):
        if time.monotonic() > end:
            return True
        time.sleep(0.01)
    return False


def planted(kind: str, path: Path, limits: sandbox.Limits) -> int:
    """Prove that the campaign sees faults: every twentieth case crashes, hangs, leaks, or uses too much memory."""
    if int(path.stem.removeprefix("case")) % 20 == 7:
        if kind == "crash":
            os.kill(os.getpid(), 11)
        elif kind == "hang":
            time.sleep(3600)
        elif kind == "memory":
            held = bytearray(limits.memory_mb * 3 << 19)
            held[::4096] = b"x" * len(held[::4096])
            time.sleep(1)
        else:
            before = _held()
            os.open(os.devnull, os.O_RDONLY)
            return LEAK if _grown(before) else READ
    return read(path)


def command(path: Path, bundle: Path) -> int:
    """The whole command as a process of its own, with a copy of the video, on engines of a kilobyte."""
    folder, number = path.parent, int(path.stem.removeprefix("case"))
    suffix = COPIES[number // 2 % len(COPIES)] or path.suffix
    outputs = ["-o", str(folder / "out.wav"), "--mux", str(folder / f"copy{suffix}")]
    outputs += ["--existing", "keep"] if number % 2 else []
    outputs += ["--report", str(folder / "report.json"), "--overwrite", "--rate", "48000"] if number % 3 else []
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
    left = {p.name.split(".")[0] if not p.name.startswith(".") else p.name for p in folder.iterdir()}
    left -= {case.split(".")[0], "log"}
    if any(name.startswith(".") for name in left):
        return "temporary file left"
    errors = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    if outcome.status == REFUSED:
        if left:
            return "output of a failed command"
        if len(errors) != 1:
            return "no advice" if not errors else "several errors"
        after = outcome.output.partition("error: ")[2].strip()
        return "refused" if "\n" not in after else "error of several lines"
    if left not in OUTPUTS:
        return "some outputs"
    return "read"


def run_case(
    case: Case, folder: Path, limits: sandbox.Limits, run: Callable[[Path], int]
) -> tuple[str, sandbox.Outcome]:
    """One case in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / f"case{case.number}{case.source.suffix}"
        path.write_bytes(case.data)
        outcome = sandbox.run(lambda: run(path), Path(own) / "log", limits)
        return verdict(outcome, Path(own), path.name), outcome


def run_batch(
    cases: Sequence[Case], folder: Path, limits: sandbox.Limits, run: Callable[[Path], int]
) -> Iterator[tuple[str, sandbox.Outcome]]:
    """Several cases in one process, in folders of their own. It is much faster than a process for each."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        places = [Path(temporary) / str(case.number) for case in cases]

        def run_all() -> int:
            for case, own in zip(cases, places, strict=True):
                _run_here(case, own, limits, run)
            return 0

        whole = replace(limits, seconds=limits.seconds * len(cases))
        ended = sandbox.run(run_all, Path(temporary) / "log", whole)
        done = 0
        for case, own in zip(cases, places, strict=True):
            if not (own / "status").exists():
                break
            done += 1
            status, seconds = json.loads((own / "status").read_text())
            (own / "status").unlink()
            output = (own / "log").read_text(encoding="utf-8", errors="replace")
            outcome = sandbox.Outcome(status, "", seconds, ended.peak_mb, output)
            yield verdict(outcome, own, f"case{case.number}{case.source.suffix}"), outcome
    if done < len(cases):
        found, outcome = run_case(cases[done], folder, limits, run)
        yield (found if found not in GOOD else f"{ended.killed or ended.status} after other files"), outcome
        yield from run_batch(cases[done + 1 :], folder, limits, run)


def _run_here(case: Case, own: Path, limits: sandbox.Limits, run: Callable[[Path], int]) -> None:
    own.mkdir()
    path = own / f"case{case.number}{case.source.suffix}"
    path.write_bytes(case.data)
    sandbox.print_to(own / "log")
    begin, status = time.monotonic(), 70
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)  # a hang kills this process
    try:
        status = run(path)
    except BaseException:
        traceback.print_exc()
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stderr.flush()
    (own / "status").write_text(json.dumps([status, time.monotonic() - begin]))


def make_corpus(folder: Path, kinds: int = len(KINDS)) -> tuple[list[Path], list[str]]:
    """Write the seeds in a forked process: encoders leave threads, and a process with threads must not fork."""

    def write() -> int:
        _, missing = write_corpus(folder / "corpus", KINDS[:kinds])
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
    keep: Path | None  # folder for the files that show faults
    lines: Lines
    batch: int = 1  # cases in one process
    trace_every: int = 1  # processes; those in between are faster

    def __call__(self, files: Sequence[Path], seed: int, count: int, folder: Path) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        faults, peak, slowest, begin = [], 0.0, 0.0, time.monotonic()
        for case, found, outcome in self._run(files, seed, count, folder):
            number = case.number
            counts[found] += 1
            peak, slowest = max(peak, outcome.peak_mb), max(slowest, outcome.seconds)
            if found not in GOOD:
                last = outcome.output.strip().splitlines()[-1:] or [""]
                faults.append({"case": number, "file": case.source.name, "mutations": case.mutations, "fault": found,
                               "seconds": round(outcome.seconds, 1), "says": last[0][:200]})  # fmt: skip
                print(f"FAULT {self.name} {faults[-1]}", file=sys.stderr, flush=True)
                if self.keep:
                    self.keep.mkdir(parents=True, exist_ok=True)
                    (self.keep / f"{self.name}-{seed}-{number}{case.source.suffix}").write_bytes(case.data)
            if (number + 1) % 500 == 0:
                print(f"{self.name}: {number + 1} of {count}, {dict(counts)}", file=sys.stderr, flush=True)
        return {"cases": sum(counts.values()), "counts": dict(counts), "faults": faults, "peak_mb": round(peak),
                "slowest_seconds": round(slowest, 1), "seconds": round(time.monotonic() - begin)}  # fmt: skip

    def _run(
        self, files: Sequence[Path], seed: int, count: int, folder: Path
    ) -> Iterator[tuple[Case, str, sandbox.Outcome]]:
        traced = self.lines.traced(self.run)
        for first in range(0, count, self.batch):
            cases = [make_case(files, seed, n) for n in range(first, min(count, first + self.batch))]
            run = traced if first // self.batch % self.trace_every == 0 else self.run
            self.lines.gather()
            if self.batch == 1:
                yield cases[0], *run_case(cases[0], folder, self.limits, run)
            else:
                found = run_batch(cases, folder, self.limits, run)
                yield from ((case, *rest) for case, rest in zip(cases, found, strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="damaged files that are read (default: 10,000)")
    parser.add_argument("--commands", type=int, default=1_000, help="damaged files for the command (default: 1,000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same cases (default: 0)")
    parser.add_argument("--plant", choices=PLANTS, help="make this fault on purpose; the campaign must find it")
    parser.add_argument("--kinds", type=int, default=len(KINDS), help="kinds of files to damage (default: all)")
    parser.add_argument("--memory", type=int, default=2048, help="most resident memory of a case in MB (default: 2048)")
    parser.add_argument("--seconds", type=float, default=30, help="most seconds of a case (default: 30)")
    parser.add_argument("--keep", type=Path, help="folder for the files that show faults")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, missing = make_corpus(folder, args.kinds)
        bundle = write_bundle(folder / "bundle", FakeBundle(small_config(), self_test=True))
        limits = sandbox.Limits(seconds=args.seconds, memory_mb=args.memory)
        lines = Lines([p for name in TRACED for p in sorted(RUNTIME.glob(name))], folder / "lines.log")
        reading = (lambda path: planted(args.plant, path, limits)) if args.plant else read
        campaigns = (
            Campaign("reading", reading, limits, args.keep, lines, BATCH, TRACE_EVERY),
            Campaign("command", lambda path: command(path, bundle), limits, args.keep, lines),
        )
        results = {
            campaign.name: campaign(files, args.seed + n, count, folder)
            for n, (campaign, count) in enumerate(zip(campaigns, (args.cases, args.commands), strict=True))
        }
        reached = lines.summary(ROOT)
    faults = sum(len(result["faults"]) for result in results.values())
    print(f"{faults} faults in {args.cases} files read and {args.commands} commands")
    facts = {"seed": args.seed, "corpus": [p.name for p in files], "not_written": missing}
    report.finish("fuzz", facts | results | {"lines": reached}, args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
