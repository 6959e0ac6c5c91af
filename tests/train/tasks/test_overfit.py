"""Each design overfits eight examples, then generates their codes from the video alone; torch.compile."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engines.contract import DESIGNS
from tests.support.prepared import SMALL, write_prepared
from train.data.batch import Batch
from train.loop.trainer import LoopConfig, fit
from train.tasks.generated_validation import generate
from train.tasks.maskvat import MaskVATTask

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
EXAMPLES, TOKENS = 8, 12
# More frames than tokens per second, so that every token has a picture of its own. At 86 two tokens share a picture and
# only known tokens distinguish them, so the network could only guess the twelfth token frame.
CLIP_FPS = 100


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("overfit"), EXAMPLES, TOKENS, CLIP_FPS)


def make(root: Path, **changes: object) -> MaskVATTask:
    folders = {"data": str(root / "prepared"), "validation": str(root / "prepared"), "system": str(root / "system")}
    few = {"size": "tiny", "batch": EXAMPLES, "crop_seconds": 0.139, "device": "cpu"}
    sampling = {"generate_steps": 16, "generate_guidance": 1.0, "generate_diversity": 0.0}
    changes["model"] = {"clip_fps": CLIP_FPS} | changes.get("model", {})
    return MaskVATTask.from_options(folders | few | sampling | changes, seed=0)


@pytest.mark.parametrize("design", DESIGNS)
def test_eight_examples_are_learnt_and_generated_again(root: Path, tmp_path: Path, design: str) -> None:
    task = make(root, design=design)
    assert task.n_tokens == TOKENS
    config = LoopConfig(steps=600, learning_rate=5e-3, warmup_steps=20, validate_every=10**6, log_every=10**6)
    results = fit(task, config, tmp_path)
    assert results["validation_accuracy"] > 0.9
    chosen = list(range(EXAMPLES))
    true = task.validation_examples.validation_batch(chosen, TOKENS)

    @torch.no_grad()
    def logits(batch: Batch) -> torch.Tensor:
        return task.network("logits", batch, task.indices)[0]

    codes = generate(logits, true, chosen, task.options, 1024, seed=0)
    right = (codes == true.codes.numpy()).mean(axis=(1, 2))
    assert right.min() > 0.9, np.round(right, 2)


def test_a_compiled_network_learns_the_same(root: Path) -> None:
    plain, compiled = (make(root, design="hybrid", model=SMALL, compile=c) for c in (False, True))
    assert compiled.backward(0) == pytest.approx(plain.backward(0), rel=1e-4)
    for (name, a), b in zip(plain.module.named_parameters(), compiled.module.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-5, msg=name)
