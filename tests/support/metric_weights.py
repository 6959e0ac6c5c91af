"""Files of random weights in the official layouts, for small versions of the networks that metrics use, except CLIP."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.golden.make_golden import read, rule_state
from train.metrics.registry import BEATS, DAC, SPARSESYNC, VGGISH, WAV2CLIP
from train.metrics.sparsesync import SparseSync, SparseSyncConfig
from train.metrics.vggish import VGGish
from train.metrics.wav2clip import Wav2CLIP
from train.models.beats import BEATs, BEATsConfig
from train.models.loading import rename

BEATS_CFG = {
    "embed_dim": 16, "encoder_embed_dim": 32, "encoder_layers": 2, "encoder_attention_heads": 4,
    "encoder_ffn_embed_dim": 32, "conv_pos": 16, "conv_pos_groups": 4, "max_distance": 800,
}  # fmt: skip


def state_of(module: nn.Module, *rules: tuple[str, str]) -> dict[str, Tensor]:
    """A random state dict whose names are changed to the official ones by `rules`."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim > 1:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
            elif name.endswith("bias"):
                value.normal_(0, 0.1, generator=generator)
    return rename(module.state_dict(), rules)


def write_weights(folder: Path) -> Path:
    """Write all weight files that METRICS needs, except that of CLIP."""
    torch.save(state_of(VGGish(4, 32, 12)), folder / VGGISH.file)
    wav2clip = state_of(
        Wav2CLIP(8), (r"^encoder\.", "audio_encoder."), (r"^transform\.", "audio_transform.sequential.")
    )
    torch.save(wav2clip, folder / WAV2CLIP.file)
    beats = BEATs(BEATsConfig(16, 32, 2, 4, 32, 16, 4, max_distance=800))
    state = state_of(beats)
    weight = state.pop("encoder.pos_conv.0.weight")
    state["encoder.pos_conv.0.weight_g"] = weight.norm(dim=(0, 1), keepdim=True)
    state["encoder.pos_conv.0.weight_v"] = weight
    torch.save({"cfg": BEATS_CFG, "model": state}, folder / BEATS.file)
    sync = SparseSync(SparseSyncConfig(dim=64, layers=1, selectors=2, s3d_width=0.125))
    bridge = (r"^vfeat_extractor\.bridge\.", "v_bridge.bridge.")
    torch.save({"model": state_of(sync, bridge)}, folder / SPARSESYNC.file)
    facts, _ = read("dac")
    tensors = {name: torch.from_numpy(value) for name, value in rule_state(facts["shapes"]).items()}
    torch.save({"state_dict": tensors, "metadata": {"kwargs": facts["kwargs"]}}, folder / DAC.file)
    return folder
