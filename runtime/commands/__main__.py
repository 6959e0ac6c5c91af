"""`python -m runtime.commands`: the same as `maskvat`, where the console script is not installed or not on the path."""

import sys

from runtime.commands.subcommands import process

if __name__ == "__main__":
    sys.exit(process())
