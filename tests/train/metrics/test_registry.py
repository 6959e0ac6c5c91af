"""The measures that need no weights, on inputs with known answers, and the registry of measures."""

from pathlib import Path

import numpy as np
import pytest

from train.metrics import (
    METRICS,
    MissingWeights,
    Moments,
    Pair,
    Sound,
    cosine_alignment,
    frechet_distance,
    frechet_distance_of,
    novelty_score,
)
from train.metrics.sequences import HALF, checkerboard, novelty_curve


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape)


def noise(seed: int, seconds: float = 2.0, rate: int = 44100) -> np.ndarray:
    """Noise float32 [L] whose loudness changes."""
    n = round(seconds * rate)
    loudness = np.interp(np.arange(n) / n, np.linspace(0, 1, 9), normal(seed + 1, 9) ** 2)
    return (0.05 * loudness * normal(seed, n)).clip(-1, 1).astype(np.float32)


# ---------------------------------------------------------------- Frechet distance
def test_frechet_distance_of_a_set_to_itself_is_0() -> None:
    x = normal(0, 500, 12)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_with_known_moments() -> None:
    """With equal covariances it is the squared distance of the means; with diagonal ones, of the deviations."""
    x = normal(1, 4000, 5)
    assert frechet_distance(x, x + 2) == pytest.approx(20)
    assert frechet_distance(x - x.mean(0), 3 * (x - x.mean(0))) == pytest.approx(4 * np.trace(np.cov(x.T)))


def test_frechet_distance_agrees_with_the_matrix_root() -> None:
    """It equals the formula with scipy's matrix square root, which reference implementations use."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = normal(2, 300, 20) @ normal(3, 20, 20), normal(4, 200, 20) @ normal(5, 20, 20) + 0.5
    (m, c), (n, d) = ((x.mean(0), np.cov(x.T)) for x in (a, b))
    want = ((m - n) ** 2).sum() + np.trace(c + d - 2 * linalg.sqrtm(c @ d).real)
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-9)


def test_moments_add_up_and_count_clips_twice() -> None:
    a, b, reference = normal(6, 30, 4), normal(7, 50, 4) + 1, Moments.of(normal(8, 90, 4))
    both = Moments.of(a) * 2 + Moments.of(b)
    want = frechet_distance_of(Moments.of(np.concatenate([a, a, b])), reference)
    assert frechet_distance_of(both, reference) == pytest.approx(want)
    assert Moments.of(a[:7]).too_few and not Moments.of(a[:8]).too_few


def test_frechet_distance_refuses_what_means_nothing() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(normal(0, 1, 3), normal(0, 9, 3))
    with pytest.raises(ValueError, match="of 3 and of 4 numbers"):
        frechet_distance(normal(0, 9, 3), normal(0, 9, 4))
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(np.full((9, 3), np.nan), normal(0, 9, 3))
    with pytest.raises(ValueError, match=r"must be \[n, d\]"):
        frechet_distance(normal(0, 9), normal(0, 9, 3))


# ---------------------------------------------------------------- novelty, cosine
def test_novelty_peaks_where_the_features_change() -> None:
    features = np.repeat(normal(9, 2, 16), [20, 30], axis=0) + 0.01 * normal(10, 50, 16)
    curve = novelty_curve(features)
    assert len(curve) == 50 - 2 * HALF and abs(int(np.argmax(curve)) + HALF - 20) <= 1
    kernel = checkerboard()
    assert np.abs(kernel).sum() == pytest.approx(1) and kernel.sum() == pytest.approx(0)
    assert kernel[0, 0] > 0 > kernel[0, -1] and not kernel[HALF].any()


def test_novelty_score_is_1_for_the_same_and_0_for_unrelated_sequences() -> None:
    """Features that all share a vector do not change this. With padded ends, that vector would raise the mean."""
    common = 2 * normal(11, 64)
    x = normal(12, 62, 64) + common
    assert novelty_score(x, x) == pytest.approx(1)
    assert novelty_score(x, 3 * x[:50]) == pytest.approx(1)  # cut to the shorter; size does not matter
    scores = [novelty_score(normal(100 + k, 62, 64) + common, normal(300 + k, 62, 64) + common) for k in range(100)]
    assert np.mean(scores) == pytest.approx(0, abs=0.08)


def test_novelty_score_is_nan_without_novelty() -> None:
    assert np.isnan(novelty_score(np.ones((30, 4)), normal(0, 30, 4)))
    assert np.isnan(novelty_score(normal(0, 9, 4), normal(1, 9, 4)))


def test_cosine_alignment() -> None:
    a = np.array([[1.0, 0], [3, 4], [1, 1], [0, 0]])
    b = np.array([[5.0, 0], [4, -3], [-2, -2], [1, 0]])
    assert cosine_alignment(a, b) == pytest.approx([1, 0, -1, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match=r"both be \[n, d\]"):
        cosine_alignment(a, b[:3])


# ---------------------------------------------------------------- FDM
def test_low_passed_sound_worsens_fdm() -> None:
    """Narrower bands are further from the truth. Other noise of the same kind is nearer than both."""
    embed = METRICS["FDM"].load(None)
    truth = [Sound(noise(10 * k), 44100) for k in range(3)]

    def fdm(sounds: list[Sound]) -> float:
        parts = [np.concatenate([embed(s) for s in group]) for group in (sounds, truth)]
        return frechet_distance(*parts)

    low = [fdm([Sound(s.at(rate), rate) for s in truth]) for rate in (16000, 8000)]
    assert fdm(truth) == pytest.approx(0, abs=1e-6)
    assert 1 < low[0] < low[1]
    assert fdm([Sound(noise(10 * k + 5), 44100) for k in range(3)]) < low[0]


# ---------------------------------------------------------------- the registry
def test_measures_without_weights_need_no_folder() -> None:
    sound, other = Sound(noise(0, 4), 44100), Sound(np.zeros(4 * 22050, np.float32), 22050)
    measure = METRICS["onsets"].load(None)
    same = measure(Pair(sound, sound))
    assert set(same) == set(METRICS["onsets"].columns)
    assert same["energy_r"] == pytest.approx(1)
    assert all(np.isnan(v) for v in measure(Pair(other, other)).values())


@pytest.mark.parametrize("name", [m.name for m in METRICS.values() if m.weights])
def test_missing_weights_are_reported_in_one_line(name: str, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(MissingWeights) as caught:
            METRICS[name].load(folder)
        words = str(caught.value)
        assert words.startswith(f"{name} is left out: it needs ") and "\n" not in words
        assert all(w.file in words and w.licence in words for w in METRICS[name].weights)


def test_a_sound_is_analysed_once() -> None:
    sound = Sound(noise(0), 44100)
    embed = METRICS["FDM"].load(None)
    assert embed(sound) is embed(sound) and sound.at(16000) is sound.at(16000)
    assert len(sound.at(16000)) == 32000 and sound.seconds == 2
