"""Where the Blender add-on finds the program, where it writes, and what the extension consists of."""

import ast
import os
import sys
import tomllib
import wave
from fractions import Fraction
from pathlib import Path

import pytest

from plugins.blender.engine import Refused
from plugins.blender.files import find_program, next_sound, output_folder, sound_seconds
from tests.support.paths import ROOT

ADDON = ROOT / "plugins" / "blender"
SOURCES = sorted(ADDON.glob("*.py"))
NEEDS_BPY = {"operators", "panel", "settings", "strips"}  # the others are tested without Blender


# ---------------------------------------------------------------- the program
@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = "maskvat.exe" if sys.platform == "win32" else "maskvat"
    file = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / name
    file.parent.mkdir(parents=True)
    file.touch(0o755)
    monkeypatch.setenv("PATH", "")
    return file


def test_a_program_by_file_folder_or_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (str(program), f" {program} ", str(program.parent), str(program.parent.parent)):
        assert find_program(text) == [str(program), "stdio"]
    with pytest.raises(Refused, match=r"^maskvat was not found. Choose MaskVAT's program"):
        find_program("")
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_program("") == find_program("maskvat") == [str(program), "stdio"]


def test_a_python_runs_the_module() -> None:
    assert find_program(sys.executable) == [sys.executable, "-m", "runtime.commands", "stdio"]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no execute permission on Windows")
def test_what_is_no_program(program: Path, tmp_path: Path) -> None:
    program.chmod(0o644)
    with pytest.raises(Refused, match="maskvat is not a program"):
        find_program(str(program))
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="empty has no program maskvat"):
        find_program(str(tmp_path / "empty"))


# ---------------------------------------------------------------- new sounds
def test_sounds_go_beside_the_project_or_the_clip(tmp_path: Path) -> None:
    clip = tmp_path / "clips" / "shot.mov"
    clip.parent.mkdir()
    assert output_folder(str(tmp_path / "film.blend"), clip) == tmp_path / "maskvat"
    assert output_folder("", clip) == clip.parent / "maskvat"
    assert output_folder("", clip).is_dir()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "maskvat").touch()
    with pytest.raises(Refused, match="Cannot make the folder"):
        output_folder(str(tmp_path / "film.blend"), tmp_path / "shot.mov")


def test_no_name_is_used_twice(tmp_path: Path) -> None:
    clip = Path("a [1].mov")
    assert next_sound(tmp_path, clip).name == "a [1].001.wav"
    for name in ("a [1].001.wav", "a [1].007.take2.npz", "a 1.009.wav", "b.010.wav", "a [1].x.wav"):
        (tmp_path / name).touch()
    assert next_sound(tmp_path, clip).name == "a [1].008.wav"
    (tmp_path / "a [1].1000.wav").touch()
    assert next_sound(tmp_path, clip).name == "a [1].1001.wav"


def test_seconds_of_a_sound(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 48048))
    assert sound_seconds(tmp_path / "a.wav") == Fraction(48047, 48000)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(Refused, match=r"b\.wav is no WAV"):
        sound_seconds(tmp_path / "b.wav")


# ---------------------------------------------------------------- the extension
def imported(path: Path) -> set[str]:
    """Top-level names of the packages that a file imports; its own modules as .NAME."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found |= {f".{node.module}"} if node.module else {f".{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_only_the_standard_library_and_blender_are_imported(path: Path) -> None:
    found = {name for name in imported(path) if not name.startswith(".")}
    assert found - sys.stdlib_module_names <= ({"bpy"} if path.stem in NEEDS_BPY | {"__init__"} else set())


def test_modules_without_bpy_use_no_module_with_it() -> None:
    free = [path for path in SOURCES if path.stem not in NEEDS_BPY and path.stem != "__init__"]
    assert {path.stem for path in free} == {"engine", "files", "job", "names", "timing"}
    for path in free:
        assert not imported(path) & {f".{name}" for name in NEEDS_BPY}


def test_the_manifest() -> None:
    manifest = tomllib.loads((ADDON / "blender_manifest.toml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert manifest["schema_version"] == "1.0.0" and manifest["id"] == "maskvat" and manifest["type"] == "add-on"
    assert manifest["version"] == project["version"]
    assert manifest["license"] == ["SPDX:GPL-3.0-or-later"]
    assert "GNU GENERAL PUBLIC LICENSE" in (ADDON / "LICENSE").read_text(encoding="utf-8")
    assert set(manifest["permissions"]) == {"files"} and len(manifest["permissions"]["files"]) <= 64
    assert len(manifest["tagline"]) <= 64 and not manifest["tagline"].endswith(".")
    assert "wheels" not in manifest


def test_nothing_of_the_wheel_is_in_the_folder() -> None:
    """The folder has a licence of its own, so the wheel does not hold it."""
    include = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert not any(name.startswith("plugins") for name in include["find"]["include"])
    assert not [name for name in os.listdir(ADDON) if name.endswith((".zip", ".whl"))]
