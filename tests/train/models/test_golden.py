"""Our codec and CLIP against stored results of the official implementations, for weights made by a formula."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.common import torchvision_stub
from tests.golden.make_golden import TEXT, VISION, clip_state, digest, picture, rule_state, signal, tower_digest
from tests.golden.make_golden import read as fixture
from tests.support.paths import GOLDEN

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_fixtures_are_small_and_name_no_machine() -> None:
    files = [p for p in GOLDEN.iterdir() if p.suffix in (".json", ".npz")]
    assert sum(p.stat().st_size for p in files) < 1_000_000
    names = ("dac", "clip", "clip_text", "mfcc", "vggish", "wav2clip", "beats", "sparsesync", "semantic")
    assert {p.name for p in files} == {f"{name}{end}" for name in names for end in (".json", ".npz")}


# ---------------------------------------------------------------- DAC
@pytest.fixture(scope="module")
def official_dac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the format of the official download, with the weights of the fixture."""
    facts, _ = fixture("dac")
    state = rule_state(facts["shapes"])
    assert digest(state) == facts["weights_sha256"], "the rule makes other weights than when the fixture was made"
    path = tmp_path_factory.mktemp("dac") / "weights.pth"
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    torch.save({"state_dict": tensors, "metadata": {"kwargs": facts["kwargs"]}}, path)
    return path


@pytest.fixture(scope="module")
def codec(official_dac: Path) -> Any:
    torchvision_stub.install()
    pytest.importorskip("transformers")
    from train.models.dac import DAC

    return DAC.load(official_dac)


def test_dac_config_comes_from_the_file(codec: Any) -> None:
    facts, _ = fixture("dac")
    assert codec.config.encoder_dim == facts["kwargs"]["encoder_dim"] and codec.config.hop_length == 512
    assert codec.context == 12


def test_dac_codes_are_the_official_ones(codec: Any) -> None:
    facts, golden = fixture("dac")
    audio = torch.from_numpy(signal(facts["samples"]))[None]
    codes = codec.encode(audio)
    assert codes.dtype == torch.int32
    assert np.array_equal(codes[0].numpy(), golden["codes"])  # the fixture's margin is far above rounding
    assert facts["margin"] > 1e-4
    assert codec.encode(torch.zeros(2, 441_000)[:, :1025]).shape == (2, 9, 3)


def test_dac_waveform_is_the_official_one(codec: Any) -> None:
    facts, golden = fixture("dac")
    codes = torch.from_numpy(golden["codes"].astype(np.int32))[None]
    wave = codec.decode(codes)
    assert wave.shape == (1, 512 * codes.shape[2])
    assert np.abs(wave[0, :: facts["wave_step"]].numpy() - golden["wave"]).max() < 1e-5


def test_dac_embedding_sums_are_the_decoders_input(codec: Any) -> None:
    _, golden = fixture("dac")
    table = codec.embedding_table().numpy()
    assert table.shape == (9, 1024, 128)
    total = sum(table[k, golden["codes"][k, ::5]] for k in range(9))  # (frames, latent)
    assert np.abs(total.T - golden["embedding_sum"]).max() < 1e-5


def test_dac_vectors_are_the_codebooks_rows(codec: Any) -> None:
    """The space of FDD: nine rows of 8 numbers, level after level, before they are projected and summed."""
    facts, golden = fixture("dac")
    codes, state = golden["codes"], rule_state(facts["shapes"])
    rows = [state[f"quantizer.quantizers.{k}.codebook.weight"][codes[k]] for k in range(9)]  # (frames, 8) each
    assert np.array_equal(codec.vectors(torch.from_numpy(codes.astype(np.int32))[None])[0].numpy(), np.hstack(rows))


def test_dac_reads_the_hugging_face_layout(codec: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from train.models.dac import DAC

    save_file(codec.model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(codec.model.config.to_dict()), encoding="utf-8")
    again = DAC.load(tmp_path / "model.safetensors")
    assert again.config == codec.config
    codes = torch.zeros(1, 9, 4, dtype=torch.int32)
    assert torch.equal(again.decode(codes), codec.decode(codes))


def test_dac_refuses_what_is_not_the_official_file(official_dac: Path, tmp_path: Path) -> None:
    torchvision_stub.install()
    from train.models.dac import DAC
    from train.models.loading import WeightsError

    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"metadata.kwargs"):
        DAC.load(tmp_path / "other.pth")
    content = torch.load(official_dac)
    del content["state_dict"]["encoder.block.0.bias"]
    content["state_dict"]["encoder.block.9.bias"] = torch.zeros(1)
    torch.save(content, tmp_path / "broken.pth")
    with pytest.raises(WeightsError, match="does not fit a DAC of 4 blocks"):
        DAC.load(tmp_path / "broken.pth")


# ---------------------------------------------------------------- CLIP
@pytest.mark.slow
def test_clip_features_are_open_clips(tmp_path: Path) -> None:
    """Preprocessing inside the module, uint8 in, against open_clip's own preprocessing and encode_image."""
    torchvision_stub.install()
    pytest.importorskip("open_clip")
    from PIL import Image

    from train.models.clip_image import CLIP

    facts, golden = fixture("clip")
    state = clip_state(facts["shapes"])
    assert tower_digest(state, VISION) == facts["weights_sha256"], (
        "the rule makes other weights than when the fixture was made"
    )
    torch.save(state, tmp_path / "clip.pt")
    clip = CLIP.load(facts["model"], tmp_path / "clip.pt")
    assert (clip.resize, clip.size, clip.dim) == (224, 224, 512)
    frames = np.stack([crop(Image.fromarray(picture(*size)), clip.resize, clip.size) for size in facts["pictures"]])
    raw = clip.encode(torch.from_numpy(frames)).numpy()
    assert np.abs(raw - golden["features"]).max() < 1e-4 * golden["features"].std()
    unit = golden["features"] / np.linalg.norm(golden["features"], axis=1, keepdims=True)
    assert np.abs(clip(torch.from_numpy(frames)).numpy() - unit).max() < 1e-5


@pytest.mark.slow
def test_clip_embeddings_of_text_are_open_clips() -> None:
    """Our text encoder and tokeniser, without open_clip's code, against its encode_text."""
    from engines.words.tokeniser import Tokeniser
    from tests.support.bpe import clip_merges
    from train.models.clip_text import CLIPText, ClipTextConfig

    facts, golden = fixture("clip_text")
    state = clip_state(fixture("clip")[0]["shapes"], TEXT)
    assert tower_digest(state, TEXT) == facts["weights_sha256"], "the rule makes other weights than in the fixture"
    encoder = CLIPText(ClipTextConfig())
    encoder.load_state_dict({k: v for k, v in state.items() if k.startswith(TEXT)}, strict=True)
    tokenise = Tokeniser(clip_merges(), encoder.context)
    tokens = torch.from_numpy(np.concatenate([tokenise(text) for text in facts["embedded"]]))
    raw = encoder.encode(tokens).numpy()
    assert np.abs(raw - golden["embeddings"]).max() < 1e-4 * golden["embeddings"].std()
    unit = golden["embeddings"] / np.linalg.norm(golden["embeddings"], axis=1, keepdims=True)
    assert np.abs(encoder(tokens).numpy() - unit).max() < 1e-5


def crop(image: Any, resize: int, size: int) -> np.ndarray:
    """Short side to `resize` (bicubic, antialiased), then the centre: what a caller does before the encoder."""
    scale = resize / min(image.size)
    image = image.resize([int(side * scale) for side in image.size], 3)  # 3: bicubic
    left, top = (round((side - size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))
