"""`python -m export CHECKPOINT OUT/`: a system's weights become a bundle of ONNX graphs, verified before it is written.

The exit code is a verdict: 0 when every graph agrees with torch within its limits.
"""

import argparse
import logging
import sys
from pathlib import Path

from runtime.errors import MaskVATError
from train.extras import requires_extra

with requires_extra("export", __name__):
    from export.bundle import Options, log, run
    from train.errors import CheckpointError


def parse(argv: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", type=Path, help="system folder with meta.json and one .safetensors per component")
    parser.add_argument("out", type=Path, help="folder of the bundle, made by this command")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="how weights are stored")
    parser.add_argument(
        "--int8", action="store_true", help="also write step.int8.onnx for CPUs: faster, and less exact"
    )
    parser.add_argument("--name", default="", help="the bundle's name; default: the name of OUT")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--keep", action="store_true", help="write the bundle even if a parity limit is exceeded")
    return Options(**vars(parser.parse_args(argv)))


# ---------------------------------------------------------------- what goes in


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        good = run(options)
    except (MaskVATError, CheckpointError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not good:
        kept = f"written to {options.out} all the same" if options.keep else "no bundle written (--keep writes it)"
        advice = "--precision fp32, or round_weights in the recipe, keeps the weights as they are"
        print(f"error: parity limits exceeded; {kept}. {advice}", file=sys.stderr)
        return 1
    print(f"bundle written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
