"""`python -m export.restore BUNDLE SYSTEM`: read the weights of a bundle back into a system folder, to train on.

It restores bundles of this project's small networks, such as engines/mini, except for their frame encoder, which
`python -m train.adopt` makes. The weights have the precision of the bundle, mostly fp16. BatchNorms were folded into
convolutions; they come back as BatchNorms that only add a bias.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from engines.contract import ModelConfig
from engines.manifest import Manifest, Weights
from engines.typed import SOURCES
from runtime.errors import MaskVATError
from train.extras import requires_extra

with requires_extra("export", __name__):
    import torch
    from onnx import numpy_helper
    from torch import Tensor, nn

    from export.onnx_export import load
    from train.checkpoint import save
    from train.errors import CheckpointError
    from train.models import beats, codec, s3d, scav
    from train.models.loading import State, WeightsError, load_strict, select_prefix
    from train.models.maskvat import MaskVAT

HALF = ".half"  # how the exporter marks a weight that it rounded


class Graph:
    """The constants of an ONNX file: `named` as in the exported module, and what its nodes say about the others."""

    def __init__(self, path: Path) -> None:
        graph = load(path).graph
        self.constants = {i.name.removesuffix(HALF): _tensor(numpy_helper.to_array(i)) for i in graph.initializer}
        self.nodes = list(graph.node)
        self.readers: dict[str, list] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def state(self) -> State:
        """Constants by the names of the exported module, with the weights of linear layers, whose names are lost.

        The exporter stores x @ weight.T + bias as MatMul with the transposed weight, and Add with the named bias.
        """
        state = {name: value for name, value in self.constants.items() if "." in name or name.startswith("head_")}
        for node in self.nodes:
            if node.op_type == "MatMul":
                weight = self.constants.get(node.input[1].removesuffix(HALF))
                bias = self.added_to(node.output[0])
                if weight is not None and bias is not None and bias.endswith(".bias"):
                    state[bias.removesuffix("bias") + "weight"] = weight.T.contiguous()
        return state

    def added_to(self, value: str) -> str | None:
        """The name of the constant that is added to a value, also after a cast."""
        for node in self.readers.get(value, ()):
            if node.op_type == "Cast":
                return self.added_to(node.output[0])
            if node.op_type == "Add":
                names = [n.removesuffix(HALF) for n in node.input if n != value]
                return names[0] if names and names[0] in self.constants else None
        return None


def _tensor(array: object) -> Tensor:
    value = torch.from_numpy(array.copy())  # type: ignore[attr-defined]
    return value.float() if value.is_floating_point() else value


def _component(graph: Graph) -> State:
    return select_prefix(graph.state(), {"component.": ""})


# ---------------------------------------------------------------- one network each
def _codec(config: ModelConfig, graphs: Mapping[str, Graph]) -> nn.Module:
    decoder = graphs["codec_decoder"]
    state = _component(decoder) | _component(graphs["codec_encoder"])
    tables = [
        value for value in decoder.constants.values() if value.dtype == torch.uint8
    ]  # the exporter drops its name
    if "axes" not in state or len(tables) != 1:
        raise WeightsError(
            "the codec of the bundle has no noise: it is older than the fifth bundle's, or another codec (DAC). "
            "Train a codec with train/recipes/codec.toml, or use the version of this program that wrote the bundle"
        )
    state["noise"] = tables[0]
    # `out` has no bias that would name it: it multiplies the sum of a frame's rows
    sums = {node.output[0] for node in decoder.nodes if node.op_type == "ReduceSum"}
    out = [node.input[1] for node in decoder.nodes if node.op_type == "MatMul" and node.input[0] in sums]
    if len(out) == 1:
        state["quantizer.out.weight"] = decoder.constants[out[0].removesuffix(HALF)].T.contiguous()
    found = codec.FrameCodecConfig(latent=config.codec_latent)
    gains = max(0, len(state.get("head.bias", ())) - 3 * (found.bins + 4 * found.short_bins))
    return _loaded(codec.FrameCodec(replace(found, gains=gains)), state, "codec")


def _sync_encoder(config: ModelConfig, graphs: Mapping[str, Graph]) -> nn.Module:
    module = s3d.S3D(replace(s3d.BUNDLED, resize=config.sync_resize, size=config.sync_size, frame_dim=config.sync_dim))
    return _loaded(module, unfolded(module, _component(graphs["sync_encoder"])), "sync encoder")


def unfolded(module: nn.Module, state: State) -> State:
    """The state of `module` whose BatchNorms were folded into the convolutions declared just before them."""
    out = module.state_dict() | state
    for path, parent in module.named_modules():
        names, start = [name for name, _ in parent.named_children()], f"{path}." if path else ""
        for conv, norm in pairwise(names):
            if isinstance(layer := parent.get_submodule(norm), nn.BatchNorm2d | nn.BatchNorm3d):
                out[f"{start}{norm}.bias"] = out.pop(f"{start}{conv}.bias")
                out[f"{start}{norm}.weight"] = torch.ones_like(layer.weight)
                out[f"{start}{norm}.running_mean"] = torch.zeros_like(layer.weight)
                out[f"{start}{norm}.running_var"] = torch.full_like(layer.weight, 1 - layer.eps)
    return out


def _audio_encoder(config: ModelConfig, graphs: Mapping[str, Graph]) -> nn.Module:
    return _loaded(beats.BEATs(beats.BUNDLED), _component(graphs["audio_encoder"]), "audio encoder")


def _scav(config: ModelConfig, graphs: Mapping[str, Graph]) -> nn.Module:
    module = scav.SCAV(replace(scav.BUNDLED, frame_dim=config.frame_dim, audio_dim=config.audio_dim))
    state = {"log_temperature": module.log_temperature.detach()}  # only the loss needs it
    return _loaded(module, state | _component(graphs["scav_audio"]) | _component(graphs["scav_video"]), "SCAV")


def _maskvat(config: ModelConfig, graphs: Mapping[str, Graph]) -> nn.Module:
    if config.design not in ("adaln_a", "adaln_b"):
        raise WeightsError(
            f"a maskvat of design {config.design} cannot be read from a bundle; only AdaLN-A and AdaLN-B"
        )
    module = MaskVAT(replace(config, sync_context=0, text_context=0))  # the exporter sets these two
    state = select_prefix(graphs["condition"].state(), {"model.": ""}) | graphs["step"].state()
    state = {name: value for name, value in state.items() if not name.startswith("sampler.")}
    state["head.weight"] = state.pop("head_weight").transpose(-1, -2).flatten(0, 1)
    state["head.bias"] = state.pop("head_bias").flatten()
    for block in range(config.n_blocks):
        start = f"blocks.{block}.attention."
        for part in ("weight", "bias"):
            state[f"{start}kv.{part}"] = torch.cat([state.pop(f"{start}{x}.{part}") for x in "kv"])
    return _loaded(module, state, "MaskVAT")


def _loaded(module: nn.Module, state: State, name: str) -> nn.Module:
    computed = {name for name, _ in module.named_buffers()} - set(module.state_dict())
    kept = {k: v.contiguous() for k, v in state.items() if k not in computed}
    load_strict(module, kept, f"the {name} of the bundle")
    return module.eval()


READERS: dict[str, tuple[str, tuple[str, ...], Callable[[ModelConfig, Mapping[str, Graph]], nn.Module]]] = {
    # component -> its kind, its graphs, and what reads it
    "codec": ("framecodec", ("codec_decoder", "codec_encoder"), _codec),
    "sync_encoder": ("s3d", ("sync_encoder",), _sync_encoder),
    "audio_encoder": ("beats", ("audio_encoder",), _audio_encoder),
    "scav": ("scav", ("scav_audio", "scav_video"), _scav),
    "maskvat": ("maskvat", ("condition", "step"), _maskvat),
}


def read_networks(folder: Path, manifest: Manifest) -> dict[str, tuple[nn.Module, str]]:
    """The networks of a bundle, but its frame encoder: component -> (network, its kind). Raises WeightsError."""
    found = {}
    for component, (kind, names, read) in READERS.items():
        graphs = {name: Graph(folder / manifest.file_for(name, SOURCES, "this command")) for name in names}
        found[component] = (read(manifest.config, graphs), kind)
    return found


def provenance(weights: Weights) -> dict[str, object]:
    """What a system folder says about a component, from what the manifest says."""
    return {
        "name": weights.name,
        "code_licence": weights.licence,
        "data_licence": weights.data_licence,
        "origin": weights.origin,
        "trained": weights.trained,
    } | ({"distilled_guidance": weights.distilled_guidance} if weights.distilled_guidance else {})


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.restore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument(
        "system", type=Path, help="system folder to write to; components of the same names are replaced"
    )
    args = parser.parse_args(argv)
    try:
        manifest = Manifest.load(args.bundle)
        facts = {weights.role: provenance(weights) for weights in manifest.weights}
        for role, (module, kind) in read_networks(args.bundle, manifest).items():
            print(f"the {role} of {args.bundle} is in {save(args.system, role, module, kind, facts[role])}")
    except (WeightsError, CheckpointError, MaskVATError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
