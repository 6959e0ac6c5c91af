"""The wheels that the machine with the GPU lacks, for its Python and system: downloaded one by one with pip."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.parser import Parser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from benchmarks.common.machine import ROOT
from runtime.errors import OptionError

# pip matches these names exactly, so every older glibc has to be named
PLATFORMS = tuple(
    f"manylinux{name}_x86_64" for name in ("_2_34", "_2_31", "_2_28", "_2_27", "_2_26", "_2_24", "_2_17", "2014", "1")
)
EXTRAS = ("", "train", "export", "bench", "gpu", "rtx")  # of pyproject.toml, the most needed first
TESTS = ("pytest", "pytest-timeout", "hypothesis")  # what the tests marked gpu import
# The machine has its own PyTorch, built for its driver, and with it CUDA's libraries. Wheels of these are gigabytes.
ITS_OWN = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-toolkit")


@dataclass
class Target:
    """Python version such as "3.12", and the packages that are there: canonical name -> version, or None if unknown."""

    python: str
    have: dict[str, str | None] = field(default_factory=dict)

    def lacks(self, requirement: Requirement) -> bool:
        """Whether a requirement must travel."""
        name = canonicalize_name(requirement.name)
        if ITS_OWN.fullmatch(name):
            return False
        if requirement.marker is not None and not requirement.marker.evaluate(self.environment()):
            return False
        if name not in self.have:
            return True
        there = self.have[name]
        return there is not None and not requirement.specifier.contains(there, prereleases=True)

    def environment(self) -> dict[str, str]:
        """What markers are compared with: Linux on x86-64, no extra."""
        return {"python_version": self.python, "python_full_version": f"{self.python}.0", "extra": "",
                "platform_machine": "x86_64", "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
                "implementation_name": "cpython", "platform_python_implementation": "CPython"}  # fmt: skip


def read_have(path: Path | None) -> dict[str, str | None]:
    """Packages from the output of `pip freeze` or `pip list`, or from a list of names. Raises OptionError."""
    found: dict[str, str | None] = {}
    if path is None:
        return found
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--have {path} cannot be read ({error}); save the output of `pip freeze` there") from error
    for line in lines:
        if match := re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\s*==\s*|\s+|\s*$)([0-9][^\s;,]*)?", line):
            try:
                version = str(Version(match[2])) if match[2] else None
            except InvalidVersion:
                version = None
            found[canonicalize_name(match[1])] = version
    return found


def wanted(extras: Sequence[str] = EXTRAS) -> Iterator[Requirement]:
    """The requirements of some extras ("": the base), then those of the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in extras:
        yield from map(Requirement, project["optional-dependencies"][extra] if extra else project["dependencies"])
    yield from map(Requirement, TESTS)


def needs_of(wheel: Path, extras: set[str], target: Target) -> Iterator[Requirement]:
    """The requirements of a wheel that the target lacks."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    for text in metadata.get_all("Requires-Dist") or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        chosen = marker is None or any(marker.evaluate(target.environment() | {"extra": e}) for e in ("", *extras))
        requirement.marker = None
        if chosen and target.lacks(requirement):
            yield requirement


def download(requirement: Requirement, target: Target, folder: Path) -> Path | None:
    """Download one wheel, without what it needs; None if there is none for this target."""
    before = set(folder.glob("*.whl"))
    plain = f"{requirement.name}{requirement.specifier}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    chosen = ["--only-binary=:all:", "--python-version", target.python, "--implementation", "cp", *platforms]
    commands = ([*pip, "download", "--no-deps", *chosen, "-d", str(folder), plain],
                [*pip, "wheel", "--no-deps", "-w", str(folder), plain])  # fmt: skip
    for command in commands:
        if subprocess.run(command, capture_output=True, text=True).returncode == 0:
            new = set(folder.glob("*.whl")) - before
            if new and (command is commands[0] or all(w.name.endswith("-none-any.whl") for w in new)):
                return new.pop()
            for wheel in new:  # built here, for this machine's own Python
                wheel.unlink()
    return None


def collect(target: Target, folder: Path, extras: Sequence[str] = EXTRAS) -> Iterator[tuple[str, Path | None]]:
    """Download what the target lacks: (requirement, wheel or None), each package once, with all that it needs."""
    queue, seen = [r for r in wanted(extras) if target.lacks(r)], set[str]()
    while queue:
        requirement = queue.pop(0)
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        wheel = download(requirement, target, folder)
        if wheel is not None:
            target.have[canonicalize_name(parse_wheel_filename(wheel.name)[0])] = None
            queue[:0] = needs_of(wheel, requirement.extras, target)
        yield str(requirement), wheel  # last, because the caller may delete it
