"""benchmarks.latency without PyTorch: grids, pairs, points, and the command on fake engines.

No test depends on a measured time.
"""

import hashlib
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

import runtime
from benchmarks.common import machine
from benchmarks.latency import __main__ as latency
from benchmarks.latency import compare, end_to_end, video
from benchmarks.latency.options import get_parser, workloads
from benchmarks.latency.points import (
    CANDIDATES,
    SECONDS,
    STAGES,
    STEPS,
    Worker,
    WorkerError,
    Workload,
    alternate,
    figures,
    grid,
    quantile,
    ratios,
    runtime_order,
)
from benchmarks.latency.quality import Reference
from benchmarks.latency.subjects import Subject, precisions, select_precision
from benchmarks.latency.tables import document
from engines.manifest import MINI, Manifest
from runtime import OptionError
from runtime.bundle import Bundle
from tests.conftest import Bundles, MakeVideo
from tests.support.fake_engines import NEEDS_ORT, rewrite_manifest


# ---------------------------------------------------------------- which points, in which order
def test_grids() -> None:
    assert len(grid("full", True)) == len(set(grid("full", True))) == len(STEPS) * len(CANDIDATES) * len(SECONDS)
    default = grid("default", True)
    assert {p.steps for p in default} == set(STEPS) and {p.candidates for p in default} == set(CANDIDATES)
    assert {p.clip_seconds for p in default} == set(SECONDS)
    assert set(grid("quick", True)) <= set(default) and len(grid("default", False)) == 1
    args = get_parser("").parse_args(["--steps", "4", "8", "--candidates", "2", "--quick"])
    assert workloads(args, True) == [Workload(4, 2), Workload(8, 2)]
    with pytest.raises(OptionError, match="steps"):
        workloads(get_parser("").parse_args(["--steps", "0"]), True)


class Scripted:
    """A fake worker with known answers."""

    def __init__(self, name: str, seconds: list[float], log: list[str]) -> None:
        self.name, self.seconds, self.log = name, iter(seconds), log

    def ask(self, request: dict) -> dict:
        self.log.append(self.name)
        return {"seconds": next(self.seconds)}


def test_runs_alternate_there_and_back() -> None:
    log: list[str] = []
    workers = [Scripted("a", [1, 2, 4], log), Scripted("b", [3, 3, 6], log)]
    ours, theirs = alternate(workers, [{}, {}], rounds=3, limit=1e9)
    assert "".join(log) == "abbaab"
    assert ratios(ours, theirs) == {"ratio": 1.5, "lowest": 1.5, "highest": 3.0, "pairs": 3}  # 3, 1.5, 1.5


def test_a_limit_keeps_two_rounds() -> None:
    log: list[str] = []
    (answers,) = alternate([Scripted("a", [1.0] * 9, log)], [{}], rounds=9, limit=0)
    assert len(answers) == 2


def test_figures_of_a_point() -> None:
    def answer(seconds: float) -> dict:
        stages = {"step": seconds / 2, "sample": seconds}
        return {
            "seconds": seconds,
            "stages": stages,
            "peak_mb": 7.0,
            "sound_seconds": 2.0,
            "windows": 1,
            "warnings": [],
        }

    found = figures({"import_seconds": 0.1, "load_seconds": 0.5}, answer(9), [answer(s) for s in (3, 1, 2)])
    assert (found["seconds"], found["p95"], found["first_clip_seconds"], found["peak_mb"]) == (2, 3, 9.5, 7)
    assert tuple(found["stages"]) == STAGES and found["stages"]["step"] == 1 and found["stages"]["mux"] == 0
    assert quantile(list(range(1, 101)), 0.95) == 95 and quantile([3.0, 1.0, 2.0], 0.95) == 3


# ---------------------------------------------------------------- processes on fake engines
@NEEDS_ORT
def test_a_worker_measures_and_reports_failures(bundles: Bundles, make_video: MakeVideo, tmp_path: Path) -> None:
    request = {"video": str(make_video()), "sampling": Workload(2).sampling(3.0), "mux": str(tmp_path / "m.mp4")}
    with Worker(runtime_order("fake", bundles(), "cpu", 1)) as worker:
        assert worker.loaded["backend"] == "cpu" and worker.loaded["load_seconds"] > 0
        answer = worker.ask(request)
        assert answer["stages"]["mux"] > 0 and answer["peak_mb"] > 10 and answer["windows"] >= 1
        assert not (tmp_path / "m.mp4").exists()
        with pytest.raises(WorkerError, match="fake cannot be measured: MediaError"):
            worker.ask(request | {"video": str(tmp_path / "none.mp4")})
    with pytest.raises(WorkerError, match="ManifestError"):
        Worker(runtime_order("fake", tmp_path, "cpu", 1))


@NEEDS_ORT
def test_the_command(
    bundles: Bundles, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    files = ["--out", str(tmp_path / "a.json"), "--tables", str(tmp_path / "a.md"), "--plots", str(tmp_path / "plots")]
    command = ["--engines", f"fake={bundles()}", "--backend", "cpu", "--steps", "2", "3", "--clip", str(make_video())]
    assert latency.main([*command, "--repeat", "1", "--cache", str(tmp_path / "cache"), *files]) == 0
    printed = capsys.readouterr()
    values = json.loads(printed.out.splitlines()[-1])
    assert values == json.loads((tmp_path / "a.json").read_text())
    assert [(p["size"], p["backend"], p["precision"], p["steps"]) for p in values["results"]] == [
        ("fake", "cpu", "fp32", 2),
        ("fake", "cpu", "fp32", 3),
    ]
    for p in values["results"]:
        assert p["seconds"] > 0 and p["p95"] >= p["seconds"] and p["peak_mb"] > 10 and p["clip_seconds"] == 2.4
        assert p["first_clip_seconds"] == pytest.approx(p["load_seconds"] + p["cold_seconds"])
        inside = sum(v for k, v in p["stages"].items() if k != "mux")
        assert 0 < inside <= p["seconds"] * 1.01
        assert p["threads"] == values["settings"]["threads"] == machine.physical_cores()
    digest = hashlib.sha256((bundles() / "manifest.json").read_bytes()).hexdigest()
    assert values["bundles"] == {"fake": {"manifest_sha256": digest, "trained": values["results"][0]["trained"]}}
    assert "revision" in values and set(compare.WORK) <= set(values["settings"])
    assert values["settings"]["clip"].startswith(make_video().name)
    assert [(p["size"], p["precision"]) for p in values["profiles"]] == [("fake", "fp32")]
    assert values["floors"][0]["weights_floor_seconds"] > 0
    assert values["machine_floor"]["bandwidth_gb_per_second"] > 0 and values["floors"][0]["gflops"] > 0
    assert any("--system" in note for note in values["notes"])
    assert (tmp_path / "a.md").read_text() == document(values)
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"latency-stages.png", "latency-curves.png"}
    assert list((tmp_path / "cache").iterdir()) == []  # nothing was made, and the scratch folder is gone


@NEEDS_ORT
def test_distilled_guidance_is_not_measured_as_two_passes(
    own_bundle: Path, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_manifest(own_bundle, lambda m: m["weights"][0].update(distilled_guidance=3.0))
    command = ["--engines", f"fast={own_bundle}", "--backend", "cpu", "--steps", "2", "--clip", str(make_video())]
    assert latency.main([*command, "--repeat", "1", "--cache", str(tmp_path / "cache")]) == 1
    assert "the guidance of fast is distilled, so it takes one pass" in capsys.readouterr().err


def test_a_selected_precision_is_a_whole_bundle(own_bundle: Path, tmp_path: Path) -> None:
    """A bundle with two steps: selecting a precision gives a complete bundle with one of them."""
    values = json.loads((own_bundle / "manifest.json").read_text())
    (own_bundle / "step.int8.onnx").write_bytes((own_bundle / "step.onnx").read_bytes())
    values["files"]["step.int8.onnx"] = values["files"]["step.onnx"] | {"precision": "int8"}
    (own_bundle / "manifest.json").write_text(json.dumps(values))
    subject = Subject("own", own_bundle)
    assert precisions(subject, "cpu") == ["int8", "fp32"]
    for precision, file in (("int8", "step.int8.onnx"), ("fp32", "step.onnx")):
        manifest = Manifest.load(select_precision(subject, "cpu", precision, tmp_path))
        assert [n for n, f in manifest.files.items() if f.graph == "step"] == [file]
        assert len(manifest.files) == len(values["files"]) - 1


@NEEDS_ORT
def test_steps_that_share_weights_can_be_selected(tmp_path: Path) -> None:
    """The shipped bundle's two steps share the file of their table of tokens."""
    shipped = Path(shutil.copytree(MINI, tmp_path / "shipped"))  # links to the checkout would stay after the test
    for precision in ("int8", "fp16"):
        bundle = Bundle(select_precision(Subject("mini", shipped), "cpu", precision, tmp_path), "cpu")
        assert bundle["step"].precision == precision
        bundle.close()


def test_a_selected_precision_for_tensorrt_has_its_typed_graphs(own_bundle: Path, tmp_path: Path) -> None:
    subject, names = Subject("own", own_bundle), {"step": ("fp32", "fp16"), "condition": ("fp32",)}
    assert precisions(subject, "tensorrt") == []
    (own_bundle / "typed").mkdir()
    files = {}
    for graph, kinds in names.items():
        for kind in kinds:
            file = f"{graph}.{kind}.onnx"
            (own_bundle / "typed" / file).write_bytes(b"typed")
            files[file] = {"graph": graph, "precision": kind, "source": "", "sha256": {file: ""}}
    (own_bundle / "typed" / "typed.json").write_text(json.dumps({"files": files}))
    assert precisions(subject, "tensorrt") == ["fp16", "fp32"]
    out = select_precision(subject, "tensorrt", "fp16", tmp_path)
    assert set(Manifest.load(out).files) == set(Manifest.load(own_bundle).files)
    linked = {p.name for p in (out / "typed").iterdir()}
    assert linked == {"typed.json", "step.fp16.onnx", "condition.fp32.onnx"}  # what has no fp16 stays fp32
    assert set(json.loads((out / "typed" / "typed.json").read_text())["files"]) == linked - {"typed.json"}


# ---------------------------------------------------------------- quality, and the lean installation
@NEEDS_ORT
def test_a_profile_of_the_runtimes_own_inputs(bundles: Bundles, make_video: MakeVideo, tmp_path: Path) -> None:
    from benchmarks.latency.op_profile import step_profile

    rows = step_profile(bundles(), make_video(), 3.0, 1, tmp_path)
    assert sum(r["share"] for r in rows) == pytest.approx(1) and "Floor" in {r["operator"] for r in rows}


@NEEDS_ORT
def test_agreement_with_the_reference(own_bundle: Path, make_video: MakeVideo, tmp_path: Path) -> None:
    """An equal step agrees everywhere; a step that shifts every token agrees nowhere."""
    import onnx

    from engines.contract import graphs
    from engines.manifest import sha256
    from tests.support.fake_engines import BODIES, model

    config = Manifest.load(own_bundle).config

    def shifted(op, c, graph):  # type: ignore[no-untyped-def]
        made = BODIES["step"](op, c, graph)
        token = op("Mod", op("Add", made["tokens"], np.array(1, np.int32)), np.array(c.codebook_size, np.int32))
        return made | {"tokens": token}

    path = own_bundle / "step.int8.onnx"
    onnx.save(model(graphs(config)["step"], config, shifted), path)
    values = json.loads((own_bundle / "manifest.json").read_text())
    entry = {"graph": "step", "precision": "int8", "bytes": path.stat().st_size, "sha256": sha256(path)}
    values["files"]["step.int8.onnx"] = entry
    (own_bundle / "manifest.json").write_text(json.dumps(values))
    subject = Subject("own", own_bundle)
    reference = Reference(subject, make_video(), runtime.SamplingConfig(steps=3), tmp_path)
    assert reference.precision == "fp32" and len(reference.moments) >= 3
    same, other = (reference.agreement(subject, "cpu", p) for p in ("fp32", "int8"))
    assert (same["tokens_equal_given"], same["tokens_equal_free"]) == (1, 1)
    assert other["tokens_equal_given"] == 0 and other["tokens_compared"] == same["tokens_compared"]
    assert other["tokens_equal_free"] < 0.5


@NEEDS_ORT
def test_constant_codes_are_not_compared(
    cheap, two_steps: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch, capsys
) -> None:
    """Constant tokens are not compared. Points with several candidates have no agreement."""
    command = ["--engines", str(two_steps), "--backend", "cpu", "--clip", str(make_video(25))]
    command += ["--steps", "2", "--repeat", "1", "--cache", str(tmp_path / "cache")]
    assert latency.main([*command, "--candidates", "1", "2"]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = {(p["precision"], p["candidates"]): p.get("agreement") for p in values["results"]}
    assert found["int8", 1]["tokens_equal_free"] == 1 and min(found["int8", 1]["distinct_tokens"]) > 1
    assert [found[k] for k in (("int8", 2), ("fp32", 1), ("fp32", 2))] == [None] * 3
    monkeypatch.setattr("benchmarks.latency.quality.Reference.constant", True)
    assert latency.main(command) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [p["agreement"] for p in values["results"] if p["precision"] == "int8"] == [None]
    assert any("its tokens are constant" in note for note in values["notes"])


def test_what_is_constant() -> None:
    reference = object.__new__(Reference)
    reference.codes = np.full((2, 5), [[3], [4]], np.int32)
    assert reference.constant
    reference.codes[1, 3] = 5
    assert not reference.constant


# ---------------------------------------------------------------- the video
def test_the_video_is_the_example_again_and_again(tmp_path: Path, monkeypatch) -> None:
    images = video.pictures()
    assert len(images) == 175 and {image.shape for image in images} == {(360, 640, 3)}
    moving = np.ptp(np.stack(images[::20]).astype(int), axis=0).max(axis=2)
    assert moving[:, :100].max() == moving[:, 540:].max() == 0 < 50 < moving[:, 140:500].max()  # black at the sides
    monkeypatch.setattr(video, "pictures", lambda: images[100:104])
    video.write_video(tmp_path / "c.mp4", 0.4)
    with av.open(str(tmp_path / "c.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24").astype(float) for f in container.decode(video=0)]
    assert len(frames) == 10 and np.abs(frames[6] - images[102]).mean() < 3


@NEEDS_ORT
@pytest.mark.slow
def test_the_shipped_bundle_makes_sound_of_the_video(tmp_path: Path) -> None:
    video.write_video(tmp_path / "c.mp4", 10)
    (take,) = runtime.load(backend="cpu").generate(tmp_path / "c.mp4", runtime.SamplingConfig(steps=8))
    assert min(len(np.unique(row)) for row in take.codes) > 20
    assert 20 * np.log10(np.sqrt(np.square(take.audio).mean())) > -60


def test_installed_size_counts_what_the_cpu_extra_brings() -> None:
    pytest.importorskip("onnxruntime")
    sizes = end_to_end.installed_megabytes()
    assert {"numpy", "av", "onnxruntime", "maskvat"} <= set(sizes) and "torch" not in sizes
    assert sizes["numpy"] > 5 and 0.1 < sizes["maskvat"] < 3
