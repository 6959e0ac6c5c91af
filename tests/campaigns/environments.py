"""`python -m tests.campaigns.environments`: the command in other environments, and the wheels of other systems.

It makes virtual environments with every Python from 3.11 to 3.14 that is found here, and with the oldest and the newest
packages that pyproject.toml allows; asks pip whether wheels exist for other systems; runs mypy for them; and runs the
command with little memory, few files, a full disk, without HOME and the like. Every row of the table is "works", a
refusal in one line if that is allowed, "not here", "not supported", or a fault. The exit status is 1 if there is a
fault. The last line is JSON. Needs Linux, root (for the full disk and the other user), and a package index.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.campaigns import report
from tests.support.paths import ROOT

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OLDEST = {"numpy": "2.0.0", "av": "18.0.0", "onnxruntime": "1.24.1"}  # the lower bounds of pyproject.toml
SYSTEMS = {
    "Windows x86-64": ("win_amd64",),
    "macOS arm64": ("macosx_14_0_arm64",),
    "macOS x86-64": ("macosx_14_0_x86_64",),
    "Linux aarch64": ("manylinux_2_28_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64"),
}
UNSUPPORTED = {"macOS x86-64": "ONNX Runtime has no wheels for it since 1.24"}
WORKS, ONE_LINE, NOT_HERE, NOT_SUPPORTED, FAULT = "works", "refused in one line", "not here", "not supported", "FAULT"
ODD = "a b'c\"d$e`f\\g;h&i|j*k?l[m]n{o}p~q#r%s!t\nu\tv-ä日\u202e🎬(w)"
SECONDS = 900


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    environment: str
    result: str
    detail: str = ""


@dataclass(frozen=True)
class Place:
    """A clip and a bundle, and a folder for everything else."""

    folder: Path
    clip: Path
    bundle: Path


def call(line: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, **options)  # type: ignore[call-overload]


def requirements() -> list[str]:
    """What the lean extra needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["cpu"]]


# ---------------------------------------------------------------- Pythons and packages
def interpreters() -> dict[str, Path]:
    """Version -> interpreter, for those on the path and those of pyenv."""
    found = {}
    for version in PYTHONS:
        places = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        on_path = shutil.which(f"python{version}")
        if places or on_path:
            found[version] = places[-1] if places else Path(str(on_path))
    return found


def in_venv(name: str, python: Path, packages: Sequence[str], place: Place) -> Row:
    """Install packages into a virtual environment and run the README's command and `runtime.doctor` in it."""
    venv = place.folder / name.replace(" ", "-")
    made = call([str(python), "-m", "venv", str(venv)])
    mine = str(venv / "bin" / "python")
    if made.returncode == 0:
        made = call([mine, "-m", "pip", "install", "-q", "--no-compile", "--only-binary=:all:", *packages])
    if made.returncode != 0:
        return Row(name, FAULT, _last(made.stderr))
    outputs = ["-o", str(venv / "out.wav"), "--mux", str(venv / "out.mp4")]
    done = call([mine, "-m", "runtime.infer", str(place.clip), *outputs, "--steps", "2"], cwd=ROOT)
    if done.returncode == 0:
        done = call([mine, "-m", "runtime.doctor"], cwd=ROOT)
    listed = call([mine, "-m", "pip", "list", "--format", "freeze"]).stdout
    versions = re.findall(r"^(?:numpy|av|onnxruntime)==.*$", listed, re.MULTILINE)
    shutil.rmtree(venv)
    detail = ", ".join([f"Python {_version(python)}", *versions])
    return Row(
        name, WORKS if done.returncode == 0 else FAULT, detail + ("" if not done.returncode else _last(done.stderr))
    )


def venvs(place: Place) -> Iterator[Row]:
    pythons = interpreters()
    for version in PYTHONS:
        if version in pythons:
            yield in_venv(f"Python {version}, newest packages", pythons[version], ["-U", *requirements()], place)
        else:
            yield Row(f"Python {version}, newest packages", NOT_HERE)
    oldest = [f"{name}=={version}" for name, version in OLDEST.items()]
    first = next(iter(pythons.values()), Path(sys.executable))
    yield in_venv("oldest packages", first, oldest, place)


def wheels(place: Place) -> Iterator[Row]:
    """Whether pip finds wheels of everything, for every system and Python."""
    here = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")
    for system, tags in {"Linux x86-64": here, **SYSTEMS}.items():
        for version in PYTHONS:
            options = [word for tag in tags for word in ("--platform", tag)]
            where = ["--only-binary=:all:", "--target", str(place.folder / "none"), "--python-version", version]
            line = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", *where, *options]
            done = call([*line, *requirements()])
            found = re.findall(r"Would install (.*)", done.stdout)
            name = f"wheels for {system}, Python {version}"
            kept = [p for p in (found or [""])[0].split() if re.match(r"(numpy|av|onnxruntime)-", p)]
            if found:
                yield Row(name, WORKS, ", ".join(kept))
            elif system in UNSUPPORTED:
                yield Row(name, NOT_SUPPORTED, UNSUPPORTED[system])
            else:
                yield Row(name, FAULT, _last(done.stderr))


def types(place: Place) -> Iterator[Row]:
    for platform in ("linux", "win32", "darwin"):
        cache = str(place.folder / f"mypy-{platform}")
        done = call([sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", cache], cwd=ROOT)
        yield Row(f"mypy for {platform}", WORKS if done.returncode == 0 else FAULT, _last(done.stdout))


# ---------------------------------------------------------------- the command in odd places
def command(
    place: Place,
    name: str,
    clip: Path | None = None,
    out: Path | None = None,
    may_refuse: str = "",
    before: Callable[[], None] | None = None,
    prefix: Sequence[str] = (),
    **environment: str | None,
) -> Row:
    """Run the command on tiny engines. It works, or, if `may_refuse` is given, ends with one line that matches it."""
    clip = clip or place.clip
    target = out or Path(tempfile.mkdtemp(dir=place.folder))
    target.chmod(0o777) if out is None else None
    outputs = ["-o", str(target / "out.wav"), "--mux", str(target / "out.mp4"), "--report", str(target / "out.json")]
    line = [sys.executable, "-m", "runtime.infer", str(clip), *outputs, "--engines", str(place.bundle), "--steps", "2"]
    variables = {k: v for k, v in (os.environ | {"PYTHONPATH": str(ROOT)} | environment).items() if v is not None}
    done = call([*prefix, *line, "--backend", "cpu"], cwd=place.folder, env=variables, preexec_fn=before)
    left = sorted(p.name for p in target.iterdir())
    if done.returncode == 0 and left == ["out.json", "out.mp4", "out.wav"]:
        return Row(name, WORKS)
    right = done.returncode == 1 and not left and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    if may_refuse and right and re.search(may_refuse, done.stderr):
        return Row(name, ONE_LINE, done.stderr.strip().replace(str(place.folder), "")[:200])
    return Row(name, FAULT, f"status {done.returncode}, {left}: {_last(done.stderr)}")


def limited(kind: int, amount: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (amount, amount))


# Another user, who may read everything (Python may lie in the home of root), but writes only where it is allowed.
READS = "+dac_read_search"
NOBODY = (
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    f"--inh-caps={READS}",
    f"--ambient-caps={READS}",
)


def processes(place: Place) -> Iterator[Row]:
    """The command with other variables, limits, users and names."""
    yield command(place, "LANG=C", LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    yield command(place, "no HOME", HOME=None)
    yield command(place, "as another user than root", prefix=NOBODY)
    locked = place.folder / "locked"
    locked.mkdir(mode=0o555)
    yield command(place, "HOME and TMPDIR that are read-only", prefix=NOBODY, HOME=str(locked), TMPDIR=str(locked))
    yield command(place, "HOME and TMPDIR that do not exist", HOME="/nowhere", TMPDIR="/nowhere")
    yield command(place, "ulimit -n 64", before=limited(resource.RLIMIT_NOFILE, 64))
    yield command(place, "ulimit -n 16", before=limited(resource.RLIMIT_NOFILE, 16), may_refuse="open files|cannot")
    for megabytes in (8192, 4096, 1024, 512, 256):
        name, limit = f"ulimit -v {megabytes * 1024}", limited(resource.RLIMIT_AS, megabytes << 20)
        yield command(place, name, before=limit, may_refuse="memory")
    odd = place.folder / ODD
    odd.mkdir()
    odd.chmod(0o777)
    clip = Path(shutil.copy(place.clip, odd / f"{ODD}.mp4"))
    made = odd / "out"
    made.mkdir()
    yield command(place, "names with blanks, quotes, a line break, emoji and the like", clip=clip, out=made)
    plain = Path(os.fsdecode(os.fsencode(place.folder / "latin") + b"\xe4.mp4"))
    shutil.copy(place.clip, plain)
    yield command(place, "a clip whose name is not UTF-8", clip=plain)
    yield from full_disks(place)


def full_disks(place: Place) -> Iterator[Row]:
    """Outputs on small file systems in memory, and on one that is read-only."""
    for kilobytes in (8, 100, 180):
        disk = place.folder / f"disk{kilobytes}"
        disk.mkdir()
        name = f"a disk with {kilobytes} kB"
        mounted = call(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)])
        if mounted.returncode:
            yield Row(name, NOT_HERE, _last(mounted.stderr))
            continue
        try:
            yield command(place, name, out=disk, may_refuse="the disk is full; free some space")
            if kilobytes == 8:
                call(["mount", "-o", "remount,ro", str(disk)])
                yield command(place, "a read-only disk", out=disk, may_refuse="Read-only file system|no permission")
        finally:
            call(["umount", str(disk)])


# ---------------------------------------------------------------- the table
def _version(python: Path) -> str:
    return call([str(python), "-c", "import platform; print(platform.python_version())"]).stdout.strip()


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:300]


PARTS = {"processes": processes, "types": types, "wheels": wheels, "venvs": venvs}


def make_place(folder: Path) -> Place:
    """A clip of one second and tiny engines, made by another process, so that this one stays small."""
    code = (
        "import sys; from pathlib import Path; from tests.support.media import *; "
        "from tests.support.fake_engines import *; f = Path(sys.argv[1]); "
        "write_video(f / 'clip.mp4', Picture(steady(25, 25))); "
        "write_bundle(f / 'bundle', FakeBundle(small_config(), self_test=True))"
    )
    made = call([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    if made.returncode:
        raise SystemExit(f"error: the clip and the bundle could not be written:\n{made.stderr}")
    folder.chmod(0o755)
    return Place(folder, folder / "clip.mp4", folder / "bundle")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.environments", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what to try (default: all)"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = make_place(Path(temporary))
        for part in args.parts:
            for row in PARTS[part](place):
                rows.append(row)
                print(f"{row.result}: {row.environment}; {row.detail}", file=sys.stderr, flush=True)
    faults = [row for row in rows if row.result == FAULT]
    print(f"{len(faults)} faults in {len(rows)} environments")
    report.finish("environments", {"faults": len(faults), "rows": [asdict(row) for row in rows]}, args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
