"""The cache of TensorRT plans: what a plan depends on, which plans are built again, and several processes at once."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest

from engines import plan_build, plans, profiles
from engines.base import BackendUnavailable
from engines.contract import DESIGNS, Graph, ModelConfig, graphs
from engines.locks import locked
from engines.plans import EnginePlan, PlanOptions
from engines.selftest import feeds_for
from tests.support.fake_builder import module
from tests.support.fake_engines import model, small_config
from tests.support.paths import ROOT

CONFIG = small_config()
STEP = graphs(CONFIG)["step"]
CARD = plan_build.Card("NVIDIA Test 1", "9.0", "580.1")


@dataclass
class Case:
    """One ONNX file, the options, and the lines that were logged."""

    onnx: Path
    options: PlanOptions
    builds: Path
    said: list[str] = field(default_factory=list)

    def find(self, flavour: str = "rtx", graph: Graph = STEP, **changes: Any) -> EnginePlan:
        self.said.clear()
        return plans.find(flavour, self.onnx, graph, replace(self.options, say=self.said.append, **changes))

    @property
    def count(self) -> int:
        return len(self.builds.read_text().split()) if self.builds.exists() else 0


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    for name in plan_build.FLAVOURS.values():
        monkeypatch.setitem(sys.modules, name, module(name))
    monkeypatch.setattr(plans, "card", lambda: CARD)
    path = tmp_path / "step.onnx"
    onnx.save(model(STEP, CONFIG), path)
    return Case(path, PlanOptions(CONFIG, "fp16", cache=tmp_path / "cache"), tmp_path / "builds")


# ---------------------------------------------------------------- shapes
@pytest.mark.parametrize("design", DESIGNS)
def test_the_profile_holds_what_the_runtime_sends(design: str) -> None:
    config = ModelConfig(design=design)
    for name, graph in graphs(config).items():
        found = profiles.profile(config, graph, candidates=4)
        for key, value in feeds_for(graph, config).items():
            if key not in found:  # of fixed shape
                continue
            smallest, usual, largest = found[key]
            for sizes in zip(smallest, value.shape, usual, largest, strict=True):
                assert sizes[0] <= sizes[1] <= sizes[3] and sizes[0] <= sizes[2] <= sizes[3], (name, key)


def test_the_largest_shapes_are_the_window_and_all_candidates() -> None:
    config = ModelConfig()
    table = graphs(config)
    step = profiles.profile(config, table["step"], candidates=4)
    assert step["codes"] == ((1, 9, 1), (1, 9, 862), (4, 9, 862))
    assert "guidance" not in step  # a scalar has no axis
    assert step["modulation"][1][1] == config.n_sync(862) + 1  # Hybrid: sync features, and the row of [NULL]
    assert profiles.profile(config, table["sync_encoder"], candidates=4)["frames"][2][:2] == (1, 256)
    assert profiles.profile(config, table["audio_encoder"])["audio"][2] == (10, 160125)
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        profiles.profile(config, table["step"], candidates=0)


def test_a_chunk_of_the_codec_may_be_longer_than_a_short_window() -> None:
    for context, longest in ((0, 256), (1, 261), (12, 280), (23, 303), (24, 304)):  # begins at a multiple of 4
        short = small_config(window_seconds=1, overlap_seconds=0, codec_context=context)
        assert profiles.profile(short, graphs(short)["codec_decoder"])["codes"][2][2] == longest
    decoder = profiles.profile(CONFIG, graphs(CONFIG)["codec_decoder"])["codes"]
    assert decoder[1][2] == min(CONFIG.window_tokens, 4 + 256 + CONFIG.codec_context)  # the runtime decodes in chunks


# ---------------------------------------------------------------- keys
def test_a_plan_is_built_once_and_described_beside_it(case: Case) -> None:
    first, second = case.find(), case.find()
    assert case.count == 1 and first.built and not second.built and case.said == []
    assert first.data == second.data == first.path.read_bytes()
    about = json.loads(first.path.with_suffix(".plan.json").read_text())
    assert about["bytes"] == len(first.data) and about["sha256"] == hashlib.sha256(first.data).hexdigest()
    assert about["parts"]["library"] == "tensorrt_rtx 1.0" and about["parts"]["precision"] == "fp16"
    assert about["parts"]["targets"] == sorted(plan_build.TARGETS)
    assert first.runtime_cache.parent == first.path.parent and first.flavour == "rtx"
    text = first.data.decode()
    assert "'sm120'" in text and text.endswith("[]")  # TF32 is off
    assert str(profiles.profile(CONFIG, STEP)["codes"]) in text


def new_onnx(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    changed = onnx.load(case.onnx)
    changed.doc_string = "changed"
    onnx.save(changed, case.onnx)
    return {}


def new_weights(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    case.onnx.with_name("step.onnx.data").write_bytes(b"weights beside the file")
    return {}


def new_shared_weights(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    case.onnx.with_name("step.weights").write_bytes(b"weights of two files")
    return {}


def new_library(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in plan_build.FLAVOURS.values():
        monkeypatch.setitem(sys.modules, name, module(name, "1.1"))
    return {}


def new_card(**changes: str) -> Callable[[Case, pytest.MonkeyPatch], dict[str, Any]]:
    def change(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.setattr(plans, "card", lambda: replace(CARD, **changes))
        return {}

    return change


@pytest.mark.parametrize(
    ("flavour", "change", "words"),
    [
        ("rtx", new_onnx, "ONNX file: "),
        ("rtx", new_weights, "ONNX file: "),
        ("rtx", new_shared_weights, "ONNX file: "),
        ("rtx", new_library, "library: tensorrt_rtx 1.0 before, now tensorrt_rtx 1.1"),
        ("trt", new_library, "library: tensorrt 1.0 before, now tensorrt 1.1"),
        (
            "rtx",
            lambda case, patch: {"targets": ("sm89",)},
            'targets: ["sm120", "sm80", "sm86", "sm89"] before, now ["sm89"]',
        ),
        ("rtx", lambda case, patch: {"candidates": 2}, "shape profile: "),
        ("trt", new_card(name="NVIDIA Test 2"), "card: NVIDIA Test 1 before, now NVIDIA Test 2"),
        ("trt", new_card(compute_capability="10.0"), "compute capability: 9.0 before, now 10.0"),
        ("trt", new_card(driver="590.2"), "driver: 580.1 before, now 590.2"),
    ],
)
def test_another_key_is_another_plan_and_says_why(
    flavour: str, change: Callable[..., dict[str, Any]], words: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = case.find(flavour)
    assert case.said == [f"building the {plan_build.FLAVOURS[flavour]} plan of step (fp16): there is none yet"]
    changes = change(case, monkeypatch)
    new = case.find(flavour, **changes)
    assert case.count == 2 and new.built and new.path != old.path
    assert len(case.said) == 1 and words in case.said[0] and case.said[0].count(" before, now ") == 1
    assert not case.find(flavour, **changes).built


def test_targets_do_not_matter_to_tensorrt_nor_the_card_to_tensorrt_rtx(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.find("trt")
    assert not case.find("trt", targets=("sm89",)).built
    case.find("rtx")
    new_card(name="NVIDIA Test 2")(case, monkeypatch)
    assert not case.find("rtx").built


def test_a_plan_under_a_former_key_is_still_there_until_there_are_too_many(case: Case) -> None:
    first = case.find()
    first.runtime_cache.write_bytes(b"kernels")
    case.find(candidates=2)
    assert not case.find().built  # used again: now the last to go
    os.utime(first.path.with_suffix(".plan.json"), ns=(0, 0))
    others = [case.find(candidates=n) for n in range(3, 3 + plans.KEEP)]
    left = {p.name for p in first.path.parent.iterdir() if p.suffix != ".lock"}
    assert left == {name for p in others for name in (p.path.name, p.path.name + ".json")}


# ---------------------------------------------------------------- what is not trusted
def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def of_another(path: Path) -> None:
    about = path.with_suffix(".plan.json")
    about.write_text(json.dumps(json.loads(about.read_text()) | {"key": "0" * 64}))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (cut, "bytes)"),
        (alter, "its sha256 has changed"),
        (Path.unlink, "cannot be read"),
        (of_another, "describes another plan"),
        (lambda p: p.with_suffix(".plan.json").write_text("{"), "describes another plan"),
        (lambda p: p.with_suffix(".plan.json").write_text("[]"), "describes another plan"),
        (lambda p: p.with_suffix(".plan.json").unlink(), "there is none yet"),
    ],
)
def test_a_plan_that_is_not_what_was_written_is_built_again(
    harm: Callable[[Path], None], reason: str, case: Case
) -> None:
    first = case.find()
    harm(first.path)
    second = case.find()
    assert second.built and case.count == 2 and len(case.said) == 1 and reason in case.said[0]
    assert second.data == first.data == first.path.read_bytes()
    assert not case.find().built


# ---------------------------------------------------------------- folders that cannot be used
def test_without_a_folder_plans_are_built_but_not_kept(case: Case, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plan = case.find(cache=tmp_path / "file" / "cache")
    assert plan.built and not plan.kept and plan.data and not plan.path.exists()
    assert "is not kept, so the next start builds it again" in case.said[0]
    assert "set MASKVAT_CACHE to a folder that can be written to" in case.said[0]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_full_disk_loses_no_plan_that_was_built(case: Case) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # bytes: enough for the count of builds, not for a plan
    try:
        plan = case.find()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert plan.built and not plan.kept and len(plan.data) > 100 and case.count == 1
    assert "is not kept" in case.said[1]
    assert [p.suffix for p in plan.path.parent.iterdir()] == [".lock"]  # nothing half written
    assert case.find().kept


def test_a_cache_that_can_only_be_read_serves(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root no folder is read-only, so functions that write are made to fail."""
    first = case.find()

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(plans, "locked", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert case.find().data == first.data and case.said == []
    other = case.find(candidates=3)
    assert other.built and not other.kept and "Permission denied" in case.said[0]


def test_where_plans_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(plans.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plans.default_cache() == tmp_path / "maskvat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert plans.default_cache() == Path.home() / ".cache" / "maskvat"
    monkeypatch.setenv(plans.VARIABLE, str(tmp_path / "mine"))
    assert plans.default_cache() == tmp_path / "mine"


# ---------------------------------------------------------------- several processes
PROCESS = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests"]
from tests.support.fake_builder import module
from tests.support.fake_engines import small_config
sys.modules["tensorrt_rtx"] = module()
from engines import plans
from engines.contract import graphs
if sys.argv[4] == "dies while it writes":
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
config = small_config()
options = plans.PlanOptions(config, "fp16", cache=Path(sys.argv[3]), say=print)
plan = plans.find("rtx", Path(sys.argv[2]), graphs(config)["step"], options)
print(plan.built, plan.data.decode())
"""


def start(case: Case, how: str = "", seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(ROOT), str(case.onnx), str(case.options.cache), how]
    environment = os.environ | {"BUILDS": str(case.builds), "BUILD_SECONDS": str(seconds)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_start_together_build_once(case: Case) -> None:
    running = [start(case, seconds=1.0) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in running]
    assert [p.returncode for p in running] == [0, 0], outputs
    assert case.count == 1
    last = [out.splitlines()[-1].partition(" ") for out, _ in outputs]
    assert sorted(built for built, _, _ in last) == ["False", "True"] and last[0][2] == last[1][2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_builder_blocks_nobody(case: Case) -> None:
    process = start(case, seconds=600)
    deadline = time.monotonic() + 300
    while not case.count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert case.count == 1 and process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    plan = case.find()
    assert plan.built and plan.kept and case.count == 2 and plan.path.with_suffix(".lock").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_what_a_killed_writer_leaves_is_not_used_and_goes_away(case: Case) -> None:
    process = start(case, "dies while it writes")
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    cache = case.options.cache
    assert cache is not None and [p.suffix for p in sorted(cache.iterdir())] == [".lock", ".part"]
    lock = next(cache.glob("*.lock"))
    (cache / f"{lock.stem}.runtime-cache.1.part").write_bytes(b"half of the kernels")
    plan = case.find()
    assert plan.built and plan.data == plan.path.read_bytes() and not list(cache.glob("*.part"))


def test_waiting_is_said_once(tmp_path: Path) -> None:
    """Threads exclude each other, too."""
    said: list[str] = []

    def second() -> None:
        with locked(tmp_path / "a.lock", lambda: said.append("waits")):
            said.append("has it")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "a.lock"):
        thread.start()
        while not said:
            time.sleep(0.01)
        time.sleep(0.3)
        assert said == ["waits"]
    thread.join(timeout=60)
    assert said == ["waits", "has it"]


# ---------------------------------------------------------------- what cannot be built
def test_reasons_why_nothing_can_be_built(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match="unknown kind of TensorRT 'x'; choose from rtx, trt"):
        case.find("x")
    with pytest.raises(
        BackendUnavailable, match="tensorrt_rtx has no target sm90; choose from sm120, sm80, sm86, sm89"
    ):
        case.find(targets=("sm90",))
    monkeypatch.setenv("BUILD_FAILS", "1")
    with pytest.raises(BackendUnavailable, match=r"tensorrt_rtx cannot build step.onnx: could not infer output types$"):
        case.find()
    monkeypatch.delenv("BUILD_FAILS")
    monkeypatch.setenv("NO_BUILDER", "1")
    with pytest.raises(BackendUnavailable, match=r"cannot build step.onnx: pybind11.* nullptr; CUDA init.* error: 2$"):
        case.find()
    monkeypatch.delenv("NO_BUILDER")
    with pytest.raises(BackendUnavailable, match=r"graph condition: the contract and the network differ: missing"):
        case.find(graph=graphs(CONFIG)["condition"])
    wrong = small_config(n_codebooks=4)
    with pytest.raises(BackendUnavailable, match=r"codes int32 \[B, 4, T\], not int32 \[-1, 9, -1\]"):
        case.find(graph=graphs(wrong)["step"])
    case.onnx.write_bytes(b"unreadable")
    with pytest.raises(BackendUnavailable, match=r"cannot read step.onnx: In node 7: no such operator"):
        case.find()
    assert not list(case.onnx.parent.glob("cache/*.plan*"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendUnavailable, match=r"tensorrt_rtx cannot be imported \(.*\); pip install '\.\[rtx\]'"):
        case.find()


def cuda(count: int, status: str = "cudaSuccess") -> dict[str, ModuleType | SimpleNamespace]:
    """A fake cuda-bindings with `count` GPUs, or a status other than success."""
    good = SimpleNamespace(name="cudaSuccess")
    now = good if status == "cudaSuccess" else SimpleNamespace(name=status)
    found = SimpleNamespace(name=b"NVIDIA Test 1", major=9, minor=0)
    runtime = SimpleNamespace(
        cudaError_t=SimpleNamespace(cudaSuccess=good),
        cudaGetDeviceCount=lambda: (now, count),
        cudaGetDeviceProperties=lambda device: (good, found),
        cudaDriverGetVersion=lambda: (good, 13010),
    )
    return {"cuda": ModuleType("cuda"), "cuda.bindings": SimpleNamespace(runtime=runtime)}


def test_what_is_known_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fake in cuda(1).items():
        monkeypatch.setitem(sys.modules, name, fake)
    here = plan_build.card()
    assert (here.name, here.compute_capability) == ("NVIDIA Test 1", "9.0") and here.driver
    for name, fake in cuda(0, "cudaErrorInsufficientDriver").items():
        monkeypatch.setitem(sys.modules, name, fake)
    with pytest.raises(BackendUnavailable, match="cudaErrorInsufficientDriver; install or update NVIDIA's driver"):
        plan_build.card()
