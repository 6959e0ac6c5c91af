"""Distilled guidance: a network learns the guided prediction of a trained one, so a step needs one row, not two.

Classifier-free guidance (paper, section 3.2.3) runs the network with the video and with [NULL]. The student gives
(1 + g) * conditional - g * null in one pass, for the one g that it was trained with (Meng et al., arXiv 2210.03142,
stage one, for a fixed g). Its provenance has g as `distilled_guidance`, so the runtime adds no guidance to it.
"""

import torch
from torch import Tensor

from engines.contract import ModelConfig
from train.checkpoint import load, read_meta
from train.data.batch import Batch
from train.errors import RecipeError
from train.models.maskvat import MaskVAT


class Teacher:
    """The guided prediction of a trained MaskVAT. No module, so its weights are neither trained nor saved."""

    def __init__(self, model: MaskVAT, guidance: float) -> None:
        self.model, self.guidance = model.eval().requires_grad_(False), guidance

    @torch.no_grad()
    def __call__(self, codes: Tensor, batch: Batch, indices: dict[str, Tensor]) -> Tensor:
        """Guided logits (B, K, T, V). Rows whose conditions are both [NULL] get those of [NULL]."""
        video, _ = self.model(codes, batch.frame, batch.sync, indices, batch.drop)
        null, _ = self.model(codes, batch.frame, batch.sync, indices, torch.ones_like(batch.drop))
        guided: Tensor = (1 + self.guidance) * video.float() - self.guidance * null.float()
        return guided


def distilled_guidance(folder: str) -> float:
    """The guidance that the maskvat of a system folder gives in one pass; 0: it is not distilled."""
    entry = read_meta(folder)["components"].get("maskvat", {})
    return float(entry.get("provenance", {}).get("distilled_guidance", 0))


def load_teacher(folder: str, guidance: float, config: ModelConfig, device: torch.device) -> Teacher | None:
    """The teacher in a system folder; None without a folder. Raises RecipeError if it does not fit."""
    if not folder:
        return None
    if distilled_guidance(folder):
        raise RecipeError(f"the maskvat in {folder} is distilled itself; give the one that it was distilled from")
    model = load(folder, "maskvat")
    if model.config != config:
        raise RecipeError(
            f"the maskvat in {folder} cannot teach this one: it has another configuration: {model.config}, not {config}"
        )
    return Teacher(model.to(device), guidance)
