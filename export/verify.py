"""Parity: torch in float32 with unrounded weights against ONNX Runtime running the exported files.

`step` is judged along a decoding run, because that is what it is for: the NumPy loop of `runtime.decode` runs on
torch's logits and the NumPy sampler; the codes and uniforms of every step are then given to the exported graph, which
must draw the same tokens. Rounding that grows over steps is thereby not mistaken for an error of the graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engines.base import Array, Engine, Feeds
from engines.contract import FloatArray, Graph, Int32Array, ModelConfig, graphs
from engines.feeds import CODEC_CHUNK, conditional_only, positions, step_conditions
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
    """How far a precision may be from torch; a number that is exceeded fails the export."""

    relative: float  # max abs difference over the largest magnitude of the output
    tokens: float  # share of equal tokens of `step`, at masked positions
    logp: float  # max abs difference where tokens are equal
    codes: float  # share of equal decisions of `codec_encoder` (see code_agreement)


LIMITS = {
    "fp32": Limits(relative=1e-4, tokens=0.999, logp=1e-4, codes=0.999),
    "fp16": Limits(relative=1e-2, tokens=0.99, logp=2e-2, codes=0.97),  # stored as fp16, computed in fp32
    # a floor for broken graphs: what other tokens sound like is for benchmarks.scenes to say, with both bundles
    "int8": Limits(relative=0.0, tokens=0.60, logp=100.0, codes=1.0),  # for step only
}


@dataclass(frozen=True)
class Trial:
    """One size of the inputs: candidates, token frames, whether [NULL] is there, and unmasking steps."""

    batch: int
    tokens: int
    null: bool = True
    steps: int = 8


Trials = tuple[Trial, ...]


def default_trials(config: ModelConfig) -> Trials:
    """A whole window with guidance, and one second of two candidates without."""
    return Trial(1, config.window_tokens), Trial(2, config.n_tokens(config.sample_rate), null=False)


@dataclass(frozen=True)
class Parity:
    """What was measured, and in words which limits it exceeds."""

    numbers: Numbers
    failures: tuple[str, ...]


# ---------------------------------------------------------------- inputs
def sizes(config: ModelConfig, graph: str, trial: Trial) -> dict[str, int]:
    """What the axis letters stand for in a trial: half a second at least; the codec gets a chunk, as at run time."""
    tokens = trial.tokens
    if graph not in ("step", "condition"):
        tokens = max(tokens, config.n_tokens(config.sample_rate // 2))
    if graph.startswith("codec"):
        tokens = min(tokens, CODEC_CHUNK + 2 * config.codec_context)
    seconds = tokens * config.hop_length / config.sample_rate
    n, s = config.n_clip(tokens), config.n_sync(tokens)
    pairs = condition_indices(config, tokens, n, s).get("clip_index", ())
    rate = config.audio_rate if graph == "audio_encoder" else config.sample_rate
    letters = {"B": trial.batch, "T": tokens, "N": n, "S": s, "Y": config.n_sync_frames(tokens), "C": len(pairs)}
    steps = max(1, round(seconds * config.audio_rate / config.audio_stride))
    return letters | {"L": round(seconds * rate), "A": steps}


def sound(rng: np.random.Generator, batch: int, samples: int) -> FloatArray:
    """Decaying tones and noise [B, L] at moderate level: structure for the audio networks to hear."""
    time = np.arange(samples) / samples
    cycles = samples * 0.5 * rng.random((batch, 4, 1)) ** 3
    tones = np.sin(2 * np.pi * cycles * time) * np.exp(-6 * ((time - rng.random((batch, 4, 1))) % 1))
    return (0.1 * tones.sum(axis=1) + 0.01 * rng.standard_normal((batch, samples))).astype(np.float32)


def random_inputs(config: ModelConfig, graph: Graph, letters: dict[str, int]) -> Feeds:
    """Inputs of a graph other than `step`, of plausible ranges."""
    rng = np.random.default_rng(SEED)
    feeds: Feeds = dict(condition_indices(config, letters["T"], letters["N"], letters["S"]))
    feeds["interpolation"] = interpolation_matrix(letters["A"], letters["N"])
    for spec in graph.inputs:
        shape = [axis if isinstance(axis, int) else letters[axis] for axis in spec.axes]
        if spec.name == "frames":
            feeds[spec.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif spec.name == "codes":
            feeds[spec.name] = rng.integers(0, config.codebook_size, shape, dtype=np.int32)
        elif spec.name == "audio":
            feeds[spec.name] = sound(rng, shape[0], shape[1])
        elif spec.name not in feeds:  # features: of unit length, as the frame encoder gives them
            values = rng.standard_normal(shape, dtype=np.float32)
            feeds[spec.name] = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return {spec.name: feeds[spec.name] for spec in graph.inputs}


def run_torch(module: nn.Module, graph: Graph, feeds: Feeds) -> Feeds:
    """The reference: the same module, eager, in float32."""
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(feeds[spec.name]) for spec in graph.inputs))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {spec.name: value.numpy() for spec, value in zip(graph.outputs, outputs, strict=True)}


# ---------------------------------------------------------------- graphs other than step
def code_agreement(reference: Int32Array, codes: Int32Array) -> tuple[int, int]:
    """Equal and comparable decisions of a residual quantiser, codes [B, K, T].

    A codebook quantises what the earlier ones left, so after a frame's first difference the two runs decide about
    different residuals: those decisions are not compared.
    """
    equal = reference == codes
    comparable = np.concatenate([np.ones_like(equal[:, :1]), np.cumprod(equal[:, :-1], axis=1, dtype=bool)], axis=1)
    return int((equal & comparable).sum()), int(comparable.sum())


def largest_difference(want: Array, got: Array) -> float:
    """Max abs difference; infinite where shapes differ or a number is not finite, so that no limit holds."""
    if want.shape != got.shape:
        return float("inf")
    value = float(np.abs(want.astype(np.float64) - got).max(initial=0.0))
    return value if np.isfinite(value) else float("inf")


def graph_parity(module: nn.Module, engine: Engine, config: ModelConfig, trials: Trials, limit: Limits) -> Parity:
    """Max abs difference of every output, and relative to its scale; for codes the share of equal decisions."""
    graph = engine.graph
    max_abs = relative = 0.0
    equal = compared = 0
    for trial in trials:
        feeds = random_inputs(config, graph, sizes(config, graph.name, trial))
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
    failures = () if relative <= limit.relative else (f"relative difference {relative:.2e} > {limit.relative:.0e}",)
    return Parity({"against": "torch fp32", "max_abs": max_abs, "relative": relative}, failures)


# ---------------------------------------------------------------- step
def condition_feeds(modules: dict[str, nn.Module], config: ModelConfig, trial: Trial) -> Feeds:
    """`step_feeds` by torch's `condition`."""
    graph = graphs(config)["condition"]
    return step_feeds(lambda feeds: run_torch(modules["condition"], graph, feeds), config, trial)


def step_feeds(run_condition: Callable[[Feeds], Feeds], config: ModelConfig, trial: Trial) -> Feeds:
    """What `step` gets of a video: what `condition` makes of it, without [NULL] where the trial has none."""
    letters = sizes(config, "condition", trial)
    inputs = random_inputs(config, graphs(config)["condition"], letters)
    features = {name: inputs[name] for name in ("clip_features", "sync_features") if name in inputs}
    feeds = step_conditions(config, letters["T"], features, run_condition)
    return feeds if trial.null else conditional_only(feeds)


def logits_reference(model: MaskVAT, trial: Trial) -> LogitsFn:
    """codes -> conditional and null logits, each [B, K, T, V], from two plain passes of the network.

    The same video as that of `condition_feeds`, but by the way that training takes.
    """
    config = model.config
    graph, letters = graphs(config)["condition"], sizes(config, "condition", trial)
    features = {k: torch.from_numpy(v) for k, v in random_inputs(config, graph, letters).items()}
    arrays = condition_indices(config, letters["T"], letters["N"], letters["S"])
    indices = {k: torch.from_numpy(v) for k, v in arrays.items()}
    with torch.no_grad():
        condition = model.condition(features["clip_features"], features.get("sync_features"), indices)
        null = model.null_condition(letters["N"], letters["S"], indices)

    def both(codes: Int32Array, with_null: bool) -> tuple[FloatArray, FloatArray | None]:
        given = torch.from_numpy(codes)
        chosen = (condition, null) if with_null and trial.null else (condition,)
        with torch.no_grad():
            logits = [np.asarray(model.logits(model.hidden(given, c)).numpy()) for c in chosen]
        return logits[0], logits[1] if len(logits) == 2 else None

    return both


@dataclass(frozen=True)
class Moment:
    """One step of the reference's run."""

    codes: Int32Array
    u: FloatArray
    tokens: Int32Array
    logp: FloatArray


Run = tuple[Feeds, list[Moment]]  # the conditions of `step`, and what was drawn under them


def reference_run(model: MaskVAT, trial: Trial) -> list[Moment]:
    """`recorded` with the plain network and the NumPy sampler."""
    return recorded(step_from_logits(logits_reference(model, trial), GUIDANCE), model.config, trial)


def recorded(step: StepFn, c: ModelConfig, trial: Trial) -> list[Moment]:
    """Decode a whole window with a step function and keep every step."""
    moments = list[Moment]()
    shape = (trial.batch, c.n_codebooks, trial.tokens)

    def noise(n: int) -> tuple[FloatArray, FloatArray]:
        rng = np.random.default_rng((SEED, n))
        return rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)

    def kept(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        tokens, logp = step(codes, u)
        moments.append(Moment(codes.copy(), u, tokens, logp))
        return tokens, logp

    start = np.full(shape, c.mask_token, np.int32)
    decode(kept, start, noise, mask_token=c.mask_token, steps=trial.steps, diversity=DIVERSITY)
    return moments


def moment_feeds(moment: Moment, mask_token: int) -> Feeds:
    """What `step` gets beside the conditions: it draws where the moment is masked."""
    index = positions(moment.codes == mask_token)
    u = np.take_along_axis(moment.u, index, -1)
    return {"codes": moment.codes, "index": index, "u": u, "guidance": np.array(GUIDANCE, np.float32)}


def step_parity(runs: list[Run], engine: Engine, mask_token: int, limit: Limits) -> Parity:
    """Give the engine the codes and uniforms of the reference's runs, and count equal tokens at masked positions."""
    equal = total = 0
    max_abs = sum_abs = 0.0
    for feeds, moments in runs:
        for moment in moments:
            given = moment_feeds(moment, mask_token)
            whole = (moment.codes == mask_token, moment.tokens, moment.logp)
            asked, tokens, logp = (np.take_along_axis(x, given["index"], -1) for x in whole)
            got = engine.run(given | feeds)
            same = asked & (got["tokens"] == tokens)
            equal, total = equal + int(same.sum()), total + int(asked.sum())
            max_abs = max(max_abs, largest_difference(logp[same], got["logp"][same]))
            sum_abs += float(np.abs(logp - got["logp"])[same].sum())
    share = equal / total
    failures = [] if share >= limit.tokens else [f"equal tokens {share:.4f} < {limit.tokens}"]
    if not max_abs <= limit.logp:
        failures.append(f"logp differs by {max_abs:.2e} > {limit.logp:.0e}")
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
    """Parity of every graph's file of a bundle, by file name. `modules` are the unrounded, unfolded torch graphs."""
    trials = trials or default_trials(config)
    all_graphs, runs = graphs(config), list[Run]()
    out: dict[str, Parity] = {}
    for name, entry in files.items():
        if not entry.graph:
            continue
        engine, limit = OrtEngine(folder / name, all_graphs[entry.graph], "cpu"), LIMITS[entry.precision]
        if entry.graph == "step":
            if not runs:  # once for all precisions
                conditions = [condition_feeds(modules, config, trial) for trial in trials]
                model = modules["condition"].model
                runs = [(feeds, reference_run(model, t)) for feeds, t in zip(conditions, trials, strict=True)]
            out[name] = step_parity(runs, engine, config.mask_token, limit)
        else:
            out[name] = graph_parity(modules[entry.graph], engine, config, trials, limit)
    return out
