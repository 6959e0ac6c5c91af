"""Add strongly typed graphs to a bundle, and build TensorRT plans from them.

    python -m export.tensorrt BUNDLE

The graphs are written to BUNDLE/typed; the bundle also works without them. The plans are written to the cache folder,
where the runtime finds them. Plans of TensorRT-RTX can be built on any machine, without a GPU. Plans of TensorRT are
built on the GPU of this machine and only run there.

The exit status is 0 if every plan that can be built on this machine was built.
"""

import argparse
import logging
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engines import typed
from engines.contract import Graph, graphs
from engines.manifest import MANIFEST, Manifest, sha256
from engines.plan_build import FLAVOURS, TARGETS, card, difference, library
from engines.plans import PlanOptions, default_cache, find
from engines.profiles import CANDIDATES
from engines.typed import TypedFile
from export import ExportError
from runtime.errors import BackendUnavailable, MaskVATError
from train.extras import requires_extra

with requires_extra("export", __name__):
    import onnx
    from onnx import ModelProto, helper

    from export.onnx_export import load
    from export.precision import convert_precision, unsupported_reason

log = logging.getLogger("export.tensorrt")


@dataclass(frozen=True)
class Options:
    """Options of one run."""

    bundle: Path
    out: Path | None = None
    precision: tuple[str, ...] = ("fp16",)
    graphs: tuple[str, ...] = ()  # empty: all
    flavours: tuple[str, ...] = tuple(FLAVOURS)
    targets: tuple[str, ...] = TARGETS
    candidates: int = CANDIDATES
    cache: Path | None = None


def parse(argv: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m export.tensorrt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument(
        "--out", type=Path, help="write to a copy of the bundle in this new folder, and leave BUNDLE unchanged"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=typed.PRECISIONS,
        default=["fp16"],
        help="precisions (default: fp16); a graph that cannot have one is made in fp32",
    )
    parser.add_argument("--graphs", nargs="+", default=[], metavar="GRAPH", help="graphs (default: all)")
    parser.add_argument(
        "--flavours",
        nargs="*",
        choices=FLAVOURS,
        default=list(FLAVOURS),
        help="libraries to build plans for; without a value, no plans are built (default: both)",
    )
    parser.add_argument(
        "--targets", nargs="+", default=list(TARGETS), help="GPU architectures for plans of TensorRT-RTX"
    )
    parser.add_argument(
        "--candidates", type=int, default=CANDIDATES, help="largest number of candidates (default: %(default)s)"
    )
    parser.add_argument("--cache", type=Path, help=f"folder for the plans (default: {default_cache()})")
    given = vars(parser.parse_args(argv))
    return Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


# ---------------------------------------------------------------- strongly typed graphs
def copy_bundle(source: Path, manifest: Manifest, out: Path) -> Path:
    """Copy the manifest and its files to a new folder, which appears only when it is complete."""
    if out.exists():
        raise ExportError(f"{out} already exists; choose a new folder, or give this one as BUNDLE")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name in (MANIFEST, *manifest.files):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, part / name)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def variants(model: ModelProto, graph: Graph, wanted: tuple[str, ...]) -> dict[str, ModelProto]:
    """Precision -> typed graph. A precision that the graph cannot have is reported and replaced by fp32."""
    made: dict[str, ModelProto] = {}
    for precision in wanted:
        try:
            reason = unsupported_reason(graph.name, precision)
            if not reason:
                made[precision] = convert_precision(model, precision)
        except ExportError as error:
            reason = str(error)
        if reason:
            print(f"{graph.name:14} {precision}  made in fp32 instead: {reason}")
            if "fp32" not in made:
                made["fp32"] = convert_precision(model, "fp32")
    return made


def write(model: ModelProto, path: Path, graph: Graph) -> None:
    """Save a typed graph. Raises ExportError if its inputs or outputs differ from the contract."""
    for specs, values in ((graph.inputs, model.graph.input), (graph.outputs, model.graph.output)):
        have = {}
        for value in values:
            kind = value.type.tensor_type
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
            have[value.name] = (helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)
        problem = difference(specs, have)
        if problem:
            raise ExportError(f"graph {graph.name}: the contract and {path.name} differ: {problem}")
    part = path.with_name(path.name + ".part")
    try:
        onnx.save_model(model, str(part))
        os.replace(part, path)
    except ValueError as error:  # protobuf's limit of 2 GB
        raise ExportError(
            f"{path.name} exceeds the size limit of an ONNX file ({error}); use --precision fp16"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def write_typed_graphs(
    bundle: Path, manifest: Manifest, table: dict[str, Graph], options: Options
) -> dict[str, TypedFile]:
    """Write typed graphs into BUNDLE/typed, and list them there together with older ones that are still valid.

    Returns the new ones.
    """
    folder = bundle / typed.FOLDER
    folder.mkdir(exist_ok=True)
    sources = {name: manifest.files[typed.source_file(manifest, name)].sha256 for name in graphs(manifest.config)}
    files = {n: e for n, e in typed.read(bundle).items() if sources.get(e.graph) == e.source and (folder / n).is_file()}
    new: dict[str, TypedFile] = {}
    for name, graph in table.items():
        model = load(bundle / typed.source_file(manifest, name))
        for precision, content in variants(model, graph, options.precision).items():
            path = folder / f"{name}.{precision}.onnx"
            write(content, path, graph)
            digests = {path.name: sha256(path)}
            new[path.name] = TypedFile(name, precision, sources[name], digests, options.candidates, options.targets)
            print(f"{name:14} {precision}  {path.stat().st_size / 1e6:8.2f} MB  {path}")
    typed.write(bundle, files | new)
    return new


# ---------------------------------------------------------------- plans
def can_build(flavour: str) -> bool:
    """Whether plans of a flavour can be built on this machine. Prints the reason if not."""
    try:
        library(flavour)
        if flavour == "trt":
            card()
        return True
    except BackendUnavailable as error:
        print(f"{FLAVOURS[flavour]}: no plans: {error}")
        return False


def build_plans(folder: Path, manifest: Manifest, files: dict[str, TypedFile], options: Options) -> list[str]:
    """Build every plan, or find it in the cache. Returns the names of those that failed."""
    failed = []
    for flavour in options.flavours:
        if not can_build(flavour):
            continue
        for name, entry in files.items():
            wanted = PlanOptions(
                manifest.config, entry.precision, options.candidates, options.targets, cache=options.cache, say=log.info
            )
            begin = time.perf_counter()
            row = f"{entry.graph:14} {entry.precision}  {flavour}"
            try:
                plan = find(flavour, folder / name, graphs(manifest.config)[entry.graph], wanted)
            except BackendUnavailable as error:
                failed.append(f"{flavour} {name}")
                print(f"{row}  failed: {error}")
                continue
            origin = "built" if plan.built else "found in the cache"
            place = plan.path if plan.kept else "not kept"
            print(f"{row}  {len(plan.data) / 1e6:8.2f} MB  {origin} in {time.perf_counter() - begin:.1f} s  {place}")
    return failed


def run(options: Options) -> list[str]:
    """Write typed graphs and build plans. Returns the names of plans that failed."""
    if options.candidates < 1:
        raise ExportError(f"--candidates must be at least 1, got {options.candidates}")
    manifest = Manifest.load(options.bundle)
    table = graphs(manifest.config)
    unknown = sorted(set(options.graphs) - set(table))
    if unknown:
        raise ExportError(f"there is no graph {', '.join(unknown)}; choose from {', '.join(table)}")
    bundle = options.bundle if options.out is None else copy_bundle(options.bundle, manifest, options.out)
    chosen = {name: graph for name, graph in table.items() if not options.graphs or name in options.graphs}
    try:
        files = write_typed_graphs(bundle, manifest, chosen, options)
    except PermissionError as error:
        raise ExportError(f"{bundle} cannot be written to ({error}); use --out DIR to write a copy of it") from error
    return build_plans(bundle / typed.FOLDER, manifest, files, options)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        failed = run(options)
    except (MaskVATError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if failed:
        print(f"error: plans that could not be built: {', '.join(failed)}; the reasons are above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
