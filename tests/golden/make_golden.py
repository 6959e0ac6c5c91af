"""Make the golden fixtures: outputs of the official implementations, on weights that a rule makes from their names.

    python tests/golden/make_golden.py dac     in an environment of its own, see below
    python tests/golden/make_golden.py clip    where open_clip_torch is installed, e.g. the environment of the tests
    python tests/golden/make_golden.py clip_text    the same: tokens of many texts, and embeddings of some

No weights are stored. A tensor is a function of its name and shape (`rule`), so a test can make it again. The fixture
has the names, the shapes, a digest of all weights, and the outputs. The rule uses only uniform numbers of PCG64: they
are the same in every NumPy version.

The environment for `dac` (separate, because descript-audiotools needs a protobuf version that onnx cannot use):
    pip install --no-deps descript-audio-codec==1.0.0 descript-audiotools==0.7.2
    pip install torch==2.13.0 numpy scipy librosa soundfile argbind einops tqdm julius pyloudnorm rich flatten-dict \
        ffmpy importlib-resources randomname markdown2 matplotlib ipython tensorboard torch-stoi
audiotools imports torchaudio, but the model does not use it, so it is replaced by an empty module.
"""

import hashlib
import importlib.machinery
import json
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DAC_KWARGS = {  # every layer of the 44.1 kHz network, narrow
    "encoder_dim": 8, "encoder_rates": [2, 4, 8, 8], "latent_dim": 128, "decoder_dim": 96,
    "decoder_rates": [8, 8, 4, 2],
    "n_codebooks": 9, "codebook_size": 1024, "codebook_dim": 8, "quantizer_dropout": False, "sample_rate": 44100,
}  # fmt: skip
DAC_SAMPLES = 12_000  # not a multiple of 512
WAVE_STEP = 7  # every so many samples of the decoded waveform are stored
CLIP_MODEL = "ViT-B-32-quickgelu"
PICTURES = ((224, 224), (300, 257))  # width, height
EMBEDDED = ("a photo of a dog", "a photo of a big cat", "rain on a tin roof, far away", "", "x " * 100)
TOKENISED = (  # everything that cleaning, cutting and merging treat in a way of its own
    *EMBEDDED, "Dog", "dogs' barks", "it's I'LL we've they'd I'm can't you're", "'s",
    "don''t",
    "1234 2024-11-29 7th", "3.14 ½ ² Ⅷ ٣", "what?!... (no) -- [NULL] <b>bold</b>",
    "  many \t spaces \n and\u2028lines ",
    "naïve café São Paulo", "e\u0301 composed", "Straße İstanbul ſtraße", "狗在叫 ぎたー 기타 собака σκύλος كلب",
    "👍🏽 🎸 sound🎺s",
    "fullwidth ＡＢＣ　１２３", "ﬁre ﬂute ǆ Ĳ ﬆ", "curly ‘quotes’ “double” ŉ", "&amp;amp; &lt;tag&gt; &eacute; R&B",
    "<p>&amp;</p>", "tab\x00null\x1b[31mred", "<start_of_text> in text <END_OF_TEXT> end", "hello_world snake_case",
    "a" * 300, "antidisestablishmentarianism's", "acoustic guitar", "steam locomotive", "chainsaw",
    "supercalifragilistic",
    "\ufeffbom", "zero\u200bwidth", "—–‐ dashes…", "$9.99 50% #1 @home", "C++ C# .NET", "http://example.org/?q=1&r=2",
    "ΑΒΓ ΔΕΖ", "n\u0303", "\ud83d lone half",
)  # fmt: skip


def rule(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 tensor of this name: uniform numbers, scaled by its role so that activations stay near 1."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    u = np.random.Generator(np.random.PCG64(seed)).random(shape) - 0.5
    leaf = name.rpartition(".")[2]
    if leaf == "alpha":  # of Snake
        values = 1 + u
    elif leaf in ("weight_g", "original0"):  # the norm of a filter
        values = 0.6 + 0.2 * u
    elif "bias" in leaf or leaf == "running_mean":
        values = 0.2 * u
    elif len(shape) <= 1:  # weights of norms, single vectors
        values = 1 + 0.4 * u
    else:
        values = u * np.sqrt(12 / np.prod(shape[1:]))
    return np.asarray(values, np.float32)


def rule_state(shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """All tensors of a state dict from their names and shapes."""
    return {name: rule(name, tuple(shape)) for name, shape in shapes.items()}


def digest(state: Mapping[str, np.ndarray]) -> str:
    """One sha256 over all weights, by name."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(np.ascontiguousarray(state[name]).tobytes())
    return total.hexdigest()


def signal(n: int) -> np.ndarray:
    """A sound [n] made with exact arithmetic: a rising triangle wave, noise, and a gap of silence."""
    i = np.arange(n, dtype=np.int64)
    phase = (i * 300 + i * i // 8) % 44100
    wave = np.abs(phase / 44100 - 0.5) * 2 - 0.5
    sound = 0.6 * wave + 0.2 * (rule("signal", (n, 1))[:, 0] / np.sqrt(12))
    sound[n // 2 : n // 2 + 1500] = 0
    return sound.astype(np.float32)


def picture(width: int, height: int) -> np.ndarray:
    """An RGB picture uint8 [height, width, 3] made with integers: gradients, edges and a fine pattern."""
    y, x = np.mgrid[0:height, 0:width]
    red = (3 * x + y) // 4 % 256
    green = np.where((x // 37 + y // 29) % 2, 200, 40) + x % 5 * 8
    blue = (x * y // 97) % 256
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


# ---------------------------------------------------------------- DAC
def make_dac() -> None:
    stub = types.ModuleType("torchaudio")
    stub.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = stub
    import torch
    from dac.model.dac import DAC

    torch.set_num_threads(1)
    model = DAC(**DAC_KWARGS).eval()
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    state = rule_state(shapes)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    with torch.no_grad():
        audio = model.preprocess(torch.from_numpy(signal(DAC_SAMPLES))[None, None], DAC_KWARGS["sample_rate"])
        _, codes, latents, _, _ = model.encode(audio)
        z, _, _ = model.quantizer.from_codes(codes)
        wave = model.decode(z)[0, 0].numpy()
    facts = {
        "made_by": f"descript-audio-codec 1.0.0, torch {torch.__version__}",
        "kwargs": DAC_KWARGS, "samples": DAC_SAMPLES, "wave_step": WAVE_STEP,
        "margin": smallest_margin(model, latents.numpy()), "weights_sha256": digest(state), "shapes": shapes,
    }  # fmt: skip
    arrays = {
        "codes": codes[0].numpy().astype(np.int16),
        "embedding_sum": z[0, :, ::5].numpy(),  # [latent, every fifth frame]
        "wave": wave[::WAVE_STEP],
    }
    write("dac", facts, arrays)


def smallest_margin(model: Any, latents: np.ndarray) -> float:
    """Smallest difference of cosine similarity between the best two codebook rows. Rounding errors must be smaller."""
    worst, dims = np.inf, DAC_KWARGS["codebook_dim"]
    for k, quantizer in enumerate(model.quantizer.quantizers):
        rows = quantizer.codebook.weight.detach().numpy()
        e = latents[0, dims * k : dims * (k + 1)].T
        cosine = (e / np.linalg.norm(e, axis=1, keepdims=True)) @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        best = np.sort(cosine, axis=1)
        worst = min(worst, float((best[:, -1] - best[:, -2]).min()))
    return worst


# ---------------------------------------------------------------- CLIP
VISION, TEXT = (
    ("visual.",),
    ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection"),
)


def clip_state(shapes: Mapping[str, Any], tower: tuple[str, ...] = VISION) -> dict[str, Any]:
    """An open_clip state dict in torch: one tower by the rule, everything else 0 (and stored as one number)."""
    import torch

    state = {k: torch.zeros(1).expand(tuple(s)) if len(s) else torch.zeros(()) for k, s in shapes.items()}
    chosen = rule_state({k: s for k, s in shapes.items() if k.startswith(tower)})
    return state | {k: torch.from_numpy(v) for k, v in chosen.items()}


def tower_digest(state: Mapping[str, Any], tower: tuple[str, ...]) -> str:
    return digest({k: v.numpy() for k, v in state.items() if k.startswith(tower)})


def make_clip() -> None:
    sys.path.insert(0, str(HERE.parents[1]))
    from benchmarks.common import torchvision_stub

    torchvision_stub.install()
    import open_clip
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    shapes = {k: list(v.shape) for k, v in open_clip.create_model(CLIP_MODEL).state_dict().items()}
    state = clip_state(shapes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.pt"
        torch.save(state, path)
        model, _, preprocess = open_clip.create_model_and_transforms(CLIP_MODEL, pretrained=str(path))
    model.eval()
    with torch.no_grad():
        pictures = torch.stack([preprocess(Image.fromarray(picture(*size))) for size in PICTURES])
        features = model.encode_image(pictures).numpy()
    facts = {
        "made_by": f"open_clip_torch {open_clip.__version__}, torch {torch.__version__}",
        "model": CLIP_MODEL, "pictures": PICTURES, "weights_sha256": tower_digest(state, VISION), "shapes": shapes,
    }  # fmt: skip
    write("clip", facts, {"features": features})


def make_clip_text() -> None:
    sys.path.insert(0, str(HERE.parents[1]))
    from benchmarks.common import torchvision_stub

    torchvision_stub.install()
    import open_clip
    import torch

    torch.set_num_threads(1)
    model = open_clip.create_model(CLIP_MODEL)
    state = clip_state({k: list(v.shape) for k, v in model.state_dict().items()}, TEXT)
    model.load_state_dict(state, strict=True)
    tokenise = open_clip.get_tokenizer(CLIP_MODEL)
    with torch.no_grad():
        embeddings = model.eval().encode_text(tokenise(list(EMBEDDED))).numpy()
    facts = {
        "made_by": f"open_clip_torch {open_clip.__version__}, torch {torch.__version__}",
        "model": CLIP_MODEL, "embedded": EMBEDDED, "weights_sha256": tower_digest(state, TEXT),
        "tokens": {text: tokenise.encode(text) for text in TOKENISED},
    }  # fmt: skip
    write("clip_text", facts, {"embeddings": embeddings})


def write(name: str, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(facts, indent=0) + "\n", encoding="utf-8")
    np.savez_compressed(HERE / f"{name}.npz", **arrays)
    print(
        {k: v for k, v in facts.items() if k not in ("shapes", "tokens")},
        {k: (v.shape, float(v.std())) for k, v in arrays.items()},
    )


def read(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(facts, arrays) of a fixture."""
    with np.load(HERE / f"{name}.npz") as arrays:
        return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")), dict(arrays)


if __name__ == "__main__":
    {"dac": make_dac, "clip": make_clip, "clip_text": make_clip_text}[sys.argv[1]]()
