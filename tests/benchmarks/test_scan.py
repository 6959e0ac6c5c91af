"""benchmarks.scan on fake engines: figures, paired differences, plots, and refused options."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, clicks, steady, write_video
from tests.support.takes import make_take

pytest.importorskip("torch")

import runtime
from benchmarks import scan
from benchmarks.common.caching_pipeline import ENCODERS, CachingPipeline
from benchmarks.common.stopwatch import Elapsed
from benchmarks.common.true_track import read_true_tracks
from benchmarks.latency import quality
from engines.ort import OrtEngine
from runtime.audio import write_wav

pytestmark = [NEEDS_ORT, pytest.mark.torch]
RATE = 44100


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that clicks, a silent one, and one without any sound."""
    folder = tmp_path_factory.mktemp("clips")
    for name, audio in (("a", clicks(3 * RATE, RATE)), ("b", np.zeros(3 * RATE, np.float32)), ("c", None)):
        path = write_video(folder / f"{name}.mp4", Picture(steady(30, 10), last=0.1))
        if audio is not None:
            write_wav(path.with_suffix(".wav"), audio, RATE)
    return folder


def run(videos: Path, bundle: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> dict:
    assert scan.main([str(videos), "--engines", str(bundle), *arguments]) == 0
    printed = capsys.readouterr()
    assert "skipped c.mp4" in printed.err
    return json.loads(printed.out.splitlines()[-1])


def test_a_scan_of_steps(videos: Path, bundles, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    out = ("--out", str(tmp_path / "scan.json"), "--plots", str(tmp_path / "plots"))
    found = run(videos, bundles(), "--what", "steps", "--values", "8,2,8", "--steps", "2", *out, capsys=capsys)
    assert [entry["value"] for entry in found["values"]] == [2, 8] and found["default"] == 2
    assert found["machine"]["cores"] >= 1 and found["options"]["guidance"] == runtime.SamplingConfig().guidance
    for entry in found["values"]:
        numbers = entry["summary"]
        assert [row["clip"] for row in entry["clips"]] == ["a.mp4", "b.mp4"]
        assert numbers["f1"]["n"] == numbers["loudness"]["n"] == numbers["stays_silent"]["n"] == 1
        assert numbers["seconds"]["n"] == numbers["diversity"]["n"] == numbers["cpu_seconds"]["n"] == 2
        assert numbers["seconds"]["mean"] > 0 and numbers["cpu_seconds"]["mean"] > 0
        assert 0 < numbers["diversity"]["mean"] <= 1 and numbers["stays_silent"]["mean"] == 0  # the fake never is
    same = [entry["summary"]["same_tokens"]["mean"] for entry in found["values"]]
    assert same[0] == 1 > same[1]
    assert found["values"][0]["summary"]["paired_f1"]["mean"] == 0
    a, b = (entry["summary"]["f1"]["mean"] for entry in found["values"])
    assert found["values"][1]["summary"]["paired_f1"]["mean"] == pytest.approx(b - a)
    assert json.loads((tmp_path / "scan.json").read_text()) == found
    assert (tmp_path / "plots" / "scan-steps.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("what", "values", "default"),
    [
        ("guidance", (1, 3), True),  # and whether the default is among them
        ("diversity", (1, 3), False),
        ("candidates", (1, 3), True),
        ("guidance_until", (0.5, 1), True),
        ("guidance_from", (0.5, 1), False),
        ("schedule", ("cosine", "linear"), True),
    ],
)
def test_the_option_reaches_the_sampler(
    videos: Path, bundles, monkeypatch, capsys, what: str, values: tuple, default: bool
) -> None:
    seen = []

    class Spied(runtime.SamplingConfig):
        def __post_init__(self) -> None:
            super().__post_init__()
            seen.append((getattr(self, what), self.steps, self.seed))

    monkeypatch.setattr(runtime, "SamplingConfig", Spied)
    words = ",".join(map(str, values))
    found = run(videos, bundles(), "--what", what, "--values", words, "--steps", "2", "--limit", "9", capsys=capsys)
    assert {(value, 2, seed) for value in values for seed in (0, 1)} <= set(seen)
    assert [entry["value"] for entry in found["values"]] == list(values)
    for figure in ("paired_f1", "same_tokens"):
        assert (found["values"][0]["summary"][figure] is not None) == default


class Perfect:
    """A fake pipeline that returns the true track at half its level."""

    def generate(self, path: Path, sampling: runtime.SamplingConfig) -> list[runtime.Take]:
        audio = clicks(3 * RATE, RATE) / 2 if path.stem == "a" else np.zeros(3 * RATE, np.float32)
        codes = np.full((2, 4), sampling.seed * (path.stem == "b"), np.int32)
        return [make_take(audio, codes, sample_rate=RATE, duration=3)]

    def timed(self, path: Path, sampling: runtime.SamplingConfig) -> tuple[list[runtime.Take], Elapsed]:
        return self.generate(path, sampling), Elapsed(1.0, 2.0)


def test_figures_of_known_sounds(videos: Path) -> None:
    """F1 is 1, the level is 6 dB lower, and seeds do not differ."""
    (loud, codes), (silent, _) = (scan.measure(track, Perfect(), {}, 2) for track in read_true_tracks(videos, 9))
    assert codes.shape == (2, 2, 4) and (loud["seconds"], loud["cpu_seconds"]) == (1.0, 2.0)
    assert loud["f1"] == pytest.approx(1) and loud["lift"] > 0.3 and loud["diversity"] == 0
    assert loud["loudness"] == pytest.approx(-6.02, abs=0.01) and "stays_silent" not in loud
    assert silent["stays_silent"] == 1 and silent["diversity"] == 1 and "f1" not in silent and "loudness" not in silent


def test_a_picture_is_encoded_once_and_counted_in_every_call(videos: Path, bundles, monkeypatch) -> None:
    """Sounds equal those without a cache. The second call encodes nothing, but its time includes the encoding."""
    ran: list[str] = []
    execute = OrtEngine.execute

    def slow(engine: OrtEngine, *arguments):
        ran.append(engine.graph.name)
        if engine.graph.name in ENCODERS:
            time.sleep(0.05)
        return execute(engine, *arguments)

    monkeypatch.setattr(OrtEngine, "execute", slow)
    plain, pipeline = runtime.load(bundles(), "cpu"), CachingPipeline(bundles(), "cpu")
    sampling, video = runtime.SamplingConfig(steps=2, seed=3), videos / "a.mp4"
    expected = plain.generate(video, sampling)[0]
    takes, encoded = [], []
    for _ in range(2):
        ran.clear()
        (take,), spent = pipeline.timed(video, sampling)
        takes.append(take)
        encoded.append(sum(name in ENCODERS for name in ran))
        assert "step" in ran and spent.wall > 0.05 * encoded[0]
    assert encoded[0] > 1 and encoded[1] == 0
    for take in takes:
        assert np.array_equal(take.audio, expected.audio) and np.array_equal(take.codes, expected.codes)


def test_onset_scores_beside_a_latency(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks.latency --clips`: only the clip with clicks has onsets, and all of them are found."""
    monkeypatch.setattr("benchmarks.common.caching_pipeline.CachingPipeline", lambda *_: Perfect())
    one, other = quality.onset_scores(videos, "cpu", videos, 9, [{"steps": 2}, {"steps": 4}])
    assert one["mean"] == other["mean"] == pytest.approx(1) and one["n"] == 1


def test_token_statistics() -> None:
    """Four equally frequent codewords are 2 bits, one codeword is 0 bits; two seeds differ in two of eight tokens."""
    codes = np.array([[[5, 6, 7, 8], [1, 1, 1, 1]], [[5, 6, 8, 7], [1, 1, 1, 1]]], np.int32)
    assert scan.token_statistics(codes) == {"diversity": 0.25, "entropy": 1.0, "distinct": (4 + 1) / 2 / 4}


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--what", "schedule", "--values", "cosine,cosinus"], "schedule is 'cosinus'; choose from cosine, linear"),
        (
            ["--what", "guidance_until", "--guidance-from", "0.6"],
            "guidance_until is 0.25; it must be a number from 0.6",
        ),
        (["--what", "steps", "--values", "1,x"], "give whole numbers with commas"),
        (["--what", "guidance", "--values", "0,200"], "guidance is 200"),
        (["--what", "steps", "--seeds", "1"], "must be 2 or more"),
        (["--what", "steps", "--limit", "0"], "--limit is 0"),
    ],
)
def test_what_is_refused(videos: Path, capsys, arguments: list[str], advice: str) -> None:
    assert scan.main([str(videos), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and advice in printed.err and not printed.out


def test_clips_without_sound_are_refused(make_video, tmp_path: Path, capsys) -> None:
    (tmp_path / "mute.mp4").write_bytes(make_video().read_bytes())
    assert scan.main([str(tmp_path), "--what", "steps"]) == 1
    assert "has a true sound to compare with" in capsys.readouterr().err
