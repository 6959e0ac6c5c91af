"""The page of `maskvat serve` in real browsers: all its tests as one line of JSON, and the pictures of its guide."""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.campaigns import report
from tests.support.paths import ROOT

TESTS = [f"tests/runtime/serve/test_page_in_{name}.py" for name in ("browser", "firefox")]


def run(pictures: Path | None) -> dict[str, Any]:
    """Run the tests, each once."""
    environment = os.environ | ({} if pictures is None else {"MASKVAT_PICTURES": str(pictures.absolute())})
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.xml")
        line = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "host", *TESTS, f"--junitxml={found}"]
        subprocess.run(line, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
        cases = list(ElementTree.parse(found).iter("testcase"))
        properties = {p.get("name"): p.get("value") for p in ElementTree.parse(found).iter("property")}
    tests = {str(case.get("name")): _result(case) for case in cases}
    faults = [name for name, result in tests.items() if result != "passed"]
    browsers = [properties.get("browser"), properties.get("firefox")]
    return {"browsers": browsers, "tests": tests, "faults": faults}


def _result(case: ElementTree.Element) -> str:
    return next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.page", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="take the pictures of docs/PAGE.md")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON there too")
    args = parser.parse_args(argv)
    found = run(args.pictures)
    report.finish("page", found, args.out)
    return 1 if found["faults"] or not found["tests"] else 0


if __name__ == "__main__":
    sys.exit(main())
