"""Every error that a client can get: JSON as in RFC 9457, with a stable code.

Like the errors of the commands, `detail` says what was given, what is allowed and what to do.
"""

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

CODES: dict[str, tuple[int, str]] = {  # code -> HTTP status, title
    "bad_request": (400, "The request cannot be read"),
    "wrong_host": (400, "The Host header names another server"),
    "not_signed_in": (401, "A token is needed"),
    "wrong_origin": (403, "Another page sent the request"),
    "path_not_allowed": (403, "The path is not in an allowed folder"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "The address does not take this method"),
    "upload_stalled": (408, "The upload stopped"),
    "job_not_finished": (409, "The job is not finished"),
    "file_in_use": (409, "A job needs the file"),
    "too_large": (413, "The body is too large"),
    "wrong_content_type": (415, "The body has another type"),
    "wrong_range": (416, "The file has no such part"),
    "option_error": (422, "An option is not allowed"),
    "client_limit": (429, "Too many jobs of this client"),
    "queue_full": (503, "The queue is full"),
    "draining": (503, "The server is stopping"),
    "not_ready": (503, "No worker is ready"),
    "database_busy": (503, "The database does not answer"),
    "storage_full": (507, "The storage is full"),
    "internal_error": (500, "The server made a mistake"),
}
RETRY = {
    "queue_full": 10,
    "client_limit": 10,
    "draining": 30,
    "not_ready": 5,
    "database_busy": 5,
}  # code -> seconds to wait


class Problem(Exception):
    """An answer that is an error. `code` is a key of CODES."""

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail
        self.status, self.title = CODES[code]
        self.headers = dict(headers or {})  # of this answer

    def response(self) -> Response:
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        headers = dict(self.headers)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="maskvat"'
        if self.code in RETRY:
            headers["Retry-After"] = str(RETRY[self.code])
        return JSONResponse(body | {"code": self.code}, self.status, headers, "application/problem+json")
