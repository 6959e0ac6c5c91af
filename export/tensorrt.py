"""`python -m export.tensorrt BUNDLE`: strongly typed graphs beside a bundle's own, and TensorRT plans of them.

TensorRT-RTX's plans are built on any machine, without a card; TensorRT's on the card that is here. The graphs lie in
BUNDLE/typed, the bundle is whole without them; the plans lie in the cache, where the runtime finds them.

The exit code is a verdict: 0 when every plan that can be built here was built.
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

    from export.precision import left_out
    from export.precision import typed as typed_graph

log = logging.getLogger("export.tensorrt")


@dataclass(frozen=True)
class Options:
    """One run."""

    bundle: Path
    out: Path | None = None
    precision: tuple[str, ...] = ("fp16",)
    graphs: tuple[str, ...] = ()  # none: all
    flavours: tuple[str, ...] = tuple(FLAVOURS)
    targets: tuple[str, ...] = TARGETS
    candidates: int = CANDIDATES
    cache: Path | None = None


def parse(argv: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m export.tensorrt", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument("--out", type=Path, help="copy the bundle to this new folder first and leave BUNDLE as it is")
    parser.add_argument(
        "--precision", nargs="+", choices=typed.PRECISIONS, default=["fp16"], help="a graph without one is made in fp32"
    )
    parser.add_argument("--graphs", nargs="+", default=[], metavar="GRAPH", help="only these (default: all)")
    parser.add_argument(
        "--flavours", nargs="*", choices=FLAVOURS, default=list(FLAVOURS), help="none: graphs only (default: both)"
    )
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), help="cards of TensorRT-RTX's plans")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="largest batch (default: %(default)s)")
    parser.add_argument("--cache", type=Path, help=f"folder of the plans (default: {default_cache()})")
    given = vars(parser.parse_args(argv))
    return Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


# ---------------------------------------------------------------- strongly typed graphs
def copy_bundle(source: Path, manifest: Manifest, out: Path) -> Path:
    """The manifest and its files in a new folder, which is there whole or not at all."""
    if out.exists():
        raise ExportError(f"{out} exists; choose a folder that does not, or give it as BUNDLE")
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
    """Precision -> typed graph; one that the graph cannot have is said, and fp32 takes its place."""
    made: dict[str, ModelProto] = {}
    for precision in wanted:
        try:
            reason = left_out(graph.name, precision)
            if not reason:
                made[precision] = typed_graph(model, precision)
        except ExportError as error:
            reason = str(error)
        if reason:
            print(f"{graph.name:14} {precision}  left out, fp32 instead: {reason}")
            if "fp32" not in made:
                made["fp32"] = typed_graph(model, "fp32")
    return made


def write(model: ModelProto, path: Path, graph: Graph) -> None:
    """Save a typed graph whose inputs and outputs are the contract's."""
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
            f"{path.name} would be larger than an ONNX file can be ({error}); use --precision fp16"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def derive(bundle: Path, manifest: Manifest, table: dict[str, Graph], options: Options) -> dict[str, TypedFile]:
    """Write typed graphs into the bundle's folder for them and list them there, with those that are still valid."""
    folder = bundle / typed.FOLDER
    folder.mkdir(exist_ok=True)
    sources = {name: manifest.files[typed.source_file(manifest, name)].sha256 for name in graphs(manifest.config)}
    files = {n: e for n, e in typed.read(bundle).items() if sources.get(e.graph) == e.source and (folder / n).is_file()}
    new: dict[str, TypedFile] = {}
    for name, graph in table.items():
        model = onnx.load(str(bundle / typed.source_file(manifest, name)))
        for precision, content in variants(model, graph, options.precision).items():
            path = folder / f"{name}.{precision}.onnx"
            write(content, path, graph)
            digests = {path.name: sha256(path)}
            new[path.name] = TypedFile(name, precision, sources[name], digests, options.candidates, options.targets)
            print(f"{name:14} {precision}  {path.stat().st_size / 1e6:8.2f} MB  {path}")
    typed.write(bundle, files | new)
    return new


# ---------------------------------------------------------------- plans
def usable(flavour: str) -> bool:
    """Whether plans of a flavour can be built here; says why not."""
    try:
        library(flavour)
        if flavour == "trt":
            card()
        return True
    except BackendUnavailable as error:
        print(f"{FLAVOURS[flavour]}: no plans: {error}")
        return False


def build_plans(folder: Path, manifest: Manifest, files: dict[str, TypedFile], options: Options) -> list[str]:
    """Build, or find in the cache, every plan that can be built here; returns the names of those that failed."""
    failed = []
    for flavour in options.flavours:
        if not usable(flavour):
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
            done = "built" if plan.built else "was there"
            kept = plan.path if plan.kept else "not kept"
            print(f"{row}  {len(plan.data) / 1e6:8.2f} MB  {done} in {time.perf_counter() - begin:.1f} s  {kept}")
    return failed


def run(options: Options) -> list[str]:
    """Derive, build, print; returns what failed."""
    if options.candidates < 1:
        raise ExportError(f"--candidates must be at least 1, got {options.candidates}")
    manifest = Manifest.load(options.bundle)
    table = graphs(manifest.config)
    unknown = sorted(set(options.graphs) - set(table))
    if unknown:
        raise ExportError(f"no graph {', '.join(unknown)}; choose from {', '.join(table)}")
    bundle = options.bundle if options.out is None else copy_bundle(options.bundle, manifest, options.out)
    chosen = {name: graph for name, graph in table.items() if not options.graphs or name in options.graphs}
    try:
        files = derive(bundle, manifest, chosen, options)
    except PermissionError as error:
        raise ExportError(f"{bundle} cannot be written to ({error}); give --out DIR for a copy of it") from error
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
        print(f"error: no plan of {', '.join(failed)}: the reasons are above", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
