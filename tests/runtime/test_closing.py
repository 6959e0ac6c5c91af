"""Closing a pipeline: the engines are released, later use is an error, and nothing is opened again."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import runtime
from engines.backends import BACKENDS, Opening
from engines.base import Engine
from engines.contract import Graph
from runtime import Pipeline, PipelineClosed, Progress, SamplingConfig
from tests.support.fake_engines import NEEDS_ORT

pytestmark = NEEDS_ORT
QUICK = SamplingConfig(steps=2, seed=1)
LONG = 30  # seconds after which a test gives up
WORDS = r"this pipeline is closed; open another one with runtime\.load\(\)"


class Opened:
    """Counts the engines that are open, and can hold their opening back."""

    def __init__(self) -> None:
        self.go, self.names, self.closed = threading.Event(), list[str](), list[str]()
        self.alive: weakref.WeakSet[Engine] = weakref.WeakSet()
        self.go.set()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    found, cpu = Opened(), BACKENDS["cpu"]

    def open_(graph: Graph, opening: Opening) -> Engine:
        assert found.go.wait(LONG)
        engine = cpu.open(graph, opening)
        found.names.append(graph.name)
        found.alive.add(engine)
        engine.close = lambda: found.closed.append(graph.name)  # type: ignore[method-assign]
        return engine

    monkeypatch.setitem(BACKENDS, "cpu", replace(cpu, open=open_))
    return found


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "maskvat-loading":
            thread.join(LONG)
            assert not thread.is_alive()


def check_closed(pipeline: Pipeline, video: Path) -> None:
    for use in (lambda: pipeline.generate(video, QUICK), lambda: pipeline.bundle):
        with pytest.raises(PipelineClosed, match=WORDS):
            use()


@pytest.mark.parametrize("wait", [True, False])
def test_a_context_manager_releases_the_engines(
    bundles: Callable[..., Path], make_video: Callable[..., Path], opened: Opened, wait: bool
) -> None:
    with runtime.load(bundles(), "cpu", 1, wait=wait) as pipeline:
        assert isinstance(pipeline, Pipeline) and len(pipeline.generate(make_video(), QUICK)) == 1
        assert not opened.closed
    gc.collect()
    assert sorted(opened.closed) == sorted(opened.names) and not opened.alive
    check_closed(pipeline, make_video())
    names = list(opened.names)
    pipeline.close()
    pipeline.close()
    check_closed(pipeline, make_video())
    assert opened.names == names


def test_an_error_in_the_block_comes_through(bundles: Callable[..., Path], opened: Opened) -> None:
    with pytest.raises(ZeroDivisionError), runtime.load(bundles(), "cpu", 1):
        raise ZeroDivisionError
    assert sorted(opened.closed) == sorted(opened.names)


def test_the_configuration_is_known_after_closing(bundles: Callable[..., Path]) -> None:
    with runtime.load(bundles(), "cpu", 1) as pipeline:
        pass
    assert pipeline.config.sample_rate == 44100


def test_closing_while_a_thread_opens_the_engines(
    bundles: Callable[..., Path], make_video: Callable[..., Path], opened: Opened
) -> None:
    """`close` does not wait; the thread releases what it opened, and opens no more."""
    opened.go.clear()
    pipeline = runtime.load(bundles(), "cpu", 1, wait=False)
    pipeline.close()
    check_closed(pipeline, make_video())
    opened.go.set()
    for thread in threading.enumerate():
        if thread.name == "maskvat-loading":
            thread.join(LONG)
    gc.collect()
    assert len(opened.names) <= 1 and opened.closed == opened.names and not opened.alive


def test_closing_ends_a_generation_that_waits_for_the_engines(
    bundles: Callable[..., Path], make_video: Callable[..., Path], opened: Opened
) -> None:
    opened.go.clear()
    pipeline = runtime.load(bundles(), "cpu", 1, wait=False)
    timer = threading.Timer(0.2, pipeline.close)
    timer.start()
    with pytest.raises(PipelineClosed, match=WORDS):
        pipeline.generate(make_video(), QUICK)
    opened.go.set()
    timer.join()


def test_closing_ends_a_generation_that_runs(
    bundles: Callable[..., Path], make_video: Callable[..., Path], opened: Opened
) -> None:
    pipeline = runtime.load(bundles(), "cpu", 1)

    def close(progress: Progress) -> None:
        if progress.stage == "sample":
            pipeline.close()

    with pytest.raises(PipelineClosed, match=WORDS):
        pipeline.generate(make_video(), QUICK, close)
    assert sorted(opened.closed) == sorted(opened.names)
