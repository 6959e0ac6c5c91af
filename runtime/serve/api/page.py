"""The page at /: its files, read once from the package. Nothing else of the disk can be asked for."""

import secrets
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from runtime.serve.problems import Problem

FOLDER = Path(__file__).resolve().parents[1] / "page"
TYPES = {
    ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json",
    "": "text/plain",
}  # fmt: skip
NONCE = "{nonce}"  # stands in index.html for a value that is new in each answer
# No script and no style but the page's own files. wavesurfer.js brings one style sheet of its own: it gets the nonce.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def files(folder: Path = FOLDER) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


async def index(request: Request) -> Response:
    nonce = secrets.token_urlsafe(16)
    text = files()["index.html"].decode().replace(NONCE, nonce)
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.replace(NONCE, nonce)})


async def part(request: Request) -> Response:
    return _file(request, FOLDER)


async def vendor(request: Request) -> Response:
    return _file(request, FOLDER / "vendor")


def _file(request: Request, folder: Path) -> Response:
    name = request.path_params["name"]
    content, media_type = files(folder).get(name), TYPES.get(Path(name).suffix)
    if content is None or media_type is None:
        raise Problem("not_found", f"the page has no file {name[:60]!r}")
    return Response(content, media_type=media_type)
