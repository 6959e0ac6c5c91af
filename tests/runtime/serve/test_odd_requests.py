"""Requests that no polite client sends: each gets an answer that says what is wrong, and never status 500."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from runtime.serve.app import ROUTES
from tests.support.serving import Serving

Start = Callable[..., Serving]
JSON = {"Content-Type": "application/json"}


# ---------------------------------------------------------------- JSON
@pytest.mark.parametrize(
    "body",
    [
        '{"label": "\\ud800"}',
        '{"take": {"job_id": "\\ud800"}}',
        '{"file_id": "\\udfff"}',
        '{"options": {"prompt": "\\ud800"}}',
        '{"options": {"gain": NaN}}',
        '{"options": {"gain": -Infinity}}',
        '{"options": {"gain": 1e400}}',
        '{"options": {"seed": 1' + "0" * 5000 + "}}",
        "[" * 10000,
    ],
)
def test_text_and_numbers_that_json_should_not_have(idle: Serving, body: str) -> None:
    answer = idle.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 400 and answer.json()["code"] == "bad_request"


@pytest.mark.parametrize(
    "body",
    [
        {"file_id": ["x"]},
        {"file_id": {"a": 1}},
        {"file_id": "\x00"},
        {"path": "/a\x00b"},
        {"label": 7, "file_id": ""},
        {"take": {"job_id": None}},
        {"options": {"at": [[1, 2]]}},
        {"options": {"steps": {}}},
        {"options": {"\x00": 1}},
        {"deliver": {"sound": []}},
        {"deliver": {"timeline": {}}},
        {"priority": 1.5},
        {"priority": 10**300},
    ],
)
def test_values_of_other_kinds(idle: Serving, body: dict) -> None:
    file_id = idle.upload()
    text = {"file_id": file_id} | body if "take" not in body and "path" not in body else body
    answer = idle.post("/v1/jobs", json=text)
    assert 400 <= answer.status_code < 500 and answer.json()["detail"], answer.text


def test_the_number_of_a_take_is_a_number(server: Serving) -> None:
    job = server.do()["id"]
    for number in (True, 1.0, "1", [], 0, -1, 10**30):
        assert server.ask(take={"job_id": job, "number": number}).status_code in (404, 422), number


# ---------------------------------------------------------------- addresses
def test_odd_addresses(idle: Serving) -> None:
    odd = ["/v1/jobs/", "/v1/jobs//", "//v1/jobs", "/v1/jobs/%00", "/v1/jobs/%ff", "/v1/files/..%2f..%2ftokens"]
    odd += ["/v1/files/../tokens", "/v1/jobs/x/results/%2e%2e%2f", "/V1/jobs", "/metrics/x", "/v1/jobs/" + "x" * 5000]
    for path in odd:
        answer = idle.get(path, follow_redirects=False)
        assert answer.status_code == 404 and answer.json()["code"] == "not_found", path
        assert "location" not in answer.headers  # a redirect might lead to http, with the token


@pytest.mark.parametrize(
    "query", ["limit=%D9%A3", "limit=00000000019999999999999999999999", "limit=+5", "limit=" + "9" * 5000, "limit=1e2"]
)
def test_odd_limits(idle: Serving, query: str) -> None:
    answer = idle.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422 and answer.json()["code"] == "option_error"


def test_what_a_query_may_have_besides_is_ignored(idle: Serving) -> None:
    assert idle.get("/v1/jobs?limit=5&limit=6&nonsense=%ff&=&&%00=1").status_code == 200


def test_other_methods(server: Serving) -> None:
    job, paths = server.do(), {path for _, path in ROUTES}
    for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT", "BREW"):
        for path in paths:
            answer = server.call(method, path.format(file_id="f", job_id=job["id"], name="sound.wav"))
            assert answer.status_code == 405 or method == "HEAD", (method, path)
            assert method != "HEAD" or not answer.content
    head = server.call("HEAD", job["results"][0]["url"])
    assert int(head.headers["content-length"]) == job["results"][0]["bytes"]


def test_the_head_of_events_comes_at_once(idle: Serving) -> None:
    assert idle.call("HEAD", idle.ask().json()["events"]).status_code == 200


# ---------------------------------------------------------------- parts of files, and their names
@pytest.mark.parametrize(
    ("given", "status", "content"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=10-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=99-100", 416, None),
        *((text, 200, b"0123456789") for text in (
            "bytes=4-2", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "x", "bytes=0-1,3-4", "bytes=1", "",
            "bytes=" + "0-," * 5000, "bytes=" + "9" * 5000 + "-",
        )),
    ],
)  # fmt: skip
def test_parts_of_a_file(idle: Serving, given: str, status: int, content: bytes | None) -> None:
    answer = idle.get(f"/v1/files/{idle.upload(b'0123456789')}", headers={"Range": given})
    assert answer.status_code == status
    assert answer.content == content if content is not None else answer.json()["code"] == "wrong_range"
    assert status != 416 or answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize("label", ['a "b".mp4', "ä ß 片.mp4", "100%.mp4", "a;b=c.mp4", "a,b.mp4", "🎬.mp4", "a'b.mp4"])
def test_names_of_downloads(server: Serving, label: str) -> None:
    job = server.do(file_id=server.upload(name=label), deliver={"timeline": "otio"})
    downloads = {r["url"]: r["download"] for r in job["results"]} | {f"/v1/files/{job['source']['file_id']}": label}
    for url, name in downloads.items():
        header = server.get(url).headers["content-disposition"]
        assert header.startswith('attachment; filename="') and header.isascii() and header.count('"') == 2
        assert unquote(header.partition("filename*=utf-8''")[2]) == name


# ---------------------------------------------------------------- paths
def test_the_state_is_not_for_clients_whatever_folder_is_allowed(start: Start, tmp_path: Path) -> None:
    server = start(allow_folders=(tmp_path.resolve(),))
    secret = server.services.store.file(server.upload(b"another client's film"))
    assert secret is not None
    (tmp_path / "link.mp4").symlink_to(secret.path)
    for path in (
        secret.path,
        tmp_path / "link.mp4",
        server.services.tokens.path,
        tmp_path / "state" / ".." / "state/lock",
    ):
        assert server.ask(path=str(path)).json()["code"] == "path_not_allowed", path
