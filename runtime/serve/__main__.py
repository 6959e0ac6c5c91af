"""`python -m runtime.serve`: the same as `maskvat serve`."""

import sys

from runtime.serve.command import process

if __name__ == "__main__":
    sys.exit(process(sys.argv[1:], "python -m runtime.serve"))
