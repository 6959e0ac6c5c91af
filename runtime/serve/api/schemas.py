"""JSON Schemas of what is sent and answered, for the OpenAPI document."""

import argparse
from functools import cache
from typing import Any

from runtime.serve.problems import CODES
from runtime.serve.store import STATUSES
from runtime.serve.work.job_request import PRIORITIES, SOUNDS, TIMELINES, option_actions

Schema = dict[str, Any]
TYPES = {int: "integer", float: "number"}
TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "number", "description": "seconds since 1970, UTC"}
TIME_OR_NONE: Schema = {"type": ["number", "null"], "description": "seconds since 1970, UTC"}
NUMBER: Schema = {"type": "number"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def obj(description: str, properties: dict[str, Schema], optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object that has exactly these properties; `optional` ones may be missing."""
    required = [name for name in properties if name not in optional]
    schema: Schema = {"type": "object", "description": description, "properties": properties}
    return schema | ({"required": required} if required else {}) | {"additionalProperties": False} | more


def listed(name: str) -> Schema:
    return obj("a list", {"data": {"type": "array", "items": ref(name)}})


def _option(action: argparse.Action) -> Schema:
    """The schema of a flag."""
    text = (action.help or "").replace("%%", "%")
    if isinstance(action, argparse._StoreTrueAction):
        return {"type": "boolean", "description": text}
    schema: Schema = {"type": TYPES.get(action.type, "string"), "description": text}  # type: ignore[call-overload]
    if action.choices is not None:
        schema["enum"] = list(action.choices)
    if action.default not in (None, argparse.SUPPRESS):
        schema["default"] = action.default
    return schema


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


@cache
def schemas() -> dict[str, Schema]:
    """All schemas by name."""
    return _inputs() | _answers()


def _inputs() -> dict[str, Schema]:
    number: Schema = {"type": "integer", "minimum": 1}
    deliver: dict[str, Schema] = {
        "sound": {"enum": list(SOUNDS), "default": "wav"},
        "video": {"type": "boolean", "default": False, "description": "the video with the best sound"},
        "timeline": {"enum": [*TIMELINES, None], "default": None},
    }
    options = {name: _option(action) for name, action in sorted(option_actions().items())}
    video: Schema = {
        "type": "object",
        "description": "Pallaidium's request; fields that are not listed are ignored",
        "properties": {
            "control_file_id": {"type": "string", "description": "the upload that gets a sound"},
            **{"seed": {"type": "integer"}, "prompt": TEXT, "negative_prompt": TEXT},
        },
        "required": ["control_file_id"],
    }
    return {
        "Take": obj("a kept take of a finished job", {"job_id": TEXT, "number": number}, ("number",)),
        "Deliver": obj("which files to make; takes and the report are always made", deliver, tuple(deliver)),
        "Options": obj("flags of `maskvat make`", options, tuple(options)),
        "NewJob": _new_job(),
        "NewVideo": video,
        "SignIn": obj("a login code", {"code": TEXT}),
    }


def _new_job() -> Schema:
    low, high = PRIORITIES
    fields: dict[str, Schema] = {
        "file_id": {"type": "string", "description": "an upload"},
        "path": {"type": "string", "description": "an absolute path, where the server allows folders"},
        "take": ref("Take"),
        "options": ref("Options"),
        "deliver": ref("Deliver"),
        "priority": {"type": "integer", "minimum": low, "maximum": high, "default": 0},
        "label": {"type": "string", "description": "a name for people, and for downloads"},
    }
    text = "give file_id, path or take; with a take, the video is that of its job unless another is given"
    return obj(text, fields, tuple(fields))


def _answers() -> dict[str, Schema]:
    error = obj("why a job made nothing", {"code": TEXT, "message": TEXT})
    source = obj("file_id or path", {"file_id": TEXT, "path": TEXT}, ("file_id", "path"))
    share: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    file = {"id": TEXT, "file_id": TEXT, "object": {"const": "file"}, "name": TEXT, "bytes": {"type": "integer"}}
    return {
        "Problem": obj("an error (RFC 9457)", {
            "type": TEXT, "title": TEXT, "status": {"type": "integer"}, "detail": TEXT, "code": {"enum": list(CODES)},
        }),
        "File": obj("an upload", file | {"created": TIME, "expires": TIME}),
        "Files": listed("File"),
        "Model": obj("the bundle that is served", {
            "id": TEXT, "object": {"const": "model"}, "type": {"const": "video"},
            "modes": {"type": "array", "items": TEXT}, "supports_audio_output": {"const": True},
            **{name: {"type": ["string", "null"]} for name in ("bundle", "backend", "precision")},
            "words": {"type": "array", "items": TEXT, "description": "words that prompt, at and avoid know"},
            "any_text": {"type": "boolean", "description": "whether they take any text, not these words alone"},
        }),
        "Models": listed("Model"),
        "Result": obj("a file that a job made", {
            "name": TEXT, "kind": {"enum": ["sound", "take", "video", "report", "timeline"]},
            "take": {"type": ["integer", "null"], "minimum": 1}, "bytes": {"type": "integer"}, "media_type": TEXT,
            "download": {"type": "string", "description": "its file name for people"}, "url": TEXT,
        }),
        "Job": obj("a job", _job(error, source, share)),
        "Jobs": listed("Job"),
        "NewVideoAnswer": obj("the job to ask for", {"id": TEXT, "status": {"const": "queued"}}),
        "Event": obj("the data of an event: the whole state, so a missed one does no harm", {
            "status": {"enum": list(STATUSES)}, "phase": TEXT, "progress": share, "error": _nullable(error),
            **{name: {"type": "integer", "minimum": 0} for name in ("window", "step", "steps")},
        }, ("error", "window", "step", "steps")),
        "Health": obj("the process answers", {
            "status": {"const": "ok"}, "contract_versions": {"type": "array", "items": TEXT},
        }),
        "Ready": obj("jobs are done", {"status": {"const": "ready"}, "workers": {"type": "integer", "minimum": 1}}),
        "Session": obj("who is signed in", {"client": TEXT, "seconds": NUMBER}),
        "LoginCode": obj("a code that works once, for so many seconds", {"code": TEXT, "seconds": NUMBER}),
    }  # fmt: skip


def _job(error: Schema, source: Schema, share: Schema) -> dict[str, Schema]:
    scored = obj("a take's place among the candidates", {
        "candidate": {"type": "integer", "minimum": 0}, "score": {"type": ["number", "null"]},
    })  # fmt: skip
    return {
        "id": TEXT,
        "object": {"const": "job"},
        "status": {"enum": list(STATUSES)},
        "phase": {"type": "string", "description": "queued, starting, video, sample, select, codec or done"},
        "progress": share,
        "position": {"type": ["integer", "null"], "description": "jobs that are done before this one"},
        "priority": {"type": "integer"},
        "label": TEXT,
        "source": source,
        "take": _nullable(ref("Take")),
        "options": ref("Options"),
        "deliver": ref("Deliver"),
        "created": TIME,
        "started": TIME_OR_NONE,
        "finished": TIME_OR_NONE,
        "expires": TIME_OR_NONE,
        "error": _nullable(error),
        "file_id": {"type": ["string", "null"], "description": "the video with sound, for /v1/files"},
        "results": {"type": "array", "items": ref("Result")},
        "takes": {"type": "array", "items": scored},
        "warnings": {"type": "array", "items": TEXT},
        "events": {"type": "string", "description": "address of its events"},
    }
