"""A bundle that a thread opens while the first video is decoded: same sound, same errors, and no thread stays."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import runtime
from engines.backends import BACKENDS, Opening
from engines.base import Engine
from engines.contract import Graph
from runtime import BackendUnavailable, Cancelled, ManifestError, MediaError, SamplingConfig
from runtime.bundle import NEEDED, Bundle, BundleFuture
from runtime.video import Video
from tests.support.fake_engines import NEEDS_ORT, rewrite_manifest

pytestmark = NEEDS_ORT
QUICK = SamplingConfig(steps=2, seed=1)
LONG = 30  # seconds after which a test gives up


def loaders() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "maskvat-loading"]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    for thread in loaders():
        thread.join(LONG)
    assert not loaders()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[str]]:
    """Hold the opening of engines back until the event is set, and list the names of opened graphs."""
    go, names, cpu = threading.Event(), list[str](), BACKENDS["cpu"]

    def open_(graph: Graph, opening: Opening) -> Engine:
        assert go.wait(LONG)
        names.append(graph.name)
        return cpu.open(graph, opening)

    monkeypatch.setitem(BACKENDS, "cpu", replace(cpu, open=open_))
    return go, names


def test_the_sound_is_the_same(bundles: Callable[..., Path], make_video: Callable[..., Path]) -> None:
    now, later = (runtime.load(bundles(), "cpu", 1, wait=w).generate(make_video(), QUICK)[0] for w in (True, False))
    assert later.audio.tobytes() == now.audio.tobytes()
    assert later.report.warnings == now.report.warnings and later.report.backend == "cpu"


def test_the_video_is_decoded_meanwhile(
    bundles: Callable[..., Path],
    make_video: Callable[..., Path],
    opened: tuple[threading.Event, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engines open only after a frame is decoded: this would hang if decoding waited for the engines."""
    image = Video._image

    def seen(self: Video, *args: object) -> object:
        opened[0].set()
        return image(self, *args)

    monkeypatch.setattr(Video, "_image", seen)
    (take,) = runtime.load(bundles(), "cpu", 1, wait=False).generate(make_video(), QUICK)
    assert len(take.audio) and opened[1] == list(NEEDED)


def broken(folder: Path) -> None:
    (folder / "codec_decoder.onnx").write_bytes(b"x" * (folder / "codec_decoder.onnx").stat().st_size)


def int4(folder: Path) -> None:
    rewrite_manifest(folder, lambda m: m["files"]["step.onnx"].update(precision="int4"))


@pytest.mark.parametrize("spoil", [broken, int4])
def test_errors_are_the_same(own_bundle: Path, make_video: Callable[..., Path], spoil: Callable[[Path], None]) -> None:
    spoil(own_bundle)
    with pytest.raises(ManifestError) as now:
        runtime.load(own_bundle, "cpu", 1)
    pipeline = runtime.load(own_bundle, "cpu", 1, wait=False)
    for call in (lambda: pipeline.generate(make_video(), QUICK), lambda: pipeline.bundle, lambda: pipeline.bundle):
        with pytest.raises(ManifestError) as later:
            call()
        assert str(later.value) == str(now.value)


def test_an_unknown_backend(bundles: Callable[..., Path], make_video: Callable[..., Path]) -> None:
    with pytest.raises(BackendUnavailable, match="unknown backend 'abacus'; choose from auto"):
        runtime.load(bundles(), "abacus", wait=False).generate(make_video(), QUICK)


def test_without_a_manifest_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"manifest\.json is missing"):
        runtime.load(tmp_path, wait=False)
    assert not loaders()


def test_an_unreadable_video_is_reported_at_once(
    bundles: Callable[..., Path], tmp_path: Path, opened: tuple[threading.Event, list[str]]
) -> None:
    pipeline = runtime.load(bundles(), "cpu", 1, wait=False)
    with pytest.raises(MediaError, match="no such file"):
        pipeline.generate(tmp_path / "absent.mp4", QUICK)
    assert loaders() and not opened[1]
    opened[0].set()


def test_cancelling_does_not_wait_for_the_engines(
    bundles: Callable[..., Path], make_video: Callable[..., Path], opened: tuple[threading.Event, list[str]]
) -> None:
    pipeline, cancel = runtime.load(bundles(), "cpu", 1, wait=False), threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        pipeline.generate(make_video(), QUICK, cancel=cancel)
    assert not opened[1]
    opened[0].set()
    assert len(pipeline.generate(make_video(), QUICK)) == 1  # the pipeline is as good as before
    timer.join()


def test_threads_share_one_loading(bundles: Callable[..., Path], make_video: Callable[..., Path]) -> None:
    pipeline = runtime.load(bundles(), "cpu", 1, wait=False)
    with ThreadPoolExecutor(3) as pool:
        sounds = list(pool.map(lambda s: pipeline.generate(make_video(), s)[0].audio.tobytes(), [QUICK] * 3))
    assert sounds == [runtime.load(bundles(), "cpu", 1).generate(make_video(), QUICK)[0].audio.tobytes()] * 3


def test_a_program_that_ends_does_not_open_the_rest(
    bundles: Callable[..., Path], opened: tuple[threading.Event, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Thread(target=lambda: None)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    opened[0].set()
    with pytest.raises(Cancelled, match="the program has ended"):
        BundleFuture(bundles(), "cpu", 1).wait(lambda: None)
    assert not opened[1]
    monkeypatch.undo()
    assert Bundle(bundles(), "cpu", 1).backend == "cpu"
