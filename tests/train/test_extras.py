"""Commands whose extra is missing say in one line what to install. Packages are hidden, not removed."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from train.extras import requires_extra

WITHOUT = """
import ctypes, runpy, sys

hidden, module, sys.argv = sys.argv[1], sys.argv[2], sys.argv[2:]

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def no_opengl(self, name, *rest, own=ctypes.CDLL.__init__, **options):
    if hidden == "EGL" and name and "EGL" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    own(self, name, *rest, **options)

sys.meta_path.insert(0, Hidden())
ctypes.CDLL.__init__ = no_opengl
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def error_without(hidden: str, module: str, *arguments: str) -> str:
    """The stderr of a command, which must fail because a package, or EGL, is hidden."""
    command = [sys.executable, "-c", WITHOUT, hidden, module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("hidden", "module", "name"),
    [
        ("mujoco", "train.synthetic.scenes", "scenes"),
        ("torch", "export", "export"),
        ("onnx", "export.tensorrt", "export"),
        ("torch", "train.adopt", "train"),
        ("torch", "train.fit", "train"),
        ("tqdm", "train.fit", "train"),
        ("torch", "train.prepare", "train"),
        ("torch", "train.evaluate", "bench"),
        ("matplotlib", "train.evaluate", "bench"),
        ("torch", "train.listen", "bench"),
        ("torch", "benchmarks.codec", "bench"),
        ("torch", "benchmarks.fit", "train"),
    ],
)
def test_a_missing_extra_is_one_line(hidden: str, module: str, name: str) -> None:
    expected = f"error: {hidden} is not installed; install it with: pip install '.[{name}]'\n"
    assert error_without(hidden, module, "--help") == expected


def test_pictures_without_matplotlib_are_refused_at_once(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    error = error_without("matplotlib", "benchmarks.sync", str(tmp_path), "--plots", str(tmp_path / "plots"))
    assert error.startswith("error: --plots") and "'.[bench]'" in error and error.count("\n") == 1


@pytest.mark.skipif(find_spec("mujoco") is None, reason="needs the extra scenes")
def test_scenes_without_opengl_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo's own import fails without libEGL."""
    monkeypatch.setenv("MUJOCO_GL", "egl")
    error = error_without(
        "EGL", "train.synthetic.scenes", str(tmp_path / "out"), "--sounds", str(tmp_path), "--clips", "1"
    )
    assert error.startswith("error: MuJoCo cannot draw with MUJOCO_GL=egl") and "libegl1" in error
    assert error.count("\n") == 1


def test_a_missing_module_of_ours_is_no_missing_extra() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match=r"^No module named 'train\.nothing'"),
        requires_extra("bench", "__main__"),
    ):
        import train.nothing  # noqa: F401
