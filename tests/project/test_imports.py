"""Who may import whom, and that importing does nothing else; an environment with the `cpu` extra only is enough."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

OURS = ("engines", "runtime", "train", "export", "benchmarks", "tests")
SHARED = ("runtime.decode", "runtime.video", "runtime.audio", "runtime.mux")  # exist once, for training and export too


@dataclass(frozen=True)
class Rule:
    """What a package may import: modules of ours by prefix, and packages of others (None: any)."""

    ours: tuple[str, ...]
    others: frozenset[str] | None = None


RULES = {
    "engines": Rule(("engines",), frozenset({"numpy"})),
    "runtime": Rule(("engines", "runtime"), frozenset({"numpy", "av"})),
    "train": Rule(("train", "engines.contract", *SHARED)),
    "export": Rule(("export", "train", "engines", *SHARED)),
    "benchmarks": Rule(("benchmarks", "engines", "runtime", "train", "export")),
}
LAZY = {  # backends, inside functions of one file only
    "engines/cuda.py": frozenset({"cuda"}),
    "engines/ort.py": frozenset({"onnxruntime"}),
    "engines/plan_build.py": frozenset({"tensorrt", "tensorrt_rtx", "cuda"}),
}


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    lazy: bool  # inside a function


def imports(tree: ast.AST, lazy: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield Import("." * node.level, node.lineno, lazy)
            elif node.module in OURS:  # `from runtime import video`
                yield from (Import(f"{node.module}.{alias.name}", node.lineno, lazy) for alias in node.names)
            else:
                yield Import(str(node.module), node.lineno, lazy)
        else:
            yield from imports(node, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


def verdict(found: Import, path: str, rule: Rule) -> str | None:
    """What is wrong with an import, None where it is allowed."""
    top = found.module.split(".")[0]
    if found.module.startswith("."):
        return "relative imports are not used here"
    if top in OURS:
        allowed = any(found.module == p or found.module.startswith(p + ".") for p in rule.ours)
        return None if allowed else f"{found.module} is not among {', '.join(rule.ours)}"
    if top in sys.stdlib_module_names or rule.others is None or top in rule.others:
        return None
    if top in LAZY.get(path, ()):
        return None if found.lazy else f"{top} may only be imported inside a function"
    return f"{top} is not among {', '.join(sorted(rule.others))}"


def complaints(source: str, path: str) -> list[str]:
    rule = RULES[path.split("/")[0]]
    found = [(i, verdict(i, path, rule)) for i in imports(ast.parse(source))]
    return [f"{path}:{i.line}: {problem}" for i, problem in found if problem]


@pytest.mark.parametrize("package", RULES)
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
        ("train/fit.py", "import export"),
        ("train/fit.py", "from runtime import pipeline"),
        ("train/fit.py", "from engines.manifest import Manifest"),
        ("export/graphs.py", "import runtime.pipeline"),
        ("export/graphs.py", "from tests import media"),
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
    return [f"{package}.{p.stem}" for p in sorted((ROOT / package).glob("*.py")) if p.stem != "__init__"]


@pytest.mark.parametrize("names", [["runtime"], [*modules("engines"), *modules("runtime")]], ids=["runtime", "all"])
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


# ---------------------------------------------------------------- a lean environment
LEAN_MB, OURS_MB = 280, 1
TOOLS = ("pip", "setuptools", "wheel", "_distutils_hack", "distutils-precedence", "pkg_resources")
ABSENT = ("torch", "onnx", "transformers", "safetensors", "tensorrt", "scipy", "pytest")


def copy_of_the_project(target: Path) -> Path:
    """What a build needs; building in place would leave folders in the checkout."""
    target.mkdir()
    for name in [*RULES, "pyproject.toml", "README.md", "LICENSE", "CREDITS.md"]:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    return target


def size(path: Path, bytecode: bool = True) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file() and (bytecode or p.suffix != ".pyc"))


@pytest.mark.slow
def test_the_cpu_extra_is_enough(tmp_path: Path, bundles: Callable[..., Path], clip: Callable[..., Path]) -> None:
    """In a new virtual environment: install, examine, make a sound, and weigh it. Needs a package index."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    project = copy_of_the_project(tmp_path / "project")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*arguments: str | Path) -> str:
        result = subprocess.run(
            [python, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run("-m", "pip", "install", "--quiet", f"{project}[cpu]")
    found = run("-c", f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])")
    assert found.strip() == "[]"

    mini, example = ROOT / "engines" / "mini", ROOT / "examples" / "bounce.mp4"
    engines = [] if (mini / "manifest.json").exists() else ["--engines", str(bundles())]
    film = example if example.exists() else clip()
    assert "self-test passed" in run("-m", "runtime.doctor", *engines)
    run("-m", "runtime.infer", film, "-o", "sound.wav", "--steps", "4", *engines)
    assert (tmp_path / "sound.wav").stat().st_size > 44

    packages = Path(run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    sizes = {p.name: size(p) for p in packages.iterdir() if not p.name.startswith(TOOLS)}
    bundle = size(packages / "engines" / "mini")
    lean = sum(sizes.values()) - bundle
    ours = sum(size(packages / name, bytecode=False) for name in RULES) - bundle  # what we ship
    print(f"lean environment {lean / 1e6:.1f} MB, of which our code {ours / 1e6:.2f} MB")
    assert lean <= LEAN_MB * 1e6, sizes
    assert ours <= OURS_MB * 1e6
