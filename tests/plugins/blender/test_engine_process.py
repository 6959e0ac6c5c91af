"""The Blender add-on's engine process and jobs, against a program that speaks the protocol."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plugins.blender import job as jobs
from plugins.blender.engine import Refused
from plugins.blender.job import Job, Session
from tests.support import fake_stdio
from tests.support.stdio_host import matches

OPENING = {"backend": "cpu"}


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


@pytest.fixture
def start(session: Session, tmp_path: Path) -> Callable[..., Job]:
    def begin(behaviour: str = "", opening: dict[str, Any] = OPENING, **options: Any) -> Job:
        command = [sys.executable, fake_stdio.__file__, str(tmp_path / "log"), behaviour, "stdio"]
        fields = {"video": "shot.mp4", "output": str(tmp_path / "shot.001.wav"), "options": options}
        return session.start(command, opening, "generate", **fields)

    return begin


def requests(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    for request in found:
        matches(request, "request")
    return found


def until(job: Job, stage: str) -> None:
    while job.stage != stage:
        assert not job.finished, job.error
        job.poll()
        time.sleep(0.01)


def test_a_generation_from_start_to_files(start: Callable[..., Job], tmp_path: Path) -> None:
    job = start(takes=2, seed=7)
    assert job.text == "starting the engine" and not job.finished
    job.wait()
    assert job.error == "" and job.fraction == 1
    assert [Path(take["file"]).name for take in job.result["takes"]] == ["shot.001.wav", "shot.001.take2.wav"]
    load, generate = requests(tmp_path)
    assert load == {"id": 1, "method": "load", "backend": "cpu"}
    assert generate["method"] == "generate" and generate["options"] == {"takes": 2, "seed": 7}


def test_the_engine_stays_warm(start: Callable[..., Job], session: Session, tmp_path: Path) -> None:
    start().wait()
    start().wait()
    assert [r["method"] for r in requests(tmp_path)] == ["load", "generate", "generate"]
    start(opening={"backend": "auto"}).wait()
    assert [r["method"] for r in requests(tmp_path)][3:] == ["load", "generate"]
    assert session.hello["version"] == "9.9"
    session.close()
    assert requests(tmp_path)[-1]["method"] == "close" and session.hello == {}
    start().wait()
    assert requests(tmp_path)[-2]["id"] == 1  # a new process


def test_one_job_at_a_time(start: Callable[..., Job], session: Session) -> None:
    job = start("slow")
    with pytest.raises(Refused, match="Another sound is being made"):
        start("slow")
    session.close()
    assert job.finished and job.code == "cancelled"


@pytest.mark.parametrize("stage", ["start", "sample"])
def test_cancel(start: Callable[..., Job], session: Session, tmp_path: Path, stage: str) -> None:
    job = start("slow")
    until(job, stage)
    job.cancel()
    job.cancel()
    if stage == "sample":
        assert job.text == "cancelling" and session.busy
    job.wait()
    assert (job.code, job.error) == ("cancelled", "Cancelled") and not session.busy
    assert not list(tmp_path.glob("*.wav"))
    if stage == "sample":  # the engine is still there
        assert [r["method"] for r in requests(tmp_path)].count("cancel") == 1 and session.hello


def test_an_engine_that_hangs_is_ended(start: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    job = start("hang")
    until(job, "sample")
    job.cancel()
    job.wait()
    assert job.code == "cancelled"
    again = start("")
    again.wait()
    assert again.error == ""


@pytest.mark.parametrize(
    ("behaviour", "code", "text"),
    [
        ("refuse", "media_error", "shot.mp4 is damaged; give a whole video"),
        ("die", "crashed", "The engine ended: Segmentation fault"),
        ("noise", "bad_program", "is not MaskVAT"),
        ("future", "bad_program", "speaks protocol 1, and the program speaks 2"),
    ],
)
def test_errors_are_the_engines_words(start: Callable[..., Job], behaviour: str, code: str, text: str) -> None:
    job = start(behaviour)
    job.wait()
    assert job.code == code and text in job.error
    again = start("")  # in a new process where the old one is gone
    again.wait()
    assert again.error == ""


def test_a_failed_engine_is_opened_again(start: Callable[..., Job], tmp_path: Path) -> None:
    for _ in range(2):
        start("broken").wait()
    assert [r["method"] for r in requests(tmp_path)] == ["load", "generate"] * 2


def test_a_program_that_cannot_be_started(session: Session) -> None:
    with pytest.raises(Refused, match=r"Cannot start .*No such file"):
        session.start(["/absent/maskvat", "stdio"], OPENING)
    assert not session.busy


def test_a_check_only_loads(session: Session, tmp_path: Path) -> None:
    job = session.start([sys.executable, fake_stdio.__file__, str(tmp_path / "log"), "stdio"], OPENING)
    job.wait()
    assert job.error == "" and job.result["backend"] == "cpu"
    assert [r["method"] for r in requests(tmp_path)] == ["load"]
