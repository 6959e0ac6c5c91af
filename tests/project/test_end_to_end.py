"""The whole project on a small scale: prepare clips, train, resume, export, and generate."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("onnxscript", reason="the export extra is not installed")

import runtime
from engines.manifest import Manifest
from engines.words.vocabulary import Vocabulary
from export import __main__ as export
from tests.support.media import Picture, Sound, clicks, steady, write_video
from tests.support.tiny_system import tiny_components, write_system
from train import fit
from train.checkpoint import load
from train.prepare import __main__ as prepare

pytestmark = pytest.mark.torch
RECIPE = """
[task]
name = "maskvat"
data = "{root}/prepared"
validation = "{root}/prepared"
system = "{root}/system"
design = "{design}"
size = "tiny"
batch = 2
crop_seconds = 1.0
round_weights = true
model = {{ hidden_size = 32, n_blocks = 1 }}
[loop]
steps = {steps}
learning_rate = 3e-3
warmup_steps = 2
save_every = 5
log_every = 1
validate_every = 100
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny system whose frame encoder gives class probabilities, and three prepared clips with clicks."""
    root = tmp_path_factory.mktemp("end-to-end")
    components = tiny_components("classes")
    del components["maskvat"]
    write_system(root / "system", components)
    (root / "clips").mkdir()
    for n in range(3):
        sound = Sound(clicks(88200, 44100, first=0.1 + 0.1 * n)[None], 44100, "pcm_s16le")
        write_video(root / "clips" / f"clip{n}.mov", Picture(steady(50, 25)), sound)
    assert prepare.main([str(root / "clips"), str(root / "system"), str(root / "prepared")]) == 0
    return root


def train(root: Path, out: str, design: str, steps: int) -> list[float]:
    """Start or resume a run until it has `steps` steps; return all logged losses."""
    recipe = root / f"{out}-{steps}.toml"
    recipe.write_text(RECIPE.format(root=root, design=design, steps=steps))
    assert fit.main([str(recipe), "--out", str(root / out)]) == 0
    lines = (root / out / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("design", ["adaln_a", "hybrid"])
def test_training_learns_and_resumes_with_the_same_losses(root: Path, design: str) -> None:
    unbroken = train(root, f"{design}-unbroken", design, 20)
    assert np.mean(unbroken[-5:]) < np.mean(unbroken[:5])
    state = root / f"{design}-unbroken" / "state"
    for folder in sorted(state.iterdir())[-1:]:  # as if the run was killed before it saved its last state
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    again = train(root, f"{design}-unbroken", design, 20)[len(unbroken) :]
    assert again == pytest.approx(unbroken[-len(again) :], abs=1e-6) and 0 < len(again) < 20


@pytest.mark.slow
def test_a_trained_system_sounds(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(root, "sound", "hybrid", 10)
    assert load(root / "system", "maskvat").config.design == "hybrid"
    assert export.main([str(root / "system"), str(tmp_path / "bundle")]) == 0, capsys.readouterr().err
    manifest = Manifest.load(tmp_path / "bundle")
    assert not manifest.tokeniser and "text_encoder" not in {w.role for w in manifest.weights}
    assert len(Vocabulary.load(tmp_path / "bundle" / manifest.vocabulary, manifest.config).words) > 100
    takes = runtime.load(tmp_path / "bundle").generate(
        root / "clips" / "clip0.mov", runtime.SamplingConfig(steps=4, candidates=2, takes=2)
    )
    assert [len(t.audio) for t in takes] == [88200, 88200] and all(np.isfinite(t.audio).all() for t in takes)
    assert takes[0].score is not None and takes[1].score is not None and takes[0].score <= takes[1].score
