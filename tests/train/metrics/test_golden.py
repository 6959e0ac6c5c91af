"""The measures' networks give the same output as the official implementations, for weights made by a rule."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common import torchvision_stub
from tests.golden.make_golden import digest, read, signal
from tests.golden.make_metrics_golden import (
    BEATS_SAMPLES,
    MFCC_SAMPLES,
    SYNC_FRAMES,
    SYNC_SAMPLES,
    SYNC_SIZE,
    VGGISH_SAMPLES,
    WAV2CLIP_SAMPLES,
    film,
    torch_state,
)
from train.metrics.mfcc import mfcc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None:
    torchvision_stub.install()


def official(name: str, path: Path, wrap: Any = None, **extra: Any) -> dict[str, Any]:
    """Write a file in the official layout with the fixture's weights; returns the fixture's metadata."""
    facts, _ = read(name)
    state = torch_state(facts["shapes"])
    made = digest({k: v.numpy() for k, v in state.items()})
    assert made == facts["weights_sha256"], "the rule makes other weights than when the fixture was made"
    state |= {k: torch.ones(v) for k, v in extra.items()}
    torch.save(wrap(state, facts) if wrap else state, path)
    return facts


def close(got: Any, want: np.ndarray, tolerance: float = 1e-4) -> None:
    """Assert that values are equal within `tolerance` times their spread."""
    got = np.asarray(got)
    assert got.shape == want.shape
    assert np.abs(got - want).max() < tolerance * want.std()


def test_mfcc_is_librosas() -> None:
    close(mfcc(signal(MFCC_SAMPLES)), read("mfcc")[1]["mfcc"], 1e-5)


def test_vggish_is_the_ports(tmp_path: Path) -> None:
    from train.metrics.vggish import VGGish, examples

    official("vggish", tmp_path / "vggish.pth")
    golden = read("vggish")[1]
    audio = torch.from_numpy(signal(VGGISH_SAMPLES))
    network = VGGish.load(tmp_path / "vggish.pth")
    close(examples(audio)[:, ::3], golden["examples"])
    with torch.no_grad():
        close(network(audio), golden["embeddings"])
        assert network(audio[:15000]).shape == (0, 12)  # shorter than an example
    assert len(examples(torch.zeros(160_000))) == 10


def test_wav2clip_is_the_official_one(tmp_path: Path) -> None:
    from train.metrics.wav2clip import Wav2CLIP

    other = {"audio_encoder.spectrogram.window": 512, "image_encoder.weight": 3}
    official("wav2clip", tmp_path / "Wav2CLIP.pt", **other)
    network = Wav2CLIP.load(tmp_path / "Wav2CLIP.pt")
    with torch.no_grad():
        close(network(torch.from_numpy(signal(WAV2CLIP_SAMPLES))[None]), read("wav2clip")[1]["embedding"])


def test_beats_is_the_official_one(tmp_path: Path) -> None:
    """10 s of sound, so that token distances reach the logarithmic buckets. Sizes come from the file."""
    from train.models.beats import BEATs, fbank

    predictor = {"predictor.weight": 3}  # of the fine-tuned files
    official("beats", tmp_path / "BEATs.pt", lambda state, facts: {"cfg": facts["cfg"], "model": state}, **predictor)
    golden = read("beats")[1]
    audio = torch.from_numpy(signal(BEATS_SAMPLES))[None]
    with torch.no_grad():
        close((fbank(audio)[0, ::20] - 15.41663) / (2 * 6.55582), golden["fbank"], 1e-3)
        close(BEATs.load(tmp_path / "BEATs.pt")(audio)[0].flatten(0, 1)[::5], golden["features"], 1e-3)


def test_another_kind_of_beats_is_refused(tmp_path: Path) -> None:
    from train.models.beats import BEATs
    from train.models.loading import WeightsError

    official(
        "beats", tmp_path / "b.pt", lambda state, facts: {"cfg": facts["cfg"] | {"deep_norm": False}, "model": state}
    )
    with pytest.raises(WeightsError, match="deep_norm False"):
        BEATs.load(tmp_path / "b.pt")


def test_sparsesync_and_its_s3d_are_the_official_ones(tmp_path: Path) -> None:
    from train.metrics.sparsesync import SparseSync
    from train.models.s3d import S3D, S3DConfig

    path = tmp_path / "23-02-26T22-31-22.pt"
    training = {"args": Path("a configuration"), "epoch": 3}  # as the official trainer saves objects beside
    official("sparsesync", path, lambda state, _: {"model": {f"module.{k}": v for k, v in state.items()}} | training)
    golden = read("sparsesync")[1]
    frames = torch.from_numpy(film(SYNC_FRAMES, SYNC_SIZE))[None]
    network, trunk = SparseSync.load(path), S3D(S3DConfig()).eval()
    trunk.load_sparsesync(path)
    with torch.no_grad():
        close(trunk(frames)[0], golden["features"])
        close(network(frames, torch.from_numpy(signal(SYNC_SAMPLES))[None]), golden["logits"])
    assert (network.config.layers, network.config.visual, network.config.audio) == (1, (2, 2, 2), (9, 3))


def test_published_sizes() -> None:
    """The parameter counts equal those of the published files."""
    from train.metrics.sparsesync import SparseSync
    from train.metrics.vggish import VGGish
    from train.metrics.wav2clip import Wav2CLIP

    with torch.device("meta"):
        counts = [sum(p.numel() for p in m().parameters()) for m in (SparseSync, VGGish, Wav2CLIP)]
    assert counts == [54_348_652, 72_141_184, 11_170_240 + 525_312]


@pytest.mark.parametrize("name", ["vggish.VGGish", "wav2clip.Wav2CLIP", "sparsesync.SparseSync"])
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    from importlib import import_module

    from train.models.loading import WeightsError

    module, cls = name.split(".")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="has no"):
        getattr(import_module(f"train.metrics.{module}"), cls).load(tmp_path / "other.pt")
