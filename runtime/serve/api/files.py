"""/v1/files: uploads."""

import os
import re
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from runtime.serve.api.bodies import receive, safe_suffix
from runtime.serve.api.security import who_asks
from runtime.serve.problems import Problem
from runtime.serve.services import Services
from runtime.serve.store import StoredFile, Values, new_id
from runtime.serve.work.results import MEDIA_TYPES

RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


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
    try:
        services.store.add_file(file)
    except sqlite3.Error:
        path.unlink()
        raise
    services.storage.kept += got.size
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
                return download(request, services.pool.files.folder(job) / result["name"], result["download"])
    file = own_file(request, file_id)
    return download(request, Path(file.path), file.label)


def download(request: Request, path: Path, name: str) -> Response:
    """A file as a download, never as a page. Raises Problem if it is gone."""
    try:
        found = path.stat()
    except OSError as error:
        raise Problem("not_found", "the file is gone; it may have expired") from error
    check_range(request, found.st_size)
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media_type, filename=name, stat_result=found, headers=attachment(name))


def attachment(name: str) -> dict[str, str]:
    """The header that names a download: also for clients that only read ASCII."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=utf-8''{quote(name)}"}


def check_range(request: Request, size: int) -> None:
    """Leave only a Range header that names one part: others mean the whole file. Raises Problem behind the end."""
    given = request.headers.get("range")
    if given is None:
        return
    found = RANGE.fullmatch(given)
    begin, end = (found[1], found[2]) if found else ("", "")
    if (begin and (not end or int(begin) <= int(end))) or (end and not begin):
        if int(begin or 0) >= size or (not begin and int(end) == 0):
            detail = f"the Range header is {given[:100]!r}, and the file has {size} bytes"
            raise Problem("wrong_range", detail, {"Content-Range": f"bytes */{size}"})
        return
    headers = request.scope["headers"]
    request.scope["headers"] = [(key, value) for key, value in headers if key.lower() != b"range"]


async def delete_file(request: Request) -> Response:
    services = services_of(request)
    file = own_file(request, request.path_params["file_id"])
    if services.file_is_needed(file.id):
        raise Problem("file_in_use", "a job that waits or runs needs this file; cancel the job first")
    services.delete_file(file)
    return Response(status_code=204)
