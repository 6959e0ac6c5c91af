"""Constants that the two steps of a bundle share are stored once."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engines.contract import IR_VERSION, OPSET
from export import onnx_export
from export.onnx_export import load, save, share_constants

pytestmark = pytest.mark.torch
TABLE = np.arange(24, dtype=np.float16).reshape(6, 4)


def model(second: np.ndarray) -> ModelProto:
    """y = TABLE[index] + second[index]."""
    nodes = [
        helper.make_node("Gather", ["table", "index"], ["a"]),
        helper.make_node("Gather", ["second", "index"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("index", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(second, "second")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def test_equal_constants_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "SHARED_LIMIT", TABLE.nbytes)
    models = [model(TABLE + 1), model(TABLE + 2)]
    assert share_constants(models, tmp_path / "shared") == [tmp_path / "shared"]
    for number, content in enumerate(models):
        (path,) = save(content, tmp_path / f"{number}.onnx")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        index = np.array([5, 0, 2])
        assert np.array_equal(session.run(None, {"index": index})[0], 2 * TABLE[index] + number + 1)
        external = [w.name for w in onnx.load(str(path), load_external_data=False).graph.initializer if w.external_data]
        assert external == ["table"]
        assert np.array_equal(numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0]), TABLE)


def test_nothing_to_share(tmp_path: Path) -> None:
    assert share_constants([model(TABLE), model(TABLE)], tmp_path / "shared") == []
    assert list(tmp_path.iterdir()) == []


def test_weights_in_linked_files_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx itself refuses them, but package managers link what they install."""
    monkeypatch.setattr(onnx_export, "SHARED_LIMIT", TABLE.nbytes)
    models = [model(TABLE + 1), model(TABLE + 2)]
    (shared,) = share_constants(models, tmp_path / "shared")
    (path,) = save(models[0], tmp_path / "0.onnx")
    links = tmp_path / "links"
    links.mkdir()
    (links / "0.onnx").write_bytes(path.read_bytes())

    def table() -> np.ndarray:
        return numpy_helper.to_array(load(links / "0.onnx").graph.initializer[0])

    for link in (Path.hardlink_to, Path.symlink_to):
        link(links / "shared", shared)
        with pytest.raises(onnx.checker.ValidationError):
            onnx.load(str(links / "0.onnx"))
        assert np.array_equal(table(), TABLE)
        (links / "shared").unlink()
    with pytest.raises(onnx.checker.ValidationError):
        table()
