"""SCAV: the distance between a sound and its picture (arXiv 2407.05782). MaskVAT selects candidates by it (3.2.4)."""

import numpy as np

from engines.contract import FloatArray
from engines.length_adapter import interpolation_matrix
from runtime.bundle import Bundle


def scav_distance(bundle: Bundle, clip_features: FloatArray, audio: FloatArray) -> float:
    """Mean squared difference between the embeddings of clip features [1, N, Dc] and audio [L] at `config.audio_rate`.

    Compare it only between candidates of the same clip. Sounds too short for one step of the audio encoder are padded.
    """
    shortest = 2 * bundle.config.audio_stride  # one step and the frames' overhang
    audio = np.pad(audio, (0, max(0, shortest - len(audio)))).astype(np.float32, copy=False)
    (audio_features,) = bundle.run("audio_encoder", audio=audio[None])
    (sound,) = bundle.run("scav_audio", audio_features=audio_features)  # [1, A, 8, H]
    matrix = interpolation_matrix(sound.shape[1], clip_features.shape[1])
    (picture,) = bundle.run("scav_video", clip_features=clip_features, interpolation=matrix)  # [1, A, H]
    return float(np.mean((picture[:, :, None].astype(np.float64) - sound) ** 2))
