"""The commands, the script and the units of docs/APPLIANCE.md, as they stand there, under another folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "APPLIANCE.md").read_text(encoding="utf-8")
BASE = "/srv/maskvat"
UNIX = pytest.mark.skipif(sys.platform != "linux", reason="the guide is for Linux")
pytestmark = UNIX


def section(title: str) -> str:
    """One section's text."""
    return GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str, kind: str = "sh") -> list[str]:
    """The code blocks of one section."""
    found = re.findall(rf"```{kind}\n(.*?)```", section(title), re.DOTALL)
    assert found, title
    return found


# ---------------------------------------------------------------- the watched folder
@NEEDS_ORT
def test_the_inbox(bundles: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path) -> None:
    """Good videos, one with blanks in its name, get sound; the rest goes to failed/ with a reason.

    Nothing stays in the inbox, because systemd would start the service again and again.
    """
    (made,) = re.findall(r"^mkdir -p (.*)$", GUIDE, re.MULTILINE)
    for folder in (*made.replace(f"{BASE}/", "").split(), "inbox/1", "current/bin"):
        (tmp_path / folder).mkdir(parents=True)
    program = tmp_path / "current" / "bin" / "maskvat"
    command = f'exec "{sys.executable}" -m runtime.commands "$@" --engines "{bundles()}" --backend cpu --steps 1'
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" {command}\n')
    program.chmod(0o755)
    inbox = tmp_path / "inbox" / "0"
    for name in ("a.mp4", "my video.mp4"):
        shutil.copy(make_video(20), inbox / name)
    (inbox / "broken.mp4").write_bytes(b"no video")
    (inbox / "a folder").mkdir()
    (inbox / "a link").symlink_to("gone")
    (tmp_path / "failed" / "a folder" / "a folder").mkdir(parents=True)  # from an earlier time
    shutil.copy(make_video(20), tmp_path / "inbox" / "1" / "other.mp4")
    (inbox / "table.csv").write_text("clip,output\na.mp4,/tmp/x.wav\n")
    shutil.copy(make_video(20), inbox / "a.mkv")  # its sound has the name of the sound of a.mp4
    script = ["sh", str(ROOT / "examples" / "inbox.sh"), "0"]
    environment = os.environ | {"BASE": str(tmp_path)}
    done = subprocess.run(script, capture_output=True, text=True, cwd="/", env=environment)
    assert done.returncode == 0 and not list(inbox.iterdir()), done.stderr
    assert "2 of 4 sounds are done, 2 failed" in done.stderr  # for the journal
    names = {p.name for p in (tmp_path / "done").iterdir()}
    assert names == {"a.mkv", "a.mkv.wav", "my video.mp4", "my video.mp4.wav"}
    with av.open(str(tmp_path / "done" / "my video.mp4")) as film:
        assert len(film.streams.audio) == len(film.streams.video) == 1
    assert {p.name for p in (tmp_path / "failed").iterdir()} == {
        *("broken.mp4", "broken.mp4.txt", "a folder", "a folder.txt", "a link", "a link.txt"),
        *("table.csv", "table.csv.txt", "a.mp4", "a.mp4.txt"),
    }
    assert not list((tmp_path / "failed" / "a folder").iterdir())
    assert "broken.mp4 is not a video" in (tmp_path / "failed" / "broken.mp4.txt").read_text()
    assert "two files of one name" in (tmp_path / "failed" / "a.mp4.txt").read_text()
    assert (tmp_path / "inbox" / "1" / "other.mp4").exists()  # another process's


def test_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = section("A folder that is watched")
    units = dict(re.findall(r"`/etc/systemd/system/(maskvat@\.\w+)`:\n\n```ini\n(.*?)```", text, re.DOTALL))
    assert set(units) == {"maskvat@.path", "maskvat@.service"}
    for name, content in units.items():
        (tmp_path / name).write_text(content)
    names = [str(tmp_path / name.replace("@", "@0")) for name in units]
    for name, unit in zip(names, units, strict=True):
        os.link(tmp_path / unit, name)
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "maskvat" in line]
    assert not complaints and done.returncode == 0, done.stderr


# ---------------------------------------------------------------- installing
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_commands(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """From a folder of wheels to an installed, examined, upgraded and rolled back program, without an index."""
    (collect,) = blocks("A folder of wheels")
    collected = subprocess.run(
        ["bash", "-ec", collect.replace(".[cpu]", f"{ROOT}[cpu]").replace("python3 -m", f"{sys.executable} -m")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if collected.returncode:
        pytest.skip(f"needs a package index: {collected.stderr.splitlines()[-1:]}")
    (tmp_path / "wheels-0.2.0").symlink_to("wheels")
    base = tmp_path / "appliance"
    base.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_COMPILE": "0"}  # pip reads the latter as "compile: no": faster

    def run(command: str) -> str:
        command = command.replace(BASE, str(base)).replace("python3 -m", f"{sys.executable} -m")
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def version() -> str:
        return (base / "current").readlink().name

    run(blocks("Install")[0])
    assert "self-test passed" in run(blocks("First start")[0])
    shutil.copy(make_video(20), tmp_path / "video.mp4")
    run(f"{BASE}/current/bin/maskvat video.mp4 --steps 1")
    assert (tmp_path / "video.wav").exists()
    (triton,) = blocks("NVIDIA Triton")
    shipped = run(f"{BASE}/current/bin/python -c 'from engines.manifest import MINI; print(MINI)'").strip()
    assert Path(shipped).is_relative_to(base)
    run(triton.replace("BUNDLE", shipped))
    assert (base / "triton" / "maskvat_step" / "1" / "model.onnx").exists()
    assert version() == "0.1.0"
    run(blocks("Upgrade")[0])
    assert version() == "0.2.0" and (base / "0.1.0").is_dir()
    run(blocks("Rollback")[0])
    assert version() == "0.1.0" and "self-test passed" in run(blocks("First start")[0])
