"""Make a model repository for NVIDIA Triton from a bundle, with one model per graph.

    python -m export.triton BUNDLE REPO

    REPO/maskvat_step/config.pbtxt      names, types and shapes from engines.contract
                     /1/model.onnx      the bundle's file, or model.plan for a graph with --plan
        /manifest.json                  the bundle's manifest, which lists the origin of all weights

The server runs graphs; the client runs the loop over steps (runtime.decode). REPO appears only when it is complete.

Two rules of Triton shape the configs. A model can batch requests only if the batch is the first axis of every tensor. A
scalar is written as [1]; the ONNX Runtime backend accepts this for scalars, the TensorRT backend does not.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.backends import BACKENDS
from engines.contract import CONTRACT_VERSION, Graph, ModelConfig, TensorSpec, graphs
from engines.manifest import MANIFEST, Manifest, sha256
from engines.plan_build import FLAVOURS
from engines.profiles import profile
from export import ExportError
from runtime.errors import MaskVATError

PREFIX = "maskvat_"  # all models of a server share one namespace
VERSION = "1"
TYPES = {"int32": "TYPE_INT32", "float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
KINDS = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}  # processors for the instances of a model


@dataclass(frozen=True)
class Options:
    """Options of one model repository. Raises ExportError for values that are not allowed."""

    bundle: Path
    repo: Path
    kind: str = "auto"
    instances: int = 1  # of each model, on every GPU
    max_batch: int = 16  # largest batch that Triton may form from requests
    plans: dict[str, Path] = field(default_factory=dict)  # graph -> TensorRT plan; other graphs run in ONNX Runtime

    def __post_init__(self) -> None:
        for name, value in (("instances", self.instances), ("max-batch", self.max_batch)):
            if value < 1:
                raise ExportError(f"--{name} is {value}; it must be 1 or more")
        if self.plans and self.kind == "cpu":
            raise ExportError("--plan with --kind cpu: plans need a GPU; leave out one of the two")


# ---------------------------------------------------------------- configs
def batched(graph: Graph) -> bool:
    """Whether the batch is the first axis of every tensor, so that Triton can batch requests."""
    return all(spec.axes[:1] == ("B",) and "B" not in spec.axes[1:] for spec in graph.inputs + graph.outputs)


def dims(spec: TensorSpec, batch: bool) -> list[int]:
    """Shape of a tensor in a Triton config: -1 for any length, without a batch that Triton adds, [1] for a scalar."""
    axes = spec.axes[1:] if batch else spec.axes
    return [axis if isinstance(axis, int) else -1 for axis in axes] or [1]


def config(graph: Graph, options: Options, most: int, origin: dict[str, str]) -> str:
    """config.pbtxt of one graph with at most `most` rows. Triton ignores the parameters, which store `origin`."""
    batch = batched(graph)
    plan = graph.name in options.plans
    lines = [
        f'name: "{PREFIX}{graph.name}"',
        'platform: "tensorrt_plan"' if plan else 'backend: "onnxruntime"',
        f'default_model_filename: "{model_file(graph, options)}"',
        f"max_batch_size: {min(options.max_batch, most) if batch else 0}",
    ]
    for word, specs in (("input", graph.inputs), ("output", graph.outputs)):
        for spec in specs:
            lines.append(f'{word} {{ name: "{spec.name}" data_type: {TYPES[spec.dtype]} dims: {dims(spec, batch)} }}')
    lines.append(f"instance_group {{ kind: {KINDS[options.kind]} count: {options.instances} }}")
    for key, value in origin.items():
        lines.append(f'parameters {{ key: "{PREFIX}{key}" value {{ string_value: {json.dumps(value)} }} }}')
    return "\n".join(lines) + "\n"


def model_file(graph: Graph, options: Options) -> str:
    return "model.plan" if graph.name in options.plans else "model.onnx"


# ---------------------------------------------------------------- files
def plan_facts(plan: Path) -> dict[str, Any]:
    """The facts stored beside a plan in our cache; empty for plans from elsewhere."""
    try:
        return dict(json.loads(plan.with_suffix(".plan.json").read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def largest_batch(graph: Graph, plan: Path, config: ModelConfig) -> int:
    """Largest batch of a plan. Triton does not load a model whose config exceeds it."""
    shapes = plan_facts(plan).get("shape profile") or profile(config, graph)
    return min(int(shapes[spec.name][2][0]) for spec in graph.inputs if spec.axes[:1] == ("B",))


def check_plans(options: Options, table: dict[str, Graph]) -> None:
    """Raise ExportError unless every plan exists and Triton's TensorRT backend can serve its graph."""
    for name, path in options.plans.items():
        if name not in table:
            raise ExportError(f"--plan {name}={path}: no such graph; choose from {', '.join(table)}")
        if not path.is_file():
            raise ExportError(
                f"--plan {name}={path}: there is no such file; build plans with `python -m export.tensorrt`"
            )
        made_by = plan_facts(path).get("library", "")
        if made_by.startswith(FLAVOURS["rtx"]):
            raise ExportError(
                f"--plan {name}={path} is a plan of {made_by}, but Triton needs one of TensorRT; "
                "build it on the GPU of the server"
            )
        scalars = [spec.name for spec in table[name].inputs + table[name].outputs if not spec.axes]
        if scalars:
            raise ExportError(
                f"--plan {name}={path}: Triton's TensorRT backend does not support scalars such as "
                f"{scalars[0]} of {name}; "
                "serve this graph with ONNX Runtime, without --plan"
            )


def write_model(folder: Path, graph: Graph, options: Options, manifest: Manifest) -> None:
    """Write the folder of one model: its config and its version."""
    target = folder / f"{PREFIX}{graph.name}"
    (target / VERSION).mkdir(parents=True)
    model = target / VERSION / model_file(graph, options)
    if graph.name in options.plans:
        shutil.copyfile(options.plans[graph.name], model)
        precision, source = "plan", options.plans[graph.name].name
    else:
        wanted = BACKENDS["cpu" if options.kind == "cpu" else "cuda"].precisions
        source = manifest.file_for(graph.name, wanted, f"Triton of --kind {options.kind}")
        precision = manifest.files[source].precision
        shutil.copyfile(options.bundle / source, model)
        for name, entry in manifest.files.items():  # external weights of the graph
            if not entry.graph and (name.startswith(f"{source}.") or name == f"{graph.name}.weights"):
                shutil.copyfile(options.bundle / name, model.with_name(name))
    planned = batched(graph) and graph.name in options.plans
    most = largest_batch(graph, options.plans[graph.name], manifest.config) if planned else options.max_batch
    origin = {"bundle": manifest.name, "contract_version": str(CONTRACT_VERSION), "file": source}
    origin |= {"precision": precision, "sha256": sha256(model)}
    (target / "config.pbtxt").write_text(config(graph, options, most, origin), encoding="utf-8")


def build(options: Options) -> list[str]:
    """Write the repository; return the names of its models. Raises ExportError, ManifestError, OSError."""
    repo = options.repo
    if repo.exists():
        raise ExportError(f"{repo} already exists; choose another folder, or remove it first")
    manifest = Manifest.load(options.bundle)
    table = graphs(manifest.config)
    check_plans(options, table)
    repo.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{repo.name}.part-", dir=repo.parent))
    try:
        folder.chmod(0o755)  # mkdtemp makes a private folder, but a server is another user
        for graph in table.values():
            write_model(folder, graph, options, manifest)
        shutil.copyfile(options.bundle / MANIFEST, folder / MANIFEST)
        os.replace(folder, repo)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [f"{PREFIX}{name}" for name in table]


# ---------------------------------------------------------------- the command
def read_plans(texts: list[str]) -> dict[str, Path]:
    """Parse the values GRAPH=FILE of --plan. Raises ExportError."""
    plans = {}
    for text in texts:
        graph, equals, path = text.partition("=")
        if not equals:
            raise ExportError(f"--plan {text}: give GRAPH=FILE, for example codec_decoder=codec_decoder.plan")
        plans[graph] = Path(path)
    return plans


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.triton", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("bundle", type=Path, help="folder of the bundle")
    add("repo", type=Path, help="folder of the new model repository")
    add("--kind", choices=list(KINDS), default="auto",
        help="processor for the instances (default: auto, a GPU if there is one)")  # fmt: skip
    add("--instances", type=int, default=1, help="instances of each model, on every GPU (default: 1)")
    add(
        "--max-batch",
        type=int,
        default=16,
        help="largest batch that Triton may form, for graphs that allow it (default: 16)",
    )
    add("--plan", action="append", default=[], metavar="GRAPH=FILE", help="serve this TensorRT plan; may be repeated")
    args = parser.parse_args(argv)
    try:
        options = Options(args.bundle, args.repo, args.kind, args.instances, args.max_batch, read_plans(args.plan))
        models = build(options)
    except (MaskVATError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(models)} models written to {args.repo}: {', '.join(models)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
