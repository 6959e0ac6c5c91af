"""Connections of clients that are slow on purpose, with the real HTTP server: heads, bodies, readers, many streams."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from runtime.serve import connections
from runtime.serve.app import make_app
from runtime.serve.connections import PatientProtocol
from runtime.serve.start import HEADER_BYTES
from tests.support.serving import Serving

Start = Callable[..., Serving]
HEAD = "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture
def live(start: Start, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Serving, int]]]:
    """live(**config) -> a server without workers, and the port at which uvicorn serves it."""
    monkeypatch.setattr(connections, "HEAD", 0.3)
    monkeypatch.setattr(connections, "READER", 0.3)
    stops: list[Callable[[], None]] = []

    def begin(**config) -> tuple[Serving, int]:
        serving = start(workers=0, **config)
        sock = socket.create_server(("127.0.0.1", 0))
        settings = uvicorn.Config(make_app(serving.services), http=PatientProtocol, ws="none", lifespan="off",
            log_config=None, timeout_keep_alive=30, h11_max_incomplete_event_size=HEADER_BYTES)  # fmt: skip
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([sock])))
        thread.start()

        def stop() -> None:
            server.should_exit = server.force_exit = True
            thread.join()

        stops.append(stop)
        return serving, sock.getsockname()[1]

    yield begin
    for stop in stops:
        stop()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def seconds_until_closed(client: socket.socket, trickle: bytes = b"") -> float:
    """How long the server keeps a connection, while the client sends some bytes now and then."""
    begin = time.monotonic()
    client.settimeout(0.05)
    while time.monotonic() - begin < 10:
        try:
            if trickle:
                client.sendall(trickle)
            if not client.recv(1 << 16):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begin


def test_a_head_that_never_ends(live) -> None:
    _, port = live()
    for head, trickle in (("", b""), (HEAD, b""), (HEAD, b"x")):
        with connected(port) as client:
            client.sendall(head.encode())
            assert seconds_until_closed(client, trickle) < 8, head
    with connected(port) as client:  # the second head of a connection
        client.sendall(f"{HEAD}\r\n".encode())
        assert client.recv(1 << 16)
        client.sendall(HEAD.encode())
        assert seconds_until_closed(client) < 8


def test_a_head_that_is_too_long(live) -> None:
    _, port = live()
    for more in ("X: " + "x" * 200_000, "X: x\r\n" * 30_000, "Cookie: " + "a=b; " * 40_000):
        with connected(port) as client:
            with suppress(ConnectionError):
                client.sendall(f"{HEAD}{more}\r\n\r\n".encode())
                assert client.recv(1 << 16)[:12] in (b"HTTP/1.1 400", b"")
            assert seconds_until_closed(client) < 8
    with connected(port) as client:
        client.sendall(f"{HEAD}\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_connection_between_two_requests_stays(live) -> None:
    _, port = live()
    with connected(port) as client:
        for _ in range(2):
            client.sendall(f"{HEAD}\r\n".encode())
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)


def test_a_body_after_its_answer(live) -> None:
    _, port = live()
    with connected(port) as client:
        client.sendall(POST.format("wrong").encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 401")
        assert seconds_until_closed(client, b"x") < 8


def test_a_body_that_is_too_slow(live) -> None:
    server, port = live(limits={"body_wait": 0.4})
    for trickle in (b"", b"x"):  # nothing, or a little again and again
        with connected(port) as client:
            client.sendall(POST.format(server.token).encode())
            begin = time.monotonic()
            client.settimeout(0.05)
            answer = b""
            while not answer and time.monotonic() - begin < 10:
                try:
                    client.sendall(trickle)
                    answer = client.recv(1 << 16)
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 ")
    assert not any(server.services.incoming.iterdir())


def test_a_client_that_does_not_read(live) -> None:
    server, port = live()
    file_id = server.upload(b"x" * 20_000_000)
    with connected(port) as client:
        client.sendall(f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n".encode())  # fmt: skip
        time.sleep(1.0)
        got = 0
        client.settimeout(5)
        try:
            while data := client.recv(1 << 20):
                got += len(data)
        except ConnectionError:
            pass
        assert got < 20_000_000
    assert server.get(f"/v1/files/{file_id}").status_code == 200


def test_one_client_cannot_take_all_connections_with_streams(live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.serve.api.stream.MAX_STREAMS", 2)
    server, port = live()
    job = server.ask().json()
    request = (
        f"GET {job['events']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode()
    )
    for _ in range(2):  # what is closed counts no more
        with connected(port) as a, connected(port) as b, connected(port) as c:
            for client, status in ((a, b"200"), (b, b"200"), (c, b"429")):
                client.sendall(request)
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 " + status)
        end = time.monotonic() + 10
        while server.services.streams.total() and time.monotonic() < end:
            time.sleep(0.02)
    assert server.services.streams.total() == 0
