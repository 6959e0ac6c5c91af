"""Every graph of a bundle on one backend against the CPU, and the step repeated as a generation does.

python -m benchmarks.card.self_test BACKEND --cache DIR --out FILE

Uses the shipped bundle and the summaries in its manifest; without it, a bundle of random weights and the CPU here.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.card.prepare import prepared
from benchmarks.common.report import add_output_options, command_parser, finish, make_result, run_command
from engines.contract import graphs
from engines.selftest import Summary, check_repeats, compare, summarise
from runtime.bundle import Bundle
from runtime.errors import MaskVATError


def summary_of(bundle: Bundle) -> Summary:
    """Summaries of all graphs, by file."""
    return summarise({bundle.file_for(name): bundle[name] for name in graphs(bundle.config)}, bundle.config)


def examine(folder: Path, backend: str) -> dict[str, Any]:
    """What differs, by file (None: nothing), the backends' own words, and the precision of each graph."""
    bundle = Bundle(folder, backend)
    try:
        expected = bundle.manifest.self_test
        if not expected:
            reference = Bundle(folder, "cpu", precision="fp32")
            expected = summary_of(reference)
            reference.close()
        verdicts = compare(expected, summary_of(bundle))
        repeats = check_repeats(bundle["step"], bundle.config)
        engines = {name: [bundle[name].backend, bundle[name].precision] for name in graphs(bundle.config)}
        return {"backend": backend, "bundle": bundle.manifest.name, "verdicts": verdicts, "repeats": repeats,
                "engines": engines, "warnings": list(dict.fromkeys(bundle.warnings))}  # fmt: skip
    finally:
        bundle.close()


def run(args: Namespace) -> None:
    args.cache.mkdir(parents=True, exist_ok=True)
    found = examine(args.engines or prepared("mini", args.cache, [args.backend])[0], args.backend)
    finish(make_result("card-self-test", found), args.out)
    wrong = [f"{file}: {problem}" for file, problem in found["verdicts"].items() if problem]
    wrong += [found["repeats"]] if found["repeats"] else []
    if wrong:
        raise MaskVATError(f"{args.backend} differs from the CPU: {'; '.join(wrong)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 if something differs."""
    parser = command_parser("benchmarks.card.self_test", __doc__)
    parser.add_argument("backend")
    parser.add_argument("--engines", type=Path, help="folder of another bundle")
    parser.add_argument("--cache", type=Path, required=True, help="folder for systems and bundles")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
