"""Quantised products, and the command that adds an int8 step to a bundle."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from engines.contract import IR_VERSION, OPSET, ModelConfig, graphs
from engines.manifest import BundleFile, Manifest, sha256
from engines.ort import OrtEngine
from engines.selftest import summarise
from export import int8, quantise
from export.graphs import graph_modules
from export.onnx_export import export_graph, save, store_half
from runtime.bundle import Bundle
from tests.support.tiny_system import tiny_components

pytestmark = pytest.mark.torch
Capture = pytest.CaptureFixture[str]
FILE = quantise.FILE


# ---------------------------------------------------------------- one product
def product(weight: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, onnx.ModelProto]:
    """The result of x @ weight after quantisation, and its graph."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    quantised = int8.quantise(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION))
    session = onnxruntime.InferenceSession(quantised.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0], quantised


@pytest.mark.parametrize(("shape", "weights"), [((2, 1, 5, 7), (7, 6)), ((3, 5, 8), (3, 8, 4))])
def test_every_row_and_column_has_its_own_scale(shape: tuple[int, ...], weights: tuple[int, ...]) -> None:
    """Rows and columns of very different magnitude keep the same number of digits. A row of zeros stays zero."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32) * 10.0 ** rng.integers(-3, 4, (*shape[:-1], 1)).astype(np.float32)
    w = rng.standard_normal(weights, dtype=np.float32)
    w *= 10.0 ** rng.integers(-3, 4, (*weights[:-2], 1, weights[-1])).astype(np.float32)
    x[..., 0, :] = 0
    got, _ = product(w, x)
    want = x @ w
    sizes = np.linalg.norm(x, axis=-1, keepdims=True) * np.linalg.norm(w, axis=-2, keepdims=True)
    assert (got[..., 0, :] == 0).all()
    assert 0 < np.abs(got - want).max() and (np.abs(got - want) <= 0.03 * sizes).all()


def test_neighbours_fit_into_16_bits() -> None:
    """CPUs without VNNI add two products of uint8 and int8 with saturation to 16 bits."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((9, 400)).astype(np.float32)
    w[:2] = 1  # the worst case: two neighbours that are both the largest
    _, model = product(w, np.ones((1, 9), np.float32))
    codes = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "w.int8").astype(int)
    pairs = np.pad(codes, [(0, 1), (0, 0)]).reshape(5, 2, 400)
    assert 255 * pairs.clip(min=0).sum(axis=1).max() <= 32767
    assert 255 * pairs.clip(max=0).sum(axis=1).min() >= -32768
    assert np.abs(codes).max() > 100  # the range is used


def test_triangles_are_no_weights() -> None:
    assert int8.is_triangle(np.triu(np.ones((4, 4)))) and not int8.is_triangle(np.ones((4, 4)))
    got, model = product(np.triu(np.ones((4, 4), np.float32)), np.full((1, 4), 1 / 3, np.float32))
    assert [n.op_type for n in model.graph.node] == ["MatMul"] and got[0, 0] == np.float32(1 / 3)


# ---------------------------------------------------------------- the command
@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, bundles: Callable[..., Path]) -> Path:
    """A fake bundle with the float16 `condition` and `step` of a tiny system. Tests must not change it."""
    maskvat = tiny_components()["maskvat"]
    config: ModelConfig = maskvat.config
    folder = Path(shutil.copytree(bundles(), tmp_path_factory.mktemp("int8") / "small"))
    manifest, table = Manifest.load(folder), graphs(config)
    files, modules = dict(manifest.files), graph_modules({"maskvat": maskvat})
    for name in ("condition", "step"):
        model, path = export_graph(modules[name], table[name]), folder / f"{name}.onnx"
        store_half(model, name)
        save(model, path)
        files[path.name] = BundleFile(name, "fp16", path.stat().st_size, sha256(path))
    engines = {f"{n}.onnx": OrtEngine(folder / f"{n}.onnx", table[n], "cpu", threads=1) for n in ("condition", "step")}
    tests = manifest.self_test | summarise(engines, config)
    replace(manifest, config=config, files=files, self_test=tests).save(folder)
    return folder


@pytest.fixture
def own(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "own"))


def listing(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p) for p in sorted(folder.iterdir())}


@pytest.mark.slow
def test_a_step_is_added(own: Path, capsys: Capture) -> None:
    before = listing(own)
    assert quantise.main([str(own)]) == 0
    printed = capsys.readouterr().out
    for text in ("step.int8.onnx compared with step.onnx", "equal tokens, teacher-forced", "CPU time"):
        assert text in printed
    manifest, after = Manifest.load(own), listing(own)  # load compares every hash
    assert {n for n in after if after[n] != before.get(n)} == {FILE, "manifest.json"}
    assert manifest.files[FILE].graph == "step" and manifest.files[FILE].precision == "int8"
    parity = manifest.parity["step"]["int8"]
    assert parity["against"] == "step.onnx" and 0.6 <= parity["tokens_equal"] < 1
    bundle = Bundle(own, "cpu", 1)
    assert bundle.file_for("step") == FILE and bundle["step"].precision == "int8"
    assert bundle.self_test(["step"]) == {FILE: None}
    assert Bundle(own, "cpu", 1, "fp16").file_for("step") == "step.onnx"


def test_again_means_the_same(own: Path) -> None:
    assert quantise.main([str(own)]) == 0
    first = listing(own)
    (own / FILE).write_bytes(b"x")  # a step that was made from other weights, say
    manifest = Manifest.read(own)
    old = BundleFile("step", "int8", 1, sha256(own / FILE))
    replace(manifest, files={**manifest.files, FILE: old}).save(own)
    assert quantise.main([str(own)]) == 0
    assert listing(own)[FILE] == first[FILE] and list(Manifest.load(own).files) == list(manifest.files)


def test_a_copy_leaves_the_bundle_as_it_is(own: Path, tmp_path: Path) -> None:
    before, out = listing(own), tmp_path / "out"
    assert quantise.main([str(own), "--out", str(out)]) == 0
    assert listing(own) == before and set(Manifest.load(out).files) == set(Manifest.load(own).files) | {FILE}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "own"]


def test_what_cannot_be_done_is_refused(own: Path, tmp_path: Path, capsys: Capture) -> None:
    def refused(*arguments: Path | str) -> str:
        assert quantise.main([str(a) for a in arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    before = listing(own)
    assert "no bundle in" in refused(tmp_path / "nothing")
    assert "already exists; give --out a new folder" in refused(own, "--out", tmp_path)
    assert "is in a folder that does not exist; give --out" in refused(own, "--out", tmp_path / "a" / "b")
    assert listing(own) == before
    manifest = Manifest.load(own)
    entry = manifest.files["step.onnx"]
    only = {**manifest.files, "step.onnx": BundleFile("step", "int8", entry.bytes, entry.sha256)}
    replace(manifest, files=only).save(own)
    assert "has step in int8, and this command runs fp32, fp16" in refused(own)
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_a_broken_graph_is_not_written(own: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Many scales of the head are too small for its weights."""
    right = int8.column_scales

    def wrong(weight: np.ndarray) -> np.ndarray:
        scale = right(weight)
        return scale if weight.ndim == 2 else scale * np.linspace(0.1, 3, weight.shape[-1], dtype=np.float32)

    before = listing(own)
    monkeypatch.setattr(int8, "column_scales", wrong)
    monkeypatch.setattr(quantise.verify, "default_trials", lambda _: (quantise.verify.Trial(1, 40, steps=3),))
    assert quantise.main([str(own)]) == 1
    assert "error: step.int8.onnx is not written: equal tokens" in capsys.readouterr().err
    assert listing(own) == before


def test_a_bundle_that_cannot_be_written_to(own: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    before = listing(own)
    monkeypatch.setattr(Path, "mkdir", deny)
    assert quantise.main([str(own)]) == 1
    assert f"error: {own} cannot be written to" in capsys.readouterr().err
    assert listing(own) == before


@pytest.mark.parametrize("saves", [0, 1])
def test_killed_while_it_replaces(own: Path, monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """The bundle is valid whenever the process ends: with the old int8 step, or without an int8 step."""
    assert quantise.main([str(own)]) == 0
    manifest, left = Manifest.load(own), [saves]
    save_ = Manifest.save

    class Killed(BaseException):
        pass

    def save_or_die(self: Manifest, folder: Path) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        save_(self, folder)

    monkeypatch.setattr(Manifest, "save", save_or_die)
    with pytest.raises(Killed):
        quantise.main([str(own)])
    assert set(Manifest.load(own).files) == set(manifest.files) - ({FILE} if saves else set())
