"""The contract between the trained network and everything that runs it: tensor names, dtypes, axes and sizes.

The exporter, the backends and the tests' fake engines all read this file, so that nothing is written down twice.

Axis letters
    B   batch (candidates)                      C   pairs of frame and sync features
    K   codebooks                               F   condition frames, and one row for [NULL]
    T   token frames                            M   rows of the memory
    P   positions to draw                       G   groups: the video, and [NULL] if there is guidance
    N   frames at `frame_fps`                    L   samples
    Y   frames at `sync_fps`                    A   steps of the audio encoder
    S   sync features
"""

from dataclasses import asdict, dataclass
from math import pi
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engines.fields import from_json

CONTRACT_VERSION = 3  # rises when a graph's signature or meaning changes
OPSET, IR_VERSION = 20, 10

Design = Literal["adaln_a", "adaln_b", "seq2seq", "hybrid"]
DESIGNS: tuple[str, ...] = get_args(Design)
LENGTH_ADAPTERS = ("repeat", "centre")

Int32Array = NDArray[np.int32]
FloatArray = NDArray[np.float32]


def exact_div(a: int, b: int) -> int:
    """a / b. Raises ValueError if the division leaves a remainder."""
    if a % b:
        raise ValueError(f"{a} is not a multiple of {b}")
    return a // b


def mask_ratio(u: float) -> float:
    """Share of tokens still masked at progress u in [0, 1]: cos(pi / 2 * u) (paper, sections 3.2.2 and 3.2.3)."""
    return float(np.cos(pi / 2 * u))


@dataclass(frozen=True)
class Grid:
    """A sequence of features. Feature j lies at (offset + stride * j) / rate s and spans stride / rate s."""

    rate: int
    stride: int
    offset: int


# Ranges of whole numbers in a configuration, 1 to 1,000,000 if not named: a manifest must not ask for absurd amounts.
LEAST = {
    "codec_context": 0,
    "overlap_seconds": 0,
    "sync_offset": 0,
    "sync_context": 0,
    "encoder_blocks": 0,
    "cls_in_memory": 0,
    "text_context": 0,
}
MOST = {
    **dict.fromkeys(("frame_resize", "frame_size", "sync_resize", "sync_size"), 4096),
    **dict.fromkeys(("frame_fps", "sync_fps", "sync_stride", "n_codebooks", "n_blocks", "encoder_blocks"), 256),
    **dict.fromkeys(("window_seconds", "overlap_seconds"), 3600),
    "text_context": 4096,
}


@dataclass(frozen=True)
class ModelConfig:
    """The network's configuration. Every checkpoint and manifest stores it, and all lengths are derived from it."""

    design: Design = "hybrid"
    sample_rate: int = 44100  # Hz; the codec's
    hop_length: int = 512  # samples per token frame
    n_codebooks: int = 9
    codebook_size: int = 1024
    codec_latent: int = 1024  # width of the summed RVQ embedding
    codec_context: int = 12  # token frames on each side that make chunked decoding equal whole decoding
    # window that the transformer was trained on
    window_seconds: int = 10
    overlap_seconds: int = 2  # the next window gets these tokens as known
    # frame encoder (CLIP's role)
    frame_fps: int = 8  # of frame_features; not given in the paper; components' default
    frame_resize: int = 224  # short side, pixels
    frame_size: int = 224  # centre crop, pixels
    frame_dim: int = 512
    text_context: int = 0  # tokens that the text encoder reads; 0: the bundle has none; CLIP: 77
    # sync encoder (S3D's role)
    sync_fps: int = 25
    sync_resize: int = 256
    sync_size: int = 224
    sync_dim: int = 512
    sync_stride: int = 8  # input frames per feature: 8 (bridge) or 4 (mixed_4d)
    sync_offset: int = 2  # input frame at the centre of feature 0
    sync_context: int = 0  # input frames on each side that make encoding in pieces exact; 0: unknown, so not in pieces
    # audio encoder (BEATs' role) and SCAV
    audio_rate: int = 16000  # Hz
    audio_stride: int = 2560  # samples at audio_rate per step: 16 frames of 10 ms
    audio_dim: int = 768
    audio_bands: int = 8
    scav_dim: int = 512
    # transformer: its sizes, and choices that the paper leaves open
    hidden_size: int = 1024
    n_blocks: int = 12
    n_heads: int = 16
    encoder_blocks: int = 2  # blocks of the condition's encoder (seq2seq, hybrid)
    mlp_ratio: int = 4
    length_adapter: str = "repeat"  # "repeat": the paper's frame repetition; "centre": see adapter_index
    cls_in_memory: bool = False  # whether cross-attention also sees the encoder's [CLS]

    def __post_init__(self) -> None:
        if self.design not in DESIGNS:
            raise ValueError(f"unknown design {self.design!r}; choose from {', '.join(DESIGNS)}")
        if self.length_adapter not in LENGTH_ADAPTERS:
            raise ValueError(
                f"unknown length adapter {self.length_adapter!r}; choose from {', '.join(LENGTH_ADAPTERS)}"
            )
        if exact_div(self.hidden_size, self.n_heads) % 2:
            raise ValueError(f"heads are {self.hidden_size // self.n_heads} wide; rotary positions need an even width")
        for name, value in vars(self).items():
            if isinstance(value, int) and not LEAST.get(name, 1) <= value <= MOST.get(name, 1_000_000):
                raise ValueError(
                    f"{name} is {value}; it must be from {LEAST.get(name, 1)} to {MOST.get(name, 1_000_000)}"
                )
        if not 0 <= self.overlap_seconds < self.window_seconds:
            raise ValueError(f"windows of {self.window_seconds} s cannot overlap by {self.overlap_seconds} s")
        exact_div(self.sync_context, self.sync_stride)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Raises ValueError that names a field which is unknown, of another type, or out of range."""
        return from_json(cls, values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def has_memory(self) -> bool:
        """Whether the design has cross-attention to an encoder over [CLS] and [frame ; sync]."""
        return self.design in ("seq2seq", "hybrid")

    @property
    def adaln_streams(self) -> tuple[str, ...]:
        """The feature streams that modulate the AdaLN blocks."""
        return {"adaln_a": ("frame",), "adaln_b": ("frame", "sync"), "seq2seq": (), "hybrid": ("sync",)}[self.design]

    @property
    def uses_sync(self) -> bool:
        return self.design != "adaln_a"

    @property
    def token_grid(self) -> Grid:
        return Grid(self.sample_rate, self.hop_length, self.hop_length // 2)

    # sample k of a video is the picture at (k + 1/2) / fps (runtime.video); half frames need doubled rates
    @property
    def frame_grid(self) -> Grid:
        return Grid(2 * self.frame_fps, 2, 1)

    @property
    def sync_grid(self) -> Grid:
        return Grid(2 * self.sync_fps, 2 * self.sync_stride, 2 * self.sync_offset + 1)

    @property
    def mask_token(self) -> int:
        return self.codebook_size  # the id after the last code

    def n_tokens(self, n_samples: int) -> int:
        """T, token frames: ceil(samples / hop), 862 for 10 s."""
        return -(-n_samples // self.hop_length)

    @property
    def window_tokens(self) -> int:
        return self.n_tokens(self.window_seconds * self.sample_rate)

    def n_frames(self, n_tokens: int) -> int:
        """N, frames at `frame_fps` for T tokens: 80 for 862 at 8 fps."""
        return max(1, round(n_tokens * self.hop_length * self.frame_fps / self.sample_rate))

    def n_sync(self, n_tokens: int) -> int:
        """S, sync features for T tokens: 32 for 862 at 25 fps and stride 8 (the last frame is repeated to fill)."""
        return max(1, -(-round(n_tokens * self.hop_length * self.sync_fps / self.sample_rate) // self.sync_stride))

    def n_sync_frames(self, n_tokens: int) -> int:
        """Y, frames at `sync_fps` for n_sync features: a multiple of the encoder's stride."""
        return self.n_sync(n_tokens) * self.sync_stride


SIZES: dict[str, dict[str, int]] = {  # transformer sizes by name
    "tiny": {"hidden_size": 64, "n_blocks": 2, "n_heads": 2, "encoder_blocks": 1, "codec_latent": 64},
    "mini": {"hidden_size": 256, "n_blocks": 6, "n_heads": 4, "encoder_blocks": 1, "codec_latent": 256},
    "small": {"hidden_size": 512, "n_blocks": 8, "n_heads": 8, "encoder_blocks": 2},
    "base": {"hidden_size": 1024, "n_blocks": 12, "n_heads": 16, "encoder_blocks": 2},
}


# ---------------------------------------------------------------- graphs
@dataclass(frozen=True)
class TensorSpec:
    """Name, NumPy dtype and axes of one tensor. An axis is a letter (any length) or a fixed size."""

    name: str
    dtype: str
    axes: tuple[str | int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join(map(str, self.axes))}]"


@dataclass(frozen=True)
class Graph:
    """One exported function: `run(inputs) -> outputs`."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def graphs(config: ModelConfig) -> dict[str, Graph]:
    """Every graph of a bundle with this configuration, by name. docs/CONTRACT.md describes them.

    `condition` runs once per window, for all candidates. `modulation` holds, for each block, shift, 1 + scale and gate
    of self-attention and of the MLP, then shift and 1 + scale of the last norm. `step` draws at token frames `index`.
    """
    c, f32, i32 = config, "float32", "int32"

    def drawn(name: str, dtype: str) -> TensorSpec:
        return TensorSpec(name, dtype, ("B", c.n_codebooks, "P"))

    frame_features = TensorSpec("frame_features", f32, ("B", "N", c.frame_dim))
    sync_features = TensorSpec("sync_features", f32, ("B", "S", c.sync_dim))
    codes = TensorSpec("codes", i32, ("B", c.n_codebooks, "T"))
    audio_features = TensorSpec("audio_features", f32, ("B", "A", c.audio_bands, c.audio_dim))
    features = (frame_features, sync_features) if c.uses_sync else (frame_features,)
    condition_in = tuple(TensorSpec(t.name, f32, (1, *t.axes[1:])) for t in features)
    condition_out, step_in = tuple[TensorSpec, ...](), tuple[TensorSpec, ...]()
    if c.has_memory:
        memory = "M" if c.cls_in_memory else "N"  # [CLS] adds a row
        axes = (c.n_blocks, c.n_heads, memory, c.hidden_size // c.n_heads)
        condition_in += (TensorSpec("memory_index", i32, ("N",)),)
        condition_out += tuple(TensorSpec(name, f32, (2, *axes)) for name in ("keys", "values"))
        step_in += tuple(TensorSpec(name, f32, ("G", *axes)) for name in ("keys", "values"))
    if c.adaln_streams:
        if c.design == "adaln_b":
            condition_in += (
                TensorSpec("frame_features_index", i32, ("C",)),
                TensorSpec("sync_features_index", i32, ("C",)),
            )
        modulation = TensorSpec("modulation", f32, (6 * c.n_blocks + 2, "F", c.hidden_size))
        condition_out += (modulation,)
        step_in += (TensorSpec("frame_index", i32, ("G", "T")), modulation)
    all_graphs = (
        Graph("frame_encoder", (TensorSpec("frames", "uint8", ("N", c.frame_size, c.frame_size, 3)),),
              (TensorSpec("features", f32, ("N", c.frame_dim)),)),
        Graph("sync_encoder", (TensorSpec("frames", "uint8", ("B", "Y", c.sync_size, c.sync_size, 3)),),
              (sync_features,)),
        Graph("condition", condition_in, condition_out),
        Graph("step", (codes, drawn("index", i32), drawn("u", f32), TensorSpec("guidance", f32, ()), *step_in),
              (drawn("tokens", i32), drawn("logp", f32))),
        Graph("codec_decoder", (codes,), (TensorSpec("audio", f32, ("B", "L")),)),
        Graph("codec_encoder", (TensorSpec("audio", f32, ("B", "L")),), (codes,)),
        Graph("audio_encoder", (TensorSpec("audio", f32, ("B", "L")),), (audio_features,)),
        Graph("scav_video", (frame_features, TensorSpec("interpolation", f32, ("A", "N"))),
              (TensorSpec("embedding", f32, ("B", "A", c.scav_dim)),)),
        Graph("scav_audio", (audio_features,),
              (TensorSpec("embedding", f32, ("B", "A", c.audio_bands, c.scav_dim)),)),
    )  # fmt: skip
    text_encoder = Graph(
        "text_encoder",
        (TensorSpec("tokens", i32, ("B", c.text_context)),),
        (TensorSpec("embedding", f32, ("B", c.frame_dim)),),
    )
    return {g.name: g for g in (*all_graphs, *((text_encoder,) if c.text_context else ()))}
