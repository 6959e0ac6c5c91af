"""Checks of numeric options. NumPy's numbers are accepted and become plain Python numbers; bools are refused."""

from numbers import Integral, Real

from runtime.errors import OptionError


def whole_number(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int. Raises OptionError unless it is an integer from `low` to `high`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= int(value) <= high:
        raise OptionError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")
    return int(value)


def number(name: str, value: object, low: float, high: float) -> float:
    """Return `value` as a float. Raises OptionError unless it is a real number from `low` to `high`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low <= float(value) <= high:
        raise OptionError(f"{name} is {value!r}; it must be a number from {low} to {high}")
    return float(value)
