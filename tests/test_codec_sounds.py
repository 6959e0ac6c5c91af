"""A real pool of recordings: its licences, its credits, and two steps of the codec's training."""

import csv
import math
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")

from train.codec_task import CodecOptions, CodecTask
from train.credits import credits
from train.framecodec import FrameCodecConfig
from train.loop import LoopConfig, fit

TINY = FrameCodecConfig(
    n_codebooks=2, codebook_size=16, latent=16, encoder_mlp=16, decoder_mlp=16, encoder_blocks=1, decoder_blocks=1
)


@pytest.mark.slow
@pytest.mark.torch
def test_the_real_pool_is_licensed_credited_and_trains(tmp_path: Path) -> None:
    folder = os.environ.get("MASKVAT_SOUNDS")
    if not folder:
        pytest.skip("set MASKVAT_SOUNDS to a folder of recordings with sounds.csv to try it")
    with open(Path(folder) / "sounds.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["licence"] for row in rows} <= {"CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"}
    credited = credits(rows)
    assert all(row["author"] in credited for row in rows)
    options = CodecOptions(sounds=folder, batch=2, frames=16, validation_sounds=2, bfloat16=False, threads=1)
    task = CodecTask(options, seed=0, config=TINY)
    assert len(task.pool.names) + len(task.validation.names) == len(rows)
    results = fit(task, LoopConfig(steps=2, warmup_steps=1, validate_every=2), tmp_path)
    assert results["step"] == 2 and math.isfinite(results["validation_mel"])
