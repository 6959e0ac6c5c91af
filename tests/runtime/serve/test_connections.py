"""Connections of clients that are slow on purpose, with the real HTTP server: heads, bodies, readers, many streams."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from runtime.serve import connections
from runtime.serve.app import make_app
from runtime.serve.connections import PatientProtocol
from runtime.serve.start import HEADER_BYTES
from tests.support.serving import Serving

Start = Callable[..., Serving]
HEAD = "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
PATIENCE = 60.0  # seconds; nothing here takes so long unless the machine is busy
POST = "POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Length: 1000000\r\n\r\n"


class Live:
    """Servers without workers, at real ports."""

    def __init__(self, start: Start) -> None:
        self._start, self._threads = start, list[threading.Thread]()
        self.server: uvicorn.Server

    def __call__(self, **config: Any) -> tuple[Serving, int]:
        """A server and its port."""
        serving = self._start(workers=0, **config)
        sock = socket.create_server(("127.0.0.1", 0))
        settings = uvicorn.Config(make_app(serving.services), http=PatientProtocol, ws="none", lifespan="off",
            log_config=None, timeout_keep_alive=30, h11_max_incomplete_event_size=HEADER_BYTES)  # fmt: skip
        self.server = uvicorn.Server(settings)
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self.server.serve([sock]))))
        self._threads[-1].start()
        return serving, sock.getsockname()[1]

    @property
    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)

    def stop(self) -> None:
        for thread in self._threads:
            self.server.should_exit = self.server.force_exit = True
            thread.join()


@pytest.fixture
def live(start: Start) -> Iterator[Live]:
    found = Live(start)
    yield found
    found.stop()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        yield client


def is_closed(client: socket.socket, trickle: bytes = b"") -> bool:
    """Whether the server closes a connection, while the client sends some bytes now and then."""
    end = time.monotonic() + PATIENCE
    client.settimeout(0.05)
    while time.monotonic() < end:
        try:
            if trickle:
                client.sendall(trickle)
            if not client.recv(1 << 16):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def wait_for(found: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    assert found()


def test_a_head_that_never_ends(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    _, port = live()
    with connected(port) as client:  # the second head of a connection
        client.sendall(f"{HEAD}\r\n".encode())
        assert client.recv(1 << 16)
        monkeypatch.setattr(connections, "HEAD", 0.3)
        client.sendall(HEAD.encode())
        assert is_closed(client)
    for head, trickle in (("", b""), (HEAD, b""), (HEAD, b"x")):
        with connected(port) as client:
            with suppress(ConnectionError):
                client.sendall(head.encode())
            assert is_closed(client, trickle), head


def test_a_head_that_is_too_long(live: Live) -> None:
    _, port = live()
    for more in ("X: " + "x" * 200_000, "X: x\r\n" * 30_000, "Cookie: " + "a=b; " * 40_000):
        with connected(port) as client:
            with suppress(ConnectionError):
                client.sendall(f"{HEAD}{more}\r\n\r\n".encode())
                assert client.recv(1 << 16)[:12] in (b"HTTP/1.1 400", b"")
            assert is_closed(client)
    with connected(port) as client:
        client.sendall(f"{HEAD}\r\n".encode())
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_connection_between_two_requests_stays(live: Live) -> None:
    _, port = live()
    with connected(port) as client:
        wait_for(lambda: len(live.connections) == 1 and live.connections[0]._head is not None)
        for _ in range(2):
            client.sendall(f"{HEAD}\r\n".encode())
            answer = b""
            while not answer.endswith(b"}"):
                answer += client.recv(1 << 16)
            wait_for(lambda: live.connections[0]._head is None)  # no time runs


def test_a_body_after_its_answer(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    _, port = live()
    with connected(port) as client:
        client.sendall(POST.format("wrong")[:-2].encode())
        wait_for(lambda: len(live.connections) == 1)
        monkeypatch.setattr(connections, "HEAD", 0.3)
        client.sendall(b"\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 401")
        assert is_closed(client, b"x")


def test_a_body_that_is_too_slow(live: Live) -> None:
    server, port = live(limits={"body_wait": 0.4})
    for trickle in (b"", b"x"):  # nothing, or a little again and again
        with connected(port) as client:
            client.sendall(POST.format(server.token).encode())
            begin = time.monotonic()
            client.settimeout(0.05)
            answer = b""
            while not answer and time.monotonic() - begin < PATIENCE:
                try:
                    client.sendall(trickle)
                    answer = client.recv(1 << 16)
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 ")
    assert not any(server.services.incoming.iterdir())


def test_a_client_that_does_not_read(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READER", 0.3)
    server, port = live()
    file_id = server.upload(b"x" * 20_000_000)
    with connected(port) as client:
        client.sendall(f"GET /v1/files/{file_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n".encode())  # fmt: skip
        wait_for(lambda: bool(live.connections))
        wait_for(lambda: not live.connections)  # it was cut off
    assert server.get(f"/v1/files/{file_id}").status_code == 200


def test_one_client_cannot_take_all_connections_with_streams(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
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
        wait_for(lambda: server.services.streams.total() == 0)
