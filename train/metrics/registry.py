"""`METRICS`: every measure with its columns, the weights that it needs, and how to load it.

Networks are imported only when a measure that needs them is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from train.metrics.inputs import Pair, Sound
from train.metrics.mfcc import RATE as MFCC_RATE
from train.metrics.mfcc import mfcc
from train.metrics.onsets import RATE as ONSET_RATE
from train.metrics.onsets import onset_scores

PerClip = Callable[[Pair], dict[str, float]]
PerSet = Callable[[Sound], NDArray[np.floating[Any]]]
Better = Literal["higher", "lower"]


class MissingWeights(FileNotFoundError):
    """A measure's weights are not in the folder. The message names the file and where to get it."""


@dataclass(frozen=True)
class Weights:
    """A file of weights, under the name of its publication."""

    file: str
    source: str  # where to get it
    licence: str
    also: tuple[str, ...] = ()  # other accepted names

    def find(self, folder: Path) -> Path | None:
        """The file's path in a folder, or None."""
        return next((folder / name for name in (self.file, *self.also) if (folder / name).is_file()), None)


DAC = Weights(
    "weights_44khz_8kbps_0.0.1.pth",
    "https://github.com/descriptinc/descript-audio-codec/releases/download/0.0.1/weights.pth",
    "MIT",
)
BEATS = Weights(
    "BEATs_iter3_plus_AS2M.pt", "https://github.com/microsoft/unilm/tree/master/beats (link in its README)", "MIT"
)

VGGISH = Weights(
    "vggish-10086976.pth",
    "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    "Apache-2.0",
)
WAV2CLIP = Weights(
    "Wav2CLIP.pt",
    "https://github.com/descriptinc/lyrebird-wav2clip/releases/download/v0.1.0-alpha/Wav2CLIP.pt",
    "MIT",
)
CLIP = Weights("ViT-B-32.pt", "OpenAI's CLIP ViT-B/32, linked in https://github.com/openai/CLIP (clip/clip.py)", "MIT")
SPARSESYNC = Weights(
    "23-02-26T22-31-22.pt",
    "the AudioSet model of https://github.com/v-iashin/SparseSync, linked in its README",
    "MIT",
)


@dataclass(frozen=True)
class Metric:
    """One measure.

    name: the paper's name. title: a short description. per: "clip" or "set" (see train.metrics). columns: the names of
    its values, and whether higher or lower is better. video: whether it needs `Pair.film`.
    """

    name: str
    title: str
    per: Literal["clip", "set"]
    columns: Mapping[str, Better]
    make: Callable[[list[Path], str], PerClip | PerSet] = field(repr=False)  # (files, device) -> measure
    weights: tuple[Weights, ...] = ()
    video: bool = False

    def load(self, folder: Path | None, device: str = "cpu") -> PerClip | PerSet:
        """Load the measure with the weights in `folder`.

        Raises MissingWeights if a file is absent, WeightsError if it is a different file, and ModuleNotFoundError if an
        extra is not installed.
        """
        files, missing = [], []
        for weights in self.weights:
            found = None if folder is None else weights.find(folder)
            if found is None:
                missing.append(f"{weights.file} ({weights.licence}; {weights.source})")
            else:
                files.append(found)
        if missing:
            where = "no folder of weights was given" if folder is None else f"not in {folder}"
            raise MissingWeights(f"{self.name} is left out: it needs {' and '.join(missing)}; {where}")
        return self.make(files, device)


# ---------------------------------------------------------------- loading
def _fdm(files: list[Path], device: str) -> PerSet:
    return lambda sound: sound.once("mfcc", lambda: mfcc(sound.at(MFCC_RATE)))


def _onsets(files: list[Path], device: str) -> PerClip:
    def measure(pair: Pair) -> dict[str, float]:
        scores = onset_scores(pair.reference.at(ONSET_RATE), pair.generated.at(ONSET_RATE))
        silent = scores["n_reference"] + scores["n"] == 0  # Without any onset, timing is undefined.
        counted = {f"onset_{key}": float("nan") if silent else scores[key] for key in ("f1", "lift", "ap")}
        return counted | {key: scores[key] for key in ("onset_r", "energy_r")}

    return measure


def _fdd(files: list[Path], device: str) -> PerSet:
    from train.metrics.networks import codec_latents

    return codec_latents(files[0], device)


def _fad(files: list[Path], device: str) -> PerSet:
    from train.metrics.networks import sound_embeddings

    return sound_embeddings(files[0], device)


def _wc(files: list[Path], device: str) -> PerClip:
    from train.metrics.networks import wav2clip_embedding, wave_clip

    return wave_clip(wav2clip_embedding(files[0], device))


def _cc(files: list[Path], device: str) -> PerClip:
    from train.metrics.networks import cycle_clip, load_clip, wav2clip_embedding

    return cycle_clip(wav2clip_embedding(files[0], device), load_clip(files[1], device), device)


def _ss(files: list[Path], device: str) -> PerClip:
    from train.metrics.networks import predicted_offset
    from train.metrics.sparsesync import SparseSync

    return predicted_offset(SparseSync.load(files[0]).to(device), device)


def _ns(files: list[Path], device: str) -> PerClip:
    from train.metrics.networks import novelty

    return novelty(files[0], device)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("FDD", "Frechet distance of DAC's quantised latents", "set", {"FDD": "lower"}, _fdd, (DAC,)),
        Metric("FDM", "Frechet distance of mel-frequency cepstral coefficients", "set", {"FDM": "lower"}, _fdm),
        Metric("FAD", "Frechet distance of VGGish embeddings", "set", {"FAD": "lower"}, _fad, (VGGISH,)),
        Metric("WC", "WaveCLIP: cosine of both sounds' Wav2CLIP embedding", "clip", {"WC": "higher"}, _wc, (WAV2CLIP,)),
        Metric(
            "CC", "CycleCLIP: cosine of the sound's Wav2CLIP and the frames' CLIP embedding", "clip", {"CC": "higher"},
            _cc, (WAV2CLIP, CLIP), video=True,
        ),
        Metric("NS", "Novelty Score: correlation of BEATs novelty curves", "clip", {"NS": "higher"}, _ns, (BEATS,)),
        Metric(
            "SS", "Offset predicted by SparseSync (s); chance is 1.05", "clip", {"SS": "lower", "SS_centre": "lower"},
            _ss, (SPARSESYNC,), video=True,
        ),
        Metric(
            "onsets",
            "onset_f1: F1 score of onsets within 0.1 s of the true ones; onset_lift: that minus its chance level; "
            "onset_ap: average precision; onset_r, energy_r: correlation of onset strengths and of RMS levels",
            "clip",
            dict.fromkeys(("onset_f1", "onset_lift", "onset_ap", "onset_r", "energy_r"), "higher"),
            _onsets,
        ),
    )
}  # fmt: skip
