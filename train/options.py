"""What every task's options share: how they are read from a recipe's table, and what a recipe states about its data."""

from dataclasses import MISSING, dataclass, fields
from typing import Any

NOT_STATED = "not stated"


class RecipeError(Exception):
    """A recipe, or an option that changes it, is not understood."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What only the author of a recipe knows about the weights that it trains."""

    data_licence: str = NOT_STATED  # terms of what the weights are trained on
    origin: str = NOT_STATED  # who trained them, by which recipe

    def provenance(self, name: str, **numbers: Any) -> dict[str, Any]:
        """The provenance of a component that was trained under these options."""
        stated = {"data_licence": self.data_licence, "origin": self.origin}
        return {"name": name, "code_licence": "Apache-2.0", **stated, "trained": True, **numbers}


def options_from(cls: type, values: dict[str, Any], table: str = "task") -> Any:
    """A dataclass from a recipe's table. Raises RecipeError that names unknown keys and those allowed."""
    allowed = [f.name for f in fields(cls)]
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise RecipeError(f"unknown keys in [{table}]: {', '.join(unknown)}; choose from {', '.join(allowed)}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"[{table}] {error}") from error


def defaults_of(cls: type) -> dict[str, Any]:
    """The fields of a dataclass that need not be given, with what they are then."""
    plain = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    return plain | {f.name: f.default_factory() for f in fields(cls) if f.default_factory is not MISSING}
