"""Health, readiness, metrics, models, and sessions of a page."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.serve.api.bodies import read_json
from runtime.serve.api.files import services_of
from runtime.serve.api.openapi import openapi_document
from runtime.serve.api.pallaidium import CONTRACT_VERSIONS, model_entry
from runtime.serve.api.security import cookie_name, who_asks
from runtime.serve.problems import Problem
from runtime.serve.tokens import LOGIN, SESSION


async def health(request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok", "contract_versions": CONTRACT_VERSIONS})


async def ready(request: Request) -> Response:
    """A worker has opened the bundle, and jobs are taken. Only who has a token is told why not: it may name paths."""
    services = services_of(request)
    pool = services.pool
    if pool.draining:
        raise Problem("draining", "the server is stopping")
    if not pool.ready:
        why = "; workers are opening the bundle"
        if pool.problem is not None:
            why = f": {pool.problem if who_asks(request) else pool.problem.code}; the server's log says more"
        raise Problem("not_ready", f"no worker is ready{why}")
    if services.storage.disk_is_low:
        raise Problem("not_ready", "the server's disk is almost full (--min-free); jobs wait until some space is free")
    return JSONResponse({"status": "ready", "workers": len(pool.ready)})


async def metrics(request: Request) -> Response:
    services = services_of(request)
    services.pool.count()
    facts = services.pool.facts
    if facts:
        services.metrics.info.clear()
        services.metrics.info.labels(facts["version"], facts["bundle"]["name"], facts["backend"]).set(1)
    return Response(services.metrics.text(), media_type="text/plain; version=0.0.4")


async def models(request: Request) -> Response:
    return JSONResponse({"data": [model_entry(services_of(request))]})


async def openapi(request: Request) -> Response:
    return JSONResponse(openapi_document())


async def sign_in(request: Request) -> Response:
    """Give a page a cookie: for a token in the Authorization header, or for a login code, once."""
    services = services_of(request)
    client: str | None = who_asks(request)
    if not client or request.state.by_cookie:  # a cookie does not renew itself
        code = (await read_json(request)).get("code")
        client = services.sessions.exchange(code) if isinstance(code, str) else None
    if not client:
        raise Problem(
            "not_signed_in", "the code was used, is too old, or is wrong; start the page again, or give a token"
        )
    request.state.client = client
    answer = JSONResponse({"client": client, "seconds": SESSION}, 201)
    secure = request.headers.get("origin", "").startswith("https://") or request.url.scheme == "https"
    answer.set_cookie(cookie_name(services), services.sessions.new_cookie(client), max_age=int(SESSION), path="/",
        secure=secure, httponly=True, samesite="strict")  # fmt: skip
    return answer


async def new_code(request: Request) -> Response:
    """A login code for a browser, for a program that has a token. A page cannot get one: its session would not end."""
    if request.state.by_cookie:
        raise Problem("not_signed_in", "a page cannot get a code; send a token in the header Authorization")
    code = services_of(request).sessions.new_code(who_asks(request))
    return JSONResponse({"code": code, "seconds": LOGIN}, 201)


async def who(request: Request) -> Response:
    """Who is signed in; a page asks this first."""
    if not who_asks(request):
        raise Problem("not_signed_in", "nobody is signed in")
    return JSONResponse({"client": who_asks(request), "seconds": SESSION})


async def sign_out(request: Request) -> Response:
    services = services_of(request)
    services.sessions.end(request.cookies.get(cookie_name(services), ""))
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(services), path="/", httponly=True, samesite="strict")
    return answer
