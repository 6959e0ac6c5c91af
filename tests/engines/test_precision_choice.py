"""The precision that a user chooses: `step` runs in it or it is an error; other graphs follow if they can."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import runtime
from engines import backends
from engines.backends import BACKENDS, PRECISIONS, ordered
from engines.base import BackendUnavailable
from engines.manifest import Manifest
from engines.typed import FOLDER, TypedFile, write
from runtime import doctor, infer, info
from runtime.bundle import Bundle
from tests.support.fake_cuda import FakeCuda
from tests.support.fake_engines import NEEDS_ORT, rewrite_manifest

pytest.importorskip("onnxruntime")
from tests.support.fake_tensorrt import FakeTensorRT, find, install

pytestmark = NEEDS_ORT
Capture = pytest.CaptureFixture[str]
Clip = Callable[..., Path]


@pytest.fixture
def typed_steps(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Typed graphs: all in fp32, `step` also in fp16 and bf16; and a TensorRT that runs them."""
    manifest, files = Manifest.load(own_bundle), {}
    (own_bundle / FOLDER).mkdir()
    for source, entry in manifest.files.items():
        for precision in ("fp32", "fp16", "bf16") if entry.graph == "step" else ("fp32",):
            name = f"{entry.graph}.{precision}.onnx"
            (own_bundle / FOLDER / name).write_bytes((own_bundle / source).read_bytes())
            files[name] = TypedFile(entry.graph, precision, entry.sha256, {name: entry.sha256})
    write(own_bundle, files)
    monkeypatch.setitem(BACKENDS, "tensorrt", backends._trt("trt"))
    monkeypatch.setattr("engines.plans.find", find)
    install(monkeypatch, FakeTensorRT(FakeCuda()))
    return own_bundle


def test_order() -> None:
    assert ordered(("int8", "fp16", "fp32"), "step", "auto") == ("int8", "fp16", "fp32")
    assert ordered(("int8", "fp16", "fp32"), "step", "fp16") == ("fp16",)
    assert ordered(("fp16", "bf16", "fp32"), "condition", "fp32") == ("fp32", "fp16", "bf16")
    assert set(PRECISIONS) == {"fp16", "bf16", "fp32", "int8"}


@pytest.mark.parametrize(
    ("wanted", "file", "precision"),
    [("auto", "step.int8.onnx", "int8"), ("int8", "step.int8.onnx", "int8"), ("fp32", "step.onnx", "fp32")],
)
def test_on_a_cpu(two_steps: Path, wanted: str, file: str, precision: str) -> None:
    bundle = Bundle(two_steps, "cpu", 1, wanted)
    assert bundle.file_for("step") == file and bundle["step"].precision == precision
    assert bundle.file_for("condition") == "condition.onnx" and bundle["condition"].precision == "fp32"


def test_what_is_not_there_is_refused(two_steps: Path, own_bundle: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"'cpu' has no step in precision 'fp16': it has int8, fp32$"):
        Bundle(two_steps, "cpu", precision="fp16")
    rewrite_manifest(own_bundle, lambda m: m["files"].pop("step.int8.onnx"))
    with pytest.raises(BackendUnavailable, match=r"it has fp32; `python -m export.quantise .*own_bundle` makes it"):
        Bundle(own_bundle, precision="int8")


def test_on_tensorrt(typed_steps: Path) -> None:
    for wanted, precision in (("auto", "fp16"), ("bf16", "bf16"), ("fp32", "fp32")):
        bundle = Bundle(typed_steps, "tensorrt", precision=wanted)
        assert bundle["step"].precision == precision and bundle["condition"].precision == "fp32"
        bundle.close()
    with pytest.raises(BackendUnavailable, match=r"no step in precision 'int8': it has fp16, bf16, fp32$"):
        Bundle(typed_steps, "tensorrt", precision="int8")


def test_a_broken_typed_step_is_not_replaced_by_another(typed_steps: Path) -> None:
    """There is no fallback: a precision that does not work is an error."""
    (typed_steps / FOLDER / "step.bf16.onnx").write_bytes(b"altered")
    with pytest.raises(BackendUnavailable, match=r"typed/step.bf16.onnx is not used: .*altered"):
        Bundle(typed_steps, "tensorrt", precision="bf16")


def test_auto_skips_backends_without_it(two_steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = BACKENDS["cuda"]
    monkeypatch.setitem(BACKENDS, "cuda", replace(cuda, unavailable=lambda: None))
    bundle = Bundle(two_steps, threads=1, precision="int8")
    assert bundle.backend == "cpu" and "'cuda' has no step in precision 'int8': it has fp32" in bundle.warnings[0]


def test_the_command_takes_it_and_the_report_says_it(
    two_steps: Path, make_video: Clip, tmp_path: Path, capsys: Capture
) -> None:
    out, report = tmp_path / "x.wav", tmp_path / "x.json"
    arguments = [str(make_video()), "-o", str(out), "--engines", str(two_steps), "--backend", "cpu", "--steps", "2"]
    assert infer.main([*arguments, "--precision", "bf16"]) == 1
    assert "it has int8, fp32" in capsys.readouterr().err and not out.exists()
    assert infer.main([*arguments, "--precision", "fp32", "--report", str(report)]) == 0
    values = json.loads(report.read_text())
    assert values["precision"] == "fp32" and values["engines"]["step"]["file"] == "step.onnx"
    assert runtime.load(two_steps, "cpu", 1).bundle["step"].precision == "int8"


def test_doctor_and_info_say_it(two_steps: Path, capsys: Capture) -> None:
    assert info.main([str(two_steps)]) == 0
    said = capsys.readouterr().out
    assert "  cpu: int8, fp32\n" in said and "  cuda: fp32\n" in said and "  tensorrt: none\n" in said
    assert doctor.main(["--engines", str(two_steps), "--backend", "cpu", "--precision", "fp32"]) == 0
    said = capsys.readouterr().out
    assert "testing the bundle on backend cpu, which has step in int8, fp32" in said
    line = next(line for line in said.splitlines() if line.startswith("  step.onnx"))
    assert line.split()[1:] == ["onnxruntime/CPUExecutionProvider", "fp32", "ok"]
