"""The measures that need weights, with narrow networks in the official file layouts, on inputs with known answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common import torchvision_stub
from tests.support.media import Picture, steady, write_video

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
torchvision_stub.install()

from torch import Tensor

from tests.support.metric_weights import write_weights
from train.metrics import METRICS, Film, Pair, Sound, frechet_distance
from train.metrics.networks import cycle_clip, predicted_offset, window_starts

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None:
    """A folder with the weights of narrow networks."""


def noise(seed: int, seconds: float = 2.0, rate: int = 16000) -> Sound:
    """Bursts of noise."""
    rng = np.random.Generator(np.random.Philox(seed))
    n = round(seconds * rate)
    loudness = np.repeat(rng.random(12) ** 4, -(-n // 12))[:n]
    return Sound((0.3 * loudness * rng.uniform(-1, 1, n)).astype(np.float32), rate)


@pytest.mark.parametrize(("name", "frames", "dim"), [("FDD", 173, 72), ("FAD", 2, 12)])
def test_set_measures_embed_every_frame(name: str, frames: int, dim: int, weights: Path) -> None:
    """DAC: ceil(2 s at 44.1 kHz / 512). VGGish: whole examples of 0.96 s. The same sounds have distance 0."""
    embed = METRICS[name].load(weights)
    parts = [embed(noise(k)) for k in range(4)]
    assert parts[0].shape == (frames, dim) and np.isfinite(parts[0]).all()
    x = np.concatenate(parts)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6 * np.trace(np.cov(x.T)))
    quieter = np.concatenate([embed(Sound(0.1 * noise(k).samples, 16000)) for k in range(4)])
    assert frechet_distance(x, quieter) > 0.01 * np.trace(np.cov(x.T))


@pytest.mark.parametrize("name", ["WC", "NS"])
def test_alignment_with_itself_is_1_and_with_another_is_less(name: str, weights: Path) -> None:
    measure = METRICS[name].load(weights)
    truth, other = noise(1), noise(2)
    late = Sound(np.roll(truth.samples, 3200), 16000)
    same, shifted, unrelated = (measure(Pair(sound, truth))[name] for sound in (truth, late, other))
    assert same == pytest.approx(1)
    assert unrelated < 0.9999 and shifted < 0.9999
    if name == "NS":
        assert shifted < 0.8 and unrelated < 0.8  # a shift of 0.2 s is seen


def test_a_sound_of_a_moment_says_nothing_of_novelty(weights: Path) -> None:
    measure, short = METRICS["NS"].load(weights), Sound(np.zeros(2799, np.float32), 16000)
    assert np.isnan(measure(Pair(short, noise(1)))["NS"])
    assert METRICS["FAD"].load(weights)(short).shape == (0, 12)


def test_sparsesync_from_files(weights: Path, tmp_path: Path) -> None:
    """The whole measure with its real windows. Below 5 s it is NaN."""
    measure = METRICS["SS"].load(weights)
    for frames, known in ((130, True), (60, False)):
        video = write_video(tmp_path / f"{frames}.mp4", Picture(steady(frames, 25), last=1 / 25))
        sound = noise(3, frames / 25)
        values = measure(Pair(sound, sound, Film(video)))
        assert set(values) == set(METRICS["SS"].columns)
        assert all((0 <= v <= 2) if known else np.isnan(v) for v in values.values())
    with pytest.raises(ValueError, match="needs the clip's video"):
        measure(Pair(sound, sound))


class Watcher:
    """A stand-in for SparseSync: it predicts the delay from the brightest frame to the loudest sample."""

    offsets, size, resize = torch.linspace(-2, 2, 21), 8, 8

    def visual(self, frames: Tensor) -> Tensor:
        assert frames.shape == (1, 125, 8, 8, 3)
        return frames.float().mean(dim=(0, 2, 3, 4)).argmax() / 25

    def audio(self, audio: Tensor) -> Tensor:
        assert audio.shape == (1, 80_000)
        return audio[0].abs().argmax() / 16000

    def transformer(self, seen: Tensor, heard: Tensor) -> Tensor:
        return -(self.offsets + (heard - seen)).abs()[None]  # positive: the sound comes early


class Flashes:
    """A stand-in for a film: 10 s of black with one white frame in each of SparseSync's windows."""

    times = (1.0, 4.0, 8.0)

    def __init__(self) -> None:
        self.film = Film(Path("none"))
        self.film.frames = lambda grid: self.frames(grid.size)  # type: ignore[method-assign]

    def frames(self, size: int) -> np.ndarray:
        frames = np.zeros((250, size, size, 3), np.uint8)
        for brightness, time in enumerate(self.times, start=1):  # the later, the brighter and the louder
            frames[round(time * 25)] = 80 * brightness
        return frames

    def sound(self, late: float) -> Sound:
        samples = np.zeros(160_000, np.float32)
        for loudness, time in enumerate(self.times, start=1):
            samples[round((time + late) * 16000)] = 0.3 * loudness
        return Sound(samples, 16000)


@pytest.mark.parametrize("late", [0.0, 0.2, -0.2, 0.6])
def test_a_shift_is_seen_in_every_window(late: float) -> None:
    scene = Flashes()
    measure = predicted_offset(Watcher(), "cpu")  # type: ignore[arg-type]
    values = measure(Pair(scene.sound(late), scene.sound(0), scene.film))
    assert list(values.values()) == pytest.approx([abs(late)] * 2, abs=1e-6)


def test_windows() -> None:
    assert window_starts(250) == [0, 62, 125]
    assert window_starts(125) == [0] and window_starts(124) == []


def test_cycle_clip_averages_unit_frames() -> None:
    """The frames (2, 0), (0, 3) and (0, 1) have the mean (1, 2) / 3 after normalisation, whatever their lengths."""
    film = Film(Path("none"))
    film.frames = lambda grid: np.array([[[[0]]], [[[1]]], [[[2]]]], np.uint8)  # type: ignore[method-assign]
    table = torch.tensor([[2.0, 0], [0, 3], [0, 1]])
    calls: list[int] = []

    def clip(frames: Tensor) -> Tensor:
        calls.append(len(frames))
        return table[frames.flatten().long()]

    encoder: Any = type("Clip", (), {"resize": 1, "size": 1, "__call__": lambda self, frames: clip(frames)})()
    sounds = {"a": np.array([[1.0, 2.0]]), "b": np.array([[-2.0, 1.0]])}
    measure = cycle_clip(lambda sound: sounds["a" if sound.rate == 1 else "b"], encoder, "cpu")
    a, b = (Sound(np.zeros(4, np.float32), rate) for rate in (1, 2))
    assert measure(Pair(a, b, film))["CC"] == pytest.approx(1)
    assert measure(Pair(b, a, film))["CC"] == pytest.approx(0)
    assert calls == [3]  # the picture is encoded once for all systems


@pytest.mark.slow
def test_cycle_clip_from_files(tmp_path: Path) -> None:
    """CLIP ViT-B/32 and Wav2CLIP at full size: the registry gives the same result as the parts."""
    pytest.importorskip("open_clip")
    from tests.golden.make_golden import clip_state, read
    from tests.golden.make_metrics_golden import torch_state

    torch.save(clip_state(read("clip")[0]["shapes"]), tmp_path / "ViT-B-32.pt")
    torch.save(torch_state(read("wav2clip")[0]["shapes"]), tmp_path / "Wav2CLIP.pt")
    film = Film(write_video(tmp_path / "clip.mp4", Picture(steady(25, 25), last=1 / 25)))
    sound = noise(4, 1.0)
    value = METRICS["CC"].load(tmp_path)(Pair(sound, sound, film))["CC"]
    heard, seen = sound.results["Wav2CLIP"], film.results["CLIP"]
    assert heard.shape == seen.shape == (1, 512) and np.linalg.norm(seen) <= 1 + 1e-6
    assert value == pytest.approx(
        float((heard @ seen.T)[0, 0]) / np.linalg.norm(heard) / np.linalg.norm(seen), abs=1e-6
    )
