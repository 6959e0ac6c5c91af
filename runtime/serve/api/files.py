"""/v1/files: uploads."""

import os
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from runtime.serve.api.bodies import receive, safe_suffix
from runtime.serve.api.security import who_asks
from runtime.serve.problems import Problem
from runtime.serve.services import Services
from runtime.serve.store import StoredFile, Values, new_id
from runtime.serve.work.results import MEDIA_TYPES


def services_of(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


def file_view(file: StoredFile, keep: float) -> Values:
    """What a client sees of an upload."""
    return {
        "id": file.id,
        "file_id": file.id,
        "object": "file",
        "name": file.label,
        "bytes": file.bytes,
        "created": file.created,
        "expires": file.used + keep,
    }


def own_file(request: Request, file_id: str) -> StoredFile:
    """A client's upload. Raises Problem: those of others do not exist for it."""
    file = services_of(request).store.file(file_id)
    if file is None or file.client != who_asks(request):
        raise Problem("not_found", f"there is no file {file_id[:60]!r}; it may have expired, so upload it again")
    return file


async def upload(request: Request) -> Response:
    services = services_of(request)
    if services.pool.draining:
        raise Problem("draining", "the server is stopping; try again later")
    got = await receive(request, services)
    file_id, now = new_id("file"), time.time()
    path = services.config.state / "files" / f"{file_id}{safe_suffix(got.label)}"
    os.replace(got.path, path)
    file = StoredFile(file_id, who_asks(request), got.label, str(path), got.size, now, now)
    services.store.add_file(file)
    services.file_stored(got.size)
    services.metrics.uploads.inc(got.size)
    request.state.target = file_id
    return JSONResponse(file_view(file, services.config.limits.keep), 201, {"Location": f"/v1/files/{file_id}"})


async def list_files(request: Request) -> Response:
    services = services_of(request)
    found = [file_view(file, services.config.limits.keep) for file in services.store.files(who_asks(request))]
    return JSONResponse({"data": found})


async def get_file(request: Request) -> Response:
    """The bytes of an upload, or of the video that a finished job made: its id is the job's with another beginning."""
    services, file_id = services_of(request), request.path_params["file_id"]
    job = services.store.job(file_id.replace("result_", "job_", 1)) if file_id.startswith("result_") else None
    if job is not None and job.client == who_asks(request):
        for result in (job.result or {}).get("results", ()):
            if result["kind"] == "video":
                return download(services.pool.folder(job) / result["name"], result["download"])
    file = own_file(request, file_id)
    return download(Path(file.path), file.label)


def download(path: Path, name: str) -> Response:
    """A file as a download, never as a page. Raises Problem if it is gone."""
    if not path.is_file():
        raise Problem("not_found", "the file is gone; it may have expired")
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media_type, filename=name, content_disposition_type="attachment")


async def delete_file(request: Request) -> Response:
    services = services_of(request)
    file = own_file(request, request.path_params["file_id"])
    if services.file_is_needed(file.id):
        raise Problem("file_in_use", "a job that waits or runs needs this file; cancel the job first")
    services.delete_file(file)
    return Response(status_code=204)
