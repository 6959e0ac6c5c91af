"""/v1/jobs: ask for sounds, watch, cancel, delete, download."""

import os
import re
import time
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.errors import OptionError
from runtime.serve.api.bodies import clean_label, read_json
from runtime.serve.api.files import attachment, download, own_file, services_of
from runtime.serve.api.paths import allowed_path
from runtime.serve.api.security import who_asks
from runtime.serve.problems import Problem
from runtime.serve.services import Services
from runtime.serve.store import OPEN, STATUSES, Job, Values
from runtime.serve.work.job_request import FIELDS, Deliver, JobSpec, read_job_options, read_priority
from runtime.serve.work.job_size import result_bytes
from runtime.serve.work.timelines import timeline_for_client

MAX_LISTED = 500


def job_view(job: Job, services: Services) -> Values:
    """What a client sees of a job."""
    limits, events = services.config.limits, services.events.log(job.id).events if job.is_open else []
    now = events[-1].data if events else {}
    result = job.result or {}
    must_ask = job.spec["must_ask"]  # such clients do not know the status `cancelled`
    return {
        "id": job.id,
        "object": "job",
        "status": "failed" if must_ask and job.status == "cancelled" else job.status,
        "phase": now.get("phase", "queued") if job.is_open else "done",
        "progress": now.get("progress", 0.0) if job.is_open else float(job.status == "succeeded"),
        "position": services.store.position(job) if job.status == "queued" else None,
        "priority": job.priority,
        "label": job.spec["label"],
        "source": job.spec["source"],
        "take": job.spec["take"],
        "options": job.spec["options"],
        "deliver": job.spec["deliver"],
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "expires": None if job.finished is None else job.finished + limits.keep,
        "error": None if job.is_open else job.error,
        "file_id": job.id.replace("job_", "result_", 1) if job.spec["deliver"]["video"] and result else None,
        "results": [r | {"url": f"/v1/jobs/{job.id}/results/{r['name']}"} for r in result.get("results", ())],
        "takes": [{k: t[k] for k in ("candidate", "score")} for t in result.get("takes", ())],
        "warnings": result.get("warnings", []),
        "events": f"/v1/jobs/{job.id}/events",
    }


def own_job(request: Request, job_id: str | None = None) -> Job:
    """A client's job. Raises Problem: those of others do not exist for it."""
    job_id = request.path_params["job_id"] if job_id is None else job_id
    services = services_of(request)
    job = services.store.job(str(job_id))
    if job is None or job.client != who_asks(request):
        raise Problem("not_found", f"there is no job {str(job_id)[:60]!r}; it may have expired")
    services.asked[job.id] = time.monotonic()
    return job


# ---------------------------------------------------------------- asking
async def create(request: Request) -> Response:
    services = services_of(request)
    values = await read_json(request)
    check_room(services, who_asks(request))
    try:
        spec = read_spec(request, values)
        priority = read_priority(values.get("priority", 0))
    except OptionError as error:
        raise Problem("option_error", str(error)) from error
    job = accept(request, spec, priority)
    return JSONResponse(job_view(job, services), 201, {"Location": f"/v1/jobs/{job.id}"})


def check_room(services: Services, client: str) -> None:
    """Raises Problem if no job can be taken now."""
    limits, store = services.config.limits, services.store
    if services.pool.draining:
        raise Problem("draining", "the server is stopping; try again later")
    if store.count(("queued",)) >= limits.queue:
        raise Problem("queue_full", f"{limits.queue} jobs wait already, which is the limit; try again later")
    if store.count(OPEN, client) >= limits.per_client:
        raise Problem("client_limit", f"{limits.per_client} of your jobs wait or run, which is the limit; try later")


def accept(request: Request, spec: JobSpec, priority: int) -> Job:
    """Put a checked job into the queue. Raises Problem if there is no room for its results."""
    services = services_of(request)
    size = _reserve(services, spec)
    if "file_id" in spec.source:
        services.store.touch_file(spec.source["file_id"])
    job = services.store.add_job(who_asks(request), priority, replace(spec, reserve=size).to_dict())
    services.storage.reserve(job.id, size)
    services.asked[job.id] = time.monotonic()
    data = {"status": "queued", "phase": "queued", "progress": 0.0}
    services.events.log(job.id).publish("status", data)
    services.pool.wake()
    request.state.target = job.id
    return job


def _reserve(services: Services, spec: JobSpec) -> int:
    """How many bytes the results may have. Raises Problem if there is no room for them."""
    take = None if spec.take is None else services.store.job(spec.take["job_id"])
    made = None if take is None else take.result
    try:
        video_bytes = os.stat(spec.video).st_size
    except OSError as error:
        raise Problem("not_found", "the video is gone; it may have expired, so upload it again") from error
    seconds = None if made is None else made["samples"] / made["sample_rate"]
    size = result_bytes(spec, video_bytes, seconds, services.config.limits)
    services.storage.check_job(size)
    return size


def read_spec(request: Request, values: Values) -> JobSpec:
    """Check what a job asks for. Raises OptionError, Problem."""
    unknown = set(values) - FIELDS
    if unknown:
        raise OptionError(f"a job has no field {sorted(unknown)[0]!r}; it has {', '.join(sorted(FIELDS))}")
    take, base = _read_take(request, values.get("take"))
    video, name, source = _read_source(request, values, base)
    label = name
    if "label" in values:
        if not isinstance(values["label"], str):
            raise OptionError("label is not a text")
        label = clean_label(values["label"])
    options = read_job_options(values.get("options", {}), take is not None, services_of(request).words)
    deliver = Deliver.read(values.get("deliver", {}))
    return JobSpec(video, label, source, options, vars(deliver).copy(), take, name=name)


def _read_source(request: Request, values: Values, base: Job | None) -> tuple[str, str, Values]:
    """The video's path, its file's name on the client's side, and how the client named it.

    Without one, it is the video of the take.
    """
    named = [name for name in ("file_id", "path") if values.get(name) is not None]
    if len(named) > 1 or (not named and base is None):
        raise OptionError("give file_id (an upload), path (a file that the server may read), or take (a kept take)")
    source: Values = {named[0]: values[named[0]]} if named else dict(base.spec["source"] if base else {})
    if "file_id" in source:
        file = own_file(request, str(source["file_id"]))
        return file.path, file.label, {"file_id": file.id}
    path = allowed_path(source["path"], services_of(request).config)
    return str(path), clean_label(os.path.basename(source["path"])), {"path": source["path"]}


def _read_take(request: Request, value: Any) -> tuple[Values | None, Job | None]:
    if value is None:
        return None, None
    if not isinstance(value, dict) or set(value) - {"job_id", "number"} or "job_id" not in value:
        raise OptionError('take is an object such as {"job_id": "job_...", "number": 1}')
    job, number = own_job(request, str(value["job_id"])), value.get("number", 1)
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if not is_number or services_of(request).pool.files.take_file(job, number) is None:
        raise Problem("not_found", f"job {job.id} has no take {str(number)[:20]}; it has {_count_takes(job)}")
    return {"job_id": job.id, "number": number}, job


def _count_takes(job: Job) -> int:
    return sum(result["kind"] == "take" for result in (job.result or {}).get("results", ()))


# ---------------------------------------------------------------- watching
async def list_jobs(request: Request) -> Response:
    services, query = services_of(request), request.query_params
    statuses = query["status"].split(",") if "status" in query else list(STATUSES)
    limit = query.get("limit", "100")
    if not set(statuses) <= set(STATUSES) or not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_LISTED:
        raise Problem("option_error", f"status is among {', '.join(STATUSES)}, and limit from 1 to {MAX_LISTED}")
    jobs = services.store.jobs(who_asks(request), statuses, int(limit))
    return JSONResponse({"data": [job_view(job, services) for job in jobs]})


async def get_job(request: Request) -> Response:
    return JSONResponse(job_view(own_job(request), services_of(request)))


async def cancel(request: Request) -> Response:
    services, job = services_of(request), own_job(request)
    await services.pool.cancel(job)
    return JSONResponse(job_view(own_job(request), services), 202)


async def delete(request: Request) -> Response:
    """Delete a job with its files. One that runs is cancelled, and deleted as soon as it ends."""
    services, job = services_of(request), own_job(request)
    if job.is_open:
        await services.pool.cancel(job)
        job = own_job(request)
    if job.is_open:  # it ends within one step
        services.pool.delete_when_ended(job.id)
        return JSONResponse(job_view(job, services), 202)
    services.pool.delete(job.id)
    return Response(status_code=204)


# ---------------------------------------------------------------- results
async def get_result(request: Request) -> Response:
    services, job = services_of(request), own_job(request)
    if job.is_open:
        raise Problem("job_not_finished", f"the job is {job.status}; its events say when it ends")
    name, folder = request.path_params["name"], services.pool.files.folder(job)
    for result in (job.result or {}).get("results", ()):
        if result["name"] == name:
            if result["kind"] == "timeline":
                return _timeline(request, job, result)
            return download(request, folder / name, result["download"])
    raise Problem("not_found", f"the job has no result {name[:60]!r}; `results` lists them")


def _timeline(request: Request, job: Job, result: Values) -> Response:
    """A timeline with the paths of the client: ?folder=/films is where it keeps the video and the sounds."""
    folder = services_of(request).pool.files.folder(job)
    path = folder / result["name"]
    media = request.query_params.get("folder", "")
    if len(media) > 1000 or any(ord(letter) < 32 for letter in media):
        raise Problem("option_error", "folder is no path")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Problem("not_found", "the file is gone; it may have expired") from error
    text = timeline_for_client(text, path.suffix, job, folder, media)
    return Response(text, media_type=result["media_type"], headers=attachment(result["download"]))
