"""Validation by generated samples.

The paper trains until an aggregate of masked-token accuracy, mean FD and WaveCLIP stops improving. Prepared examples
contain codes and no sound, so the reference here is the codec's output for the true codes.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.contract import FloatArray, Int32Array
from runtime.audio import resample
from runtime.decode import decode
from train.data.batch import Batch
from train.distributed import gather_objects, rank, world_size
from train.loop.reporting import Sample
from train.loop.tensorboard_images import onset_strip, spectrogram, stacked
from train.metrics import METRICS, MissingWeights, Moments, Pair, Sound, frechet_distance_of
from train.metrics.onsets import FRAME_RATE, RATE, onset_strength, pick_onsets
from train.recipe import COUNT, NATURAL, Ranges

NOISE = 3  # number of a random stream; train.data.sample_order uses the others
LOGGED = 4  # examples whose sound and pictures are logged
Logits = Callable[[Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Options of generated validation in a recipe's [task] table."""

    RANGES: ClassVar[Ranges] = {
        "generate_count": NATURAL,
        "generate_batch": COUNT,
        "generate_steps": COUNT,
        "generate_guidance": NATURAL,
        "generate_diversity": NATURAL,
    }
    generate_count: int = 0  # validation examples to generate sound for every loop.generate_every steps
    generate_batch: int = 8
    generate_steps: int = 32
    generate_guidance: float = 3.0  # paper: 2 to 4
    generate_diversity: float = 8.0
    metric_weights: str = ""  # folder of official weights; a metric whose file is missing is skipped


class Codec(Protocol):
    def decode(self, codes: Tensor) -> Tensor: ...


# ---------------------------------------------------------------- generating
def guided_step(
    logits: Logits, batch: Batch, guidance: float, mask_token: int
) -> Callable[[Int32Array, FloatArray], tuple[Int32Array, FloatArray]]:
    """Make a step function for runtime.decode from the conditions of a batch; it samples on the device.

    Equal to the slow reference runtime.decode.step_from_logits, except for rounding.
    """
    rows = 2 if guidance else 1  # with the video, and with [NULL]
    many = Batch(*(torch.cat([value] * rows) for value in vars(batch).values()))
    many.drop[:] = torch.arange(len(many.drop), device=many.drop.device) >= len(batch.drop)

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        now = torch.from_numpy(codes).to(batch.codes).repeat(rows, 1, 1)
        found = logits(replace(many, codes=now, mask=now == mask_token)).float().chunk(rows)
        guided = (1 + guidance) * found[0] - guidance * found[1] if guidance else found[0]
        logp = guided.log_softmax(dim=-1)
        cdf = logp.exp().cumsum(dim=-1)
        level = torch.from_numpy(u).to(cdf)[..., None] * cdf[..., -1:]
        tokens = (cdf <= level).sum(dim=-1).clamp(max=cdf.shape[-1] - 1)
        chosen = logp.gather(-1, tokens[..., None])[..., 0]
        return tokens.int().cpu().numpy(), chosen.cpu().numpy()

    return step


def generate(
    logits: Logits, batch: Batch, chosen: list[int], options: GenerationOptions, mask_token: int, seed: int
) -> Int32Array:
    """Generate codes [B, K, T] for the videos of a batch. The numbers of its examples, `chosen`, seed the noise."""
    shape = tuple(batch.codes.shape[1:])

    def noise(n: int) -> tuple[FloatArray, FloatArray]:
        rows = [np.random.default_rng([NOISE, seed, i, n]).random((2, *shape), dtype=np.float32) for i in chosen]
        u, gumbel = np.stack(rows, axis=1)
        return u, gumbel

    step = guided_step(logits, batch, options.generate_guidance, mask_token)
    start = np.full((len(chosen), *shape), mask_token, np.int32)
    how = {"steps": options.generate_steps, "diversity": options.generate_diversity, "mask_token": mask_token}
    return decode(step, start, noise, **how)


# ---------------------------------------------------------------- scoring
def pictures(sounds: list[NDArray[np.float32]], rate: int) -> dict[str, NDArray[np.uint8]]:
    """Spectrograms and onset strips of sounds [L], each above each other."""
    strengths = [onset_strength(resample(sound, rate, RATE)) for sound in sounds]
    strips = [onset_strip(s, np.round(pick_onsets(s) * FRAME_RATE).astype(int)) for s in strengths]
    return {"spectrograms": stacked([spectrogram(sound) for sound in sounds]), "onsets": stacked(strips)}


class Scores:
    """All metrics whose weights are available, and their combination over examples."""

    def __init__(self, weights: str, device: str) -> None:
        self.measures = {}
        for metric in METRICS.values():
            if metric.video:
                continue
            try:
                self.measures[metric.name] = (metric, metric.load(Path(weights) if weights else None, device))
            except (MissingWeights, ModuleNotFoundError) as error:
                if rank() == 0:
                    print(error, file=sys.stderr)

    def score(self, pair: Pair) -> dict[str, Any]:
        """Scores of an example by column: a number, or for a set metric the moments of both sounds."""
        found: dict[str, Any] = {}
        for name, (metric, measure) in self.measures.items():
            if metric.per == "set":
                found[name] = (Moments.of(measure(pair.generated)), Moments.of(measure(pair.reference)))
            else:
                found |= measure(pair)
        return found

    def combine(self, scored: list[dict[str, Any]]) -> dict[str, float]:
        """One number per column over all examples; set metrics become Frechet distances."""
        out: dict[str, float] = {}
        for name in scored[0]:
            values = [scores[name] for scores in scored]
            if isinstance(values[0], tuple):
                ours, truth = ([pair[k] for pair in values] for k in (0, 1))
                out[name] = frechet_distance_of(sum(ours[1:], ours[0]), sum(truth[1:], truth[0]))
            elif not np.isnan(values).all():
                out[name] = float(np.nanmean(values))
        return out

    def aggregate(self, accuracy: float, scores: dict[str, float]) -> float:
        """Masked-token accuracy + 1 / (1 + mean Frechet distance) + WaveCLIP: higher is better.

        Each term lies in [0, 1], so that none dominates; the paper does not state its weights. WaveCLIP is left out if
        its weights are missing.
        """
        distances = [scores[name] for name, (metric, _) in self.measures.items() if metric.per == "set"]
        return accuracy + 1 / (1 + max(0.0, float(np.mean(distances)))) + scores.get("WC", 0.0)


class GeneratedValidation:
    """Generates sound for validation examples and scores it; the examples are split over the processes."""

    def __init__(self, options: GenerationOptions, codec: Codec, rate: int, device: torch.device) -> None:
        self.options, self.codec, self.rate = options, codec, rate
        self.scores = Scores(options.metric_weights, str(device))

    def sounds(self, codes: Tensor) -> NDArray[np.float32]:
        return self.codec.decode(codes.int()).float().cpu().numpy()

    def __call__(
        self, logits: Logits, batches: Callable[[list[int]], Batch], mask_token: int, seed: int
    ) -> tuple[dict[str, float], list[Sample]]:
        """Return scores by name and the first samples. `batches` gives conditions and true codes."""
        o = self.options
        each = -(-o.generate_count // world_size())  # equal in all processes, because FSDP needs them in step
        own = [min(rank() + k * world_size(), o.generate_count - 1) for k in range(each)]
        found: dict[int, dict[str, Any]] = {}
        samples = []
        for first in range(0, len(own), o.generate_batch):
            chosen = own[first : first + o.generate_batch]
            batch = batches(chosen)
            codes = generate(logits, batch, chosen, o, mask_token, seed)
            generated, truth = self.sounds(torch.from_numpy(codes).to(batch.codes)), self.sounds(batch.codes)
            for i, ours, true in zip(chosen, generated, truth, strict=True):
                found[i] = self.scores.score(Pair(Sound(ours, self.rate), Sound(true, self.rate)))
                if i < LOGGED * world_size():
                    samples.append(Sample(f"example{i}", ours, true, self.rate, pictures([ours, true], self.rate)))
        scored = dict(pair for part in gather_objects(found) for pair in part.items())
        return self.scores.combine([scored[i] for i in sorted(scored)]), samples
