"""Tests that need a GPU: every installed backend against the CPU, on the shipped bundle.

`pytest -m gpu tests/engines/test_gpu.py -s` prints the agreement. The slow tests also run this for the
CPU against itself, which shows that the comparison works.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines import cuda
from engines.backends import BACKENDS
from engines.base import Engine, Feeds
from engines.contract import graphs
from engines.manifest import MINI
from engines.ort import OrtEngine
from engines.selftest import check_repeats
from runtime import SamplingConfig
from runtime.bundle import Bundle
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import EXAMPLE

pytestmark = NEEDS_ORT
SAMPLING = SamplingConfig(steps=8, seed=3, candidates=2)
Step = tuple[Feeds, Feeds, Feeds]  # fixed inputs, those that vary, outputs


class Recorder(Engine):
    """Records the inputs and outputs of a bundle's `step`."""

    def __init__(self, bundle: Bundle) -> None:
        self.inner = bundle["step"]
        self.graph, self.backend = self.inner.graph, self.inner.backend
        self.steps: list[Step] = []
        bundle._engines["step"] = self

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        outputs = self.inner.execute(fixed, varying, sizes)
        self.steps.append((fixed, {k: v.copy() for k, v in varying.items()}, outputs))
        return outputs


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with graphs in half precision beside it."""
    pytest.importorskip("torch", reason="graphs in half precision need the export extra")
    command = pytest.importorskip("export.tensorrt", reason="graphs in half precision need the export extra")
    out = Path(tmp_path_factory.mktemp("half") / "mini")
    assert command.main([str(MINI), "--out", str(out), "--flavours"]) == 0
    return out


@pytest.fixture(scope="module")
def reference() -> tuple[np.ndarray, list[Step]]:
    """Codes and steps of a whole loop on the CPU."""
    pipeline = runtime.load(MINI, "cpu", precision="fp16")
    recorder = Recorder(pipeline.bundle)
    return pipeline.generate(EXAMPLE, SAMPLING)[0].codes, recorder.steps


CASES = [
    pytest.param(("tensorrt", "half"), marks=pytest.mark.gpu),
    pytest.param(("tensorrt-rtx", "half"), marks=pytest.mark.gpu),
    pytest.param(("cuda", "stored"), marks=pytest.mark.gpu),
    pytest.param(("cpu", "stored"), marks=pytest.mark.slow),
]


@pytest.fixture(params=CASES, ids="-".join)
def bundle(request: pytest.FixtureRequest) -> Iterator[Bundle]:
    name, precision = request.param
    reason = BACKENDS[name].unavailable()
    if reason is None and name == "cuda":  # its package says nothing about drivers and cards
        reason = cuda.unavailable()
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    folder = request.getfixturevalue("half") if precision == "half" else MINI
    bundle = Bundle(folder, name, precision="fp16")
    yield bundle
    bundle.close()


def test_the_self_test_passes(bundle: Bundle) -> None:
    verdicts = bundle.self_test(graphs(bundle.config))
    assert {file: problem for file, problem in verdicts.items() if problem} == {}


def test_tokens_are_the_cpus(bundle: Bundle, reference: tuple[np.ndarray, list[Step]]) -> None:
    """At least 99 % are equal if the codes of every step are given; the agreement of a free loop is printed.

    Half precision reaches less (rounded on a CPU 97.3 %, see tests/export/test_precision.py), but not by much.
    """
    codes, steps = reference
    equal, worst, bound, last = [], 0.0, None, None
    for fixed, varying, outputs in steps:
        if bound is None or fixed is not last:
            bound, last = bundle["step"].bind(fixed), fixed
        got = bound.run(varying)
        agree = got["tokens"] == outputs["tokens"]
        equal.append(agree.mean())
        worst = max(worst, float(np.abs(got["logp"] - outputs["logp"])[agree].max()))
    (take,) = runtime.Pipeline(bundle).generate(EXAMPLE, SAMPLING)
    free = (take.codes == codes).mean()
    words = f"tokens equal {np.mean(equal):.4%} (least of a step {min(equal):.4%}), logp within {worst:.2g}"
    print(f"{bundle['step'].backend}: {words}; free loop of {SAMPLING.steps} steps {free:.2%}")
    assert np.isfinite(take.audio).all() and take.codes.max() < bundle.config.codebook_size
    if bundle.folder != MINI and 0.95 <= np.mean(equal) < 0.99:  # typed graphs
        pytest.xfail(f"the bar of 99 % is missed: {words}")
    assert np.mean(equal) >= 0.99


def test_the_same_seed_gives_the_same_bytes(bundle: Bundle) -> None:
    first, second = (runtime.Pipeline(bundle).generate(EXAMPLE, SAMPLING)[0] for _ in range(2))
    assert first.audio.tobytes() == second.audio.tobytes()


def test_steps_are_a_cuda_graph(bundle: Bundle) -> None:
    """ONNX Runtime or this program makes them. TensorRT-RTX makes its own, which cannot be seen."""
    step = bundle["step"]
    assert check_repeats(step, bundle.config) is None  # inputs that take turns
    if isinstance(step, OrtEngine):
        assert step._captures == (bundle.backend == "cuda")
    elif bundle.backend == "tensorrt":
        assert step._session._captured is not None
