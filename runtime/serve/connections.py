"""uvicorn's HTTP, with an end to waiting. uvicorn itself waits for ever for a request's head, and for a reader."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 15.0  # seconds for a request's head, and for the rest of a body that was answered before its end
READER = 120.0  # seconds in which a client must take some of an answer: about 64 kB

Timer = asyncio.TimerHandle | None


class PatientProtocol(H11Protocol):
    """One connection."""

    _head: Timer = None
    _reader: Timer = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader = self._reader or self.loop.call_later(READER, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader = _stop(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head, self._reader = _stop(self._head), _stop(self._reader)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Let the time run while the client must send something and nothing else has a limit."""
        state: Any = self.conn.their_state
        in_head = state is h11.IDLE and self.timeout_keep_alive_task is None
        after_answer = state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete
        if in_head or after_answer:
            self._head = self._head or self.loop.call_later(HEAD, self.transport.abort)
        else:
            self._head = _stop(self._head)


def _stop(timer: Timer) -> Timer:
    """Stop a timer, if there is one. There is none after that."""
    if timer is not None:
        timer.cancel()
    return None
