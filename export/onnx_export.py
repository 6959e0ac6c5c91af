"""Graphs of the contract as ONNX files: names, dtypes and axes come from the contract, and are checked in the result.

Weights may be stored as float16 with a Cast in front of their use: half the bytes, while every backend still computes
in float32 (ONNX Runtime casts once, when it loads the file).
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxscript.optimizer import optimize_ir
from torch import nn

from engines.contract import IR_VERSION, OPSET, Graph, TensorSpec
from export import ExportError

# sizes of the example inputs: none is 0 or 1, which torch.export would take for constants
EXAMPLE = {"B": 3, "T": 11, "P": 9, "N": 5, "M": 6, "S": 7, "C": 13, "F": 14, "G": 2, "L": 32000, "Y": 24, "A": 4}
HALF_LIMIT = 256  # elements: smaller weights stay float32
# elements: larger constants (Fourier bases, filter banks) stay computed. They cost no bytes then, and are not taken for
# weights: what is left with HALF_LIMIT elements are the network's own parameters, transposed or not
FOLD_LIMIT = HALF_LIMIT - 1
HALF_MAX = float(np.finfo(np.float16).max)
EXTERNAL_LIMIT = 1_900_000_000  # bytes: protobuf files end at 2 GB


# ---------------------------------------------------------------- torch -> ONNX
def example(spec: TensorSpec) -> torch.Tensor:
    """Zeros of the spec's dtype; only the shape matters."""
    shape = [axis if isinstance(axis, int) else EXAMPLE[axis] for axis in spec.axes]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype))


def export_graph(module: nn.Module, graph: Graph) -> ModelProto:
    """The float32 graph. Raises ExportError where the module's outputs are not the contract's."""
    letters = sorted({a for spec in graph.inputs for a in spec.axes if isinstance(a, str)})
    dims = {letter: torch.export.Dim(letter, min=1) for letter in letters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter talks of axes that share a name, which is the point of letters
        program = torch.onnx.export(
            module,
            tuple(example(spec) for spec in graph.inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in graph.inputs],
            output_names=[spec.name for spec in graph.outputs],
            dynamic_shapes={
                spec.name: {i: dims[axis] for i, axis in enumerate(spec.axes) if isinstance(axis, str)}
                for spec in graph.inputs
            },
            optimize=False,  # below, with limits of our own
            verbose=False,
        )
        if program is None:
            raise ExportError(f"graph {graph.name}: the exporter returned nothing")
        optimize_ir(program.model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    model = program.model_proto
    model.ir_version = IR_VERSION
    strip(model)
    check_signature(model, graph)
    return model


def strip(model: ModelProto) -> None:
    """Drop what only a debugger reads: doc strings, metadata (source paths among them), inferred inner shapes."""
    model.doc_string = ""
    del model.metadata_props[:]
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for items in (model.graph.node, model.graph.initializer, model.graph.input, model.graph.output):
        for item in items:
            item.doc_string = ""
            del item.metadata_props[:]


def check_signature(model: ModelProto, graph: Graph) -> None:
    """Names, dtypes and axes of the file are the contract's: every letter symbolic, every number fixed."""
    for specs, values in ((graph.inputs, model.graph.input), (graph.outputs, model.graph.output)):
        names, have = [s.name for s in specs], [v.name for v in values]
        if names != have:
            raise ExportError(f"graph {graph.name}: the module has {have}, the contract {names}")
        for spec, value in zip(specs, values, strict=True):
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            dims = value.type.tensor_type.shape.dim
            axes = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
            same = len(axes) == len(spec.axes) and all(
                got == want if isinstance(want, int) else isinstance(got, str) and got != ""
                for got, want in zip(axes, spec.axes, strict=True)
            )
            if dtype != np.dtype(spec.dtype) or not same:
                got = f"{value.name} {dtype} {axes}"
                raise ExportError(f"graph {graph.name}: the contract has {spec}, the module {got}")


# ---------------------------------------------------------------- weights as float16
def store_half(model: ModelProto, graph: str, names: Iterable[str] | None = None) -> None:
    """Store float32 weights of at least HALF_LIMIT elements as float16 with a Cast; `names` restricts which.

    Raises ExportError for a weight that float16 cannot hold.
    """
    chosen = None if names is None else set(names)
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < HALF_LIMIT:
            continue
        if chosen is not None and weight.name not in chosen:
            continue
        values, name = numpy_helper.to_array(weight), weight.name
        largest = float(np.abs(values).max())
        if not largest <= HALF_MAX:
            raise ExportError(
                f"graph {graph}: the weight {name} holds {largest:.3g}, float16 ends at {HALF_MAX:.0f}; "
                "export with --precision fp32"
            )
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


# ---------------------------------------------------------------- files
def save(model: ModelProto, path: Path) -> list[Path]:
    """Write one file, and one beside it for the weights where protobuf's limit demands it. Returns what was written."""
    if model.ByteSize() <= EXTERNAL_LIMIT:
        onnx.save_model(model, str(path))
        return [path]
    data = path.with_name(path.name + ".data")
    onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    return [path, data]
