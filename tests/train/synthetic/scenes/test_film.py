"""Filming simulated scenes: the times to render, every effect, and the file."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import av
import numpy as np
import pytest

from train.synthetic.mp4 import FRAME_RATES, write_mp4
from train.synthetic.scenes.film import Film, Occluder, draw_film

WIDTH, HEIGHT, WIDE, HIGH = 64, 48, 72, 54
PLAIN = Film(WIDTH, HEIGHT, 20, 1.0, WIDE, HIGH)


def scene(film: Film) -> Iterator[np.ndarray]:
    """A smooth random picture that stands still, with a square that moves to the right."""
    coarse = np.random.default_rng(1).uniform(40, 200, (film.canvas_height // 6 + 1, film.canvas_width // 6 + 1, 3))
    still = np.kron(coarse, np.ones((6, 6, 1)))[: film.canvas_height, : film.canvas_width].astype(np.uint8)
    for t in film.times():
        canvas = still.copy()
        canvas[20:30, int(10 + 30 * t) : int(20 + 30 * t)] = 255
        yield canvas


def developed(film: Film, seed: int = 0) -> np.ndarray:
    return np.stack(list(film.develop(scene(film), np.random.default_rng(seed))))


# ---------------------------------------------------------------- instants
def test_without_blur_frame_k_is_asked_for_at_its_own_time() -> None:
    assert PLAIN.times() == pytest.approx([k / 20 for k in range(20)])


def test_sub_frames_lie_around_the_time_of_their_frame() -> None:
    film = replace(PLAIN, blur=4)
    times = np.array(film.times())
    assert len(times) == 80 and (np.diff(times) >= 0).all() and times[0] == 0
    parts = times.reshape(20, 4)[1:]  # the first frame's are cut off at 0
    assert parts.mean(1) == pytest.approx(np.arange(1, 20) / 20)
    assert np.ptp(parts, 1) == pytest.approx(0.5 / 20 * 3 / 4)


def test_a_film_needs_as_many_canvases_as_times_and_gives_count_pictures() -> None:
    for film in (PLAIN, replace(PLAIN, blur=3, shake=0.01, stutter=0.5)):
        canvases = scene(film)
        pictures = list(film.develop(canvases, np.random.default_rng(0)))
        assert len(pictures) == film.count == 20 and next(canvases, None) is None
        assert {(p.shape, p.dtype.name) for p in pictures} == {((HEIGHT, WIDTH, 3), "uint8")}


def test_a_canvas_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(54, 72, 3\).*not \(48, 64, 3\)"):
        next(PLAIN.develop(iter([np.zeros((48, 64, 3), np.uint8)]), np.random.default_rng(0)))


# ---------------------------------------------------------------- effects
def test_a_film_without_effects_is_the_middle_of_the_canvases() -> None:
    middle = np.stack(list(scene(PLAIN)))[:, 3:51, 4:68]
    assert np.abs(developed(PLAIN).astype(int) - middle).max() <= 1


EFFECTS = {
    "blur": {"blur": 3},
    "shake": {"shake": 0.01},
    "jolts": {"jolts": 2},
    "drift": {"drift": (0.08, -0.05)},
    "zoom in": {"zoom": 1.2},
    "zoom out": {"zoom": 0.8},
    "flicker": {"flicker": 0.08},
    "noise": {"noise": 6.0},
    "gains": {"gains": (1.1, 1.0, 0.9)},
    "gamma": {"gamma": 1.3},
    "brightness": {"brightness": 10.0},
    "contrast": {"contrast": 1.2},
    "vignette": {"vignette": 0.4},
    "defocus": {"defocus": 0.8},
    "rows": {"letterbox": (6, 0)},
    "columns": {"letterbox": (0, 6)},
    "stutter": {"stutter": 0.5},
    "bar": {"occluder": Occluder(0.5, 1.0, 0.1, None, (20.0, 30.0, 40.0))},
    "disc": {"occluder": Occluder(0.5, -1.0, 0.1, 0.5, (20.0, 30.0, 40.0))},
}


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_changes_the_pictures_and_is_reproducible(name: str) -> None:
    film = replace(PLAIN, **EFFECTS[name])
    pictures = developed(film)
    assert np.array_equal(pictures, developed(film))
    assert (pictures != developed(PLAIN)).any()
    assert pictures.std() > 10  # still a picture


def test_everything_but_the_shares_of_light_is_bounded() -> None:
    """With all effects at once, levels never wrap around from dark to light or from light to dark."""
    film = replace(PLAIN, noise=12.0, flicker=0.08, gains=(1.4, 1.4, 1.4), contrast=1.4, brightness=20.0)
    bright = [np.full((HIGH, WIDE, 3), level, np.uint8) for level in (250, 3)]
    for canvas, mean in zip(bright, (255, 10), strict=True):
        pictures = np.stack(list(film.develop(iter([canvas] * 20), np.random.default_rng(0))))
        assert abs(pictures.mean() - mean) < 12


def test_another_seed_is_another_hand_and_other_noise() -> None:
    hand = replace(PLAIN, shake=0.01)
    assert not np.allclose(hand.views(), replace(hand, seed=1).views())
    noisy = replace(PLAIN, noise=6.0)
    assert (developed(noisy, 0) != developed(noisy, 1)).any()


@pytest.mark.parametrize("seed", range(12))
def test_the_camera_stays_on_the_canvas_and_moves_little(seed: int) -> None:
    film = draw_film(np.random.default_rng(seed), 4.0)
    film = replace(film, shake=0.012, jolts=2, drift=(0.05, 0.05), seed=seed)
    top, left, scale = film.views().T
    assert (top >= 0).all() and (top + film.height * scale <= film.canvas_height).all()
    assert (left >= 0).all() and (left + film.width * scale <= film.canvas_width).all()
    middle = np.stack([top + film.height * scale / 2, left + film.width * scale / 2])
    far = np.abs(middle - np.array([[film.canvas_height / 2], [film.canvas_width / 2]]))
    assert far.max() < 0.2 * film.height
    assert np.abs(np.diff(middle)).max() < 0.1 * film.height  # from one instant to the next


def test_a_shaken_picture_is_the_plain_one_moved_by_what_the_view_says() -> None:
    film = replace(PLAIN, shake=0.03)
    canvases, pictures = list(scene(film)), developed(film)
    for k, (top, left, _) in enumerate(film.views()):
        near = canvases[k][round(top) : round(top) + HEIGHT, round(left) : round(left) + WIDTH]
        wrong = canvases[k][round(6 - top) : round(6 - top) + HEIGHT, round(8 - left) : round(8 - left) + WIDTH]
        error, other = (np.abs(pictures[k].astype(int) - p).mean() for p in (near, wrong))
        assert error < 9 and (abs(top - 3) + abs(left - 4) < 1 or error < other)


def test_zoom_enlarges_the_middle() -> None:
    film = replace(PLAIN, zoom=1.25)
    canvas = np.zeros((HIGH, WIDE, 3), np.uint8)
    canvas[17:37, 26:46] = 255  # 20 pixels wide
    pictures = list(film.develop(iter([canvas] * 20), np.random.default_rng(0)))
    sides = [(p[24, :, 0] > 127).sum() for p in (pictures[0], pictures[-1])]
    assert sides[0] == 20 and sides[1] in (24, 25)


def test_a_lost_frame_shows_the_one_before_it_and_moves_no_other() -> None:
    plain, lost = developed(PLAIN), developed(replace(PLAIN, stutter=0.5))
    repeats = 0
    for k in range(1, 20):
        if np.array_equal(lost[k], lost[k - 1]):
            repeats += 1
        else:
            assert np.array_equal(lost[k], plain[k])
    assert 3 < repeats < 17


def test_letterbox_is_black_and_an_occluder_hides_what_is_behind() -> None:
    boxed = developed(replace(PLAIN, letterbox=(6, 0), noise=9.0, brightness=20.0))
    assert not boxed[:, :6].any() and not boxed[:, -6:].any() and boxed[:, 6:-6].any()
    bar = Occluder(0.5, 1.0, 0.1, None, (20.0, 30.0, 40.0))
    pictures = developed(replace(PLAIN, occluder=bar))
    assert np.abs(pictures[10, :, 32] - np.array(bar.colour)).max() <= 1  # at 0.5 s, in the middle
    assert np.array_equal(pictures[10, :, :20], developed(PLAIN)[10, :, :20])


# ---------------------------------------------------------------- drawing
def test_drawn_films_are_varied_and_within_their_limits() -> None:
    films = [draw_film(np.random.default_rng(seed), 10.0) for seed in range(300)]
    assert films[0] == draw_film(np.random.default_rng(0), 10.0)
    for film in films:
        assert film.width % 2 == film.height % 2 == 0 and 128 <= min(film.width, film.height) <= 192
        assert 1.08 <= film.canvas_width / film.width <= 1.13 and 1.08 <= film.canvas_height / film.height <= 1.13
        assert film.fps in FRAME_RATES and (film.blur == 1 or film.fps <= 30) and 18 <= film.crf <= 38
        assert max(film.letterbox) < 0.15 * max(film.width, film.height)
        json.dumps(asdict(film))
    shares = {
        "blur": [f.blur > 1 for f in films],
        "shake": [f.shake > 0 for f in films],
        "zoom": [f.zoom != 1 for f in films],
        "noise": [f.noise > 0 for f in films],
        "box": [any(f.letterbox) for f in films],
        "occluder": [f.occluder is not None for f in films],
        "stutter": [f.stutter > 0 for f in films],
    }
    expected = {"blur": 0.3, "shake": 0.35, "zoom": 0.2, "noise": 0.45, "box": 0.08, "occluder": 0.08, "stutter": 0.05}
    for name, share in expected.items():
        assert np.mean(shares[name]) == pytest.approx(share, abs=0.09) and any(shares[name]), name


def test_size_and_rate_may_be_given() -> None:
    film = draw_film(np.random.default_rng(3), 2.0, (96, 64), 15)
    assert (film.width, film.height, film.fps, film.count) == (96, 64, 15, 30)
    rest = draw_film(np.random.default_rng(3), 2.0)
    assert (film.shake, film.noise, film.seed) == (rest.shake, rest.noise, rest.seed)  # the same draws


# ---------------------------------------------------------------- file
def test_the_file_has_every_frame_at_its_time_and_the_same_bytes(tmp_path: Path) -> None:
    film = replace(PLAIN, noise=3.0, crf=20)
    paths = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for path in paths:
        film.write(path, film.develop(scene(film), np.random.default_rng(0)))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with av.open(str(paths[0])) as media:
        frames = list(media.decode(video=0))
        assert media.streams.video[0].average_rate == 20
    assert [float(f.pts * f.time_base) for f in frames] == pytest.approx(film.times())
    error = np.abs(np.stack([f.to_ndarray(format="rgb24") for f in frames]).astype(int) - developed(film))
    assert error.mean() < 12


def test_more_compression_is_a_smaller_file(tmp_path: Path) -> None:
    sizes = []
    for crf in (18, 38):
        film = replace(PLAIN, noise=4.0, crf=crf)
        film.write(tmp_path / "film.mp4", film.develop(scene(film), np.random.default_rng(0)))
        sizes.append((tmp_path / "film.mp4").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def test_a_film_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        write_mp4(tmp_path / "none.mp4", iter([]), 25)
