"""The silence gate: levels, scores, parts and fades, what a generation knows, and what the command writes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.contract import FloatArray
from runtime import DeliveryConfig, OptionError, Pipeline, SamplingConfig, Take
from runtime.audio import read_audio
from runtime.decode import DecodeState, UnmaskSchedule, advance
from runtime.deliver import silence
from runtime.deliver.silence import Gate, levels, long_runs, read_silence, scores_of
from runtime.edit.activity import Motion, changes, frame_count, frames_of
from runtime.infer import main
from runtime.windows import Window
from tests.support.fake_engines import NEEDS_ORT, small_config
from tests.support.takes import make_take

RATE = 44100
HALF = np.concatenate([np.full(RATE // 2, 0.1, np.float32), np.full(RATE // 2, 1e-4, np.float32)])  # -20, -80 dBFS


# ---------------------------------------------------------------- the gate
@pytest.mark.parametrize("value", ["on", "", -121, 1, True, None, "nan", float("nan")])
def test_wrong_values_are_refused(value: object) -> None:
    with pytest.raises(OptionError, match="give off, auto, or a level from -120 to 0 dB"):
        DeliveryConfig(silence=value)
    assert [read_silence(x) for x in ("off", "auto", "-50", -50.0)] == ["off", "auto", -50, -50]


def test_levels_are_those_of_frames_of_100_ms() -> None:
    assert np.allclose(levels(HALF, RATE), [-20] * 5 + [-80] * 5, atol=0.01)
    assert np.allclose(levels(np.full(6615, 0.1, np.float32), RATE), [-20, -20], atol=0.01)  # 150 ms
    assert levels(np.zeros(10, np.float32), RATE) == [-120] and frame_count(0.3) == 3 and frame_count(0.301) == 4


def test_what_is_quiet_becomes_silence_with_fades() -> None:
    gate = Gate.of(-50.0, HALF, RATE, None)
    made, begin, fade = gate.apply(HALF, RATE), RATE // 2, round(0.02 * RATE)
    assert np.array_equal(made[:begin], HALF[:begin]) and not made[begin + fade :].any()
    assert (np.diff(made[begin : begin + fade]) < 0).all() and (made[begin : begin + fade] > 0).all()
    assert gate.facts()["silent"] == [[0.5, 1.0]] and gate.facts()["scores"][:2] == [-20.0, -20.0]
    back = Gate.of(-50.0, HALF[::-1], RATE, None).apply(HALF[::-1], RATE)
    assert np.array_equal(back, made[::-1])
    assert Gate.of(-90.0, HALF, RATE, None).apply(HALF, RATE) is HALF
    assert not Gate.of(-10.0, HALF, RATE, None).apply(HALF, RATE).any()  # no fade at the ends of the sound


def test_short_pauses_stay() -> None:
    quiet = np.array([c == "q" for c in "qsqqsqqqsssqq"])
    assert "".join("sq"[int(x)] for x in long_runs(quiet)) == "qssssqqqsssqq"


def test_auto_needs_what_the_generation_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="give --silence -50"):
        runtime.deliver_take(make_take(HALF), DeliveryConfig(silence="auto"))
    for name, value in (("CONFIDENCE", -0.1), ("MOTION", 1.0), ("THRESHOLD", -2.0)):
        monkeypatch.setattr(silence, name, value)
    activity = np.array([[-3.0] * 10, [0.1] * 4 + [0] * 3 + [np.nan] * 3], np.float32)
    assert np.allclose(scores_of(activity)[:7], [-0.7] * 4 + [-4.7] * 3)
    sound = runtime.deliver_take(make_take(HALF, activity=activity), DeliveryConfig(silence="auto", gain=6))
    assert sound.facts()["silence"]["silent"] == [[0.4, 0.7]]  # what is not known is not silenced
    assert np.allclose(sound.audio[: round(0.4 * RATE)], HALF[: round(0.4 * RATE)] * 10 ** (6 / 20))
    assert not sound.audio[round(0.45 * RATE) : round(0.65 * RATE)].any()


# ---------------------------------------------------------------- what a generation knows
def test_values_are_averaged_over_half_a_second() -> None:
    values = np.arange(40.0)  # at 20 per second
    slow = [
        np.mean([v for n, v in enumerate(values) if abs((n + 0.5) / 20 - (k + 0.5) / 10) <= 0.25]) for k in range(20)
    ]
    assert np.allclose(frames_of(values, 20, 20), slow, atol=0.6)  # ends that lie on a value may differ
    values[10:] = np.nan
    assert np.isnan(frames_of(values, 20, 20)[8:]).all() and np.isfinite(frames_of(values, 20, 20)[:7]).all()


def test_motion_is_the_difference_of_pictures() -> None:
    config = small_config()
    pictures = np.zeros((50, 32, 32, 3), np.uint8)
    pictures[10:] = 51
    motion = Motion(config)
    for number, start in enumerate((0, 86)):  # seconds 0 and 1
        window = Window(number, start, 172, pictures[:0], pictures)
        motion.add(window, changes(window))
    assert np.allclose(np.flatnonzero(motion.values > 0), [10, 35]) and motion.values[10] == pytest.approx(0.2)
    assert np.isnan(motion.values[0]) and len(motion.values) == 75


def test_the_decoder_keeps_the_log_probability_of_each_token() -> None:
    """That of the step in which the token was decided; known tokens have none."""
    codes = np.full((1, 1, 8), 9, np.int32)
    codes[0, 0, 0] = 3
    rows, steps = DecodeState.begin(codes, 9), []

    def step(codes: object, u: FloatArray) -> tuple[np.ndarray, np.ndarray]:
        steps.append(rows.codes.copy())
        return np.full((1, 1, 8), len(steps), np.int32), -u - len(steps)

    def noise(n: int) -> tuple[FloatArray, FloatArray]:
        u = np.random.default_rng(n).random((2, 1, 1, 8), np.float32)
        return u[0], u[1]

    advance(rows, step, noise, UnmaskSchedule(9, 4, 1.0), range(4))
    assert np.isnan(rows.logp[0, 0, 0])
    assert np.array_equal(np.floor(-rows.logp[0, 0, 1:]), rows.codes[0, 0, 1:])  # both count the steps
    assert np.array_equal(DecodeState.join([rows, rows])[1].logp, rows.logp, equal_nan=True)


@pytest.fixture(scope="module")
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@NEEDS_ORT
def test_a_take_keeps_its_activity(pipeline: Pipeline, make_video: Callable[..., Path], tmp_path: Path) -> None:
    video = make_video(140)
    (made,) = pipeline.generate(video, SamplingConfig(steps=3))
    assert made.activity is not None and made.activity.shape == (2, 56)
    assert np.isfinite(made.activity).all() and (made.activity[0] < 0).all() and (made.activity[1] >= 0).all()
    made.save(tmp_path / "t.npz")
    take = Take.load(tmp_path / "t.npz")
    assert take.activity is not None and np.array_equal(take.activity, made.activity)
    (again,) = pipeline.generate(video, edit=runtime.redo(take, (2, 3)))
    assert again.activity is not None and np.isfinite(again.activity).all()
    same = again.activity[0] == take.activity[0]
    assert same[:17].all() and same[33:].all() and not same[20:30].any()
    old = make_take(HALF)  # of a version without activity
    old.save(tmp_path / "old.npz")
    assert Take.load(tmp_path / "old.npz").activity is None


@NEEDS_ORT
def test_the_command_gates(
    bundles: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*flags: str) -> dict:
        options = ["--overwrite", "-o", str(tmp_path / "x.wav"), "--report", str(tmp_path / "r.json")]
        assert main([str(make_video(50)), *engines, *options, *flags]) == 0
        return json.loads((tmp_path / "r.json").read_text())["takes"][0]

    engines = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1"]
    assert "silence" not in run("--steps", "2", "--save", str(tmp_path / "t.npz"))
    plain = read_audio(tmp_path / "x.wav", RATE)
    facts = run("--from", str(tmp_path / "t.npz"), "--silence", "0")["silence"]  # a saved take can be gated later
    assert facts["silent"] == [[0, 2]] and len(facts["scores"]) == 20 and facts["set"] == 0
    assert plain.any() and not read_audio(tmp_path / "x.wav", RATE).any()
    assert run("--from", str(tmp_path / "t.npz"), "--silence", "auto")["silence"]["threshold"] == silence.THRESHOLD
    run("--from", str(tmp_path / "t.npz"), "--silence", "-120")
    assert np.array_equal(read_audio(tmp_path / "x.wav", RATE), plain)
    assert main([str(make_video(50)), *engines, "--silence", "quiet"]) == 1
    assert "silence is 'quiet'; give off, auto, or a level" in capsys.readouterr().err
