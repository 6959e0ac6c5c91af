"""`maskvat serve` as a process of its own, and a client of the standard library."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

PATIENCE = 120.0  # seconds
PROGRAM = (sys.executable, "-m", "runtime.serve")
ENDED = ("succeeded", "failed", "cancelled")


class ServeProcess:
    """A server. Use it as a context manager; `start` and `kill` may be called again and again."""

    def __init__(self, state: Path, *flags: str, program: Sequence[str] = PROGRAM, inside: str = "") -> None:
        """`program`: how `maskvat serve` is called. `inside`: the state folder's name in the program's root."""
        self.state, self.flags = state, flags
        self.program, self.inside = program, inside or str(state)
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> "ServeProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        address = self.state / "server.json"
        address.unlink(missing_ok=True)
        self.line = [*self.program, "--port", "0", "--state", self.inside, *self.flags]
        ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} if self.program == PROGRAM else {}
        self.environment = os.environ | ours
        self.state.parent.mkdir(parents=True, exist_ok=True)
        told = self.state.with_name(f"{self.state.name}.stderr")
        with open(told, "ab") as log:
            self.process = subprocess.Popen(self.line, env=self.environment, stderr=log)
        wait_for(lambda: address.exists() or self.process is None or self.process.poll() is not None)
        assert address.exists(), told.read_text()
        self.url = json.loads(address.read_text())["url"]
        words = (self.state / "tokens").read_text().splitlines()[-1].split()
        self.headers = {"Authorization": f"Bearer {words[1]}"}
        wait_for(self._answers)

    def _answers(self) -> bool:
        with suppress(urllib.error.URLError):
            return self.get("/health")["status"] == "ok"
        return False

    def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM. Returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    # ------------------------------------------------------------ the client
    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, self.headers | named, method=method)
        return urllib.request.urlopen(request, timeout=PATIENCE)

    def get(self, path: str) -> Any:
        with self.open("GET", path) as answer:
            return json.loads(answer.read())

    def bytes(self, path: str) -> bytes:
        with self.open("GET", path) as answer:
            return bytes(answer.read())

    def upload(self, video: Path) -> str:
        data = video.read_bytes()
        with self.open("POST", f"/v1/files?name={video.name}", data, Content_Type="video/mp4") as answer:
            return str(json.loads(answer.read())["id"])

    def ask(self, **job: Any) -> str:
        """Ask for a job; its id."""
        body = json.dumps(job).encode()
        with self.open("POST", "/v1/jobs", body, Content_Type="application/json") as answer:
            return str(json.loads(answer.read())["id"])

    def wait(
        self, job_id: str, found: Callable[[dict[str, Any]], bool] | None = None, seconds: float = PATIENCE
    ) -> dict[str, Any]:
        """Wait for the end of a job, or for something else."""
        seen: list[dict[str, Any]] = []

        def done() -> bool:
            seen[:] = [self.get(f"/v1/jobs/{job_id}")]
            return found(seen[0]) if found else seen[0]["status"] in ENDED

        wait_for(done, seconds)
        return seen[0]

    def children(self) -> list[int]:
        """Process ids of the workers and their children. Linux only."""
        assert self.process is not None
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                new = [int(word) for word in task.read_text().split()]
                found, todo = found + new, todo + new
        return found


def wait_for(found: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
