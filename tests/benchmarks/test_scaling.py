"""benchmarks.scaling: what the model says is what a simulation finds, and what docs/SCALING.md and results say."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.common.machine import ROOT
from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling.model import Stages, chosen_points, fit_step
from benchmarks.scaling.simulate import simulate
from runtime.errors import OptionError

RESULTS = ROOT / "benchmarks" / "results"
COMMITTED = sorted(RESULTS.glob("scaling-*.json"))


@pytest.mark.parametrize(
    "stages",
    [Stages(0, 0.001, 0.01, 0.0001, 8), Stages(0.3, 0.0016, 0.0004, 0.0005, 8), Stages(0.1, 0.002, 0.002, 0.0005, 8)],
    ids=["starts", "host", "both"],
)
def test_the_model_is_within_a_tenth_of_the_simulation(stages: Stages) -> None:
    cores = 4
    for batch in (1, 64):
        most = simulate(stages, float("inf"), batch, cores, 5000).rate
        assert stages.most(batch, cores) == pytest.approx(most, rel=0.05)
        for load in (0.3, 0.8, 1.5):
            rate = load * stages.most(1, cores)
            if rate < 0.9 * stages.most(batch, cores):
                found = simulate(stages, rate, batch, cores)
                assert stages.latency(rate, batch > 1, cores) == pytest.approx(found.mean, rel=0.1)


def test_more_clips_than_can_be_made_wait_forever() -> None:
    stages = Stages(0.1, 0.01, 0.0, 0.0, 1)
    assert stages.latency(101, False, 64) == stages.latency(21, True, 2) == float("inf")
    assert stages.most(1, 64) == pytest.approx(100) and stages.most(1, 2) == pytest.approx(20)


def test_when_a_server_pays() -> None:
    """At exactly that round trip, both make as many clips."""
    stages = Stages(0, 0.05, 0.002, 0.01, 8)
    trip = stages.pays(4)
    assert trip == pytest.approx(0.006)
    assert 4 / (stages.service(4) + stages.steps * trip) == pytest.approx(1 / stages.service(1))
    assert Stages(0, 0.05, 0.0, 0.01, 8).pays(16) == 0


def point(candidates: int, seconds: float, **changes: object) -> dict:
    stages = {"step": seconds, "video": 1.0, "host": 0.5, "codec": 0.25}
    return {"candidates": candidates, "steps": 2, "stages": stages, "backend": "cpu", "seconds": 4, "p95": 5} | changes


def test_points_give_the_fixed_part_of_a_step() -> None:
    assert fit_step([point(n, 2 * (3 + 0.5 * n)) for n in (1, 4, 10)]) == pytest.approx((3, 0.5))
    assert fit_step([point(n, 2 * (0.5 * n - 0.1)) for n in (1, 4, 10)])[0] == 0  # noise is not a gain
    with pytest.raises(OptionError, match="--candidates 1 4 10"):
        fit_step([point(4, 1.0), point(4, 2.0)])
    on_card = scaling.stages_from([point(n, 1.0 * n, backend="cuda") for n in (1, 4)])
    assert (on_card.host, on_card.alone, on_card.spread) == (1.5, 0.25, 1.25)
    assert scaling.stages_from([point(n, 1.0 * n) for n in (1, 4)]).alone == 1.75  # a CPU does all itself


def test_parts_of_benchmarks_card_are_read() -> None:
    parts = {f"points-mini-{n}": {"result": {"results": [point(n, n, size="mini")]}} for n in (1, 4)}
    values = {"benchmark": "card", "parts": parts | {"gpu-tests": {"result": None}}}
    assert [p["candidates"] for p in chosen_points(values, {"size": "mini"})] == [1, 4]
    with pytest.raises(OptionError, match=r"the result has size: mini"):
        chosen_points(values, {"size": "base"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.json"], "give a result of benchmarks.latency or card"),
        (["warm.json"], "it is a result of benchmarks.warm"),
        (["latency-mini.json", "--size", "base"], "no point has"),
        (["latency-mini.json", "--card", "0", "1"], "--card needs two numbers above 0"),
        (["latency-mini.json", "--batches", "0"], "must be at least 1"),
        (["latency-small.json", "--size", "small"], "--candidates 1 4 10"),
    ],
)
def test_bad_options(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main([str(RESULTS / arguments[0]), *arguments[1:]]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_committed_results_are_what_the_command_gives(path: Path, tmp_path: Path) -> None:
    kept = json.loads(path.read_text())
    options = kept["options"]
    batches = [str(row["batch"]) for row in kept["full_load"]]
    loads = sorted({str(row["load"]) for row in kept["loads"]} | {"0.3"})
    command = [str(RESULTS / kept["of"]), "--batches", *batches, "--loads", *loads, "--out", str(tmp_path / "a.json")]
    for name in ("size", "precision", "steps", "cores"):
        command += [f"--{name}", str(options[name])]
    command += ["--card", *map(str, options["card"])] if options["card"] else []
    assert scaling.main(command) == 0
    again = json.loads((tmp_path / "a.json").read_text())
    assert again["stages"] == pytest.approx(kept["stages"])
    assert [r["model"] for r in again["full_load"]] == pytest.approx([r["model"] for r in kept["full_load"]])
    found, expected = ([r["simulated"]["mean"] for r in v["loads"]] for v in (again, kept))
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_guide_has_the_numbers_of_the_results() -> None:
    guide = (ROOT / "docs" / "SCALING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"results/(scaling-[\w-]+\.json)", guide)) == {p.name for p in COMMITTED} != set()
    for path in COMMITTED:
        values = json.loads(path.read_text())
        numbers = [f"{r[k]:,.0f}" for r in values["full_load"] for k in ("model", "simulated")]
        for row in values["loads"]:
            numbers += [f"{x:.3f}" for x in (row["model"], row["simulated"]["mean"], row["simulated"]["p95"])]
        numbers += [f"{1000 * seconds:.2f}" for seconds in values["triton_pays_below_seconds"].values()]
        assert [n for n in numbers if f"| {n} |" not in guide] == []
