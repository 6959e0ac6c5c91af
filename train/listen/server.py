"""Serves a listening test to browsers, with the HTTP server of the standard library.

GET /                      the page
GET /next?listener=NAME    {"item": {"id", "title", "words", "questions"} or null, "done", "total"}
GET /media/ID.mp4          a sample; supports Range requests, which browsers need to seek
POST /rate                 {"listener", "expert", "item", "ratings"} -> {"ok": true}, or 400 {"error"}
"""

import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtime.errors import OptionError
from train.listen.items import SECTIONS, ListeningTest
from train.listen.ratings import Ratings, check_listener

LONGEST = 10_000  # largest rating, in bytes
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class ListeningServer(ThreadingHTTPServer):
    """Serves the test of a folder. Port 0 picks a free port; `url` is the address. Raises OptionError or OSError."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.folder, self.test = folder, ListeningTest.load(folder)
        self.ratings = Ratings(folder, self.test)
        self.media = {f"/media/{item.id}.mp4" for item in self.test.items}
        self.page = files(__package__).joinpath("page.html").read_bytes()
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers the requests that the module's docstring lists."""

    server: ListeningServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/":
            self._send(self.server.page, "text/html; charset=utf-8")
        elif address.path == "/next":
            self._answer(lambda: self._next(parse_qs(address.query).get("listener", [""])[0]))
        elif address.path in self.server.media:
            self._media(self.server.folder / address.path[1:])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if self.path != "/rate":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._answer(self._rate)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing. The file of ratings already says who has rated what."""

    def _next(self, name: str) -> dict[str, Any]:
        item, done = self.server.ratings.next_item(check_listener(name))
        shown = None
        if item is not None:
            section = SECTIONS[item.section]
            shown = {
                "id": item.id, "title": section.title, "words": section.instruction, "questions": section.questions
            }  # fmt: skip
        return {"item": shown, "done": done, "total": len(self.server.test.items)}

    def _rate(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST:
            raise OptionError(f"a rating must be a JSON object of at most {LONGEST} bytes")
        try:
            values = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise OptionError(f"the rating is not valid JSON: {error}") from error
        self.server.ratings.add(self.server.ratings.check(values))
        return {"ok": True}

    def _answer(self, make: Any) -> None:
        """Send the result of `make` as JSON. An OptionError becomes status 400, an OSError status 500."""
        try:
            values, status = make(), HTTPStatus.OK
        except OptionError as error:
            values, status = {"error": str(error)}, HTTPStatus.BAD_REQUEST
        except OSError as error:
            words = f"the rating could not be saved ({error.strerror or error}); please tell those who run the test"
            values, status = {"error": words}, HTTPStatus.INTERNAL_SERVER_ERROR
        self._send(json.dumps(values).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # Browsers close the connection when they have enough.

    def _media(self, path: Path) -> None:
        """Send a file, or the part of it that the request's Range names."""
        size = path.stat().st_size
        found = RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = 0, size - 1
        if found and found[1]:
            first, last = int(found[1]), min(int(found[2] or last), last)
        elif found and found[2]:
            first = max(0, size - int(found[2]))  # "bytes=-N": the last N bytes
        if first > last:
            self._send(b"", "video/mp4", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, Content_Range=f"bytes */{size}")
            return
        with open(path, "rb") as file:
            file.seek(first)
            body = file.read(last - first + 1)
        if found:
            where = f"bytes {first}-{last}/{size}"
            self._send(body, "video/mp4", HTTPStatus.PARTIAL_CONTENT, Content_Range=where, Accept_Ranges="bytes")
        else:
            self._send(body, "video/mp4", Accept_Ranges="bytes")
