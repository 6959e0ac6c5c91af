"""ONNX Runtime as an engine: tensors that do not fit are refused by name; an absent backend says what to do."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines import backends, ort
from engines.base import BackendUnavailable, ContractError, EngineError
from engines.contract import DESIGNS, Graph, ModelConfig, graphs
from engines.feeds import conditional_only
from engines.manifest import ManifestError
from engines.ort import OrtEngine
from engines.selftest import compare, feeds_for, summarise
from runtime.bundle import Bundle
from tests.support.fake_engines import NEEDS_ORT, Body, Builder, model, small_config
from tests.support.paths import ROOT

pytestmark = NEEDS_ORT
CONFIG = small_config()
STEP = graphs(CONFIG)["step"]


def engine(folder: Path, graph: Graph = STEP, body: Body | None = None) -> OrtEngine:
    path = folder / f"{graph.name}.onnx"
    onnx.save(model(graph, CONFIG, body), path)
    return OrtEngine(path, graph, "cpu", 1)


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> OrtEngine:
    return engine(tmp_path_factory.mktemp("ort"))


# ---------------------------------------------------------------- every graph
@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_graph_of_every_design_runs(bundles: Callable[..., Path], design: str, cls: bool) -> None:
    folder, config = bundles(design, cls_in_memory=cls), small_config(design, cls_in_memory=cls)
    signatures = graphs(config)
    engines = {name: OrtEngine(folder / f"{name}.onnx", graph, "cpu", 1) for name, graph in signatures.items()}
    first, second = (summarise(engines, config) for _ in range(2))
    assert first == second
    assert all(problem is None for problem in compare(first, second).values())
    assert engines["step"].backend == "onnxruntime/CPUExecutionProvider"


def test_self_test_notices_another_output(bundles: Callable[..., Path]) -> None:
    folder = bundles()
    good = summarise({n: OrtEngine(folder / f"{n}.onnx", g, "cpu", 1) for n, g in graphs(CONFIG).items()}, CONFIG)
    broken = good | {"step": {"tokens": [0.0, 0.0], "logp": [float("nan"), 1.0]}}
    verdict = compare(good, broken)
    assert {name for name, problem in verdict.items() if problem} == {"step"}
    assert "expected" in str(verdict["step"])


# ---------------------------------------------------------------- feeds
def wrong_name(feeds: dict) -> None:
    feeds["uniform"] = feeds.pop("u")


def missing(feeds: dict) -> None:
    del feeds["keys"]


def wrong_dtype(feeds: dict) -> None:
    feeds["codes"] = feeds["codes"].astype(np.int64)


def wrong_rank(feeds: dict) -> None:
    feeds["u"] = feeds["u"][0]


def wrong_fixed_size(feeds: dict) -> None:
    feeds["codes"] = feeds["codes"][:, :8]


def wrong_length(feeds: dict) -> None:
    feeds["frame_index"] = feeds["frame_index"][:, :-1]


def wrong_batch(feeds: dict) -> None:
    feeds["u"] = np.repeat(feeds["u"], 2, axis=0)


def numpy_scalar(feeds: dict) -> None:
    feeds["guidance"] = np.float32(2)


def python_number(feeds: dict) -> None:
    feeds["guidance"] = 2.0


REFUSED = {
    wrong_name: r"graph step: missing tensors \['u'\], unexpected tensors \['uniform'\]",
    missing: r"graph step: missing tensors \['keys'\], unexpected tensors \[\]",
    wrong_dtype: r"expected codes int32 \[B, 9, T\], got int64 \[1, 9, 64\]",
    wrong_rank: r"expected u float32 \[B, 9, P\], got float32 \[9, 32\]",
    wrong_fixed_size: r"expected codes int32 \[B, 9, T\] with 9 = 9, got int32 \[1, 8, 64\]",
    wrong_length: r"expected frame_index int32 \[G, T\] with T = 64, got int32 \[2, 63\]",
    wrong_batch: r"expected u float32 \[B, 9, P\] with B = 1, got float32 \[2, 9, 32\]",
    numpy_scalar: r"expected guidance float32 \[\], got a NumPy scalar; wrap it with np\.array",
    python_number: r"expected guidance float32 \[\], got a float; wrap it with np\.array",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda f: f.__name__)
def test_feeds_that_do_not_fit_are_refused_by_name(step: OrtEngine, change: Callable[[dict], None]) -> None:
    feeds = feeds_for(STEP, CONFIG)
    step.run(feeds)
    change(feeds)
    with pytest.raises(ContractError, match=REFUSED[change]):
        step.run(feeds)


# ---------------------------------------------------------------- outputs
def test_outputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def half(op: Builder, config: ModelConfig, graph: Graph) -> dict[str, str]:
        brightness = op("ReduceMean", op.cast("frames", onnx.TensorProto.FLOAT), [1, 2], keepdims=0)
        row = op.slice(brightness, 0, 0, 1)
        return {"features": op("Gather", row, np.arange(config.clip_dim) % 3, axis=1)}

    graph = graphs(CONFIG)["frame_encoder"]
    broken = engine(tmp_path, graph, half)
    with pytest.raises(ContractError, match=r"frame_encoder: expected features .* with N = 5, got float32 \[1, 6\]"):
        broken.run({"frames": np.zeros((5, 32, 32, 3), np.uint8)})


def test_no_null_group_means_no_guidance(step: OrtEngine) -> None:
    feeds = feeds_for(STEP, CONFIG)
    none = conditional_only(feeds)
    strong = none | {"guidance": np.array(9, np.float32)}
    assert np.array_equal(step.run(none)["tokens"], step.run(strong)["tokens"])
    assert not np.array_equal(step.run(none)["tokens"], step.run(feeds)["tokens"])


# ---------------------------------------------------------------- files
def test_a_file_of_another_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    onnx.save(model(graphs(CONFIG)["scav_audio"], CONFIG), path)
    with pytest.raises(BackendUnavailable, match=r"step: the file has \['audio_features'\], the contract \['codes'"):
        OrtEngine(path, STEP, "cpu")


def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(BackendUnavailable, match=r"onnxruntime cannot load step\.onnx"):
        OrtEngine(path, STEP, "cpu")


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(64))
    inside = tmp_path / "bundle"
    inside.mkdir()
    proto = model(STEP, CONFIG)
    constant = proto.graph.initializer[0]
    onnx.external_data_helper.set_external_data(constant, location, offset=0, length=len(constant.raw_data))
    constant.ClearField("raw_data")
    (inside / "step.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(BackendUnavailable, match=r"cannot load step\.onnx"):
        OrtEngine(inside / "step.onnx", STEP, "cpu")


# ---------------------------------------------------------------- backends
def test_absent_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"no backend is available: .*pip install '\.\[cpu\]'"):
        backends.choose("auto")
    with pytest.raises(BackendUnavailable, match=r"'cuda' is not available: .*pip install '\.\[gpu\]'"):
        backends.choose("cuda")
    with pytest.raises(BackendUnavailable, match=r"pip install"):
        OrtEngine(tmp_path / "step.onnx", STEP, "cpu")


def test_absent_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert backends.choose("auto") == ["cpu"]
    with pytest.raises(BackendUnavailable, match=r"has no CUDAExecutionProvider; pip uninstall onnxruntime, then"):
        backends.choose("cuda")


def test_unknown_backend() -> None:
    with pytest.raises(
        BackendUnavailable, match=r"unknown backend 'tpu'; choose from auto, tensorrt, tensorrt-rtx, cuda, cpu"
    ):
        backends.choose("tpu")


def test_int8_graphs_are_for_cpus_only() -> None:
    assert [name for name, backend in backends.BACKENDS.items() if "int8" in backend.precisions] == ["cpu"]


def test_a_backend_without_a_file_it_may_run(bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It never falls back to the int8 file."""
    monkeypatch.setitem(backends.BACKENDS, "cpu", replace(backends.BACKENDS["cpu"], precisions=("fp16",)))
    with pytest.raises(ManifestError, match=r"has frame_encoder in fp32, and backend 'cpu' runs fp16; export it again"):
        Bundle(bundles(), "cpu")


def test_auto_takes_the_next_backend_when_the_first_does_not_work(
    bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU package on a machine without a GPU: the provider is listed, and fails when it is used."""

    def broken(*_: object) -> OrtEngine:
        raise BackendUnavailable("no card")

    cuda = replace(backends.BACKENDS["cuda"], unavailable=lambda: None, open=broken)
    monkeypatch.setitem(backends.BACKENDS, "cuda", cuda)
    bundle = Bundle(bundles(), "auto")
    assert bundle.backend == "cpu" and "no card" in bundle.warnings[0]
    assert bundle["step"].backend.endswith("CPUExecutionProvider")
    with pytest.raises(BackendUnavailable, match="no card"):
        Bundle(bundles(), "cuda")


def test_a_failing_run_is_an_error_with_advice(step: OrtEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example out of memory. ONNX Runtime's exceptions share no base class, so the engine converts them."""

    class Broken:
        def run(self, *_: object) -> None:
            raise RuntimeError("Failed to allocate memory")

    monkeypatch.setattr(step, "_session", Broken())
    with pytest.raises(EngineError, match=r"step: not enough memory; .*fewer --candidates"):
        step.run(feeds_for(STEP, CONFIG))


@pytest.mark.parametrize(
    "words",
    [
        "std::bad_alloc",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc",
        "/onnxruntime_src/onnxruntime/core/platform/posix/env.cc:327 pthread_create failed, error code: 11",
        "mmap failed: Cannot allocate memory",
        "Unable to allocate 1.5 GiB for an array",
    ],
)
def test_short_memory_in_any_words_is_advice(words: str) -> None:
    for backend, place in (("cpu", "not enough memory;"), ("cuda", "not enough memory on the GPU;")):
        text = ort._explain(RuntimeError(words), backend)
        assert text.startswith(place) and "fewer --candidates" in text and "\n" not in text


def test_errors_are_one_line_without_signatures() -> None:
    error = RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : Load model failed:\n/onnxruntime_src/onnxruntime/core/graph/model.cc:186 "
        "onnxruntime::Model::Model(const PathString&, int) const Unsupported model IR version"
    )
    assert (
        ort._explain(error, "cpu") == "[ONNXRuntimeError] : 1 : FAIL : Load model failed: Unsupported model IR version"
    )


def test_onnxruntime_prints_nothing_when_loading_and_running_fail(bundles: Callable[..., Path], tmp_path: Path) -> None:
    """Its coloured log lines go past Python, to file 2."""
    code = f"""
import numpy as np
from pathlib import Path
from engines.base import BackendUnavailable, EngineError
from engines.contract import graphs
from engines.manifest import Manifest
from engines.ort import OrtEngine
folder = Path({str(bundles())!r})
graph = graphs(Manifest.read(folder).config)["codec_decoder"]
engine = OrtEngine(folder / "codec_decoder.onnx", graph, "cpu", 1)
try:
    engine._run({{"codes": np.zeros((1, 9), np.int32)}})  # past the checks of the shapes
except Exception as error:
    print(type(error).__name__)
Path("broken.onnx").write_bytes((folder / "codec_decoder.onnx").read_bytes()[:-300])
try:
    OrtEngine(Path("broken.onnx"), graph, "cpu", 1)
except BackendUnavailable:
    print("refused")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.endswith("\nrefused\n") and done.stdout != "\nrefused\n"


# ---------------------------------------------------------------- beside other users of ONNX Runtime
@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0"), ("", "")])
def test_telemetry_is_off_unless_the_user_decides(given: str | None, expected: str, tmp_path: Path) -> None:
    code = """
import os, runtime
from engines import ort
before = os.environ.get("ORT_DISABLE_TELEMETRY")
seen = []
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime": seen.append(os.environ["ORT_DISABLE_TELEMETRY"])
import sys; sys.meta_path.insert(0, Spy())
ort.available()
print(before, seen)
"""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | {"PYTHONPATH": str(ROOT)}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{given} {[expected]}\n", done.stderr


def test_the_environment_of_a_host_that_imported_it_stays(tmp_path: Path) -> None:
    code = (
        "import os, onnxruntime; b = dict(os.environ); from engines import ort; ort.available(); print(b == os.environ)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_host_with_a_global_thread_pool(bundles: Callable[..., Path], make_video: Callable[..., Path]) -> None:
    """It loads, and the sound is the same."""
    code = f"""
import hashlib, logging, sys
if sys.argv[1] == "global":
    import onnxruntime
    onnxruntime.set_global_thread_pool_sizes(2, 1)
import runtime
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
pipeline = runtime.load({str(bundles())!r}, "cpu", 1)
(take,) = pipeline.generate({str(make_video())!r}, runtime.SamplingConfig(steps=2, seed=1))
print(hashlib.sha256(take.audio.tobytes()).hexdigest())
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    runs = {
        kind: subprocess.run(
            [sys.executable, "-c", code, kind], env=environment, capture_output=True, text=True, check=True
        )
        for kind in ("own", "global")
    }
    own, shared = (run.stdout.splitlines() for run in runs.values())
    assert own[-1] == shared[-1] and "global thread pool" in shared[0] and len(own) == 1


def test_without_a_driver_the_gpu_package_is_one_line(
    bundles: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    monkeypatch.setattr("engines.cuda.DRIVER", "libno-such-driver.so")
    assert ort.available() == {"cpu": None, "cuda": "no NVIDIA driver is installed"}
    bundle = Bundle(bundles(), "auto", 1)
    assert bundle.backend == "cpu" and not any("cuda" in warning for warning in bundle.warnings)
    with pytest.raises(BackendUnavailable, match=r"^backend 'cuda' is not available: no NVIDIA driver is installed$"):
        Bundle(bundles(), "cuda", 1)
