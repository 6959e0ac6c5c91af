"""Shared fixtures, such as fake bundles and short videos that are written once per session; and the lane `host`."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more threads each would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when NumPy and PyTorch are imported

import gc
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engines.backends import BACKENDS
from tests.support.corpus import TABLE, command, video
from tests.support.fake_engines import FakeBundle, entry_of, rewrite_manifest, small_config, write_bundle
from tests.support.media import Picture, steady, write_video

# Do not free objects of the parent in a forked child: a decoder would wait for threads that do not exist there.
os.register_at_fork(after_in_child=gc.freeze)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked `host`, unless the option -m names this marker."""
    if "host" in re.findall(r"\w+", config.option.markexpr):
        return
    for item in items:
        if item.get_closest_marker("host") is not None:
            item.add_marker(pytest.mark.skip(reason="runs only with -m host"))


MakeVideo = Callable[..., Path]
Bundles = Callable[..., Path]


@pytest.fixture(autouse=True)
def int8_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every CPU prefer int8, as CPUs with fast int8 do, so that tests are the same on every machine."""
    monkeypatch.setitem(BACKENDS, "cpu", replace(BACKENDS["cpu"], precisions=("int8", "fp16", "fp32")))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """bundles(design, **config) -> folder of a fake bundle. Tests must not change it."""
    pytest.importorskip("onnxruntime")
    root, made = tmp_path_factory.mktemp("bundles"), {}

    def get(design: str = "hybrid", **changes: object) -> Path:
        key = (design, *sorted(changes.items()))
        if key not in made:
            fake = FakeBundle(small_config(design, **changes), self_test=True)
            made[key] = write_bundle(root / str(len(made)), fake)
        return made[key]

    return get


@pytest.fixture
def own_bundle(bundles: Bundles, tmp_path: Path) -> Path:
    """A fake bundle that the test may change."""
    return Path(shutil.copytree(bundles(), tmp_path / "own_bundle"))


@pytest.fixture
def two_steps(own_bundle: Path) -> Path:
    """A fake bundle with a second step that is listed as int8. It is a copy of the first step."""
    path = own_bundle / "step.int8.onnx"
    path.write_bytes((own_bundle / "step.onnx").read_bytes())
    rewrite_manifest(own_bundle, lambda m: m["files"].update({path.name: entry_of(path, "step", "int8")}))
    return own_bundle


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the slow measurement of rates in benchmarks.latency."""
    rate = {"precision": "fp32", "gflops": 1.0, "library": "none"}
    floor = {"gflops": {"fp32": 1.0}, "bandwidth_gb_per_second": 1.0}
    monkeypatch.setattr(
        "benchmarks.latency.roofline.measure", lambda products, *_: [asdict(p) | rate for p in products]
    )
    monkeypatch.setattr("benchmarks.latency.roofline.machine_floor", lambda *_: floor)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: faster for tiny networks, and the same sums on every machine."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """make_video(frames, fps) -> a silent mp4 with that many frames. Tests must not change it."""
    root, made = tmp_path_factory.mktemp("videos"), {}

    def get(frames: int = 60, fps: int = 25) -> Path:
        key = (frames, fps)
        if key not in made:
            made[key] = write_video(root / f"video{frames}x{fps}.mp4", Picture(steady(frames, fps), last=1 / fps))
        return made[key]

    return get


# ---------------------------------------------------------------- prepared shards
@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system of tiny random networks. Tests must not change it."""
    from tests.support.tiny_system import tiny_components, write_system

    return write_system(tmp_path_factory.mktemp("system"), tiny_components())


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of six clips in the format of VGGSound, and five of the clips: in both naming schemes, one unreadable."""
    root = tmp_path_factory.mktemp("corpus")
    first = video(root / "videos" / "clip-_00000_000000.mkv")
    for name in ("clip-_00001_10000_20000", "clip-_00002_000020", "clip-_00004_000040"):
        shutil.copy(first, root / "videos" / f"{name}.mkv")
    (root / "videos" / "clip-_00003_000030.mp4").write_bytes(b"not a video")
    (root / "vggsound.csv").write_text("\n".join(TABLE) + "\n")
    return root


@pytest.fixture(scope="session")
def made(corpus: Path, system: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished shards of `corpus`. Tests must not change them."""
    from train.prepare import __main__ as prepare

    out = tmp_path_factory.mktemp("made") / "out"
    assert prepare.main(command(corpus, system, out)) == 3  # one file cannot be read
    return out
