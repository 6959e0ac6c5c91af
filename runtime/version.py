"""The version of this program, from one source: `version` in pyproject.toml."""

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAME = "maskvat"
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"  # in a checkout


@cache
def program_version() -> str:
    """The installed package's version, for example "0.1.0"; "0.1.0+source" in a checkout that is not installed.

    "unknown" if the package is neither installed nor in a checkout.
    """
    try:
        return version(NAME)
    except PackageNotFoundError:
        return checkout_version(PYPROJECT)


def checkout_version(pyproject: Path) -> str:
    """The version that a checkout's pyproject.toml states, marked as "+source"."""
    try:
        return f"{tomllib.loads(pyproject.read_text(encoding='utf-8'))['project']['version']}+source"
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
