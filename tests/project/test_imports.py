"""Import rules of every folder. Imports have no side effects, and `runtime` needs only the `cpu` extra."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

OURS = ("engines", "runtime", "train", "export", "benchmarks", "deploy", "tests")
MEDIA = (
    "runtime.audio",
    "runtime.decode",
    "runtime.errors",
    "runtime.deliver.mux",
    "runtime.video",
)  # shared by all packages
CONTRACT = ("engines.contract", "engines.length_adapter")
TRAIN = (
    "train.checkpoint",
    "train.distributed",
    "train.errors",
    "train.extras",
    "train.parent_process",
    "train.recipe",
)  # shared inside `train`


MEASURED = ("engines", "runtime", "train", "export")  # a benchmark may import these, but no other benchmark


@dataclass(frozen=True)
class Rule:
    """Imports that a folder may use: our modules by prefix, and third-party packages (None: any)."""

    ours: tuple[str, ...]
    others: frozenset[str] | None = None


RULES = {  # folder -> rule; the innermost folder of a file counts
    "engines": Rule(("engines",), frozenset({"numpy"})),
    "runtime": Rule(("engines", "runtime"), frozenset({"numpy", "av"})),
    "runtime/serve": Rule(
        ("engines", "runtime"),
        frozenset({"starlette", "uvicorn", "h11", "python_multipart", "prometheus_client"}),
    ),
    "train": Rule(("train", *CONTRACT, "engines.locks", *MEDIA)),
    "train/models": Rule(("train.models", *CONTRACT, *MEDIA)),
    "train/loop": Rule(("train.loop", *TRAIN, *MEDIA)),
    "train/data": Rule(("train.data", *TRAIN, *CONTRACT, *MEDIA)),
    "train/metrics": Rule(("train.metrics", "train.models", *TRAIN, *MEDIA)),
    "train/synthetic": Rule(
        ("train.synthetic", "train.extras", "train.parent_process", *CONTRACT, *MEDIA),
        frozenset({"numpy", "av", "mujoco", "skimage", "sklearn"}),
    ),
    "train/prepare": Rule(("train.prepare", "train.data", "train.models", *TRAIN, *CONTRACT, *MEDIA)),
    "train/evaluate": Rule(
        ("train.evaluate", "train.metrics", "train.data", "train.models", "train.prepare.clip_lists", *TRAIN, *MEDIA)
    ),
    "train/listen": Rule(("train.listen", "train.evaluate", "train.metrics", *TRAIN, *MEDIA)),
    "export": Rule(("export", "train", "engines", *MEDIA)),
    "benchmarks": Rule(("benchmarks.common", *MEASURED)),
    **{
        f"benchmarks/{name}": Rule((f"benchmarks.{name}", "benchmarks.common", *MEASURED))
        for name in ("codec", "common", "concept_probe", "latency", "meaning", "motion_probe", "scaling", "scenes")
    },
    # runs the others, and measures with their code
    "benchmarks/card": Rule(("benchmarks.card", "benchmarks.latency", "benchmarks.common", *MEASURED)),
    "deploy": Rule(
        ("deploy", "engines", "runtime", "benchmarks.common"), frozenset({"cyclonedx", "license_expression"})
    ),
    "plugins/comfyui": Rule(("runtime",), frozenset({"numpy", "torch"})),  # what ComfyUI's Python has
    "plugins/resolve": Rule((), frozenset()),  # Resolve's Python has the standard library only
}
LAZY = {  # these may be imported inside functions of one file only
    "engines/cuda.py": frozenset({"cuda"}),
    "engines/ort.py": frozenset({"onnxruntime"}),
    "engines/plan_build.py": frozenset({"tensorrt", "tensorrt_rtx", "cuda"}),
    "runtime/commands/completion.py": frozenset({"shtab"}),
}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    lazy: bool  # inside a function


def is_package(module: str) -> bool:
    return (ROOT / module.replace(".", "/")).is_dir()


def imports(tree: ast.AST, lazy: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield Import("." * node.level, node.lineno, lazy)
            elif (
                node.module and node.module.split(".")[0] in OURS and is_package(node.module)
            ):  # `from runtime import video`
                yield from (Import(f"{node.module}.{alias.name}", node.lineno, lazy) for alias in node.names)
            else:
                yield Import(str(node.module), node.lineno, lazy)
        else:
            yield from imports(node, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def verdict(found: Import, path: str, rule: Rule) -> str | None:
    """The problem of an import; None if it is allowed."""
    top = found.module.split(".")[0]
    if found.module.startswith("."):
        return "relative imports are not used here"
    if "__main__" in found.module:
        return "a command is not imported; move what it shares to a module"
    if top in OURS:
        allowed = any(found.module == p or found.module.startswith(p + ".") for p in rule.ours)
        return None if allowed else f"{found.module} is not among {', '.join(rule.ours)}"
    if top in sys.stdlib_module_names or rule.others is None or top in rule.others:
        return None
    if top in LAZY.get(path, ()):
        return None if found.lazy else f"{top} may only be imported inside a function"
    return f"{top} is not among {', '.join(sorted(rule.others))}"


def complaints(source: str, path: str) -> list[str]:
    rule = RULES[max((folder for folder in RULES if path.startswith(folder + "/")), key=len)]
    found = [(i, verdict(i, path, rule)) for i in imports(ast.parse(source))]
    return [f"{path}:{i.line}: {problem}" for i, problem in found if problem]


@pytest.mark.parametrize("package", [f for f in RULES if "/" not in f or f.startswith("plugins/")])
def test_import_rules(package: str) -> None:
    problems = []
    for path in sorted((ROOT / package).rglob("*.py")):
        problems += complaints(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engines/contract.py", "import av"),
        ("engines/contract.py", "import onnxruntime"),
        ("engines/manifest.py", "def f():\n    import onnxruntime"),
        ("engines/ort.py", "import onnxruntime"),
        ("engines/ort.py", "class A:\n    import onnxruntime"),
        ("engines/ort.py", "from runtime import video"),
        ("runtime/video.py", "if True:\n    from torch import nn"),
        ("runtime/infer.py", "def f():\n    import onnxruntime"),
        ("runtime/infer.py", "from train.models.maskvat import MaskVAT"),
        ("runtime/infer.py", "from . import video"),
        ("runtime/infer.py", "def f():\n    import starlette"),
        ("runtime/serve/app.py", "import numpy"),
        ("train/fit.py", "import export"),
        ("train/fit.py", "from runtime import pipeline"),
        ("train/fit.py", "from engines.manifest import Manifest"),
        ("export/graphs.py", "import runtime.pipeline"),
        ("export/graphs.py", "from tests.support import media"),
        ("train/models/maskvat.py", "from train.loop.trainer import fit"),
        ("train/loop/trainer.py", "from train.models.maskvat import MaskVAT"),
        ("train/loop/trainer.py", "from train.tasks import maskvat"),
        ("train/loop/trainer.py", "from train.metrics import onsets"),
        ("train/data/dataset.py", "from train.tasks.maskvat_objective import Terms"),
        ("train/synthetic/mp4.py", "import torch"),
        ("train/tasks/maskvat.py", "from train.prepare import __main__"),
        ("benchmarks/latency/session.py", "from benchmarks.latency.__main__ import main"),
        ("benchmarks/latency/quality.py", "from benchmarks import scan"),
        ("benchmarks/fit.py", "from benchmarks.latency.subjects import Subject"),
        ("benchmarks/common/report.py", "from benchmarks.scenes import tables"),
        ("deploy/sbom.py", "import numpy"),
        ("deploy/app/build.py", "from tests.support import paths"),
        ("plugins/resolve/MaskVAT.py", "import numpy"),
        ("plugins/resolve/MaskVAT.py", "def f():\n    import runtime"),
        ("plugins/comfyui/__init__.py", "from engines import contract"),
        ("plugins/comfyui/__init__.py", "from .nodes import NODES"),
    ],
)
def test_the_rules_see_what_is_forbidden(path: str, source: str) -> None:
    assert len(complaints(source, path)) == 1


def test_the_rules_see_what_is_allowed() -> None:
    assert not complaints("import json, numpy as np\nfrom engines.base import Engine", "engines/ort.py")
    assert not complaints("def f():\n    import onnxruntime as ort", "engines/ort.py")
    assert not complaints("import av.audio\nfrom engines import contract", "runtime/audio.py")
    assert not complaints("import torch\nfrom runtime import video\nimport engines.contract", "train/fit.py")


# ---------------------------------------------------------------- what an import does
PROBE = """
import json, logging, os, signal, sys, threading
import av, numpy as np

def state():
    return {
        "threads": threading.active_count(), "folder": os.getcwd(), "files": sorted(os.listdir()),
        "environment": dict(os.environ), "path": list(sys.path), "handlers": len(logging.root.handlers),
        "level": logging.root.level, "interrupt": str(signal.getsignal(signal.SIGINT)),
        "errors": np.geterr(), "random": str(np.random.get_state()), "av": av.logging.get_level(),
    }

before = state()
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
heavy = ["torch", "onnxruntime", "onnx", "cuda", "tensorrt", "tensorrt_rtx", "transformers", "train", "export", "tests"]
changed = [k for k in before if before[k] != after[k]]
print(json.dumps({"loaded": [n for n in heavy if n in sys.modules], "changed": changed}))
"""


def modules(package: str) -> list[str]:
    return [
        f"{package.replace('/', '.')}.{p.stem}" for p in sorted((ROOT / package).glob("*.py")) if p.stem != "__init__"
    ]


@pytest.mark.parametrize(
    "names",
    [["runtime"], [*modules("engines"), *modules("engines/words"), *modules("runtime")]],
    ids=["runtime", "all"],
)
def test_an_import_loads_no_framework_and_has_no_side_effect(names: list[str], tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE, *names],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == {"loaded": [], "changed": []}
    assert result.stderr == ""
