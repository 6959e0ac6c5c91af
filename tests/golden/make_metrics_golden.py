"""Make the golden fixtures of the metrics with their official code, as make_golden.py does for the codec.

    python tests/golden/make_metrics_golden.py mfcc | vggish | wav2clip | beats
    python tests/golden/make_metrics_golden.py sparsesync CHECKOUT    a clone of github.com/v-iashin/SparseSync
    python tests/golden/make_metrics_golden.py semantic TOOL    the script of the first measurements of semantic lift

In an environment of its own:
    pip install --no-deps librosa==0.11.0 torchvggish==0.2 wav2clip==0.1.0 speechbrain==1.1.2 torchaudio==2.11.0
    pip install torch==2.13.0 torchvision scipy soundfile soxr resampy audioread pooch lazy_loader msgpack numba \
        omegaconf einops requests tqdm

mfcc: librosa (ISC). vggish: torchvggish (Apache-2.0), a port of Google's code. wav2clip: the official package (MIT).
beats: speechbrain's copy (Apache-2.0) of the official code (MIT). sparsesync: the official code (MIT, commit a5bee8a).
semantic: the network and the weights are those of the package aisfx 0.1.2 (CC BY 4.0); install it with --no-deps.
Only the Python code of torchaudio is used; its compiled part is replaced by an empty module.
"""

import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from make_golden import digest, rule, rule_state, signal, write

VGGISH = {"width": 4, "hidden": 32, "dim": 12}
BEATS_CFG = {
    "input_patch_size": 16, "embed_dim": 24, "conv_bias": False, "encoder_layers": 2, "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 48, "encoder_attention_heads": 4, "activation_fn": "gelu", "dropout": 0.0,
    "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layerdrop": 0.05, "dropout_input": 0.0,
    "layer_norm_first": False, "conv_pos": 16, "conv_pos_groups": 4, "relative_position_embedding": True,
    "num_buckets": 320, "max_distance": 800, "gru_rel_pos": True, "deep_norm": True,
    "layer_wise_gradient_decay_ratio": 0.6, "finetuned_model": False,
}  # fmt: skip
MFCC_SAMPLES, VGGISH_SAMPLES, WAV2CLIP_SAMPLES, BEATS_SAMPLES = 30_000, 33_000, 24_000, 160_000
SYNC = {"n_layer": 1, "visual_block_shape": [2, 2, 2], "audio_block_shape": [9, 3]}  # all else as published
SYNC_FRAMES, SYNC_SIZE, SYNC_SAMPLES = 16, 64, 10240
AISFX_WIDTH, SEMANTIC_SAMPLES = 4, 160_000


def torch_state(shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The state dict of `rule` as tensors. All layers of BEATs share a bias; counters are integers."""
    import torch

    state = {k: torch.from_numpy(v) if v.ndim else torch.tensor(int(v)) for k, v in rule_state(shapes).items()}
    first = "encoder.layers.0.self_attn.relative_attention_bias.weight"
    shared = [k for k in state if k.endswith("self_attn.relative_attention_bias.weight")]
    return state | {k: state[first] for k in shared}


def film(n: int, size: int) -> np.ndarray:
    """Moving patterns uint8 [n, size, size, 3], made with integers."""
    t, y, x = np.mgrid[0:n, 0:size, 0:size]
    red = (5 * x + 11 * t) % 256
    green = np.where(((x + 3 * t) // 9 + y // 7) % 2, 210, 30)
    blue = (x * y // 7 + 17 * t) % 256
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def semantic_sounds() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """True and generated sounds [160000]: tones, clicks, noises; half of the generated ones are near their own."""
    t = np.arange(SEMANTIC_SAMPLES) / 44100
    noise = rule("noise", (SEMANTIC_SAMPLES, 1))[:, 0].astype(np.float64)
    clicks = np.exp(-(t % 0.4) / 0.02)
    true = [
        noise * clicks,
        np.sin(2 * np.pi * 220 * t) + 0.5 * np.sin(2 * np.pi * 660 * t),
        np.cumsum(noise - noise.mean()) / 100,
        np.sin(2 * np.pi * 1500 * t * (1 + 0.1 * t)) * np.exp(-(t % 0.9) / 0.3),
        noise * (1 + np.sin(2 * np.pi * 3 * t)),
        signal(SEMANTIC_SAMPLES).astype(np.float64),
    ]
    made = [0.6 * x + 0.4 * true[(k + 1) % len(true)] if k % 2 else true[(k + 2) % len(true)] + 0.1 * noise
            for k, x in enumerate(true)]  # fmt: skip
    return [x.astype(np.float32) for x in true], [x.astype(np.float32) for x in made]


def shapes_of(module: Any) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def load(module: Any, shapes: Mapping[str, Any]) -> str:
    """Load the weights of `rule` into a module, in eval mode; return their digest."""
    state = torch_state(shapes)
    module.load_state_dict(state, strict=True)
    module.eval()
    return digest({k: v.numpy() for k, v in state.items()})


def stand_in(name: str, **content: Any) -> None:
    """An empty module under this name."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(content)
    sys.modules[name] = module


def torchaudio_without_its_library() -> None:
    stand_in("torchaudio._extension", fail_if_no_align=lambda function: function, _IS_TORCHAUDIO_EXT_AVAILABLE=False)


# ---------------------------------------------------------------- the fixtures
def make_mfcc() -> None:
    import librosa

    audio = signal(MFCC_SAMPLES).astype(np.float64)
    mel = librosa.feature.melspectrogram(
        y=audio, sr=44100, n_fft=2048, hop_length=512, n_mels=128, pad_mode="constant", dtype=np.float64
    )
    values = librosa.feature.mfcc(S=np.log(mel + 1e-6), n_mfcc=64)
    write("mfcc", {"made_by": f"librosa {librosa.__version__}"}, {"mfcc": values.T.astype(np.float32)})


def make_vggish() -> None:
    import torch
    from torch import nn
    from torchvggish import vggish_input
    from torchvggish.torchvggish import VGG, make_layers

    torch.set_num_threads(1)
    layers, inputs = list(make_layers()), 1
    for i, layer in enumerate(layers):  # narrow; their order and their forward are kept
        if isinstance(layer, nn.Conv2d):
            outputs = layer.out_channels // 64 * VGGISH["width"]
            layers[i], inputs = nn.Conv2d(inputs, outputs, 3, padding=1), outputs
    model = VGG(nn.Sequential(*layers), postprocess=False)
    hidden, dim = VGGISH["hidden"], VGGISH["dim"]
    model.embeddings = nn.Sequential(
        nn.Linear(inputs * 24, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim)
    )  # without the final ReLU: FAD's usual choice
    shapes = shapes_of(model)
    facts = {"made_by": "torchvggish 0.2", "weights_sha256": load(model, shapes), "shapes": shapes}
    with torch.no_grad():
        inputs = vggish_input.waveform_to_examples(signal(VGGISH_SAMPLES).astype(np.float64), 16000)
        embeddings = model(inputs).numpy()
    write("vggish", facts, {"examples": inputs[:, 0, ::3].numpy(), "embeddings": embeddings})


def make_wav2clip() -> None:
    torchaudio_without_its_library()
    import torch
    from wav2clip.model.encoder import ResNetExtractor

    torch.set_num_threads(1)
    fresh = ResNetExtractor(scenario="supervise")
    shapes = {f"audio_encoder.{k}": v for k, v in shapes_of(fresh.encoder).items()}
    shapes |= {
        f"audio_transform.sequential.{i}.{k}": s for i in (0, 3) for k, s in (("weight", [512, 512]), ("bias", [512]))
    }
    state = torch_state(shapes)
    state["audio_encoder.spectrogram.window"] = fresh.encoder.spectrogram.window  # a constant of the code
    model = ResNetExtractor(checkpoint=state, scenario="frozen", transform=True).eval()
    with torch.no_grad():
        embedding = model(torch.from_numpy(signal(WAV2CLIP_SAMPLES))[None]).numpy()
    sha256 = digest({k: v.numpy() for k, v in torch_state(shapes).items()})
    facts = {"made_by": "wav2clip 0.1.0", "weights_sha256": sha256, "shapes": shapes}
    write("wav2clip", facts, {"embedding": embedding})


def make_beats() -> None:
    torchaudio_without_its_library()
    import torch

    folder = importlib.util.find_spec("speechbrain").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("beats", Path(folder) / "lobes" / "models" / "beats.py")
    for name in ("speechbrain", "speechbrain.dataio"):  # the file needs one function of theirs
        stand_in(name)
    stand_in("speechbrain.dataio.dataio", length_to_mask=lambda _, n, device: torch.ones(1, n, device=device))
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    torch.set_num_threads(1)
    config = code.BEATsConfig(BEATS_CFG)
    code.BEATsConfig = lambda _: config
    model = code.BEATs()
    shapes = shapes_of(model)
    sha256 = load(model, shapes)
    audio = torch.from_numpy(signal(BEATS_SAMPLES))[None]
    with torch.no_grad():
        features = model.extract_features(audio, torch.ones(1))[0][0].numpy()
        fbank = model.preprocess(audio)[0].numpy()
    facts = {"made_by": "speechbrain 1.1.2", "cfg": BEATS_CFG, "weights_sha256": sha256, "shapes": shapes}
    write("beats", facts, {"fbank": fbank[::20].astype(np.float32), "features": features[::5]})


def make_sparsesync() -> None:
    checkout = Path(sys.argv[2])
    sys.path[:0] = [str(checkout), str(HERE.parents[1])]
    torchaudio_without_its_library()
    import torch
    import torchaudio

    from benchmarks.common import torchvision_stub

    torchvision_stub.install()
    os.chdir(checkout)
    from omegaconf import OmegaConf
    from utils.utils import instantiate_from_config

    torch.set_num_threads(1)
    cfg = OmegaConf.load("configs/sparse_sync.yaml")
    for extractor in ("afeat_extractor", "vfeat_extractor"):
        cfg.model.params[extractor].params.ckpt_path = None
    cfg.model.params.transformer.params.update(SYNC)
    model = instantiate_from_config(cfg.model)
    shapes = shapes_of(model)
    sha256 = load(model, shapes)
    mean, std = (torch.tensor(v).view(1, 1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    frames = torch.from_numpy(film(SYNC_FRAMES, SYNC_SIZE))[None].permute(0, 1, 4, 2, 3).float() / 255
    with torch.no_grad():
        vision = (frames - mean) / std
        sound = torch.log(
            torchaudio.transforms.Spectrogram(n_fft=512, hop_length=128)(torch.from_numpy(signal(SYNC_SAMPLES))) + 1e-6
        )
        sound = (sound - sound.mean(dim=1, keepdim=True)) / (sound.std(dim=1, keepdim=True) + 1e-6)
        _, logits = model(vision, sound[None, None])
        maps = model.v_bridge(model.vfeat_extractor(vision).permute(0, 2, 1, 3, 4))
    os.chdir(HERE)
    facts = {"made_by": "SparseSync, commit a5bee8a", "weights_sha256": sha256, "shapes": shapes}
    write("sparsesync", facts, {"logits": logits.numpy(), "features": maps.mean(dim=(3, 4))[0].T.numpy()})


def make_semantic() -> None:
    import torch
    from aisfx.models.cnn2d import EmbeddingNet

    spec = importlib.util.spec_from_file_location("tool", sys.argv[2])
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    torch.set_num_threads(1)
    narrow = EmbeddingNet("max", 3, 1, AISFX_WIDTH)
    shapes = shapes_of(narrow)
    sha256 = load(narrow, shapes)
    sets = semantic_sounds()
    levels = [[tool.spectrogram(x.astype(np.float64)) for x in sounds] for sounds in sets]
    tool.load, network = lambda sound: sound.astype(np.float64), tool.network()
    truth, made = (np.stack([tool.embed(network, x) for x in sounds]) for sounds in sets)
    lift, rank = tool.score(truth, made)
    with torch.no_grad():
        embedding = narrow(torch.tensor(levels[0][0][None, :100], dtype=torch.float32))[0].numpy()
    facts = {"made_by": "aisfx 0.1.2", "weights_sha256": sha256, "shapes": shapes}
    arrays = {"levels": levels[0][0][::20].astype(np.float32), "embedding": embedding}
    write("semantic", facts, arrays | {"lift": lift.astype(np.float32), "rank": rank.astype(np.int16)})


if __name__ == "__main__":
    globals()[f"make_{sys.argv[1]}"]()
