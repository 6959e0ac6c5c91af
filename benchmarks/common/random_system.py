"""Systems with random weights, for benchmarks of speed, which does not depend on the weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.contract import SIZES, ModelConfig
from engines.manifest import MANIFEST, MINI

if TYPE_CHECKING:
    from torch import nn

RANDOM = ("mini", "small", "base")  # sizes that can be made with random weights
SPREAD = 0.02  # standard deviation of random modulations, which are zero in a new network
PROVENANCE = {"code_licence": "Apache-2.0", "data_licence": "none", "origin": "seed 0", "trained": False}


def has_shipped_bundle() -> bool:
    """Whether the bundle that ships with MaskVAT is in this checkout, with its files and not only its manifest."""
    return (MINI / MANIFEST).is_file() and (MINI / "step.onnx").is_file()


def bundled_components() -> dict[str, "tuple[nn.Module, str]"]:
    """Untrained components like those of the bundle that ships with MaskVAT: role -> network and kind."""
    from train.models import beats, codec, mobilenet, s3d, scav

    return {
        "codec": (codec.FrameCodec(codec.FrameCodecConfig()), "framecodec"),
        "frame_encoder": (mobilenet.MobileNetV2(mobilenet.MobileNetV2Config()), "mobilenet_v2"),
        "sync_encoder": (s3d.S3D(s3d.BUNDLED), "s3d"),
        "audio_encoder": (beats.BEATs(beats.BUNDLED), "beats"),
        "scav": (scav.SCAV(scav.BUNDLED), "scav"),
    }


def base_frame_encoder() -> str:
    """Kind of the frame encoder at size base: CLIP as in the paper, or MobileNetV2 if open_clip cannot be imported."""
    from train.models.loading import import_library

    try:
        import_library("open_clip")
    except ImportError:
        return "mobilenet_v2"
    return "clip"


def paper_components() -> dict[str, "tuple[nn.Module, str]"]:
    """The components of the paper at their sizes, with random weights; see `base_frame_encoder`."""
    from train.models import beats, clip_image, dac, mobilenet, s3d, scav

    frames: tuple[Any, str] = (
        (clip_image.CLIP(), "clip")
        if base_frame_encoder() == "clip"
        else (mobilenet.MobileNetV2(mobilenet.MobileNetV2Config()), "mobilenet_v2")
    )
    return {
        "codec": (dac.DAC(), "dac"),
        "frame_encoder": frames,
        "sync_encoder": (s3d.S3D(s3d.S3DConfig()), "s3d"),
        "audio_encoder": (beats.BEATs(beats.BEATsConfig()), "beats"),
        "scav": (scav.SCAV(replace(scav.SCAVConfig(), frame_dim=frames[0].dim)), "scav"),
    }


def component_config(parts: dict[str, "tuple[nn.Module, str]"]) -> dict[str, Any]:
    """The fields of the transformer's configuration that its components decide."""
    from functools import reduce

    from export.graphs import AGREEMENT

    known = [row for row in AGREEMENT if row[1] in parts]  # random systems have no text encoder
    fields = {field: reduce(getattr, path.split("."), parts[role][0]) for field, role, path in known}
    return fields | {"codec_latent": parts["codec"][0].embedding_table().shape[-1]}  # type: ignore[operator]


def write_random(size: str, folder: Path) -> None:
    """Write a system with random weights (seed 0). `mini` has the design of the shipped bundle, others are hybrid.

    `mini` and `small` have the components of the shipped bundle, `base` those of the paper (DAC, CLIP, S3D, BEATs).
    """
    import torch

    from train.checkpoint import save
    from train.models.maskvat import MaskVAT

    torch.manual_seed(0)
    parts = paper_components() if size == "base" else bundled_components()
    design = json.loads((MINI / MANIFEST).read_text(encoding="utf-8"))["config"]["design"] if size == "mini" else None
    sizes = {k: v for k, v in SIZES[size].items() if k != "codec_latent"}
    model = MaskVAT(ModelConfig(**sizes | component_config(parts) | {"design": design or "hybrid"}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modulation" in name:
                parameter.normal_(std=SPREAD)
    for role, (module, kind) in (parts | {"maskvat": (model, "maskvat")}).items():
        save(folder, role, module, kind, PROVENANCE | {"name": f"random {kind}"})
