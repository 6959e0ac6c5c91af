"""Quantise `step` to int8 for ONNX Runtime on CPUs: a third less time per step, and other tokens (docs/log.md).

Only products with weight matrices, including the head, are computed in int8. Every column of a weight matrix has a
scale, and every input row has a scale that is computed at run time. One scale per tensor, as ONNX's
DynamicQuantizeLinear uses, is too coarse because of a few large values. Attention products (without a constant
operand), cumulative sums of probabilities and everything else stay float32.
"""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.onnx_export import store_half

CONTRIB = (
    "com.microsoft"  # operators of ONNX Runtime; MatMulIntegerToFloat scales columns while the sums are in registers
)
LARGEST = 127
ZERO = 128  # zero point of rows, which are uint8: every CPU can multiply uint8 with int8
TINY = 1e-30  # least scale, so that a row of zeros is not divided by 0
CONSTANTS: dict[str, np.ndarray] = {
    "int8.one": np.array(1, np.float32),
    "int8.zero": np.array(ZERO, np.uint8),
    "int8.levels": np.array(LARGEST, np.float32),
    "int8.tiny": np.array(TINY, np.float32),
    "int8.last": np.array([-1]),
    "int8.flat": np.array([-1]),
}


def is_triangle(values: np.ndarray) -> bool:
    """Whether a constant is the triangular matrix with which the sampler computes cumulative sums."""
    square = values.ndim == 2 and values.shape[0] == values.shape[1]
    return square and bool((values == np.triu(np.ones_like(values))).all())


def widen(model: ModelProto) -> ModelProto:
    """A copy of the model with float32 weights and without their Cast nodes (the reverse of `store_half`)."""
    wide: ModelProto = ModelProto.FromString(model.SerializeToString())
    halves = {w.name: w for w in wide.graph.initializer if w.data_type == TensorProto.FLOAT16}
    nodes = []
    for node in wide.graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            weight = halves[node.input[0]]
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), node.output[0]))
        else:
            nodes.append(node)
    replace_nodes(wide, nodes)
    return wide


def replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def quantise(model: ModelProto) -> ModelProto:
    """The int8 form of a float32 graph. Weights that no product uses, such as tables, are stored as float16."""
    model = widen(model)
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    constants, nodes = dict(CONSTANTS), list[NodeProto]()
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights or is_triangle(weights[node.input[1]]):
            nodes.append(node)
            continue
        (x, w), y = node.input, node.output[0]
        width, columns = f"{x}.int8.width", f"{w}.int8.scale"
        if width not in constants:  # q, k and v share their input
            constants[width] = np.array([-1, weights[w].shape[-2]])
            nodes.extend(quantised_rows(x, width))
        if columns not in constants:
            constants[columns] = column_scales(weights[w])
            constants[f"{w}.int8"] = np.rint(weights[w] / constants[columns]).astype(np.int8)
        inputs = [f"{x}.int8", f"{w}.int8", "int8.one", columns, "int8.zero"]
        nodes.append(
            helper.make_node("MatMulIntegerToFloat", inputs, [f"{y}.raw"], f"{node.name}.int8", domain=CONTRIB)
        )
        nodes.append(helper.make_node("Mul", [f"{y}.raw", f"{x}.int8.scale"], [y], f"{node.name}.scale"))
    return replace_graph(model, nodes, constants)


def column_scales(weight: np.ndarray) -> np.ndarray:
    """The scale of every column of a weight [..., K, N]: [N], or [..., 1, N] for a stack.

    CPUs without VNNI add two neighbouring products, uint8 times int8, with saturation to 16 bits. So the magnitudes of
    two neighbours with the same sign may sum to at most 128: 255 x 128 fits into 16 bits.
    """
    pairs = np.pad(weight, [(0, 0)] * (weight.ndim - 2) + [(0, weight.shape[-2] % 2), (0, 0)])
    pairs = pairs.reshape(*weight.shape[:-2], -1, 2, weight.shape[-1])
    sums = np.maximum(pairs.clip(min=0).sum(axis=-2), -pairs.clip(max=0).sum(axis=-2))
    largest = sums.max(axis=-2, keepdims=weight.ndim > 2)
    return np.maximum(largest / LARGEST, TINY).astype(
        np.float32
    )  # rounding adds at most 1, so a sum of 127 becomes 128


def quantised_rows(x: str, width: str) -> Iterator[NodeProto]:
    """Nodes that quantise x [..., K] to {x}.int8 [..., K] with {x}.int8.scale [..., 1].

    `width` is the name of the constant [-1, K].
    """

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
        return helper.make_node(op, inputs, [f"{x}.int8{output}"], f"{x}.int8{output}.node", **attributes)

    def tensors(*names: str) -> list[str]:
        return [f"{x}.int8.{name}" for name in names]

    yield node("Abs", [x], ".abs")
    yield node("ReduceMax", [*tensors("abs"), "int8.last"], ".largest", keepdims=1)
    yield node("Div", [*tensors("largest"), "int8.levels"], ".free")
    yield node("Max", [*tensors("free"), "int8.tiny"], ".scale")
    # QuantizeLinear supports scales along one axis only, so x becomes a matrix
    yield node("Reshape", [x, width], ".rows")
    yield node("Reshape", [*tensors("scale"), "int8.flat"], ".scales")
    yield node("Shape", tensors("scales"), ".count")
    yield node(
        "ConstantOfShape", tensors("count"), ".zeros", value=helper.make_tensor("zero", TensorProto.UINT8, [1], [ZERO])
    )
    yield node("QuantizeLinear", tensors("rows", "scales", "zeros"), ".matrix", axis=0)
    yield node("Shape", [x], ".shape")
    yield node("Reshape", tensors("matrix", "shape"), "")


def replace_graph(model: ModelProto, nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> ModelProto:
    """Replace the nodes of a model. Constants that no node reads are removed; new constants are added."""
    replace_nodes(model, nodes)
    used = {name for node in nodes for name in node.input}
    kept = [w for w in model.graph.initializer if w.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    store_half(model, model.graph.name)
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return model
