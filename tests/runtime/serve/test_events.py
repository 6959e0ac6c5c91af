"""Progress as server-sent events: order, resume, restart."""

import asyncio

from runtime.serve.work.events import MAX_PROGRESS, EventLog, read_event_id
from tests.support.serving import Serving, events_of


def test_events_come_in_order_and_are_resumed(server: Serving) -> None:
    job = server.ask("brief").json()
    answer = server.get(f"{job['events']}")
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events_of(answer.text)
    states = [data["status"] for _, kind, data in found if kind == "status"]
    assert states == ["queued", "running", "succeeded"] and any(kind == "progress" for _, kind, _ in found)
    shares = [data["progress"] for _, _, data in found]
    assert shares == sorted(shares) and shares[-1] == 1
    rest = server.get(job["events"], headers={"Last-Event-ID": found[2][0]})
    assert events_of(rest.text) == found[3:]
    done = server.get(job["events"], headers={"Last-Event-ID": found[-1][0]})
    assert done.status_code == 204  # a browser then stops asking
    for wrong in ("x", "", "-1.2", "1" * 40, "9.9.9"):
        assert events_of(server.get(job["events"], headers={"Last-Event-ID": wrong}).text) == found


def test_events_after_a_restart(tmp_path) -> None:
    with Serving(tmp_path / "s") as server:
        job = server.do()
        last = events_of(server.get(job["events"]).text)[-1][0]
    with Serving(tmp_path / "s") as server:
        found = events_of(server.get(job["events"], headers={"Last-Event-ID": last}).text)
        assert [data["status"] for _, _, data in found] == ["succeeded"]
        assert read_event_id(found[0][0]) > read_event_id(last)


def test_a_long_job_keeps_few_events() -> None:
    async def run() -> EventLog:
        log = EventLog(1)
        log.publish("status", {"status": "running", "phase": "x", "progress": 0.0})
        for n in range(10 * MAX_PROGRESS):
            log.publish("progress", {"phase": str(n), "progress": 0.5})
        return log

    log = asyncio.run(run())
    assert len(log.events) == MAX_PROGRESS + 1 and log.events[0].kind == "status"
    assert log.events[-1].id == f"1.{10 * MAX_PROGRESS + 1}"
