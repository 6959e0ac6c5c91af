"""No answer and no file that a client can get holds the server's own paths or internal file names."""

import io
import json
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.deliver.timeline.model import Timeline, TimelineSound
from runtime.deliver.timeline.write import WRITERS, write_timeline
from runtime.edit.fingerprint import Fingerprint
from runtime.edit.take_file import load_take
from runtime.serve.store import new_id
from runtime.serve.work.timelines import timeline_for_client
from runtime.take import name_clip
from tests.support.serving import Serving
from tests.support.takes import REPORT, make_take

Start = Callable[..., Serving]
LABEL = 'ä "b" & c\'s.mov'
STEM = LABEL.removesuffix(".mov")


# ---------------------------------------------------------------- answers and files, with a fake worker
def texts(server: Serving, job: dict[str, Any]) -> list[str]:
    """All that a client can read of a job."""
    found = [json.dumps(job), server.get("/v1/jobs").text, server.get("/v1/files").text, server.get(job["events"]).text]
    return found + [server.get(result["url"]).text for result in job["results"]]


@pytest.mark.parametrize("timeline", ["otio", "mlt"])
def test_answers_and_files(server: Serving, timeline: str) -> None:
    deliver = {"video": True, "timeline": timeline}
    first = server.do(file_id=server.upload(name=LABEL), options={"candidates": 2, "takes": 2}, deliver=deliver)
    redo = server.do(take={"job_id": first["id"], "number": 2}, options={"redo": "0-0.5"}, deliver=deliver)
    failed = server.do("error", file_id=first["source"]["file_id"])
    for job in (first, redo, failed):
        for text in texts(server, job):
            assert str(server.services.config.state) not in text
            assert f"{job['source']['file_id']}.mov" not in text and f"{job['id']}/1" not in text
    assert failed["error"]["message"] == f"{LABEL} is not a video"
    assert first["warnings"] == [f"{LABEL}: one damaged frame skipped"]
    (url,) = [r["url"] for r in first["results"] if r["kind"] == "report"]
    report = server.get(url).json()
    assert report["clip"] == LABEL and report["warnings"] == first["warnings"]
    assert report["outputs"] == [result["download"] for result in first["results"]]
    assert report["takes"][1]["file"] == f"{STEM}.take2.wav"


def test_a_path_is_called_as_the_client_gave_it(start: Start, tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (films / "secret name.mp4").write_bytes(b"x")
    (films / "shot.mp4").symlink_to("secret name.mp4")
    server = start(allow_folders=(films.resolve(),))
    given = str(films / "shot.mp4")
    job = server.do(path=given, deliver={"timeline": "otio"})
    failed = server.do("error", path=given)
    assert all("secret name" not in text for text in texts(server, job))
    assert failed["error"]["message"] == f"{given} is not a video" and job["label"] == "shot.mp4"
    (url,) = [r["url"] for r in job["results"] if r["kind"] == "timeline"]
    assert server.get(url).json()["video"] == given
    assert server.get(f"{url}?folder=/my").json()["video"] == "/my/shot.mp4"


def test_a_label_names_the_results_and_not_the_video(server: Serving) -> None:
    deliver = {"video": True, "timeline": "otio"}
    job = server.do(file_id=server.upload(name="clip.mov"), label="My shot", deliver=deliver)
    downloads = {result["kind"]: result["download"] for result in job["results"]}
    assert (downloads["sound"], downloads["video"]) == ("My shot.wav", "My shot.sound.mov")
    (url,) = [result["url"] for result in job["results"] if result["kind"] == "timeline"]
    timeline = server.get(f"{url}?folder=/films").json()
    assert (timeline["video"], timeline["sound"]) == ("/films/clip.mov", "/films/My shot.wav")


# ---------------------------------------------------------------- takes
def test_takes_have_the_name_that_a_host_gave(tmp_path: Path) -> None:
    path = f"/state/files/{new_id('file')}.mov"
    report = REPORT.__class__(**vars(REPORT) | {"clip": path, "warnings": (f"{path}: damaged",)})
    made = Fingerprint(Path(path).name, 5, "x")
    takes = [make_take(np.zeros(44100, np.float32), report=report, fingerprint=made, candidate=n) for n in (1, 2)]
    named = name_clip(takes, path, f"/films/{LABEL}")
    assert [take.candidate for take in named] == [1, 2] and named[0].report is named[1].report
    named[0].save(tmp_path / "a.npz")
    take = load_take(tmp_path / "a.npz")
    assert take.report.clip == f"/films/{LABEL}" and list(take.report.warnings) == [f"/films/{LABEL}: damaged"]
    assert take.fingerprint is not None and (take.fingerprint.name, take.fingerprint.digest) == (LABEL, "x")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "a.npz").read_bytes())) as archive:
        assert not any(Path(path).stem.encode() in archive.read(name) for name in archive.namelist())


# ---------------------------------------------------------------- timelines, as they are really written
def for_client(folder: Path, suffix: str, media: str, source: dict[str, str] | None = None) -> str:
    state = folder / "jürgen's & state"
    video, sounds = state / "files" / f"{new_id('file')}.mov", state / "jobs" / new_id("job") / "1"
    sounds.mkdir(parents=True)
    names = {"sound.wav": f"{STEM}.wav", "sound.take2.wav": f"{STEM}.take2.wav"}
    tracks = [TimelineSound(sounds / name, "MaskVAT", 44100, 1, 16, 44100, 0, 25) for name in names]
    path = sounds / f"timeline{suffix}"
    write_timeline(path, Timeline(video.name, Fraction(25), video, 25, (64, 48), tracks))
    spec = {"video": str(video), "label": LABEL, "source": source or {"file_id": video.stem}, "options": {},
        "deliver": {}}  # fmt: skip
    results = [{"kind": "sound", "name": name, "download": theirs} for name, theirs in names.items()]
    job: Any = SimpleNamespace(spec=spec, result={"results": results})
    text = timeline_for_client(path.read_text(encoding="utf-8"), suffix, job, sounds, media)
    for ours in (str(state), video.name, video.stem, "sound.wav", "sound.take2.wav", "rgen"):
        assert ours not in text
    return text


def paths_in(text: str, suffix: str) -> set[str]:
    """All paths and addresses of media that a timeline names."""
    import xml.etree.ElementTree as ET

    if suffix == ".otio":
        tracks = json.loads(text)["tracks"]["children"]
        clips = [clip for track in tracks for clip in track["children"] if clip["OTIO_SCHEMA"] == "Clip.2"]
        return {clip["media_references"]["DEFAULT_MEDIA"]["target_url"] for clip in clips}
    if suffix == ".lua":
        lua = pytest.importorskip("lupa").LuaRuntime(unpack_returned_tuples=True)
        table = lua.execute(text)
        return {table["video"], *(sound["path"] for sound in table["sounds"].values())}
    root = ET.fromstring(text)
    if suffix == ".mlt":
        return {p.text or "" for c in root.iter("chain") for p in c.iter("property") if p.get("name") == "resource"}
    found = (
        [e.text for e in root.iter("pathurl")] if suffix == ".xml" else [e.get("src") for e in root.iter("media-rep")]
    )
    return {address or "" for address in found}


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_kind_of_timeline_names_the_client_s_files(tmp_path: Path, suffix: str) -> None:
    plain = {LABEL, f"{STEM}.wav", f"{STEM}.take2.wav"}
    quoted = {"%C3%A4%20%22b%22%20%26%20c%27s.mov", "%C3%A4%20%22b%22%20%26%20c%27s.wav",
        "%C3%A4%20%22b%22%20%26%20c%27s.take2.wav"}  # fmt: skip
    is_address = suffix in (".xml", ".fcpxml")
    host = "file://localhost" if suffix == ".xml" else "file://"
    names = quoted if is_address else plain
    for media, path, address in (
        ("", "", ""),
        ("/films/day 1/", "/films/day 1/", f"{host}/films/day%201/"),
        ("D:\\films", "D:/films/", f"{host}/D:/films/"),
        ("/", "/", f"{host}/"),
    ):
        folder = tmp_path / f"x{len(media)}"
        text = for_client(folder, suffix, media)
        assert paths_in(text, suffix) == {f"{address if is_address else path}{name}" for name in names}, media
    if suffix in (".xml", ".fcpxml"):
        assert f"<!DOCTYPE {'xmeml' if suffix == '.xml' else 'fcpxml'}>" in text
