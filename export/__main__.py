"""Export a system to a bundle of ONNX graphs, and verify every graph against PyTorch.

    python -m export CHECKPOINT OUT

Prints a table with the parity of every file: how far its outputs differ from PyTorch in float32. OUT is written if all
files are within their limits. The exit status is then 0, otherwise 1.
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
    parser = argparse.ArgumentParser(
        prog="python -m export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="system folder with meta.json and one .safetensors per component")
    parser.add_argument("out", type=Path, help="folder of the new bundle")
    parser.add_argument(
        "--precision", choices=("fp16", "fp32"), default="fp16", help="precision of the stored weights (default: fp16)"
    )
    parser.add_argument(
        "--int8", action="store_true", help="also write step.int8.onnx for CPUs; it is faster and less exact"
    )
    parser.add_argument(
        "--words",
        type=Path,
        metavar="FILE",
        help="words of the vocabulary, one a line, for a system with a text encoder (default: the project's concepts)",
    )
    parser.add_argument("--name", default="", help="name of the bundle (default: the name of OUT)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--keep", action="store_true", help="write the bundle even if a parity limit is exceeded")
    return Options(**vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        within_limits = run(options)
    except (MaskVATError, CheckpointError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not within_limits:
        outcome = f"the bundle was written to {options.out} anyway" if options.keep else "no bundle written"
        advice = "Use --precision fp32, train with round_weights in the recipe, or write the bundle anyway with --keep"
        print(f"error: parity limits exceeded; {outcome}. {advice}", file=sys.stderr)
        return 1
    print(f"bundle written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
