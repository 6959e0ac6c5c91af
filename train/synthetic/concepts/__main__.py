"""`python -m train.synthetic.concepts`: print the concept table with class names, after checking it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import OptionError
from train.synthetic.concepts.table import class_names, pool_labels, read_table
from train.synthetic.recordings import PoolError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m train.synthetic.concepts", description=(__doc__ or "").strip())
    parser.add_argument("table", type=Path, nargs="?", help="a concept table (default: the project's own)")
    parser.add_argument("--sounds", type=Path, action="append", help="folder of recordings to check the labels with")
    args = parser.parse_args(argv)
    try:
        table = read_table(args.table, pool_labels(args.sounds) if args.sounds else None)
    except (OptionError, PoolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    names = class_names()
    for concept in table:
        seen = ", ".join(f"{index} {names[index]}" for index in concept.classes)
        print(f"{concept.name} ({concept.sounding})\n  seen as: {seen}\n  sounds like: {', '.join(concept.labels)}")
    print(f"{len(table)} concepts, {sum(len(concept.classes) for concept in table)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
