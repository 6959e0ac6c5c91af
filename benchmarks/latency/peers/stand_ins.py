"""Modules in place of packages that a peer imports but does not need to generate, and that cannot be imported here.

A stand-in has every name that is asked for. Calling one raises StandInUsed, so nothing that is measured uses it. The
exceptions are in `values`: names that are needed while modules load, such as decorators and base classes.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class StandInUsed(RuntimeError):
    """A peer called a name of a stand-in."""


class StandIn(ModuleType):
    """A module in which every name exists, until it is used."""

    __path__: list[str] = []  # noqa: RUF012  a package: it may have submodules
    values: Mapping[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"
        if full in self.values:
            return self.values[full]
        if any(known.startswith(full + ".") for known in self.values):
            return importlib.import_module(full)
        return type(name, (Unusable,), {"full_name": full})


class Unusable:
    """A name of a stand-in."""

    full_name = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise StandInUsed(f"{self.full_name} was called, but a stand-in is in its place; install its package")


class Finder(MetaPathFinder, Loader):
    """Finds stand-ins for some modules, and all that lie in them."""

    def __init__(self, names: Sequence[str], values: Mapping[str, Any]) -> None:
        self.names, self.values = names, values
        self.used: set[str] = set()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        found = [name for name in self.names if fullname == name or fullname.startswith(name + ".")]
        if not found:
            return None
        self.used.add(found[0])
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = StandIn(spec.name)
        module.values = self.values
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def importable(name: str) -> bool:
    """Whether a module can be imported. What a failed import leaves behind is removed."""
    before = set(sys.modules)
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):  # a package for another build of PyTorch raises any of these
        for left in set(sys.modules) - before:
            if left == name or left.startswith(name + "."):
                del sys.modules[left]
        return False
    return True


def install(names: Sequence[str], values: Mapping[str, Any] | None = None) -> Finder:
    """Put stand-ins in place of those modules that cannot be imported. `used` of the answer: those that were asked for.

    `names` may also be of functions: `from package import function` looks for a module if the package lacks it.
    """
    finder = Finder([name for name in names if not importable(name)], values or {})
    sys.meta_path.insert(0, finder)  # first, because a broken package is found otherwise
    return finder
