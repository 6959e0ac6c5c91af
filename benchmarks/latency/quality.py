"""Quality beside the speed: how far another backend or precision draws the same tokens, and how well onsets fit.

Tokens are compared with the fp32 step on the CPU at equal uniforms, in the runtime's own loop: with the codes of every
step given (the other step only answers, the reference's tokens are kept), and free-running, where one differing token
changes what comes after it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.latency.subjects import Subject, precisions, view
from engines.contract import FloatArray, Int32Array
from runtime import candidates
from runtime import decode as loop

Moment = tuple[Int32Array, Int32Array, FloatArray]  # codes that a step was given, its tokens, their log-probabilities
Wrap = Callable[[Any], Any]


@contextmanager
def wrapped_steps(wrap: Wrap) -> Iterator[None]:
    """While it is open, the runtime's loop runs wrap(step) in place of its step function."""
    advance = loop.advance

    def wrapped(rows: loop.DecodeState, step_fn: Any, *rest: Any) -> None:
        advance(rows, wrap(step_fn), *rest)

    candidates.advance = wrapped  # type: ignore[assignment]
    try:
        yield
    finally:
        candidates.advance = advance


def recording(moments: list[Moment]) -> Wrap:
    """Steps that write down what they are given and what they draw."""

    def wrap(step_fn: Any) -> Any:
        def step(codes: Int32Array, *rest: Any) -> tuple[Int32Array, FloatArray]:
            given = codes.copy()
            tokens, logp = step_fn(codes, *rest)
            moments.append((given, tokens.copy(), logp.copy()))
            return tokens, logp

        return step

    return wrap


def forced(moments: list[Moment], mask_token: int, equal: list[tuple[int, int]]) -> Wrap:
    """Steps that answer with the recorded tokens, and count where their own were the same at masked positions."""
    remaining = iter(moments)

    def wrap(step_fn: Any) -> Any:
        def step(codes: Int32Array, *rest: Any) -> tuple[Int32Array, FloatArray]:
            given, tokens, logp = next(remaining)
            if not np.array_equal(codes, given):
                raise runtime.MaskVATError("the loop does not repeat itself with the recorded tokens: a bug here")
            mine = step_fn(codes, *rest)[0]
            masked = given == mask_token
            equal.append((int((mine == tokens)[masked].sum()), int(masked.sum())))
            return tokens, logp

        return step

    return wrap


class Reference:
    """The fp32 step on the CPU, run once for a clip."""

    def __init__(self, subject: Subject, clip: Path, sampling: runtime.SamplingConfig, folder: Path) -> None:
        have = [p for p in ("fp32", "fp16") if p in precisions(subject, "cpu")]  # a CPU computes both in fp32
        if not have:
            raise runtime.OptionError(f"{subject.name} has no fp32 or fp16 step to compare with; export it with one")
        self.precision, self.clip, self.sampling, self.folder = have[0], clip, sampling, folder
        self.moments: list[Moment] = []
        pipeline = runtime.load(view(subject, "cpu", self.precision, folder), "cpu")
        self.mask_token = pipeline.config.mask_token
        with wrapped_steps(recording(self.moments)):
            self.codes = pipeline.generate(clip, sampling)[0].codes

    @property
    def constant(self) -> bool:
        """Whether every codebook has one token from begin to end, as silence has: nothing to agree about."""
        return bool((self.codes == self.codes[:, :1]).all())

    def agreement(self, subject: Subject, backend: str, precision: str) -> dict[str, Any]:
        """Shares of equal tokens of one backend and precision."""
        pipeline = runtime.load(view(subject, backend, precision, self.folder), backend)
        equal: list[tuple[int, int]] = []
        with wrapped_steps(forced(self.moments, self.mask_token, equal)):
            pipeline.generate(self.clip, self.sampling)
        free = pipeline.generate(self.clip, self.sampling)[0].codes
        same, compared = (sum(column) for column in zip(*equal, strict=True))
        return {
            "against": f"{self.precision} on cpu",
            "steps": self.sampling.steps,
            "tokens_equal_given": same / compared,
            "tokens_compared": compared,
            "tokens_equal_free": float((free == self.codes).mean()),
            "distinct_tokens": [len(np.unique(row)) for row in self.codes],  # the reference's, by codebook
            "trained": subject.trained,
        }


def onset_scores(
    bundle: Path, backend: str, clips: Path, limit: int, options: list[dict[str, Any]]
) -> list[dict[str, Any] | None]:
    """Onset F1 within 50 ms, mean over clips with its interval, for every set of sampling options."""
    from benchmarks.common.caching_pipeline import CachingPipeline
    from benchmarks.scan import measure, read_true_tracks
    from train.evaluate.bootstrap import summarise

    tracks = [t for t in read_true_tracks(clips, limit) if not t.silent and len(t.onsets)]
    if not tracks:
        raise runtime.OptionError(f"no clip in {clips} has onsets in its true sound; onset F1 needs some")
    pipeline = CachingPipeline(bundle, backend)
    rows = [[measure(t, pipeline, chosen, seeds=2)[0]["f1"] for t in tracks] for chosen in options]
    return [summarise(row) for row in rows]
