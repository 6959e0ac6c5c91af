"""Show the page: its address for people, and their browser.

A login code stands behind the `#` of an address. A browser sends that part to nobody, so no server or proxy logs it.
"""

import json
import logging
import sys
import threading
import urllib.request
import webbrowser

from runtime.errors import MaskVATError
from runtime.serve.config import ServerConfig
from runtime.serve.services import Services
from runtime.serve.state import TOKENS
from runtime.serve.tokens import Tokens

log = logging.getLogger(__name__)
ANY = ("0.0.0.0", "::")  # listens everywhere, but nobody can open it
ADDRESS = "server.json"  # in the state folder: where the running server listens
SECONDS = 5.0  # until a running server must answer


def page_address(services: Services, url: str) -> str:
    """The address of the page, with a code that signs in once. `url`: where the server listens."""
    if services.config.host in ANY:
        url = f"http://{services.config.allow_hosts[0]}:{services.port}"
    if not services.config.token:
        return f"{url}/"
    tokens = services.tokens
    return f"{url}/#code={services.sessions.new_code(tokens.name_of(tokens.first()) or '')}"


def show_page(services: Services, url: str) -> None:
    """Say where the page is, and open it if the operator wants it. A code is told to a terminal only: logs are kept."""
    if services.config.open:
        open_browser(page_address(services, url))
    elif sys.stderr.isatty():
        log.info("open the page in a browser: %s", page_address(services, url))


def open_browser(address: str) -> None:
    """Open an address. A browser in the terminal would block, so a thread waits for it."""

    def run() -> None:
        if not webbrowser.open(address):
            log.warning("found no browser; open %s", address if sys.stderr.isatty() else address.partition("#")[0])

    threading.Thread(target=run, daemon=True).start()


def open_running(config: ServerConfig) -> bool:
    """Open the page of the server that uses this state folder now. False if it does not answer."""
    try:
        url = json.loads((config.state / ADDRESS).read_text(encoding="utf-8"))["url"]
        headers = {"Authorization": f"Bearer {Tokens(config.state / TOKENS).first()}"}
        request = urllib.request.Request(f"{url}/v1/session/code", b"", headers, method="POST")
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            code = json.loads(answer.read())["code"]
    except (OSError, ValueError, KeyError, MaskVATError):
        return False
    log.info("the server runs already, at %s; opening its page", url)
    webbrowser.open(f"{url}/#code={code}")
    return True
