"""The OpenAPI document. A test compares it with the routes, and real answers with it."""

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from runtime.serve.api.schemas import Schema, ref, schemas
from runtime.serve.problems import CODES
from runtime.version import program_version

JSON, BYTES = "application/json", "application/octet-stream"
COMMON = ("wrong_host", "wrong_origin")  # every address may answer these
BINARY: Schema = {"type": "string", "format": "binary"}


@dataclass(frozen=True)
class Operation:
    """One method of one address. `answers`: status -> name of a schema, a media type, or "" for no body."""

    summary: str
    answers: dict[int, str]
    problems: tuple[str, ...] = ()
    body: str = ""  # name of a schema
    query: dict[str, str] = field(default_factory=dict)  # name -> description
    headers: dict[str, str] = field(default_factory=dict)
    is_open: bool = False  # needs no token


TAKES_JOBS = ("draining", "queue_full", "client_limit", "storage_full", "too_large", "bad_request",
    "wrong_content_type", "option_error", "not_found", "upload_stalled")  # fmt: skip
OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/"): Operation("The page", {200: "text/html"}, is_open=True),
    ("GET", "/page/{name}"): Operation("A file of the page", {200: BYTES}, ("not_found",), is_open=True),
    ("GET", "/page/vendor/{name}"): Operation(
        "A file of the page that others wrote", {200: BYTES}, ("not_found",), is_open=True
    ),
    ("GET", "/health"): Operation("Whether the process answers", {200: "Health"}, is_open=True),
    ("GET", "/ready"): Operation(
        "Whether jobs are done", {200: "Ready"}, ("not_ready", "draining"), is_open=True
    ),
    ("GET", "/metrics"): Operation("Numbers for Prometheus", {200: "text/plain"}),
    ("GET", "/openapi.json"): Operation("This document", {200: JSON}, is_open=True),
    ("GET", "/v1/health"): Operation("The same as /health", {200: "Health"}, is_open=True),
    ("GET", "/v1/models"): Operation("The bundle that is served", {200: "Models"}),
    ("POST", "/v1/session"): Operation(
        "Give a page a cookie, for a token in the Authorization header or for a login code", {201: "Session"},
        ("not_signed_in", "wrong_content_type", "bad_request", "too_large", "upload_stalled"), "SignIn", is_open=True,
    ),
    ("GET", "/v1/session"): Operation("Who is signed in", {200: "Session"}, ("not_signed_in",), is_open=True),
    ("DELETE", "/v1/session"): Operation("End the session of a page", {204: ""}, is_open=True),
    ("POST", "/v1/session/code"): Operation(
        "A login code, which a browser exchanges for a session once. Needs a token: a page cannot get one",
        {201: "LoginCode"},
    ),
    ("POST", "/v1/files"): Operation(
        "Upload a video: its bytes, or a form with one file", {201: "File"},
        ("too_large", "bad_request", "storage_full", "upload_stalled", "draining"), "upload",
        {"name": "the file's name; a form has it already"},
    ),
    ("GET", "/v1/files"): Operation("Your uploads, the newest first", {200: "Files"}),
    ("GET", "/v1/files/{file_id}"): Operation(
        "The bytes of an upload, or of a job's video", {200: BYTES, 206: BYTES}, ("not_found", "wrong_range")
    ),
    ("DELETE", "/v1/files/{file_id}"): Operation("Delete an upload", {204: ""}, ("not_found", "file_in_use")),
    ("POST", "/v1/jobs"): Operation("Ask for a sound", {201: "Job"}, (*TAKES_JOBS, "path_not_allowed"), "NewJob"),
    ("GET", "/v1/jobs"): Operation(
        "Your jobs, the newest first", {200: "Jobs"}, ("option_error",),
        query={"status": "only these, such as queued,running", "limit": "1 to 500, 100 without it"},
    ),
    ("GET", "/v1/jobs/{job_id}"): Operation("One job", {200: "Job"}, ("not_found",)),
    ("DELETE", "/v1/jobs/{job_id}"): Operation(
        "Delete a job with its results; cancel it if it is not finished (202: delete it again when it has ended)",
        {204: "", 202: "Job"}, ("not_found",),
    ),
    ("POST", "/v1/jobs/{job_id}/cancel"): Operation("Cancel a job", {202: "Job"}, ("not_found",)),
    ("GET", "/v1/jobs/{job_id}/events"): Operation(
        "Progress as server-sent events, named `status` and `progress`, with an Event as data. After the last one: 204",
        {200: "text/event-stream", 204: ""}, ("not_found", "client_limit"),
        headers={"Last-Event-ID": "send only what came after this event"},
    ),
    ("GET", "/v1/jobs/{job_id}/results/{name}"): Operation(
        "Download a result", {200: BYTES, 206: BYTES}, ("not_found", "job_not_finished", "wrong_range", "option_error"),
        query={"folder": "timelines only: the folder in which you keep the video and the sounds"},
    ),
    ("POST", "/v1/videos"): Operation("Pallaidium: ask for a video with sound", {200: "NewVideoAnswer"}, TAKES_JOBS,
        "NewVideo"),
}  # fmt: skip


def _content(name: str) -> dict[str, Any]:
    if name == "":
        return {}
    if name == JSON:
        return {JSON: {"schema": {"type": "object"}}}
    if "/" in name:
        return {name: {"schema": BINARY if name == BYTES else {"type": "string"}}}
    return {JSON: {"schema": ref(name)}}


def _body(name: str) -> dict[str, Any]:
    if name == "upload":
        form = {"type": "object", "properties": {"file": BINARY}, "required": ["file"]}
        return {BYTES: {"schema": BINARY}, "multipart/form-data": {"schema": form}}
    return _content(name)


def _operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    codes = (*COMMON, *operation.problems, *(() if operation.is_open else ("not_signed_in", "database_busy")))
    responses: dict[str, Any] = {}
    for status, name in operation.answers.items():
        responses[str(status)] = {"description": "done"} | ({"content": _content(name)} if name else {})
    for code in codes:
        number = str(CODES[code][0])
        known = responses.get(number, {}).get("description")
        text = f"{known}, {code}" if known else code
        responses[number] = {"description": text, "content": {"application/problem+json": {"schema": ref("Problem")}}}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    for place, named in (("query", operation.query), ("header", operation.headers)):
        parameters += [
            {"name": name, "in": place, "required": False, "schema": {"type": "string"}, "description": text}
            for name, text in named.items()
        ]
    found: dict[str, Any] = {"summary": operation.summary, "responses": responses, "operationId": _name(method, path)}
    found |= {"parameters": parameters} if parameters else {}
    found |= {"requestBody": {"content": _body(operation.body)}} if operation.body else {}
    return found | ({"security": []} if operation.is_open else {})


def _name(method: str, path: str) -> str:
    return f"{method.lower()}{re.sub(r'[^a-zA-Z0-9]+', '_', path).rstrip('_') or '_root'}"


@cache
def openapi_document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for (method, path), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "maskvat serve", "version": program_version(), "license": {"name": "Apache-2.0"},
                 "description": "Sounds for silent videos. docs/SERVER.md is the guide."},
        "security": [{"token": []}, {"page": []}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "page": {"type": "apiKey", "in": "cookie", "name": "maskvat_PORT"},
            },
        },
    }  # fmt: skip
