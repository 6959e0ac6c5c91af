"""How much is kept: what a job reserves, what is refused, what its results really have, room on the disk."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.deliver.delivery import DeliveryConfig, deliver_take, write_take
from runtime.edit.take_file import save_take
from runtime.serve.config import Limits
from runtime.serve.work.job_request import JobSpec
from runtime.serve.work.job_size import TAKE, result_bytes
from tests.support.serving import Serving
from tests.support.takes import make_take

Start = Callable[..., Serving]
NONE = {"sound": "wav", "video": False, "timeline": None}


def reserved(options: dict[str, Any], take: float | None = None, video: bool = False, size: int = 0) -> int:
    spec = JobSpec("video", "a.mp4", {"file_id": "f"}, options, NONE | {"video": video})
    return result_bytes(spec, size, take, Limits(video_seconds=100.0))


def test_what_a_job_reserves() -> None:
    plain = reserved({})
    assert plain == pytest.approx(100 * (44100 * 2 + TAKE), rel=0.05)
    large = reserved({"takes": 3, "candidates": 3, "rate": 96000, "bits": "float", "channels": 2})
    assert large == pytest.approx(3 * 100 * (96000 * 8 + TAKE), rel=0.02)
    assert reserved({"bits": 24}) == reserved({"bits": "24"}) > plain
    assert 3 * (44100 * 2 + TAKE) < reserved({"range": "90-92.5"}) < plain / 10
    assert reserved({"range": "90-400"}) == reserved({"range": "0f-9f"}) == plain  # frames say nothing of seconds
    assert reserved({"redo": "0-1"}, take=2.0) < plain / 10 < reserved({"extend": True}, take=2.0) == plain
    assert reserved({"extend": True, "range": "95-99"}, take=2.0) == plain  # from the take's start
    assert reserved({}, video=True, size=10**9) > 10**9 + plain


def test_real_files_have_less_than_was_reserved(tmp_path: Path) -> None:
    codes = np.zeros((9, 259), np.int32)
    take = make_take(np.zeros(3 * 44100, np.float32), codes, duration=Fraction(3))
    options: dict[str, Any] = {"bits": "float", "rate": 96000, "channels": 2}
    config = DeliveryConfig(**options, bwf=True)
    save_take(take, tmp_path / "a.npz")
    write_take(tmp_path / "a.wav", deliver_take(take, config), config)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < reserved(options, take=3.0) < 1.3 * size + (1 << 20)


def test_a_job_that_may_write_too_much_is_refused(start: Start) -> None:
    server = start(workers=0, limits={"storage_bytes": 10**9})
    file_id = server.upload()
    never = server.ask(file_id=file_id, options={"takes": 99, "candidates": 99})
    assert never.status_code == 422 and "1 GB (--max-storage)" in never.json()["detail"]
    assert "shorter range" in never.json()["detail"]
    jobs = [server.ask(file_id=file_id) for _ in range(6)]
    assert [job.status_code for job in jobs] == [201] * 5 + [507]
    assert jobs[-1].json()["code"] == "storage_full" and "may need 87" in jobs[-1].json()["detail"]
    assert server.ask(file_id=file_id, options={"range": "0-5"}).status_code == 201  # it may write little
    assert server.post("/v1/files", content=b"x" * 2 * 10**8).json()["code"] == "storage_full"  # it is reserved
    server.post(f"/v1/jobs/{jobs[0].json()['id']}/cancel")
    assert server.ask(file_id=file_id).status_code == 201


def test_reserved_room_is_known_after_a_restart(tmp_path: Path) -> None:
    with Serving(tmp_path / "s", workers=0) as server:
        server.ask()
        before = server.services.storage.reserved
    with Serving(tmp_path / "s", workers=0) as server:
        assert server.services.storage.reserved == before > 10**8


def test_a_job_whose_results_are_larger_fails_alone(server: Serving) -> None:
    bad, good = server.ask("large").json()["id"], server.ask().json()["id"]
    job = server.wait(bad)
    assert job["error"]["code"] == "results_too_large" and "174 MB" in job["error"]["message"], job
    assert not (server.services.config.state / "jobs" / bad / "1").exists() and job["results"] == []
    assert server.wait(good)["status"] == "succeeded"
    assert server.services.storage.reserved == 0


def test_a_job_that_writes_too_much_is_stopped_while_it_does(server: Serving) -> None:
    job = server.ask("slow").json()["id"]
    server.wait(job, lambda j: j["progress"] > 0)
    with open(server.services.config.state / "jobs" / job / "1" / "part", "wb") as file:
        file.truncate(10**10)
    server.plain.portal.call(server.services.tidy)
    assert server.wait(job)["error"]["code"] == "results_too_large"


def test_results_count_at_once_and_no_more_when_they_are_deleted(server: Serving) -> None:
    storage = server.services.storage
    job = server.do()
    real = sum(r["bytes"] for r in job["results"])
    assert storage.kept == real + len(b"a video") and storage.reserved == 0
    server.delete(f"/v1/jobs/{job['id']}")
    assert storage.kept == len(b"a video")
    storage.kept = 0
    server.services._measured = -np.inf
    server.plain.portal.call(server.services.tidy)
    assert storage.kept == len(b"a video")


def test_a_disk_that_is_almost_full(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.serve.work.pool.LOOK_AGAIN", 0.05)
    server = start(limits={"free_bytes": 10**9})
    file_id = server.upload()
    server.wait(server.ask(file_id=file_id).json()["id"])
    first = server.ask("slow", file_id=file_id).json()["id"]
    server.wait(first, lambda j: j["status"] == "running")
    waiting = server.ask(file_id=file_id).json()["id"]
    free = SimpleNamespace(free=10**9 - 1)
    monkeypatch.setattr("runtime.serve.storage.shutil.disk_usage", lambda path: free)
    for answer in (server.ask(file_id=file_id), server.post("/v1/files", content=b"x")):
        assert answer.status_code == 507 and "--min-free" in answer.json()["detail"]
    assert "--min-free" in server.plain.get("/ready").json()["detail"]
    server.post(f"/v1/jobs/{first}/cancel")
    server.wait(first)
    assert server.job(waiting)["status"] == "queued"  # it does not fail: space may be freed
    free.free = 10**12
    assert server.wait(waiting)["status"] == "succeeded"
    assert server.plain.get("/ready").status_code == 200
