"""What every request passes: checks of host, origin, type and token before it, headers and the audit log after it."""

import logging
import sqlite3
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import MaskVATError
from runtime.serve.api.addresses import client_address
from runtime.serve.problems import Problem
from runtime.serve.services import Services

log = logging.getLogger(__name__)
OPEN_PATHS = frozenset({"/", "/health", "/ready", "/v1/health", "/v1/session", "/openapi.json"})  # need no token
OPEN_FOLDER = "/page/"  # nor do the files of the page
HEALTH = frozenset({"/health", "/ready", "/v1/health", "/metrics"})  # asked all the time: not in the audit log
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
NO_TOKEN = "local"  # who asks if the server uses no tokens
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
ADVICE = "tokens are in the file `tokens` of the server's state folder. A token in the address is ignored"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def cookie_name(services: Services) -> str:
    """Cookies do not tell ports apart, so the port is in the name."""
    return f"maskvat_{services.port}"


def who_asks(request: Request) -> str:
    """The client that `Guard` found: the name of its token."""
    return str(request.state.client)


class Guard:
    """Middleware around all routes."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app, self.services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.client, request.state.target, request.state.by_cookie = "", None, False
        status, begun = 500, False

        async def send_checked(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                _add_headers(message)
            await send(message)

        try:
            try:
                self._check(request)
                await self.app(scope, receive, send_checked)
            except Problem as problem:
                await problem.response()(scope, receive, send_checked)
            except Exception as error:
                log.exception("%r %r failed", request.method, request.scope["path"])
                if begun:
                    raise
                await _mistake(error).response()(scope, receive, send_checked)
        finally:
            self._note(request, status)

    # ------------------------------------------------------------ before
    def _check(self, request: Request) -> None:
        """Raises Problem if the request must not go on."""
        host = check_host(request.headers.getlist("host"), self.services.config.hosts)
        check_origin(request.headers.getlist("origin"), host)
        client = self._client(request)
        _drop_secrets(request.scope)
        path = request.scope["path"]
        if client is None and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            raise Problem("not_signed_in", f"send the header `Authorization: Bearer TOKEN`; {ADVICE}")
        request.state.client = client or ""

    def _client(self, request: Request) -> str | None:
        """Who asks; None if that is not known. A token in the address counts for nothing."""
        if not self.services.config.token:
            return NO_TOKEN
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        cookie = request.cookies.get(cookie_name(self.services), "")
        try:
            if scheme.lower() == "bearer":
                return self.services.tokens.name_of(token.strip())
            request.state.by_cookie = bool(cookie)
            return self.services.sessions.client_of(cookie) if cookie else None
        except MaskVATError as error:
            log.error("%s", error)
            return None

    # ------------------------------------------------------------ after
    def _note(self, request: Request, status: int) -> None:
        method, path = request.method, request.scope["path"]
        known = method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "other"
        self.services.metrics.requests.labels(known, str(status)).inc()
        is_download = "/results/" in path or path.startswith("/v1/files/")
        if path not in HEALTH and (method not in SAFE or is_download or status in (400, 401, 403)):
            peer = request.client.host if request.client else ""
            forwarded = request.headers.getlist("x-forwarded-for")
            address = client_address(peer, forwarded, self.services.config.trust_proxies)
            who = request.state.client or "unknown"
            target = {"target": request.state.target} if request.state.target else {}
            self.services.audit.write(who, address, f"{known} {path[:200]}", status=status, **target)


def check_host(given: list[str], allowed: frozenset[str]) -> str:
    """The Host header, if it names this server: another name may be a page that reaches us by DNS rebinding."""
    host = given[0] if len(given) == 1 else ""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    if not name or name.lower() not in allowed or set(host) & set("/@?#\\"):
        raise Problem("wrong_host", f"the Host header is {host[:100]!r}; allowed are {', '.join(sorted(allowed))} "
            "(--allow-host adds a name)")  # fmt: skip
    return host


def check_origin(given: list[str], host: str) -> None:
    """Refuse requests that another site's page sent. Programs send no Origin."""
    if not given:
        return
    try:
        parts = urlsplit(given[0])
        ours = parts.scheme in ("http", "https") and _place(parts.netloc, parts.scheme) == _place(host, parts.scheme)
    except ValueError:
        ours = False
    if len(given) != 1 or not ours:
        raise Problem("wrong_origin", f"the Origin header is {given[0][:100]!r}; only this server's own pages may ask")


def _place(netloc: str, scheme: str) -> tuple[str | None, int]:
    parts = urlsplit(f"//{netloc}")
    return parts.hostname, parts.port or {"http": 80, "https": 443}[scheme]


def _drop_secrets(scope: Scope) -> None:
    """Remove what may be a token from the address, so that nothing can use or log it."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    secret = ("token", "key", "auth", "secret", "password")
    kept = [(name, value) for name, value in query if not any(word in name.lower() for word in secret)]
    if len(kept) != len(query):
        scope["query_string"] = urlencode(kept).encode()


def _mistake(error: Exception) -> Problem:
    """What a client is told of an error that is no Problem."""
    if isinstance(error, sqlite3.Error):
        return Problem("database_busy", "the database is locked, or it failed; try again")
    return Problem("internal_error", "the server made a mistake; its log says more")


def _add_headers(message: Message) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", DATA_POLICY)  # the page has one of its own
    headers.setdefault("Cache-Control", "no-store")
