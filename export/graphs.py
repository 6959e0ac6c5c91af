"""One module per graph of the contract. Each `forward` has the signature of its graph.

The arguments of `forward` have the names and the order of the graph's inputs in `engines.contract.graphs`; it returns
the graph's outputs in order. A test compares them. `condition` and `step` have three forms each, because the designs of
the transformer have different inputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.contract import ModelConfig
from export import ExportError
from export.step import STEPS
from train.models.maskvat import Condition, MaskVAT


# ---------------------------------------------------------------- condition
class ConditionGraph(nn.Module):
    """The part of the transformer that does not depend on codes, once per video, for the video and for [NULL]."""

    def __init__(self, model: MaskVAT) -> None:
        super().__init__()
        self.model = model

    def conditions(self, frame: Tensor, sync: Tensor | None, **indices: Tensor) -> tuple[Tensor, ...]:
        condition = self.model.condition(frame, sync, indices)
        null = self.model.null_condition(frame.shape[1], 0 if sync is None else sync.shape[1], indices)
        out: tuple[Tensor, ...] = ()
        if condition.memory is not None:
            out += self.keys_values(torch.cat([condition.memory, null.memory]), condition.memory_positions)
        if condition.adaln is not None:
            out += (self.modulation(condition, null),)
        return out

    def keys_values(self, memory: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Memory [2, N, H] -> rotated keys and values of every block, each [2, blocks, heads, N, D]."""
        pairs = [block.cross_attention.keys_values(memory, positions) for block in self.model.blocks]
        keys, values = (torch.stack(x, dim=1) for x in zip(*pairs, strict=True))
        return keys, values

    def modulation(self, condition: Condition, null: Condition) -> Tensor:
        """AdaLN conditions [1, F, H] -> modulation [parts, F + 1, H]. [NULL] needs one row: its frames are equal."""
        rows = F.silu(torch.cat([condition.adaln[0], null.adaln[0, :1]]))
        layers = [block.modulation for block in self.model.blocks] + [self.model.norm_modulation]
        width = self.model.config.hidden_size
        parts = torch.cat([layer(rows).unflatten(-1, (-1, width)) for layer in layers], dim=1)  # (F + 1, parts, H)
        one = torch.zeros(parts.shape[1], 1)
        one[1::3] = 1  # parts are shift, scale, gate, ...; a scale is applied as 1 + scale, so 1 is added here
        return (parts + one).transpose(0, 1)


class FrameCondition(ConditionGraph):
    def forward(self, frame_features: Tensor) -> tuple[Tensor, ...]:
        return self.conditions(frame_features, None)


class PairCondition(ConditionGraph):
    def forward(
        self, frame_features: Tensor, sync_features: Tensor, frame_features_index: Tensor, sync_features_index: Tensor
    ) -> tuple[Tensor, ...]:
        return self.conditions(
            frame_features,
            sync_features,
            frame_features_index=frame_features_index,
            sync_features_index=sync_features_index,
        )


class MemoryCondition(ConditionGraph):
    def forward(self, frame_features: Tensor, sync_features: Tensor, memory_index: Tensor) -> tuple[Tensor, ...]:
        return self.conditions(frame_features, sync_features, memory_index=memory_index)


# ---------------------------------------------------------------- the other networks
class Component(nn.Module):
    """A frozen network with the signature of its graph."""

    def __init__(self, component: nn.Module) -> None:
        super().__init__()
        self.component = component


class FrameEncoder(Component):
    @property
    def rounding(self) -> float:
        """How far rounding may exceed the limit of parity: class features multiply the last layer by 28."""
        return 3.0 if getattr(self.component.config, "features", "") == "classes" else 1.0

    def forward(self, frames: Tensor) -> Tensor:
        return self.component(frames)


class SyncEncoder(Component):
    def forward(self, frames: Tensor) -> Tensor:
        return self.component(frames)


class CodecDecoder(Component):
    def forward(self, codes: Tensor) -> Tensor:
        return self.component.decode(codes)


class CodecEncoder(Component):
    def forward(self, audio: Tensor) -> Tensor:
        return self.component.encode(audio).to(torch.int32)


class AudioEncoder(Component):
    def forward(self, audio: Tensor) -> Tensor:
        return self.component(audio)


class TextEncoder(Component):
    def forward(self, tokens: Tensor) -> Tensor:
        return self.component(tokens)


class ScavVideo(Component):
    def forward(self, frame_features: Tensor, interpolation: Tensor) -> Tensor:
        return self.component.video(frame_features, interpolation)


class ScavAudio(Component):
    def forward(self, audio_features: Tensor) -> Tensor:
        return self.component.audio(audio_features)


CONDITIONS = {
    "adaln_a": FrameCondition,
    "adaln_b": PairCondition,
    "seq2seq": MemoryCondition,
    "hybrid": MemoryCondition,
}
COMPONENTS: dict[str, tuple[str, type[Component]]] = {  # graph -> the component that it wraps
    "frame_encoder": ("frame_encoder", FrameEncoder),
    "sync_encoder": ("sync_encoder", SyncEncoder),
    "codec_decoder": ("codec", CodecDecoder),
    "codec_encoder": ("codec", CodecEncoder),
    "audio_encoder": ("audio_encoder", AudioEncoder),
    "scav_video": ("scav", ScavVideo),
    "scav_audio": ("scav", ScavAudio),
    "text_encoder": ("text_encoder", TextEncoder),
}

# contract field -> the component and the attribute (dots descend) that must have the same value
AGREEMENT: tuple[tuple[str, str, str], ...] = (
    ("sample_rate", "codec", "config.sample_rate"),
    ("hop_length", "codec", "config.hop_length"),
    ("n_codebooks", "codec", "config.n_codebooks"),
    ("codebook_size", "codec", "config.codebook_size"),
    ("codec_context", "codec", "context"),
    ("frame_dim", "frame_encoder", "dim"),
    ("frame_resize", "frame_encoder", "resize"),
    ("frame_size", "frame_encoder", "size"),
    ("sync_fps", "sync_encoder", "fps"),
    ("sync_dim", "sync_encoder", "dim"),
    ("sync_resize", "sync_encoder", "resize"),
    ("sync_size", "sync_encoder", "size"),
    ("sync_stride", "sync_encoder", "stride"),
    ("sync_offset", "sync_encoder", "offset"),
    ("audio_rate", "audio_encoder", "rate"),
    ("audio_bands", "audio_encoder", "bands"),
    ("audio_dim", "audio_encoder", "dim"),
    ("frame_dim", "scav", "config.frame_dim"),
    ("audio_dim", "scav", "config.audio_dim"),
    ("audio_bands", "scav", "config.bands"),
    ("scav_dim", "scav", "dim"),
    ("frame_dim", "text_encoder", "dim"),
)


def check_agreement(components: dict[str, nn.Module]) -> None:
    """Compare the configuration of the transformer with its components. Raises ExportError if they differ."""
    config: ModelConfig = components["maskvat"].config
    problems = []
    for field, component, path in AGREEMENT:
        if component not in components:  # the text encoder is optional
            continue
        value: object = components[component]
        for name in path.split("."):
            value = getattr(value, name)
        if value != getattr(config, field):
            problems.append(f"{field} is {getattr(config, field)} in maskvat and {value} in {component} ({path})")
    table = list(components["codec"].embedding_table().shape)
    expected = [config.n_codebooks, config.codebook_size, config.codec_latent]
    if table != expected:
        problems.append(f"maskvat needs codec embeddings {expected} (codec_latent), but codec has {table}")
    if problems:
        raise ExportError(
            "; ".join(problems)
            + "; train maskvat with these components, or put the components of its training into the folder"
        )


def graph_modules(components: dict[str, nn.Module], fold: bool = False) -> dict[str, nn.Module]:
    """Make the modules of all graphs, in eval mode: graph name -> module.

    `components` maps component names to networks; `maskvat` is required. Graphs of missing components are skipped.
    With `fold`, BatchNorms are folded into the layers before them.
    """
    maskvat = components["maskvat"]
    design = maskvat.config.design
    modules: dict[str, nn.Module] = {"condition": CONDITIONS[design](maskvat), "step": STEPS[design](maskvat)}
    folded = {n: m.fold_bn() if fold and hasattr(m, "fold_bn") else m for n, m in components.items()}
    for graph, (component, wrapper) in COMPONENTS.items():
        if component in folded:
            modules[graph] = wrapper(folded[component])
    return {name: module.eval().requires_grad_(False) for name, module in modules.items()}
