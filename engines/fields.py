"""Dataclasses made from JSON: every field is checked, because the file may be damaged or made to do harm."""

from dataclasses import fields
from typing import Any, Literal, TypeVar, get_origin, get_type_hints

T = TypeVar("T")


def from_json(cls: type[T], values: Any) -> T:
    """Make `cls` from a JSON object. Raises ValueError that names an unknown, missing or mistyped field.

    It checks `int`, `float`, `str`, `bool` and `dict` fields; a whole number is also a float. `cls` itself checks which
    texts and which range of numbers are allowed.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is {_shown(values)}, not an object")
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(map(str, values)) - set(names))
    if unknown:
        raise ValueError(f"unknown configuration keys: {', '.join(unknown)[:200]}")
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name} is {_shown(value)}, not {_described(hints[name])}")
    try:
        return cls(**values)
    except TypeError as error:  # a field is missing
        raise ValueError(str(error).removeprefix(f"{cls.__name__}.__init__() ")) from error


def _fits(value: Any, hint: Any) -> bool:
    kind = str if get_origin(hint) is Literal else get_origin(hint) or hint
    if kind is float:
        return type(value) in (int, float)
    if kind in (int, str, bool, dict):
        return type(value) is kind
    return True  # made from JSON by the caller


def _described(hint: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}.get(
        get_origin(hint) or hint, "a text"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
