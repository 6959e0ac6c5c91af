"""The tests marked `gpu`, with what each of them printed: python -m benchmarks.card.lane --out FILE."""

import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.common.machine import ROOT
from benchmarks.common.random_system import has_shipped_bundle
from benchmarks.common.report import add_output_options, command_parser, finish, make_result, run_command
from runtime.errors import MaskVATError

MARK = "mark.gpu"
NEEDS_BUNDLE = ("tests/engines/test_gpu.py",)
HEADING = re.compile(r"-{5,} .* -{5,}")  # pytest's, above what a test printed
WORDS = 2000  # characters of a test's output that are kept


def test_files(root: Path, shipped: bool) -> list[str]:
    """The files with tests marked gpu; importing all others would take longer than running these."""
    found = sorted(p for p in (root / "tests").rglob("test_*.py") if MARK in p.read_text(encoding="utf-8"))
    names = [p.relative_to(root).as_posix() for p in found]
    return [name for name in names if shipped or name not in NEEDS_BUNDLE]


def read_junit(path: Path) -> list[dict[str, Any]]:
    """Name, outcome, seconds and words of every test in pytest's XML."""
    cases = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        outcome, words = "passed", [case.findtext("system-out") or ""]
        for kind in ("skipped", "failure", "error"):
            if (node := case.find(kind)) is not None:
                outcome, words = kind, [node.get("message") or "", *words]
        lines = (line for word in words for line in word.strip().splitlines() if not HEADING.fullmatch(line))
        said = "\n".join(lines)[:WORDS]
        name = f"{case.get('classname')}.{case.get('name')}"
        cases.append({"name": name, "outcome": outcome, "seconds": float(case.get("time") or 0), "words": said})
    return cases


def run(args: Namespace) -> None:
    files = args.files or test_files(ROOT, has_shipped_bundle())
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", args.mark, "-p", "no:cacheprovider", "-o",
                   "junit_logging=system-out", f"--junitxml={report}", *files]  # fmt: skip
        code = subprocess.run(command, cwd=ROOT).returncode
        if not report.is_file():
            raise MaskVATError(f"pytest ended with {code} and without a report; its words are above")
        cases = read_junit(report)
    counts = {
        kind: sum(case["outcome"] == kind for case in cases) for kind in ("passed", "skipped", "failure", "error")
    }
    left = [] if has_shipped_bundle() else list(NEEDS_BUNDLE)
    finish(make_result("card-tests", counts | {"cases": cases, "left_out_without_the_bundle": left}), args.out)
    if bad := [case["name"] for case in cases if case["outcome"] in ("failure", "error")]:
        raise MaskVATError(f"{len(bad)} tests failed: {', '.join(bad)}")
    if not cases:
        raise MaskVATError(f"no test is marked {args.mark} in {', '.join(files) or 'this checkout'}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 if a test failed."""
    parser = command_parser("benchmarks.card.lane", __doc__)
    parser.add_argument("files", nargs="*", help="test files (default: all with tests marked gpu)")
    parser.add_argument("--mark", default="gpu", help="pytest's -m (default: %(default)s)")
    add_output_options(parser)
    return run_command(run, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
