"""Jobs: from the upload to the results, order, limits, cancel, delete, takes."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.serving import Serving

Start = Callable[..., Serving]


def test_from_an_upload_to_all_results(strict: None, server: Serving) -> None:
    job = server.do(
        file_id=server.upload(name="sho t.mov"),
        options={"steps": 4, "candidates": 2, "takes": 2},
        deliver={"video": True, "timeline": "otio"},
    )
    assert job["status"] == "succeeded" and job["progress"] == 1 and job["error"] is None
    found = {(r["name"], r["kind"], r["take"], r["download"]) for r in job["results"]}
    assert found == {
        ("sound.wav", "sound", 1, "sho t.wav"),
        ("sound.take2.wav", "sound", 2, "sho t.take2.wav"),
        ("take.npz", "take", 1, "sho t.npz"),
        ("take.take2.npz", "take", 2, "sho t.take2.npz"),
        ("video.mov", "video", None, "sho t.sound.mov"),
        ("timeline.otio", "timeline", None, "sho t.otio"),
        ("report.json", "report", None, "sho t.json"),
    }
    for result in job["results"]:
        answer = server.get(result["url"])
        assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
        if result["kind"] != "timeline":
            assert len(answer.content) == result["bytes"]
    part = server.get(job["results"][0]["url"], headers={"Range": "bytes=2-5"})
    assert part.status_code == 206 and len(part.content) == 4


def test_a_timeline_names_the_paths_of_the_client(server: Serving) -> None:
    job = server.do(file_id=server.upload(name="shot.mov"), deliver={"timeline": "otio"})
    url = f"/v1/jobs/{job['id']}/results/timeline.otio"
    here = json.loads(server.get(url).text)
    there = json.loads(server.get(url, params={"folder": "/films/ä/"}).text)
    assert (here["video"], here["sound"]) == ("shot.mov", "shot.wav")
    assert (there["video"], there["sound"]) == ("/films/ä/shot.mov", "/films/ä/shot.wav")


def test_options_are_checked_as_by_the_command(server: Serving) -> None:
    wrong = {
        "steps is 0": {"steps": 0},
        "there is no option 'output'": {"output": "/etc/passwd"},
        "there is no option 'from'": {"from": "/etc/passwd"},
        "there is no option 'mux'": {"mux": "x.mp4"},
        "not a range": {"range": "x-y"},
        "changes a take": {"redo": "0-1"},
        "invalid choice": {"rate": 8000},
    }
    file_id = server.upload()
    for words, options in wrong.items():
        answer = server.post("/v1/jobs", json={"file_id": file_id, "options": options})
        assert answer.status_code == 422 and answer.json()["code"] == "option_error", answer.text
        assert words in answer.json()["detail"], answer.text
    for body in (
        {},
        {"file_id": file_id, "path": "/x"},
        {"file_id": file_id, "nonsense": 1},
        {"file_id": file_id, "deliver": {"sound": "mp3"}},
        {"file_id": file_id, "deliver": {"timeline": "edl"}},
        {"file_id": file_id, "deliver": []},
        {"file_id": file_id, "priority": 99},
        {"file_id": file_id, "options": []},
    ):
        assert server.post("/v1/jobs", json=body).status_code == 422, body
    assert server.post("/v1/jobs", json={"file_id": "file_x"}).status_code == 404
    assert server.get("/v1/jobs").json()["data"] == []


def test_words_are_looked_up_before_a_job_is_accepted(start: Start, bundles: Callable[..., Path]) -> None:
    answer = start(workers=0, engines=bundles()).ask(options={"prompt": "no such word zzz"})
    assert answer.status_code == 422 and answer.json()["code"] == "option_error" and "zzz" in answer.text


def test_the_highest_priority_is_done_first_then_the_oldest(server: Serving) -> None:
    first = server.ask("slow").json()
    server.wait(first["id"], lambda job: job["status"] == "running")
    low, normal, high = (server.ask(priority=p).json()["id"] for p in (-1, 0, 5))
    later = server.ask(priority=5).json()["id"]
    assert [server.job(i)["position"] for i in (high, later, normal, low)] == [0, 1, 2, 3]
    server.post(f"/v1/jobs/{first['id']}/cancel")
    started = [server.wait(i)["started"] for i in (high, later, normal, low)]
    assert started == sorted(started)
    ids = [job["id"] for job in server.get("/v1/jobs?status=succeeded&limit=2").json()["data"]]
    assert ids == [later, high]
    assert server.get("/v1/jobs?status=lost").status_code == server.get("/v1/jobs?limit=0").status_code == 422


def test_a_failure_is_told(server: Serving) -> None:
    job = server.do("error")
    assert job["status"] == "failed" and job["error"]["code"] == "media_error" and job["results"] == []
    assert server.do()["status"] == "succeeded"


def test_cancel(strict: None, server: Serving) -> None:
    running = server.ask("slow").json()["id"]
    server.wait(running, lambda job: job["status"] == "running" and job["progress"] > 0)
    waiting = server.ask().json()["id"]
    for job_id in (waiting, running):
        assert server.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
        assert server.wait(job_id)["status"] == "cancelled"
    job = server.do()
    assert server.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "succeeded"


def test_delete(server: Serving) -> None:
    job = server.do()
    folder = server.services.config.state / "jobs" / job["id"]
    assert folder.is_dir()
    assert server.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert server.get(f"/v1/jobs/{job['id']}").status_code == 404 and not folder.exists()
    running = server.ask("slow").json()["id"]
    server.wait(running, lambda job: job["status"] == "running")
    assert server.get(f"/v1/jobs/{running}/results/sound.wav").json()["code"] == "job_not_finished"
    assert server.delete(f"/v1/jobs/{running}").status_code == 202
    end = time.monotonic() + 10
    while server.get(f"/v1/jobs/{running}").status_code == 200 and time.monotonic() < end:
        time.sleep(0.05)
    assert server.get(f"/v1/jobs/{running}").status_code == 404
    assert not (server.services.config.state / "jobs" / running).exists()


def test_a_kept_take_is_redone_varied_and_extended(strict: None, server: Serving) -> None:
    first = server.do(options={"candidates": 2, "takes": 2})
    take = {"job_id": first["id"], "number": 2}
    for options in ({"redo": "0.1-0.5"}, {"vary": 0.3, "seed": 4}, {"extend": True}, {"bits": "24"}):
        job = server.do(take=take, options=options)
        assert job["status"] == "succeeded" and job["source"] == first["source"] and job["take"] == take, job
        made = json.loads(server.get(f"/v1/jobs/{job['id']}/results/sound.wav").text)
        assert made["from"].endswith(f"{first['id']}/1/take.take2.npz")
    again = server.do(take={"job_id": job["id"]}, options={"redo": "0.1-0.5"})  # a take of a take
    assert again["status"] == "succeeded"
    for options in ({"redo": "x"}, {"vary": 0}, {"extend": True, "vary": 0.5}, {"range": "0-1"}, {"steps": 8}):
        answer = server.ask(take=take, options=options)
        assert answer.status_code == 422, (options, answer.text)
    assert server.ask(take={"job_id": first["id"], "number": 3}).status_code == 404
    assert server.ask(take={"job_id": "job_x"}).status_code == 404


def test_the_limits_are_told(start: Start) -> None:
    server = start(limits={"queue": 2, "per_client": 4})
    running = server.ask("slow").json()["id"]
    server.wait(running, lambda job: job["status"] == "running")
    assert [server.ask().status_code for _ in range(2)] == [201, 201]
    full = server.ask()
    assert full.status_code == 503 and full.json()["code"] == "queue_full" and "2 jobs" in full.json()["detail"]
    assert int(full.headers["retry-after"]) > 0


def test_one_client_cannot_fill_the_queue_or_see_others(start: Start) -> None:
    server = start(limits={"per_client": 1})
    path = server.services.tokens.path
    path.write_text(f"{path.read_text()}other {'o' * 40}\n")
    first = server.ask("slow").json()
    refused = server.ask()
    assert refused.status_code == 429 and refused.json()["code"] == "client_limit"
    mine, server.headers = server.headers, {"Authorization": f"Bearer {'o' * 40}"}
    assert server.ask().status_code == 201
    assert server.get(f"/v1/jobs/{first['id']}").status_code == 404
    assert server.delete(f"/v1/files/{first['source']['file_id']}").status_code == 404
    assert server.ask(file_id=first["source"]["file_id"]).status_code in (404, 429)
    assert len(server.get("/v1/jobs").json()["data"]) == len(server.get("/v1/files").json()["data"]) == 1
    server.headers = mine
    server.post(f"/v1/jobs/{first['id']}/cancel")


def test_paths_only_inside_of_allowed_folders(start: Start, tmp_path: Path) -> None:
    films, other = tmp_path / "films", tmp_path / "films2"
    for folder in (films / "day 1", other):
        folder.mkdir(parents=True)
    (films / "day 1" / "a.mp4").write_bytes(b"x")
    (other / "secret.mp4").write_bytes(b"x")
    (films / "link.mp4").symlink_to(other / "secret.mp4")
    (films / "inside.mp4").symlink_to(films / "day 1" / "a.mp4")
    (films / "out").symlink_to(other)
    server = start(allow_folders=(films.resolve(),))
    assert server.do(path=str(films / "day 1" / "a.mp4"))["status"] == "succeeded"
    assert server.do(path=str(films / "inside.mp4"))["label"] == "inside.mp4"  # as the client calls it
    outside = [
        other / "secret.mp4",
        films / "link.mp4",
        films / "out" / "secret.mp4",
        films / ".." / "films2" / "x.mp4",
    ]
    for path in [*outside, "/etc/passwd", "/etc/no such file"]:
        answer = server.ask(path=str(path))
        assert answer.status_code == 403 and answer.json()["code"] == "path_not_allowed", path
    for path in ("films/a.mp4", "", 7):
        assert server.ask(path=path).status_code == 422
    assert server.ask(path=str(films / "none.mp4")).status_code == 404
    assert server.ask(path=str(films / "day 1")).status_code == 404


def test_a_path_is_checked_again_when_the_job_begins(start: Start, tmp_path: Path) -> None:
    films = tmp_path / "films"
    (films / "day").mkdir(parents=True)
    (films / "day" / "a.mp4").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.mp4").write_bytes(b"secret")
    server = start(allow_folders=(films.resolve(),))
    first = server.ask("slow").json()["id"]
    server.wait(first, lambda job: job["status"] == "running")
    job = server.ask(path=str(films / "day" / "a.mp4")).json()["id"]
    (films / "day").rename(films / "old")
    (films / "day").symlink_to(tmp_path / "other")
    server.post(f"/v1/jobs/{first}/cancel")
    assert server.wait(job)["error"]["code"] == "path_not_allowed"


def test_without_allowed_folders_no_path_is_taken(server: Serving) -> None:
    assert server.ask(path="/etc/passwd").json()["code"] == "path_not_allowed"


@pytest.mark.parametrize("name", ["../sound.wav", "..%2Fsound.wav", "%2e%2e/1/sound.wav", "jobs.sqlite3"])
def test_results_have_no_other_names(server: Serving, name: str) -> None:
    job = server.do()
    assert server.get(f"/v1/jobs/{job['id']}/results/{name}").status_code in (404, 405)


def test_old_jobs_and_uploads_are_deleted(start: Start) -> None:
    server = start(limits={"keep": 0.2})
    job = server.do()
    file_id = job["source"]["file_id"]
    time.sleep(0.3)
    server.plain.portal.call(server.services.tidy)
    assert server.get(f"/v1/jobs/{job['id']}").status_code == server.get(f"/v1/files/{file_id}").status_code == 404
    state = server.services.config.state
    assert not any((state / "jobs").iterdir()) and not any((state / "files").iterdir())
    assert {"expire file", "expire job"} <= {line["action"] for line in server.audit()}
