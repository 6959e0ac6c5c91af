"""What an engine is: a loaded graph that runs on NumPy arrays, checked against the contract on both sides."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.contract import Graph, TensorSpec

Array = NDArray[Any]
Feeds = dict[str, Array]


class MaskVATError(Exception):
    """Base of every error of this project."""


class ContractError(MaskVATError):
    """A tensor's name, dtype or shape is not what the contract says."""


class BackendUnavailable(MaskVATError):
    """A backend was asked for that is not installed or does not work on this machine."""


class EngineError(MaskVATError):
    """A backend failed while it ran a graph: out of memory, for example."""


class Engine(Protocol):
    """A loaded, runnable graph. `run` may be called from several threads."""

    graph: Graph
    backend: str  # e.g. "onnxruntime/CPUExecutionProvider": what really runs it

    def run(self, feeds: Feeds) -> Feeds: ...


def check_tensors(graph: Graph, specs: tuple[TensorSpec, ...], values: Feeds, sizes: dict[str, int]) -> None:
    """Compare arrays with their specs by name, dtype and shape; `sizes` collects what each axis letter stands for.

    Raises ContractError that names the graph, the tensor, what it got and what was expected.
    """
    expected = {s.name for s in specs}
    if set(values) != expected:
        missing, extra = sorted(expected - set(values)), sorted(set(values) - expected)
        raise ContractError(f"graph {graph.name}: missing tensors {missing}, unexpected tensors {extra}")
    for spec in specs:
        value = values[spec.name]
        if not isinstance(value, np.ndarray):  # backends refuse NumPy scalars, and do not say which input it was
            kind = "a NumPy scalar" if isinstance(value, np.generic) else f"a {type(value).__name__}"
            raise ContractError(f"graph {graph.name}: expected {spec}, got {kind}; wrap it with np.array(value, dtype)")
        got = f"got {value.dtype} {list(value.shape)}"
        if value.dtype != spec.dtype or value.ndim != len(spec.axes):
            raise ContractError(f"graph {graph.name}: expected {spec}, {got}")
        for axis, size in zip(spec.axes, value.shape, strict=True):
            want = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
            if size != want:
                raise ContractError(f"graph {graph.name}: expected {spec} with {axis} = {want}, {got}")
