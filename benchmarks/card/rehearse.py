"""The rehearsal: every branch of benchmarks.card on a made-up GPU, and its cheap parts for real on the CPU.

A scenario runs the real plan, session, store and pieces; only the parts themselves are made up: they take no time, move
a made-up clock, and end as the scenario says. The last scenario runs real processes with tiny work.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

from benchmarks.card.parts import CARDS, OUT, SIZES, Machine, Part, Places, get_parts
from benchmarks.card.pieces import cut, files_in, join_all, note_hash, sha256_of
from benchmarks.card.runner import Outcome, ProcessRunner, outcome, parsed
from benchmarks.card.session import MARGIN, Session
from benchmarks.card.store import CARD, CUT, DONE, FAILED, LEFT_OUT, LOST, WAITING, OutputLimit, Store
from benchmarks.common.machine import ROOT
from benchmarks.common.random_system import has_shipped_bundle
from engines.manifest import MINI

GPU = Machine("a made-up GPU", 80_000.0, dict.fromkeys(CARDS))
TRAININGS = [{"name": "maskvat"}]
BIG = OutputLimit(8, 16)


def check(fact: object, words: str) -> None:
    """Raises AssertionError with these words, also under `python -O`."""
    if not fact:
        raise AssertionError(words)


@dataclass
class MadeUp:
    """A runner without a GPU: `ends` maps a part to its outcome; others are done after a tenth of their time."""

    ends: Mapping[str, Outcome] = field(default_factory=dict)
    gone_at: str | None = None  # the GPU disappears in this part
    now: float = 0.0
    ran: list[str] = field(default_factory=list)

    def run(self, part: Part, seconds: float) -> Outcome:
        self.ran.append(part.name)
        told = self.ends.get(part.name)
        needs = (part.seconds or seconds) / 10 if told is None else told.seconds
        self.now += min(needs, seconds)
        if needs > seconds:
            return outcome(-15, False, seconds, '{"points": 1}', "some words")
        return told or outcome(0, True, needs, json.dumps({"part": part.name}), "")

    def card_is_there(self) -> bool:
        return self.gone_at is None or self.gone_at not in self.ran


@dataclass
class Stage:
    """Folders for one scenario, and runs of the session in them."""

    folder: Path
    said: list[str] = field(default_factory=list)

    def store(self, limit: OutputLimit = BIG, work: str = "work", earlier: Path | None = None) -> Store:
        (self.folder / work).mkdir(exist_ok=True)
        return Store(self.folder / work, self.folder / "out", limit, {"benchmark": "card"}, earlier)

    def parts(self, machine: Machine) -> list[Part]:
        return get_parts(machine, Places(ROOT, self.folder / "work"), TRAININGS)

    def run(self, runner: MadeUp, machine: Machine = GPU, limit: float | None = None, **place: Any) -> dict[str, Any]:
        """One run of the command; returns what card.json says about each part."""
        parts = self.parts(machine)
        session = Session(self.store(**place), runner, limit, self.said.append, lambda: runner.now)
        session.run(parts)
        values = json.loads((self.folder / "out" / CARD).read_text(encoding="utf-8"))
        found: dict[str, Any] = values["parts"]
        return found


def statuses(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: record["status"] for name, record in found.items()}


# ---------------------------------------------------------------- scenarios
def all_is_well(stage: Stage) -> None:
    """every part is run once, in order, and its result is in card.json"""
    runner = MadeUp()
    found = stage.run(runner)
    names = [part.name for part in stage.parts(GPU)]
    check(set(statuses(found).values()) == {DONE}, f"not all parts are done: {statuses(found)}")
    check(runner.ran == names, f"the order is {runner.ran}")
    check(all(found[n]["result"] == {"part": n} for n in names), "a result is not its part's")
    check(stage.run(again := MadeUp()) and not again.ran, f"done parts ran again: {again.ran}")


def no_gpu(stage: Stage) -> None:
    """nothing is run, and every part says why"""
    runner = MadeUp()
    found = stage.run(runner, Machine(None, 0.0, dict.fromkeys(CARDS, "no NVIDIA driver is installed")))
    check(not runner.ran and set(statuses(found).values()) == {LEFT_OUT}, f"{runner.ran} ran")
    check(all("no NVIDIA GPU" in record["reason"] for record in found.values()), "a part does not say why")


def libraries_are_missing(stage: Stage) -> None:
    """parts of a missing library are left out with its reason; PyTorch's parts need PyTorch"""
    reasons = {"cuda": None, "tensorrt": "tensorrt cannot be imported", "tensorrt-rtx": "it has no target sm90"}
    found = stage.run(MadeUp(), replace(GPU, backends=reasons))
    check(found["self-test-tensorrt"]["reason"] == reasons["tensorrt"], "the reason of TensorRT is not kept")
    check(found["self-test-tensorrt-rtx"]["status"] == LEFT_OUT, "TensorRT-RTX ran without its target")
    commands = {p.name: p.command for p in stage.parts(replace(GPU, backends=reasons))}
    after = commands["points-mini-1"][commands["points-mini-1"].index("--backend") + 1 :]
    check(after[0] == "cuda" and after[1].startswith("--"), f"backends that do not work are measured: {after}")
    alone = stage.parts(replace(GPU, backends=dict.fromkeys(CARDS, "missing"), torch="PyTorch sees no GPU"))
    check(all(part.left_out for part in alone if part.name != "gpu-tests"), "a part would run without its library")


def too_little_memory(stage: Stage) -> None:
    """sizes that do not fit are left out; one that runs out of memory fails twice and then waits to be named"""
    short = outcome(1, True, 9.0, None, "torch.OutOfMemoryError: CUDA out of memory")
    found = stage.run(MadeUp({"points-mini-10": short}), replace(GPU, memory_mb=8000.0))
    check(found["points-base-1"]["status"] == LEFT_OUT, "base ran without memory")
    check("12000 MB" in found["points-base-1"]["reason"], "the reason does not say how much is needed")
    check(found["points-small-1"]["status"] == DONE, "small did not run")
    check("not enough memory" in found["points-mini-10"]["reason"], found["points-mini-10"]["reason"])
    stage.run(MadeUp({"points-mini-10": short}), replace(GPU, memory_mb=8000.0))
    stage.run(third := MadeUp(), replace(GPU, memory_mb=8000.0))
    check("points-mini-10" not in third.ran, "a part that failed twice ran again")


def time_is_over(stage: Stage) -> None:
    """the part in the middle is cut and keeps what it measured; later runs do the rest and nothing twice"""
    slow = {"pairs-mini": replace(outcome(0, True, 200.0, '{"points": 9}', ""), seconds=200.0)}
    runner = MadeUp(slow)
    found = stage.run(runner, limit=300.0)
    check(runner.now <= 300.0 - MARGIN, f"it ended after {runner.now:.0f} s of 300")
    check(found["pairs-mini"]["status"] == CUT and found["pairs-mini"]["result"] == {"points": 1}, "nothing was kept")
    check(found["train-maskvat"]["status"] == WAITING, "a part without time is not named")
    first = [name for name, status in statuses(found).items() if status == DONE]
    runs, ran = 1, list[str]()
    while set(statuses(found).values()) != {DONE}:
        runs += 1
        check(runs < 12, f"still not done after {runs} runs: {statuses(found)}")
        found = stage.run(runner := MadeUp(slow), limit=300.0)
        ran += runner.ran
    check(not set(first) & set(ran), "a done part ran again")
    check(found["pairs-mini"]["result"] == {"points": 9}, "the whole result did not replace the partial one")


def the_gpu_disappears(stage: Stage) -> None:
    """the run ends, the rest waits; on a new machine it goes on, and makes only the files again that it needs"""
    dead = outcome(1, True, 5.0, None, "CUDA error: unspecified launch failure")
    runner = MadeUp({"pairs-small": dead}, gone_at="pairs-small")
    found = stage.run(runner)
    check(runner.ran[-1] == "pairs-small" and found["pairs-small"]["status"] == LOST, f"it went on: {runner.ran}")
    check(found["pairs-mini"]["status"] == DONE and found["points-base-1"]["status"] == WAITING, "states are wrong")
    came = stage.folder / CARD
    came.write_bytes((stage.folder / "out" / CARD).read_bytes())
    found = stage.run(second := MadeUp(), work="another", earlier=came)
    check(set(statuses(found).values()) == {DONE}, f"not done: {statuses(found)}")
    check("pairs-mini" not in second.ran and "prepare-mini" not in second.ran, "it did again what was done")
    check("prepare-small" in second.ran, "the files of another machine were taken for this one's")


def little_room(stage: Stage) -> None:
    """the largest result stays on the machine and is named; so does a state, or only the optimiser's numbers"""
    huge = outcome(0, True, 5.0, json.dumps({"numbers": "9" * 200_000}), "")
    found = stage.run(MadeUp({"pairs-base": huge}))
    check(found["pairs-base"]["result"] is not None, "a result that fits did not travel")
    store = stage.store(OutputLimit(4, 0.1))
    store.write_home()
    found = json.loads((stage.folder / "out" / CARD).read_text(encoding="utf-8"))["parts"]
    check("pairs-base.json" in found["pairs-base"]["left_behind"], "what stays behind is not named")
    check(found["pairs-mini"]["result"] == {"part": "pairs-mini"}, "small results stayed behind")
    state = stage.folder / "state"
    state.mkdir()
    (state / "tensors").write_bytes(os.urandom(150_000))
    check(not store.carry_home({"train-x": state}), "a state that fits stayed behind")
    check(not join_all(stage.folder / "out"), "its pieces do not fit together")
    check((stage.folder / "out" / "train-x.tensors").read_bytes() == (state / "tensors").read_bytes(), "it changed")
    (state / "tensors").write_bytes(bytes(900_000))
    check("do not fit" in store.carry_home({"train-x": state})[0], "a state that does not fit is not named")


def a_damaged_pack(stage: Stage) -> None:
    """missing and altered pieces are named and kept; with the right ones the file is the one that was cut"""
    source = stage.folder / "weights"
    source.write_bytes(os.urandom(100_000))
    there = stage.folder / "there"
    there.mkdir()
    note_hash(there, "weights", sha256_of(source))
    pieces = dict(cut(source, 30_000))
    for name, content in list(pieces.items())[1:]:
        (there / name).write_bytes(content)
    check(join_all(there) == ["weights: pieces 1 of 4 are missing"], "a missing piece is not named")
    first = next(iter(pieces))
    (there / first).write_bytes(bytes(30_000))
    check("sha256 differs" in join_all(there)[0] and len(files_in(there)) == 5, "an altered piece is not noticed")
    (there / first).write_bytes(pieces[first])
    check(not join_all(there) and (there / "weights").read_bytes() == source.read_bytes(), "the file changed")


def real_runner(stage: Stage) -> ProcessRunner:
    """A runner of processes on one thread."""
    work = stage.folder / "real"
    work.mkdir()
    return ProcessRunner(ROOT, work, os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def real_parts(stage: Stage) -> None:
    """real processes on the CPU: a self-test, one that is stopped by the time limit, one that crashes"""
    runner = real_runner(stage)
    test = ("-m", "benchmarks.card.self_test", "cpu", "--engines", str(MINI), "--cache", str(runner.work), "--out", OUT)
    if has_shipped_bundle():
        got = runner.run(Part("self-test", "", None, test), inf)
        check(got.status == DONE and not any(parsed(got.result)["verdicts"].values()), f"{got}")
    code = "import sys, time; open(sys.argv[1], 'w').write('{\"half\": 1}'); time.sleep(600)"
    got = runner.run(Part("slow", "", None, ("-c", code, OUT)), 2)
    check(got.status == CUT and got.seconds < 600, f"{got}")
    got = runner.run(Part("crash", "", None, ("-c", "import os; print('last words', flush=True); os.abort()")), inf)
    check(got.status == FAILED and "last words" in str(got.reason), f"{got}")


def a_real_point(stage: Stage) -> None:
    """benchmarks.latency measures one point on the CPU, as it does on a GPU"""
    runner = real_runner(stage)
    grid = ("--steps", "2", "--seconds", "1", "--repeat", "1", "--precision", "fp16")
    alone = ("--baselines", "none", "--no-profiles", "--no-quality")
    point = ("-m", "benchmarks.latency", "--backend", "cpu", *grid, *alone, "--cache", str(runner.work), "--out", OUT)
    if has_shipped_bundle():
        got = runner.run(Part("point", "", None, point), inf)
        check(got.status == DONE and parsed(got.result)["results"][0]["seconds"] > 0, f"{got}")


SCENARIOS: tuple[Callable[[Stage], None], ...] = (
    all_is_well, no_gpu, libraries_are_missing, too_little_memory, time_is_over, the_gpu_disappears, little_room,
    a_damaged_pack, real_parts,
)  # fmt: skip


def rehearse(scenarios: tuple[Callable[[Stage], None], ...] = SCENARIOS) -> int:
    """Run all scenarios; returns 1 if one is not as it should be."""
    failed = 0
    for scenario in scenarios:
        name = scenario.__name__.replace("_", " ")
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            try:
                scenario(Stage(Path(folder)))
                print(f"ok      {name}: {scenario.__doc__}")
            except Exception as error:
                failed += 1
                print(f"FAILED  {name}: {type(error).__name__}: {error}", file=sys.stderr)
    print(f"{len(scenarios) - failed} of {len(scenarios)} scenarios went as planned, for sizes {', '.join(SIZES)}")
    return 1 if failed else 0
