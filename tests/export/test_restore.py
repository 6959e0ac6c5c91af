"""Networks read back from the shipped bundle compute what its ONNX files compute."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from engines.base import Engine
from engines.contract import graphs
from engines.feeds import all_positions, step_conditions
from engines.length_adapter import condition_indices
from engines.manifest import Manifest
from engines.ort import OrtEngine
from export import restore
from train.checkpoint import load, read_meta

pytestmark = pytest.mark.torch
BUNDLE = Path("engines/mini")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("from-bundle")
    assert restore.main([str(BUNDLE), str(folder)]) == 0
    return folder


def engine(name: str) -> Engine:
    return OrtEngine(BUNDLE / f"{name}.onnx", graphs(Manifest.read(BUNDLE).config)[name], "cpu", threads=1)


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_codec_gives_the_same_codes_and_sound(system: Path, rng: np.random.Generator) -> None:
    codec, audio = load(system, "codec"), rng.normal(0, 0.1, (1, 20 * 512)).astype(np.float32)
    codes = engine("codec_encoder").run({"audio": audio})["codes"]
    with torch.inference_mode():
        assert np.array_equal(codec.encode(torch.from_numpy(audio)).numpy(), codes)
        sound = codec.decode(torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(sound, engine("codec_decoder").run({"codes": codes})["audio"], atol=1e-5)


def test_the_encoders_and_scav_give_the_same_features(system: Path, rng: np.random.Generator) -> None:
    config = Manifest.read(BUNDLE).config
    frames = rng.integers(0, 256, (1, 13, config.sync_size, config.sync_size, 3), np.uint8)
    audio = rng.normal(0, 0.1, (1, 16000)).astype(np.float32)
    seen = rng.normal(0, 1, (1, 8, config.frame_dim)).astype(np.float32) / config.frame_dim**0.5
    matrix = np.full((5, 8), 1 / 8, np.float32)
    scav = load(system, "scav")
    with torch.inference_mode():
        heard = load(system, "audio_encoder")(torch.from_numpy(audio))
        found = {
            "sync_encoder": ({"frames": frames}, load(system, "sync_encoder")(torch.from_numpy(frames))),
            "audio_encoder": ({"audio": audio}, heard),
            "scav_audio": ({"audio_features": heard.numpy()}, scav.audio(heard)),
            "scav_video": (
                {"frame_features": seen, "interpolation": matrix},
                scav.video(torch.from_numpy(seen), torch.from_numpy(matrix)),
            ),
        }
    for name, (feeds, value) in found.items():
        (expected,) = engine(name).run(feeds).values()
        np.testing.assert_allclose(value.numpy(), expected, atol=2e-5 * max(1, np.abs(expected).max()), err_msg=name)


def test_maskvat_gives_the_same_probabilities(system: Path, rng: np.random.Generator) -> None:
    config, model = Manifest.read(BUNDLE).config, load(system, "maskvat")
    assert model.config == replace(config, sync_context=0)  # as in training: its weights can be the start of one
    n_tokens, n_frames, n_sync = 20, config.n_frames(20), config.n_sync(20)
    features = {
        "frame_features": rng.normal(0, 0.03, (1, n_frames, config.frame_dim)).astype(np.float32),
        "sync_features": rng.normal(0, 1, (1, n_sync, config.sync_dim)).astype(np.float32),
    }
    codes = np.full((1, config.n_codebooks, n_tokens), config.mask_token, np.int32)
    codes[:, :, ::3] = rng.integers(0, config.codebook_size, codes[:, :, ::3].shape)
    feeds = step_conditions(config, n_tokens, features, engine("condition").run) | {
        "codes": codes,
        "index": all_positions(codes.shape),
        "u": rng.random(codes.shape).astype(np.float32),
        "guidance": np.array(0, np.float32),
    }
    drawn = engine("step").run(feeds)
    indices = condition_indices(config, n_tokens, n_frames, n_sync)
    with torch.inference_mode():
        given = [torch.from_numpy(features[name]) for name in ("frame_features", "sync_features")]
        logits, _ = model(torch.from_numpy(codes), *given, {k: torch.from_numpy(v).long() for k, v in indices.items()})
    tokens = torch.from_numpy(drawn["tokens"]).long()[..., None]
    logp = logits.log_softmax(-1).gather(-1, tokens)[..., 0].numpy()
    np.testing.assert_allclose(logp, drawn["logp"], atol=5e-3)


def test_origin_and_licences_come_along(system: Path) -> None:
    components = read_meta(system)["components"]
    for weights in Manifest.read(BUNDLE).weights:
        if weights.role != "frame_encoder":
            facts = components[weights.role]["provenance"]
            assert (facts["name"], facts["code_licence"], facts["origin"]) == (
                weights.name, weights.licence, weights.origin,
            )  # fmt: skip


def test_a_bundle_of_other_networks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore.main([str(tmp_path), str(tmp_path / "system")]) == 1
    assert "manifest.json" in capsys.readouterr().err
    tensors: dict[str, object] = {}
    monkeypatch.setattr(restore.Graph, "state", lambda self: tensors)
    for words in (
        "the codec of the bundle has no noise: it is older",
        "the codec of the bundle does not fit FrameCodec",
    ):
        assert restore.main([str(BUNDLE), str(tmp_path / "system")]) == 1
        assert words in capsys.readouterr().err
        tensors["component.axes"] = torch.zeros(144, 64)
    assert not (tmp_path / "system").exists()
