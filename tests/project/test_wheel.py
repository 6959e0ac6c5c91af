"""The wheel has every module, stays within its size limits, and works with the `cpu` extra alone."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("engines", "runtime", "train", "export")  # benchmarks and tests run in a checkout

LEAN_MB, LEAN_CODE_MB, WHEEL_MB = 285, 1, 3
TOOLS = ("pip", "setuptools", "wheel", "_distutils_hack", "distutils-precedence", "pkg_resources")
ABSENT = ("torch", "onnx", "transformers", "safetensors", "tensorrt", "scipy", "pytest")


def copy_of_the_project(target: Path) -> Path:
    """Copy the files that a build needs. A build in the checkout would leave folders there."""
    target.mkdir()
    for name in [*PACKAGES, "pyproject.toml", "README.md", "LICENSE", "CREDITS.md"]:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    return target


def size(path: Path, bytecode: bool = True) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file() and (bytecode or p.suffix != ".pyc"))


def build_wheel(project: Path, out: Path) -> zipfile.ZipFile:
    """Build a wheel in the same way as `pip install .`. Needs a package index for setuptools."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, project]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    root = tmp_path_factory.mktemp("wheel")
    return build_wheel(copy_of_the_project(root / "project"), root / "dist")


def differences(wheel: zipfile.ZipFile) -> set[str]:
    """Files that only the wheel or only the checkout has."""
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {p.relative_to(ROOT).as_posix() for name in PACKAGES for p in (ROOT / name).rglob("*.py")}
    data = {
        *(f"engines/mini/{p.name}" for p in (ROOT / "engines" / "mini").iterdir() if p.is_file()),
        *(p.relative_to(ROOT).as_posix() for p in (ROOT / "train").rglob("*.toml")),
        "runtime/commands/stdio/schema.json",
        "runtime/py.typed",
        *(p.relative_to(ROOT).as_posix() for p in (ROOT / "runtime" / "serve" / "page").rglob("*") if p.is_file()),
        "train/synthetic/concepts/classes.txt",
        "train/synthetic/concepts/concepts.csv",
        "train/listen/page.html",
    }
    return found ^ (sources | data)


@pytest.mark.slow
def test_the_wheel_holds_the_tree(wheel: zipfile.ZipFile) -> None:
    assert differences(wheel) == set()


@pytest.mark.slow
def test_a_missing_module_is_found(tmp_path: Path) -> None:
    """setuptools leaves out a folder without __init__.py."""
    project = copy_of_the_project(tmp_path / "project")
    (project / "train" / "metrics" / "__init__.py").unlink()
    missing = differences(build_wheel(project, tmp_path / "dist"))
    assert missing == {p.relative_to(ROOT).as_posix() for p in (ROOT / "train" / "metrics").glob("*.py")}


@pytest.mark.slow
def test_the_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    sizes = {i.filename: i.file_size for i in wheel.infolist() if not i.filename.startswith("engines/mini/")}
    code = sum(n for name, n in sizes.items() if name.startswith(("engines/", "runtime/")) and name.endswith(".py"))
    print(f"engines and runtime {code / 1e6:.2f} MB, the wheel without the bundle {sum(sizes.values()) / 1e6:.2f} MB")
    assert code <= LEAN_CODE_MB * 1e6 and sum(sizes.values()) <= WHEEL_MB * 1e6


@pytest.fixture
def lean(tmp_path: Path) -> Path:
    """Python of an environment with the `cpu` extra alone. `.ci/run` has one, from README's first command.

    Without it (MASKVAT_LEAN), it is made here, which needs a package index.
    """
    program = Path("Scripts" if os.name == "nt" else "bin") / "python"
    if made := os.environ.get("MASKVAT_LEAN"):
        return Path(made) / program
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    install = [tmp_path / "env" / program, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, f"{copy_of_the_project(tmp_path / 'project')}[cpu]"], env=outside(), check=True)
    return tmp_path / "env" / program


def outside() -> dict[str, str]:
    """The environment variables, without those that make this checkout importable."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}


@pytest.mark.slow
def test_the_cpu_extra_is_enough(
    lean: Path, tmp_path: Path, bundles: Callable[..., Path], make_video: Callable[..., Path]
) -> None:
    """Run the self-test, make a sound, and measure the size of the environment."""

    def run(*arguments: str | Path) -> str:
        result = subprocess.run(
            [lean, *arguments], cwd=tmp_path, env=outside(), capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    found = run("-c", f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])")
    assert found.strip() == "[]"
    packages = Path(run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for source in [p for name in ("engines", "runtime") for p in (ROOT / name).rglob("*.py")]:
        assert (packages / source.relative_to(ROOT)).read_bytes() == source.read_bytes()  # it is of this checkout

    mini, example = ROOT / "engines" / "mini", ROOT / "examples" / "bounce.mp4"
    engines = [] if (mini / "manifest.json").exists() else ["--engines", str(bundles())]
    video = example if example.exists() else make_video()
    assert "self-test passed" in run("-m", "runtime.doctor", *engines)
    run("-m", "runtime.infer", video, "-o", "sound.wav", "--steps", "4", *engines)
    assert (tmp_path / "sound.wav").stat().st_size > 44

    sizes = {p.name: size(p) for p in packages.iterdir() if not p.name.startswith(TOOLS)}
    bundle = size(packages / "engines" / "mini")
    lean_size = sum(sizes.values()) - bundle
    print(f"lean environment {lean_size / 1e6:.1f} MB")
    assert lean_size <= LEAN_MB * 1e6, sizes
