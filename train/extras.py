"""Packages that only some commands need, and what to install if one is missing."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OURS = ("engines", "runtime", "train", "export", "benchmarks")


@contextmanager
def requires_extra(name: str, module: str) -> Iterator[None]:
    """Wrap imports that need the extra `name`; `module` is the __name__ of the importing module.

    If a package is missing, a command (`python -m`) ends with one line and exit status 1. An import raises
    ModuleNotFoundError with the same message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing in OURS:
            raise  # our own module is missing: installing a package would not help
        message = f"{missing} is not installed; install it with: pip install '.[{name}]'"
        if module == "__main__":
            sys.exit(f"error: {message}")
        raise ModuleNotFoundError(message, name=error.name) from error
