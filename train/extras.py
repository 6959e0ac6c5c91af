"""Packages that only some commands need, and what to install where one is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = ("engines", "runtime", "train", "export", "benchmarks")


@contextmanager
def requires_extra(name: str, module: str) -> Iterator[None]:
    """Holds the imports of a module (its __name__) that need an extra of this package.

    Where one is missing, a command (`python -m`) ends with one line and exit status 1; an import raises
    ModuleNotFoundError with the same words.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing in OURS:
            raise  # no package of others would help
        words = f"{missing} is not installed; install it with: pip install '.[{name}]'"
        if module == "__main__":
            sys.exit(f"error: {words}")
        raise ModuleNotFoundError(words, name=error.name) from error
