"""Runs a Lua script with Python objects as Resolve's: lists are 1-based tables, methods take a colon."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_resolve import Scriptable

# what is missing in the free edition from 21.1 on; `python` is lupa's own door to this process
FORBIDDEN = ("io", "os", "require", "package", "ffi", "debug", "jit", "python")
PROXY = """
return function(handle, lookup)
  return setmetatable({ handle = handle }, { __index = function(_, name) return lookup(name) end })
end
"""


class LuaHost:
    """One Lua state. `kind` is a module of lupa: luajit21, lua51, lua54."""

    def __init__(self, kind: str, sandboxed: bool) -> None:
        module = pytest.importorskip(f"lupa.{kind}", reason="needs lupa: pip install '.[test]'")
        self.state = module.LuaRuntime(unpack_returned_tuples=True)
        self._make, self._objects = self.state.execute(PROXY), list[Scriptable]()
        self.printed: list[str] = []
        self.state.globals()["print"] = (lambda *_: None) if sandboxed else self.printed.append
        for name in FORBIDDEN if sandboxed else ():
            self.state.globals()[name] = None

    def run(self, script: Path, **names: Any) -> Any:
        """Run a script with these globals. Returns what it returns."""
        for name, value in names.items():
            self.state.globals()[name] = self._to_lua(value)
        return self.state.execute(script.read_text(encoding="utf-8"))

    def _to_lua(self, value: Any) -> Any:
        if isinstance(value, list):
            return self.state.table_from([self._to_lua(v) for v in value])
        if not isinstance(value, Scriptable):
            return value
        if value not in self._objects:
            self._objects.append(value)

        def lookup(name: str) -> Any:
            method = getattr(value, name, None)
            if not hasattr(method, "is_api"):
                return None
            return lambda _self, *arguments: self._to_lua(method(*map(self._to_python, arguments)))

        return self._make(self._objects.index(value), lookup)

    def _to_python(self, value: Any) -> Any:
        if not hasattr(value, "items"):
            return value
        items = dict(value.items())
        if "handle" in items:
            return self._objects[items["handle"]]
        items = {key: self._to_python(v) for key, v in items.items()}
        return list(items.values()) if set(items) == set(range(1, len(items) + 1)) else items
