"""Uploads: raw and as a form, names, limits, deletion."""

from collections.abc import Callable, Iterator

import pytest

from runtime.serve.api.bodies import clean_label
from tests.support.serving import Serving

Start = Callable[..., Serving]


def test_a_raw_upload_comes_back(idle: Serving) -> None:
    file_id = idle.upload(b"\x00\x01" * 1000, "a.mp4")
    answer = idle.get(f"/v1/files/{file_id}")
    assert answer.content == b"\x00\x01" * 1000 and answer.headers["x-content-type-options"] == "nosniff"
    assert 'attachment; filename="a.mp4"' in answer.headers["content-disposition"]
    assert [f["id"] for f in idle.get("/v1/files").json()["data"]] == [file_id]
    assert idle.delete(f"/v1/files/{file_id}").status_code == 204
    assert idle.get(f"/v1/files/{file_id}").status_code == 404
    assert not any((idle.services.config.state / "files").iterdir())


def test_a_form(idle: Serving) -> None:
    data = b"--\r\n" + bytes(range(256)) * 300
    answer = idle.post("/v1/files", data={"purpose": "control"}, files={"file": ("ä b.mov", data, "video/quicktime")})
    assert answer.status_code == 201 and answer.json()["name"] == "ä b.mov"
    assert idle.get(f"/v1/files/{answer.json()['file_id']}").content == data


def test_damaged_forms(idle: Serving) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    whole = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\ndata\r\n--x--\r\n'
    assert idle.post("/v1/files", headers=kind, content=whole).status_code == 201
    for body in (whole[:-12], b"", b"nonsense", whole.replace(b"; filename", b"; other")):
        answer = idle.post("/v1/files", headers=kind, content=body)
        assert answer.status_code == 400 and answer.json()["code"] == "bad_request", body
    assert idle.post("/v1/files", headers={"Content-Type": "multipart/form-data"}, content=whole).status_code == 400
    assert idle.post("/v1/files", content=b"").status_code == 400
    assert not any(idle.services.incoming.iterdir())


@pytest.mark.parametrize("is_form", [False, True])
def test_too_many_bytes(start: Start, is_form: bool) -> None:
    server = start(workers=0, limits={"upload_bytes": 30000})
    files = {"files": {"file": ("a.mp4", b"x" * 30001)}} if is_form else {"content": b"x" * 30001}
    answer = server.post("/v1/files", **files)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large" and "30000" in answer.text
    server.upload(b"x" * 30000)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    assert server.post("/v1/files", content=endless()).status_code == 413  # no length is told
    assert not any(server.services.incoming.iterdir())


def test_the_storage_is_limited(start: Start) -> None:
    server = start(workers=0, limits={"storage_bytes": 1000})
    file_id = server.upload(b"x" * 900)
    answer = server.post("/v1/files", content=b"x" * 200)
    assert answer.status_code == 507 and answer.json()["code"] == "storage_full"
    server.delete(f"/v1/files/{file_id}")
    server.upload(b"x" * 200)


def test_an_upload_that_a_job_needs_stays(idle: Serving) -> None:
    job = idle.ask("slow").json()
    answer = idle.delete(f"/v1/files/{job['source']['file_id']}")
    assert answer.status_code == 409 and answer.json()["code"] == "file_in_use"
    idle.post(f"/v1/jobs/{job['id']}/cancel")
    idle.wait(job["id"])
    assert idle.delete(f"/v1/files/{job['source']['file_id']}").status_code == 204


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a.mov", "a.mov"),
        ("a\r\nSet-Cookie: x.mp4", "aSet-Cookie: x.mp4"),
        ("‮4pm.exe", "4pm.exe"),
        ("..", "video"),
        ("", "video"),
        ("x" * 300 + ".mp4", "x" * 112 + ".mp4"),
    ],
)
def test_a_name_is_only_a_label(idle: Serving, name: str, label: str) -> None:
    assert clean_label(name) == label
    file_id = idle.upload(name=name)
    assert idle.get(f"/v1/files/{file_id}").status_code == 200
    stored = idle.services.store.file(file_id)
    assert stored is not None and stored.path.startswith(str(idle.services.config.state / "files" / file_id))
