"""CLIP's image encoder, the frame encoder of the paper, through open_clip; any of its models can be used.

Only `CLIP.load` with a pretrained tag of open_clip downloads; a path is read as it is.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.clip_text import CLIPText, unsupported_text
from train.models.loading import WeightsError, file_sha256, import_library, read_config

# the text tower (train.models.clip_text) is not used here, so it is built as small as possible
NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class ClipConfig:
    """The open_clip model and the preprocessing that its weights were trained with (default: OpenAI's)."""

    model: str = "ViT-B-32-quickgelu"  # OpenAI's weights need a -quickgelu model
    resize: int = 224  # short side, pixels
    size: int = 224  # centre crop, pixels
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)


class CLIP(nn.Module):
    """frames uint8 [N, size, size, 3] -> L2-normalised features [N, dim]."""

    def __init__(self, config: ClipConfig | None = None, visual: nn.Module | None = None) -> None:
        """`visual` is a vision tower of open_clip with weights; without it, weights are random."""
        super().__init__()
        self.config = c = config or ClipConfig()
        open_clip = import_library("open_clip")
        architecture = open_clip.get_model_config(c.model)
        if architecture is None:
            raise ValueError(f"open_clip has no model {c.model!r}; open_clip.list_models() names them")
        if visual is None:
            visual = open_clip.create_model(
                c.model, pretrained=None, pretrained_text=False, force_image_size=c.size, text_cfg=dict(NO_TEXT)
            ).visual
        self.visual = visual
        self.resize, self.size, self.dim = c.resize, c.size, int(architecture["embed_dim"])
        self.register_buffer("mean", torch.tensor(c.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(c.std).view(1, 3, 1, 1) * 255, persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> "CLIP":
        return cls(read_config(ClipConfig, values))

    def train(self, mode: bool = True) -> "CLIP":
        """Stay in eval mode, because the network is frozen."""
        return super().train(False)

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 [N, size, size, 3] -> [N, dim], equal to open_clip's encode_image."""
        x = (frames.permute(0, 3, 1, 2).float() - self.mean) / self.std
        y = self.visual(x)
        return y[0] if isinstance(y, tuple) else y  # some towers also return their tokens

    def forward(self, frames: Tensor) -> Tensor:
        return F.normalize(self.encode(frames), dim=-1)

    @classmethod
    def load(cls, model: str, pretrained: str | Path, sha256: str | None = None) -> "CLIP":
        """Load the picture encoder alone. See `load_towers`."""
        return load_towers(model, pretrained, sha256)[0]


def load_towers(model: str, pretrained: str | Path, sha256: str | None = None) -> tuple[CLIP, CLIPText | None]:
    """Load picture and text encoder of a model of open_clip; None if its text encoder is not CLIP's.

    `pretrained` is the path of a checkpoint, or a tag, which is downloaded. Checkpoints may be open_clip's own or
    OpenAI's archives. Raises WeightsError if open_clip cannot load it.
    """
    open_clip = import_library("open_clip")
    path, tags = Path(pretrained), open_clip.list_pretrained_tags_by_model(model)
    preprocessing = None
    if path.is_file():
        if sha256 is not None and not (digest := file_sha256(path)).startswith(sha256):
            raise WeightsError(f"{path} has sha256 {digest}, expected {sha256}...; it is another file or incomplete")
        if tags:  # a file does not state the normalisation of pictures; the model's published weights do
            preprocessing = open_clip.get_pretrained_cfg(model, tags[0])
    elif str(pretrained) not in tags:
        known = ", ".join(tags) or "none"
        raise WeightsError(f"{pretrained} is neither a file nor a pretrained tag of {model}; its tags: {known}")
    try:
        full = open_clip.create_model(
            model, pretrained=str(pretrained), pretrained_text=False, force_preprocess_cfg=preprocessing
        )
    except (RuntimeError, KeyError, OSError) as error:
        raise WeightsError(f"open_clip cannot load {pretrained} into {model}: {error}") from error
    text = None if unsupported_text(model) else CLIPText.load(model, full.state_dict(), str(pretrained))
    return CLIP(_config(model, open_clip.get_model_preprocess_cfg(full)), full.visual), text


def _config(model: str, wanted: dict[str, Any]) -> ClipConfig:
    """The configuration for a model's own preprocessing. Warns if this project prepares pictures otherwise."""
    if wanted.get("resize_mode", "shortest") != "shortest":
        warnings.warn(
            f"{model} was trained on pictures with resize_mode {wanted['resize_mode']}; this project resizes the "
            "short side and crops the centre, so features differ a little",
            stacklevel=2,
        )
    size = wanted.get("size", ClipConfig.size)
    side = size if isinstance(size, int) else size[0]
    mean, std = tuple(wanted.get("mean", ClipConfig.mean)), tuple(wanted.get("std", ClipConfig.std))
    return ClipConfig(model, side, side, mean, std)
