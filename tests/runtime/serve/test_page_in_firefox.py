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
from typing import Any

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
    socket = folder / "sound"
    line = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
    line += ["--load=module-null-sink", f"--load=module-native-protocol-unix auth-anonymous=1 socket={socket}"]
    home = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    process = subprocess.Popen(line, env=os.environ | home, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.is_socket() or process.poll() is not None)
        assert socket.is_socket(), "pulseaudio does not start"
        yield home | {"PULSE_SERVER": f"unix:{socket}"}
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and Puppeteer."""
    folder = tmp_path_factory.mktemp("firefox") / "driver"
    shutil.copytree(SCRIPT, folder)
    line = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    subprocess.run(line, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return folder


def in_firefox(driver: Path, server: ServeProcess, environment: dict[str, str], **given: Any) -> dict[str, Any]:
    """What the script saw on the page of a server."""
    with server.open("POST", "/v1/session/code", b"") as answer:
        code = json.loads(answer.read())["code"]
    given |= {"firefox": FIREFOX, "address": f"{server.url}/#code={code}", "video": str(EXAMPLE)}
    line = ["node", "page.mjs", json.dumps(given)]
    done = subprocess.run(line, cwd=driver, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_from_a_dropped_video_to_a_downloaded_file(
    driver: Path, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with ServeProcess(tmp_path / "state", "--threads", "2") as server, sound_output(tmp_path) as output:
        seen = in_firefox(driver, server, output, downloads=str(downloads), word=WORD)
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


def test_without_a_sound_output_the_picture_plays(driver: Path, tmp_path: Path, bundles: Callable[..., Path]) -> None:
    with ServeProcess(tmp_path / "state", "--engines", str(bundles()), "--backend", "cpu") as server:
        nothing = {"HOME": str(tmp_path), "PULSE_SERVER": f"unix:{tmp_path}/absent"}
        seen = in_firefox(driver, server, nothing, downloads=str(tmp_path), silent=True)
    assert seen["status"] == "This browser has no sound output: the picture plays alone." and seen["faults"] == []
