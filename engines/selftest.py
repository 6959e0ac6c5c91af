"""A bundle's self-test: run its files on fixed inputs, and compare a summary of each output with the manifest's."""

from collections.abc import Mapping

import numpy as np

from engines.base import Engine, Feeds
from engines.contract import Graph, ModelConfig
from engines.feeds import TEXT_TOKENS, condition_frames, positions, window_indices
from engines.length_adapter import interpolation_matrix

TOKENS = 64  # length of the inputs in token frames
SAMPLES = 16000  # of the audio encoder's input
TOLERANCE = 0.02  # relative; precisions and backends differ by much less, broken graphs by much more
REPEATED = 0.99  # share of equal tokens, as the same kernels run on the same numbers
Summary = dict[str, dict[str, list[float]]]


def feeds_for(graph: Graph, config: ModelConfig) -> Feeds:
    """Make fixed inputs for a graph: noise of a plausible range and consistent lengths, from a seeded generator."""
    n_frames, n_sync = config.n_frames(TOKENS), config.n_sync(TOKENS)
    sizes = {"B": 1, "G": 2, "T": TOKENS, "P": TOKENS // 2, "N": n_frames, "S": n_sync}
    sizes |= {"M": n_frames + 1, "Y": config.n_sync_frames(TOKENS), "L": SAMPLES, "A": 6}
    fixed = window_indices(config, TOKENS, n_frames, n_sync)
    sizes["C"] = len(fixed.get("frame_features_index", ()))
    sizes["F"] = 1 + condition_frames(config, fixed, n_frames, n_sync)  # and [NULL]
    fixed["index"] = positions(np.indices((1, config.n_codebooks, TOKENS)).sum(axis=0) % 2 == 0)  # every second
    fixed["guidance"] = np.array(2.0, np.float32)
    fixed["interpolation"] = interpolation_matrix(sizes["A"], n_frames)
    rng = np.random.Generator(np.random.Philox(key=np.array([len(graph.name), 0], np.uint64)))
    out: Feeds = {}
    for spec in graph.inputs:
        shape = tuple(a if isinstance(a, int) else sizes[a] for a in spec.axes)
        if spec.name in fixed:
            out[spec.name] = fixed[spec.name]
        elif spec.name == "codes":
            highest = config.codebook_size + (graph.name == "step")  # `step` also gets [MASK]
            out[spec.name] = rng.integers(0, highest, shape).astype(np.int32)
        elif spec.name == "tokens":
            out[spec.name] = rng.integers(0, TEXT_TOKENS, shape).astype(np.int32)
        elif spec.name == "u":
            out[spec.name] = rng.random(shape, dtype=np.float32)
        elif spec.dtype == "uint8":
            out[spec.name] = rng.integers(0, 256, shape).astype(np.uint8)
        else:
            out[spec.name] = rng.standard_normal(shape).astype(np.float32) * np.float32(0.1)
            if spec.name == "modulation":
                out[spec.name][1::3] += 1  # the scales
    return out


def summarise(engines: Mapping[str, Engine], config: ModelConfig) -> Summary:
    """Run engines, given by file. Returns mean and mean magnitude, by file and output."""
    summary: Summary = {}
    for file, engine in engines.items():
        outputs = engine.run(feeds_for(engine.graph, config))
        summary[file] = {k: [float(np.mean(v)), float(np.mean(np.abs(v)))] for k, v in outputs.items()}
    return summary


def compare(expected: Summary, got: Summary) -> dict[str, str | None]:
    """Compare summaries. Returns, for each file in `got`, None if they agree within TOLERANCE, else what differs."""
    verdict: dict[str, str | None] = {}
    for name, outputs in got.items():
        verdict[name] = None if name in expected else "the manifest has no summary of this file"
        for output, (mean, magnitude) in expected.get(name, {}).items():
            now = outputs[output]
            scale = max(magnitude, 1e-6)
            if not (abs(now[0] - mean) <= TOLERANCE * scale and abs(now[1] - magnitude) <= TOLERANCE * scale):
                means = f"mean {now[0]:.5g}, magnitude {now[1]:.5g}; expected {mean:.5g}, {magnitude:.5g}"
                verdict[name] = f"{output}: {means}"
    return verdict


def check_repeats(step: Engine, config: ModelConfig) -> str | None:
    """Test what a generation does and a single run does not: fixed inputs on the GPU, and repeats of a CUDA graph.

    Runs a bound `step` on two inputs in turn. Returns None if its tokens are those of single runs, else what differs.
    """
    feeds = feeds_for(step.graph, config)
    turns = [{name: np.ascontiguousarray(feeds[name][..., ::order]) for name in ("codes", "u")} for order in (1, -1)]
    expected = [step.run(feeds | varying)["tokens"] for varying in turns]
    bound = step.bind({name: value for name, value in feeds.items() if name not in turns[0]})
    for n in range(6):
        equal = float((bound.run(turns[n % 2])["tokens"] == expected[n % 2]).mean())
        if equal < REPEATED:
            return f"only {equal:.0%} of the tokens of bound run {n + 1} are equal to those of a single run"
    return None
