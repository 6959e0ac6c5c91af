"""Export a system to a bundle of ONNX graphs, and verify it.

The bundle is built in a temporary folder beside OUT and moved to OUT at the end, so OUT never holds half a bundle.
"""

import logging
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path

from engines.contract import IR_VERSION, OPSET, Graph, ModelConfig, graphs
from engines.manifest import BundleFile, Manifest, Weights, sha256
from engines.ort import OrtEngine
from engines.selftest import summarise
from engines.words import tokeniser, vocabulary
from engines.words.vocabulary import Vocabulary
from export import ExportError
from train.extras import requires_extra

with requires_extra("export", __name__):
    from torch import nn

    from export.graphs import check_agreement, graph_modules
    from export.int8 import quantise
    from export.onnx_export import export_graph, save, share_constants, store_half
    from export.verify import Parity, verify
    from export.words import vocabulary_vectors, write_tokeniser
    from train.checkpoint import COMPONENTS, OPTIONAL, load, read_meta

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
SHARED = "step.weights"  # the file of constants that both steps have
Files = dict[str, BundleFile]
log = logging.getLogger("export")


@dataclass(frozen=True)
class Options:
    """Options of one export."""

    checkpoint: Path
    out: Path
    precision: str = "fp16"
    int8: bool = False
    name: str = ""
    overwrite: bool = False
    keep: bool = False
    words: Path | None = None


def load_components(folder: Path) -> dict[str, nn.Module]:
    """Load every component of a system. Raises ExportError if one is missing (the text encoder may be)."""
    if not (folder / "meta.json").is_file():
        raise ExportError(f"{folder} is not a checkpoint: it has no meta.json; give the folder that training wrote")
    have = read_meta(folder)["components"]
    missing = [name for name in COMPONENTS if name not in have]
    if missing:
        raise ExportError(f"{folder} lacks the components {', '.join(missing)}; train or import them into it first")
    return {name: load(folder, name) for name in COMPONENTS + OPTIONAL if name in have}


def provenance(folder: Path) -> tuple[Weights, ...]:
    """The provenance of the weights in meta.json, as entries for the manifest."""
    known, components = COMPONENTS + OPTIONAL, read_meta(folder)["components"]
    entries = {name: meta["provenance"] for name, meta in components.items() if name in known}
    return tuple(
        Weights(
            role=role,
            name=str(p["name"]),
            trained=bool(p["trained"]),
            licence=str(p["code_licence"]),
            data_licence=str(p["data_licence"]),
            origin=str(p["origin"]),
            distilled_guidance=float(p.get("distilled_guidance", 0)),
        )
        for role, p in entries.items()
    )


def check_out(options: Options) -> None:
    """Raise ExportError unless OUT does not exist, or is a bundle that may be replaced."""
    out = options.out
    if not out.exists():
        return
    if not options.overwrite:
        raise ExportError(f"{out} exists; choose another folder, or replace it with --overwrite")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "manifest.json").is_file()):
        raise ExportError(f"{out} is not a bundle, so --overwrite does not replace it; choose another folder")


# ---------------------------------------------------------------- the bundle
def write_graphs(options: Options, modules: dict[str, nn.Module], graph_table: dict[str, Graph], folder: Path) -> Files:
    """Export every graph into `folder`; return the entries of the manifest. An int8 step comes after the other step."""
    files: Files = {}
    for name, graph in graph_table.items():
        log.info("exporting %s", name)
        model = export_graph(modules[name], graph)
        variants = [(f"{name}.onnx", options.precision, model)]
        if options.int8 and name == "step":
            variants.append((f"{name}.int8.onnx", "int8", quantise(model)))
        if options.precision == "fp16":
            store_half(model, name)
        shared = share_constants([content for *_, content in variants], folder / SHARED) if len(variants) > 1 else []
        files |= {path.name: entry(path, options.precision) for path in shared}
        for file, precision, content in variants:
            for i, path in enumerate(save(content, folder / file)):
                files[path.name] = entry(path, precision, name if i == 0 else "")
    return files


def parity_for_manifest(files: Files, parities: dict[str, Parity]) -> dict[str, dict[str, object]]:
    """`parity` of the manifest: graph -> precision -> numbers. Infinity becomes null, because JSON has no infinity."""
    table: dict[str, dict[str, object]] = {}
    for file, parity in parities.items():
        numbers = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in parity.numbers.items()}
        table.setdefault(files[file].graph, {})[files[file].precision] = numbers
    return table


def report(files: Files, parities: dict[str, Parity]) -> str:
    """The parity table: graph, file, MB, parity and verdict, one line per file."""
    lines = [f"{'graph':14} {'file':22} {'MB':>8}  {'parity':56} verdict"]
    for file, entry in files.items():
        parity = parities.get(file)
        numbers = {} if parity is None else {k: v for k, v in parity.numbers.items() if isinstance(v, float)}
        text = ", ".join(f"{k} {v:.4f}" if k.endswith("equal") else f"{k} {v:.1e}" for k, v in numbers.items())
        verdict = "" if parity is None else "; ".join(parity.failures) or "ok"
        lines.append(f"{entry.graph:14} {file:22} {entry.bytes / 1e6:8.2f}  {text:56} {verdict}")
    return "\n".join(lines)


def move_to_out(folder: Path, options: Options) -> None:
    """Move the finished folder to OUT. An old bundle is removed, or restored if the move fails."""
    out = options.out
    if not out.exists():
        os.replace(folder, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    os.replace(out, old / out.name)
    try:
        os.replace(folder, out)
    except OSError:
        os.replace(old / out.name, out)
        raise
    finally:
        shutil.rmtree(old)


def bundle_config(components: dict[str, nn.Module]) -> ModelConfig:
    """The transformer's configuration, with what checkpoints do not store: the contexts of two other components."""
    text = components["text_encoder"].context if "text_encoder" in components else 0
    return replace(components["maskvat"].config, sync_context=components["sync_encoder"].context, text_context=text)


def entry(path: Path, precision: str, graph: str = "") -> BundleFile:
    return BundleFile(graph, precision, path.stat().st_size, sha256(path))


def write_words(options: Options, components: dict[str, nn.Module], folder: Path) -> Files:
    """Write the vocabulary, and the tokeniser if there is a text encoder; return their entries of the manifest."""
    path = folder / vocabulary.FILE
    vocabulary.write_vocabulary(path, vocabulary_vectors(components, options.words), options.precision)
    files = {path.name: entry(path, options.precision)}
    if "text_encoder" in components:
        path = folder / tokeniser.FILE
        write_tokeniser(path, components["text_encoder"].config)
        files[path.name] = entry(path, "")
    return files


def build(options: Options, components: dict[str, nn.Module], folder: Path) -> dict[str, Parity]:
    """Write graphs and manifest into `folder`, verify them, and print the parity table."""
    config = bundle_config(components)
    table = graphs(config)
    files = write_graphs(options, graph_modules(components, fold=True), table, folder)
    words = write_words(options, components, folder)
    log.info("verifying")
    parities = verify(folder, files, config, graph_modules(components))
    engines = {file: OrtEngine(folder / file, table[e.graph], "cpu") for file, e in files.items() if e.graph}
    Manifest(
        name=options.name or options.out.resolve().name,
        config=config,
        files=files | words,
        vocabulary=vocabulary.FILE,
        tokeniser=tokeniser.FILE if tokeniser.FILE in words else "",
        built_with={p: version(p) for p in PACKAGES} | {"opset": OPSET, "ir_version": IR_VERSION},
        parity=parity_for_manifest(files, parities),
        self_test=summarise(engines, config),
        weights=provenance(options.checkpoint),
    ).save(folder)
    Manifest.load(folder)  # check that the manifest and the words can be read again
    Vocabulary.load(folder / vocabulary.FILE, config)
    print(report(files, parities))
    return parities


def run(options: Options) -> bool:
    """Export and verify; return whether all files are within their limits. Writes OUT in that case, or with `keep`."""
    check_out(options)
    components = load_components(options.checkpoint)
    check_agreement(components)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{options.out.name}.part-", dir=options.out.parent))
    try:
        folder.chmod(0o755)  # mkdtemp makes a private folder
        within_limits = not any(p.failures for p in build(options, components, folder).values())
        if within_limits or options.keep:
            move_to_out(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return within_limits
