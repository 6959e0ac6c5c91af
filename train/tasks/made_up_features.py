"""Made-up frame features while training: what the frame encoder would give for a video that shows certain concepts."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OptionError
from train.data.video_files import Shown
from train.errors import RecipeError
from train.synthetic.concepts.features import ClassifierHead, FeatureMaker, Span, class_roots, unit_features
from train.synthetic.concepts.table import CLASSES, Concept, read_table


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
        self._index = {concept.name: k for k, concept in enumerate(maker.table)}

    def __call__(self, shown: Sequence[Shown], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Raises ValueError if `shown` is empty, or if the table lacks a concept."""
        pooled = self.maker.pooled(self._spans(shown, count), rng)
        if self.width == CLASSES:
            return class_roots(self.maker.head.probabilities(pooled))
        return unit_features(pooled)

    def _spans(self, shown: Sequence[Shown], count: int) -> list[Span]:
        """Spans of frames: a frame shows what is seen at its middle. A time between spans shows what follows."""
        if not shown:
            raise ValueError("nothing says what it shows; prepare a clip that train.synthetic.sounding made")
        if unknown := sorted({name for *_, names in shown for name in names} - set(self._index)):
            raise ValueError(f"it shows concepts that the table lacks: {', '.join(unknown)}")
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
