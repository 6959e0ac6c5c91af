"""The engine interface: a loaded graph that runs on NumPy arrays. Inputs and outputs are checked against the contract.

Also the base of every error of this project. Code outside of `engines` imports errors from `runtime.errors`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.contract import Graph, TensorSpec

Array = NDArray[Any]
Feeds = dict[str, Array]


class MaskVATError(Exception):
    """Base of every error of this project. `code` is a stable name for programs; see `runtime.errors`."""

    code: ClassVar[str] = "maskvat_error"


class ContractError(MaskVATError):
    """A tensor's name, dtype or shape differs from the contract."""

    code = "contract_error"


class BackendUnavailable(MaskVATError):
    """The requested backend is not installed or does not work on this machine."""

    code = "backend_unavailable"


class EngineError(MaskVATError):
    """A backend failed while it ran a graph, for example because it ran out of memory."""

    code = "engine_error"


class OptionError(MaskVATError, ValueError):
    """An option's value is not allowed."""

    code = "option_error"


class Engine(ABC):
    """A loaded graph, ready to run. `run` and the result of `bind` may be called from several threads."""

    graph: Graph
    backend: str  # what really runs the graph, e.g. "onnxruntime/CPUExecutionProvider"
    precision: str = ""  # precision of the file that it runs

    def bind(self, fixed: Feeds) -> "Bound":
        """Fix some inputs of the graph. Raises ContractError if one does not fit."""
        return Bound(self, fixed)

    def run(self, feeds: Feeds) -> Feeds:
        """Run the graph once. Raises ContractError, EngineError, BackendUnavailable."""
        return self.bind({}).run(feeds)

    def close(self) -> None:  # noqa: B027
        """Release what the engine holds outside of this process's memory. Do not use the engine afterwards."""

    @abstractmethod
    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        """Run on checked inputs. `sizes` maps each axis letter of the inputs to its length.

        Only Bound calls this, and it checks the outputs. One Bound always passes the same `fixed` object, so a backend
        may keep those inputs on the GPU. The caller owns the returned arrays.
        """


class Bound:
    """A graph with fixed inputs. They are checked once and stay where the backend needs them, e.g. for a whole clip."""

    def __init__(self, engine: Engine, fixed: Feeds) -> None:
        """Do not change the arrays in `fixed` while this object is in use."""
        graph = engine.graph
        self._engine, self._fixed, self._sizes = engine, dict(fixed), dict[str, int]()
        known = tuple(s for s in graph.inputs if s.name in fixed)
        check_tensors(graph, known, self._fixed, self._sizes)
        self._varying = tuple(s for s in graph.inputs if s.name not in fixed)

    def run(self, varying: Feeds) -> Feeds:
        """Run the graph with the remaining inputs. Raises the same errors as Engine.run."""
        graph, sizes = self._engine.graph, dict(self._sizes)
        check_tensors(graph, self._varying, varying, sizes)
        outputs = self._engine.execute(self._fixed, varying, sizes)
        check_tensors(graph, graph.outputs, outputs, sizes)
        return outputs


def check_tensors(graph: Graph, specs: tuple[TensorSpec, ...], values: Feeds, sizes: dict[str, int]) -> None:
    """Compare arrays with their specs by name, dtype and shape. `sizes` collects the length of each axis letter.

    Raises ContractError, which names the graph, the tensor, what was given and what was expected.
    """
    expected = {s.name for s in specs}
    if set(values) != expected:
        missing, extra = sorted(expected - set(values)), sorted(set(values) - expected)
        raise ContractError(f"graph {graph.name}: missing tensors {missing}, unexpected tensors {extra}")
    for spec in specs:
        value = values[spec.name]
        if not isinstance(value, np.ndarray):  # backends reject NumPy scalars without naming the input
            kind = "a NumPy scalar" if isinstance(value, np.generic) else f"a {type(value).__name__}"
            raise ContractError(f"graph {graph.name}: expected {spec}, got {kind}; wrap it with np.array(value, dtype)")
        got = f"got {value.dtype} {list(value.shape)}"
        if value.dtype != spec.dtype or value.ndim != len(spec.axes):
            raise ContractError(f"graph {graph.name}: expected {spec}, {got}")
        for axis, size in zip(spec.axes, value.shape, strict=True):
            want = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
            if size != want:
                raise ContractError(f"graph {graph.name}: expected {spec} with {axis} = {want}, {got}")
