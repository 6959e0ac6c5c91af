"""Export graphs of the contract to ONNX. Names, dtypes and axes come from the contract and are checked in the result.

Weights can be stored as float16 with a Cast to float32. The file has half the size, and every backend still computes in
float32. (ONNX Runtime casts once, when it loads the file.)
"""

import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    set_external_data,
    uses_external_data,
)
from onnxscript.optimizer import optimize_ir
from torch import nn

from engines.contract import IR_VERSION, OPSET, Graph, TensorSpec
from export import ExportError

# sizes of the example inputs; not 0 or 1, which torch.export would treat as constants
EXAMPLE = {"B": 3, "T": 11, "P": 9, "N": 5, "M": 6, "S": 7, "C": 13, "F": 14, "G": 2, "L": 32000, "Y": 24, "A": 4}
HALF_LIMIT = 256  # elements: smaller weights stay float32
# elements: larger constants (Fourier bases, filter banks) are not folded but computed at run time. They need no bytes
# in the file, and every stored tensor of at least HALF_LIMIT elements is a parameter of the network
FOLD_LIMIT = HALF_LIMIT - 1
HALF_MAX = float(np.finfo(np.float16).max)
SHARED_LIMIT = 1 << 20  # bytes of a constant that is worth a file of its own
SHARED_ALIGNMENT = 4096  # bytes, so that it can be mapped into memory
EXTERNAL_LIMIT = 1_900_000_000  # bytes; protobuf files are limited to 2 GB


# ---------------------------------------------------------------- torch -> ONNX
def example(spec: TensorSpec) -> torch.Tensor:
    """An example input of zeros; only its shape and dtype matter."""
    shape = [axis if isinstance(axis, int) else EXAMPLE[axis] for axis in spec.axes]
    return torch.zeros(shape, dtype=getattr(torch, spec.dtype))


def export_graph(module: nn.Module, graph: Graph) -> ModelProto:
    """Export one graph in float32. Raises ExportError if its inputs or outputs differ from the contract."""
    letters = sorted({a for spec in graph.inputs for a in spec.axes if isinstance(a, str)})
    dims = {letter: torch.export.Dim(letter, min=1) for letter in letters}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the exporter warns about axes that share a name, but the contract uses this on purpose
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
            optimize=False,  # optimised below with our limits
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
    """Remove doc strings, metadata (which includes source paths) and inferred shapes of inner tensors."""
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
    """Raise ExportError unless names, dtypes and axes equal the contract: letters symbolic, numbers fixed."""
    for specs, values in ((graph.inputs, model.graph.input), (graph.outputs, model.graph.output)):
        expected, exported = [s.name for s in specs], [v.name for v in values]
        if expected != exported:
            raise ExportError(f"graph {graph.name}: the module has {exported}, the contract {expected}")
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
    """Store float32 weights of at least HALF_LIMIT elements as float16 with a Cast to float32.

    `names` restricts this to some weights. Raises ExportError if a weight is outside of the range of float16.
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
                f"graph {graph}: the weight {name} holds {largest:.3g}, but the largest float16 is {HALF_MAX:.0f}; "
                "export with --precision fp32"
            )
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


# ---------------------------------------------------------------- files
def share_constants(models: Sequence[ModelProto], path: Path) -> list[Path]:
    """Move large constants that all models have to one file beside them. Returns its path; nothing if there are none.

    The models refer to it by its name, so they must be saved in its folder.
    """
    tables = [{w.name: w for w in model.graph.initializer} for model in models]
    shared = [
        name
        for name, weight in tables[0].items()
        if len(weight.raw_data) >= SHARED_LIMIT
        and all(name in table and table[name].raw_data == weight.raw_data for table in tables[1:])
    ]
    if not shared:
        return []
    with open(path, "wb") as file:
        for name in shared:
            content = tables[0][name].raw_data
            offset = file.tell()
            file.write(content + b"\0" * (-len(content) % SHARED_ALIGNMENT))
            for table in tables:
                set_external_data(table[name], path.name, offset, len(content))
                table[name].ClearField("raw_data")
    return [path]


def load(path: Path) -> ModelProto:
    """Read a model with its weights, also those in files of their own.

    onnx refuses such a file if it is a link or has several names, as package managers and caches make them. Weights in
    linked files are therefore read from a copy.
    """
    model = onnx.load(str(path), load_external_data=False)
    names = {ExternalDataInfo(w).location for w in model.graph.initializer if uses_external_data(w)}
    files = [path.parent / name for name in names if Path(name).name == name]  # onnx refuses other places
    if not any(file.is_symlink() or (file.exists() and file.stat().st_nlink > 1) for file in files):
        return onnx.load(str(path))
    with TemporaryDirectory() as folder:
        for file in files:
            shutil.copyfile(file, Path(folder) / file.name)
        load_external_data_for_model(model, folder)
    return model


def save(model: ModelProto, path: Path) -> list[Path]:
    """Write the model, with a second file for the weights if it exceeds protobuf's limit. Returns the written paths."""
    if model.ByteSize() <= EXTERNAL_LIMIT:
        onnx.save_model(model, str(path))
        return [path]
    data = path.with_name(path.name + ".data")
    onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    return [path, data]
