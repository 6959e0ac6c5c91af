"""`python -m export.triton`: configs fit the schema of Triton and the contract."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.contract import DESIGNS, Graph, TensorSpec, graphs
from engines.manifest import Manifest, sha256
from engines.ort import OrtEngine
from engines.selftest import feeds_for
from export import ExportError, triton
from export.triton import PREFIX, Options
from runtime.errors import ManifestError, MaskVATError
from tests.support.fake_engines import NEEDS_ORT, entry_of, rewrite_manifest

pytestmark = NEEDS_ORT
TYPES = {2: "uint8", 8: "int32", 11: "float32"}  # model_config.proto's DataType, by number


@pytest.fixture(scope="module")
def schema() -> Any:
    """model_config.proto of Triton from tritonclient, without importing the package, which needs gRPC."""
    client = find_spec("tritonclient")
    if client is None:
        pytest.skip("needs Triton's schema: pip install '.[test]'")
    pytest.importorskip("google.protobuf")
    file = Path(client.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = spec_from_file_location("model_config_pb2", file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(schema: Any, repo: Path) -> dict[str, Any]:
    """Graph -> its parsed config."""
    from google.protobuf import text_format

    files = sorted(repo.glob("*/config.pbtxt"))
    configs = [text_format.Parse(file.read_text(), schema.ModelConfig()) for file in files]
    assert [c.name for c in configs] == [file.parent.name for file in files]
    return {c.name.removeprefix(PREFIX): c for c in configs}


def shape_of(tensor: Any, found: Any) -> list[int]:
    """The shape of a tensor in a request, including the batch."""
    return [-1] * (found.max_batch_size > 0) + list(tensor.dims)


# ---------------------------------------------------------------- what is written
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("cls", [False, True])
def test_the_configs_are_the_contract(schema: Any, bundles: Callable[..., Path], tmp_path: Path, design, cls) -> None:
    bundle = bundles(design, cls_in_memory=cls)
    assert triton.main([str(bundle), str(tmp_path / "repo"), "--max-batch", "7"]) == 0
    config = Manifest.load(bundle).config
    found, table = parse(schema, tmp_path / "repo"), graphs(config)
    assert set(found) == set(table)
    for name, graph in table.items():
        for tensors, specs in ((found[name].input, graph.inputs), (found[name].output, graph.outputs)):
            assert [(t.name, TYPES[t.data_type]) for t in tensors] == [(s.name, s.dtype) for s in specs]
            for tensor, spec in zip(tensors, specs, strict=True):
                wanted = [a if isinstance(a, int) else -1 for a in spec.axes] or [1]
                assert shape_of(tensor, found[name]) == wanted, (name, tensor.name)
        assert found[name].max_batch_size in (0, 7)
        assert found[name].backend == "onnxruntime" and not found[name].platform
        assert [(g.kind, g.count) for g in found[name].instance_group] == [(0, 1)]


def test_real_feeds_and_outputs_fit_the_configs(schema: Any, bundles: Callable[..., Path], tmp_path: Path) -> None:
    """The files of the repository run, and all inputs and outputs have the declared shapes."""
    manifest = Manifest.load(bundles())
    triton.build(Options(bundles(), tmp_path / "repo"))
    for name, found in parse(schema, tmp_path / "repo").items():
        graph = graphs(manifest.config)[name]
        file = tmp_path / "repo" / f"{PREFIX}{name}" / "1" / found.default_model_filename
        feeds = feeds_for(graph, manifest.config)
        outputs = OrtEngine(file, graph, "cpu", 1).run(feeds)
        for tensors, values in ((found.input, feeds), (found.output, outputs)):
            for tensor in tensors:
                value = np.atleast_1d(values[tensor.name])
                declared = shape_of(tensor, found)
                assert len(declared) == value.ndim and value.dtype == TYPES[tensor.data_type]
                assert all(d in (-1, n) for d, n in zip(declared, value.shape, strict=True))


def test_which_graphs_join_requests(schema: Any, bundles: Callable[..., Path], tmp_path: Path) -> None:
    """A graph can batch if every tensor begins with the batch; a null row or an index does not."""
    triton.build(Options(bundles(), tmp_path / "repo", max_batch=4))
    sizes = {name: found.max_batch_size for name, found in parse(schema, tmp_path / "repo").items()}
    assert {name for name, size in sizes.items() if size == 4} >= {"codec_decoder", "codec_encoder", "audio_encoder"}
    assert sizes["condition"] == sizes["scav_video"] == sizes["frame_encoder"] == 0


@pytest.mark.parametrize(
    ("inputs", "outputs", "joins"),
    [
        ([("B", 3)], [("B", "T")], True),
        ([("B", 3), ("T",)], [("B", "T")], False),
        ([("B", 3)], [(1, "T")], False),
        ([("B", 3), ()], [("B",)], False),
        ([("T", "B")], [("T", "B")], False),
        ([("B", "B")], [("B",)], False),
    ],
)
def test_the_batch_must_be_the_first_axis_of_all(inputs: list, outputs: list, joins: bool) -> None:
    def specs(axes: list) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(f"x{n}", "float32", a) for n, a in enumerate(axes))

    assert triton.batched(Graph("g", specs(inputs), specs(outputs))) == joins


def test_where_everything_comes_from(schema: Any, own_bundle: Path, tmp_path: Path) -> None:
    rewrite_manifest(own_bundle, lambda m: m.update(name='a "b" \\ c'))
    triton.build(Options(own_bundle, tmp_path / "repo", kind="gpu", instances=2))
    manifest, repo = Manifest.load(own_bundle), tmp_path / "repo"
    assert (repo / "manifest.json").read_bytes() == (own_bundle / "manifest.json").read_bytes()
    for name, found in parse(schema, repo).items():
        printed = {k.removeprefix(PREFIX): v.string_value for k, v in found.parameters.items()}
        assert (
            printed["bundle"] == manifest.name and printed["precision"] == "fp32" and printed["file"] == f"{name}.onnx"
        )
        assert (
            printed["sha256"]
            == sha256(repo / f"{PREFIX}{name}" / "1" / "model.onnx")
            == manifest.files[printed["file"]].sha256
        )
        assert [(g.kind, g.count) for g in found.instance_group] == [(1, 2)]


def test_precision_follows_the_kind_of_machine(schema: Any, own_bundle: Path, tmp_path: Path) -> None:
    path = own_bundle / "step.int8.onnx"
    path.write_bytes((own_bundle / "step.onnx").read_bytes() + b"\n")
    rewrite_manifest(own_bundle, lambda m: m["files"].update({path.name: entry_of(path, "step", "int8")}))
    for kind, file in (("cpu", "step.int8.onnx"), ("gpu", "step.onnx"), ("auto", "step.onnx")):
        triton.build(Options(own_bundle, tmp_path / kind, kind=kind))
        found = parse(schema, tmp_path / kind)["step"]
        assert found.parameters[f"{PREFIX}file"].string_value == file
    (own_bundle / "step.onnx").unlink()
    rewrite_manifest(own_bundle, lambda m: m["files"].pop("step.onnx"))
    with pytest.raises(ManifestError, match="step in int8, and Triton of --kind gpu runs fp16, fp32; export it again"):
        triton.build(Options(own_bundle, tmp_path / "none", kind="gpu"))


@pytest.mark.parametrize("name", ["step.onnx.data", "step.weights"])  # of one file, or shared by the two steps
def test_weights_beside_a_graph_come_along(own_bundle: Path, tmp_path: Path, name: str) -> None:
    (own_bundle / name).write_bytes(b"weights")
    rewrite_manifest(own_bundle, lambda m: m["files"].update({name: entry_of(own_bundle / name)}))
    triton.build(Options(own_bundle, tmp_path / "repo"))
    assert [p.parent.parent.name for p in (tmp_path / "repo").rglob(name)] == [f"{PREFIX}step"]


def test_a_plan_takes_the_place_of_a_graph(schema: Any, bundles: Callable[..., Path], tmp_path: Path) -> None:
    plan = tmp_path / "decoder.plan"
    plan.write_bytes(b"a plan")
    assert triton.main([str(bundles()), str(tmp_path / "repo"), "--plan", f"codec_decoder={plan}"]) == 0
    found = parse(schema, tmp_path / "repo")
    assert [name for name, c in found.items() if c.platform] == ["codec_decoder"]
    served = found["codec_decoder"]
    assert (served.platform, served.backend, served.default_model_filename) == ("tensorrt_plan", "", "model.plan")
    files = list((tmp_path / "repo" / f"{PREFIX}codec_decoder" / "1").iterdir())
    assert [(f.name, f.read_bytes()) for f in files] == [("model.plan", b"a plan")]
    assert served.parameters[f"{PREFIX}sha256"].string_value == sha256(plan)


def test_a_plan_says_how_many_rows_it_takes(schema: Any, bundles: Callable[..., Path], tmp_path: Path) -> None:
    """Triton refuses a model whose batch exceeds the profile of its plan."""
    plan = tmp_path / "decoder.0123.plan"
    plan.write_bytes(b"a plan")
    plans = {name: plan for name in ("codec_decoder", "sync_encoder")}
    triton.build(Options(bundles(), tmp_path / "usual", plans=plans))
    sizes = {name: found.max_batch_size for name, found in parse(schema, tmp_path / "usual").items()}
    assert (sizes["codec_decoder"], sizes["sync_encoder"], sizes["codec_encoder"]) == (10, 1, 16)
    about = {"parts": {"shape profile": {"codes": [[1, 9, 1], [1, 9, 8], [3, 9, 8]]}, "library": "tensorrt 11.4"}}
    (tmp_path / "decoder.0123.plan.json").write_text(json.dumps(about))
    triton.build(Options(bundles(), tmp_path / "described", plans={"codec_decoder": plan}))
    assert parse(schema, tmp_path / "described")["codec_decoder"].max_batch_size == 3


# ---------------------------------------------------------------- what is refused
def refused(bundle: Path, repo: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one-line error of a call that must fail and leave no files."""
    before = sorted(repo.parent.rglob("*"))
    assert triton.main([str(bundle), str(repo), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and not printed.out
    assert sorted(repo.parent.rglob("*")) == before
    return printed.err


def test_a_folder_that_is_there_is_left_alone(bundles: Callable[..., Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "repo").mkdir()
    assert "exists; choose another folder" in refused(bundles(), tmp_path / "repo", capsys=capsys)


def test_a_broken_bundle(own_bundle: Path, tmp_path: Path, capsys) -> None:
    data = bytearray((own_bundle / "step.onnx").read_bytes())
    data[100] ^= 1
    (own_bundle / "step.onnx").write_bytes(data)
    assert "step.onnx was altered" in refused(own_bundle, tmp_path / "repo", capsys=capsys)
    shutil.rmtree(own_bundle)
    assert "no bundle in" in refused(own_bundle, tmp_path / "repo", capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--max-batch", "0"], "--max-batch is 0; it must be 1 or more"),
        (["--instances", "0"], "--instances is 0; it must be 1 or more"),
        (["--plan", "step"], "give GRAPH=FILE"),
        (["--plan", "stop=x.plan"], "no such graph; choose from frame_encoder, "),
        (
            ["--plan", "codec_decoder=nowhere.plan"],
            "there is no such file; build plans with `python -m export.tensorrt`",
        ),
    ],
)
def test_options_that_cannot_be(bundles: Callable[..., Path], tmp_path: Path, capsys, arguments, advice) -> None:
    assert advice in refused(bundles(), tmp_path / "repo", *arguments, capsys=capsys)


def test_plans_that_triton_cannot_run(bundles: Callable[..., Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "d.plan").write_bytes(b"a plan")
    (tmp_path / "d.plan.json").write_text('{"parts": {"library": "tensorrt_rtx 1.7"}}')
    arguments = ["--plan", f"codec_decoder={tmp_path / 'd.plan'}"]
    assert "is a plan of tensorrt_rtx 1.7, but Triton needs" in refused(
        bundles(), tmp_path / "r", *arguments, capsys=capsys
    )
    arguments += ["--kind", "cpu"]
    assert "--plan with --kind cpu: plans need a GPU" in refused(bundles(), tmp_path / "r", *arguments, capsys=capsys)


def test_plans_with_scalars_are_refused(tmp_path: Path) -> None:
    plan = tmp_path / "x.plan"
    plan.write_bytes(b"")
    scalar = Graph("g", (TensorSpec("x", "float32", ("B",)), TensorSpec("strength", "float32", ())), ())
    with pytest.raises(ExportError, match="does not support scalars such as strength of g; serve this graph"):
        triton.check_plans(Options(tmp_path, tmp_path, plans={"g": plan}), {"g": scalar})


def test_a_disk_that_fills_leaves_nothing(
    bundles: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    copy, calls = shutil.copyfile, []

    def full(source: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(triton.shutil, "copyfile", full)
    assert "No space left on device" in refused(bundles(), tmp_path / "repo", capsys=capsys)
    assert len(calls) == 4 and issubclass(ExportError, MaskVATError)
