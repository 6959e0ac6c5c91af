"""Exported files fit the contract and compute the same as PyTorch."""

import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import torchvision_stub

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import onnx
from onnx import ModelProto, numpy_helper
from torch import nn

from engines.contract import DESIGNS, IR_VERSION, OPSET, Graph, ModelConfig, TensorSpec, graphs
from engines.feeds import conditional_only, positions
from engines.length_adapter import condition_indices
from engines.manifest import MINI, Manifest
from engines.ort import OrtEngine
from engines.words import tokeniser
from engines.words.vocabulary import Vocabulary
from export import ExportError, onnx_export, restore, verify
from export import __main__ as cli
from export import bundle as builder
from export.graphs import check_agreement, graph_modules
from export.onnx_export import check_signature, export_graph, save, store_half
from export.verify import LIMITS, Trial, code_agreement
from tests.support.tiny_system import (
    FORBIDDEN,
    PROVENANCE,
    loud_dac,
    tiny_components,
    tiny_config,
    tiny_model,
    tiny_text_encoder,
    write_system,
)
from train.checkpoint import COMPONENTS
from train.checkpoint import save as save_component
from train.models.maskvat import MaskVAT
from train.models.scav import SCAV, SCAVConfig

pytestmark = pytest.mark.torch

WITH_TEXT = find_spec("open_clip") is not None
# every design; those that need an export of their own, which takes half a minute, only where slow tests run
EXPORTED = [d if d == "hybrid" else pytest.param(d, marks=pytest.mark.slow) for d in DESIGNS]


@dataclass(frozen=True)
class Exported:
    """A model and its float32 graphs on disk."""

    config: ModelConfig
    modules: dict[str, nn.Module]
    folder: Path

    def engine(self, graph: str, file: str = "") -> OrtEngine:
        return OrtEngine(self.folder / (file or f"{graph}.onnx"), graphs(self.config)[graph], "cpu", threads=1)

    def proto(self, graph: str) -> ModelProto:
        return onnx.load(str(self.folder / f"{graph}.onnx"))


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with a text encoder, whose bundle knows words. The tokeniser's table comes with the extra train."""
    components = tiny_components()
    if WITH_TEXT:
        components["text_encoder"] = tiny_text_encoder(components["frame_encoder"].dim)
    return write_system(tmp_path_factory.mktemp("system"), components)


@pytest.fixture(scope="session")
def bundle(system: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The complete system exported by the command, in fp32 and int8."""
    out = tmp_path_factory.mktemp("export") / "bundle"
    assert cli.main([str(system), str(out), "--precision", "fp32", "--int8", "--name", "tiny"]) == 0
    components = builder.load_components(system)
    text = builder.bundle_config(components).text_context
    return Exported(replace(components["maskvat"].config, text_context=text), graph_modules(components), out)


@pytest.fixture(scope="session")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """exported(design) -> the exported model; the Hybrid is that of the bundle, which no other design waits for."""
    made: dict[str, Exported] = {}

    def get(design: str) -> Exported:
        if design == "hybrid":
            return request.getfixturevalue("bundle")
        if design not in made:
            config = tiny_config(design, cls_in_memory=design == "seq2seq")
            modules, folder = graph_modules({"maskvat": tiny_model(config)}), tmp_path_factory.mktemp(design)
            for name, module in modules.items():
                save(export_graph(module, graphs(config)[name]), folder / f"{name}.onnx")
            made[design] = Exported(config, modules, folder)
        return made[design]

    return get


# ---------------------------------------------------------------- signatures
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("cls_in_memory", [False, True])
def test_forward_is_the_contract(design: str, cls_in_memory: bool) -> None:
    config = tiny_config(design, cls_in_memory=cls_in_memory)
    components = {name: nn.Identity() for name in COMPONENTS} | {"maskvat": MaskVAT(config)}
    modules, table = graph_modules(components), graphs(config)
    assert set(modules) == set(table)
    for name, graph in table.items():
        assert list(inspect.signature(modules[name].forward).parameters) == [t.name for t in graph.inputs]


def test_files_are_the_contract(bundle: Exported) -> None:
    for name, graph in graphs(bundle.config).items():
        model = bundle.proto(name)
        onnx.checker.check_model(model)
        assert (model.ir_version, [o.version for o in model.opset_import if not o.domain]) == (IR_VERSION, [OPSET])
        for specs, values in ((graph.inputs, model.graph.input), (graph.outputs, model.graph.output)):
            assert [s.name for s in specs] == [v.name for v in values]
            for spec, value in zip(specs, values, strict=True):
                for axis, dim in zip(spec.axes, value.type.tensor_type.shape.dim, strict=True):
                    assert dim.dim_param if isinstance(axis, str) else dim.dim_value == axis, f"{name}: {spec}"
        assert not any(n.metadata_props or n.doc_string for n in model.graph.node)
        assert not {n.op_type for n in model.graph.node} & FORBIDDEN, name


def test_a_fixed_letter_is_refused() -> None:
    class Fixed(nn.Module):
        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return codes.float().sum() + torch.zeros(onnx_export.EXAMPLE["B"])

    graph = Graph("g", (TensorSpec("codes", "int32", ("B",)),), (TensorSpec("y", "float32", ("B",)),))
    with pytest.raises(ExportError, match=r"graph g: the contract has y float32 \[B\], the module y float32 \[3\]"):
        export_graph(Fixed(), graph)


def test_other_names_are_refused(bundle: Exported) -> None:
    table = graphs(bundle.config)
    with pytest.raises(ExportError, match="the module has"):
        check_signature(bundle.proto("scav_audio"), table["scav_video"])


# ---------------------------------------------------------------- parity
@pytest.mark.parametrize("design", EXPORTED)
def test_condition_equals_torch(exported: Callable[[str], Exported], design: str) -> None:
    """Sizes that differ from the example inputs, including single frames."""
    it = exported(design)
    trials = (Trial(1, 3), Trial(2, 87), Trial(1, 200))
    parity = verify.graph_parity(it.modules["condition"], it.engine("condition"), it.config, trials, LIMITS["fp32"])
    assert not parity.failures


@pytest.mark.parametrize("design", EXPORTED)
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (1, 60), (2, 25)])
def test_step_equals_torch(
    exported: Callable[[str], Exported], design: str, null: bool, batch: int, tokens: int
) -> None:
    it = exported(design)
    feeds = verify.condition_feeds(it.modules, it.config, Trial(batch, tokens, null))
    rng = np.random.default_rng(tokens)
    shape = (batch, it.config.n_codebooks, tokens)
    feeds["codes"] = rng.integers(0, it.config.mask_token + 1, shape, dtype=np.int32)
    feeds["index"] = positions(rng.random(shape) < 0.7)
    feeds |= {"u": rng.random(feeds["index"].shape, dtype=np.float32), "guidance": np.array(2.5, np.float32)}
    engine = it.engine("step")
    want, got = verify.run_torch(it.modules["step"], engine.graph, feeds), engine.run(feeds)
    same = want["tokens"] == got["tokens"]
    assert same.mean() >= 0.995  # of as few as nine tokens: all
    assert np.abs(want["logp"] - got["logp"])[same].max() < 1e-4


@dataclass(frozen=True)
class Eager:
    """An engine that runs the PyTorch module of a graph."""

    module: nn.Module
    graph: Graph
    backend: str = "torch"

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return verify.run_torch(self.module, self.graph, feeds)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("cls_in_memory", [False, True])
def test_condition_and_step_are_the_network_that_was_trained(design: str, null: bool, cls_in_memory: bool) -> None:
    """Compare the rearranged step with MaskVAT.forward before export, with more than one block."""
    config = tiny_config(design, cls_in_memory=cls_in_memory, n_blocks=2, codec_latent=24)
    modules, trial = graph_modules({"maskvat": tiny_model(config)}), Trial(2, 30, null, steps=3)
    feeds = verify.condition_feeds(modules, config, trial)
    runs = [(feeds, verify.reference_run(modules["condition"].model, trial))]
    step = Eager(modules["step"], graphs(config)["step"])
    parity = verify.step_parity(runs, step, config.mask_token, LIMITS["fp32"])
    assert not parity.failures


@pytest.mark.parametrize("design", EXPORTED)
def test_the_fused_step_is_the_reference_loop(exported: Callable[[str], Exported], design: str) -> None:
    """Compare the graph with two passes, guidance on logits and the NumPy sampler, over whole decoding runs."""
    it = exported(design)
    trials = (Trial(1, 87, steps=4), Trial(2, 40, null=False, steps=4))
    conditions = [verify.condition_feeds(it.modules, it.config, trial) for trial in trials]
    model = it.modules["condition"].model
    runs = [(feeds, verify.reference_run(model, t)) for feeds, t in zip(conditions, trials, strict=True)]
    parity = verify.step_parity(runs, it.engine("step"), it.config.mask_token, LIMITS["fp32"])
    assert not parity.failures
    assert parity.numbers["tokens_compared"] > 2000


# which inputs ONNX Runtime's CUDA kernels read in the host's memory, where lengths are
ON_HOST = {"Range": {0, 1, 2}, "Reshape": {1}, "Expand": {1}, "Slice": {1, 2, 3, 4}, "ConstantOfShape": {0}}


def lengths_on_the_card(model: ModelProto) -> list[str]:
    """Nodes that combine a tensor with the length of a tensor, which ONNX Runtime computes on the host."""
    lengths, constants, found = set[str](), {w.name for w in model.graph.initializer}, []
    for node in model.graph.node:
        read = {i for i, name in enumerate(node.input) if name in lengths}
        if node.op_type == "Shape" or (read and set(node.input) <= lengths | constants and node.op_type not in ON_HOST):
            lengths |= set(node.output)
        elif not read <= ON_HOST.get(node.op_type, set()):
            found.append(f"{node.op_type} {node.name}")
    return found


@pytest.mark.parametrize("design", [*EXPORTED, "mini"])
def test_no_length_is_copied_to_the_card_in_a_step(exported: Callable[[str], Exported], design: str) -> None:
    """ONNX Runtime would insert a copy node, and cannot make a CUDA graph of a session with one."""
    path = MINI / "step.onnx" if design == "mini" else exported(design).folder / "step.onnx"
    assert lengths_on_the_card(onnx.load(str(path))) == []


def test_no_null_group_means_no_guidance(bundle: Exported) -> None:
    """With G = 1, every guidance equals guidance 0. With a group for [NULL], guidance changes the result."""
    engine, config = bundle.engine("step"), bundle.config
    feeds = verify.condition_feeds(bundle.modules, config, Trial(2, 30))
    given = {
        "codes": np.full((2, config.n_codebooks, 30), config.mask_token, np.int32),
        "index": positions(np.ones((2, config.n_codebooks, 30), bool)),
        "u": np.random.default_rng(0).random((2, config.n_codebooks, 30), dtype=np.float32),
    }
    zero, two = np.array(0, np.float32), np.array(2, np.float32)
    plain = engine.run(feeds | given | {"guidance": zero})
    none = engine.run(conditional_only(feeds) | given | {"guidance": two})
    guided = engine.run(feeds | given | {"guidance": two})
    np.testing.assert_array_equal(plain["tokens"], none["tokens"])
    np.testing.assert_allclose(plain["logp"], none["logp"], atol=1e-5)
    assert np.abs(plain["logp"] - guided["logp"]).max() > 1e-3


def test_every_video_frame_matters(bundle: Exported) -> None:
    """Another `frame_index` gives another result."""
    engine, config = bundle.engine("step"), bundle.config
    feeds = verify.condition_feeds(bundle.modules, config, Trial(1, 87))
    shape = (1, config.n_codebooks, 87)
    feeds |= {"codes": np.zeros(shape, np.int32), "u": np.full(shape, 0.5, np.float32)}
    feeds |= {"index": positions(np.ones(shape, bool)), "guidance": np.array(0, np.float32)}
    reverse = engine.run(feeds | {"frame_index": feeds["frame_index"][:, ::-1].copy()})
    assert np.abs(engine.run(feeds)["logp"] - reverse["logp"]).max() > 1e-3
    indices = condition_indices(config, 87, config.n_frames(87), config.n_sync(87))
    np.testing.assert_array_equal(feeds["frame_index"][0], indices["frame_index"])
    assert (feeds["frame_index"][1] == feeds["modulation"].shape[1] - 1).all()


def test_numbers_that_are_not_finite_fail(bundle: Exported) -> None:
    """NaN is neither above nor below a limit, and must fail."""

    class Broken(OrtEngine):
        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = super().run(feeds)
            return {k: v * np.float32("nan") if v.dtype == np.float32 else v for k, v in outputs.items()}

    config, trials, limit = bundle.config, (Trial(1, 20, steps=2),), LIMITS["fp16"]
    table = graphs(config)
    engine = Broken(bundle.folder / "condition.onnx", table["condition"], "cpu", threads=1)
    assert verify.graph_parity(bundle.modules["condition"], engine, config, trials, limit).failures
    engine = Broken(bundle.folder / "step.onnx", table["step"], "cpu", threads=1)
    feeds = verify.condition_feeds(bundle.modules, config, trials[0])
    run = verify.reference_run(bundle.modules["condition"].model, trials[0])
    parity = verify.step_parity([(feeds, run)], engine, config.mask_token, limit)
    assert parity.failures == ("logp difference inf > 2e-02",)


def test_code_agreement_counts_comparable_decisions() -> None:
    reference = np.zeros((1, 3, 2), np.int32)
    codes = reference.copy()
    codes[0, 1:, 0] = 5  # frame 0 differs from codebook 1 on: codebook 2 is not compared
    assert code_agreement(reference, codes) == (4, 5)
    assert code_agreement(reference, reference) == (6, 6)


# ---------------------------------------------------------------- precision
def test_int8(bundle: Exported) -> None:
    parity = Manifest.load(bundle.folder).parity["step"]["int8"]
    assert LIMITS["int8"].tokens <= parity["tokens_equal"] < 1
    kinds = [node.op_type for node in onnx.load(str(bundle.folder / "step.int8.onnx")).graph.node]
    blocks = bundle.config.n_blocks
    assert kinds.count("MatMulIntegerToFloat") == 8 * blocks + 1  # every linear layer, and the head
    assert kinds.count("MatMul") == 4 * blocks + 2  # two products of each attention; the sampler's two triangles
    assert kinds.count("QuantizeLinear") == 6 * blocks + 1  # q, k and v share their rows


def test_half_is_half_the_size_and_close(bundle: Exported, tmp_path: Path) -> None:
    for name in ("step", "audio_encoder", "codec_encoder", "frame_encoder"):
        model = bundle.proto(name)
        store_half(model, name)
        save(model, tmp_path / f"{name}.onnx")
        assert not any(
            w.data_type == onnx.TensorProto.FLOAT and np.prod(w.dims) >= 256 for w in model.graph.initializer
        )
    half = replace(bundle, folder=tmp_path)
    before, after = ((f / "step.onnx").stat().st_size for f in (bundle.folder, tmp_path))
    assert after < 0.55 * before
    trials, limit = (Trial(1, 40, steps=4),), LIMITS["fp16"]
    for name in ("audio_encoder", "codec_encoder", "frame_encoder"):
        assert not verify.graph_parity(bundle.modules[name], half.engine(name), half.config, trials, limit).failures
    feeds = verify.condition_feeds(bundle.modules, half.config, trials[0])
    run = verify.reference_run(bundle.modules["condition"].model, trials[0])
    assert not verify.step_parity([(feeds, run)], half.engine("step"), half.config.mask_token, limit).failures


def test_a_weight_too_large_for_half_is_refused(bundle: Exported) -> None:
    model = bundle.proto("scav_audio")
    weight = next(w for w in model.graph.initializer if w.data_type == 1 and np.prod(w.dims) >= 256)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = -1e5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(ExportError, match=rf"scav_audio: the weight {weight.name} holds 1e\+05.*--precision fp32"):
        store_half(model, "scav_audio")


def test_bases_are_not_stored(bundle: Exported) -> None:
    """Fourier bases and filter banks are computed at run time: a file has little more than the weights."""
    for name in ("codec_encoder", "codec_decoder", "audio_encoder"):
        stored = sum(int(np.prod(w.dims)) for w in bundle.proto(name).graph.initializer)
        module = bundle.modules[name]
        weights = sum(p.numel() for p in module.parameters()) + sum(b.numel() for b in module.buffers())
        assert stored < 1.02 * weights + 500


def test_the_codecs_fixed_tables_are_stored_once_in_each_file(bundle: Exported) -> None:
    for name, tables in (("codec_encoder", {"axes", "quantizer.codebook"}), ("codec_decoder", {"quantizer.codebook"})):
        stored = {w.name: tuple(w.dims) for w in bundle.proto(name).graph.initializer if np.prod(w.dims) > 5000}
        known = {f"component.{n}": tuple(b.shape) for n, b in bundle.modules[name].component.named_buffers()}
        assert {n: shape for n, shape in stored.items() if n in known} == {
            f"component.{n}": known[f"component.{n}"] for n in tables
        }
        assert name == "codec_decoder" or len(stored) == 2
        assert sum(shape == known["component.quantizer.codebook"] for shape in stored.values()) == 1


def test_the_codec_is_read_back(bundle: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = bundle.modules["codec_encoder"].component
    monkeypatch.setattr(restore.codec, "FrameCodecConfig", lambda latent: replace(codec.config, gains=0))
    files = {name: restore.Graph(bundle.folder / f"{name}.onnx") for name in ("codec_encoder", "codec_decoder")}
    read = restore._codec(bundle.config, files).state_dict()
    assert read.keys() == codec.state_dict().keys()
    assert all(torch.equal(value, read[name]) for name, value in codec.state_dict().items())


def test_large_graphs_have_external_weights(bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "EXTERNAL_LIMIT", 1000)
    written = save(bundle.proto("scav_audio"), tmp_path / "scav_audio.onnx")
    assert [p.name for p in written] == ["scav_audio.onnx", "scav_audio.onnx.data"]
    assert written[0].stat().st_size < (bundle.folder / "scav_audio.onnx").stat().st_size / 2
    spec = graphs(bundle.config)["scav_audio"]
    feeds = verify.random_inputs(bundle.config, spec, verify.axis_sizes(bundle.config, "scav_audio", Trial(2, 40)))
    moved = replace(bundle, folder=tmp_path)
    got, want = moved.engine("scav_audio").run(feeds), bundle.engine("scav_audio").run(feeds)
    np.testing.assert_array_equal(got["embedding"], want["embedding"])


# ---------------------------------------------------------------- the command
def test_the_bundle_is_whole(bundle: Exported) -> None:
    manifest = Manifest.load(bundle.folder)
    assert manifest.name == "tiny"
    assert bundle.config.sync_context == 0 and bundle.modules["sync_encoder"].component.context == 24
    assert manifest.config == replace(bundle.config, sync_context=24)  # found out at export
    assert {w.role for w in manifest.weights} == {*COMPONENTS, *(["text_encoder"] if WITH_TEXT else [])}
    assert not any(w.trained for w in manifest.weights)
    assert [(f, e.precision) for f, e in manifest.files.items() if e.graph == "step"] == [
        ("step.onnx", "fp32"),
        ("step.int8.onnx", "int8"),
    ]
    assert set(manifest.self_test) == set(manifest.files) - {"vocabulary.npz", tokeniser.FILE}
    assert manifest.vocabulary == "vocabulary.npz" and bool(manifest.tokeniser) == WITH_TEXT
    known = Vocabulary.load(bundle.folder / manifest.vocabulary, manifest.config).words
    assert ("text_encoder.onnx" in manifest.self_test) == WITH_TEXT == (len(known) > 100)
    assert set(manifest.parity) == set(graphs(bundle.config))
    assert manifest.parity["step"]["fp32"]["tokens_equal"] >= LIMITS["fp32"].tokens
    assert manifest.parity["codec_decoder"]["fp32"]["against"] == "torch fp32"
    assert {"torch", "onnxruntime", "opset"} <= set(manifest.built_with)
    assert sorted(p.name for p in bundle.folder.parent.iterdir()) == ["bundle"]  # no temporary folder is left


def reuse(monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Make the command take the files of `source` instead of exporting again."""

    def copy(_options: object, _modules: object, _graphs: object, folder: Path) -> builder.Files:
        manifest = Manifest.read(source)
        for name in manifest.files:
            shutil.copy(source / name, folder / name)
        return {
            name: replace(entry, bytes=(folder / name).stat().st_size, sha256=builder.sha256(folder / name))
            for name, entry in manifest.files.items()
        }

    monkeypatch.setattr(builder, "write_graphs", copy)


def test_a_wrong_graph_fails_the_export(
    system: Path, bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a weight of `step` differs by 10 %, the exit status is 1, and only --keep writes the bundle."""
    broken = Path(shutil.copytree(bundle.folder, tmp_path / "broken"))
    (broken / "step.int8.onnx").unlink()
    manifest = Manifest.read(broken)
    replace(manifest, files={k: v for k, v in manifest.files.items() if v.precision != "int8"}).save(broken)
    model = bundle.proto("step")
    for head in model.graph.initializer:
        if "head" in head.name and len(head.dims) > 1:
            values = numpy_helper.to_array(head) * np.float32(1.1)
            head.CopyFrom(numpy_helper.from_array(values, head.name))
    save(model, broken / "step.onnx")
    reuse(monkeypatch, broken)
    out = tmp_path / "out"
    assert cli.main([str(system), str(out)]) == 1
    captured = capsys.readouterr()
    assert "no bundle written" in captured.err and "equal tokens" in captured.out
    assert not out.exists() and [p.name for p in tmp_path.iterdir()] == ["broken"]
    assert cli.main([str(system), str(out), "--keep"]) == 1
    assert Manifest.load(out).parity["step"]["fp32"]["tokens_equal"] < 0.999


def test_overwrite_replaces_only_bundles(
    system: Path, bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reuse(monkeypatch, bundle.folder)
    monkeypatch.setattr(builder, "verify", lambda *_: {})  # what it measures is tested above
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    for words, printed in (([], "exists"), (["--overwrite"], "is not a bundle")):
        assert cli.main([str(system), str(out), *words]) == 1
        assert printed in capsys.readouterr().err
    (out / "diary.txt").unlink()
    (out / "manifest.json").write_text("{}")
    assert cli.main([str(system), str(out), "--overwrite", "--name", "second"]) == 0
    assert Manifest.load(out).name == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_errors_say_what_to_do(system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tmp_path / "nothing"), str(tmp_path / "out")]) == 1
    assert "is not a checkpoint: it has no meta.json" in capsys.readouterr().err
    torch.manual_seed(0)
    partial = tmp_path / "partial"
    save_component(partial, "scav", SCAV(SCAVConfig(dim=16, heads=2, layers=1)), "scav", PROVENANCE)
    assert cli.main([str(partial), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "lacks the components maskvat, codec" in error and error.count("\n") == 1
    altered = Path(shutil.copytree(system, tmp_path / "altered"))
    (altered / "codec.safetensors").write_bytes(b"x")
    assert cli.main([str(altered), str(tmp_path / "out")]) == 1
    assert "sha256 differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_disagreement_names_both() -> None:
    components = tiny_components()
    check_agreement(components)
    config = replace(components["maskvat"].config, sync_stride=8, codec_latent=64)
    with pytest.raises(ExportError) as caught:
        check_agreement(components | {"maskvat": MaskVAT(config)})
    assert "sync_stride is 8 in maskvat and 4 in sync_encoder" in str(caught.value)
    assert "codec embeddings [9, 1024, 64] (codec_latent), but codec has [9, 1024, 32]" in str(caught.value)


# ---------------------------------------------------------------- the official codec, narrow
@pytest.mark.slow
def test_dac_exports(tmp_path: Path) -> None:
    """The layers of the official codec, in both directions, at lengths that are not multiples of the hop."""
    pytest.importorskip("transformers")
    torchvision_stub.install()
    from train.models.dac import DACConfig

    rates = {"encoder_rates": (16, 32), "decoder_rates": (32, 16), "n_codebooks": 2, "codebook_size": 32}
    codec = loud_dac(DACConfig(encoder_dim=4, latent_dim=64, decoder_dim=32, **rates), gain=0.8)
    config = tiny_config("hybrid", codec_latent=64, n_codebooks=2, codebook_size=32)
    modules = graph_modules({"maskvat": MaskVAT(config), "codec": codec})
    it = Exported(config, modules, tmp_path)
    for name in ("codec_encoder", "codec_decoder"):
        model = export_graph(modules[name], graphs(config)[name])
        assert not {n.op_type for n in model.graph.node} & FORBIDDEN
        save(model, tmp_path / f"{name}.onnx")
        trials = (Trial(1, 50), Trial(2, 100))
        assert not verify.graph_parity(modules[name], it.engine(name), config, trials, LIMITS["fp32"]).failures
    audio = verify.random_sound(np.random.default_rng(0), 2, 50000)
    codes = it.engine("codec_encoder").run({"audio": audio})["codes"]
    assert codes.shape == (2, 2, 98) and len(np.unique(codes)) > 2
    np.testing.assert_array_equal(codes, codec.encode(torch.from_numpy(audio)).numpy())
