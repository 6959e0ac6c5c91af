"""Read bodies: JSON, and uploads as raw bytes or as a form. Bytes are counted; the headers are not believed."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any
from unicodedata import category

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from runtime.serve.problems import Problem
from runtime.serve.services import Services
from runtime.serve.store import new_id

MAX_JSON = 1 << 16  # bytes
MAX_LABEL = 120  # characters
MAX_FIELD = 1 << 12  # bytes of a form field that is no file
SLOWEST = 1000  # bytes a second; a body may only be slower in its first moments


async def read_json(request: Request) -> dict[str, Any]:
    """A JSON object. Raises Problem. The type is needed: a plain form of another page cannot send it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("wrong_content_type", f"Content-Type is {kind!r}; send application/json")
    body = b""
    async for piece in pieces(request, MAX_JSON, 30.0):
        body += piece
    try:
        values = json.loads(body.decode())
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()  # no half of a surrogate pair, no infinity
    except (ValueError, RecursionError) as error:
        raise Problem("bad_request", f"the body is not JSON in UTF-8: {error}") from error
    if not isinstance(values, dict):
        raise Problem("bad_request", "the body is not a JSON object")
    return values


async def pieces(request: Request, limit: int, patience: float) -> AsyncIterator[bytes]:
    """A body in pieces. Raises Problem if it is longer than `limit`, if nothing comes for `patience` seconds, or if it
    comes too slowly."""
    told = request.headers.get("content-length", "")
    text = f"a body may have {limit} bytes here"
    if told.isdecimal() and (len(told) > 18 or int(told) > limit):
        raise Problem("too_large", f"{text}; Content-Length is {told[:20]}")
    count, stream, end = 0, request.stream().__aiter__(), time.monotonic() + patience
    while True:
        try:
            wait = min(patience, end + count / SLOWEST - time.monotonic())
            piece = await asyncio.wait_for(anext(stream), max(0.0, wait))
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            text = f"nothing came for {patience:g} s, or less than {SLOWEST} bytes a second; send it again"
            raise Problem("upload_stalled", text) from error
        except ClientDisconnect as error:
            raise Problem("bad_request", "the connection ended in the middle of the body") from error
        count += len(piece)
        if count > limit:
            raise Problem("too_large", f"{text}, and more came")
        yield piece


def clean_label(name: str) -> str:
    """A client's file name as a label: without folders and control characters. It names nothing on this machine."""
    base = PureWindowsPath(PurePosixPath(name).name).name
    kept = "".join(letter for letter in base if category(letter) not in ("Cc", "Cs", "Cf")).strip(". ")
    stem, dot, suffix = kept.rpartition(".")
    return (f"{stem[: MAX_LABEL - 8]}{dot}{suffix[:7]}" if dot and stem else kept[:MAX_LABEL]) or "video"


@dataclass
class Upload:
    """An upload that is complete, in the folder `incoming`."""

    path: Path
    label: str
    size: int


async def receive(request: Request, services: Services) -> Upload:
    """Write an upload to the disk. Raises Problem; then nothing stays."""
    path = services.incoming / new_id("file")
    with _new_file(path) as file:
        sink = _Sink(file, clean_label(request.query_params.get("name", "")))
        form = _form_of(request, sink)
        await _fill(sink, sink.write if form is None else form.feed, request, services)
        if form is not None:
            form.end()
        if not sink.size:
            raise Problem("bad_request", "the upload is empty; send the video's bytes as the body, or as a form's file")
        await asyncio.to_thread(os.fsync, file.fileno())
    return Upload(path, sink.label, sink.size)


def _form_of(request: Request, sink: "_Sink") -> "_Form | None":
    """The form that the body is; None if it is the file itself. Raises Problem."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        return None
    if b"boundary" not in options:
        raise Problem("bad_request", "the form has no boundary")
    return _Form(sink, options[b"boundary"])


async def _fill(sink: "_Sink", feed: Callable[[bytes], None], request: Request, services: Services) -> None:
    """Feed the body's pieces. Raises Problem."""
    limits, storage, arrived = services.config.limits, services.storage, 0
    try:
        async for piece in pieces(request, limits.upload_bytes + MAX_FIELD * 4, limits.body_wait):
            storage.check_upload(len(piece))
            arrived += len(piece)
            storage.arriving += len(piece)
            feed(piece)
            if sink.size > limits.upload_bytes:
                raise Problem("too_large", f"an upload may have {limits.upload_bytes} bytes, and more came")
    finally:
        storage.arriving -= arrived


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A private new file, which is deleted after an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            yield file
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Problem("storage_full", f"the upload cannot be written: {error.strerror}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@dataclass
class _Sink:
    file: IO[bytes]
    label: str
    size: int = 0

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.size += len(data)


@dataclass
class _Form:
    """The first file of a form goes to the sink; other fields are skipped."""

    sink: _Sink
    boundary: bytes
    files: int = 0
    _field: bytes = b""
    _value: bytes = b""
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _is_file: bool = False
    _ended: bool = False

    def __post_init__(self) -> None:
        self._parser = MultipartParser(self.boundary, {
            "on_part_begin": self._begin, "on_header_field": self._name, "on_header_value": self._more,
            "on_header_end": self._header, "on_headers_finished": self._content, "on_part_data": self._data,
            "on_end": self._finish,
        })  # fmt: skip

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Problem("bad_request", f"the form is damaged: {error}") from error

    def end(self) -> None:
        if not self._ended or not self.files:
            raise Problem("bad_request", "the form is cut off, or has no file")

    def _begin(self) -> None:
        self._headers = {}

    def _name(self, data: bytes, start: int, end: int) -> None:
        self._field = (self._field + data[start:end])[:MAX_FIELD]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value = (self._value + data[start:end])[:MAX_FIELD]

    def _header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _content(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._is_file = b"filename" in options and not self.files
        if self._is_file:
            self.files += 1
            self.sink.label = clean_label(options[b"filename"].decode(errors="replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.sink.write(data[start:end])

    def _finish(self) -> None:
        self._ended = True


def safe_suffix(label: str) -> str:
    """The suffix of a label, if it is plain: it helps to recognise the container."""
    suffix = Path(label).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,6}", suffix) else ""
