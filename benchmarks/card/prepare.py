"""The bundles of one size for the backends of this GPU: random weights are exported, and typed for TensorRT.

python -m benchmarks.card.prepare SIZE BACKEND... --cache DIR --out FILE
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks.card.parts import CARDS, SIZES
from benchmarks.common.random_system import has_shipped_bundle
from benchmarks.common.report import add_output_options, command_parser, finish, make_result, run_command
from benchmarks.latency.subjects import random_weights_subject
from engines.manifest import MINI
from runtime.errors import MaskVATError

FLAVOURS = {"tensorrt": "trt", "tensorrt-rtx": "rtx"}


def prepared(size: str, cache: Path, backends: Sequence[str]) -> list[Path]:
    """The bundles of a size, the shipped one first, with typed graphs and plans if a backend needs them.

    Raises OptionError if random weights cannot be made, MaskVATError if a plan cannot be built.
    """
    folders = [MINI] if size == "mini" and has_shipped_bundle() else []
    folders.append(random_weights_subject(size, cache).bundle)
    flavours = [FLAVOURS[name] for name in backends if name in FLAVOURS]
    if flavours:
        from engines.trt import targets
        from export import tensorrt

        for folder in folders:
            if tensorrt.main([str(folder), "--flavours", *flavours, "--targets", *targets()]):
                raise MaskVATError(
                    f"plans of {size} could not be built for {', '.join(flavours)}; the reasons are above"
                )
    return folders


def run(args: Namespace) -> None:
    args.cache.mkdir(parents=True, exist_ok=True)
    folders = prepared(args.size, args.cache, args.backends)
    finish(make_result("card-prepare", {"size": args.size, "bundles": [folder.name for folder in folders]}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("benchmarks.card.prepare", __doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("backends", nargs="*", metavar="BACKEND", help=f"of {', '.join(CARDS)}")
    parser.add_argument("--cache", type=Path, required=True, help="folder for systems and bundles")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
