"""Made-up frame features while training: what the frame encoder would give for a video that shows certain concepts.

A part of the examples get the vectors of the bundle's vocabulary instead, alone or blended with other pictures, as a
prompt gives them at run time (engines.words.prompts). So the network learns to follow a prompt, too.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OptionError
from train.data.video_files import Shown
from train.errors import RecipeError
from train.synthetic.concepts.features import (
    ClassifierHead,
    FeatureMaker,
    Span,
    class_roots,
    concept_vectors,
    unit_features,
)
from train.synthetic.concepts.table import CLASSES, Concept, membership, read_table

PROMPTED = 0.15  # share of examples that get vectors of the vocabulary
BLENDED = 0.5  # share of these in which they are blended with another picture
WEIGHT = (0.5, 0.95)  # of the word in such a blend; a word without a blend has weight 1


class MadeUpFeatures:
    """Makes frame features [N, width] at `fps` for what is seen; the same generator gives the same features.

    The width says which, as for the two kinds of the small frame encoder: 1000 for square roots of class probabilities,
    or the width of the pooled features for pooled features of length 1.
    """

    def __init__(self, maker: FeatureMaker, width: int, fps: int) -> None:
        pooled = maker.head.weight.shape[1]
        if width not in (CLASSES, pooled):
            raise RecipeError(
                f"the frame encoder's features are {width} wide; made-up ones are {CLASSES} or {pooled} wide"
            )
        self.maker, self.width, self.fps = maker, width, fps
        self._vectors = concept_vectors(maker.table)
        # [concepts, 1000]: 1 for the classes of a concept; None for pooled features, which have no vocabulary
        self.words = membership(maker.table) if width == CLASSES else None
        self._index = {concept.name: k for k, concept in enumerate(maker.table)}

    def __call__(self, shown: Sequence[Shown], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """`shown` is empty for a video that shows nothing known. Raises ValueError if the table lacks a concept."""
        spans = self._spans(shown, count)
        if self.width != CLASSES:  # a bundle with these features has no vocabulary
            return unit_features(self.maker.pooled(spans, rng))
        prompted = rng.random() < PROMPTED
        weight = 1.0 if rng.random() >= BLENDED else rng.uniform(*WEIGHT)
        seen = [Span(0, count)] if prompted else spans
        features = class_roots(self.maker.head.probabilities(self.maker.pooled(seen, rng)))
        return self._prompted(features, spans, weight) if prompted else features

    def _prompted(self, features: NDArray[np.float32], spans: Sequence[Span], weight: float) -> NDArray[np.float32]:
        """Features [N, 1000] with the vocabulary's vectors of the concepts of each span, blended in by `weight`."""
        for span in spans:
            if span.shown:
                inside = slice(span.begin, span.end)
                word = unit_features(sum(share * self._vectors[index] for index, share in span.shown.items()))
                features[inside] = unit_features((1 - weight) * features[inside] + weight * word)
        return features

    def _spans(self, shown: Sequence[Shown], count: int) -> list[Span]:
        """Spans of frames: a frame shows what is seen at its middle. A time between spans shows what follows."""
        unknown = sorted({name for *_, names in shown for name in names} - set(self._index))
        if unknown:
            raise ValueError(f"it shows concepts that the table lacks: {', '.join(unknown)}")
        if not shown:
            return [Span(0, count)]
        ends = [0, *(min(count, max(0, round(end * self.fps))) for _, end, _ in shown[:-1]), count]
        found = zip(pairwise(ends), shown, strict=True)
        return [
            Span(first, last, {self._index[name]: weight for name, weight in names.items()})
            for (first, last), (_, _, names) in found
            if last > first
        ]


def made_up_features(file: str, width: int, fps: int, table: list[Concept] | None = None) -> MadeUpFeatures | None:
    """Read the file that train.prepare.backgrounds writes; None if there is no name. Raises RecipeError."""
    if not file:
        return None
    try:
        with np.load(Path(file)) as arrays:
            head = ClassifierHead(arrays["weight"], arrays["bias"])
            pooled, lengths = arrays["pooled"].astype(np.float32), arrays["lengths"]
        backgrounds = [part for part in np.split(pooled, np.cumsum(lengths)[:-1]) if len(part)]
        maker = FeatureMaker(table or read_table(), head, backgrounds)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, OptionError) as error:
        raise RecipeError(
            f"task.concepts: {file} cannot be used ({error}); make it with `python -m train.prepare.backgrounds`"
        ) from error
    return MadeUpFeatures(maker, width, fps)
