"""`python -m runtime.commands.stdio`: the same as `maskvat stdio`, for hosts that start Python themselves."""

import sys

from runtime.commands.stdio.guard import process

if __name__ == "__main__":
    sys.exit(process(sys.argv[1:]))
