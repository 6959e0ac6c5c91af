"""The lift of wrong pairings: a generated sound scored against the true sounds of other videos.

Some lift is due to rhythm that many sounds share, not to the video. The mean over wrong pairings measures this part.
"""

from collections.abc import Sequence

import numpy as np

from train.metrics.onsets import FRAME_RATE, Floats, lift_of_onsets, pick_onsets


def lift_of_strengths(true: Floats, made: Floats) -> float:
    """Lift of a generated sound from both onset strengths, as train.metrics.onsets.onset_scores computes it."""
    n = min(len(true), len(made))
    return lift_of_onsets(pick_onsets(true[:n]), pick_onsets(made[:n]), n / FRAME_RATE)["lift"]


def wrong_lifts(true: Sequence[Floats], made: Sequence[Sequence[Floats]]) -> list[float]:
    """For each of two or more videos: the mean lift of its generated sounds over the true sounds of all other videos.

    true: onset strength of each video's true sound. made: onset strengths of each video's generated sounds.
    """
    pairs = [[(t, m) for j, t in enumerate(true) if j != k for m in own] for k, own in enumerate(made)]
    return [float(np.mean([lift_of_strengths(t, m) for t, m in own])) for own in pairs]
