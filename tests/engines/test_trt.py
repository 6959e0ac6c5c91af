"""The TensorRT engine on a fake driver and TensorRT: what it computes, copies and keeps, and how it fails."""

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from engines.base import BackendUnavailable, ContractError, EngineError, Feeds
from engines.contract import DESIGNS, Graph, graphs
from engines.plans import EnginePlan
from engines.selftest import feeds_for
from tests.support.fake_cuda import Error, FakeCuda
from tests.support.fake_engines import NEEDS_ORT, small_config, step_feeds

pytest.importorskip("onnxruntime")
from engines.ort import OrtEngine
from engines.trt import TrtEngine, targets, unavailable
from tests.support.fake_tensorrt import Context, FakeEngine, FakeTensorRT, RuntimeConfig, fake_plan, install

pytestmark = NEEDS_ORT
CONFIG = small_config()
STEP = graphs(CONFIG)["step"]
Make = Callable[..., TrtEngine]


@pytest.fixture(params=["trt", "rtx"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trt(flavour: str, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    return install(monkeypatch, FakeTensorRT(FakeCuda(), rtx=flavour == "rtx"))


@pytest.fixture
def only_trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    return install(monkeypatch, FakeTensorRT(FakeCuda()))


@pytest.fixture
def only_rtx(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    return install(monkeypatch, FakeTensorRT(FakeCuda(), rtx=True))


def engine(folder: Path, flavour: str = "trt", graph: Graph = STEP) -> TrtEngine:
    return TrtEngine(graph, flavour, lambda: fake_plan(folder, graph, CONFIG, flavour))


@pytest.fixture(scope="module")
def cpu(bundles: Callable[..., Path]) -> OrtEngine:
    return OrtEngine(bundles() / "step.onnx", STEP, "cpu", 1)


def same(one: Feeds, other: Feeds) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def size(feeds: Feeds) -> int:
    return sum(v.nbytes for v in feeds.values())


# ---------------------------------------------------------------- results
@pytest.mark.parametrize("design", DESIGNS)
def test_every_graph_gives_what_the_cpu_gives(
    bundles: Callable[..., Path], tmp_path: Path, only_trt: FakeTensorRT, design: str
) -> None:
    config, folder = small_config(design), bundles(design)
    for name, graph in graphs(config).items():
        made = TrtEngine(graph, "trt", lambda graph=graph: fake_plan(tmp_path, graph, config))
        feeds = feeds_for(graph, config)
        assert same(made.run(feeds), OrtEngine(folder / f"{name}.onnx", graph, "cpu", 1).run(feeds)), name
        made.close()
    assert only_trt.cuda.nothing_left()


def test_a_loop_gives_what_the_cpu_gives(trt: FakeTensorRT, flavour: str, tmp_path: Path, cpu: OrtEngine) -> None:
    fixed, _ = step_feeds(0)
    bound, reference = engine(tmp_path, flavour).bind(fixed), cpu.bind(fixed)
    kept = []
    for n in range(5):
        varying = step_feeds(n)[1]
        out = bound.run(varying)
        assert same(out, reference.run(varying))
        kept.append((out, {k: v.copy() for k, v in out.items()}))
    assert all(same(out, then) for out, then in kept)  # what was returned does not change with later steps


def test_no_null_rows(only_trt: FakeTensorRT, tmp_path: Path, cpu: OrtEngine) -> None:
    """Empty tensors have an address, and are not copied."""
    fixed, varying = step_feeds(0)
    fixed |= {k: v[:0] for k, v in fixed.items() if k.startswith("null_")}
    assert same(engine(tmp_path).bind(fixed).run(varying), cpu.run(fixed | varying))
    assert all(n > 0 for _, n in only_trt.cuda.copies)


# ---------------------------------------------------------------- traffic
def test_only_codes_uniforms_tokens_and_logp_travel_per_step(trt: FakeTensorRT, flavour: str, tmp_path: Path) -> None:
    fixed, varying = step_feeds(0, batch=2)
    bound = engine(tmp_path, flavour).bind(fixed)
    bound.run(varying)
    first = list(trt.cuda.copies)
    assert sum(n for way, n in first if way == "up") == size(fixed) + size(varying)
    trt.cuda.copies.clear()
    for n in range(1, 4):
        out = bound.run(step_feeds(n, batch=2)[1])
    up, down = ([n for way, n in trt.cuda.copies if way == which] for which in ("up", "down"))
    assert up == 3 * [v.nbytes for v in varying.values()]
    assert down == 3 * [out["tokens"].nbytes, out["logp"].nbytes]


def test_ten_seconds_cost_little_per_step(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    fixed, varying = step_feeds(0, length=862)
    bound = engine(tmp_path).bind(fixed)
    bound.run(varying)
    only_trt.cuda.copies.clear()
    outputs = bound.run(varying)
    assert sum(n for _, n in only_trt.cuda.copies) == size(varying) + size(outputs) <= 156e3


def test_buffers_are_made_once(trt: FakeTensorRT, flavour: str, tmp_path: Path) -> None:
    """Also across clips, and for smaller shapes."""
    made = engine(tmp_path, flavour)
    for seed, batch in enumerate((2, 2, 1, 2)):
        fixed, varying = step_feeds(seed, batch)
        bound = made.bind(fixed)
        for _ in range(3):
            bound.run(varying)
    names = len(STEP.inputs) + len(STEP.outputs)
    assert trt.cuda.calls.count("cudaMalloc") == names + 1 and trt.cuda.calls.count("cudaHostAlloc") == names


# ---------------------------------------------------------------- CUDA graphs
def test_the_step_is_captured_once_and_launched_again(only_trt: FakeTensorRT, tmp_path: Path, cpu: OrtEngine) -> None:
    made, calls = engine(tmp_path), only_trt.cuda.calls
    for seed in range(3):  # three clips of the same length
        fixed, varying = step_feeds(seed)
        bound = made.bind(fixed)
        for _ in range(4):
            assert same(bound.run(varying), cpu.run(fixed | varying))
    assert calls.count("cudaStreamBeginCapture") == 1
    assert calls.count("cudaGraphLaunch") == 11  # all but the first run
    fixed, varying = step_feeds(9, batch=3)
    bound = made.bind(fixed)
    for _ in range(3):
        assert same(bound.run(varying), cpu.run(fixed | varying))
    assert calls.count("cudaStreamBeginCapture") == 2 and len(only_trt.cuda.executables) == 1


def test_single_runs_are_not_captured(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    made = engine(tmp_path)
    for _ in range(3):
        made.run(feeds_for(STEP, CONFIG))
    assert "cudaStreamBeginCapture" not in only_trt.cuda.calls


def refused_by_tensorrt(trt: FakeTensorRT) -> None:
    trt.capturable = False


def refused_at_the_end(trt: FakeTensorRT) -> None:
    trt.cuda.failing["cudaGraphInstantiate"] = Error.cudaErrorStreamCaptureInvalidated


@pytest.mark.parametrize("refuse", [refused_by_tensorrt, refused_at_the_end])
def test_where_capture_is_refused_steps_are_enqueued(
    only_trt: FakeTensorRT, tmp_path: Path, cpu: OrtEngine, caplog: pytest.LogCaptureFixture,
    refuse: Callable[[FakeTensorRT], None],
) -> None:  # fmt: skip
    refuse(only_trt)
    fixed, varying = step_feeds(0)
    made = engine(tmp_path)
    bound = made.bind(fixed)
    for _ in range(4):
        assert same(bound.run(varying), cpu.run(fixed | varying))
    assert sum("without a CUDA graph" in r.message for r in caplog.records) == 1
    made.close()
    assert only_trt.cuda.calls.count("cudaStreamBeginCapture") == 1
    assert only_trt.cuda.calls.count("cudaGraphLaunch") == 0


def test_tensorrt_rtx_captures_by_itself(only_rtx: FakeTensorRT, tmp_path: Path) -> None:
    fixed, varying = step_feeds(0)
    bound = engine(tmp_path, "rtx").bind(fixed)
    for _ in range(3):
        bound.run(varying)
    (config,) = only_rtx.configs
    assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
    assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
    assert "cudaStreamBeginCapture" not in only_rtx.cuda.calls


# ---------------------------------------------------------------- several users of one engine
def test_clips_that_take_turns_do_not_see_each_other(
    trt: FakeTensorRT, flavour: str, tmp_path: Path, cpu: OrtEngine
) -> None:
    made = engine(tmp_path, flavour)
    clips = [(batch, step_feeds(seed, batch)[0]) for seed, batch in ((0, 1), (1, 1), (2, 3))]
    bound = [made.bind(fixed) for _, fixed in clips]
    for n in range(4):
        for b, (batch, fixed) in zip(bound, clips, strict=True):
            varying = step_feeds(10 + n, batch)[1]
            assert same(b.run(varying), cpu.run(fixed | varying))


def test_threads(trt: FakeTensorRT, flavour: str, tmp_path: Path, cpu: OrtEngine) -> None:
    made, start = engine(tmp_path, flavour), Barrier(4)

    def one_generation(seed: int) -> bool:
        fixed, varying = step_feeds(seed, 1 + seed % 2)
        bound, want = made.bind(fixed), cpu.run(fixed | varying)
        start.wait()
        return all(same(bound.run(varying), want) for _ in range(10))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one_generation, range(4)))


# ---------------------------------------------------------------- giving back
def test_close_gives_everything_back(trt: FakeTensorRT, flavour: str, tmp_path: Path) -> None:
    fixed, varying = step_feeds(0)
    made = engine(tmp_path, flavour)
    bound = made.bind(fixed)
    for _ in range(3):
        bound.run(varying)
    made.close()
    assert trt.cuda.nothing_left()
    made.close()
    with pytest.raises(BackendUnavailable, match="it was closed"):
        bound.run(varying)


def test_an_engine_that_is_dropped_gives_everything_back(trt: FakeTensorRT, flavour: str, tmp_path: Path) -> None:
    made = engine(tmp_path, flavour)
    made.run(feeds_for(STEP, CONFIG))
    assert not trt.cuda.nothing_left()
    del made
    gc.collect()
    assert trt.cuda.nothing_left()


# ---------------------------------------------------------------- memory
def test_out_of_memory_leaves_the_engine_usable(
    trt: FakeTensorRT, flavour: str, tmp_path: Path, cpu: OrtEngine
) -> None:
    fixed, varying = step_feeds(0, batch=1)
    small = engine(tmp_path, flavour)
    small.run(fixed | varying)
    trt.cuda.memory = trt.cuda.used
    small.close()
    made = engine(tmp_path, flavour)
    large = made.bind(step_feeds(1, batch=4)[0])
    with pytest.raises(EngineError, match=r"failed in step: out of memory \(cudaMalloc\); use fewer --candidates"):
        large.run(step_feeds(1, batch=4)[1])
    assert trt.cuda.used == 0  # the smaller batch has the whole card
    assert same(made.bind(fixed).run(varying), cpu.run(fixed | varying))


def test_out_of_memory_that_tensorrt_reports(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    made, feeds = engine(tmp_path), feeds_for(STEP, CONFIG)
    only_trt.run_error = "Error Code 2: OutOfMemory (no further information)"
    with pytest.raises(EngineError, match=r"the run failed for step: .*OutOfMemory.*fewer --candidates"):
        made.run(feeds)
    only_trt.run_error = ""
    made.run(feeds)


def test_no_memory_for_the_context(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    only_trt.context_error = "out of memory"
    with pytest.raises(BackendUnavailable, match=r"tensorrt cannot load step: .*out of memory"):
        engine(tmp_path)
    assert only_trt.cuda.nothing_left()


def test_no_memory_for_the_plan(trt: FakeTensorRT, flavour: str, tmp_path: Path) -> None:
    """Another program uses the GPU's memory: the plan is fine, and is kept."""
    trt.load_error = "Error Code 2: OutOfMemory (Requested size was 180000000 bytes.)"
    with pytest.raises(BackendUnavailable, match=r"cannot load step: .*OutOfMemory.*or close other programs"):
        engine(tmp_path, flavour)
    assert (tmp_path / "step.plan").exists() and trt.cuda.nothing_left()


def test_shapes_that_do_not_fit_together(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    """TensorRT's bindings raise, and the engine stays usable."""
    made, feeds = engine(tmp_path), feeds_for(STEP, CONFIG)
    only_trt.shape_error = "the output of a convolution would be of negative length"
    with pytest.raises(EngineError, match=r"the plan cannot take .*'codes': .* together: .*negative length"):
        made.run(feeds)
    only_trt.shape_error = ""
    made.run(feeds)


def test_a_batch_that_is_not_in_the_plan(trt: FakeTensorRT, flavour: str, tmp_path: Path, cpu: OrtEngine) -> None:
    """It is an EngineError, so the pipeline continues with smaller batches."""
    made = engine(tmp_path, flavour)
    fixed, varying = step_feeds(0, batch=5)
    with pytest.raises(
        EngineError, match=r"the plan takes codes from \[1, 1, 1\] to \[4, 4, 4\], got \[5, 9, 64\]; .*export.tensorrt"
    ):
        made.run(fixed | varying)
    fixed, varying = step_feeds(0, batch=4)
    assert same(made.run(fixed | varying), cpu.run(fixed | varying))


# ---------------------------------------------------------------- a card that goes
@pytest.mark.parametrize("when", ["upload", "run"])
def test_a_card_that_disappears_ends_the_engine(trt: FakeTensorRT, flavour: str, tmp_path: Path, when: str) -> None:
    fixed, varying = step_feeds(0)
    made = engine(tmp_path, flavour)
    bound = made.bind(fixed)
    bound.run(varying)
    if when == "upload":
        trt.cuda.lost = True
    else:
        trt.cuda.failing["cudaStreamSynchronize"] = Error.cudaErrorLaunchFailure
    with pytest.raises(
        BackendUnavailable, match=r"failed in step: cudaError(DevicesUnavailable|LaunchFailure) in cuda"
    ):
        bound.run(varying)
    trt.cuda.lost, trt.cuda.failing = False, {}  # it comes back: nothing that was on it can be trusted
    with pytest.raises(BackendUnavailable, match=r"cannot run step any more: .*nvidia-smi.*start the program again"):
        bound.run(varying)
    made.close()
    assert not (tmp_path / "step.cache").exists()


def test_a_run_that_fails_for_no_lack_of_memory_ends_the_engine(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    made, feeds = engine(tmp_path), feeds_for(STEP, CONFIG)
    only_trt.run_error = "Error Code 1: Cuda Runtime (an illegal memory access was encountered)"
    with pytest.raises(BackendUnavailable, match=r"the run failed for step: .*illegal memory access"):
        made.run(feeds)
    only_trt.run_error = ""
    with pytest.raises(BackendUnavailable, match="cannot run step any more"):
        made.run(feeds)


def test_errors_of_the_bindings_are_explained(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    """If CUDA cannot start, TensorRT's constructors raise TypeError."""
    made, feeds = engine(tmp_path), feeds_for(STEP, CONFIG)
    only_trt.binding_error = "pybind11::init(): factory function returned nullptr"
    with pytest.raises(
        BackendUnavailable, match=r"^tensorrt cannot load step: pybind11.*nullptr; CUDA init.*error: 35"
    ):
        engine(tmp_path)
    with pytest.raises(BackendUnavailable, match=r"failed in step: tensorrt stopped: pybind11"):
        made.run(feeds)
    only_trt.binding_error = ""
    with pytest.raises(BackendUnavailable, match="cannot run step any more"):
        made.run(feeds)


# ---------------------------------------------------------------- plans
def test_a_plan_of_another_version_is_built_again_once(
    trt: FakeTensorRT, flavour: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def find() -> EnginePlan:
        found.append(fake_plan(tmp_path, STEP, CONFIG, flavour))
        old = replace(found[-1], data=b"fake plan 0\n")
        return old if len(found) == 1 else found[-1]

    found: list[EnginePlan] = []
    assert TrtEngine(STEP, flavour, find).run(feeds_for(STEP, CONFIG))
    assert len(found) == 2 and "built again: the plan is of another version" in caplog.text


def test_a_plan_that_is_never_taken_is_an_error(trt: FakeTensorRT, flavour: str, tmp_path: Path) -> None:
    def find() -> EnginePlan:
        found.append(replace(fake_plan(tmp_path, STEP, CONFIG, flavour), data=b"broken"))
        return found[-1]

    found: list[EnginePlan] = []
    with pytest.raises(BackendUnavailable, match=r"rejects the plan .*step.plan, although it is new: the plan is of"):
        TrtEngine(STEP, flavour, find)
    assert len(found) == 2 and trt.cuda.nothing_left()


def test_the_plan_of_another_graph_is_refused(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    other = graphs(CONFIG)["scav_audio"]
    with pytest.raises(BackendUnavailable, match=r"graph step: the contract and the plan differ: missing \[.*'codes'"):
        TrtEngine(STEP, "trt", lambda: fake_plan(tmp_path, other, CONFIG))


def test_feeds_are_checked_as_on_the_cpu(only_trt: FakeTensorRT, tmp_path: Path) -> None:
    fixed, varying = step_feeds(0)
    made = engine(tmp_path)
    with pytest.raises(ContractError, match=r"expected guidance float32 \[\], got float64"):
        made.bind(fixed | {"guidance": np.array(1.0)})
    with pytest.raises(ContractError, match=r"missing tensors \['u'\], unexpected tensors \[\]"):
        made.bind(fixed).run({k: v for k, v in varying.items() if k != "u"})
    with pytest.raises(ContractError, match=r"with B = 1, got int32 \[2, 9, 64\]|with B = 2, got \w+ \[1, 9, 64\]"):
        made.bind(fixed).run(varying | {"codes": np.repeat(varying["codes"], 2, axis=0)})


# ---------------------------------------------------------------- TensorRT-RTX's compiled kernels
def test_compiled_kernels_are_kept_beside_the_plan(only_rtx: FakeTensorRT, tmp_path: Path) -> None:
    for expected in (b"", b"compiled"):
        made = engine(tmp_path, "rtx")
        made.run(feeds_for(STEP, CONFIG))
        assert only_rtx.configs[-1].read == expected and only_rtx.configs[-1].cache is not None
        made.close()
    assert (tmp_path / "step.cache").read_bytes() == b"compiled"
    (tmp_path / "step.cache").write_bytes(b"of another card")
    engine(tmp_path, "rtx").close()
    assert (tmp_path / "step.cache").read_bytes() == b"compiled"
    assert not list(tmp_path.glob("*.part"))


def test_compiled_kernels_are_kept_by_any_thread(only_rtx: FakeTensorRT, tmp_path: Path) -> None:
    """The thread that closes it, or collects garbage, may never have used the GPU."""
    made = engine(tmp_path, "rtx")
    made.run(feeds_for(STEP, CONFIG))
    closing = Thread(target=made.close)
    closing.start()
    closing.join()
    assert (tmp_path / "step.cache").read_bytes() == b"compiled"


@pytest.mark.parametrize(("listed", "wanted"), [(("sm89",), ("sm89",)), (("sm120",), ("sm120", "sm89"))])
def test_plans_are_for_the_listed_cards_and_this_one(
    only_rtx: FakeTensorRT, listed: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    only_rtx.cuda.capability = (8, 9)
    assert targets(listed) == wanted


def test_a_cache_that_cannot_be_written_costs_time_only(
    only_rtx: FakeTensorRT, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "step.cache").mkdir()
    made = engine(tmp_path, "rtx")
    made.run(feeds_for(STEP, CONFIG))
    made.close()
    assert "cannot keep compiled kernels" in caplog.text and not list(tmp_path.glob("*.part"))
    assert only_rtx.cuda.nothing_left()


# ---------------------------------------------------------------- why it cannot be used
def old_driver(cuda: FakeCuda) -> None:
    cuda.driver = 12040


def no_driver(cuda: FakeCuda) -> None:
    cuda.driver = 0


def no_card(cuda: FakeCuda) -> None:
    cuda.cards = 0


def hopper(cuda: FakeCuda) -> None:
    cuda.capability = (9, 0)


def lost(cuda: FakeCuda) -> None:
    cuda.failing["cudaGetDeviceCount"] = Error.cudaErrorDevicesUnavailable


def silent(cuda: FakeCuda) -> None:
    cuda.failing["cudaGetDeviceProperties"] = Error.cudaErrorDevicesUnavailable


REASONS = {
    old_driver: r"the NVIDIA driver is too old: it supports CUDA 12\.4, 13\.0 is needed; update it",
    no_driver: "no NVIDIA driver is installed",
    no_card: "cudaErrorNoDevice: no NVIDIA GPU is visible: check `nvidia-smi` and CUDA_VISIBLE_DEVICES",
    hopper: r"tensorrt_rtx has no target sm90 \(a fake card\); use tensorrt or cuda on this GPU",
    lost: "cudaErrorDevicesUnavailable: another program uses the GPU, or the GPU was lost",
    silent: "the NVIDIA GPU does not answer: cudaErrorDevicesUnavailable; check it with `nvidia-smi`",
}


@pytest.mark.parametrize("change", REASONS, ids=lambda f: f.__name__)
def test_why_it_cannot_be_used(only_rtx: FakeTensorRT, tmp_path: Path, change: Callable[[FakeCuda], None]) -> None:
    assert unavailable("rtx") is None
    change(only_rtx.cuda)
    with pytest.raises(BackendUnavailable, match="tensorrt_rtx is not available: " + REASONS[change]):
        engine(tmp_path, "rtx")


def test_tensorrt_itself_runs_on_hopper(only_trt: FakeTensorRT) -> None:
    only_trt.cuda.capability = (9, 0)
    assert unavailable("trt") is None


def test_without_a_driver_nothing_that_needs_one_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engines.cuda.DRIVER", "libno-such-driver.so")
    for name in ("tensorrt_rtx", "tensorrt", "cuda.bindings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert [unavailable(flavour) for flavour in ("rtx", "trt")] == ["no NVIDIA driver is installed"] * 2
    assert not {"tensorrt_rtx", "tensorrt", "cuda.bindings"} & set(sys.modules)


def test_absent_libraries(monkeypatch: pytest.MonkeyPatch, only_trt: FakeTensorRT) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "cuda-bindings cannot be imported" in str(unavailable("trt"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    reason = str(unavailable("trt"))
    assert "tensorrt cannot be imported" in reason and "pip install '.[trt]'" in reason


# ---------------------------------------------------------------- the fakes against the real modules
def public(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


def test_the_fake_driver_has_nothing_that_the_real_one_lacks() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings: pip install '.[rtx]'")
    assert {n for n in dir(FakeCuda) if n.startswith("cuda")} <= set(dir(real))
    assert {e.name: e.value for e in Error} == {e.name: int(getattr(real.cudaError_t, e.name)) for e in Error}
    assert FakeCuda.cudaStreamNonBlocking == real.cudaStreamNonBlocking
    for name in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        values = vars(getattr(FakeCuda, name))
        assert {k: int(getattr(getattr(real, name), k)) for k in values} == values


def test_the_fake_tensorrt_has_nothing_that_the_real_one_lacks() -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install '.[rtx]'")
    pairs = {FakeEngine: real.ICudaEngine, Context: real.IExecutionContext, RuntimeConfig: real.IRuntimeConfig}
    for fake, kind in pairs.items():
        assert public(fake) <= set(dir(kind)), fake
    config = {"cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"}
    assert config <= set(dir(real.IRuntimeConfig)) and {"serialize", "deserialize"} <= set(dir(real.IRuntimeCache))
    fake = FakeTensorRT(FakeCuda(), rtx=True)
    for name in (
        "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy", "ExecutionContextAllocationStrategy",
        "TensorIOMode", "TensorLocation", "DataType",
    ):  # fmt: skip
        assert {e.name for e in getattr(fake, name)} <= set(dir(getattr(real, name))), name
    assert {e.name for e in fake.ILogger.Severity} <= set(dir(real.ILogger.Severity))
    assert set(vars(fake.ComputeCapability)) <= set(dir(real.ComputeCapability))
    assert not hasattr(real.ComputeCapability, "SM90")  # docs and `unavailable` say so
