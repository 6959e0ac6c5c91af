"""`maskvat serve` behind real proxies, with the files of deploy/proxy: nginx and Caddy, over TLS.

Needs Linux, openssl and the proxies (Debian: nginx, caddy). Ports, paths and limits in the files are replaced.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.campaigns import report
from tests.campaigns.environments import make_place
from tests.support.paths import EXAMPLE, ROOT
from tests.support.serve_process import ServeProcess, wait_for

FILES = ROOT / "deploy" / "proxy"
NAME, CLIENT = "sounds.example", "127.0.0.2"  # what clients call the server; the address that they come from
LIE = "203.0.113.6"  # where clients say that they come from
HTTPS, HTTP = 18443, 18080
SITE = f"{NAME}:{HTTPS}"
NGINX = (
    "daemon off; pid {0}/nginx.pid; error_log {0}/error.log; events {{}} http {{ access_log off; include {0}/conf; }}"
)
Check = tuple[str, bool, object]  # what should be true, whether it is, and what was seen


# ---------------------------------------------------------------- the proxies
def adapted(text: str, folder: Path, server: str, replacements: Mapping[str, str]) -> str:
    """A file of deploy/proxy for this test. Every replacement must find its words."""
    common = {"127.0.0.1:8440": server.removeprefix("http://"), "/etc/maskvat/tls": str(folder)}
    for old, new in (common | replacements).items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, server: str) -> list[str]:
    """Write nginx's files; its command line."""
    changes = {"/var/log/nginx": str(folder), "listen 443": f"listen {HTTPS}", "listen 80": f"listen {HTTP}"}
    changes |= {"https://$host": f"https://$host:{HTTPS}", "header_timeout 10s": "header_timeout 1s", "2000m": "1m"}
    text = adapted((FILES / "nginx.conf").read_text(), folder, server, changes)
    (folder / "conf").write_text(text)
    (folder / "nginx.conf").write_text(NGINX.format(folder))
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, server: str) -> list[str]:
    """Write Caddy's file; its command line."""
    ports = f"\tadmin off\n\thttps_port {HTTPS}\n\thttp_port {HTTP}\n"
    changes = {
        "/var/log/caddy": str(folder),
        "\tadmin off\n": ports,
        "read_header 10s": "read_header 1s",
    }
    text = adapted((FILES / "Caddyfile").read_text(), folder, server, changes)
    (folder / "Caddyfile").write_text(text)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


PROXIES: dict[str, Callable[[Path, str], list[str]]] = {"nginx": nginx, "caddy": caddy}


@contextmanager
def running(line: Sequence[str], folder: Path) -> Iterator[None]:
    """A proxy with a certificate of its own."""
    certificate = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    certificate += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    certificate += ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run(certificate, check=True, capture_output=True)
    with open(folder / "said", "wb") as said:
        environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        process = subprocess.Popen(line, stdout=said, stderr=said, env=environment)
    try:
        wait_for(lambda: process.poll() is not None or answers(), 60)
        assert process.poll() is None, (folder / "said").read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers() -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", HTTPS), 1):
        return True
    return False


# ---------------------------------------------------------------- a client
class Client:
    """Asks the proxy from an address of its own."""

    def __init__(self, folder: Path, token: str) -> None:
        self.context = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        self.token = token

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", HTTPS), 60, source_address=(CLIENT, 0))
        return self.context.wrap_socket(plain, server_hostname=NAME)

    def open(self, method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        named = {"Host": SITE, "Authorization": f"Bearer {self.token}", "X-Forwarded-For": LIE}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        link = http.client.HTTPConnection(NAME)
        link.sock = self.connect()
        link.request(method, path, body or None, {name: value for name, value in named.items() if value})
        return link.getresponse()

    def json(self, method: str, path: str, body: Any = b"", **headers: str) -> Any:
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), headers | {"Content_Type": "application/json"}
        with self.open(method, path, body, **headers) as answer:
            return json.loads(answer.read())

    def upload(self) -> str:
        path = "/v1/files?name=secret-title.mp4"
        return str(self.json("POST", path, EXAMPLE.read_bytes(), Content_Type="video/mp4")["id"])


# ---------------------------------------------------------------- what is tried
def a_job(client: Client, server: ServeProcess) -> Iterator[Check]:
    """Upload, job, events while it waits, download."""
    file_id = client.upload()
    for worker in (workers := server.children()):
        os.kill(worker, signal.SIGSTOP)
    try:
        job = client.json("POST", "/v1/jobs", {"file_id": file_id, "options": {"steps": 1}})["id"]
        events = client.open("GET", f"/v1/jobs/{job}/events")
        first = b""
        while b"data:" not in first:
            first = events.readline() or b"data: nothing came"
        yield "an event comes before the job ends", b'"status"' in first, first.decode()[:80].strip()
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
    rest = events.read().decode()
    yield "the last event comes, and the stream ends", '"succeeded"' in rest, rest[-120:].strip()
    with client.open("GET", f"/v1/jobs/{job}/results/sound.wav") as answer:
        sound = answer.read()
        yield "the sound is whole", sound == server.bytes(f"/v1/jobs/{job}/results/sound.wav"), len(sound)
        yield "a download is an attachment", "attachment" in answer.headers["Content-Disposition"], ""


def many(client: Client) -> Iterator[Check]:
    """Uploads of many clients at a time, one after the other: a connection that the server closed would show."""
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda _: client.upload(), range(40)))
    yield "40 uploads of 10 clients arrive", len(set(found)) == 40, len(set(found))


def a_page(client: Client) -> Iterator[Check]:
    """Sign in as a page does."""
    site = f"https://{SITE}"
    with client.open("POST", "/v1/session", b"{}", Origin=site, Content_Type="application/json") as answer:
        cookie = answer.headers["Set-Cookie"] or ""
        yield "a page signs in", answer.status == 201 and "Secure" in cookie, re.sub(r"=[^;]*", "=...", cookie, count=1)
        strict = answer.headers["Strict-Transport-Security"]
        yield "browsers are told to stay with TLS", bool(strict), strict
    with client.open("GET", "/v1/session", Cookie=cookie.partition(";")[0], Authorization="") as answer:
        yield "its cookie counts", answer.status == 200, answer.status
    with client.open("POST", "/v1/session", b"{}", Origin="https://evil.example") as answer:
        yield "another site's page is refused", answer.status == 403, answer.status
    link = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=60)
    link.request("GET", "/", headers={"Host": NAME})
    plain = link.getresponse()
    place = plain.headers["Location"] or ""
    yield "http leads to https", plain.status in (301, 308) and place.startswith(f"https://{NAME}"), plain.status


def refusals(client: Client) -> Iterator[Check]:
    """What the proxy stops."""
    with client.open("GET", "/health", Host="other.example") as answer:
        text = answer.read()
        yield "another name gets nothing", b"contract_versions" not in text, [answer.status, len(text)]
    with client.open("GET", "/metrics") as answer:
        yield "/metrics is not for clients", answer.status == 404, answer.status
    status = 0
    with suppress(OSError), client.open("POST", "/v1/files?name=big.mp4", bytes(2 << 20)) as answer:
        status = answer.status
    yield "an upload over the limit is refused", status == 413, status
    with client.connect() as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: sou")
        begun = time.monotonic()
        with suppress(OSError):
            while slow.recv(1000):
                pass
        seconds = round(time.monotonic() - begun)
        yield "a head that does not end is cut off", seconds < 50, f"{seconds} s, with a limit of 1 s"


def logs(folder: Path, client: Client, server: ServeProcess) -> Iterator[Check]:
    """What was noted of all that."""
    text = (folder / "maskvat.log").read_text()
    yield "the proxy's log has the client's address", CLIENT in text, text.count(CLIENT)
    leaks = [word for word in (client.token, "secret-title", "?name") if word in text]
    yield "it has no query and no token", leaks == [], len(leaks)
    lines = [json.loads(line) for line in (server.state / "audit.jsonl").read_text().splitlines()]
    told = {(line["who"], line["address"]) for line in lines if line.get("status") == 201}
    yield "the audit log has the token's name and the client's address", told == {("local", CLIENT)}, sorted(told)


def try_proxy(name: str, folder: Path, bundle: Path) -> Iterator[Check]:
    flags = ["--engines", str(bundle), "--backend", "cpu", "--threads", "1", "--allow-host", NAME, "--max-upload", "1"]
    flags += ["--trust-proxy", "127.0.0.1"]
    with ServeProcess(folder / "state", *flags) as server:
        wait_for(lambda: "workers" in status_of(server))
        with running(PROXIES[name](folder, server.url), folder):
            client = Client(folder, server.headers["Authorization"].split()[1])
            yield from a_job(client, server)
            yield from many(client)
            yield from a_page(client)
            yield from refusals(client)
            yield from logs(folder, client, server)


def status_of(server: ServeProcess) -> dict[str, Any]:
    with suppress(OSError):
        return dict(server.get("/ready"))
    return {}


def version_of(name: str) -> str:
    done = subprocess.run([name, "-v" if name == "nginx" else "version"], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().removeprefix("nginx version: nginx/")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.proxies", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--proxies", nargs="+", choices=list(PROXIES), default=list(PROXIES))
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    checks, faults, versions = [], [], {}
    for name in args.proxies:
        if shutil.which(name) is None:
            parser.error(f"{name} is not installed")
        versions[name] = version_of(name)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for what, good, seen in try_proxy(name, folder, make_place(folder).bundle):
                checks.append({"proxy": name, "what": what, "ok": good, "seen": seen})
                faults += [] if good else [f"{name}: {what}"]
                print("ok" if good else "FAULT", name, what, seen, file=sys.stderr, flush=True)
    report.finish("proxies", {"versions": versions, "faults": faults, "checks": checks}, args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
