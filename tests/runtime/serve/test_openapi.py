"""The OpenAPI document against the routes, and real answers against the document."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from runtime.commands.make import get_parser
from runtime.serve.api.openapi import OPERATIONS, openapi_document
from runtime.serve.app import ROUTES
from runtime.serve.problems import CODES
from runtime.serve.work.job_request import OURS, option_actions
from tests.support.paths import ROOT
from tests.support.serving import Serving, events_of

jsonschema = pytest.importorskip("jsonschema")
DOCUMENT = openapi_document()


def check(schema: dict[str, Any], value: object) -> None:
    jsonschema.Draft202012Validator(schema | {"components": DOCUMENT["components"]}).validate(value)


class Checked:
    """A client whose every answer must be in the document."""

    def __init__(self, server: Serving) -> None:
        self.server = server
        self.seen: set[tuple[str, str, int]] = set()
        call = server.call

        def checked(method: str, path: str, **more: Any) -> Any:
            answer = call(method, path, **more)
            self.check(method, path.partition("?")[0], answer)
            return answer

        server.call = checked  # type: ignore[method-assign]

    def check(self, method: str, path: str, answer: Any) -> None:
        (template,) = [t for (m, t) in ROUTES if m == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", t), path)]
        described = DOCUMENT["paths"][template][method.lower()]["responses"]
        assert str(answer.status_code) in described, (method, template, answer.status_code, answer.text[:300])
        self.seen.add((method, template, answer.status_code))
        content = described[str(answer.status_code)].get("content", {})
        if not content:
            assert answer.content == b""
            return
        kind = answer.headers["content-type"].partition(";")[0]
        if kind in ("application/json", "application/problem+json") and kind in content:
            check(content[kind]["schema"], answer.json())
            if kind == "application/problem+json":
                assert answer.json()["code"] in described[str(answer.status_code)]["description"].split(", ")
        else:
            assert kind in content or "application/octet-stream" in content, kind


def test_the_document_has_the_routes_and_no_others() -> None:
    assert set(OPERATIONS) == set(ROUTES)
    names = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) == len(ROUTES)
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert used | {"Event", "Problem"} == set(DOCUMENT["components"]["schemas"])


@pytest.mark.slow
def test_the_document_is_valid_openapi() -> None:
    pytest.importorskip("openapi_spec_validator").validate(DOCUMENT)


def test_options_are_the_flags_of_the_command() -> None:
    flags = {action.dest for action in get_parser()._actions}
    assert flags >= OURS  # none of these was renamed: it would become an option
    described = DOCUMENT["components"]["schemas"]["Options"]["properties"]
    assert set(described) == set(option_actions()) == flags - OURS
    assert described["steps"] == {"type": "integer", "default": 32, "description": "unmasking steps, 1 to 1024"}


def test_every_code_is_in_the_guide() -> None:
    guide = (ROOT / "docs" / "SERVER.md").read_text(encoding="utf-8")
    assert not [code for code in CODES if f"`{code}`" not in guide]


def test_real_answers_are_as_described(server: Serving) -> None:
    client = Checked(server)
    pages = ("/", "/page/main.js", "/page/vendor/regions.esm.js")
    for path in (*pages, "/health", "/v1/health", "/openapi.json", "/metrics", "/v1/jobs", "/v1/files"):
        server.get(path)
    job = server.do(options={"steps": 4, "range": "0-1"}, deliver={"video": True, "timeline": "mlt"})
    for path in ("/ready", "/v1/models", "/v1/jobs", "/v1/files", f"/v1/files/{job['file_id']}"):
        server.get(path)
    for result in job["results"]:
        server.get(result["url"])
    server.get(job["results"][0]["url"], headers={"Range": "bytes=0-1"})
    found = events_of(server.get(job["events"]).text)
    for _, _, data in found:
        check({"$ref": "#/components/schemas/Event"}, data)
    server.get(job["events"], headers={"Last-Event-ID": found[-1][0]})
    server.do("error")
    server.do(take={"job_id": job["id"]}, options={"redo": "0-1"})
    slow = server.ask("slow").json()
    server.get(f"/v1/jobs/{slow['id']}/results/sound.wav")
    server.delete(f"/v1/files/{slow['source']['file_id']}")
    server.post(f"/v1/jobs/{slow['id']}/cancel")
    server.wait(slow["id"])
    _wrong_requests(server)
    server.post("/v1/session")
    server.get("/v1/session")
    server.post("/v1/session/code")
    server.delete("/v1/session")
    server.post("/v1/videos", json={"control_file_id": server.upload()})
    server.post(f"/v1/jobs/{slow['id']}/cancel")
    server.delete(f"/v1/jobs/{slow['id']}")
    server.delete(f"/v1/files/{slow['source']['file_id']}")
    assert {(m, p) for m, p, status in client.seen if status < 300} == set(ROUTES)


def _wrong_requests(server: Serving) -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: server.get("/v1/jobs/x"),
        lambda: server.get("/v1/jobs?limit=0"),
        lambda: server.get("/v1/files/x"),
        lambda: server.get("/v1/jobs", headers={"Host": "evil"}),
        lambda: server.get("/v1/jobs", headers={"Origin": "null"}),
        lambda: server.get("/v1/jobs", headers={"Authorization": ""}),
        lambda: server.post("/v1/jobs", json={}),
        lambda: server.post("/v1/jobs", json={"path": "/etc/passwd"}),
        lambda: server.post("/v1/jobs", content=b"{", headers={"Content-Type": "application/json"}),
        lambda: server.post("/v1/jobs", content=b"{"),
        lambda: server.post("/v1/files", content=b""),
        lambda: server.post("/v1/session", json={"code": "x"}, headers={"Authorization": ""}),
    ]
    for call in wrong:
        assert call().status_code >= 400
