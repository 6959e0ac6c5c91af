"""Semantic lift: its spectrogram, its network and its scores are those of the tool that first measured it."""

import numpy as np
import pytest

from tests.golden.make_golden import digest, read
from tests.golden.make_metrics_golden import AISFX_WIDTH, semantic_sounds, torch_state
from train.metrics.semantic import BLOCK, blocks, own_rank, semantic_lift, similarities, spectrogram

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

from train.metrics import aisfx
from train.metrics.inputs import Sound
from train.metrics.registry import MissingWeights
from train.models.loading import WeightsError, load_strict


@pytest.fixture(autouse=True)
def _quick(one_thread: None) -> None:
    pass


def test_spectrogram_and_network_are_the_official_ones() -> None:
    """The network has weights made by a rule, so this needs no package."""
    facts, golden = read("semantic")
    levels = spectrogram(semantic_sounds()[0][0])
    assert np.abs(levels[::20] - golden["levels"]).max() < 1e-5
    state = torch_state(facts["shapes"])
    assert digest({k: v.numpy() for k, v in state.items()}) == facts["weights_sha256"]
    network = aisfx.AiSFX(AISFX_WIDTH).eval()
    load_strict(network, state, "the fixture")
    with torch.no_grad():
        got = network(torch.tensor(levels[None, :BLOCK], dtype=torch.float32))[0].numpy()
    assert np.abs(got - golden["embedding"]).max() < 1e-4 * golden["embedding"].std()


def test_lifts_and_ranks_agree_with_the_reference() -> None:
    """With the real weights, to 0.01."""
    try:
        network = aisfx.AiSFX.load()
    except MissingWeights as error:
        pytest.skip(str(error))
    golden = read("semantic")[1]
    truth, made = (
        np.stack([aisfx.embed(network, Sound(x, 44100)) for x in sounds / np.abs(sounds).max()])
        for sounds in map(np.stack, semantic_sounds())
    )
    cosines = similarities(made, truth)
    lifts = [semantic_lift(row, k) for k, row in enumerate(cosines)]
    assert lifts == pytest.approx(golden["lift"], abs=0.01)
    assert [own_rank(row, k) for k, row in enumerate(cosines)] == golden["rank"].tolist()


def test_scores_of_known_embeddings() -> None:
    truth = np.array([[1.0, 5, 0], [0, 5, 1], [-1, 5, 0], [0, 5, -1]])  # after their mean: four directions
    cosines = similarities(truth[[0, 1, 3]], truth)
    assert cosines[0] == pytest.approx([1, 0, -1, 0])
    assert semantic_lift(cosines[0], 0) == pytest.approx(4 / 3) and own_rank(cosines[0], 0) == 1
    assert semantic_lift(cosines[1], 3) == pytest.approx(-4 / 3) and own_rank(cosines[1], 3) == 4
    assert own_rank(cosines[2], 0) == 2  # equals the third one, which does not count as closer


def test_blocks_overlap_and_short_sounds_make_one() -> None:
    assert blocks(np.zeros((249, 96))).shape == (3, BLOCK, 96)
    assert np.array_equal(blocks(np.arange(250.0)[:, None])[3, :, 0], np.arange(150, 250))
    assert blocks(spectrogram(np.zeros(0))).shape == blocks(spectrogram(np.ones(50_000))).shape == (1, BLOCK, 96)


def test_level_does_not_matter_unless_the_sound_is_silent() -> None:
    loud = np.sin(np.arange(120_000) / 20)
    assert spectrogram(loud) == pytest.approx(spectrogram(loud * 0.01))
    assert spectrogram(loud * 1e-5).max() < spectrogram(loud).max() / 2


def test_a_missing_package_and_another_file_are_reported(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aisfx, "PACKAGE", "no_such_package")
    with pytest.raises(MissingWeights, match="pip install --no-deps aisfx"):
        aisfx.AiSFX.load()
    (tmp_path / "c.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="not the checkpoint of aisfx"):
        aisfx.AiSFX.load(tmp_path / "c.pth")
