"""Looks of simulated scenes: reproducible, different in each split, and only loosely related to materials."""

from importlib.util import find_spec

import numpy as np
import pytest

from train.synthetic.drawn.shapes import LOOKS
from train.synthetic.scenes import look
from train.synthetic.scenes.look import MATERIALS, PHOTOGRAPHS, SPLITS, Looks, crop, resized
from train.synthetic.scenes.texture import TEXTURES, texture


@pytest.fixture(params=["photographs", "none"])
def looks(request: pytest.FixtureRequest) -> Looks:
    """The looks of the training split, with this machine's photographs and without any."""
    if request.param == "none":
        return Looks("train", ())
    return Looks.load("train")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(looks: Looks, seed: int) -> list[np.ndarray]:
    source = rng(seed)
    return [looks.material(source, "wood"), looks.surface(source, 40), looks.backdrop(source, 30, 50)]


def test_every_material_of_the_drawn_clips_has_a_look() -> None:
    assert set(LOOKS) <= set(MATERIALS)


def test_shapes_and_contrast(looks: Looks) -> None:
    source = rng()
    for material in MATERIALS:
        picture = looks.material(source, material, 32)
        assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
    for size in (24, 128):
        assert looks.surface(source, size).shape == (size, size, 3)
    for height, width in ((40, 70), (70, 40), (33, 33)):
        backdrops = [looks.backdrop(source, height, width) for _ in range(12)]
        assert {(b.shape, b.dtype.name) for b in backdrops} == {((height, width, 3), "uint8")}
        assert np.mean([b.std((0, 1)).mean() > 5 for b in backdrops]) > 0.5  # most are more than one flat colour


def test_the_same_generator_gives_the_same_pictures_and_another_gives_others(looks: Looks) -> None:
    for a, b, c in zip(pictures(looks, 1), pictures(looks, 1), pictures(looks, 2), strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_what_is_drawn_does_not_depend_on_how_much_was_drawn_before(looks: Looks) -> None:
    """Every look advances the caller's generator equally, so a scene does not depend on the photographs."""
    states = []
    for material, seed in (("wood", 1), ("glass", 1)):
        source = rng(seed)
        looks.material(source, material)
        states.append(source.random())
    assert states[0] == states[1]


def test_splits_share_no_texture() -> None:
    assert len({(p.package, p.file) for p in PHOTOGRAPHS}) == len(PHOTOGRAPHS)
    assert {p.split for p in PHOTOGRAPHS} == set(SPLITS)
    assert all(p.licence and p.origin for p in PHOTOGRAPHS)
    drawn = [pictures(Looks(split, ()), 3) for split in SPLITS]
    for a, b, c in zip(*drawn, strict=True):
        assert not np.array_equal(a, b) and not np.array_equal(a, c) and not np.array_equal(b, c)


def test_colours_tell_materials_apart_only_by_tendency(looks: Looks) -> None:
    source = rng(5)
    grass = np.array([looks.material(source, "grass", 24).mean((0, 1)) for _ in range(120)])
    greenest = (grass.argmax(1) == 1).mean()
    assert 0.55 < greenest < 0.97
    red = [(looks.material(source, "tom", 24).mean((0, 1)).argmax() == 0) for _ in range(120)]
    assert 0.55 < np.mean(red) < 0.97


def test_every_texture_is_a_weight_that_changes_with_the_generator() -> None:
    for kind in TEXTURES:
        one, other = texture(rng(1), kind, 20, 36), texture(rng(2), kind, 20, 36)
        assert one.shape == (20, 36) and one.dtype == np.float32
        assert one.min() >= 0 and one.max() <= 1
        assert kind == "plain" or (one.std() > 0.02 and not np.array_equal(one, other)), kind


def test_an_unknown_name_raises_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown material 'jelly'; the known ones are wood, metal"):
        Looks("train", ()).material(rng(), "jelly")
    with pytest.raises(ValueError, match=r"unknown split dev; the splits are train, val, test"):
        Looks.load("dev")


def test_without_the_packages_it_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(look, "find_spec", lambda name: None)
    look.photographs.cache_clear()
    try:
        assert Looks.load("val").photographs == Looks.load("val").photographs == ()
        assert capsys.readouterr().err.count("pip install '.[scenes]'") == 1
    finally:
        look.photographs.cache_clear()


@pytest.mark.parametrize("package", sorted({p.package for p in PHOTOGRAPHS}))
def test_the_photographs_of_an_installed_package_are_read(package: str) -> None:
    if not find_spec(package):
        pytest.skip(f"{package} is not installed")
    for split in {p.split for p in PHOTOGRAPHS if p.package == package}:
        found = look.photographs(split)
        assert len(found) >= sum(p.split == split and p.package == package for p in PHOTOGRAPHS)
        assert all(p.dtype == np.uint8 and p.ndim == 3 and p.std() > 10 for p in found)


def test_resizing_keeps_ramps_and_means() -> None:
    ramp = np.repeat(np.linspace(0, 200, 90, dtype=np.float32)[:, None, None], 3, 2) + np.zeros(
        (90, 120, 3), np.float32
    )
    for height, width in ((30, 40), (200, 300), (90, 120)):
        out = resized(ramp, height, width)
        assert out.shape == (height, width, 3)
        expected = np.interp((np.arange(height) + 0.5) * 90 / height - 0.5, np.arange(90), ramp[:, 0, 0])
        inner = slice(height // 10, -height // 10)
        assert np.abs(out[inner, 0, 0] - expected[inner]).max() < 0.5
        assert abs(out.mean() - 100) < 1


def test_a_crop_is_a_part_of_the_photograph() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, 40:] = 200
    crops = [crop(rng(seed), picture, 16, 24) for seed in range(30)]
    assert {c.shape for c in crops} == {(16, 24, 3)}
    assert len({round(float(c.mean())) for c in crops}) > 10
