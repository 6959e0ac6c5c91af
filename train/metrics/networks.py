"""The measures that need a network. Each function here loads the weights and returns the measure.

train.metrics.registry imports this module only when such a measure is loaded.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from runtime.video import FrameGrid
from train.metrics import sparsesync, vggish, wav2clip
from train.metrics.inputs import Film, Pair, Sound
from train.metrics.sequences import cosine_alignment, novelty_score, unit
from train.metrics.sparsesync import FRAMES, SparseSync
from train.metrics.vggish import VGGish
from train.metrics.wav2clip import Wav2CLIP
from train.models.beats import FRAME, HOP, PATCH, BEATs
from train.models.clip_image import CLIP
from train.models.dac import DAC
from train.models.s3d import S3D

SHORTEST = FRAME + (PATCH - 1) * HOP  # samples that BEATs needs for one step
CLIP_MODEL = "ViT-B-32-quickgelu"  # the CLIP model whose space Wav2CLIP shares
CLIP_FPS = 8
FRAME_BATCH = 16  # frames encoded at once
WINDOWS = 3  # number of 5 s windows for SS, spread evenly from the first to the last

Embeddings = NDArray[np.float32]


def embedding(name: str, rate: int, device: str, network: Callable[[Tensor], Tensor]) -> Callable[[Sound], Embeddings]:
    """A function from a sound to the network's output for its samples [1, L] at `rate`, cached under `name`."""

    def embed(sound: Sound) -> Embeddings:
        with torch.inference_mode():
            return network(torch.from_numpy(sound.at(rate)).to(device)[None]).float().cpu().numpy()

    return lambda sound: sound.once(name, lambda: embed(sound))


def codec_latents(path: Path, device: str) -> Callable[[Sound], Embeddings]:
    """FDD: DAC's codebook vectors after quantisation, [T, 72]. Every system's sound is encoded again, to be fair."""
    codec = DAC.load(path).to(device)
    return embedding("DAC", codec.config.sample_rate, device, lambda audio: codec.vectors(codec.encode(audio))[0])


def novelty(path: Path, device: str) -> Callable[[Pair], dict[str, float]]:
    """NS, from BEATs features averaged over their 8 frequency bands."""
    beats = BEATs.load(path).to(device)

    def features(audio: Tensor) -> Tensor:
        if audio.shape[1] < SHORTEST:
            return audio.new_zeros(0, beats.dim)
        return beats(audio)[0].mean(dim=1)

    embed = embedding("BEATs", beats.rate, device, features)
    return lambda pair: {"NS": novelty_score(embed(pair.generated), embed(pair.reference))}


def sound_embeddings(path: Path, device: str) -> Callable[[Sound], Embeddings]:
    """FAD: VGGish embeddings [n, 128]."""
    network = VGGish.load(path).to(device)
    return embedding("VGGish", vggish.RATE, device, lambda audio: network(audio[0]))


def wav2clip_embedding(path: Path, device: str) -> Callable[[Sound], Embeddings]:
    """Wav2CLIP's embedding [1, 512], for WC and CC."""
    return embedding("Wav2CLIP", wav2clip.RATE, device, Wav2CLIP.load(path).to(device))


def wave_clip(embed: Callable[[Sound], Embeddings]) -> Callable[[Pair], dict[str, float]]:
    """WC: cosine similarity of the two sounds' embeddings."""
    return lambda pair: {"WC": float(cosine_alignment(embed(pair.generated), embed(pair.reference))[0])}


def cycle_clip(embed: Callable[[Sound], Embeddings], clip: CLIP, device: str) -> Callable[[Pair], dict[str, float]]:
    """CC: cosine similarity of the sound's embedding and the mean of the frames' normalised CLIP embeddings."""

    def picture(film: Film) -> Embeddings:
        frames = torch.from_numpy(film.frames(FrameGrid(CLIP_FPS, clip.resize, clip.size)))
        with torch.inference_mode():
            features = torch.cat([clip(batch.to(device)) for batch in frames.split(FRAME_BATCH)])
        return unit(features.float().cpu().numpy()).mean(axis=0, keepdims=True)

    def measure(pair: Pair) -> dict[str, float]:
        film = film_of(pair)
        seen = film.once("CLIP", lambda: picture(film))
        return {"CC": float(cosine_alignment(embed(pair.generated), seen)[0])}

    return measure


def film_of(pair: Pair) -> Film:
    """The picture of a pair. Raises ValueError if it has none."""
    if pair.film is None:
        raise ValueError("this measure needs the clip's video")
    return pair.film


def load_clip(path: Path, device: str) -> CLIP:
    """CLIP ViT-B/32's image encoder, for CC."""
    return CLIP.load(CLIP_MODEL, path).to(device)


def window_starts(n: int) -> list[int]:
    """First frames of the windows in n frames at 25 fps: at 0, 2.48 and 5 s for 10 s; none for less than 5 s."""
    return sorted({int(x) for x in np.linspace(0, n - FRAMES, WINDOWS)}) if n >= FRAMES else []


def predicted_offset(network: SparseSync, device: str) -> Callable[[Pair], dict[str, float]]:
    """SS: absolute value of the most likely offset (s), as the mean over windows and for the middle window.

    Both are NaN for clips shorter than 5 s.
    """
    samples = FRAMES * sparsesync.RATE // S3D.fps
    offsets = network.offsets.abs()

    def look(film: Film) -> list[tuple[int, Tensor]]:
        frames = torch.from_numpy(film.frames(FrameGrid(S3D.fps, network.resize, network.size)))
        windows = ((k, frames[k : k + FRAMES, ...][None].to(device)) for k in window_starts(len(frames)))
        return [(k, network.visual(window)) for k, window in windows]

    def measure(pair: Pair) -> dict[str, float]:
        film, audio = film_of(pair), torch.from_numpy(pair.generated.at(sparsesync.RATE))
        sizes = []
        with torch.inference_mode():
            for k, visual in film.once("SparseSync", lambda: look(film)):
                part = audio[k * sparsesync.RATE // S3D.fps :][:samples]
                part = F.pad(part, (0, samples - len(part)))
                logits = network.transformer(visual, network.audio(part[None].to(device)))
                sizes.append(float(offsets[int(logits[0].argmax())]))
        if not sizes:
            return {"SS": float("nan"), "SS_centre": float("nan")}
        return {"SS": float(np.mean(sizes)), "SS_centre": sizes[len(sizes) // 2]}

    return measure
