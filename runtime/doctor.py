"""`python -m runtime.doctor`: show versions, which backends work here and why others do not, and run the self-test."""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engines.backends import BACKENDS
from engines.contract import graphs
from engines.manifest import MINI
from runtime.bundle import Bundle
from runtime.commands.crash_guard import run_guarded
from runtime.commands.status import run_command
from runtime.errors import BackendUnavailable, ContractError, EngineError, ManifestError, MaskVATError

PACKAGES = ("numpy", "av", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13", "cuda-bindings")


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def verdict(folder: Path, name: str) -> str:
    """Whether a backend can run the bundle here, in words."""
    reason = BACKENDS[name].unavailable()
    if reason is not None:
        return reason
    try:
        bundle = Bundle(folder, name)
        try:
            bundle.prove()
        finally:
            bundle.close()
    except (BackendUnavailable, ContractError, EngineError, ManifestError) as error:
        return f"does not work here: {error}"
    return "works"


def examine(folder: Path, backend: str, precision: str = "auto") -> None:
    """Print everything. Raises MaskVATError if the bundle does not work."""
    print(f"python {platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        print(f"  {name:18} {package_version(name)}")
    bundle = Bundle(folder, backend, precision=precision)
    print(f"bundle {bundle.manifest.name} in {bundle.folder}: every file is what the manifest says")
    if not bundle.manifest.self_test:
        raise MaskVATError("the manifest holds no self-test; write the bundle again with `python -m export`")
    print(f"vocabulary: {len(bundle.vocabulary.words)} words; free text: {'yes' if bundle.tokeniser else 'no'}")
    print("backends, the preferred one first")
    for name in BACKENDS:
        print(f"  {name:18} {'used' if name == bundle.backend else verdict(folder, name)}")
    choices = BACKENDS[bundle.backend].choices(folder, bundle.manifest)
    print(f"testing the bundle on backend {bundle.backend}, which has step in {', '.join(choices)}")
    verdicts = bundle.self_test(graphs(bundle.config))
    for graph in graphs(bundle.config):
        file = bundle.file_for(graph)
        engine = bundle[graph]
        print(f"  {file:20} {engine.backend:36} {engine.precision:5} {verdicts[file] or 'ok'}")
    for warning in dict.fromkeys(bundle.warnings):
        print(f"  note: {warning}")
    for weights in bundle.manifest.weights:
        if not weights.trained:
            print(f"  note: {weights.role} is untrained")
    failed = [file for file, problem in verdicts.items() if problem is not None]
    if failed:
        raise MaskVATError(
            f"the self-test failed for {', '.join(failed)}; try another --backend or reinstall the bundle"
        )
    print("self-test passed")


def get_doctor_parser(prog: str = "python -m runtime.doctor") -> argparse.ArgumentParser:
    """The command's parser."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument(
        "--engines", type=Path, metavar="FOLDER", default=MINI, help="folder of the bundle (default: the shipped one)"
    )
    parser.add_argument("--backend", default="auto", help="backend to test (default: auto)")
    parser.add_argument("--precision", default="auto", help="precision of the step graph (default: auto)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = "python -m runtime.doctor") -> int:
    args = get_doctor_parser(prog).parse_args(argv)
    return run_command(lambda: examine(args.engines, args.backend, args.precision), debug=False)


if __name__ == "__main__":
    sys.exit(run_guarded(main, debug=False))
