"""SCAV: how far a sound is from its picture (arXiv 2407.05782; MaskVAT, section 3.2.5, chooses a candidate by it)."""

import numpy as np

from engines.contract import FloatArray, interpolation_matrix
from runtime.bundle import Bundle


def scav_distance(bundle: Bundle, clip_features: FloatArray, audio: FloatArray) -> float:
    """MSE between the video's sequence and the sound's: clip features [1, N, Dc], audio [L] at `config.audio_rate`.

    Comparable only between candidates of the same clip. Sounds too short for one step of the audio encoder are padded.
    """
    shortest = 2 * bundle.config.audio_stride  # one step and the frames' overhang
    audio = np.pad(audio, (0, max(0, shortest - len(audio)))).astype(np.float32, copy=False)
    (audio_features,) = bundle.run("audio_encoder", audio=audio[None])
    (sound,) = bundle.run("scav_audio", audio_features=audio_features)  # [1, A, 8, H]
    matrix = interpolation_matrix(sound.shape[1], clip_features.shape[1])
    (picture,) = bundle.run("scav_video", clip_features=clip_features, interpolation=matrix)  # [1, A, H]
    return float(np.mean((picture[:, :, None].astype(np.float64) - sound) ** 2))
