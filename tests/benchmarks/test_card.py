"""benchmarks.card: the rehearsal and what it would notice, packs, states that travel, results of parts."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.card import __main__ as card
from benchmarks.card import command, lane, rehearse, store
from benchmarks.card.home import home_state, step_of, unpack
from benchmarks.card.parts import Machine, Part, Places, get_parts
from benchmarks.card.pieces import INDEX, files_in, join_all
from benchmarks.card.runner import Outcome, outcome
from benchmarks.card.store import CARD, OutputLimit, Store
from benchmarks.common.machine import ROOT
from runtime.errors import MaskVATError, OptionError
from tests.support.fake_engines import NEEDS_ORT

CHEAP = tuple(s for s in rehearse.SCENARIOS if "real" not in s.__name__)


# ---------------------------------------------------------------- the rehearsal
@NEEDS_ORT
def test_the_rehearsal_goes_as_planned(capsys: pytest.CaptureFixture[str]) -> None:
    """All scenarios but the slow one, which the next test runs, too."""
    assert rehearse.rehearse((*CHEAP, rehearse.real_parts)) == 0, capsys.readouterr().err


@NEEDS_ORT
@pytest.mark.slow
def test_the_whole_rehearsal_goes_as_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert card.main(["--rehearse"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(rehearse.SCENARIOS) + 1 and all(line.startswith("ok") for line in said[:-1])


@pytest.mark.parametrize(
    ("place", "broken", "noticed"),
    [
        ("benchmarks.card.session.Session.unfinished", lambda *_: True, "all is well"),
        ("benchmarks.card.session.Session.needed", lambda self, part, _: self.unfinished(part), "the gpu disappears"),
        ("benchmarks.card.session.MARGIN", -100.0, "time is over"),
        ("benchmarks.card.parts.memory_reason", lambda *_: None, "too little memory"),
        ("benchmarks.card.parts.card_reason", lambda *_: None, "no gpu"),
        ("benchmarks.card.runner.short_of_memory", lambda _: False, "too little memory"),
        ("benchmarks.card.rehearse.MadeUp.card_is_there", lambda _: True, "the gpu disappears"),
        ("benchmarks.card.store.OutputLimit.bytes_each", 10**9, "little room"),
        ("benchmarks.card.pieces.sha256_of", lambda _: "0", "a damaged pack"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." not in value else "",
)
def test_the_rehearsal_notices_what_is_broken(
    place: str, broken: object, noticed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (scenario,) = [s for s in CHEAP if s.__name__.replace("_", " ") == noticed]
    assert rehearse.rehearse((scenario,)) == 0
    monkeypatch.setattr(place, broken)
    assert rehearse.rehearse((scenario,)) == 1 and f"FAILED  {noticed}" in capsys.readouterr().err


# ---------------------------------------------------------------- the command
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--time-limit", "5"], "must be at least 60 seconds"),
        (["--max-output", "8"], "give FILES:MB"),
        (["--max-output", "0:16"], "give FILES:MB"),
        (["--only", "points-huge-*"], "there is no such part; the parts are gpu-tests, self-test-cuda"),
        (["--join", "none", "there"], "give the --out folder of an earlier run"),
        (["--join", ".", "there"], "is not a result of benchmarks.card"),
        (["--pack", "x", "--train", "a b=c"], "give NAME=PATH"),
        (["--pack", "x", "--pack-limit", "0"], "must be at least 1"),
        (["--pack", "x", "--have", "none.txt"], "save the output of `pip freeze`"),
    ],
)
def test_bad_options(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / CARD).write_text("{}")
    monkeypatch.setattr(command, "probe", lambda *_: Machine(None))
    monkeypatch.setattr("benchmarks.card.pack.code_files", lambda _: ["LICENSE"])
    assert card.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and not (tmp_path / "x").exists()


def test_without_a_gpu_it_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "probe", lambda *_: Machine(None))
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert card.main([*places, "--plan"]) == 0 and not (tmp_path / "out" / CARD).exists()
    assert card.main(places) == 0
    assert "there is no NVIDIA GPU here" in capsys.readouterr().out
    assert {r["status"] for r in json.loads((tmp_path / "out" / CARD).read_text())["parts"].values()} == {"left out"}


def test_exit_codes_say_whether_to_run_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """75 while something waits, 1 once only failures are left."""
    runner = rehearse.MadeUp({"self-test-cuda": outcome(1, True, 9.0, None, "cuda differs from the CPU")})
    monkeypatch.setattr(command, "probe", lambda *_: rehearse.GPU)
    monkeypatch.setattr(command, "ProcessRunner", lambda *_: runner)
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--only", "self-test-*"]
    assert card.main(arguments) == 75
    assert "goes on with self-test-cuda" in capsys.readouterr().out
    parts = get_parts(rehearse.GPU, Places(ROOT, tmp_path), [])
    monkeypatch.setattr(command, "get_parts", lambda *_: [p for p in parts if p.name.startswith("self-test")])
    assert card.main(arguments[:-2]) == 1
    assert "self-test-cuda failed; their words are in" in capsys.readouterr().err
    kept = json.loads((tmp_path / "out" / CARD).read_text())["parts"]["self-test-cuda"]
    assert kept["tries"] == 2 and kept["output"] == "cuda differs from the CPU"


def test_it_starts_where_only_numpy_is_installed(tmp_path: Path) -> None:
    """Its wheels are installed by itself, so it cannot need them."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('av', 'torch', 'onnx', 'onnxruntime', 'packaging', 'tqdm')))\n"
        "import benchmarks.card.__main__, benchmarks.card.command, benchmarks.card.home, benchmarks.card.probe"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert done.returncode == 0


def test_every_part_is_a_command_of_this_project(tmp_path: Path) -> None:
    """Options of other commands that a part uses exist there."""
    from benchmarks.latency.options import get_parser

    parts = get_parts(rehearse.GPU, Places(ROOT, tmp_path), [])
    for part in parts:
        if part.command[:2] == ("-m", "benchmarks.latency"):
            args = get_parser("").parse_args(list(part.command[2:]))
            assert args.backend == list(rehearse.CARDS) and args.sizes == [part.name.split("-")[1]]
        elif part.command:
            assert (ROOT / (part.command[1].replace(".", "/") + ".py")).is_file()
    names = [part.name for part in parts]
    assert len(set(names)) == len(names) and all(p.after is None or p.after in names for p in parts)


# ---------------------------------------------------------------- results
def test_a_better_result_is_not_lost(tmp_path: Path) -> None:
    kept = Store(tmp_path, tmp_path / "out", OutputLimit(8, 16), {})
    kept.put({"name": "a", "status": "cut", "result": {"points": 3}, "tries": 1})
    kept.put({"name": "a", "status": "failed", "result": None, "tries": 2})
    again = Store(tmp_path, tmp_path / "out", OutputLimit(8, 16), {})
    assert again.records["a"] == {"name": "a", "status": "failed", "result": {"points": 3}, "tries": 2}
    (tmp_path / "parts" / "a.json").write_text('{"name": "a", "sta')
    assert Store(tmp_path, tmp_path / "out", OutputLimit(8, 16), {}).status("a") is None  # it runs again


def test_how_parts_end() -> None:
    assert outcome(0, True, 1.0, "{}", "").status == store.DONE
    assert outcome(0, True, 1.0, None, "words").reason == "exit code 0: it wrote no result: words"
    assert outcome(75, True, 1.0, "{}", "").status == outcome(-15, False, 1.0, "{}", "").status == store.CUT
    assert "not enough memory" in str(outcome(1, True, 1.0, None, "x\nCUDA out of memory\nbye").reason)


def test_an_interrupted_part_is_kept_as_cut(tmp_path: Path) -> None:
    class Interrupted(rehearse.MadeUp):
        def run(self, part: Part, seconds: float) -> Outcome:
            raise KeyboardInterrupt

    stage = rehearse.Stage(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stage.run(Interrupted())
    assert stage.store().status("gpu-tests") == store.CUT


def test_the_lane_reads_what_pytest_wrote(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import pytest\npytestmark = pytest.mark.gpu\ndef test_a(): print('agree 99 %')\n"
        "def test_b(): pytest.skip('no card')\ndef test_c(): assert 1 == 2\n"
    )
    out = tmp_path / "out.json"
    assert lane.main([str(tmp_path / "test_a.py"), "--out", str(out)]) == 1
    values = json.loads(out.read_text())
    assert (values["passed"], values["skipped"], values["failure"]) == (1, 1, 1)
    words = {case["name"].rpartition(".")[2]: case["words"] for case in values["cases"]}
    assert words["test_a"] == "agree 99 %" and "no card" in words["test_b"] and "assert 1 == 2" in words["test_c"]
    everything = lane.test_files(ROOT, shipped=True)
    assert {"tests/engines/test_gpu.py", "tests/train/tasks/test_maskvat.py"} <= set(everything)
    assert "tests/engines/test_gpu.py" not in lane.test_files(ROOT, shipped=False)


# ---------------------------------------------------------------- packs
def test_volumes_give_one_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = pytest.importorskip("benchmarks.card.pack")
    monkeypatch.setattr(pack, "PIECE_BYTES", 300_000)
    monkeypatch.setattr(pack, "code_files", lambda _: ["LICENSE", "benchmarks/results/scenes-mini.json"])
    data = tmp_path / "data"
    data.mkdir()
    (data / "0.npz").write_bytes(os.urandom(1_500_000))
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'[task]\nname = "maskvat"\ndata = "{data}"\nvalidation = "{data}"\nsystem = "{data}"\n')
    options = pack.Options(tmp_path / "pack", {"x": recipe}, limit=1.0, volumes=1, with_wheels=False)
    with pytest.raises(OptionError, match=r"2 MB do not fit into --pack-limit 1 and --volumes 1; raise one"):
        pack.make(options)
    assert not options.folder.exists()
    values = pack.make(replace(options, volumes=3), say=lambda _: None)
    assert values["trainings"][0]["set"] == dict.fromkeys(
        ("task.data", "task.validation", "task.system"), "train/x/data"
    )  # one folder, once
    there = tmp_path / "there"
    volumes = sorted((tmp_path / "pack").iterdir())
    assert len(volumes) == 3 and all(sum((v / f).stat().st_size for f in files_in(v)) <= 1_000_000 for v in volumes)
    for volume in volumes[1:]:
        shutil.copytree(volume, there, dirs_exist_ok=True)
    assert join_all(there)  # a volume is missing
    with pytest.raises(MaskVATError, match="files of the pack are missing or altered"):
        command.read_pack(there)
    shutil.copytree(volumes[0], there, dirs_exist_ok=True)
    assert join_all(there) == []
    assert (there / "pack/train/x/data/0.npz").read_bytes() == (data / "0.npz").read_bytes()
    assert command.read_pack(there)["trainings"] == values["trainings"]


def test_the_code_that_travels_is_enough_to_start() -> None:
    pack = pytest.importorskip("benchmarks.card.pack")
    names = pack.code_files(with_bundle=False)
    assert {"benchmarks/card/__main__.py", "pyproject.toml", "examples/bounce.mp4", "tests/conftest.py"} <= set(names)
    assert [n for n in names if n.startswith("engines/mini/")] == ["engines/mini/manifest.json"]
    assert sum((ROOT / n).stat().st_size for n in names) < 8e6
    assert "engines/mini/step.onnx" in pack.code_files(with_bundle=True)


def test_only_wheels_that_are_lacking_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = pytest.importorskip("benchmarks.card.wheels")
    have = tmp_path / "have.txt"
    have.write_text("numpy==1.26.0\nPackage  Version\nonnx   1.23.1\nml-dtypes\ntorch @ file:///x\n# words\n")
    target = wheels.Target("3.12", wheels.read_have(have))
    need = wheels.Requirement
    assert target.lacks(need("numpy>=2.0")) and target.lacks(need("av>=18"))
    assert not target.lacks(need("onnx>=1.19,<2")) and not target.lacks(need("ml_dtypes>=0.5"))
    assert not target.lacks(need("torch==2.13.0")) and not target.lacks(need("nvidia-cudnn-cu13"))
    assert not target.lacks(need("tomli; python_version < '3.11'"))

    def made(requirement: object, target: object, folder: Path) -> Path | None:
        name = requirement.name  # type: ignore[attr-defined]
        path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
        needs = {"av": "Requires-Dist: tiny\nRequires-Dist: extra; extra == 'x'\n"}.get(name, "")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}.dist-info/METADATA", f"Name: {name}\n{needs}")
        return path

    monkeypatch.setattr(wheels, "download", made)
    found = [text for text, _ in wheels.collect(target, tmp_path, extras=("",))]
    assert found == ["numpy>=2.0", "av<19,>=18", "tiny", "pytest", "pytest-timeout", "hypothesis"]


# ---------------------------------------------------------------- trainings
@pytest.fixture
def packed_training(tmp_path: Path) -> Callable[..., Path]:
    """make(steps) -> a pack with a tiny training; `run` of an earlier one."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.card import pack
    from tests.support.prepared import write_prepared

    root = write_prepared(tmp_path / "made", examples=2, tokens=43)

    def make(steps: int, run: Path | None = None) -> Path:
        recipe = tmp_path / f"{steps}.toml"
        folders = "".join(f'{k} = "{root / v}"\n' for k, v in
                          (("data", "prepared"), ("validation", "prepared"), ("system", "system")))  # fmt: skip
        recipe.write_text(
            f'[task]\nname = "maskvat"\n{folders}size = "tiny"\nbatch = 2\ncrop_seconds = 0.5\ndevice = "cpu"\n'
            f"generate_count = 0\n[loop]\nsteps = {steps}\nsave_every = 1\n"
        )
        training, files = pack.training_files("tiny", recipe, run)
        folder = tmp_path / f"pack{steps}"
        for source, name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
        (folder / "pack.json").write_text(json.dumps({"trainings": [training]}))
        return folder

    return make


@pytest.mark.torch
@pytest.mark.usefixtures("one_thread")
def test_a_training_goes_on_after_its_state_has_travelled(
    packed_training: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import load_file

    from benchmarks.card import training

    def trained(work: str, folder: Path) -> dict:
        out = tmp_path / f"{work}.json"
        arguments = ["tiny", "--work", str(tmp_path / work), "--pack", str(folder), "--out", str(out)]
        assert training.main(arguments) == 0, capsys.readouterr().err
        return json.loads(out.read_text())

    first = trained("one", packed_training(2))
    assert (first["first_step"], first["last_step"], first["finished"]) == (0, 2, True) and first["log"]
    run = tmp_path / "one" / "runs" / "tiny"
    whole, weights = tmp_path / "whole", tmp_path / "weights"
    assert home_state(run, whole, 10**9) is None
    assert "optimiser's numbers stay behind" in str(home_state(run, weights, 1000))
    names = [set(load_file(next(f.rglob("*.safetensors")))) for f in (whole, weights)]
    assert names[1] == {n for n in names[0] if not n.startswith("optimizer.")} != names[0]
    home = Store(tmp_path / "one", tmp_path / "out", OutputLimit(40, 0.5), {})
    home.put({"name": "a", "status": "done", "result": 1})
    assert home.carry_home({"train-tiny": weights}) == []
    _, runs = unpack(tmp_path / "out", tmp_path / "joined")
    assert step_of(runs["tiny"]) == 2
    second = trained("two", packed_training(4, runs["tiny"]))
    assert (second["first_step"], second["last_step"]) == (2, 4)
    (tmp_path / "out" / INDEX).write_text("{}")
    damaged = json.loads((tmp_path / "out" / CARD).read_text())
    assert damaged["parts"]["a"]["result"] == 1
    assert training.main(["none", "--work", str(tmp_path), "--pack", str(packed_training(2))]) == 1
    assert "the pack has no training none; it has tiny" in capsys.readouterr().err
