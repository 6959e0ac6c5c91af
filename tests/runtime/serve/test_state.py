"""The state folder: what is no server's is never touched."""

from pathlib import Path

import pytest

from runtime.errors import MediaError
from runtime.serve.config import ServerConfig
from runtime.serve.services import open_services
from runtime.serve.start import run_server
from runtime.serve.store import new_id
from tests.support.serving import Serving


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("opens", [open_services, run_server])
@pytest.mark.parametrize("name", ["files", "jobs", "incoming", "."])
def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(tmp_path: Path, name: str, opens, monkeypatch) -> None:
    monkeypatch.setattr("runtime.serve.start._serve", lambda *_: 0)  # a failure must not serve for ever
    folder = tmp_path / name / "mine"
    folder.mkdir(parents=True)
    for file in ("film.mov", f"{new_id('file')}.mp4"):
        (folder / file).write_bytes(b"x")
    tmp_path.chmod(0o755)
    before = contents(tmp_path)
    with pytest.raises(MediaError, match="empty or new folder"):
        opens(ServerConfig(tmp_path, port=0))
    assert contents(tmp_path) == before and tmp_path.stat().st_mode & 0o777 == 0o755


def test_only_names_that_the_server_gives_are_deleted(tmp_path: Path) -> None:
    state = tmp_path / "s"
    with Serving(state):
        pass
    kept = [state / "files" / "film.mov", state / "jobs" / "mine" / "notes.txt", state / "incoming" / "a.mov"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (state / "files" / f"{new_id('file')}.mp4").write_bytes(b"x")
    with Serving(state):
        assert all(path.exists() for path in kept) and len(list((state / "files").iterdir())) == 1


def test_a_new_queue_keeps_the_files_of_the_old_one(tmp_path: Path) -> None:
    state = tmp_path / "s"
    with Serving(state) as server:
        file_id = server.upload(b"a film")
        take = server.do()["id"]
    for path in state.glob("jobs.sqlite3*"):
        path.rename(tmp_path / path.name)
    for _ in range(2):  # also the second start deletes nothing
        with Serving(state) as server:
            assert server.get("/v1/jobs").json()["data"] == []
        assert (state / "files.old1" / f"{file_id}.mp4").read_bytes() == b"a film"
        assert (state / "jobs.old1" / take / "1" / "take.npz").exists()
