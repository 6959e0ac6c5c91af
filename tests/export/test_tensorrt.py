"""`python -m export.tensorrt`: real plans of TensorRT-RTX, built without a GPU, and the output of the command."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from engines import plan_build, plans, typed
from engines.contract import SIZES, Graph, ModelConfig, graphs
from engines.manifest import MINI, Manifest, sha256
from engines.profiles import profile
from export import tensorrt as command
from runtime.errors import BackendUnavailable, ManifestError
from tests.support.fake_builder import module as fake_module
from tests.support.fake_engines import rewrite_manifest

NEEDS_RTX = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX: pip install '.[rtx]'")
MAGIC = b"vtrt"


@pytest.mark.slow
@NEEDS_RTX
def test_every_plan_of_the_mini_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each graph is read, compared with the contract (engines.plan_build) and built for all targets."""
    bundle, cache = tmp_path / "mini", tmp_path / "cache"
    before = sorted(p.name for p in MINI.iterdir())
    assert command.main([str(MINI), "--out", str(bundle), "--cache", str(cache), "--flavours", "rtx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = graphs(Manifest.load(bundle).config)
    index = typed.read(bundle)
    assert {entry.graph for entry in index.values()} == set(table)
    for name, entry in index.items():
        (plan,) = cache.glob(f"{entry.graph}.{entry.precision}.rtx.*.plan")
        about = json.loads(plan.with_suffix(".plan.json").read_text())
        assert plan.read_bytes().startswith(MAGIC) and about["sha256"] == sha256(plan)
        assert about["parts"]["ONNX file"] == sha256(bundle / typed.FOLDER / name)
        assert sum(line.startswith(entry.graph) and "MB  built in" in line for line in lines) == 1
    assert {e.graph for e in index.values() if e.precision != "fp16"} == {"codec_encoder"}
    assert sorted(p.name for p in MINI.iterdir()) == before
    shutil.rmtree(bundle / typed.FOLDER)
    Manifest.load(bundle)  # is whole without them


@pytest.mark.gpu
def test_plans_on_the_card_that_is_here(tmp_path: Path) -> None:
    """The builder of TensorRT, which needs a GPU."""
    try:
        plan_build.library("trt")
        plan_build.card()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    cache = tmp_path / "cache"
    assert command.main([str(MINI), "--out", str(tmp_path / "mini"), "--cache", str(cache), "--flavours", "trt"]) == 0
    assert len(list(cache.glob("*.trt.*.plan"))) == len(graphs(Manifest.load(MINI).config))


# ---------------------------------------------------------------- the command, on builders that build nothing
@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Fakes of both TensorRT libraries and of CUDA; returns the folder for plans."""
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    here = plan_build.Card("NVIDIA Test 1", "9.0", "580.1")
    for name in plan_build.FLAVOURS.values():
        monkeypatch.setitem(sys.modules, name, fake_module(name))
    for place in (plans, command):
        monkeypatch.setattr(place, "card", lambda: here)
    return tmp_path / "cache"


def test_both_kinds_of_plans_and_what_is_left_out(
    own_bundle: Path, builders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(own_bundle), "--cache", str(builders), "--graphs", "step", "codec_decoder"]
    assert command.main([*arguments, "--precision", "bf16", "fp32", "--targets", "sm89", "--candidates", "3"]) == 0
    out = capsys.readouterr().out
    assert "codec_decoder  bf16  made in fp32 instead: codecs are not made in bfloat16" in out
    assert "step           bf16  made in fp32 instead: no operator of the graph can run in bf16" in out
    built = sorted(p.name.rpartition(".")[0].rpartition(".")[0] for p in builders.glob("*.plan"))
    assert built == ["codec_decoder.fp32.rtx", "codec_decoder.fp32.trt", "step.fp32.rtx", "step.fp32.trt"]
    text = next(builders.glob("step.fp32.rtx.*.plan")).read_text()
    config = Manifest.load(own_bundle).config
    assert {e.targets for e in typed.read(own_bundle).values()} == {("sm89",)}  # the runtime asks for these again
    assert "['sm89']" in text and str(profile(config, graphs(config)["step"], 3)["codes"]) in text
    assert command.main([*arguments, "--precision", "fp32", "--targets", "sm89", "--candidates", "3"]) == 0
    assert capsys.readouterr().out.count("found in the cache in") == 4


def test_what_cannot_be_built_is_said_and_is_the_verdict(
    own_bundle: Path, builders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setenv("BUILD_FAILS", "1")
    assert command.main([str(own_bundle), "--cache", str(builders), "--graphs", "step"]) == 1
    out, err = capsys.readouterr()
    assert (
        "step           fp32  rtx  failed: tensorrt_rtx cannot build step.fp32.onnx: could not infer output types"
        in out
    )
    assert "tensorrt: no plans: tensorrt cannot be imported" in out
    assert err.splitlines()[-1] == "error: plans that could not be built: rtx step.fp32.onnx; the reasons are above"
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # graphs alone are no failure
    assert command.main([str(own_bundle), "--cache", str(builders), "--graphs", "step"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--graphs", "stop"], "no graph stop; choose from frame_encoder, "),
        (["--candidates", "0"], "--candidates must be at least 1, got 0"),
        (["--out", "."], "already exists; choose a new folder"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], words: str, own_bundle: Path, builders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(own_bundle), *arguments]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and words in err and err.count("\n") == 1 and out == ""
    assert not (own_bundle / typed.FOLDER).exists() and not builders.exists()


def test_a_bundle_that_can_only_be_read(
    own_bundle: Path, builders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        assert command.main([str(own_bundle), "--flavours"]) == 1
    assert "use --out DIR to write a copy of it" in capsys.readouterr().err
    copy = own_bundle.with_name("copy")
    assert command.main([str(own_bundle), "--flavours", "--out", str(copy)]) == 0
    assert Manifest.load(copy) == Manifest.load(own_bundle) and typed.read(copy) and not typed.read(own_bundle)


# ---------------------------------------------------------------- what the runtime takes
def drop(bundle: Path) -> None:
    (bundle / typed.FOLDER / "step.fp32.onnx").unlink()


def alter(bundle: Path) -> None:
    (bundle / typed.FOLDER / "step.fp32.onnx").write_bytes(b"other")


def other_source(bundle: Path) -> None:
    index = bundle / typed.FOLDER / typed.INDEX
    values = json.loads(index.read_text())
    values["files"]["step.fp32.onnx"]["source"] = "0" * 64
    index.write_text(json.dumps(values))


def outside(bundle: Path) -> None:
    index = bundle / typed.FOLDER / typed.INDEX
    values = json.loads(index.read_text())
    values["files"]["step.fp32.onnx"]["sha256"]["../manifest.json"] = sha256(bundle / "manifest.json")
    index.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (drop, "step.fp32.onnx is missing"),
        (alter, "step.fp32.onnx was altered"),
        (other_source, "it was not derived from this bundle's file"),
        (outside, "the index does not list its files correctly"),
    ],
)
def test_a_typed_graph_is_used_only_where_it_is_the_bundles(
    harm: Callable[[Path], None], words: str, own_bundle: Path, builders: Path
) -> None:
    manifest = Manifest.load(own_bundle)
    assert typed.find(own_bundle, manifest, "step", ("fp16", "fp32")) == (None, "", [])
    assert command.main([str(own_bundle), "--flavours"]) == 0
    path, precision, notes = typed.find(own_bundle, manifest, "step", ("fp16", "fp32"))
    assert (path, precision, notes) == (own_bundle / typed.FOLDER / "step.fp32.onnx", "fp32", [])
    harm(own_bundle)
    path, precision, notes = typed.find(own_bundle, manifest, "step", ("fp16", "fp32"))
    assert (path, precision) == (None, "") and len(notes) == 1 and words in notes[0]
    assert typed.find(own_bundle, manifest, "condition", ("fp32",))[0]  # the others stay usable
    assert command.main([str(own_bundle), "--flavours", "--graphs", "step"]) == 0  # mends it
    assert typed.find(own_bundle, manifest, "step", ("fp32",))[0] and len(typed.read(own_bundle)) == len(
        graphs(manifest.config)
    )


def test_an_index_that_is_none_lists_nothing(own_bundle: Path) -> None:
    (own_bundle / typed.FOLDER).mkdir()
    for text in ("{", "[]", '{"files": []}', '{"files": {"a": {}}}'):
        (own_bundle / typed.FOLDER / typed.INDEX).write_text(text)
        assert typed.read(own_bundle) == {}


def test_int8_is_no_source(own_bundle: Path) -> None:
    def only_int8(values: dict[str, Any]) -> None:
        values["files"]["step.onnx"]["precision"] = "int8"

    rewrite_manifest(own_bundle, only_int8)
    with pytest.raises(ManifestError, match="has step in int8, and TensorRT runs fp32, fp16; export it again"):
        typed.source_file(Manifest.load(own_bundle), "step")


# ---------------------------------------------------------------- base size, random weights
def base_module(graph: str, config: ModelConfig, blocks: int) -> Any:
    """The module of a graph at full width: the transformer of size base, the official encoders and codec.

    Transformers have at most `blocks` of their blocks, which are all alike.
    """
    from benchmarks.common import torchvision_stub

    torchvision_stub.install()  # open_clip and transformers import torchvision
    from export.graphs import COMPONENTS, CONDITIONS, STEPS
    from train.models.beats import BEATs, BEATsConfig
    from train.models.clip_image import CLIP
    from train.models.dac import DAC
    from train.models.maskvat import MaskVAT
    from train.models.s3d import S3D, S3DConfig
    from train.models.scav import SCAV, SCAVConfig

    if graph in ("step", "condition"):
        return (STEPS if graph == "step" else CONDITIONS)["hybrid"](MaskVAT(config))

    def clip() -> Any:
        network = CLIP()
        network.visual.transformer.resblocks = network.visual.transformer.resblocks[:blocks]
        return network

    made: dict[str, Callable[[], Any]] = {
        "codec": DAC,
        "frame_encoder": clip,
        "sync_encoder": lambda: S3D(S3DConfig()),
        "audio_encoder": lambda: BEATs(BEATsConfig(layers=min(blocks, BEATsConfig().layers))),
        "scav": lambda: SCAV(SCAVConfig()),
    }
    component, wrapper = COMPONENTS[graph]
    network = made[component]().eval()
    return wrapper(network.fold_bn() if hasattr(network, "fold_bn") else network)


BASE = ModelConfig(design="hybrid", **SIZES["base"])
ALL = BASE.n_blocks


@NEEDS_RTX
@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("blocks", [2, pytest.param(ALL, marks=pytest.mark.host)])
@pytest.mark.parametrize("name", graphs(BASE))
def test_plans_at_full_width(name: str, blocks: int, tmp_path: Path) -> None:
    """Every operator of the full networks can be built in half precision. Weights are random.

    All blocks of a transformer are alike, so CI builds two. `-m "host and slow"` builds the whole networks.
    """
    pytest.importorskip("torch", reason="PyTorch is not installed")
    if find_spec("open_clip") is None or find_spec("transformers") is None:
        pytest.skip("needs the extra train")
    import onnx

    from export.onnx_export import export_graph

    config = replace(BASE, n_blocks=blocks)
    graph: Graph = graphs(config)[name]
    model = export_graph(base_module(name, config, blocks).eval().requires_grad_(False), graph)
    for precision, content in command.variants(model, graph, ("fp16",)).items():
        path = tmp_path / f"{name}.{precision}.onnx"
        onnx.save_model(content, str(path))
        module = plan_build.library("rtx")
        plan = plan_build.build(module, path, graph, profile(config, graph), plan_build.TARGETS)
        assert plan.startswith(MAGIC)
        print(f"{name} {precision} ONNX {path.stat().st_size / 1e6:.0f} MB, plan {len(plan) / 1e6:.0f} MB")
