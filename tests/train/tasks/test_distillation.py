"""Distilled guidance: what the teacher predicts, and that the student learns it."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from export import bundle, restore
from runtime.decode import guide
from tests.support.prepared import SMALL, write_prepared
from train import checkpoint
from train.checkpoint import save
from train.errors import RecipeError
from train.models.maskvat import MaskVAT
from train.tasks.distillation import load_teacher
from train.tasks.maskvat import MaskVATTask

pytestmark = pytest.mark.torch
GUIDANCE = 2.0
PROVENANCE = dict.fromkeys(checkpoint.PROVENANCE, "made for a test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared examples, a system, and a folder `teacher` with a maskvat whose conditions and [NULL] differ."""
    root = write_prepared(tmp_path_factory.mktemp("distillation"), examples=2)
    model = make(root).model
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    save(root / "teacher", "maskvat", model, "maskvat", PROVENANCE)
    return root


def make(root: Path, **changes: object) -> MaskVATTask:
    folders = {"data": str(root / "prepared"), "validation": str(root / "prepared"), "system": str(root / "system")}
    options = {**folders, "size": "tiny", "batch": 2, "crop_seconds": 1.0, "model": SMALL, "device": "cpu"}
    return MaskVATTask.from_options(options | changes, seed=0)


def test_the_teacher_predicts_what_the_sampler_would_guide_to(root: Path) -> None:
    task = make(root, teacher=str(root / "teacher"), teacher_guidance=GUIDANCE)
    teacher = task.module.teacher
    assert teacher is not None
    (batch,) = task.batches(0)
    batch.drop.copy_(torch.tensor([[False, False], [True, True]]))
    guided = teacher(batch.codes, batch, task.indices)
    with torch.no_grad():
        video, _ = teacher.model(batch.codes, batch.frame, batch.sync, task.indices)
        null, _ = teacher.model(batch.codes, batch.frame, batch.sync, task.indices, torch.ones(2, 2, dtype=torch.bool))
    expected = guide(video.numpy(), null.numpy(), GUIDANCE)
    assert np.abs(expected[0] - null[0].numpy()).max() > 0.1
    np.testing.assert_allclose(guided[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(guided[1], null[1], atol=1e-4)  # nothing to guide to


def test_a_student_that_equals_its_teacher_has_nothing_to_learn(root: Path) -> None:
    same = {"start": str(root / "teacher"), "teacher": str(root / "teacher")}

    def gradient(guidance: float) -> float:
        task = make(root, teacher_guidance=guidance, **same)
        task.module.eval()
        task.backward(0)
        return max(p.grad.abs().max().item() for p in task.module.parameters() if p.grad is not None)

    assert gradient(0.0) < 1e-6 < 1e-4 < gradient(GUIDANCE)


def test_a_student_comes_nearer_to_the_guided_prediction(root: Path) -> None:
    task = make(root, start=str(root / "teacher"), teacher=str(root / "teacher"), teacher_guidance=GUIDANCE)
    teacher = task.module.teacher
    assert teacher is not None
    (batch,) = task.batches(0)
    target = teacher(task.module._masked(batch), batch, task.indices).log_softmax(dim=-1)

    def distance() -> float:
        with torch.no_grad():
            found = task.module.logits(batch, task.indices)[0].log_softmax(dim=-1)
        return (target.exp() * (target - found)).sum(dim=-1)[batch.mask].mean().item()

    before, optimiser = distance(), torch.optim.Adam(task.model.parameters(), lr=1e-3)
    for _ in range(20):
        optimiser.zero_grad()
        task.backward(0)
        optimiser.step()
    assert distance() < 0.5 * before
    assert not any(name.startswith("teacher") for name in task.module.state_dict())


def test_the_weights_say_that_they_are_distilled(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From training to a manifest, and back to a system folder."""
    system = Path(shutil.copytree(root / "system", tmp_path / "system"))
    for teacher, expected in ({}, 0.0), ({"teacher": str(root / "teacher"), "teacher_guidance": GUIDANCE}, GUIDANCE):
        make(root, **teacher, system=str(system)).finish(tmp_path)
        (weights,) = (w for w in bundle.provenance(system) if w.role == "maskvat")
        assert weights.distilled_guidance == expected
        assert restore.provenance(weights).get("distilled_guidance", 0.0) == expected
    with pytest.raises(RecipeError, match="is distilled itself"):
        make(root, teacher=str(system))
    make(root, start=str(system))
    assert "without task.teacher it becomes an ordinary one" in capsys.readouterr().out
    make(root, start=str(system), teacher=str(root / "teacher"))
    assert "an ordinary one" not in capsys.readouterr().out


@pytest.mark.parametrize("teacher, guidance", [({}, 3.0), ({"teacher": "teacher"}, 0.0)])
def test_sounds_of_a_student_are_not_guided_again(root: Path, teacher: dict[str, str], guidance: float) -> None:
    folders = {name: str(root / folder) for name, folder in teacher.items()}
    found = make(root, **folders, generate_count=1, generate_guidance=3.0)._generated_validation()
    assert found is not None and found.options.generate_guidance == guidance


def test_another_configuration_cannot_teach(root: Path, tmp_path: Path) -> None:
    config = make(root).config
    save(tmp_path, "maskvat", MaskVAT(replace(config, hidden_size=2 * config.hidden_size)), "maskvat", PROVENANCE)
    with pytest.raises(RecipeError, match="cannot teach this one: it has another configuration"):
        make(root, teacher=str(tmp_path))
    assert load_teacher("", GUIDANCE, config, torch.device("cpu")) is None
