"""A server with fake workers, and a client of it."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.fake_stdio_worker import BEHAVIOUR
from tests.support.paths import ROOT

BASE = "http://127.0.0.1:8440"
FAKE = (sys.executable, str(ROOT / "tests" / "support" / "fake_stdio_worker.py"))
OPEN = ("queued", "running")
__all__ = ["BASE", "BEHAVIOUR", "FAKE", "Serving"]


class Serving:
    """A running application and a client that has its token. Use it as a context manager."""

    def __init__(self, state: Path, **config: Any) -> None:
        from starlette.testclient import TestClient

        from runtime.serve.app import make_app
        from runtime.serve.config import Limits, ServerConfig
        from runtime.serve.services import open_services

        limits = Limits(**config.pop("limits", {}))
        self.services = open_services(ServerConfig(state, **{"worker_command": FAKE} | config, limits=limits))
        self.services.port = 8440
        self.token = self.services.tokens.first()
        self.plain = TestClient(make_app(self.services), BASE)  # sends no token
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def __enter__(self) -> "Serving":
        self.plain.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.plain.__exit__(*error)
        self.services.close()

    def call(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        return self.plain.request(method, path, headers=self.headers | (headers or {}), **more)

    def get(self, path: str, **more: Any) -> Any:
        return self.call("GET", path, **more)

    def post(self, path: str, **more: Any) -> Any:
        return self.call("POST", path, **more)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def upload(self, data: bytes = b"a video", name: str = "clip.mp4") -> str:
        """Upload bytes; the id."""
        answer = self.post("/v1/files", params={"name": name}, content=data)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ask(self, kind: str = "", **job: Any) -> Any:
        """Ask for a job that a fake worker does in one of its ways; the answer."""
        if not {"file_id", "path", "take"} & set(job):
            job["file_id"] = self.upload()
        if kind:
            job["options"] = job.get("options", {}) | {"seed": BEHAVIOUR[kind]}
        return self.post("/v1/jobs", json=job)

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/v1/jobs/{job_id}").json())

    def wait(self, job_id: str, found: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Wait for the end of a job, or for something else."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            job = self.job(job_id)
            if found(job) if found else job["status"] not in OPEN:
                return job
            time.sleep(0.02)
        raise AssertionError(f"it did not happen: {job}")

    def do(self, kind: str = "", **job: Any) -> dict[str, Any]:
        """Ask for a job and wait for its end."""
        answer = self.ask(kind, **job)
        assert answer.status_code == 201, answer.text
        return self.wait(answer.json()["id"])

    def audit(self) -> list[dict[str, Any]]:
        lines = (self.services.config.state / "audit.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def events_of(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(id, kind, data) of each server-sent event."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines["id"], lines["event"], json.loads(lines["data"])))
    return found
