"""Strongly typed graphs: convert a float32 graph to float16 or bfloat16, with casts between the types.

TensorRT takes the precision of every operation from the graph. The rules are:

- Products with weights, and the products of attention, run in half precision.
- Softmax, norms, sums, sines (Snake, rotary tables), exponentials and logarithms (sampling) stay float32. So does every
  operator that is not listed below, and every product with a basis that the graph computes (Fourier, mel).
- Other operators ("free") run in half precision, unless they read a float32 value or only float32 operators read them.

The rules use operator types and the origin of values, never names. Inputs and outputs keep the types of the contract.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.contract import IR_VERSION, OPSET
from export import ExportError

TYPES = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
FLOAT = TensorProto.FLOAT
TABLE = 256  # elements: larger constants are weights, and type inference gets only their shapes

PRODUCTS = {"MatMul", "Gemm", "Conv", "ConvTranspose"}
FREE = set(
    "Abs Add Clip Concat Div Elu Erf Expand Flatten Gather GatherElements Gelu HardSigmoid HardSwish Identity LeakyRelu"
    " Max MaxPool Min Mul Neg Pad PRelu ReduceMax ReduceMin Relu Reshape Sigmoid Slice Split Squeeze Sub Tanh Tile"
    " Transpose Unsqueeze Where".split()
)
SHAPES = {"Shape", "Size"}  # they read shapes, not values


def unsupported_reason(graph: str, precision: str) -> str:
    """Why a graph is not made in a precision; "" if it is."""
    if precision == "bf16" and graph.startswith("codec"):
        return "codecs are not made in bfloat16: it has no transposed convolutions, and too few digits for sound"
    if precision == "fp16" and graph == "codec_encoder":
        return "its nearest-neighbour search needs float32"
    return ""


def convert_precision(model: ModelProto, precision: str) -> ModelProto:
    """Convert a float32 graph to a strongly typed graph with the same inputs and outputs.

    Weights stored as float16 with a Cast are stored in the type of their use. Raises ExportError if the precision is
    unknown, or if most products of the graph cannot run in it.
    """
    if precision not in ("fp32", *TYPES):
        raise ExportError(f"unknown precision {precision!r}; choose from fp32, {', '.join(TYPES)}")
    network = _Network.read(model)
    if precision != "fp32":
        element, dtype = TYPES[precision]
        wide = _float32_nodes(network, element, dtype)
        products = [node for node in network.nodes if node.op_type in PRODUCTS]
        possible = sum(_supported(node, element) for node in products)
        if 2 * possible < len(products):
            share = f"{possible} of {len(products)} products"
            raise ExportError(
                f"only {share} can run in {precision}: ONNX opset {OPSET} does not define the others for it"
            )
        if len(wide) == len(network.nodes):
            raise ExportError(f"no operator of the graph can run in {precision}")
        _Writer(network, element, dtype, wide).rewrite()
    return network.model(model)


# ---------------------------------------------------------------- working copy of the graph
@dataclass
class _Network:
    nodes: list[NodeProto]
    constants: dict[str, np.ndarray]
    types: dict[str, int] = field(default_factory=dict)  # element type of every tensor, in the float32 graph
    outputs: frozenset[str] = frozenset()

    @classmethod
    def read(cls, model: ModelProto) -> "_Network":
        """Read nodes and constants. Constant nodes, and float16 weights with a Cast, become constants."""
        constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        nodes, renamed = _float_inputs(model)
        stored = set()
        for original in model.graph.node:
            node = NodeProto.FromString(original.SerializeToString())
            if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
                raise ExportError(f"{model.graph.name}: {node.op_type} contains a subgraph, which is not supported")
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Cast" and node.input[0] in constants and node.attribute[0].i == FLOAT:
                constants[node.output[0]] = constants[node.input[0]].astype(np.float32)
                stored.add(node.input[0])
            else:
                for k, name in enumerate(node.input):
                    node.input[k] = renamed.get(name, name)
                nodes.append(node)
        for name in stored - {name for node in nodes for name in node.input}:
            del constants[name]
        network = cls(nodes, constants, outputs=frozenset(v.name for v in model.graph.output))
        network.types = network._infer(model)
        return network

    def _infer(self, model: ModelProto) -> dict[str, int]:
        """Element types, by ONNX's inference. Large constants become inputs for this, so that they are not copied."""
        types = {n: helper.np_dtype_to_tensor_dtype(v.dtype) for n, v in self.constants.items()}
        large = [n for n, v in self.constants.items() if v.size >= TABLE]
        stand_ins = [helper.make_tensor_value_info(n, types[n], self.constants[n].shape) for n in large]
        small = [numpy_helper.from_array(v, n) for n, v in self.constants.items() if v.size < TABLE]
        inputs = [*model.graph.input, *stand_ins]
        graph = helper.make_graph(self.nodes, model.graph.name, inputs, model.graph.output, small)
        slim = helper.make_model(graph, opset_imports=model.opset_import, ir_version=IR_VERSION)
        inferred = onnx.shape_inference.infer_shapes(slim).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            types[value.name] = value.type.tensor_type.elem_type
        unknown = [name for node in self.nodes for name in node.output if name and not types.get(name)]
        if unknown:
            raise ExportError(f"{model.graph.name}: ONNX cannot infer the types of {', '.join(unknown[:5])}")
        return types

    def floats(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name and self.types[name] == FLOAT]

    def model(self, like: ModelProto) -> ModelProto:
        """A model with the inputs and outputs of `like`, without unused constants."""
        used = {name for node in self.nodes for name in node.input} | self.outputs
        constants = [numpy_helper.from_array(v, n) for n, v in self.constants.items() if n in used]
        graph = helper.make_graph(self.nodes, like.graph.name, like.graph.input, like.graph.output, constants)
        return helper.make_model(graph, opset_imports=like.opset_import, ir_version=IR_VERSION)


def _float_inputs(model: ModelProto) -> tuple[list[NodeProto], dict[str, str]]:
    """Cast nodes for uint8 inputs, and the new names: TensorRT supports no other operator on uint8."""
    names = [v.name for v in model.graph.input if v.type.tensor_type.elem_type == TensorProto.UINT8]
    renamed = {name: f"{name}.float" for name in names}
    casts = [helper.make_node("Cast", [old], [new], name=f"{new}.cast", to=FLOAT) for old, new in renamed.items()]
    return casts, renamed


# ---------------------------------------------------------------- which nodes stay float32
def _float32_nodes(network: _Network, element: int, dtype: np.dtype) -> set[int]:
    """Indices of the nodes that stay float32, including nodes without floats, which are not changed."""
    computed, wide, free = _basis_tensors(network), set[int](), set[int]()
    for i, node in enumerate(network.nodes):
        floats = network.floats((*node.input, *node.output))
        if not floats or node.op_type in SHAPES or not _supported(node, element):
            wide.add(i)
        elif node.op_type in PRODUCTS:
            if not _half_product(network, node, computed, dtype):
                wide.add(i)
        elif node.op_type == "Gather" and node.input[0] in network.constants and floats[0] == node.input[0]:
            if not _fits(
                network.constants[node.input[0]], dtype
            ):  # an embedding table in half precision moves half the bytes
                wide.add(i)
        elif node.op_type in FREE and network.floats(node.output):
            constants = [network.constants[n] for n in network.floats(node.input) if n in network.constants]
            (free if all(_fits(c, dtype, small=True) for c in constants) else wide).add(i)
        else:
            wide.add(i)
    _spread_float32(network, wide, free)
    return wide


def _spread_float32(network: _Network, wide: set[int], free: set[int]) -> None:
    """Add free nodes to `wide` if they read a float32 value or only `wide` nodes read them; repeat until stable."""
    producer = {name: i for i, node in enumerate(network.nodes) for name in node.output}
    readers = defaultdict[str, set[int]](set)
    for i, node in enumerate(network.nodes):
        for name in node.input if node.op_type not in SHAPES else ():
            readers[name].add(i)

    def promoted(node: NodeProto) -> bool:
        given = [n for n in network.floats(node.input) if n not in network.constants]
        return any(producer.get(name, -1) in wide or name not in producer for name in given)

    def unneeded(node: NodeProto) -> bool:
        made = network.floats(node.output)
        users = set().union(*(readers[name] for name in made))
        return users <= wide and bool(users or network.outputs & set(made))

    before = -1
    while before != len(wide):
        before = len(wide)
        wide |= {i for i in sorted(free - wide) if promoted(network.nodes[i])}
        wide |= {i for i in sorted(free - wide, reverse=True) if unneeded(network.nodes[i])}


def _supported(node: NodeProto, element: int) -> bool:
    """Whether ONNX defines the operator for the element type (opset 20 has no bfloat16 convolutions)."""
    schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
    name = "tensor(float16)" if element == TensorProto.FLOAT16 else "tensor(bfloat16)"
    made = schema.outputs[0].type_str
    return any(c.type_param_str == made and name in c.allowed_type_strs for c in schema.type_constraints)


def _basis_tensors(network: _Network) -> set[str]:
    """Float tensors that depend on no input and no weight: bases, windows, position tables."""
    dependent: set[str] = set()  # tensors that depend on an input or on a weight
    made = {name for node in network.nodes for name in node.output}
    dependent |= {n for node in network.nodes for n in node.input if n and n not in made and n not in network.constants}
    dependent |= {n for n, v in network.constants.items() if _is_weight(v)}
    for node in network.nodes:
        if node.op_type not in SHAPES and dependent & set(node.input):
            dependent |= set(node.output)
    return made - dependent


def _is_weight(values: np.ndarray) -> bool:
    """Whether a constant is a learned parameter, not a scalar or a short list that a basis is computed from."""
    return values.dtype == np.float32 and (values.ndim > 1 or values.size >= TABLE)


def _half_product(network: _Network, node: NodeProto, computed: set[str], dtype: np.dtype) -> bool:
    """Whether a product runs in half precision: products with weights and of attention do.

    Products with computed bases do not, nor products with matrices of 0 and 1 (cumulative sums of the sampler).
    """
    if computed & set(node.input):
        return False
    constants = [network.constants[n] for n in network.floats(node.input) if n in network.constants]
    sums = node.op_type == "MatMul" and any(((c == 0) | (c == 1)).all() for c in constants)
    return not sums and all(_fits(c, dtype) for c in constants)


def _fits(values: np.ndarray, dtype: np.dtype, small: bool = False) -> bool:
    """Whether the values are within the range of the type. With `small`, no value may become 0, such as an epsilon."""
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype).astype(np.float32)
    fits = bool(np.isfinite(narrow[np.isfinite(values)]).all())
    return fits and not (small and bool(((narrow == 0) & (values != 0)).any()))


# ---------------------------------------------------------------- casts
class _Writer:
    """Rewrites the nodes in place: constants get the type of their readers, and casts are added once per tensor."""

    def __init__(self, network: _Network, element: int, dtype: np.dtype, wide: set[int]) -> None:
        self.network, self.element, self.dtype, self.wide = network, element, dtype, wide
        self.now: dict[str, int] = {}  # element types of tensors that are not float32 any more
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[NodeProto] = []

    def rewrite(self) -> None:
        for i, node in enumerate(self.network.nodes):
            wanted = FLOAT if i in self.wide else self.element
            if node.op_type not in SHAPES:  # SHAPES accept any type
                floats = set(self.network.floats(node.input))
                for k, name in enumerate(node.input):
                    if name in floats:
                        node.input[k] = self._as(name, wanted)
            self.nodes.append(node)
            if wanted != FLOAT:
                self._outputs(node)
        self.network.nodes = self.nodes

    def _as(self, name: str, wanted: int) -> str:
        """The name of a float tensor in the wanted type; adds a cast if needed."""
        if name in self.network.constants:
            if wanted == FLOAT:
                return name
            narrow = f"{name}.narrow"
            if narrow not in self.network.constants:
                self.network.constants[narrow] = self.network.constants[name].astype(self.dtype)
            return narrow
        if self.now.get(name, FLOAT) == wanted:
            return name
        return self._cast(name, wanted, f"{name}.{'wide' if wanted == FLOAT else 'narrow'}")

    def _cast(self, name: str, wanted: int, out: str) -> str:
        if (name, wanted) not in self.casts:
            self.casts[name, wanted] = out
            self.nodes.append(helper.make_node("Cast", [name], [out], name=f"{out}.cast", to=wanted))
        return self.casts[name, wanted]

    def _outputs(self, node: NodeProto) -> None:
        """Record the new type of the outputs. An output of the graph keeps its name and type."""
        for k, name in enumerate(node.output):
            if not name or self.network.types[name] != FLOAT:
                continue
            if name in self.network.outputs:
                node.output[k] = f"{name}.narrow"
                self.casts[name, self.element] = node.output[k]  # for later readers
                self._cast(node.output[k], FLOAT, name)
            else:
                self.now[name] = self.element
