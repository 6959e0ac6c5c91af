"""Simulated videos that show concepts: which ones when, and frame features that show them.

A simulated picture shows no dog. So a bundle gets made-up frame features of the concepts instead of those of its frame
encoder (train.synthetic.concepts.features). Everything else, above all the timing, comes from the picture.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import runtime
from benchmarks.common.caching_pipeline import CachingBundle
from benchmarks.common.real_videos import pooled_features
from engines.backends import AUTO
from engines.base import Array
from runtime.errors import MediaError
from train.models.mobilenet import MobileNetV2
from train.synthetic.concepts.features import ClassifierHead, FeatureMaker, Span, class_roots, unit_features
from train.synthetic.concepts.table import CLASSES, Concept

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shown:
    """Concepts that are seen and heard from `begin` to `end` (s), with weights that sum to 1; empty: none is known."""

    begin: float
    end: float
    concepts: dict[str, float]


def read_shown(video: Path) -> list[Shown]:
    """What a simulated video shows, from the field `concepts` of its ID.json; empty if there is no such field.

    Raises MediaError if the field is damaged.
    """
    label = video.with_suffix(".json")
    if not label.is_file():
        return []
    try:
        spans = json.loads(label.read_text(encoding="utf-8")).get("concepts", [])
        return [Shown(float(b), float(e), {str(n): float(w) for n, w in names.items()}) for b, e, names in spans]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise MediaError(f"{label} cannot be used ({error!r}); make it with train.synthetic.sounding") from error


class FeaturesOfShown:
    """Makes frame features for simulated videos. A video's own picture is the background of its features.

    All bundles of one width get the same features for one video.
    """

    def __init__(self, table: list[Concept], encoder: MobileNetV2, head: ClassifierHead) -> None:
        self.table, self.encoder, self.head = table, encoder, head
        self.index = {concept.name: k for k, concept in enumerate(table)}

    def of_track(self, path: Path, shown: Sequence[Shown], pipeline: runtime.Pipeline) -> Floats:
        """Features for a bundle, for a video that shows this. They last a little longer than the video.

        Raises MediaError with the video's name for an unknown concept.
        """
        fps, width = pipeline.config.frame_fps, pipeline.config.frame_dim
        count = math.ceil(shown[-1].end * fps) + 2
        try:
            return self.make(shown, pooled_features(path, self.encoder), count, fps, width)
        except MediaError as error:
            raise MediaError(f"{path}: {error}") from error

    def make(self, shown: Sequence[Shown], background: Floats, count: int, fps: float, width: int) -> Floats:
        """Features [count, width] of spans that follow each other, with a background of pooled features [N, D].

        Raises MediaError for an unknown concept, OptionError for a bundle with another kind of frame encoder.
        """
        if unknown := sorted({name for span in shown for name in span.concepts} - set(self.index)):
            raise MediaError(f"it shows concepts that the table lacks: {', '.join(unknown)}")
        pooled_width = self.head.weight.shape[1]
        if width not in (CLASSES, pooled_width):
            raise runtime.OptionError(
                f"the bundle's frame features are {width} wide; made-up ones are {CLASSES} or {pooled_width} wide"
            )
        ends = [min(count, round(span.end * fps)) for span in shown[:-1]] + [count]
        spans = [
            Span(begin, end, {self.index[name]: weight for name, weight in span.concepts.items()})
            for begin, end, span in zip([0, *ends[:-1]], ends, shown, strict=True)
            if end > begin
        ]
        rng = np.random.default_rng(0)
        pooled = FeatureMaker(self.table, self.head, [background]).pooled(spans, rng)
        return class_roots(self.head.probabilities(pooled)) if width == CLASSES else unit_features(pooled)


class ShownBundle(CachingBundle):
    """A bundle whose frame encoder gives `shown` [N, D], frame after frame, if that is not None."""

    shown: Floats | None = None
    video: Path | None = None
    _next = 0

    def show(self, features: Floats | None, video: Path | None = None) -> None:
        """Give these features to the next video, from its first frame on. Errors name the video."""
        self.shown, self.video, self._next = features, video, 0

    def run(self, graph: str, **feeds: Array) -> tuple[Array, ...]:
        if graph != "frame_encoder" or self.shown is None:
            return super().run(graph, **feeds)
        begin, self._next = self._next, self._next + len(feeds["frames"])
        if self._next > len(self.shown):
            raise runtime.OptionError(f"{self.video or 'the video'} is longer than one window; give shorter videos")
        return (self.shown[begin : self._next],)


class ShownPipeline(runtime.Pipeline):
    """A pipeline with a ShownBundle."""

    bundle: ShownBundle

    def __init__(
        self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0, precision: str = AUTO
    ) -> None:
        super().__init__(ShownBundle(folder, backend, threads, precision))
