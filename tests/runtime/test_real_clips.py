"""The shipped bundle on real video: exact lengths, muxed files that play, the same bytes for the same seed."""

import hashlib
import os
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.paths import ROOT

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from engines.contract import FloatArray, Int32Array
from engines.feeds import all_positions
from runtime.bundle import Bundle
from runtime.decode import decode
from runtime.infer import main
from runtime.video import FrameGrid, Video
from tests.support.window_conditions import first_window

CLIPS = Path(os.environ.get("MASKVAT_CLIPS", "/nonexistent"))
NAMES = sorted(p.name for p in CLIPS.glob("*.mp4")) if CLIPS.is_dir() else []
EXAMPLE = ROOT / "examples" / "bounce.mp4"

pytestmark = pytest.mark.slow


def picture_seconds(path: Path) -> float:
    with Video(path) as video:
        for _ in video.sample([FrameGrid(1, 16, 16)]):
            pass
        return float(video.duration)


def picture_packets(path: Path) -> str:
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            digest.update(bytes(packet))
    return digest.hexdigest()


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (44100, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def check(video: Path, folder: Path) -> None:
    """Four steps are enough to see that files are right."""
    wav, muxed = folder / "out.wav", folder / "out.mp4"
    assert main([str(video), "-o", str(wav), "--mux", str(muxed), "--steps", "4"]) == 0
    assert len(samples(wav)) == round(picture_seconds(video) * 44100)
    assert picture_packets(muxed) == picture_packets(video)
    with av.open(str(muxed)) as container:
        decoded = sum(frame.samples for frame in container.decode(audio=0))
    assert decoded == pytest.approx(len(samples(wav)), abs=2048)  # whole AAC frames


def test_example(tmp_path: Path) -> None:
    check(EXAMPLE, tmp_path)


@pytest.mark.skipif(not NAMES, reason="MASKVAT_CLIPS names no folder of clips")
@pytest.mark.parametrize("name", NAMES)
def test_real_clip(name: str, tmp_path: Path) -> None:
    check(CLIPS / name, tmp_path)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for n, seed in enumerate((5, 5, 6)):
        assert main([str(EXAMPLE), "-o", str(tmp_path / f"{n}.wav"), "--steps", "8", "--seed", str(seed)]) == 0
    first, second, other = ((tmp_path / f"{n}.wav").read_bytes() for n in range(3))
    assert first == second != other


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.999), ("int8", 0.85)])
def test_a_candidates_tokens_do_not_depend_on_its_batch(precision: str, least: float) -> None:
    """Compare step by step from the same codes: one token that rounds differently changes all later decisions.

    int8 rounds what a batch changes in the last digits of attention to coarse steps.
    """
    bundle = Bundle(precision=precision)
    config, batch = bundle.config, 3
    feeds, length = first_window(bundle, EXAMPLE)
    feeds["guidance"] = np.array(3, np.float32)
    rng, shape = np.random.default_rng(0), (batch, config.n_codebooks, length)
    equal = []

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        def run(rows: list[int]) -> tuple[np.ndarray, ...]:
            index = all_positions(codes[rows].shape)
            return bundle.run("step", codes=codes[rows], index=index, u=u[rows], **feeds)

        tokens, logp = run(list(range(batch)))
        equal.append([(run([row])[0][0] == tokens[row]).mean() for row in range(batch)])
        return tokens, logp

    def noise(n: int) -> tuple[FloatArray, FloatArray]:
        return rng.random(shape, dtype=np.float32), rng.random(shape, dtype=np.float32)

    masked = np.full(shape, config.mask_token, np.int32)
    decode(step, masked, noise, mask_token=config.mask_token, steps=8, diversity=8.0)
    assert len(equal) == 8 and np.min(equal) >= least
