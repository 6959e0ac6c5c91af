"""Modal synthesis: small objects sound high, hard blows bright, an object's hits alike; bad tables are reported."""

import json
from pathlib import Path

import numpy as np
import pytest

from train.synthetic.modal_synthesis import (
    LONGEST,
    MATERIALS,
    MODES,
    Modes,
    ModeTables,
    contact_duration,
    contact_noise,
    impact_sound,
)
from train.synthetic.recordings import RATE, Floats, PoolError


def write_tables(folder: Path) -> None:
    """A table of 30 modes for every name. Higher modes are weaker and shorter."""
    rng = np.random.default_rng(0)
    for names, _, _ in MATERIALS.values():
        for name in names:
            cf = np.sort(rng.uniform(300, 9000, 30))
            table = {"cf": cf.tolist(), "op": (-30 - cf / 300).tolist(), "rt": (300 / cf).tolist()}
            (folder / f"{name}_2_mm.json").write_text(json.dumps(table))


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> ModeTables:
    folder = tmp_path_factory.mktemp("impacts")
    write_tables(folder)
    return ModeTables.load(folder)


def centroid(audio: Floats) -> float:
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float((power * np.linspace(0, RATE / 2, len(power))).sum() / power.sum())


@pytest.mark.parametrize("material", MATERIALS)
def test_small_is_high(bodies: ModeTables, material: str) -> None:
    for voice in range(5):
        tones = [
            centroid(impact_sound(bodies.body(material, size, voice), contact_duration([material], size, 0.6)))
            for size in (0.05, 0.1, 0.2, 0.4)
        ]
        assert tones == sorted(tones, reverse=True), (voice, tones)


def test_a_hard_blow_is_brighter(bodies: ModeTables) -> None:
    body = bodies.body("wood", 0.1, 3)
    tones = [centroid(impact_sound(body, contact_duration(["wood"], 0.1, strength))) for strength in (0.05, 0.3, 1.0)]
    assert tones == sorted(tones) and tones[2] > 1.05 * tones[0]
    assert contact_duration(["wood", "soft"], 0.1, 0.5) > contact_duration(
        ["wood"], 0.1, 0.5
    )  # the softer one sets the time
    assert 0.3e-3 <= contact_duration(["metal"], 0.001, 1.0) < contact_duration(["soft"], 5.0, 0.0) <= 5e-3


def test_a_body_is_one_voice(bodies: ModeTables) -> None:
    first, again, other = (bodies.body("metal", 0.1, voice) for voice in (5, 5, 6))
    assert np.array_equal(impact_sound(first, 1e-3), impact_sound(again, 1e-3)) and len(first.frequency) <= MODES
    assert not np.allclose(first.frequency, other.frequency)


def test_sum_of_damped_sines() -> None:
    """Between the attack and the fade, the block-wise product equals the formula."""
    modes = Modes(np.array([440.0, 3000.0]), np.array([1.0, -0.4]), np.array([0.3, 0.1]))
    out, push = impact_sound(modes, 1e-3), 1e-3
    t = np.arange(len(out)) / RATE
    gain = modes.amplitude / (1 + (2 * modes.frequency * push) ** 2)
    wave = sum(
        g * np.sin(2 * np.pi * f * t) * 10 ** (-3 * t / d)
        for g, f, d in zip(gain, modes.frequency, modes.decay, strict=True)
    )
    assert np.allclose(out[50:-400], wave[50:-400], atol=1e-5) and 0.25 < len(out) / RATE < 0.35
    assert not np.allclose(out[:10], wave[:10], atol=1e-5)  # it starts softly


def test_ringing_is_cut_at_two_seconds() -> None:
    long = Modes(np.array([500.0]), np.array([1.0]), np.array([40.0]))
    out = impact_sound(long, 1e-3)
    assert len(out) <= LONGEST * RATE + 256 and out[-1] == 0


def test_click_is_short_and_soft_blows_are_dull() -> None:
    hard, dull = (contact_noise(push, np.random.default_rng(1)) for push in (0.3e-3, 4e-3))
    assert len(hard) < 0.004 * RATE and np.abs(hard).max() == pytest.approx(1)
    assert centroid(hard) > 2 * centroid(dull)


def test_bad_tables_are_named(tmp_path: Path) -> None:
    write_tables(tmp_path)
    bad = {
        "wood_soft_2_mm.json": '{"cf": [1',
        "metal_2_mm.json": '{"cf": [100], "op": [1, 2], "rt": [1]}',
        "glass_2_mm.json": '{"cf": ["x"], "op": [1], "rt": [1]}',
        "stone_2_mm.json": '{"cf": [100], "op": [1], "rt": [0]}',
        "paper_2_mm.json": "[]",
        "recipe.json": "{}",
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "ceramic_2_mm.json").write_bytes(b"\xff\xfe\x00")
    bodies = ModeTables.load(tmp_path)
    assert {line.split(":")[0] for line in bodies.skipped} == {*bad, "ceramic_2_mm.json"}
    assert set(bodies.tables) == set(MATERIALS) - {"metal", "glass", "stone", "paper", "ceramic"}


@pytest.mark.parametrize("exists", [True, False])
def test_folder_without_tables(tmp_path: Path, exists: bool) -> None:
    with pytest.raises(PoolError, match=r"no usable table of modes; give PyImpact.s folder, with files such as wood_"):
        ModeTables.load(tmp_path if exists else tmp_path / "none")
