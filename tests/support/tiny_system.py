"""A complete system of tiny random networks, for tests of training and export."""

from pathlib import Path

import torch
from torch import nn

from engines.contract import ModelConfig
from export.graphs import AGREEMENT
from train.checkpoint import COMPONENTS
from train.checkpoint import save as save_component
from train.models.beats import BEATs, BEATsConfig
from train.models.clip_text import CLIPText, ClipTextConfig
from train.models.codec import FrameCodec, FrameCodecConfig
from train.models.dac import DAC, DACConfig
from train.models.maskvat import MaskVAT
from train.models.mobilenet import MobileNetV2, MobileNetV2Config
from train.models.s3d import S3D, S3DConfig
from train.models.scav import SCAV, SCAVConfig

KINDS = dict(zip(COMPONENTS, ("maskvat", "framecodec", "mobilenet_v2", "s3d", "beats", "scav"), strict=True))
KINDS["text_encoder"] = "clip_text"
FORBIDDEN = {"DFT", "STFT", "NonZero", "Loop", "If", "Resize", "ScatterND"}  # operators that no graph may have
PROVENANCE = {"name": "random", "code_licence": "A", "data_licence": "B", "origin": "a test", "trained": False}


def alive(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give random values to zero parameters and statistics of norms, because new networks are partly the identity."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if "modulation" in name or name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1, generator=generator)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.running_mean.normal_(std=0.1, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
        if isinstance(part, nn.LayerNorm) and part.elementwise_affine:  # the exporter stores equal weights once
            nn.init.uniform_(part.weight, 0.5, 2.0, generator=generator)
    return module.eval()


def tiny_model(config: ModelConfig) -> MaskVAT:
    torch.manual_seed(0)
    return alive(MaskVAT(config))


def tiny_config(design: str, **changes: object) -> ModelConfig:
    sizes = {"hidden_size": 32, "n_blocks": 1, "n_heads": 2, "encoder_blocks": 1, "codec_latent": 32}
    small = {"frame_dim": 24, "sync_dim": 16, "window_seconds": 1, "overlap_seconds": 0}
    return ModelConfig(**{"design": design, **sizes, **small, **changes})


def tiny_text_encoder(dim: int) -> CLIPText:
    torch.manual_seed(0)
    return alive(CLIPText(ClipTextConfig(dim, context=12, vocabulary=600, width=16, heads=2, layers=2)))


def loud_dac(config: DACConfig, gain: float = 1.0) -> DAC:
    """The official codec's network with random weights; its own initial weights give next to silence.

    `gain`: deviation of a layer's outputs for inputs of deviation 1. The deeper the network, the less it must be.
    """
    codec = DAC(config)
    for name, value in codec.state_dict().items():
        random = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        scaled = random * (gain / max(1, value[0].numel()) ** 0.5)
        value.copy_(torch.ones_like(value) if name.endswith("alpha") else scaled)
    return codec


def tiny_components(features: str = "pooled") -> dict[str, nn.Module]:
    """A complete system with about 0.3 million weights; `features` are those of its frame encoder."""
    torch.manual_seed(0)
    codec = FrameCodec(FrameCodecConfig(latent=32, decoder_blocks=1, decoder_mlp=32))
    frames = MobileNetV2(MobileNetV2Config(width=0.1, resize=40, size=32, features=features))
    sync = S3D(S3DConfig(width=0.1, feature="mixed_4d", resize=40, size=32))
    beats = BEATsConfig(embed_dim=16, dim=16, layers=1, heads=2, ffn_dim=32, conv_pos=16, conv_pos_groups=4)
    scav = SCAV(SCAVConfig(frame_dim=frames.dim, audio_dim=16, dim=16, layers=1, heads=2))
    parts = {"codec": codec, "frame_encoder": frames, "sync_encoder": sync, "audio_encoder": BEATs(beats), "scav": scav}
    found: dict[str, object] = {}
    for field, component, path in AGREEMENT:
        if component not in parts:
            continue
        value: object = parts[component]
        for name in path.split("."):
            value = getattr(value, name)
        found[field] = value
    return {"maskvat": tiny_model(tiny_config("hybrid", **found)), **{n: alive(m) for n, m in parts.items()}}


def write_system(folder: Path, components: dict[str, nn.Module]) -> Path:
    for name, module in components.items():
        save_component(folder, name, module, KINDS[name], PROVENANCE)
    return folder
