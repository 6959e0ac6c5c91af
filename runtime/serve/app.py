"""The application: all routes, inside of the checks that every request passes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.serve.api import files, jobs, page, pallaidium, stream, system
from runtime.serve.api.security import Guard
from runtime.serve.problems import Problem
from runtime.serve.services import Services

Endpoint = Callable[[Request], Awaitable[Response]]
ROUTES: dict[tuple[str, str], Endpoint] = {  # method and address -> what answers
    ("GET", "/"): page.index,
    ("GET", "/page/{name}"): page.part,
    ("GET", "/page/vendor/{name}"): page.vendor,
    ("GET", "/health"): system.health,
    ("GET", "/ready"): system.ready,
    ("GET", "/metrics"): system.metrics,
    ("GET", "/openapi.json"): system.openapi,
    ("GET", "/v1/health"): system.health,
    ("GET", "/v1/models"): system.models,
    ("POST", "/v1/session"): system.sign_in,
    ("GET", "/v1/session"): system.who,
    ("DELETE", "/v1/session"): system.sign_out,
    ("POST", "/v1/session/code"): system.new_code,
    ("POST", "/v1/files"): files.upload,
    ("GET", "/v1/files"): files.list_files,
    ("GET", "/v1/files/{file_id}"): files.get_file,
    ("DELETE", "/v1/files/{file_id}"): files.delete_file,
    ("POST", "/v1/jobs"): jobs.create,
    ("GET", "/v1/jobs"): jobs.list_jobs,
    ("GET", "/v1/jobs/{job_id}"): jobs.get_job,
    ("DELETE", "/v1/jobs/{job_id}"): jobs.delete,
    ("POST", "/v1/jobs/{job_id}/cancel"): jobs.cancel,
    ("GET", "/v1/jobs/{job_id}/events"): stream.events,
    ("GET", "/v1/jobs/{job_id}/results/{name}"): jobs.get_result,
    ("POST", "/v1/videos"): pallaidium.create_video,
}


def make_app(services: Services) -> Starlette:
    """The application. Workers are started with it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        services.pool.start()
        tidying = asyncio.create_task(services.tidy_for_ever())
        try:
            yield
        finally:
            tidying.cancel()
            if not services.pool.draining:
                await services.pool.drain(0.0)

    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for (method, path), endpoint in ROUTES.items()],
        middleware=[Middleware(Guard, services=services)],
        exception_handlers={Problem: _problem, HTTPException: _http_error},  # type: ignore[dict-item]
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # behind a proxy that does TLS it would lead to http, with the token
    app.state.services = services
    return app


async def _problem(request: Request, problem: Problem) -> Response:
    return problem.response()


async def _http_error(request: Request, error: HTTPException) -> Response:
    """What Starlette itself refuses: unknown addresses and methods."""
    path = request.url.path[:100]
    if error.status_code == 405:
        methods = {m for (m, p) in ROUTES if Route(p, page.index).path_regex.match(request.url.path)}
        allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        answer = Problem("method_not_allowed", f"{path} takes {allowed}").response()
        answer.headers["Allow"] = allowed
        return answer
    code = "not_found" if error.status_code == 404 else "bad_request"
    return Problem(code, f"there is nothing at {path}; /openapi.json lists all addresses").response()
