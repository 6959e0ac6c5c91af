"""One module per graph of the contract: what each graph computes, written as a `forward` with the contract's signature.

The names and the order of forward's arguments are those of `engines.contract.graphs`, and its return values are the
graph's outputs in order; a test compares them. The designs differ in what they are given, hence the three forms of
`condition` and `step`.
"""

from math import gcd

import torch
from torch import Tensor, nn

from engines.contract import ModelConfig
from export import ExportError
from train.model import Condition, MaskVAT

GROUP = 32  # tokens per group of the two-level search: 32 x 32 = 1024
BELOW_ONE = 1 - 2**-24  # the largest float32 below 1


# ---------------------------------------------------------------- sampling
class Sampler(nn.Module):
    """Draws one token per row of logits from one uniform, by inverting the cumulative distribution.

    In two levels, first among groups of tokens, then inside the chosen group. Cumulative sums are products with a
    triangular matrix: every backend runs them fast, and the uniforms come from outside, so a seed means the same
    everywhere. Float32 throughout.
    """

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.width = gcd(codebook_size, GROUP)
        self.groups = codebook_size // self.width
        self.register_buffer("group_triangle", torch.ones(self.groups, self.groups).triu(), persistent=False)
        self.register_buffer("token_triangle", torch.ones(self.width, self.width).triu(), persistent=False)

    def forward(self, logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """logits [..., V], u [...] in [0, 1) -> tokens int32 [...] and their log-probabilities [...].

        Token v is drawn where cdf[v - 1] <= u < cdf[v], so one of probability 0 never is: the bounds on `rest` keep
        that true when the sums of the two levels round differently.
        """
        z = logits.float()
        z = (z - z.amax(dim=-1, keepdim=True)).unflatten(-1, (self.groups, self.width))  # (..., groups, width)
        sums = z.exp().sum(dim=-1)  # (..., groups)
        cdf = sums @ self.group_triangle  # inclusive
        total = cdf[..., -1:]  # (..., 1)
        threshold = u.float().unsqueeze(-1) * total
        group = (cdf <= threshold).sum(dim=-1, keepdim=True).clamp(max=self.groups - 1)  # (..., 1)
        before = (cdf - sums).gather(-1, group)
        chosen = z.gather(-2, group.unsqueeze(-1).expand(*group.shape, self.width)).squeeze(-2)  # (..., width)
        inner = chosen.exp() @ self.token_triangle
        rest = torch.minimum((threshold - before).clamp(min=0), inner[..., -1:] * BELOW_ONE)
        token = (inner <= rest).sum(dim=-1, keepdim=True).clamp(max=self.width - 1)
        logp = chosen.gather(-1, token) - total.log()
        return (group * self.width + token).squeeze(-1).to(torch.int32), logp.squeeze(-1)


# ---------------------------------------------------------------- step
class Step(nn.Module):
    """Network, guidance and sampling of one unmasking step.

    The condition and R null rows (0 or 1) make 1 + R groups that share what does not depend on the condition: the token
    embeddings, and in `seq2seq` the first self-attention. Guidance acts on the hidden state before the head, which
    equals guidance on the logits because the head is linear ((1 + g) - g = 1 for its bias), at half the cost.
    """

    def __init__(self, model: MaskVAT) -> None:
        super().__init__()
        self.model = model
        self.sampler = Sampler(model.config.codebook_size)

    @staticmethod
    def groups(condition: Tensor, null: Tensor) -> Tensor:
        """[B, N, H] and [R, N, H] -> [1 + R, B, N, H]."""
        return torch.cat([condition[None], null[:, None].expand(-1, condition.shape[0], -1, -1)])

    def memory_positions(self, memory: Tensor) -> Tensor:
        with_cls = self.model.config.cls_in_memory
        return self.model.memory_positions(memory.shape[-2] - int(with_cls), with_cls)

    def draw(self, codes: Tensor, u: Tensor, guidance: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        c = self.model.config
        h = self.model.hidden(codes, condition)  # (1 + R, B, T, H)
        conditional, null = h[0], h[-1]  # the same where R = 0: guidance then does nothing
        logits = self.model.head(conditional + guidance * (conditional - null))  # (B, T, K * V)
        tokens, logp = self.sampler(logits.unflatten(-1, (c.n_codebooks, c.codebook_size)), u.transpose(-1, -2))
        return tokens.transpose(-1, -2), logp.transpose(-1, -2)  # (B, K, T)


class AdaLNStep(Step):
    def forward(
        self, codes: Tensor, u: Tensor, guidance: Tensor, frame_index: Tensor, adaln: Tensor, null_adaln: Tensor
    ) -> tuple[Tensor, Tensor]:
        condition = Condition(adaln=self.groups(adaln, null_adaln), frame_index=frame_index)
        return self.draw(codes, u, guidance, condition)


class Seq2SeqStep(Step):
    def forward(
        self, codes: Tensor, u: Tensor, guidance: Tensor, memory: Tensor, null_memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        condition = Condition(self.groups(memory, null_memory), self.memory_positions(memory))
        return self.draw(codes, u, guidance, condition)


class HybridStep(Step):
    def forward(
        self,
        codes: Tensor,
        u: Tensor,
        guidance: Tensor,
        frame_index: Tensor,
        memory: Tensor,
        adaln: Tensor,
        null_memory: Tensor,
        null_adaln: Tensor,
    ) -> tuple[Tensor, Tensor]:
        condition = Condition(
            memory=self.groups(memory, null_memory),
            memory_positions=self.memory_positions(memory),
            adaln=self.groups(adaln, null_adaln),
            frame_index=frame_index,
        )
        return self.draw(codes, u, guidance, condition)


# ---------------------------------------------------------------- condition
class ConditionGraph(nn.Module):
    """What the network needs of the video, once per clip: the features' condition and one row of [NULL]."""

    def __init__(self, model: MaskVAT) -> None:
        super().__init__()
        self.model = model

    def both(self, clip: Tensor, sync: Tensor | None, **indices: Tensor) -> tuple[Tensor, ...]:
        condition = self.model.condition(clip, sync, indices)
        null = self.model.null_condition(clip.shape[1], 0 if sync is None else sync.shape[1], indices)
        found = (condition.memory, condition.adaln, null.memory, null.adaln)
        return tuple(x for x in found if x is not None)


class ClipCondition(ConditionGraph):
    def forward(self, clip_features: Tensor) -> tuple[Tensor, ...]:
        return self.both(clip_features, None)


class PairCondition(ConditionGraph):
    def forward(
        self, clip_features: Tensor, sync_features: Tensor, clip_index: Tensor, sync_index: Tensor
    ) -> tuple[Tensor, ...]:
        return self.both(clip_features, sync_features, clip_index=clip_index, sync_index=sync_index)


class MemoryCondition(ConditionGraph):
    def forward(self, clip_features: Tensor, sync_features: Tensor, memory_index: Tensor) -> tuple[Tensor, ...]:
        return self.both(clip_features, sync_features, memory_index=memory_index)


# ---------------------------------------------------------------- the other networks
class Component(nn.Module):
    """A frozen network behind its graph's signature."""

    def __init__(self, component: nn.Module) -> None:
        super().__init__()
        self.component = component


class FrameEncoder(Component):
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


class ScavVideo(Component):
    def forward(self, clip_features: Tensor, interpolation: Tensor) -> Tensor:
        return self.component.video(clip_features, interpolation)


class ScavAudio(Component):
    def forward(self, audio_features: Tensor) -> Tensor:
        return self.component.audio(audio_features)


STEPS = {"adaln_a": AdaLNStep, "adaln_b": AdaLNStep, "seq2seq": Seq2SeqStep, "hybrid": HybridStep}
CONDITIONS = {"adaln_a": ClipCondition, "adaln_b": PairCondition, "seq2seq": MemoryCondition, "hybrid": MemoryCondition}
COMPONENTS: dict[str, tuple[str, type[Component]]] = {  # graph -> the component that it wraps
    "frame_encoder": ("frame_encoder", FrameEncoder),
    "sync_encoder": ("sync_encoder", SyncEncoder),
    "codec_decoder": ("codec", CodecDecoder),
    "codec_encoder": ("codec", CodecEncoder),
    "audio_encoder": ("audio_encoder", AudioEncoder),
    "scav_video": ("scav", ScavVideo),
    "scav_audio": ("scav", ScavAudio),
}

# contract field -> the component and the attribute (dots descend) that must have the same value
AGREEMENT: tuple[tuple[str, str, str], ...] = (
    ("sample_rate", "codec", "config.sample_rate"),
    ("hop_length", "codec", "config.hop_length"),
    ("n_codebooks", "codec", "config.n_codebooks"),
    ("codebook_size", "codec", "config.codebook_size"),
    ("codec_context", "codec", "context"),
    ("clip_dim", "frame_encoder", "dim"),
    ("clip_resize", "frame_encoder", "resize"),
    ("clip_size", "frame_encoder", "size"),
    ("sync_fps", "sync_encoder", "fps"),
    ("sync_dim", "sync_encoder", "dim"),
    ("sync_resize", "sync_encoder", "resize"),
    ("sync_size", "sync_encoder", "size"),
    ("sync_stride", "sync_encoder", "stride"),
    ("sync_offset", "sync_encoder", "offset"),
    ("audio_rate", "audio_encoder", "rate"),
    ("audio_bands", "audio_encoder", "bands"),
    ("audio_dim", "audio_encoder", "dim"),
    ("clip_dim", "scav", "config.clip_dim"),
    ("audio_dim", "scav", "config.audio_dim"),
    ("audio_bands", "scav", "config.bands"),
    ("scav_dim", "scav", "dim"),
)


def check_agreement(components: dict[str, nn.Module]) -> None:
    """Compare the model's configuration with what its components are. Raises ExportError that names both."""
    config: ModelConfig = components["maskvat"].config
    problems = []
    for field, component, path in AGREEMENT:
        value: object = components[component]
        for name in path.split("."):
            value = getattr(value, name)
        if value != getattr(config, field):
            problems.append(f"{field} is {getattr(config, field)} in maskvat and {value} in {component} ({path})")
    table = list(components["codec"].embedding_table().shape)
    wanted = [config.n_codebooks, config.codebook_size, config.codec_latent]
    if table != wanted:
        problems.append(f"maskvat wants codec embeddings {wanted} (codec_latent), codec has {table}")
    if problems:
        raise ExportError("; ".join(problems) + "; train maskvat with these components, or put its own into the folder")


def graph_modules(components: dict[str, nn.Module], fold: bool = False) -> dict[str, nn.Module]:
    """Component name -> network becomes graph name -> module in eval mode; `fold` folds BatchNorms where there are any.

    `components` holds `maskvat` and any of the others; graphs of components that are absent are left out.
    """
    maskvat = components["maskvat"]
    design = maskvat.config.design
    modules: dict[str, nn.Module] = {"condition": CONDITIONS[design](maskvat), "step": STEPS[design](maskvat)}
    folded = {n: m.fold_bn() if fold and hasattr(m, "fold_bn") else m for n, m in components.items()}
    for graph, (component, wrapper) in COMPONENTS.items():
        if component in folded:
            modules[graph] = wrapper(folded[component])
    return {name: module.eval().requires_grad_(False) for name, module in modules.items()}
