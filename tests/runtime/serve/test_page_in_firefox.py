"""The page in Firefox, with a real server, real sounds and a sound output: `pytest -m host tests/runtime/serve`.

Needs Debian's firefox-esr and pulseaudio, and npm with its registry for the driver.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import EXAMPLE
from tests.support.serve_process import ServeProcess, wait_for

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
SCRIPT = Path(__file__).with_name("firefox")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
MISSING = [name for name in ("npm", "node", "pulseaudio") if shutil.which(name) is None]
MISSING += [] if FIREFOX else ["firefox-esr"]
WORD = "dog"
pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(3600),  # a busy machine is no fault
    NEEDS_ORT,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@contextmanager
def sound_output(folder: Path) -> Iterator[dict[str, str]]:
    """A sound card that nobody hears, as environment variables: without any, Firefox's audio clock stands still."""
    socket = folder / "pulse"
    line = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
    line += ["--load=module-null-sink", f"--load=module-native-protocol-unix auth-anonymous=1 socket={socket}"]
    home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    process = subprocess.Popen(line, env=os.environ | home, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.exists() or process.poll() is not None)
        assert socket.exists(), "pulseaudio does not start"
        yield home | {"PULSE_SERVER": f"unix:{socket}"}
    finally:
        process.kill()
        process.wait()


def test_from_a_dropped_video_to_a_downloaded_file(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    driver, downloads = tmp_path / "driver", tmp_path / "downloads"
    shutil.copytree(SCRIPT, driver)
    downloads.mkdir()
    line = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    subprocess.run(line, cwd=driver, check=True, stdin=subprocess.DEVNULL)
    with ServeProcess(tmp_path / "state", "--threads", "2") as server, sound_output(tmp_path) as output:
        with server.open("POST", "/v1/session/code", b"") as answer:
            code = json.loads(answer.read())["code"]
        given = {"firefox": FIREFOX, "address": f"{server.url}/#code={code}", "video": str(EXAMPLE)}
        given |= {"downloads": str(downloads), "word": WORD}
        done = subprocess.run(
            ["node", "page.mjs", json.dumps(given)], cwd=driver, env=os.environ | output, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        newest = server.get("/v1/jobs")["data"][0]
        served = server.bytes(f"/v1/jobs/{newest['id']}/results/sound.wav")
    record_testsuite_property("firefox", seen["browser"])
    assert seen["faults"] == []
    wave = seen["wave"]
    assert wave["text"] == f"Take 1: {wave['marks']} onsets" and wave["marks"] > 0 and wave["painted"] > 1000
    assert seen["level"] > -40 and seen["original"] == -60  # the take is heard; the video itself is silent
    assert seen["range"] == pytest.approx([2.0, 3.0], abs=0.05)
    assert WORD in seen["redone"] and f"redo {seen['range'][0]:.3f}-{seen['range'][1]:.3f}" in seen["redone"]
    assert seen["files"] == ["bounce.wav"]
    sound = (downloads / "bounce.wav").read_bytes()
    assert sound == served and sound[:4] == b"RIFF" and b"bext" in sound and b"iXML" in sound
