"""Parity: compare ONNX Runtime on the exported files with PyTorch in float32 with unrounded weights.

`step` is compared along a whole decoding run. First the NumPy loop of `runtime.decode` runs with logits of PyTorch and
the NumPy sampler. Then the exported graph gets the codes and uniform numbers of every step and must draw the same
tokens. Every step starts from the reference's codes, so rounding errors do not add up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engines.base import Array, Engine, Feeds
from engines.contract import FloatArray, Graph, Int32Array, ModelConfig, graphs
from engines.feeds import CODEC_CHUNK, TEXT_TOKENS, conditional_only, positions, step_conditions
from engines.length_adapter import condition_indices, interpolation_matrix
from engines.manifest import BundleFile
from engines.ort import OrtEngine
from runtime.decode import LogitsFn, StepFn, decode, step_from_logits
from train.models.maskvat import MaskVAT

SEED = 20240715
GUIDANCE, DIVERSITY = 3.0, 8.0
Numbers = dict[str, float | int | str]


@dataclass(frozen=True)
class Limits:
    """Limits of the difference from PyTorch. The export fails if one is exceeded."""

    relative: float  # largest absolute difference over the largest magnitude of the output
    tokens: float  # least share of equal tokens of `step`, at masked positions
    logp: float  # largest absolute difference of log-probabilities of equal tokens
    codes: float  # least share of equal codes of `codec_encoder` (see code_agreement)


LIMITS = {
    "fp32": Limits(relative=1e-4, tokens=0.999, logp=1e-4, codes=0.999),
    "fp16": Limits(relative=1e-2, tokens=0.99, logp=2e-2, codes=0.97),  # stored as fp16, computed in fp32
    # only detects broken graphs; benchmarks.scenes measures how the sound changes
    "int8": Limits(relative=0.0, tokens=0.60, logp=100.0, codes=1.0),  # for step only
}


@dataclass(frozen=True)
class Trial:
    """One size of the inputs: candidates, token frames, with or without [NULL], and unmasking steps."""

    batch: int
    tokens: int
    null: bool = True
    steps: int = 8


Trials = tuple[Trial, ...]


def default_trials(config: ModelConfig) -> Trials:
    """A full window with guidance, and one second of two candidates without guidance."""
    return Trial(1, config.window_tokens), Trial(2, config.n_tokens(config.sample_rate), null=False)


@dataclass(frozen=True)
class Parity:
    """Measured numbers, and a message for every limit that they exceed."""

    numbers: Numbers
    failures: tuple[str, ...]


# ---------------------------------------------------------------- inputs
def axis_sizes(config: ModelConfig, graph: str, trial: Trial) -> dict[str, int]:
    """Sizes of the axis letters in a trial: at least half a second; one chunk for the codec, as at run time."""
    tokens = trial.tokens
    if graph not in ("step", "condition"):
        tokens = max(tokens, config.n_tokens(config.sample_rate // 2))
    if graph.startswith("codec"):
        tokens = min(tokens, CODEC_CHUNK + 2 * config.codec_context)
    seconds = tokens * config.hop_length / config.sample_rate
    n, s = config.n_frames(tokens), config.n_sync(tokens)
    pairs = condition_indices(config, tokens, n, s).get("frame_features_index", ())
    rate = config.audio_rate if graph == "audio_encoder" else config.sample_rate
    letters = {"B": trial.batch, "T": tokens, "N": n, "S": s, "Y": config.n_sync_frames(tokens), "C": len(pairs)}
    steps = max(1, round(seconds * config.audio_rate / config.audio_stride))
    return letters | {"L": round(seconds * rate), "A": steps}


def random_sound(rng: np.random.Generator, batch: int, samples: int) -> FloatArray:
    """Decaying tones and noise [B, L] at a moderate level: a signal with some structure for the audio networks."""
    time = np.arange(samples) / samples
    cycles = samples * 0.5 * rng.random((batch, 4, 1)) ** 3
    tones = np.sin(2 * np.pi * cycles * time) * np.exp(-6 * ((time - rng.random((batch, 4, 1))) % 1))
    return (0.1 * tones.sum(axis=1) + 0.01 * rng.standard_normal((batch, samples))).astype(np.float32)


def random_inputs(config: ModelConfig, graph: Graph, letters: dict[str, int]) -> Feeds:
    """Random inputs of a graph other than `step`, in realistic ranges."""
    rng = np.random.default_rng(SEED)
    feeds: Feeds = dict(condition_indices(config, letters["T"], letters["N"], letters["S"]))
    feeds["interpolation"] = interpolation_matrix(letters["A"], letters["N"])
    for spec in graph.inputs:
        shape = [axis if isinstance(axis, int) else letters[axis] for axis in spec.axes]
        if spec.name == "frames":
            feeds[spec.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif size := {"codes": config.codebook_size, "tokens": TEXT_TOKENS}.get(spec.name):
            feeds[spec.name] = rng.integers(0, size, shape, dtype=np.int32)
        elif spec.name == "audio":
            feeds[spec.name] = random_sound(rng, shape[0], shape[1])
        elif spec.name not in feeds:  # features have unit length, like those of the frame encoder
            values = rng.standard_normal(shape, dtype=np.float32)
            feeds[spec.name] = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return {spec.name: feeds[spec.name] for spec in graph.inputs}


def run_torch(module: nn.Module, graph: Graph, feeds: Feeds) -> Feeds:
    """Run the reference: the same module in PyTorch, eager, float32."""
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(feeds[spec.name]) for spec in graph.inputs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {spec.name: value.numpy() for spec, value in zip(graph.outputs, outputs, strict=True)}


# ---------------------------------------------------------------- graphs other than step
def code_agreement(reference: Int32Array, codes: Int32Array) -> tuple[int, int]:
    """Number of equal codes, and of comparable codes, of a residual quantiser; codes are [B, K, T].

    Every codebook quantises the residual of the earlier ones. After the first difference in a frame the residuals
    differ, so later codes of that frame are not compared.
    """
    equal = reference == codes
    comparable = np.concatenate([np.ones_like(equal[:, :1]), np.cumprod(equal[:, :-1], axis=1, dtype=bool)], axis=1)
    return int((equal & comparable).sum()), int(comparable.sum())


def largest_difference(want: Array, got: Array) -> float:
    """Largest absolute difference; infinite if shapes differ or a value is not finite, which exceeds every limit."""
    if want.shape != got.shape:
        return float("inf")
    value = float(np.abs(want.astype(np.float64) - got).max(initial=0.0))
    return value if np.isfinite(value) else float("inf")


def graph_parity(module: nn.Module, engine: Engine, config: ModelConfig, trials: Trials, limit: Limits) -> Parity:
    """Parity of a graph: largest absolute and relative difference of its outputs, or the share of equal codes."""
    graph = engine.graph
    max_abs, relative, equal, compared = 0.0, 0.0, 0, 0
    for trial in trials:
        feeds = random_inputs(config, graph, axis_sizes(config, graph.name, trial))
        want, got = run_torch(module, graph, feeds), engine.run(feeds)
        for spec in graph.outputs:
            a, b = want[spec.name], got[spec.name]
            if spec.name == "codes":
                same, seen = code_agreement(a, b)
                equal, compared = equal + same, compared + seen
            else:
                difference, scale = largest_difference(a, b), max(float(np.abs(a).max()), 1e-6)
                max_abs, relative = max(max_abs, difference), max(relative, difference / scale)
    if compared:
        share = equal / compared
        failures = () if share >= limit.codes else (f"equal codes {share:.4f} < {limit.codes}",)
        return Parity({"against": "torch fp32", "codes_equal": share}, failures)
    most = limit.relative * getattr(module, "rounding", 1.0)
    failures = () if relative <= most else (f"relative difference {relative:.2e} > {most:.0e}",)
    return Parity({"against": "torch fp32", "max_abs": max_abs, "relative": relative}, failures)


# ---------------------------------------------------------------- step
def condition_feeds(modules: dict[str, nn.Module], config: ModelConfig, trial: Trial) -> Feeds:
    """`step_feeds` with the `condition` module of PyTorch."""
    graph = graphs(config)["condition"]
    return step_feeds(lambda feeds: run_torch(modules["condition"], graph, feeds), config, trial)


def step_feeds(run_condition: Callable[[Feeds], Feeds], config: ModelConfig, trial: Trial) -> Feeds:
    """The conditions that `step` gets for random features, with or without [NULL]."""
    letters = axis_sizes(config, "condition", trial)
    inputs = random_inputs(config, graphs(config)["condition"], letters)
    features = {name: inputs[name] for name in ("frame_features", "sync_features") if name in inputs}
    feeds = step_conditions(config, letters["T"], features, run_condition)
    return feeds if trial.null else conditional_only(feeds)


def logits_reference(model: MaskVAT, trial: Trial) -> LogitsFn:
    """A function: codes -> conditional and null logits, each [B, K, T, V], from two passes of the network.

    It uses the same features as `condition_feeds`, and the code path of training.
    """
    config = model.config
    graph, letters = graphs(config)["condition"], axis_sizes(config, "condition", trial)
    features = {k: torch.from_numpy(v) for k, v in random_inputs(config, graph, letters).items()}
    arrays = condition_indices(config, letters["T"], letters["N"], letters["S"])
    indices = {k: torch.from_numpy(v) for k, v in arrays.items()}
    with torch.no_grad():
        condition = model.condition(features["frame_features"], features.get("sync_features"), indices)
        null = model.null_condition(letters["N"], letters["S"], indices)

    def logits(codes: Int32Array, with_null: bool) -> tuple[FloatArray, FloatArray | None]:
        tokens = torch.from_numpy(codes)
        chosen = (condition, null) if with_null and trial.null else (condition,)
        with torch.no_grad():
            arrays = [np.asarray(model.logits(model.hidden(tokens, c)).numpy()) for c in chosen]
        return arrays[0], arrays[1] if len(arrays) == 2 else None

    return logits


@dataclass(frozen=True)
class StepRecord:
    """Inputs and outputs of one step of a decoding run."""

    codes: Int32Array
    u: FloatArray
    tokens: Int32Array
    logp: FloatArray


Run = tuple[Feeds, list[StepRecord]]  # conditions of `step`, and its records


def reference_run(model: MaskVAT, trial: Trial) -> list[StepRecord]:
    """`record_run` with the network of PyTorch and the NumPy sampler."""
    return record_run(step_from_logits(logits_reference(model, trial), GUIDANCE), model.config, trial)


def record_run(step: StepFn, c: ModelConfig, trial: Trial) -> list[StepRecord]:
    """Decode a window with a step function, and record every step."""
    records = list[StepRecord]()
    shape = (trial.batch, c.n_codebooks, trial.tokens)

    def noise(n: int) -> tuple[FloatArray, FloatArray]:
        rng = np.random.default_rng((SEED, n))
        return rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)

    def recording_step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        tokens, logp = step(codes, u)
        records.append(StepRecord(codes.copy(), u, tokens, logp))
        return tokens, logp

    start = np.full(shape, c.mask_token, np.int32)
    decode(recording_step, start, noise, mask_token=c.mask_token, steps=trial.steps, diversity=DIVERSITY)
    return records


def record_feeds(record: StepRecord, mask_token: int) -> Feeds:
    """Inputs of `step` without the conditions. It draws at the masked positions."""
    index = positions(record.codes == mask_token)
    u = np.take_along_axis(record.u, index, -1)
    return {"codes": record.codes, "index": index, "u": u, "guidance": np.array(GUIDANCE, np.float32)}


def step_parity(runs: list[Run], engine: Engine, mask_token: int, limit: Limits) -> Parity:
    """Run the engine on the codes and uniform numbers of recorded runs, and count equal tokens at masked positions."""
    equal = total = 0
    max_abs = sum_abs = 0.0
    for feeds, records in runs:
        for record in records:
            inputs = record_feeds(record, mask_token)
            expected = (record.codes == mask_token, record.tokens, record.logp)
            masked, tokens, logp = (np.take_along_axis(x, inputs["index"], -1) for x in expected)
            got = engine.run(inputs | feeds)
            same = masked & (got["tokens"] == tokens)
            equal, total = equal + int(same.sum()), total + int(masked.sum())
            max_abs = max(max_abs, largest_difference(logp[same], got["logp"][same]))
            sum_abs += float(np.abs(logp - got["logp"])[same].sum())
    share = equal / total
    failures = [] if share >= limit.tokens else [f"equal tokens {share:.4f} < {limit.tokens}"]
    if not max_abs <= limit.logp:
        failures.append(f"logp difference {max_abs:.2e} > {limit.logp:.0e}")
    numbers: Numbers = {"against": "torch fp32", "max_abs": max_abs, "mean_abs": sum_abs / max(equal, 1)}
    return Parity(numbers | {"tokens_equal": share, "tokens_compared": total}, tuple(failures))


# ---------------------------------------------------------------- a bundle
def verify(
    folder: Path,
    files: dict[str, BundleFile],
    config: ModelConfig,
    modules: dict[str, nn.Module],
    trials: Trials | None = None,
) -> dict[str, Parity]:
    """File name -> Parity, for every graph. `modules`: the graphs in PyTorch, not rounded, BatchNorms not folded."""
    trials = trials or default_trials(config)
    all_graphs, runs = graphs(config), list[Run]()
    out: dict[str, Parity] = {}
    for name, entry in files.items():
        if not entry.graph:
            continue
        engine, limit = OrtEngine(folder / name, all_graphs[entry.graph], "cpu"), LIMITS[entry.precision]
        if entry.graph == "step":
            if not runs:  # used for all precisions
                conditions = [condition_feeds(modules, config, trial) for trial in trials]
                model = modules["condition"].model
                runs = [(feeds, reference_run(model, t)) for feeds, t in zip(conditions, trials, strict=True)]
            out[name] = step_parity(runs, engine, config.mask_token, limit)
        else:
            out[name] = graph_parity(modules[entry.graph], engine, config, trials, limit)
    return out
