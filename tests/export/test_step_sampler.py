"""The sampler inside `step` draws from softmax(logits), like the NumPy reference."""

from collections.abc import Callable
from math import log

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from engines.contract import Graph, TensorSpec
from engines.ort import OrtEngine
from export.onnx_export import export_graph, save
from export.step import Sampler
from runtime.decode import sample

pytestmark = pytest.mark.torch

V = 1024
GRAPH = Graph(
    "sampler",
    (TensorSpec("logits", "float32", ("B", V)), TensorSpec("u", "float32", ("B",))),
    (TensorSpec("tokens", "int32", ("B",)), TensorSpec("logp", "float32", ("B",))),
)
LARGEST = np.float32(1 - 2**-24)
Sample = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def eager(logits: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tokens, logp = Sampler(logits.shape[-1])(torch.from_numpy(logits), torch.from_numpy(u))
    return tokens.numpy(), logp.numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    path = tmp_path_factory.mktemp("sampler") / "sampler.onnx"
    save(export_graph(Sampler(V).eval(), GRAPH), path)
    engine = OrtEngine(path, GRAPH, "cpu", threads=1)

    def run(logits: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = engine.run({"logits": logits, "u": u})
        return outputs["tokens"], outputs["logp"]

    return run


@pytest.fixture(params=["torch", "onnx"])
def draw(request: pytest.FixtureRequest) -> Sample:
    return eager if request.param == "torch" else request.getfixturevalue("exported")


def distributions() -> dict[str, np.ndarray]:
    """Logits [V] from flat to peaked, with structure along the axis, and with tokens that cannot be drawn."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(V)
    half = np.where(np.arange(V) % 2, -np.inf, noise)
    ramp = np.linspace(-6, 6, V)
    rows = {"flat": 0 * noise, "mild": noise, "peaked": 4 * noise, "rising": ramp, "falling": -ramp, "holes": half}
    return {name: values.astype(np.float32) for name, values in rows.items()}


def chi_square_p(counts: np.ndarray, probability: np.ndarray) -> float:
    """p-value of Pearson's test. Rare tokens are pooled until every bin expects ten draws or more."""
    order = np.argsort(probability, kind="stable")
    expected = (probability * counts.sum())[order]
    bins = (np.cumsum(expected) // 10).astype(int)
    bins[bins == bins[-1]] = bins[-1] - 1  # the last one may be short: it joins its neighbour
    used = np.unique(bins, return_inverse=True)[1]
    e, o = np.bincount(used, expected), np.bincount(used, counts[order])
    statistic = ((o - e) ** 2 / e).sum()
    return float(torch.special.gammaincc(torch.tensor((len(e) - 1) / 2.0).double(), torch.tensor(statistic / 2)))


def fisher(p_values: list[float]) -> float:
    """Combined p-value of independent tests."""
    statistic = -2 * sum(log(max(p, 1e-300)) for p in p_values)
    return float(torch.special.gammaincc(torch.tensor(float(len(p_values))).double(), torch.tensor(statistic / 2)))


def p_values(draw: Sample, draws: int, shift: int = 0) -> list[float]:
    found = []
    for i, logits in enumerate(distributions().values()):
        u = np.random.default_rng(100 + i).random(draws, dtype=np.float32)
        tokens, _ = draw(np.broadcast_to(logits, (draws, V)).copy(), u)
        probability = np.exp(logits.astype(np.float64) - logits.max())
        counts = np.bincount((tokens + shift) % V, minlength=V)
        found.append(chi_square_p(counts, probability / probability.sum()))
    return found


def test_it_draws_from_softmax(draw: Sample) -> None:
    """Six distributions with 20,000 draws. A correct sampler fails for one seed in a thousand; the seed is fixed."""
    assert fisher(p_values(draw, 20_000)) > 1e-3


def test_the_test_would_notice() -> None:
    """The same test on tokens that are off by one, and on probabilities that are off by a tenth."""
    assert min(p_values(eager, 20_000, shift=1)) < 1e-6
    logits = distributions()["mild"]
    u = np.random.default_rng(3).random(20_000, dtype=np.float32)
    tokens, _ = eager(np.broadcast_to(logits * np.float32(1.1), (len(u), V)).copy(), u)
    probability = np.exp(logits.astype(np.float64))
    assert chi_square_p(np.bincount(tokens, minlength=V), probability / probability.sum()) < 1e-3


def test_it_equals_the_reference(draw: Sample) -> None:
    rng = np.random.default_rng(1)
    logits = (rng.standard_normal((8000, V)) * rng.choice([0.1, 1, 3, 10], (8000, 1))).astype(np.float32)
    u = rng.random(8000, dtype=np.float32)
    want, want_logp = sample(logits, u)
    tokens, logp = draw(logits, u)
    same = tokens == want
    assert same.mean() >= 0.999
    assert np.abs(logp - want_logp)[same].max() < 2e-5
    assert np.abs(tokens - want)[~same].max(initial=0) <= 1  # where rounding decides, it is for a neighbour


@pytest.mark.parametrize("token", [0, 1, 31, 32, 500, 991, 992, 1023])
def test_one_hot(draw: Sample, token: int) -> None:
    """If one token has all probability, every u draws it, also at the ends of groups."""
    for low in (-200.0, -np.inf):
        logits = np.full((4, V), low, np.float32)
        logits[:, token] = 3.0
        tokens, logp = draw(logits, np.array([0, 0.3, 0.999, LARGEST], np.float32))
        assert (tokens == token).all() and (logp == 0).all()


def test_ends_of_the_unit_interval(draw: Sample) -> None:
    """u = 0 draws the first possible token, the largest u the last one."""
    for logits in distributions().values():
        tokens, logp = draw(np.stack([logits, logits]), np.array([0, LARGEST], np.float32))
        possible = np.flatnonzero(np.isfinite(logits))
        assert tokens[0] == possible[0]
        later = np.exp(logits[tokens[1] + 1 :].astype(np.float64)).sum() / np.exp(logits.astype(np.float64)).sum()
        assert np.isfinite(logits[tokens[1]]) and later < 1e-5  # float32 sums cannot tell tails smaller than this
        assert np.isfinite(logp).all()


def test_impossible_tokens_are_never_drawn(draw: Sample) -> None:
    """Random sets of possible tokens, some groups empty; 20,000 draws, many close to the steps of the distribution."""
    rng = np.random.default_rng(2)
    possible = rng.random((20_000, V)) < rng.choice([0.002, 0.02, 0.5], (20_000, 1))
    possible[:, 700] = True
    logits = np.where(possible, rng.standard_normal((20_000, V)), -np.inf).astype(np.float32)
    share = np.exp(logits.astype(np.float64))
    steps = (share.cumsum(axis=1) / share.sum(axis=1, keepdims=True))[:, ::50]  # u on a step, as float32 has it
    u = np.minimum(steps[np.arange(20_000), rng.integers(0, steps.shape[1], 20_000)].astype(np.float32), LARGEST)
    tokens, logp = draw(logits, u)
    assert possible[np.arange(20_000), tokens].all()
    assert np.isfinite(logp).all()


@pytest.mark.parametrize("size", [32, 48, 1000, 4096])
def test_other_codebook_sizes(size: int) -> None:
    rng = np.random.default_rng(size)
    logits, u = rng.standard_normal((2000, size), dtype=np.float32), rng.random(2000, dtype=np.float32)
    tokens, _ = eager(logits, u)
    assert (tokens == sample(logits, u)[0]).mean() >= 0.999
