"""Strongly typed graphs: which nodes stay float32, the types of inputs and outputs, and the accuracy."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from engines.contract import IR_VERSION, OPSET, Graph, ModelConfig, TensorSpec, graphs
from engines.feeds import all_positions
from engines.manifest import MINI, Manifest
from engines.ort import OrtEngine
from engines.selftest import feeds_for
from export import ExportError
from export.precision import convert_precision, unsupported_reason
from runtime.bundle import Bundle
from runtime.decode import decode
from tests.support.fake_engines import NEEDS_ORT, Builder
from tests.support.half_arithmetic import rounded
from tests.support.paths import EXAMPLE
from tests.support.window_conditions import first_window

pytestmark = NEEDS_ORT

GRAPHS = tuple(graphs(ModelConfig()))
WEIGHT = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
RNG = np.random.default_rng(0)


# ---------------------------------------------------------------- rules, on graphs of a few nodes
def small(body: Callable[[Builder], str], shape: tuple[str | int, ...] = ("B", 8)) -> ModelProto:
    """A graph x [B, 8] -> y with the nodes that `body` adds; `body` returns the name of the result."""
    op = Builder()
    op.nodes.append(helper.make_node("Identity", [body(op)], ["y"]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None)))
    graph = helper.make_graph(op.nodes, "small", [x], [y], op.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def run_in(model: ModelProto) -> dict[str, list[str]]:
    """Operator type -> output types of its nodes, in order."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    found: dict[str, list[str]] = {}
    for node in inferred.graph.node:
        found.setdefault(node.op_type, []).append(TensorProto.DataType.Name(types[node.output[0]]))
    return found


@pytest.mark.parametrize(("precision", "name"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_products_are_narrow_and_softmax_between_them_is_not(precision: str, name: str) -> None:
    model = small(lambda op: op("MatMul", op("Softmax", op("Relu", op("MatMul", "x", WEIGHT))), WEIGHT.T.copy()))
    found = run_in(convert_precision(model, precision))
    assert found["MatMul"] == [name, name] and found["Softmax"] == ["FLOAT"]
    assert found["Relu"] == ["FLOAT"]  # it only feeds float32


def test_what_lies_between_two_products_is_narrow() -> None:
    bias = np.ones(8, np.float32)
    model = small(lambda op: op("MatMul", op("Gelu", op("Add", op("MatMul", "x", WEIGHT), bias)), WEIGHT.T.copy()))
    found = run_in(convert_precision(model, "fp16"))
    assert found["Gelu"] == found["Add"] == ["FLOAT16"] and found["Cast"] == ["FLOAT16", "FLOAT"]


def test_snake_is_float32_and_its_convolutions_are_narrow() -> None:
    """x + sin(alpha x)^2 / alpha: alpha x must not be rounded before the sine."""
    weight, alpha = RNG.standard_normal((8, 8, 3), dtype=np.float32), np.full((1, 8, 1), 3.7, np.float32)

    def body(op: Builder) -> str:
        x = op("Conv", "x", weight, pads=[1, 1])
        sine = op("Sin", op("Mul", x, alpha))
        snake = op("Add", x, op("Mul", op("Mul", sine, sine), 1 / alpha))
        return op("ConvTranspose", snake, weight, strides=[2])

    found = run_in(convert_precision(small(body, ("B", 8, "T")), "fp16"))
    assert found["Conv"] == found["ConvTranspose"] == ["FLOAT16"]
    assert set(found["Sin"] + found["Mul"] + found["Add"]) == {"FLOAT"}


def test_sums_and_computed_bases_are_float32() -> None:
    """The cumulative sum of the sampler, and a Fourier basis that the graph computes."""
    triangle = np.triu(np.ones((8, 8), np.float32))

    def body(op: Builder) -> str:
        steps = op("Range", 0.0, 64.0, 1.0)
        basis = op("Reshape", op("Cos", steps), op.constant([8, 8]))
        return op("MatMul", op("MatMul", op("MatMul", "x", WEIGHT), basis), triangle)

    assert run_in(convert_precision(small(body), "fp16"))["MatMul"] == ["FLOAT16", "FLOAT", "FLOAT"]


def test_a_number_that_half_cannot_hold_keeps_its_node_wide() -> None:
    model = small(lambda op: op("MatMul", op("Add", op("MatMul", "x", WEIGHT), 1e-12), 1e6 * WEIGHT.T))
    found = run_in(convert_precision(model, "fp16"))
    assert found["Add"] == ["FLOAT"] and found["MatMul"] == ["FLOAT16", "FLOAT"]


def test_a_table_moves_narrow_rows() -> None:
    table = RNG.standard_normal((100, 8), dtype=np.float32)
    model = small(lambda op: op("MatMul", op("Add", op("Gather", table, op.cast("x", TensorProto.INT64)), 0.5), WEIGHT))
    assert run_in(convert_precision(model, "fp16"))["Gather"] == ["FLOAT16"]


def test_weights_that_are_stored_in_half_are_used_without_a_cast() -> None:
    half = WEIGHT.astype(np.float16)
    model = small(lambda op: op("MatMul", "x", op.cast(op.constant(half), TensorProto.FLOAT)))
    narrow, wide = convert_precision(model, "fp16"), convert_precision(model, "fp32")
    assert run_in(narrow)["Cast"] == ["FLOAT16", "FLOAT"]  # of x, and of the result
    assert "Cast" not in run_in(wide) and wide.graph.initializer[0].data_type == TensorProto.FLOAT


def test_frames_are_cast_before_anything_else() -> None:
    """TensorRT can only cast uint8."""
    model = small(
        lambda op: op("MatMul", op.cast(op("Transpose", "x", perm=[1, 0]), TensorProto.FLOAT), WEIGHT), (8, 8)
    )
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    for precision in ("fp32", "fp16"):
        first, second = convert_precision(model, precision).graph.node[:2]
        assert (first.op_type, list(first.input), second.op_type) == ("Cast", ["x"], "Transpose")


def test_an_output_may_also_be_read_by_a_narrow_node() -> None:
    def body(op: Builder) -> str:
        op.nodes.append(helper.make_node("MatMul", ["x", op.constant(WEIGHT)], ["both"]))
        return op("MatMul", "both", WEIGHT.T.copy())

    model = small(body)
    model.graph.output.append(helper.make_tensor_value_info("both", TensorProto.FLOAT, ("B", 8)))
    found = run_in(convert_precision(model, "fp16"))
    assert found["MatMul"] == ["FLOAT16", "FLOAT16"]
    assert sorted(found["Cast"]) == ["FLOAT", "FLOAT", "FLOAT16"]  # x once, both outputs


def test_refusals() -> None:
    model = small(lambda op: op("MatMul", "x", WEIGHT))
    with pytest.raises(ExportError, match="unknown precision 'int8'; choose from fp32, fp16, bf16"):
        convert_precision(model, "int8")
    convolution = small(lambda op: op("Conv", "x", np.ones((8, 8, 1), np.float32)), ("B", 8, "T"))
    with pytest.raises(ExportError, match="only 0 of 1 products can run in bf16"):
        convert_precision(convolution, "bf16")
    with pytest.raises(ExportError, match="no operator of the graph can run in fp16"):
        convert_precision(small(lambda op: op("Exp", "x")), "fp16")
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))
    with pytest.raises(ExportError, match="If contains a subgraph"):
        convert_precision(model, "fp16")
    assert (
        unsupported_reason("codec_decoder", "bf16")
        and unsupported_reason("codec_encoder", "fp16")
        and not unsupported_reason("step", "bf16")
    )


def test_rounding_is_that_of_half_precision(tmp_path: Path) -> None:
    """Compare the emulated rounding with float16 of NumPy and bfloat16 of ml_dtypes."""
    x = (RNG.standard_normal((50, 8)) * 10.0 ** RNG.integers(-3, 4, (50, 8))).astype(np.float32)
    for precision, dtype in (("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)):
        path = tmp_path / f"{precision}.onnx"
        onnx.save(rounded(convert_precision(small(lambda op: op("MatMul", "x", WEIGHT)), precision)), path)
        graph = Graph("small", (TensorSpec("x", "float32", ("B", 8)),), (TensorSpec("y", "float32", ("B", 8)),))
        got = OrtEngine(path, graph, "cpu", 1).run({"x": x})["y"]
        exact = x.astype(dtype).astype(np.float64) @ WEIGHT.astype(dtype).astype(np.float64)
        assert np.array_equal(got, got.astype(dtype).astype(np.float32))
        assert np.allclose(got, exact, rtol=2.0 ** -(10 if precision == "fp16" else 7), atol=1e-3)


# ---------------------------------------------------------------- the shipped bundle
@cache
def source(graph: str) -> ModelProto:
    manifest = Manifest.load(MINI)
    file = next(n for n, f in manifest.files.items() if f.graph == graph and f.precision in ("fp16", "fp32"))
    return onnx.load(MINI / file)


def opened(model: ModelProto, graph: Graph, folder: Path) -> OrtEngine:
    path = folder / f"{graph.name}.{id(model)}.onnx"
    onnx.save(model, path)
    return OrtEngine(path, graph, "cpu", 1)


def variants(name: str, precision: str) -> ModelProto:
    """The typed graph; skips the test with the reason if there is none."""
    reason = unsupported_reason(name, precision)
    if not reason:
        try:
            return convert_precision(source(name), precision)
        except ExportError as error:
            reason = str(error)
    pytest.skip(reason)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("name", GRAPHS)
def test_the_contract_is_kept(name: str, precision: str) -> None:
    graph, model = graphs(Manifest.load(MINI).config)[name], variants(name, precision)
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
    found = run_in(model)
    products = found.get("MatMul", []) + found.get("Conv", [])
    assert {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}[precision] in products
    for kind in ("Softmax", "LayerNormalization", "Exp", "Log", "Sin", "Cos", "ReduceMean"):
        assert set(found.get(kind, ["FLOAT"])) == {"FLOAT"}, kind
    for specs, values in ((graph.inputs, model.graph.input), (graph.outputs, model.graph.output)):
        assert [s.name for s in specs] == [v.name for v in values]
        for spec, value in zip(specs, values, strict=True):
            assert helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) == np.dtype(spec.dtype)
            assert len(value.type.tensor_type.shape.dim) == len(spec.axes)


LIMITS = {"fp16": 8e-3, "bf16": 4e-2}  # of the largest magnitude; fp16 measured 7.1e-3 (roots of class probabilities)


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("name", [g for g in GRAPHS if g not in ("step", "codec_encoder")])
def test_rounding_stays_small(name: str, precision: str, tmp_path: Path) -> None:
    config = Manifest.load(MINI).config
    graph, narrow = graphs(config)[name], variants(name, precision)
    feeds = feeds_for(graph, config)
    want = opened(convert_precision(source(name), "fp32"), graph, tmp_path).run(feeds)
    got = opened(rounded(narrow), graph, tmp_path).run(feeds)
    for key, value in want.items():
        difference = float(np.abs(value - got[key]).max() / np.abs(value).max())
        assert 0 < difference <= LIMITS[precision], key  # 0: nothing was rounded, the test would prove nothing


@cache
def agreement(precision: str) -> tuple[float, float]:
    """Share of equal tokens, and the largest difference of their log-probabilities, along a whole decoding run of the
    float32 graph from its codes at every step, with the example video's conditions.
    """
    bundle = Bundle(MINI, "cpu")
    config, rng = bundle.config, np.random.default_rng(0)
    feeds, length = first_window(bundle, EXAMPLE)
    shape = (1, config.n_codebooks, length)
    feeds |= {"index": all_positions(shape), "guidance": np.array(3.0, np.float32)}
    with TemporaryDirectory() as folder:
        wide, narrow = (
            opened(model, graphs(config)["step"], Path(folder))
            for model in (
                convert_precision(source("step"), "fp32"),
                rounded(convert_precision(source("step"), precision)),
            )
        )
    equal, differences = np.zeros(2, np.int64), [0.0]

    def step(codes: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        want, got = (engine.run(feeds | {"codes": codes, "u": u}) for engine in (wide, narrow))
        masked = codes == config.mask_token
        same = masked & (want["tokens"] == got["tokens"])
        equal[:] += same.sum(), masked.sum()
        differences.append(float(np.abs(want["logp"] - got["logp"])[same].max(initial=0)))
        return want["tokens"], want["logp"]

    def noise(n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)

    start = np.full(shape, config.mask_token, np.int32)
    decode(step, start, noise, mask_token=config.mask_token, steps=8, diversity=8.0)
    return equal[0] / equal[1], max(differences)


@pytest.mark.xfail(strict=True, reason="missed with the trained bundle: fp16 0.951, bf16 0.805 (docs/TENSORRT.md)")
@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.99), ("bf16", 0.90)])
def test_the_step_draws_the_same_tokens(precision: str, limit: float) -> None:
    """The goal of the project. It is strict, so that the test reports when it is reached."""
    assert agreement(precision)[0] >= limit


@pytest.mark.parametrize(("precision", "share", "logp"), [("fp16", 0.95, 0.08), ("bf16", 0.80, 0.5)])
def test_rounding_of_the_step_is_what_was_measured(precision: str, share: float, logp: float) -> None:
    equal, difference = agreement(precision)
    assert share <= equal < 1 and 0 < difference <= logp  # 1 and 0: nothing was rounded
