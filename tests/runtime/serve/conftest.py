"""Servers with fake workers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")
from tests.support.serving import Serving


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fake workers check every request against the schema of the protocol."""
    monkeypatch.setenv("FAKE_CHECK", "1")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """start(**config) -> a server on tmp_path/state."""
    with ExitStack() as stack:
        yield lambda **config: stack.enter_context(Serving(tmp_path / "state", **config))


@pytest.fixture
def server(start: Callable[..., Serving]) -> Any:
    return start()


@pytest.fixture
def idle(start: Callable[..., Serving]) -> Any:
    """A server without workers: jobs wait."""
    return start(workers=0)
