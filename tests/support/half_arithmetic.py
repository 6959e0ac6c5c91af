"""Emulate half precision on a CPU: convert a strongly typed graph to float32, and round every half-precision result.

ONNX Runtime has few half-precision kernels for CPUs. It computes the others in float32 and removes casts, so it rounds
less than a GPU. Here every half-precision node computes in float32, as tensor cores accumulate, and its result is
rounded with arithmetic that no optimiser can remove. The range is still that of float32.
"""

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
BITS = {TensorProto.FLOAT16: 11, TensorProto.BFLOAT16: 8}  # of the significand
FACTOR = "rounding.factor"


def rounded(model: ModelProto) -> ModelProto:
    """The float32 emulation of a strongly typed graph."""
    types = {v.name: v.type.tensor_type.elem_type for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    types |= {w.name: w.data_type for w in model.graph.initializer}
    half = next(t for t in types.values() if t in BITS)
    constants = [_wide(w, half) for w in model.graph.initializer]
    constants.append(helper.make_tensor(FACTOR, FLOAT, [], [2.0 ** (24 - BITS[half]) + 1]))
    nodes: list[NodeProto] = []
    for original in model.graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        if node.op_type == "Cast" and node.attribute[0].i == half:
            node.attribute[0].i = FLOAT
        made = [i for i, name in enumerate(node.output) if types.get(name) == half]
        names = [node.output[i] for i in made]
        for i in made:
            node.output[i] += ".exact"
        nodes.append(node)
        for name in names:
            nodes += _round(name)
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, constants)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _wide(weight: TensorProto, half: int) -> TensorProto:
    if weight.data_type != half:
        return weight
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype("float32"), weight.name)


def _round(name: str) -> list[NodeProto]:
    """Nodes that round to the significand of the half type, by Dekker's splitting: c = factor x; c - (c - x)."""
    product, rest = f"{name}.product", f"{name}.rest"
    return [
        helper.make_node("Mul", [f"{name}.exact", FACTOR], [product]),
        helper.make_node("Sub", [product, f"{name}.exact"], [rest]),
        helper.make_node("Sub", [product, rest], [name]),
    ]
