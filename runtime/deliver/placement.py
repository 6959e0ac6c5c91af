"""The sound of a range on the track of the whole video."""

import numpy as np

from engines.contract import FloatArray
from runtime.deliver.delivery import RANGE_FADE, DeliveredSound, DeliveryConfig
from runtime.deliver.levels import decibels, fade_ends


def whole_track(sound: DeliveredSound, config: DeliveryConfig, lead: int, own: FloatArray | None = None) -> FloatArray:
    """A track [L] from the first picture on, in which a delivered sound begins at sample `lead`.

    Elsewhere it is silent. With `config.mix` it is `own`, the video's own sound, which only the take's part of the mix
    joins: the own sound is not faded, and has the same gain everywhere.
    """
    if own is None or config.mix is None:
        return np.pad(sound.audio, (lead, 0))
    fade = RANGE_FADE if config.fade is None else config.fade
    added = fade_ends(sound.generated, round(fade / 1000 * sound.take.sample_rate)) * decibels(config.mix)
    track = np.pad(own, (0, max(0, lead + len(added) - len(own))))
    track[lead : lead + len(added)] += added
    return np.asarray(track * decibels(sound.gain.decibels), np.float32)
