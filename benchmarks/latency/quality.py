"""Quality of a backend or precision: agreement of tokens with fp32, and onset F1.

Tokens are compared with the fp32 step on the CPU, in the runtime's loop with equal random numbers, in two ways:
teacher-forced (every step gets the codes of the reference) and free-running (one differing token changes all later
steps).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.latency.subjects import Subject, precisions, select_precision
from engines.contract import FloatArray, Int32Array
from runtime import candidates
from runtime import decode as loop

Moment = tuple[Int32Array, Int32Array, FloatArray]  # codes given to a step, the drawn tokens, their log-probabilities
Wrap = Callable[[Any], Any]


@contextmanager
def wrapped_steps(wrap: Wrap) -> Iterator[None]:
    """Context in which the runtime's loop calls wrap(step) instead of its step function."""
    advance = loop.advance

    def wrapped(rows: loop.DecodeState, step_fn: Any, *rest: Any) -> None:
        advance(rows, wrap(step_fn), *rest)

    candidates.advance = wrapped  # type: ignore[assignment]
    try:
        yield
    finally:
        candidates.advance = advance


def recording(moments: list[Moment]) -> Wrap:
    """Wrap a step so that it records its codes, tokens and log-probabilities in `moments`."""

    def wrap(step_fn: Any) -> Any:
        def step(codes: Int32Array, *rest: Any) -> tuple[Int32Array, FloatArray]:
            given = codes.copy()
            tokens, logp = step_fn(codes, *rest)
            moments.append((given, tokens.copy(), logp.copy()))
            return tokens, logp

        return step

    return wrap


def teacher_forced(moments: list[Moment], mask_token: int, equal: list[tuple[int, int]]) -> Wrap:
    """Wrap a step so that it returns the recorded tokens; append (equal, compared) counts of its own masked tokens."""
    remaining = iter(moments)

    def wrap(step_fn: Any) -> Any:
        def step(codes: Int32Array, *rest: Any) -> tuple[Int32Array, FloatArray]:
            given, tokens, logp = next(remaining)
            if not np.array_equal(codes, given):
                raise runtime.MaskVATError("a bug in this benchmark: the loop differs with the recorded tokens")
            own = step_fn(codes, *rest)[0]
            masked = given == mask_token
            equal.append((int((own == tokens)[masked].sum()), int(masked.sum())))
            return tokens, logp

        return step

    return wrap


class Reference:
    """One run of a clip with the fp32 step on the CPU."""

    def __init__(self, subject: Subject, video: Path, sampling: runtime.SamplingConfig, folder: Path) -> None:
        usable = [p for p in ("fp32", "fp16") if p in precisions(subject, "cpu")]  # CPUs compute both in fp32
        if not usable:
            raise runtime.OptionError(f"{subject.name} has no fp32 or fp16 step to compare with; export it with one")
        self.precision, self.video, self.sampling, self.folder = usable[0], video, sampling, folder
        self.moments: list[Moment] = []
        pipeline = runtime.load(select_precision(subject, "cpu", self.precision, folder), "cpu")
        self.mask_token = pipeline.config.mask_token
        with wrapped_steps(recording(self.moments)):
            self.codes = pipeline.generate(video, sampling)[0].codes

    @property
    def constant(self) -> bool:
        """Whether every codebook has only one token, as in silence. Agreement then means nothing."""
        return bool((self.codes == self.codes[:, :1]).all())

    def agreement(self, subject: Subject, backend: str, precision: str) -> dict[str, Any]:
        """Shares of equal tokens for one backend and precision."""
        pipeline = runtime.load(select_precision(subject, backend, precision, self.folder), backend)
        equal: list[tuple[int, int]] = []
        with wrapped_steps(teacher_forced(self.moments, self.mask_token, equal)):
            pipeline.generate(self.video, self.sampling)
        free = pipeline.generate(self.video, self.sampling)[0].codes
        same, compared = (sum(column) for column in zip(*equal, strict=True))
        return {
            "against": f"{self.precision} on cpu",
            "steps": self.sampling.steps,
            "tokens_equal_given": same / compared,
            "tokens_compared": compared,
            "tokens_equal_free": float((free == self.codes).mean()),
            "distinct_tokens": [len(np.unique(row)) for row in self.codes],  # of the reference, by codebook
            "trained": subject.trained,
        }


def onset_scores(
    bundle: Path, backend: str, videos: Path, limit: int, options: list[dict[str, Any]]
) -> list[dict[str, Any] | None]:
    """Onset F1 within 50 ms for every set of sampling options: mean over clips, with its interval."""
    from benchmarks.common.caching_pipeline import CachingPipeline
    from benchmarks.common.true_track import read_true_tracks, score_takes
    from train.evaluate.bootstrap import summarise

    tracks = [t for t in read_true_tracks(videos, limit) if not t.silent and len(t.onsets)]
    if not tracks:
        raise runtime.OptionError(f"no clip in {videos} has onsets in its true sound; onset F1 needs some")
    pipeline = CachingPipeline(bundle, backend)
    rows = []
    for chosen in options:
        configs = [runtime.SamplingConfig(seed=seed, **chosen) for seed in range(2)]
        takes = [[pipeline.generate(track.path, config)[0] for config in configs] for track in tracks]
        rows.append([score_takes(track, own)["f1"] for track, own in zip(tracks, takes, strict=True)])
    return [summarise(row) for row in rows]
