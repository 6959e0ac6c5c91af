"""Run the server: its sockets, its signals, and a graceful end."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Generator
from contextlib import suppress

import uvicorn

from engines.locks import locked
from engines.manifest import write_atomically
from runtime.errors import MaskVATError, MediaError
from runtime.serve.app import make_app
from runtime.serve.browser import ADDRESS, open_running, show_page
from runtime.serve.config import ServerConfig
from runtime.serve.connections import PatientProtocol
from runtime.serve.services import Services, open_services
from runtime.serve.state import LOCK, check_state

log = logging.getLogger(__name__)
TRIES = 20  # ports that are tried if the system chooses
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
CONNECTIONS = 512  # at the same time
TWICE = 1.0  # seconds in which a second signal means the same: a terminal and `timeout` may send two
HEADER_BYTES = 1 << 16  # of a request's head


class InUse(MediaError):
    """Another server uses the state folder or the port."""


class StateInUse(InUse):
    """Another server uses the state folder."""


def run_server(config: ServerConfig) -> int:
    """Serve until a signal comes. Returns the exit status. Raises MaskVATError."""

    def in_use() -> None:
        raise StateInUse(f"another server uses {config.state}; stop it, or choose another --state")

    check_state(config.state)
    with suppress(OSError):
        config.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with locked(config.state / LOCK, in_use):
            (config.state / ADDRESS).unlink(missing_ok=True)  # of a killed server: another program may listen there
            services = open_services(config)
            try:
                return _serve(config, services)
            finally:
                services.close()
    except StateInUse:
        if config.open and open_running(config):
            return 0
        raise
    except OSError as error:
        raise MediaError(f"cannot use {config.state}: {error.strerror or error}; choose another --state") from error


def _serve(config: ServerConfig, services: Services) -> int:
    sockets = listen(config)
    services.port = sockets[0].getsockname()[1]
    settings = uvicorn.Config(
        make_app(services), http=PatientProtocol, ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=30,
        timeout_graceful_shutdown=5, h11_max_incomplete_event_size=HEADER_BYTES,
    )  # fmt: skip
    server = _Server(settings, services)
    address = config.state / ADDRESS
    try:
        asyncio.run(server.run_until_stopped(sockets))
    finally:
        address.unlink(missing_ok=True)
    if services.pool.hopeless.is_set() and services.pool.problem is not None:
        raise MaskVATError(f"no worker can start: {services.pool.problem}")
    return 0


def listen(config: ServerConfig) -> list[socket.socket]:
    """Sockets that listen. On this machine: IPv4 and, if there is one, IPv6, at the same port. Raises InUse."""
    hosts = ["127.0.0.1", "::1"] if config.host in ("127.0.0.1", "localhost") else [config.host]
    for _ in range(TRIES if config.port == 0 else 1):
        try:
            return _listen_at(hosts, config.port)
        except InUse as error:  # port 0: what is free in IPv4 may be taken in IPv6
            problem = error
    raise problem


def _listen_at(hosts: list[str], port: int) -> list[socket.socket]:
    """One socket for each host, all at one port, or none. Raises InUse."""
    sockets: list[socket.socket] = []
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            sockets.append(socket.create_server((host, port), family=family, backlog=1024))
        except (OSError, OverflowError) as error:
            if sockets and getattr(error, "errno", None) in NO_IPV6:
                continue
            for found in sockets:  # else another user's program would get requests, with tokens, at the other address
                found.close()
            raise InUse(f"cannot listen at {host}, port {port}: {error}; choose another --port or --host") from error
        port = sockets[0].getsockname()[1]
    return sockets


class _Server(uvicorn.Server):
    """uvicorn, except that a signal first lets jobs end."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self._since = 0.0  # time of the first signal
        self._ending: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn's own handlers would close the connections at once."""
        yield

    async def run_until_stopped(self, sockets: list[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if sys.platform == "win32":
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.stop))
            else:
                loop.add_signal_handler(number, self.stop)
        hopeless = asyncio.create_task(self._stop_if_hopeless())
        host, port = sockets[0].getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        _tell_address(self._services, url)
        await self.serve(sockets)
        hopeless.cancel()
        if self._ending is not None:
            await self._ending

    def stop(self) -> None:
        """Begin the end. A second signal waits for nothing."""
        grace = self._services.config.limits.grace
        if self._ending is not None:
            if time.monotonic() - self._since > TWICE:
                self._services.pool.hurry()
            return
        self._since = time.monotonic()
        log.info("stopping: running jobs get %g s, then they wait for the next start", grace)
        self._ending = asyncio.create_task(self._end(grace))

    async def _end(self, grace: float) -> None:
        try:
            await self._services.pool.drain(grace)
        finally:
            self._services.events.close()
            self.should_exit = True

    async def _stop_if_hopeless(self) -> None:
        await self._services.pool.hopeless.wait()
        await self._end(0.0)


def _tell_address(services: Services, url: str) -> None:
    """Say where the server is: for people, and as a file for programs."""
    write_atomically(services.config.state / ADDRESS, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    log.info("serving at %s", url)
    if services.config.token:
        log.info("tokens are in %s", services.tokens.path)
    show_page(services, url)
