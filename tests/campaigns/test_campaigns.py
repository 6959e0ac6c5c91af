"""The campaigns themselves: a short lane of each, and faults made on purpose, which they must find."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

pytestmark = [NEEDS_ORT, pytest.mark.skipif(sys.platform != "linux", reason="campaigns need Linux's /proc")]
if sys.platform == "linux":
    from tests.campaigns import kill9, sandbox, soak
    from tests.campaigns.environments import OLDEST, requirements
    from tests.campaigns.killed import Work
    from tests.campaigns.lines import Lines
    from tests.campaigns.mutate import mutated

RESULTS = Path(__file__).parent / "results"


def campaign(name: str, *options: str) -> tuple[int, dict]:
    """Run a campaign as a command: its exit status and its JSON."""
    line = [sys.executable, "-m", f"tests.campaigns.{name}", *options]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- media
def test_damaged_media_for_a_moment() -> None:
    status, found = campaign("fuzz", "--cases", "40", "--commands", "4", "--kinds", "4")
    assert status == 0 and found["reading"]["faults"] == found["command"]["faults"] == []
    assert found["reading"]["cases"] == 40 and set(found["reading"]["counts"]) == {"read", "refused"}
    assert found["lines"]["percent"] > 40 and found["lines"]["files"]["runtime/video.py"]["reached"] > 50


@pytest.mark.parametrize(
    ("plant", "seconds", "fault"),
    [("crash", 20, "SIGSEGV"), ("hang", 2, "hang"), ("leak", 20, "leak"), ("memory", 20, "memory")],
)
def test_a_planted_fault_is_found(plant: str, seconds: int, fault: str) -> None:
    options = ["--cases", "20", "--commands", "0", "--kinds", "1", "--memory", "400", "--seconds", str(seconds)]
    status, found = campaign("fuzz", *options, "--plant", plant)
    assert status == 1 and [(f["case"], f["fault"]) for f in found["reading"]["faults"]] == [(7, fault)]
    assert found["reading"]["cases"] == 20


def test_the_same_seed_makes_the_same_case() -> None:
    a, b = (mutated(bytes(range(256)) * 9, b"other" * 99, np.random.default_rng([0, 3])) for _ in range(2))
    assert a == b


def test_lines_that_a_forked_process_reached(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f(x):\n    if x:\n        return 1\n    return 2\n\n\ndef g():\n    return 3\n")
    space: dict = {}
    exec(compile(module.read_text(), str(module), "exec"), space)
    lines = Lines([module], tmp_path / "log")
    run = lines.traced(lambda path: space["f"](True))
    assert sandbox.run(lambda: run(module), tmp_path / "out").status == 1
    found = lines.summary(tmp_path)
    assert (found["lines"], found["reached"]) == (4, 2) and found["files"]["module.py"]["not_reached"] == [4, 8]


# ---------------------------------------------------------------- bundles
def test_hostile_bundles_for_a_moment() -> None:
    status, found = campaign("bundles", "--fields", "10", "--files", "4")
    assert status == 0 and found["faults"] == [] and set(found["counts"]) <= {"opened", "refused"}


# ---------------------------------------------------------------- soak
def samples(memory: Callable[[int], float], files: int = 6, threads: int = 2) -> list[dict[str, float]]:
    return [
        {"memory_mb": memory(n), "files": 6 if n < 30 else files, "threads": 2 if n < 30 else threads}
        for n in range(40)
    ]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (samples(lambda n: 100 + (n > 3)), ""),
        (samples(lambda n: 100 + n), "memory_flat"),
        (samples(lambda n: 100, files=7), "files_constant"),
        (samples(lambda n: 100, threads=3), "threads_constant"),
    ],
)
def test_growth_is_found(found: list[dict[str, float]], fault: str) -> None:
    verdict = soak.judge(found, ("same", "same"))
    assert {name for name, good in verdict.items() if good is False} == ({fault} if fault else set())
    assert not soak.judge(found, ("same", "other"))["same_bytes"]


# ---------------------------------------------------------------- kill -9
class Torn(Work if sys.platform == "linux" else object):  # type: ignore[misc]
    """Writes a file in two parts under its final name."""

    name, always_again = "torn", True

    def make(self) -> int:
        return 0

    def run(self) -> int:
        self.out.mkdir(exist_ok=True)
        target = self.out / (".file" if isinstance(self, Whole) else "file")
        with target.open("w") as file:
            for half in ("one", "two"):
                time.sleep(0.1)
                file.write(half)
                file.flush()
        target.rename(self.out / "file")
        return 0


class Whole(Torn):
    """Writes the same file under a hidden name."""

    name = "whole"


@pytest.mark.slow
def test_half_a_file_is_found(tmp_path: Path) -> None:
    for work, whole in ((Whole, True), (Torn, False)):
        (tmp_path / work.name).mkdir()
        found = kill9.campaign(work(tmp_path / work.name), kills=8, seed=0)
        assert found["counts"]["killed"] == 8 and (found["faults"] == []) == whole, found


class Deserted(Whole):
    """Starts a process that does not notice that its parent is gone, and dies."""

    name = "deserted"

    def run(self) -> int:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
        return 1


def test_a_process_that_goes_on_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill9, "WAIT", 0.2)
    left = kill9.life(Deserted(tmp_path), tmp_path / "log")
    assert left.status == kill9.DEAD and len(left.faults()) == 1
    whole = kill9.life(Whole(tmp_path), tmp_path / "log")
    assert whole.status == 0 and whole.faults() == []


@pytest.mark.slow
def test_plans_survive_kills() -> None:
    status, found = campaign("kill9", "--kills", "2", "--works", "plans")
    assert status == 0 and found["plans"]["counts"]["killed"] == 2


# ---------------------------------------------------------------- environments
def test_the_oldest_packages_are_the_lower_bounds() -> None:
    bounds = dict(re.findall(r"^(\w+)>=([\d.]+)", line)[0] for line in requirements())
    assert set(bounds) == set(OLDEST)
    for name, bound in bounds.items():
        assert OLDEST[name] == bound or OLDEST[name].startswith(f"{bound}."), name
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11"


# ---------------------------------------------------------------- results
@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_committed_results_found_no_faults(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["campaign"] and found["date"] and found["machine"]["cores"]
    parts = [found, *(value for value in found.values() if isinstance(value, dict))]
    assert not any(part.get("faults") for part in parts)
    assert all(value for name, value in found.get("found", {}).items() if name != "memory_growth")
