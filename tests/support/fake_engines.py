"""Fake bundles: tiny ONNX graphs that stand for the real networks, so that tests take seconds.

Inputs and outputs come from `engines.contract.graphs`, so a fake always fits the contract. The functions below define
what each graph computes. The results are elementwise, so a row does not depend on its batch, and they depend on every
input that a real network depends on.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.base import Feeds
from engines.contract import IR_VERSION, OPSET, Graph, ModelConfig, TensorSpec, graphs
from engines.feeds import CODEC_PERIOD
from engines.manifest import BundleFile, Manifest, Weights, sha256
from engines.ort import OrtEngine, available
from engines.selftest import feeds_for, summarise
from engines.words import vocabulary
from engines.words.vocabulary import write_vocabulary

NEEDS_ORT = pytest.mark.skipif(available()["cpu"] is not None, reason="needs onnxruntime: pip install '.[cpu,test]'")
LEVEL = 0.1  # of the sound of the fake codec
CONTEXT = 1  # token frames on each side that affect the sound of the fake codec
WORDS = ("dog", "big cat", "door", "car", "street", "drum")
ROLES = ("maskvat", "codec", "frame_encoder", "sync_encoder", "audio_encoder", "scav")

# short windows and small frames, so that a video of a few seconds has several windows
SMALL: dict[str, Any] = {
    "codec_context": CONTEXT,
    "window_seconds": 2,
    "overlap_seconds": 1,
    "frame_resize": 32,
    "frame_size": 32,
    "frame_dim": 6,
    "sync_resize": 32,
    "sync_size": 32,
    "sync_dim": 6,
    "sync_context": 8,  # smallest value with one frame on each side at every stride
    "audio_dim": 4,
    "scav_dim": 4,
    "hidden_size": 8,
    "n_blocks": 1,
    "n_heads": 2,
    "encoder_blocks": 1,
}


def small_config(design: str = "hybrid", **changes: Any) -> ModelConfig:
    return ModelConfig.from_dict(SMALL | {"design": design} | changes)


class Builder:
    """Collects the nodes of one graph. `op("Add", x, 1.0)` adds a node and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> str:
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [out], **attributes))
        return out

    def constant(self, value: Any) -> str:
        """Add a constant. Floats become float32, integers int64; arrays keep their type."""
        if not isinstance(value, np.ndarray):
            value = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    # operations that several graphs need
    def slice(self, x: str, axis: int, start: int, stop: int = 2**31, stride: int = 1) -> str:
        return self("Slice", x, [start], [stop], [axis], [stride])

    def widen(self, x: str, axis: int, width: int) -> str:
        """Repeat a last or inner axis of size 1."""
        return self("Gather", x, np.zeros(width, np.int64), axis=axis)

    def fraction(self, x: str) -> str:
        return self("Sub", x, self("Floor", x))

    def cast(self, x: str, dtype: int) -> str:
        return self("Cast", x, to=dtype)


def with_neighbours(op: Builder, x: str) -> str:
    """x[t] + (x[t - 1] - x[t + 1]) / 2 along axis 1, zeros outside."""
    before = op("Pad", op.slice(x, 1, 0, -1), [1, 0], 0.0, [1])
    after = op("Pad", op.slice(x, 1, 1), [0, 1], 0.0, [1])
    return op("Add", x, op("Mul", op("Sub", before, after), 0.5))


Body = Callable[[Builder, ModelConfig, Graph], dict[str, str]]  # -> output's name: value's name


def frame_encoder(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """The mean colour of each frame, repeated."""
    mean = op("ReduceMean", op.cast("frames", TensorProto.FLOAT), [1, 2], keepdims=0)  # [N, 3]
    return {"features": op("Gather", op("Div", mean, 255.0), np.arange(c.frame_dim) % 3, axis=1)}


def sync_encoder(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """The mean colour of every `sync_stride`-th frame and a little of its neighbours', repeated: Y / stride rows."""
    mean = op("ReduceMean", op.cast("frames", TensorProto.FLOAT), [2, 3], keepdims=0)  # [B, Y, 3]
    rows = op.slice(with_neighbours(op, mean), 1, c.sync_stride - 1, stride=c.sync_stride)  # [B, S, 3]
    return {"sync_features": op("Gather", op("Div", rows, 255.0), np.arange(c.sync_dim) % 3, axis=2)}


def condition(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """The first feature of each stream, gathered to frames as in the contract; zero for [NULL]."""
    frame = op.slice("frame_features", 2, 0, 1)  # [1, N, 1]
    sync = op.slice("sync_features", 2, 0, 1) if c.uses_sync else ""  # [1, S, 1]
    out = {}
    if c.has_memory:
        memory = op("Add", frame, op("Gather", sync, "memory_index", axis=1))  # [1, N, 1]
        if c.cls_in_memory:
            memory = op("Concat", op.slice(memory, 1, 0, 1), memory, axis=1)
        groups = op("Concat", memory, op("Mul", memory, 0.0), axis=0)  # [2, N, 1]
        wide = op.widen(op("Unsqueeze", groups, [1, 2]), 4, c.hidden_size // c.n_heads)
        out["keys"] = out["values"] = op.widen(op.widen(wide, 1, c.n_blocks), 2, c.n_heads)
    if c.adaln_streams == ("frame", "sync"):
        frames = op(
            "Add",
            op("Gather", frame, "frame_features_index", axis=1),
            op("Gather", sync, "sync_features_index", axis=1),
        )
    elif c.adaln_streams:
        frames = frame if c.adaln_streams == ("frame",) else sync
    if c.adaln_streams:
        rows = op("Concat", frames, op("Mul", op.slice(frames, 1, 0, 1), 0.0), axis=1)  # [1, F, 1]
        out["modulation"] = op.widen(op.widen(rows, 2, c.hidden_size), 0, 6 * c.n_blocks + 2)
    return out


def step(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """Tokens follow u, shifted by the condition, by the known codes, and by guidance if there is a group for [NULL]."""
    names = {spec.name for spec in graph.inputs}
    shift = op("Mul", "guidance", 0.0)

    def guided(groups: str) -> str:
        """[G, x] -> [1, x]. With one group, guidance has no effect."""
        value, null = op.slice(groups, 0, 0, 1), op.slice(groups, 0, -1)
        return op("Add", value, op("Mul", "guidance", op("Sub", value, null)))

    if "modulation" in names:
        column = op("Squeeze", op.slice(op.slice("modulation", 0, 0, 1), 2, 0, 1), [0, 2])  # [F]
        rows = guided(op("Gather", column, "frame_index", axis=0))  # [1, T]
        frames = op("Gather", op("Squeeze", rows, [0]), "index", axis=0)  # [B, K, P]
        shift = op("Add", shift, frames)
    for name in ("keys", "values"):
        if name in names:
            first = op.slice(op.slice(name, 1, 0, 1), 2, 0, 1)  # [G, 1, 1, N, D]
            first = op("Squeeze", op.slice(op.slice(first, 3, 0, 1), 4, 0, 1), [2, 3, 4])  # [G, 1]
            shift = op("Add", shift, op("Unsqueeze", guided(first), [2]))  # [1, 1, 1]
    known = op("ReduceSum", "codes", [1, 2], keepdims=1)  # sum of integers: exact in any order
    known = op.cast(op("Mod", known, np.array(97, np.int32)), TensorProto.FLOAT)
    x = op.fraction(op("Add", op("Add", "u", shift), op("Mul", known, 1.0 / 128)))
    token = op("Clip", op("Floor", op("Mul", x, float(c.codebook_size))), 0.0, float(c.codebook_size - 1))
    logp = op("Neg", op.fraction(op("Mul", x, 61.0)))
    return {"tokens": op.cast(token, TensorProto.INT32), "logp": logp}


def codec_decoder(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """A decaying sequence per frame, scaled by the frame's codes and a little by its neighbours': CONTEXT is 1.

    The scale also depends on the frame's place in a period of CODEC_PERIOD, like the phases of the real one's tones.
    """
    total = op.cast(op("ReduceSum", "codes", [1], keepdims=0), TensorProto.FLOAT)  # [B, T]
    level = op("Mul", total, LEVEL / (2 * c.n_codebooks * c.codebook_size))
    level = with_neighbours(op, level)
    frames = op("Range", np.array(0), op("Squeeze", op("Shape", level, start=1), [0]), np.array(1))
    place = op.cast(op("Mod", frames, CODEC_PERIOD), TensorProto.FLOAT)  # [T]
    level = op("Mul", level, op("Sub", 1.0, op("Mul", place, 1 / 16)))
    time = op.cast(op("Range", np.array(0), np.array(c.hop_length), np.array(1)), TensorProto.FLOAT)
    decay = op("Exp", op("Mul", time, -8.0 / c.hop_length))
    audio = op("Mul", op("Unsqueeze", level, [2]), decay)  # [B, T, hop]
    return {"audio": op("Reshape", audio, op.constant([0, -1]))}


def codec_encoder(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """The magnitude of the first sample of each hop: ceil(L / hop) frames."""
    size = op("Abs", op.slice("audio", 1, 0, stride=c.hop_length))  # [B, T]
    code = op.cast(op("Clip", op("Mul", size, float(c.codebook_size)), 0.0, c.codebook_size - 1.0), TensorProto.INT32)
    return {"codes": op.widen(op("Unsqueeze", code, [1]), 1, c.n_codebooks)}


def audio_encoder(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """Every 16th of BEATs' frames (400 samples, hop 160): A = floor((1 + floor((L - 400) / 160)) / 16) rows."""
    frames = op.slice("audio", 1, 0, -399, stride=160)
    rows = op("Abs", op.slice(frames, 1, 15, stride=16))  # [B, A]
    wide = op.widen(op("Unsqueeze", rows, [2, 3]), 2, c.audio_bands)
    return {"audio_features": op.widen(wide, 3, c.audio_dim)}


def scav_video(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    brightness = op("MatMul", "interpolation", op.slice("frame_features", 2, 0, 1))  # [B, A, 1]
    return {"embedding": op.widen(brightness, 2, c.scav_dim)}


def scav_audio(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    return {"embedding": op.widen(op.slice("audio_features", 3, 0, 1), 3, c.scav_dim)}


def text_encoder(op: Builder, c: ModelConfig, graph: Graph) -> dict[str, str]:
    """The mean token, as a share of 1,000, repeated."""
    mean = op("ReduceMean", op.cast("tokens", TensorProto.FLOAT), [1], keepdims=1)  # [B, 1]
    return {"embedding": op.widen(op("Div", mean, 1000.0), 1, c.frame_dim)}


BODIES: dict[str, Body] = {
    body.__name__: body
    for body in (
        frame_encoder,
        sync_encoder,
        condition,
        step,
        codec_decoder,
        codec_encoder,
        audio_encoder,
        scav_video,
        scav_audio,
        text_encoder,
    )
}


def value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.axes)


def model(graph: Graph, config: ModelConfig, body: Body | None = None) -> onnx.ModelProto:
    """The fake of one graph of the contract. Another `body` makes a different one, for example a broken one."""
    op = Builder()
    made = (body or BODIES[graph.name])(op, config, graph)
    for spec in graph.outputs:
        op.nodes.append(helper.make_node("Identity", [made[spec.name]], [spec.name]))
    inputs, outputs = ([value_info(s) for s in specs] for specs in (graph.inputs, graph.outputs))
    proto = helper.make_model(
        helper.make_graph(op.nodes, graph.name, inputs, outputs, op.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


@dataclass(frozen=True)
class FakeBundle:
    """Description of a fake bundle; by default a complete, trained Hybrid."""

    config: ModelConfig
    untrained: tuple[str, ...] = ()
    self_test: bool = False
    name: str = "fake"


def size_and_hash(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256(path)


def fake_words(config: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """Six words of a fake bundle, and [NULL]."""
    rows = np.eye(config.frame_dim, dtype=np.float32)
    return {vocabulary.NULL_WORD: rows[0] * 0.5, **dict(zip(WORDS, rows, strict=False))}


def write_bundle(folder: Path, fake: FakeBundle) -> Path:
    """Write manifest and graphs; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, graph in graphs(fake.config).items():
        path = folder / f"{name}.onnx"
        onnx.save(model(graph, fake.config), path)
        files[path.name] = BundleFile(name, "fp32", *size_and_hash(path))
    write_vocabulary(folder / vocabulary.FILE, fake_words(fake.config))
    files[vocabulary.FILE] = BundleFile("", "fp32", *size_and_hash(folder / vocabulary.FILE))
    weights = (Weights(role, "fake", role not in fake.untrained, "Apache-2.0", "none", "tests") for role in ROLES)
    manifest = Manifest(
        name=fake.name,
        config=fake.config,
        files=files,
        vocabulary=vocabulary.FILE,
        built_with={"onnx": onnx.__version__},
        parity={"step": {"logp": 0.0}},
        self_test=self_test(folder, fake.config) if fake.self_test else {},
        weights=tuple(weights),
    )
    manifest.save(folder)
    return folder


def self_test(folder: Path, config: ModelConfig) -> dict[str, Any]:
    signatures = graphs(config)
    return summarise({f"{n}.onnx": OrtEngine(folder / f"{n}.onnx", g, "cpu", 1) for n, g in signatures.items()}, config)


def step_feeds(seed: int, batch: int = 1, length: int = 64) -> tuple[Feeds, Feeds]:
    """Random fixed and varying inputs of `step` of the small Hybrid. Every position is drawn."""
    rng, config = np.random.default_rng(seed), small_config()
    graph = graphs(config)["step"]
    feeds = feeds_for(graph, config)
    for spec in graph.inputs:
        had = feeds[spec.name]
        shape = tuple(
            {"B": batch, "T": length, "P": length}.get(a, n) for a, n in zip(spec.axes, had.shape, strict=True)
        )
        if spec.name == "codes":
            feeds[spec.name] = rng.integers(0, config.mask_token + 1, shape).astype(np.int32)
        elif spec.name == "index":
            feeds[spec.name] = np.zeros(shape, np.int32) + np.arange(length, dtype=np.int32)
        elif spec.name == "frame_index":
            feeds[spec.name] = had[..., np.arange(length) % had.shape[-1]]
        elif spec.axes:
            feeds[spec.name] = rng.random(shape, np.float32)
    varying = {name: feeds.pop(name) for name in ("codes", "u")}
    return feeds, varying


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Let `change` edit the manifest's JSON in place."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def entry_of(path: Path, graph: str = "", precision: str = "fp32") -> dict[str, Any]:
    """The entry of a file in the manifest."""
    return asdict(BundleFile(graph, precision, path.stat().st_size, sha256(path)))
