"""Ends in the middle: workers that die between the last file and the answer, wishes and leftovers across a restart,
a clock that is set, a database that is locked."""

import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.serving import Serving
from tests.support.stdio_host import PLANTED

Start = Callable[..., Serving]


# ---------------------------------------------------------------- a worker dies after it published its files
@pytest.mark.parametrize("kind", ["published", "killed late"])
def test_files_that_were_published_count(server: Serving, kind: str) -> None:
    job = server.ask(kind, options={"candidates": 2, "takes": 2}, deliver={"video": True}).json()["id"]
    after = server.ask().json()["id"]
    done = server.wait(job)
    assert done["status"] == "succeeded" and done["error"] is None, done
    assert len(done["results"]) == 6 and len(done["takes"]) == 2
    assert all(server.get(result["url"]).status_code == 200 for result in done["results"])
    assert server.wait(after)["status"] == "succeeded"  # by another worker
    assert 'maskvat_worker_ends_total{reason="crashed"} 1.0' in server.get("/metrics").text


DIES = """import os, signal
        from runtime.commands.staging import Staging
        real_publish = Staging.publish
        def publish(*arguments):
            real_publish(*arguments)
            {}
        Staging.publish = publish"""


@NEEDS_ORT
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker has no child process")
@pytest.mark.parametrize("death", ["os.kill(os.getpid(), signal.SIGKILL)", "os.killpg(0, signal.SIGKILL)"])
def test_a_real_worker_is_killed_when_it_has_published(
    start: Start, bundles: Callable[..., Path], make_video: Callable[..., Path], death: str
) -> None:
    """Its child alone, which it tells, or both at once."""
    flags = ("--engines", str(bundles()), "--backend", "cpu", "--threads", "1")
    server = start(worker_command=(sys.executable, "-c", PLANTED.format(code=DIES.format(death)), *flags))
    file_id = server.upload(make_video(20).read_bytes(), "ä.mp4")
    job = server.do(file_id=file_id, options={"steps": 1}, deliver={"video": True, "timeline": "otio"})
    assert job["status"] == "succeeded" and len(job["results"]) == 5, job
    contents = [server.get(result["url"]).content for result in job["results"]]
    state = str(server.services.config.state).encode()
    assert not [content for content in contents if state in content or file_id.encode() in content]
    assert server.get("/metrics").text.count('maskvat_worker_ends_total{reason="crashed"} 1.0') == 1
    assert [p.name for p in (server.services.config.state / "jobs" / job["id"]).iterdir()] == ["1"]


def test_a_part_of_the_files_does_not_count(server: Serving) -> None:
    job = server.do("half published")
    assert job["status"] == "failed" and job["error"]["code"] == "crashed"
    assert not (server.services.config.state / "jobs" / job["id"] / "1").exists()


# ---------------------------------------------------------------- the server dies after it accepted a wish
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_running_job_that_shall_end_does_not_come_back(tmp_path: Path, method: str) -> None:
    with Serving(tmp_path / "s") as server:
        job = server.ask("deaf").json()["id"]
        server.wait(job, lambda j: j["progress"] > 0)
        path = f"/v1/jobs/{job}"
        answer = server.call(method, f"{path}/cancel" if method == "POST" else path)
        assert answer.status_code == 202 and answer.json()["status"] == "running" and answer.json()["error"] is None
        database = tmp_path / "s" / "jobs.sqlite3"
        copy = sqlite3.connect(tmp_path / "copy")
        with sqlite3.connect(database) as db:
            db.backup(copy)  # what the next start would find after kill -9
        copy.close()
        for worker in server.services.pool.ready:
            worker.kill()
    for left in database.parent.glob("jobs.sqlite3*"):
        left.unlink()
    (tmp_path / "copy").rename(database)
    with Serving(tmp_path / "s") as server:
        if method == "DELETE":
            assert server.get(path).status_code == 404 and not (tmp_path / "s" / "jobs" / job).exists()
        else:
            assert server.job(job)["status"] == "cancelled"


def test_what_an_earlier_start_wrote_is_deleted_when_the_job_is_done(server: Serving) -> None:
    first = server.ask("slow").json()["id"]
    server.wait(first, lambda j: j["status"] == "running")
    job = server.ask().json()["id"]
    old = server.services.config.state / "jobs" / job / "0"
    old.mkdir(parents=True)
    (old / "sound.wav").write_bytes(b"x")
    server.post(f"/v1/jobs/{first}/cancel")
    assert server.wait(job)["status"] == "succeeded" and not old.exists()


# ---------------------------------------------------------------- the clock
def test_a_clock_that_is_set_ahead_deletes_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(limits={"keep": 3600})
    job = server.do()
    file_id, real = job["source"]["file_id"], time.time
    for jump in (10**8, -(10**8)):
        monkeypatch.setattr("time.time", lambda jump=jump: real() + jump)
        server.plain.portal.call(server.services.tidy)
        assert server.get(f"/v1/files/{file_id}").status_code == server.get(job["results"][0]["url"]).status_code == 200
    moved = server.services.store.job(job["id"])
    assert moved is not None and moved.finished == pytest.approx(job["finished"] - 10**8, abs=60)


# ---------------------------------------------------------------- the database
def test_a_locked_database_is_told_and_loses_nothing(idle: Serving) -> None:
    file_id = idle.upload()
    other = sqlite3.connect(idle.services.config.state / "jobs.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for answer in (idle.ask(file_id=file_id), idle.post("/v1/files", content=b"x")):
        assert answer.status_code == 503 and answer.json()["code"] == "database_busy" and answer.headers["retry-after"]
    assert idle.get("/v1/jobs").json()["data"] == []  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    assert len(list((idle.services.config.state / "files").iterdir())) == 1
    assert idle.ask(file_id=file_id).status_code == 201
    assert len(idle.get("/v1/jobs").json()["data"]) == 1
