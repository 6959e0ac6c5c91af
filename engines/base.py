"""What an engine is: a loaded graph that runs on NumPy arrays, checked against the contract on both sides."""

from abc import ABC, abstractmethod
from typing import Any

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


class Engine(ABC):
    """A loaded, runnable graph. `run` and what `bind` returns may be called from several threads."""

    graph: Graph
    backend: str  # e.g. "onnxruntime/CPUExecutionProvider": what really runs it
    precision: str = ""  # of the file that it runs

    def bind(self, fixed: Feeds) -> "Bound":
        """The graph with some inputs fixed. Raises ContractError where one does not fit."""
        return Bound(self, fixed)

    def run(self, feeds: Feeds) -> Feeds:
        """Run the graph once. Raises ContractError, EngineError, BackendUnavailable."""
        return self.bind({}).run(feeds)

    def close(self) -> None:  # noqa: B027
        """Give back what is held beyond memory of this process; the engine is not used afterwards."""

    @abstractmethod
    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        """Run on checked inputs; `sizes` says what each axis letter of them stands for.

        `fixed` is the same object whenever the same Bound calls: a backend may keep on the card what it holds. The
        arrays returned are the caller's. Called by Bound only, which checks what comes back.
        """


class Bound:
    """A graph whose fixed inputs are checked once and stay where the backend wants them, for a whole clip say."""

    def __init__(self, engine: Engine, fixed: Feeds) -> None:
        """`fixed` must not be altered while this is used."""
        graph = engine.graph
        self._engine, self._fixed, self._sizes = engine, dict(fixed), dict[str, int]()
        known = tuple(s for s in graph.inputs if s.name in fixed)
        check_tensors(graph, known, self._fixed, self._sizes)
        self._varying = tuple(s for s in graph.inputs if s.name not in fixed)

    def run(self, varying: Feeds) -> Feeds:
        """Run the graph with the inputs that are not fixed. Raises as Engine.run."""
        graph, sizes = self._engine.graph, dict(self._sizes)
        check_tensors(graph, self._varying, varying, sizes)
        outputs = self._engine.execute(self._fixed, varying, sizes)
        check_tensors(graph, graph.outputs, outputs, sizes)
        return outputs


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
