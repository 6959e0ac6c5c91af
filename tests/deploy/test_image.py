"""The parts of the image and of the proxies that can be read without them; the health check against a server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.serve.command import get_serve_parser
from tests.support.paths import ROOT

DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "image" / "Containerfile").read_text(encoding="utf-8")
COMPOSE = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the health check
def check(address: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-I", str(DEPLOY / "image" / "healthy.py"), address]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.mark.parametrize(("status", "good"), [(200, True), (503, False)])
def test_the_health_check(status: int, good: bool) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.handle_request).start()
        done = check(f"http://127.0.0.1:{server.server_port}/health")
    assert (done.returncode == 0) == good and ("503" in done.stderr) != good, done.stderr


def test_no_server_is_one_line() -> None:
    done = check("http://127.0.0.1:1/health")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "does not answer" in done.stderr


# ---------------------------------------------------------------- the image
def test_the_container_runs_as_nobody_from_a_local_base() -> None:
    assert re.findall(r"^FROM (.*)$", CONTAINERFILE, re.MULTILINE) == ["localhost/debian-python:bookworm"]
    assert re.findall(r"^USER (.*)$", CONTAINERFILE, re.MULTILINE) == ["10001:10001"]
    assert "--no-index" in CONTAINERFILE and not re.search(r"https?://(?!127\.)|apt-get|curl", CONTAINERFILE)


def test_the_command_of_the_image() -> None:
    (words,) = re.findall(r"^CMD \[(.*)\]$", CONTAINERFILE, re.MULTILINE)
    name, *flags = re.findall(r'"([^"]*)"', words)
    args = get_serve_parser().parse_args(flags)
    assert name == "serve" and args.host == "0.0.0.0" and args.allow_host
    assert args.state.is_relative_to(Path("/var/lib/maskvat"))


def test_compose_says_what_the_guide_says() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    service = yaml.safe_load(COMPOSE)["services"]["maskvat"]
    name, *flags = service["command"]
    args = get_serve_parser().parse_args(flags)
    assert name == "serve" and args.allow_host == ["sounds.example"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["user"] == "10001:10001"
    assert service["ports"] == ["127.0.0.1:8440:8440"] and "no-new-privileges:true" in service["security_opt"]
    assert int(service["stop_grace_period"].rstrip("s")) > args.grace + 20
    version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    assert service["image"] == f"localhost/maskvat:{version}"


# ---------------------------------------------------------------- the proxies
@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_the_proxies_limit_the_head_of_a_request(name: str) -> None:
    """uvicorn has no limit. In nginx it counts only outside of `server`."""
    text = (DEPLOY / "proxy" / name).read_text()
    before = text.partition("\nserver {")[0] if name == "nginx.conf" else text
    assert re.search(r"^\s*(client_header_timeout|read_header) 10s", before, re.MULTILINE)


def test_nginx_takes_what_the_server_takes() -> None:
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    (megabytes,) = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(megabytes) == get_serve_parser().parse_args([]).max_upload
