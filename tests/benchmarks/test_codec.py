"""benchmarks.codec: measures on sounds with known results, and the command on a fake bundle."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")

from benchmarks.codec.__main__ import main
from benchmarks.codec.measure import RATE, aligned, decibels, opus
from benchmarks.codec.transients import LEAD, attack, pre_echo, rise_time
from runtime.audio import write_wav
from tests.conftest import Bundles


def burst(rise: float, seconds: float = 0.4, lead: float = LEAD) -> np.ndarray:
    """Noise [L] that rises linearly in `rise` seconds, then decays, after `lead` seconds of silence."""
    n, ramp = round(seconds * RATE), max(1, round(rise * RATE))
    noise = np.sign(np.random.default_rng(0).standard_normal(n)) * 0.5
    shape = np.minimum(np.arange(n) / ramp, np.exp(-np.maximum(np.arange(n) - ramp, 0) / 4000))
    return np.concatenate([np.zeros(round(lead * RATE)), noise * shape]).astype(np.float32)


def test_rise_time_of_a_ramp() -> None:
    found = attack(burst(0.02), RATE)
    assert found is not None
    assert found.seconds == pytest.approx(0.8 * 0.02, rel=0.15)  # 10 to 90 %
    assert rise_time(burst(0.04), found, RATE) / found.seconds == pytest.approx(2, rel=0.2)


def test_a_slow_swell_and_silence_have_no_attack() -> None:
    assert attack(burst(0.3), RATE) is None
    assert attack(np.zeros(RATE, np.float32), RATE) is None


def test_pre_echo_is_the_power_before_the_attack() -> None:
    original = burst(0.0)
    found = attack(original, RATE)
    assert found is not None
    assert pre_echo(original, original, found, RATE) == 0
    early = original.copy()
    early[: found.start] += 0.5 * 10 ** (-40 / 20)  # 20 dB over the floor, and 1 dB that the attack decays
    assert pre_echo(early, original, found, RATE) == pytest.approx(21, abs=0.3)


def test_levels_and_alignment() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * np.float32(1e-3)
    assert decibels(noise) == pytest.approx(-60, abs=0.1)
    late = np.concatenate([np.zeros(37, np.float32), noise])[:RATE]
    assert np.array_equal(aligned(late, noise)[: RATE - 37], noise[: RATE - 37])


def test_opus_is_in_time() -> None:
    sound = burst(0.0)
    decoded = opus(sound, 24)
    assert decoded.shape == sound.shape
    before, after = attack(sound, RATE), attack(decoded, RATE)
    assert before is not None and after is not None
    assert after.start == pytest.approx(before.start, abs=0.003 * RATE)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Twelve short recordings of one group, two of which are held out."""
    chosen = [f"s{n}.wav" for n in range(12)]
    for name in chosen:
        write_wav(tmp_path / name, burst(0.0, lead=0.0), RATE)
    with open(tmp_path / "sounds.csv", "w", newline="", encoding="utf-8") as file:
        rows = [[name, "impact_wood", "0.4", "CC0-1.0"] for name in chosen]
        csv.writer(file).writerows([["file", "label", "seconds", "licence"], *rows])
    return tmp_path


def test_command(bundles: Bundles, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "codec.json"
    assert main([str(bundles()), "--sounds", str(pool), "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "only 2 held-out recordings" in text
    result = json.loads(text.splitlines()[-1])
    assert result == json.loads(out.read_text())
    identity, coarse, fine = (result["results"][k] for k in ("identity", "opus 8 kbit/s", "opus 24 kbit/s"))
    assert identity["mel"]["mean"] == 0 and identity["rise"]["median"] == 1 and identity["pre_echo"]["median"] == 0
    assert coarse["mel"]["mean"] > fine["mel"]["mean"] > 0
    assert len(result["codes_used"]) == 9 and min(result["codes_used"]) >= 1
    assert result["speed"]["decode_x_realtime"] > 0


def test_pictures(bundles: Bundles, pool: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main([str(bundles()), "--sounds", str(pool), "--plots", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "codec.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_pool_is_one_line(bundles: Bundles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundles()), "--sounds", str(tmp_path / "none")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "sounds.csv is missing" in error and error.count("\n") == 1
