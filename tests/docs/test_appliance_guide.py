"""The commands and the script of docs/APPLIANCE.md, and those of docs/TRITON.md, under another folder."""

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
from tests.support.serve_process import ServeProcess

GUIDE = (ROOT / "docs" / "APPLIANCE.md").read_text(encoding="utf-8")
BASE = "/srv/maskvat"
UNIX = pytest.mark.skipif(sys.platform != "linux", reason="the guide is for Linux")
pytestmark = UNIX


def blocks(title: str) -> list[str]:
    """The commands of one section, without those for systemd."""
    section = GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found, title
    return [re.sub(r"^(systemctl|cp deploy) .*\n", "", block, flags=re.MULTILINE) for block in found]


# ---------------------------------------------------------------- the watched folder
@NEEDS_ORT
def test_the_inbox(bundles: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path) -> None:
    """Good videos, one with blanks in its name, get sound; the rest goes to failed/ with a reason.

    Nothing stays in the inbox, because systemd would start the service again and again.
    """
    (made,) = re.findall(r"^mkdir -p (/srv/.*)$", GUIDE, re.MULTILINE)
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


# ---------------------------------------------------------------- installing
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_commands(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """From a folder of wheels to an installed, examined, upgraded and rolled back program, without an index."""
    (collect,) = blocks("A folder of wheels")
    collected = subprocess.run(
        ["bash", "-ec", collect.replace("'.[", f"'{ROOT}[").replace("python3 -m", f"{sys.executable} -m")],
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

    def jobs_after(change: Callable[[], object], wanted: str) -> None:
        """A job that the server accepted is done by the version that starts next."""
        program = [str(base / "current" / "bin" / "maskvat"), "serve"]
        with ServeProcess(tmp_path / "state", program=program) as server:
            job = server.ask(file_id=server.upload(tmp_path / "video.mp4"), options={"steps": 1})
            assert server.stop() == 0
        change()
        assert version() == wanted
        program[0] = str(base / "current" / "bin" / "maskvat")
        with ServeProcess(tmp_path / "state", program=program) as server:
            assert server.wait(job)["status"] == "succeeded"

    assert "self-test passed" in run(blocks("Install")[0])
    shutil.copy(make_video(20), tmp_path / "video.mp4")
    run(f"{BASE}/current/bin/maskvat video.mp4 --steps 1")
    assert (tmp_path / "video.wav").exists()
    (triton,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "TRITON.md").read_text(encoding="utf-8"), re.DOTALL)
    shipped = run(f"{BASE}/current/bin/python -c 'from engines.manifest import MINI; print(MINI)'").strip()
    assert Path(shipped).is_relative_to(base)
    run(triton.replace("python", f"{BASE}/current/bin/python").replace("BUNDLE /srv", f"{shipped} {base}"))
    assert (base / "triton" / "maskvat_step" / "1" / "model.onnx").exists()
    assert version() == "0.1.0"
    jobs_after(lambda: run(blocks("Upgrade")[0]), "0.2.0")
    assert (base / "0.1.0").is_dir()
    jobs_after(lambda: run(blocks("Rollback")[0]), "0.1.0")
