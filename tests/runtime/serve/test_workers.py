"""Workers that crash, hang, talk nonsense or do not start; restarts of the server; stopping."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import MediaError
from runtime.serve.store import Store, new_id
from tests.support.serving import FAKE, Serving

Start = Callable[..., Serving]


@pytest.mark.parametrize(("kind", "code"), [("crash", "crashed"), ("hang", "stalled"), ("nonsense", "crashed")])
def test_a_bad_worker_ends_one_job_and_is_started_anew(start: Start, kind: str, code: str) -> None:
    server = start(limits={"stall": 1.5})
    bad = server.ask(kind).json()["id"]
    good = server.ask().json()["id"]
    job = server.wait(bad)
    assert job["status"] == "failed" and job["error"]["code"] == code, job
    assert server.wait(good)["status"] == "succeeded"
    assert not (server.services.config.state / "jobs" / bad / "1").exists()
    text = server.get("/metrics").text
    assert f'maskvat_worker_ends_total{{reason="{code}"}} 1.0' in text
    assert f'maskvat_job_errors_total{{code="{code}"}} 1.0' in text


def test_a_worker_that_ends_between_two_jobs_is_started_anew(server: Serving) -> None:
    server.do()
    (worker,) = server.services.pool.ready
    worker.kill()
    assert server.do()["status"] == "succeeded"
    assert worker not in server.services.pool.ready


def test_a_worker_that_does_not_cancel_is_killed(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.serve.work.pool.CANCEL_WAIT", 0.2)
    job = server.ask("deaf").json()["id"]
    server.wait(job, lambda j: j["progress"] > 0)
    server.post(f"/v1/jobs/{job}/cancel")
    assert server.wait(job)["status"] == "cancelled"
    assert server.do()["status"] == "succeeded"


@pytest.mark.parametrize("method", ["claim", "finish"])
def test_a_failing_database_ends_no_worker_slot(server: Serving, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("runtime.serve.work.pool.LOOK_AGAIN", 0.1)
    real, failures = getattr(server.services.store, method), [1, 2, 3]

    def failing(*args: object, **more: object) -> object:
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("database or disk is full")
        return real(*args, **more)

    monkeypatch.setattr(server.services.store, method, failing)
    first = server.ask().json()["id"]
    deadline = time.monotonic() + 15
    while failures and time.monotonic() < deadline:
        server.plain.portal.call(_tidy, server)
        time.sleep(0.05)
    job = server.wait(first)
    assert job["status"] == ("succeeded" if method == "claim" else "failed")
    assert method == "claim" or job["error"]["code"] == "internal_error"
    assert server.do()["status"] == "succeeded"


async def _tidy(server: Serving) -> None:
    with suppress(sqlite3.Error):
        await server.services.tidy()


def test_tidying_goes_on_after_an_error_of_the_database(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.serve.services.TIDY", 0.01)
    server, calls = start(workers=0), []

    def files(*_: object) -> list[object]:
        calls.append(1)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(server.services.store, "files_before", files)
    task = server.plain.portal.start_task_soon(server.services.tidy_for_ever)
    time.sleep(0.3)
    task.cancel()
    assert len(calls) > 2


def test_several_workers_work_at_once(start: Start) -> None:
    server = start(workers=2)
    jobs = [server.ask("slow").json()["id"] for _ in range(2)]
    for job in jobs:
        server.wait(job, lambda j: j["status"] == "running")
    for job in jobs:
        server.post(f"/v1/jobs/{job}/cancel")


def test_readiness_is_not_health(start: Start) -> None:
    server = start(worker_command=(*FAKE, "--no-start"))
    for _ in range(200):
        if server.services.pool.problem:
            break
        time.sleep(0.05)
    assert server.plain.get("/health").json()["status"] == "ok"
    answer = server.get("/ready")
    assert answer.status_code == 503 and "it does not start" in answer.json()["detail"]
    assert "not start" not in server.plain.get("/ready").text  # such a text may have paths: not without a token
    assert server.ask().status_code == 201  # it waits
    assert not server.services.pool.hopeless.is_set()  # another try may help


def test_a_bundle_that_is_missing_ends_the_server(start: Start) -> None:
    server = start(worker_command=(*FAKE, "--no-bundle"))
    for _ in range(200):
        if server.services.pool.hopeless.is_set():
            break
        time.sleep(0.05)
    assert server.services.pool.hopeless.is_set()
    assert "no bundle" in server.get("/ready").json()["detail"]
    assert "manifest_error" in server.plain.get("/ready").json()["detail"]


# ---------------------------------------------------------------- the server stops, or is killed
def test_stopping_puts_running_jobs_back(tmp_path: Path) -> None:
    with Serving(tmp_path / "s") as server:
        running = server.ask("slow").json()["id"]
        server.wait(running, lambda j: j["progress"] > 0)
        waiting = server.ask().json()["id"]
        server.plain.portal.call(server.services.pool.drain, 0.0)
        assert server.job(running)["status"] == server.job(waiting)["status"] == "queued"
        assert server.plain.get("/ready").json()["code"] == "draining"
        assert server.ask(file_id="x").json()["code"] == "draining"
        assert server.post("/v1/files", content=b"x").json()["code"] == "draining"
        job = server.services.store.job(running)
        assert job is not None and job.starts == 0  # it does not count as a try
    with Serving(tmp_path / "s") as server:
        assert server.wait(waiting, lambda j: j["status"] != "running" and j["position"] is not None)
        server.wait(running, lambda j: j["status"] == "running")
        server.post(f"/v1/jobs/{running}/cancel")
        assert server.wait(waiting)["status"] == "succeeded"


def test_stopping_lets_short_jobs_end(server: Serving) -> None:
    job = server.ask("brief").json()["id"]
    server.wait(job, lambda j: j["progress"] > 0)
    server.plain.portal.call(server.services.pool.drain, 30.0)
    assert server.job(job)["status"] == "succeeded"


def test_after_a_crash_a_running_job_is_queued_once_more_then_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    store = Store(path)
    job = store.add_job("a", 0, {"x": 1})
    for status, starts in (("queued", 1), ("failed", 2)):
        claimed = store.claim()
        assert claimed is not None and claimed.status == "running" and store.claim() is None
        store.close()  # the server dies here
        store = Store(path)
        store.recover()
        found = store.job(job.id)
        assert found is not None and (found.status, found.starts) == (status, starts)
    assert found.error is not None and found.error["code"] == "interrupted" and store.boot == 3


def test_a_damaged_or_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(MediaError, match="move it away"):
        Store(path)
    path.unlink()
    store = Store(path)
    store._db.execute("UPDATE facts SET value = 9 WHERE name = 'form'")
    store.close()
    with pytest.raises(MediaError, match="form 9"):
        Store(path)


def test_what_a_crash_left_behind_is_deleted(tmp_path: Path) -> None:
    with Serving(tmp_path / "s") as server:
        job = server.do()
    state = tmp_path / "s"
    (state / "files" / f"{new_id('file')}.mp4").write_bytes(b"x")
    (state / "incoming" / new_id("file")).write_bytes(b"x")
    (state / "jobs" / new_id("job") / "1").mkdir(parents=True)
    with Serving(state) as server:
        assert server.get(job["results"][0]["url"]).status_code == 200
        left = [p.name for name in ("files", "incoming", "jobs") for p in (state / name).iterdir()]
        assert sorted(left) == sorted([job["source"]["file_id"] + ".mp4", job["id"]])


def test_an_abandoned_job_of_a_client_that_must_ask_is_cancelled(start: Start) -> None:
    server = start(limits={"abandoned": 0.1})
    job = server.post("/v1/videos", json={"control_file_id": server.upload(), "seed": 904}).json()["id"]
    time.sleep(0.3)
    server.plain.portal.call(server.services.tidy)
    assert server.wait(job)["error"]["code"] == "cancelled"
