"""Which backend runs a bundle, what the user learns about the others, and whole clips on a fake TensorRT."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines import backends, plans
from engines.backends import BACKENDS, Backend, Opening
from engines.base import BackendUnavailable, Engine, EngineError, Feeds
from engines.contract import Graph
from engines.manifest import Manifest, sha256
from engines.ort import OrtEngine
from engines.typed import FOLDER, TypedFile, read, write
from runtime import SamplingConfig, doctor, infer
from runtime.bundle import NEEDED, Bundle
from tests.support.fake_cuda import Error, FakeCuda
from tests.support.fake_engines import NEEDS_ORT, rewrite_manifest

pytest.importorskip("onnxruntime")
from tests.support.fake_tensorrt import FakeTensorRT, find, install

pytestmark = NEEDS_ORT
QUICK = SamplingConfig(steps=3, seed=1)
Bundles = Callable[..., Path]
Clip = Callable[..., Path]


class Altered(Engine):
    """A backend's engine whose results are the CPU's, changed."""

    def __init__(self, inner: Engine, change: Callable[[str, Feeds], Feeds]) -> None:
        self.inner, self.graph, self.change, self.backend = inner, inner.graph, change, "altered"
        self.closed = False

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        return self.change(self.graph.name, self.inner.execute(fixed, varying, sizes))

    def close(self) -> None:
        self.closed = True


def same(name: str, outputs: Feeds) -> Feeds:
    return outputs


def louder(name: str, outputs: Feeds) -> Feeds:
    return {k: v * np.float32(1.1) for k, v in outputs.items()} if name == "codec_decoder" else outputs


def out_of_memory(name: str, outputs: Feeds) -> Feeds:
    raise EngineError("out of memory")


@pytest.fixture(autouse=True)
def no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide this machine's GPUs: only the CPU is available."""
    for name in BACKENDS:
        if name != "cpu":
            monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], unavailable=lambda: "no card here; buy one"))


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Altered]]:
    """works(name, change): the backend is available and gives the CPU's results, changed."""

    def make(name: str, change: Callable[[str, Feeds], Feeds] = same) -> list[Altered]:
        made: list[Altered] = []

        def open_(graph: Graph, opening: Opening) -> Engine:
            made.append(Altered(OrtEngine(opening.folder / opening.file, graph, "cpu", 1), change))
            return made[-1]

        monkeypatch.setitem(BACKENDS, name, Backend(lambda: None, ("fp32",), open_))
        return made

    return make


# ---------------------------------------------------------------- auto
def test_auto_takes_the_first_that_passes_the_self_test(bundles: Bundles, works: Callable[..., object]) -> None:
    works("tensorrt-rtx")
    works("cuda")
    bundle = Bundle(bundles(), threads=1)
    assert (bundle.backend, bundle.warnings) == ("tensorrt-rtx", [])


@pytest.mark.parametrize("change", [louder, out_of_memory])
def test_auto_skips_what_does_not_work_and_says_why(
    bundles: Bundles, works: Callable[..., list[Altered]], change: Callable[[str, Feeds], Feeds]
) -> None:
    made = works("tensorrt", change)
    works("cuda")
    bundle = Bundle(bundles(), threads=1)
    assert bundle.backend == "cuda"
    (warning,) = bundle.warnings
    assert warning.startswith("backend 'tensorrt' does not work here, the next one is used: ")
    if change is louder:
        assert (
            "self-test failed on tensorrt: codec_decoder.onnx: audio: mean 0." in warning and "; expected 0." in warning
        )
    assert len(made) == len(NEEDED) and all(e.closed for e in made)
    works("cuda", change)
    assert Bundle(bundles(), threads=1).backend == "cpu"


def test_auto_skips_a_gpu_that_repeats_what_it_recorded(bundles: Bundles, works: Callable[..., list[Altered]]) -> None:
    """A CUDA graph reads stale inputs: single runs are right, the steps of a clip are wrong."""
    made, recorded = works("cuda"), list[Feeds]()
    original = Altered.execute

    def stale(self: Altered, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        outputs = original(self, fixed, varying, sizes)
        if fixed and self.graph.name == "step":
            recorded.append(outputs)
            return recorded[0]
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Altered, "execute", stale)
        bundle = Bundle(bundles(), threads=1)
    assert bundle.backend == "cpu" and all(e.closed for e in made) and len(recorded) == 2
    assert "step.onnx: only 0% of the tokens of bound run 2 are equal to those of a single run" in bundle.warnings[0]


def test_a_gpu_must_pass_the_self_test(own_bundle: Path, works: Callable[..., object]) -> None:
    """Without a self-test, `auto` uses the CPU. A GPU is used only if the user names it."""
    rewrite_manifest(own_bundle, lambda m: m.update(self_test={}))
    works("cuda")
    bundle = Bundle(own_bundle, threads=1)
    assert bundle.backend == "cpu" and "the manifest has no summary of this file" in bundle.warnings[0]
    assert Bundle(own_bundle, "cuda").backend == "cuda"


def test_the_cpu_is_not_tested_at_every_start(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the reference needs no test")

    monkeypatch.setattr(Bundle, "self_test", refuse)
    assert Bundle(bundles(), threads=1).backend == "cpu"


def test_a_bundle_without_a_precision_that_a_card_runs(own_bundle: Path, works: Callable[..., object]) -> None:
    rewrite_manifest(own_bundle, lambda m: m["files"]["step.onnx"].update(precision="int8"))
    works("cuda")
    bundle = Bundle(own_bundle, threads=1)
    assert bundle.backend == "cpu" and "has step in int8, and backend 'cuda' runs fp32" in bundle.warnings[0]


def test_the_report_says_which_and_why(bundles: Bundles, make_video: Clip, works: Callable[..., object]) -> None:
    works("tensorrt", louder)
    report = runtime.load(bundles(), threads=1).generate(make_video(), QUICK)[0].report
    assert report.backend == "cpu" and "self-test failed on tensorrt" in report.warnings[0]


# ---------------------------------------------------------------- command line
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx", "cuda"])
def test_asking_for_what_is_not_here(
    bundles: Bundles, make_video: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "x.wav"
    arguments = [str(make_video()), "-o", str(out), "--engines", str(bundles()), "--backend", name]
    assert infer.main(arguments) == 1
    assert capsys.readouterr().err == f"error: backend '{name}' is not available: no card here; buy one\n"
    assert not list(tmp_path.iterdir())


def test_doctor_says_why_others_are_not_used(
    bundles: Bundles, works: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    works("tensorrt", louder)
    works("cuda")
    assert doctor.main(["--engines", str(bundles())]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert (
        "does not work here: the bundle's self-test failed on tensorrt: codec_decoder.onnx: audio" in lines["tensorrt"]
    )
    assert lines["tensorrt-rtx"].split(maxsplit=1)[1] == "no card here; buy one"
    assert lines["cuda"].split()[1] == "used" and lines["cpu"].split()[1] == "works"
    assert lines["step.onnx"].split()[1:] == ["altered", "ok"]


# ---------------------------------------------------------------- whole clips on TensorRT
@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    monkeypatch.setitem(BACKENDS, "tensorrt", backends._trt("trt"))
    monkeypatch.setattr("engines.plans.find", find)
    return install(monkeypatch, FakeTensorRT(FakeCuda()))


@pytest.fixture
def typed_bundle(own_bundle: Path) -> Path:
    """A bundle with typed graphs: copies of its own, named as half precision."""
    manifest, files = Manifest.load(own_bundle), {}
    (own_bundle / FOLDER).mkdir()
    for source, entry in manifest.files.items():
        name = f"{entry.graph}.fp16.onnx"
        (own_bundle / FOLDER / name).write_bytes((own_bundle / source).read_bytes())
        files[name] = TypedFile(entry.graph, "fp16", entry.sha256, {name: entry.sha256})
    write(own_bundle, files)
    return own_bundle


def test_doctor_tells_what_was_noted(
    typed_bundle: Path, tensorrt: FakeTensorRT, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a graph runs in its second choice of precision, the backend is still used, and the user is informed."""
    files, folder = read(typed_bundle), typed_bundle / FOLDER
    half, single = files["step.fp16.onnx"], folder / "step.fp32.onnx"
    single.write_bytes((folder / "step.fp16.onnx").read_bytes())
    files["step.fp32.onnx"] = replace(half, precision="fp32", sha256={single.name: sha256(single)})
    write(typed_bundle, files | {"step.fp16.onnx": replace(half, source="of another bundle")})
    assert doctor.main(["--engines", str(typed_bundle), "--backend", "tensorrt"]) == 0
    assert (
        "  note: typed/step.fp16.onnx is not used: it was not derived from this bundle's file"
        in capsys.readouterr().out
    )


def test_the_runtime_asks_for_the_plans_that_were_built(typed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are for the targets of `export.tensorrt --targets`: with another list they would be built again."""
    asked: set[tuple[str, ...]] = set()

    def finds(flavour: str, onnx: Path, graph: Graph, options: plans.PlanOptions) -> plans.EnginePlan:
        asked.add(options.targets)
        return find(flavour, onnx, graph, options)

    install(monkeypatch, FakeTensorRT(FakeCuda(), rtx=True))
    monkeypatch.setitem(BACKENDS, "tensorrt-rtx", backends._trt("rtx"))
    monkeypatch.setattr("engines.plans.find", finds)
    write(typed_bundle, {name: replace(entry, targets=("sm89",)) for name, entry in read(typed_bundle).items()})
    Bundle(typed_bundle, "tensorrt-rtx").close()
    assert asked == {("sm89",)}


def test_a_clip_on_tensorrt_is_the_cpus(typed_bundle: Path, make_video: Clip, tensorrt: FakeTensorRT) -> None:
    pipeline = runtime.load(typed_bundle)
    assert pipeline.bundle.backend == "tensorrt" and pipeline.bundle["step"].backend == "tensorrt/fp16"
    three = replace(QUICK, candidates=3, takes=3)
    takes = pipeline.generate(make_video(), three)
    reference = runtime.load(typed_bundle, "cpu", threads=1).generate(make_video(), three)
    for one, other in zip(takes, reference, strict=True):
        assert one.audio.tobytes() == other.audio.tobytes() and one.score == other.score
    assert takes[0].report.backend == "tensorrt" and takes[0].report.warnings == []
    pipeline.close()
    assert tensorrt.cuda.nothing_left()


def test_more_candidates_than_the_plans_take(
    typed_bundle: Path, make_video: Clip, tensorrt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans take as many candidates as the index says. More run in smaller batches, with a warning."""
    four, asked = replace(QUICK, candidates=4, takes=4), []
    whole = runtime.load(typed_bundle, "tensorrt").generate(make_video(), four)
    assert whole[0].report.warnings == []
    made = plans.find

    def spied(flavour: str, path: Path, graph: Graph, options: plans.PlanOptions) -> plans.EnginePlan:
        asked.append(options.candidates)
        return made(flavour, path, graph, options)

    monkeypatch.setattr(plans, "find", spied)
    tensorrt.max_batch = 2  # what a plan for two candidates takes
    write(typed_bundle, {name: replace(entry, candidates=2) for name, entry in read(typed_bundle).items()})
    takes = runtime.load(typed_bundle, "tensorrt").generate(make_video(), four)
    assert set(asked) == {2} and [t.audio.tobytes() for t in takes] == [t.audio.tobytes() for t in whole]
    (warning,) = takes[0].report.warnings
    assert "smaller batches were used: graph step: the plan takes codes from [1, " in warning and "to [2, " in warning
    assert "`python -m export.tensorrt BUNDLE --candidates N` makes plans for larger batches" in warning


def test_short_memory_means_smaller_batches(typed_bundle: Path, make_video: Clip, tensorrt: FakeTensorRT) -> None:
    four = replace(QUICK, candidates=4, takes=4)
    pipeline = runtime.load(typed_bundle, "tensorrt")
    whole = [t.audio.tobytes() for t in pipeline.generate(make_video(), four)]
    pipeline.close()
    one = runtime.load(typed_bundle, "tensorrt")
    one.generate(make_video(), replace(QUICK, candidates=2))
    tensorrt.cuda.memory = tensorrt.cuda.used  # enough for two
    takes = one.generate(make_video(), four)
    assert [t.audio.tobytes() for t in takes] == whole
    assert any("smaller batches were used" in w for w in takes[0].report.warnings)


def test_a_card_that_disappears_in_the_middle(
    typed_bundle: Path, make_video: Clip, tensorrt: FakeTensorRT, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(progress: runtime.Progress) -> None:
        tensorrt.cuda.lost = progress.step == 2

    pipeline = runtime.load(typed_bundle, "tensorrt")
    with pytest.raises(
        BackendUnavailable, match=r"tensorrt/fp16 failed in \w+: cudaErrorDevicesUnavailable .*nvidia-smi"
    ):
        pipeline.generate(make_video(), replace(QUICK, candidates=2), lose)
    tensorrt.cuda.lost, tensorrt.cuda.failing["cudaStreamSynchronize"] = False, Error.cudaErrorLaunchFailure
    arguments = [
        str(make_video()),
        "-o",
        str(tmp_path / "x.wav"),
        "--engines",
        str(typed_bundle),
        "--backend",
        "tensorrt",
    ]
    assert infer.main([*arguments, "--progress", "none"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: tensorrt/fp16 failed in ") and "cudaErrorLaunchFailure" in error
    assert not (tmp_path / "x.wav").exists()


def test_tensorrt_runs_nothing_but_typed_graphs(typed_bundle: Path, tensorrt: FakeTensorRT) -> None:
    (typed_bundle / FOLDER / "step.fp16.onnx").write_bytes(b"altered")
    with pytest.raises(
        BackendUnavailable, match=r"typed/step.fp16.onnx is not used: .*altered.*`python -m export.tens"
    ):
        Bundle(typed_bundle, "tensorrt")
    (typed_bundle / FOLDER / "typed.json").unlink()
    bundle = Bundle(typed_bundle, threads=1)
    assert bundle.backend == "cpu" and len(bundle.warnings) == 1
    assert f"has no strongly typed frame_encoder; `python -m export.tensorrt {typed_bundle}`" in bundle.warnings[0]
