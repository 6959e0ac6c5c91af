"""`python -m runtime.doctor`: versions, which backends work and why others do not, and the bundle's self-test."""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engines.backends import availability
from engines.contract import graphs
from engines.manifest import MINI
from engines.selftest import compare, summarise
from runtime.bundle import Bundle
from runtime.errors import MaskVATError
from runtime.infer import guarded

PACKAGES = ("numpy", "av", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx")


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def examine(folder: Path, backend: str) -> None:
    """Print the examination; raises MaskVATError where the bundle does not work."""
    print(f"python {platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        print(f"  {name:16} {package_version(name)}")
    print("backends")
    for name, reason in availability().items():
        print(f"  {name:16} {'installed' if reason is None else reason}")
    bundle = Bundle(folder, backend)
    print(f"bundle {bundle.manifest.name} in {bundle.folder}: every file is what the manifest says")
    for warning in bundle.warnings:
        print(f"warning: {warning}")
    print(f"testing it on backend {bundle.backend}")
    expected = bundle.manifest.self_test
    if not expected:
        raise MaskVATError("the manifest holds no self-test; write the bundle again with `python -m export`")
    engines = {bundle.file_for(graph): bundle[graph] for graph in graphs(bundle.config)}
    verdicts = compare(expected, summarise(engines, bundle.config))
    for file, problem in verdicts.items():
        print(f"  {file:20} {engines[file].backend:36} {'ok' if problem is None else problem}")
    for weights in bundle.manifest.weights:
        if not weights.trained:
            print(f"  note: {weights.role} is untrained")
    failed = [file for file, problem in verdicts.items() if problem is not None]
    if failed:
        raise MaskVATError(
            f"the self-test failed for {', '.join(failed)}; try another --backend or reinstall the bundle"
        )
    print("self-test passed")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime.doctor", description=__doc__)
    parser.add_argument("--engines", type=Path, default=MINI, help="bundle (default: the one that is shipped)")
    parser.add_argument("--backend", default="auto", help="backend to test (default: auto)")
    args = parser.parse_args(argv)
    return guarded(lambda: examine(args.engines, args.backend), debug=False)


if __name__ == "__main__":
    sys.exit(main())
