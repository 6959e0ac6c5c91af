"""What a host asks for: one JSON object a line, checked before anything is done."""

import json
import re
import threading
from argparse import Namespace
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runtime.commands.make import get_parser
from runtime.commands.option_groups import RaisingParser
from runtime.errors import MaskVATError, OptionError

FIELDS: dict[str, dict[str, tuple[type, ...]]] = {  # method -> its fields and their JSON types
    "load": {"engines": (str,), "backend": (str,), "precision": (str,), "threads": (int,)},
    "generate": {"video": (str,), "name": (str,), "output": (str,), "options": (dict,)},
    "redo": {"video": (str,), "name": (str,), "take": (str,), "range": (str,), "output": (str,), "options": (dict,)},
    "cancel": {"target": (str, int)},
    "info": {},
    "close": {},
}
NEEDED = {"generate": ("video",), "redo": ("video", "take", "range"), "cancel": ("target",)}
NOT_OPTIONS = {  # flags that a request does not have, and where they belong
    **dict.fromkeys(("engines", "backend", "precision", "threads"), "give it to `load`"),
    "output": "give it beside `video`",
    "stream": "run `maskvat make --stream`",
    **dict.fromkeys(("progress", "quiet", "debug", "help"), "events say everything"),
}
RequestId = str | int


class BadRequest(MaskVATError):
    """A line is no request that this protocol has."""

    code = "bad_request"


@dataclass
class Request:
    """One request. `cancel` stops it."""

    id: RequestId
    method: str
    params: dict[str, Any]
    cancel: threading.Event = field(default_factory=threading.Event)


def read_request_line(line: bytes) -> Request:
    """Read one request. Raises BadRequest."""
    values = _read_object(line)
    request_id = values.pop("id", None)
    if not is_id(request_id):
        raise BadRequest(f"id is {json.dumps(request_id)}; give each request a whole number or a text of its own as id")
    method = values.pop("method", None)
    if method not in FIELDS:
        raise BadRequest(f"method is {json.dumps(method)}; choose from {', '.join(FIELDS)}")
    for name, value in values.items():
        if name not in FIELDS[method]:
            raise BadRequest(f"{method} has no field {name!r}; it has {', '.join(FIELDS[method]) or 'none'}")
        if not isinstance(value, FIELDS[method][name]) or isinstance(value, bool):
            raise BadRequest(f"{name} is {json.dumps(value)}, which has the wrong type; see the protocol's schema")
    for name in NEEDED.get(method, ()):
        if name not in values:
            raise BadRequest(f"{method} needs the field {name}")
    return Request(request_id, method, values)


def _read_object(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the line is not JSON in UTF-8: {error}") from error
    if not isinstance(values, dict):
        raise BadRequest('the line is not a JSON object; send for example {"id": 1, "method": "info"}')
    return values


def find_id(line: bytes) -> RequestId | None:
    """The id that a bad request has, if that can be read."""
    try:
        found = _read_object(line).get("id")
    except BadRequest:
        return None
    return found if is_id(found) else None


def is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


@cache
def _parser() -> RaisingParser:
    parser = get_parser("maskvat", RaisingParser)
    assert isinstance(parser, RaisingParser)
    return parser


def args_of(params: dict[str, Any]) -> Namespace:
    """The arguments of a generation or a redo, as the command line has them. Raises OptionError.

    `params["options"]` has the names of the long flags: {"steps": 8, "overwrite": true, "mux": "film.mp4"}.
    """
    flags = []
    if "take" in params:  # redo
        flags = [f"--from={params['take']}", f"--redo={params['range']}"]
    for given, value in params.get("options", {}).items():
        name = given.replace("_", "-")
        if name in NOT_OPTIONS or not re.fullmatch(r"[a-z][a-z-]*", name):
            raise OptionError(f"{given!r} is not an option of a request: {NOT_OPTIONS.get(name, 'no flag has it')}")
        if name == "at":
            flags += _ranges_with_words(value)
            continue
        if not isinstance(value, bool | int | float | str):
            raise OptionError(f"option {given!r} is {json.dumps(value)}; give a text, a number, or true")
        if value is not False:
            flags.append(f"--{name}" if value is True else f"--{name}={value}")
    if "output" in params:
        if params["output"] == "-":
            raise OptionError("output is '-'; standard output carries the protocol, so name a file")
        flags.append(f"--output={params['output']}")
    args = _parser().parse_args([*flags, "--", params["video"]])
    args.video = Path(params["video"])
    if "name" in params:
        args.clip_name = params["name"]
    return args


def _ranges_with_words(value: object) -> list[str]:
    """The flags of `at`: [["3.0-4.5", "door"], ...]. Raises OptionError."""
    pairs: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair) for pair in pairs):
        raise OptionError(f'option \'at\' is {json.dumps(value)}; give pairs of texts: [["3.0-4.5", "door"], ...]')
    return [word for where, text in pairs for word in ("--at", where.strip(), f" {text.strip()}")]
