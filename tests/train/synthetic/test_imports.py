"""`train.synthetic` works without PyTorch: none of its modules imports torch, not even through other modules."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCENES = "train.synthetic.scenes"
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "train/synthetic").rglob("*.py")
)
# MuJoCo, which these modules import, is an optional dependency.
NEEDS_MUJOCO = [f"{SCENES}.{name}" for name in ("__main__", "compose", "gl", "physics", "render")]
SCRIPT = """
import importlib, sys
if sys.argv[1] == "--without-mujoco":
    sys.modules["mujoco"] = None
    del sys.argv[1]
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "torch" not in sys.modules, f"{name} imports torch"
"""


def check(modules: list[str]) -> None:
    """Import the modules in a new interpreter and fail if one of them brought torch along."""
    command = [sys.executable, "-c", SCRIPT, *modules]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


def test_modules_without_mujoco_never_import_torch() -> None:
    modules = [name for name in MODULES if name not in NEEDS_MUJOCO]
    assert {"train.synthetic.build", f"{SCENES}.sound", "train.synthetic.drawn.__main__"} <= set(modules)
    check(["--without-mujoco", *modules])


@pytest.mark.skipif(find_spec("mujoco") is None, reason="needs the extra scenes (mujoco)")
def test_modules_with_mujoco_never_import_torch() -> None:
    assert set(NEEDS_MUJOCO) <= set(MODULES)
    check(NEEDS_MUJOCO)


def test_an_import_of_torch_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    command = [sys.executable, "-c", SCRIPT, "torch"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "torch imports torch" in result.stderr
