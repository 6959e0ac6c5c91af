"""Pipelines inside of other programs: hosts that quit, graphs that open side by side, files that change."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from engines.backends import BACKENDS, Opening
from engines.base import Engine
from engines.contract import Graph
from runtime import ManifestError, PipelineClosed
from runtime.bundle import Bundle
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

pytestmark = NEEDS_ORT
LONG = 30  # seconds after which a test gives up


# ---------------------------------------------------------------- hosts that quit
HOST = """
import sys, threading, time
import runtime
pipeline = runtime.load({bundle!r}, "cpu", 1)
begun = threading.Event()
def work():
    try:
        pipeline.generate({video!r}, runtime.SamplingConfig(steps=1024, candidates=8), lambda p: begun.set())
    except runtime.Cancelled:
        pass
threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in threads: thread.start()
begun.wait()
time.sleep({delay})
{end}
"""


@pytest.mark.parametrize("delay", [0, 0.3])
@pytest.mark.parametrize(("end", "status"), [("", 0), ("sys.exit(7)", 7), ("raise KeyboardInterrupt", -2)])
def test_a_host_that_quits_ends_with_its_own_status(
    bundles: Callable[..., Path], make_video: Callable[..., Path], delay: float, end: str, status: int
) -> None:
    code = HOST.format(bundle=str(bundles()), video=str(make_video()), delay=delay, end=end)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert "terminate called" not in done.stderr and "Exception in thread" not in done.stderr


# ---------------------------------------------------------------- opening
@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event, list[str]]:
    """Opening scav_audio takes until the event `go`. (go, it has begun, graphs whose engines were closed)"""
    go, begun, closed, cpu = threading.Event(), threading.Event(), list[str](), BACKENDS["cpu"]

    def open_(graph: Graph, opening: Opening) -> Engine:
        if graph.name == "scav_audio":
            assert not begun.is_set(), "it is opened twice"
            begun.set()
            assert go.wait(LONG)
        engine = cpu.open(graph, opening)
        engine.close = lambda: closed.append(graph.name)  # type: ignore[method-assign]
        return engine

    monkeypatch.setitem(BACKENDS, "cpu", replace(cpu, open=open_))
    return go, begun, closed


def test_other_graphs_do_not_wait(
    bundles: Callable[..., Path], slow: tuple[threading.Event, threading.Event, list[str]]
) -> None:
    """A plan may be built for minutes: this would hang if one lock covered all graphs."""
    bundle, (go, begun, _) = Bundle(bundles(), "cpu", 1), slow
    with ThreadPoolExecutor(2) as pool:
        two = [pool.submit(lambda: bundle["scav_audio"]) for _ in range(2)]
        assert begun.wait(LONG)
        assert bundle["step"].graph.name == "step" and bundle["scav_video"].graph.name == "scav_video"
        assert not any(future.done() for future in two)
        go.set()
        assert two[0].result() is two[1].result()


def test_closing_does_not_wait_and_leaves_nothing_open(
    bundles: Callable[..., Path], slow: tuple[threading.Event, threading.Event, list[str]]
) -> None:
    bundle, (go, begun, closed) = Bundle(bundles(), "cpu", 1), slow
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(lambda: bundle["scav_audio"])
        assert begun.wait(LONG)
        bundle.close()
        assert "scav_audio" not in closed and "step" in closed
        go.set()
        with pytest.raises(PipelineClosed):
            opening.result()
    assert closed.count("scav_audio") == 1


# ---------------------------------------------------------------- files that change after they were verified
def other_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def replaced(path: Path) -> None:
    """Same size and time stamps."""
    found, new = path.stat(), path.with_name("new")
    new.write_bytes(bytes(found.st_size))
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(new, path)


@pytest.mark.parametrize("change", [other_bytes, replaced, Path.unlink])
def test_a_file_that_changed_is_not_opened(own_bundle: Path, change: Callable[[Path], None]) -> None:
    bundle = Bundle(own_bundle, "cpu", 1)
    change(own_bundle / bundle.file_for("scav_audio"))
    with pytest.raises(ManifestError, match="has changed since it was verified"):
        bundle["scav_audio"]
    assert bundle["scav_video"].graph.name == "scav_video"


def test_a_file_with_another_time_stamp_is_read_again(own_bundle: Path) -> None:
    bundle = Bundle(own_bundle, "cpu", 1)
    os.utime(own_bundle / bundle.file_for("scav_audio"))
    assert bundle["scav_audio"].graph.name == "scav_audio"


def test_a_file_that_changes_while_it_is_opened(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, cpu = Bundle(own_bundle, "cpu", 1), BACKENDS["cpu"]

    def open_(graph: Graph, opening: Opening) -> Engine:
        engine = cpu.open(graph, opening)
        other_bytes(own_bundle / opening.file)
        return engine

    monkeypatch.setitem(BACKENDS, "cpu", replace(cpu, open=open_))
    with pytest.raises(ManifestError, match="has changed while it was opened"):
        bundle["scav_audio"]
