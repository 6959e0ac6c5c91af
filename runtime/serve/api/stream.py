"""/v1/jobs/{id}/events: progress as server-sent events, which a client can resume."""

import json
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runtime.serve.api.files import services_of
from runtime.serve.api.jobs import job_view, own_job
from runtime.serve.api.security import who_asks
from runtime.serve.problems import Problem
from runtime.serve.services import Services
from runtime.serve.work.events import read_event_id

BEAT = 15.0  # seconds without an event until a comment keeps the connection alive
MAX_STREAMS = 100  # of one client; the server has `start.CONNECTIONS` connections for all of them
RETRY = 2000  # ms after which a browser connects again


async def events(request: Request) -> Response:
    """Events since the one that Last-Event-ID names. After the last one, a browser is told not to come back (204)."""
    services, job = services_of(request), own_job(request)
    log = services.events.log(job.id)
    if not log.events:  # the server was started anew, or the job ended long ago
        names = ("status", "phase", "progress", "error")
        view = job_view(job, services)
        log.publish("status", {name: view[name] for name in names}, last=not job.is_open)
    after = read_event_id(request.headers.get("last-event-id"))
    last = log.events[-1]
    if last.last and (last.boot, last.number) <= after:
        return Response(status_code=204)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    client = who_asks(request)
    if services.streams[client] >= MAX_STREAMS:
        raise Problem("client_limit", f"you read {MAX_STREAMS} streams of events, which is the limit; close some")
    return StreamingResponse(_lines(services, client, job.id, after), media_type="text/event-stream")


async def _lines(services: Services, client: str, job_id: str, known: tuple[int, int]) -> AsyncIterator[str]:
    log = services.events.log(job_id)
    services.streams[client] += 1
    try:
        yield f"retry: {RETRY}\n\n"
        while not services.events.closed:
            services.asked[job_id] = time.monotonic()
            found = log.after(known)
            for event in found:
                yield f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n"
                known = (event.boot, event.number)
                if event.last:
                    return
            if not found:
                await log.changed(BEAT)
                if not log.after(known):
                    yield ": still here\n\n"
    finally:
        services.streams[client] -= 1
