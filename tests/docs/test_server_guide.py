"""The commands of docs/SERVER.md, against a real server."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
from tests.support.serve_process import ServeProcess

GUIDE = (ROOT / "docs" / "SERVER.md").read_text(encoding="utf-8")
NEEDS_CURL = pytest.mark.skipif(shutil.which("curl") is None or sys.platform == "win32", reason="needs curl")


@NEEDS_ORT
@NEEDS_CURL
@pytest.mark.slow
def test_the_first_job(bundles: Callable[..., Path], make_video: Callable[..., Path], tmp_path: Path) -> None:
    (commands,) = [block for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) if "ask()" in block]
    state = tmp_path / "state"
    commands = commands.replace("~/.local/state/maskvat/serve", str(state))
    with ServeProcess(state, "--engines", str(bundles()), "--backend", "cpu", "--threads", "1"):
        environment = os.environ | {"VIDEO": str(make_video(20))}
        done = subprocess.run(["bash", "-euc", commands], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"status": "succeeded"' in done.stdout and (state / "shot.wav").read_bytes()[:4] == b"RIFF"
