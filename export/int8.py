"""`step` with int8 weights, for ONNX Runtime on CPUs: a third less time per step, and other tokens (docs/log.md).

Only products with weight matrices are in int8, the head's stack of them among these: one scale for every column of
weights, and one, found at run time, for every row that comes in. A scale for a whole tensor, which ONNX's
DynamicQuantizeLinear makes, is spoilt by its few largest numbers. Cumulative sums of probabilities, products of
attention (which have no constant side) and everything else stay float32.
"""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.onnx_export import store_half

CONTRIB = "com.microsoft"  # ONNX Runtime's own operators: this one scales columns while the sums are in registers
LARGEST = 127
ZERO = 128  # rows are stored as uint8 around it: the kind that every CPU multiplies with int8
TINY = 1e-30  # a row of zeros is divided by it
CONSTANTS: dict[str, np.ndarray] = {
    "int8.one": np.array(1, np.float32),
    "int8.zero": np.array(ZERO, np.uint8),
    "int8.levels": np.array(LARGEST, np.float32),
    "int8.tiny": np.array(TINY, np.float32),
    "int8.last": np.array([-1]),
    "int8.flat": np.array([-1]),
}


def is_triangle(values: np.ndarray) -> bool:
    """Whether a constant is the sampler's matrix for cumulative sums."""
    square = values.ndim == 2 and values.shape[0] == values.shape[1]
    return square and bool((values == np.triu(np.ones_like(values))).all())


def widen(model: ModelProto) -> ModelProto:
    """A copy whose weights are float32, with no Cast in front of them (see `store_half`)."""
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
    """The int8 form of a graph of float32 arithmetic; weights that no product uses (tables) are stored as float16."""
    model = widen(model)
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    constants, nodes = dict(CONSTANTS), list[NodeProto]()
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights or is_triangle(weights[node.input[1]]):
            nodes.append(node)
            continue
        (x, w), y = node.input, node.output[0]
        width, columns = f"{x}.int8.width", f"{w}.int8.scale"
        if width not in constants:  # q, k and v read the same rows
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
    return rewritten(model, nodes, constants)


def column_scales(weight: np.ndarray) -> np.ndarray:
    """The scale of every column of a weight [..., K, N]: [N], or [..., 1, N] for a stack.

    CPUs without VNNI add neighbouring products, uint8 times int8, in 16 bits, and what does not fit is cut off. So two
    neighbours of one sign have at most 128 together: 255 times that fits.
    """
    pairs = np.pad(weight, [(0, 0)] * (weight.ndim - 2) + [(0, weight.shape[-2] % 2), (0, 0)])
    pairs = pairs.reshape(*weight.shape[:-2], -1, 2, weight.shape[-1])
    sums = np.maximum(pairs.clip(min=0).sum(axis=-2), -pairs.clip(max=0).sum(axis=-2))
    largest = sums.max(axis=-2, keepdims=weight.ndim > 2)
    return np.maximum(largest / LARGEST, TINY).astype(np.float32)  # rounding adds 1 at most: 127 becomes 128


def quantised_rows(x: str, width: str) -> Iterator[NodeProto]:
    """x [..., K] becomes {x}.int8 [..., K] with {x}.int8.scale [..., 1]; `width` names the constant [-1, K]."""

    def node(op: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
        return helper.make_node(op, inputs, [f"{x}.int8{output}"], f"{x}.int8{output}.node", **attributes)

    def own(*names: str) -> list[str]:
        return [f"{x}.int8.{name}" for name in names]

    yield node("Abs", [x], ".abs")
    yield node("ReduceMax", [*own("abs"), "int8.last"], ".largest", keepdims=1)
    yield node("Div", [*own("largest"), "int8.levels"], ".free")
    yield node("Max", [*own("free"), "int8.tiny"], ".scale")
    # QuantizeLinear knows scales of one axis only: the rows of a matrix
    yield node("Reshape", [x, width], ".rows")
    yield node("Reshape", [*own("scale"), "int8.flat"], ".scales")
    yield node("Shape", own("scales"), ".count")
    yield node(
        "ConstantOfShape", own("count"), ".zeros", value=helper.make_tensor("zero", TensorProto.UINT8, [1], [ZERO])
    )
    yield node("QuantizeLinear", own("rows", "scales", "zeros"), ".matrix", axis=0)
    yield node("Shape", [x], ".shape")
    yield node("Reshape", own("matrix", "shape"), "")


def rewritten(model: ModelProto, nodes: list[NodeProto], constants: dict[str, np.ndarray]) -> ModelProto:
    """The model with other nodes, and of old and new constants those that they read."""
    replace_nodes(model, nodes)
    used = {name for node in nodes for name in node.input}
    kept = [w for w in model.graph.initializer if w.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    store_half(model, model.graph.name)
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())
    model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    return model
