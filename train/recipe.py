"""Options of tasks: reading them from a recipe's table, checking them, and what a recipe states about its data."""

from dataclasses import MISSING, dataclass, fields
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from train.errors import RecipeError

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Range:
    """The numbers an option may have: from `low` to `high`; `above` excludes `low` itself."""

    low: float = 0
    high: float = inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.high != inf:
            return f"lie between {self.low} and {self.high}"
        return f"be above {self.low}" if self.above else f"be at least {self.low}"


COUNT, NATURAL, POSITIVE, SHARE = Range(1), Range(0), Range(0, above=True), Range(0, 1)
Ranges = dict[str, Range]  # RANGES of an options class, by field; the RANGES of its base classes apply too


@dataclass(frozen=True, kw_only=True)
class ProvenanceOptions:
    """What only the author of a recipe knows about the trained weights."""

    data_licence: str = NOT_STATED  # licence of the training data
    origin: str = NOT_STATED  # who trained them, by which recipe

    def __post_init__(self) -> None:
        check(self)

    def provenance(self, name: str, **numbers: Any) -> dict[str, Any]:
        """The provenance of a component that was trained under these options."""
        stated = {"data_licence": self.data_licence, "origin": self.origin}
        return {"name": name, "code_licence": "Apache-2.0", **stated, "trained": True, **numbers}


def check(options: Any) -> None:
    """Check the types and RANGES of all fields; raises ValueError that names the first wrong field."""
    cls = type(options)
    hints = get_type_hints(cls)
    for f in fields(cls):
        value, hint = getattr(options, f.name), hints[f.name]
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if set(kinds) <= set(_WORDS) and not any(_is_a(value, kind) for kind in kinds):
            words = " or ".join(_WORDS[kind] for kind in kinds if kind is not NoneType)
            raise ValueError(f"{f.name} must be {words}, not {value!r}")
        allowed = next((r[f.name] for c in cls.__mro__ if f.name in (r := vars(c).get("RANGES", {}))), None)
        if allowed is not None and value is not None and value not in allowed:
            raise ValueError(f"{f.name} must {allowed}, not {value}")


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "absent"}


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def options_from(cls: type, values: dict[str, Any], table: str = "task") -> Any:
    """Make an options dataclass from a recipe's table.

    Raises RecipeError for unknown keys, with the allowed ones, for values that are not allowed and for missing folders.
    Folders are the only values without a default.
    """
    allowed = [f.name for f in fields(cls)]
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise RecipeError(f"unknown keys in [{table}]: {', '.join(unknown)}; choose from {', '.join(allowed)}")
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        advice = " ".join(f"--set {table}.{name}=DIR" for name in missing)
        raise RecipeError(f"[{table}] lacks {', '.join(missing)}; add {advice}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"[{table}] {error}") from error


def defaults_of(cls: type) -> dict[str, Any]:
    """The default values of a dataclass, by field."""
    plain = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    return plain | {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
