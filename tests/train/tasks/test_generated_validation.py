"""Validation by generated samples: the step on the device, known scores, and what TensorBoard then shows."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from runtime.decode import step_from_logits
from tests.support.prepared import SMALL, write_prepared
from train.data.batch import Batch
from train.loop.tensorboard_images import spectrogram, stacked
from train.loop.trainer import LoopConfig, fit
from train.metrics import Pair, Sound
from train.tasks.generated_validation import Scores, generate, guided_step, pictures
from train.tasks.maskvat import MaskVATTask

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
GENERATED = {"generate_count": 3, "generate_batch": 2, "generate_steps": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("generated"), examples=3)


def make(root: Path, **changes: object) -> MaskVATTask:
    folders = {"data": str(root / "prepared"), "validation": str(root / "prepared"), "system": str(root / "system")}
    small = {"size": "tiny", "batch": 2, "crop_seconds": 1.0, "model": SMALL, "device": "cpu"}
    return MaskVATTask.from_options(folders | small | changes, seed=0)


@pytest.mark.parametrize("guidance", [0.0, 2.5])
def test_the_step_on_the_device_is_the_reference(root: Path, guidance: float) -> None:
    task = make(root)
    torch.nn.init.normal_(task.model.head.weight, std=0.2)  # picture and codes must matter
    batch = task.validation_examples.validation_batch([0, 1], task.n_tokens)

    @torch.no_grad()
    def logits(some: Batch) -> torch.Tensor:
        return task.network("logits", some, task.indices)[0]

    def both(codes: np.ndarray, with_null: bool) -> tuple[np.ndarray, np.ndarray | None]:
        now = torch.from_numpy(codes).long()
        found = []
        for null in (False, True) if with_null else (False,):
            drop = torch.full((2,), null)
            found.append(logits(Batch(now, batch.clip, batch.sync, batch.audio, now == 1024, drop)).numpy())
        return found[0], found[1] if with_null else None

    rng = np.random.default_rng(0)
    codes = np.where(rng.random(batch.codes.shape) < 0.5, 1024, batch.codes.numpy()).astype(np.int32)
    u = rng.random(codes.shape, dtype=np.float32)
    tokens, logp = guided_step(logits, batch, guidance, 1024)(codes, u)
    expected, expected_logp = step_from_logits(both, guidance)(codes, u)
    equal = tokens == expected
    assert equal.mean() > 0.999 and tokens.dtype == np.int32
    assert np.abs(logp - expected_logp)[equal].max() < 1e-4


def test_generated_examples_do_not_depend_on_their_batch(root: Path) -> None:
    task = make(root, **GENERATED)

    @torch.no_grad()
    def logits(some: Batch) -> torch.Tensor:
        return task.network("logits", some, task.indices)[0]

    def codes(chosen: list[int]) -> np.ndarray:
        return generate(
            logits, task.validation_examples.validation_batch(chosen, task.n_tokens), chosen, task.options, 1024, seed=0
        )

    two = codes([0, 2])
    assert two.max() < 1024 and (two[1] == codes([2])[0]).mean() > 0.99 and not np.array_equal(two[0], two[1])


def test_known_scores(capsys: pytest.CaptureFixture[str]) -> None:
    scores, rng = Scores("", "cpu"), np.random.default_rng(0)
    assert "FDD is left out: it needs weights_44khz_8kbps_0.0.1.pth" in capsys.readouterr().err
    sounds = [Sound((0.1 * rng.standard_normal(44100)).astype(np.float32), 44100) for _ in range(3)]
    for sound in sounds:
        sound.samples[10_000:10_200] = 0.9
    equal = scores.combine([scores.score(Pair(s, s)) for s in sounds])
    assert abs(equal["FDM"]) < 1e-6 and equal["onset_f1"] == pytest.approx(1)
    dull = [Sound(np.convolve(s.samples, np.ones(40) / 40, "same").astype(np.float32), 44100) for s in sounds]
    worse = scores.combine([scores.score(Pair(d, s)) for d, s in zip(dull, sounds, strict=True)])
    assert worse["FDM"] > 1
    assert scores.aggregate(0.5, equal) == pytest.approx(1.5) and scores.aggregate(0.5, worse) < 1.0
    assert scores.aggregate(0.5, equal | {"WC": 0.25}) == pytest.approx(1.75)


def test_pictures() -> None:
    rate = 44100
    t = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 5000 * t).astype(np.float32)
    tone[rate // 2 :] *= 0.001
    picture = spectrogram(tone)
    assert picture.shape == (128, 87, 3) and picture.dtype == np.uint8
    bright = picture.astype(int).sum(axis=2)
    row = 128 - 1 - int(5000 / (rate / 2) * 128)
    assert abs(bright[:, 20].argmax() - row) <= 1 and bright[row, 20] > bright[row, 70] + 100
    clicks = np.zeros(rate, np.float32)
    clicks[[13_230, 30_870]] = 0.9  # 0.3 s, 0.7 s
    strip = pictures([clicks], rate)["onsets"]
    red = np.flatnonzero((strip[0] == (220, 30, 30)).all(axis=1))
    assert red == pytest.approx([30, 70], abs=2)
    assert stacked([picture, strip]).shape == (128 + 4 + 24, 87, 3)


def test_tensorboard_has_curves_sound_and_pictures(root: Path, tmp_path: Path) -> None:
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the tensorboard extra is not installed"
    )
    config = LoopConfig(steps=2, warmup_steps=1, log_every=1, validate_every=10, generate_every=10, tensorboard=True)
    results = fit(make(root, **GENERATED), config, tmp_path)
    assert results["validation_aggregate"] > 0 and results["validation_FDM"] > 0
    found = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    tags = found.Tags()
    assert {"training/loss", "training/mfu", "validation/accuracy", "validation/aggregate"} <= set(tags["scalars"])
    assert [event.step for event in found.Scalars("training/loss")] == [1, 2]
    assert set(tags["audio"]) == {f"example{i}/{kind}" for i in range(3) for kind in ("generated", "reference")}
    assert set(tags["images"]) == {f"example{i}/{kind}" for i in range(3) for kind in ("spectrograms", "onsets")}


def test_the_bar_shows_loss_speed_and_what_is_left(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(make(root), LoopConfig(steps=3, warmup_steps=1, log_every=1, validate_every=10), tmp_path)
    shown = capsys.readouterr().err
    last = shown.split("\r")[-1]
    assert "3/3" in last and all(f"{name}=" in last for name in ("loss", "tokens_per_second", "mfu"))
    assert "validation_accuracy" in shown
