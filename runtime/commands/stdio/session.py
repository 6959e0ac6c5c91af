"""A session with a host: requests are queued and done one after the other; a thread reads what comes meanwhile."""

import threading
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from queue import SimpleQueue
from typing import Any

from engines.contract import CONTRACT_VERSION
from engines.manifest import MINI, Manifest
from runtime.commands import signals
from runtime.commands.crash_guard import forget, tell
from runtime.commands.deliverables import plan_delivery
from runtime.commands.make import make_sound, open_engines, read_request
from runtime.commands.status import describe_error
from runtime.commands.stdio.channel import MAX_LINE, Channel
from runtime.commands.stdio.requests import FIELDS, BadRequest, Request, RequestId, args_of, find_id, read_request_line
from runtime.errors import Cancelled, ManifestError, MaskVATError
from runtime.pipeline import Pipeline
from runtime.sampling import Progress
from runtime.version import program_version

PROTOCOL = 1  # grows when a host that follows docs/EMBEDDING.md would have to change
MAX_QUEUED = 256  # requests that wait
Values = dict[str, Any]


class IdInUse(BadRequest):
    """Another request of this id is queued or running."""


class Session:
    """One host's requests. `read` runs in a thread of its own, `run` in the main thread."""

    def __init__(self, channel: Channel, args: Namespace) -> None:
        """`args` has the flags that choose the bundle and what runs it."""
        self._channel, self._args = channel, args
        self._queue: SimpleQueue[Request | None] = SimpleQueue()  # None: the end
        self._lock = threading.Lock()
        self._open: dict[RequestId, Request] = {}  # queued or running
        self._running: Request | None = None
        self._pipeline: Pipeline | None = None
        self.stopped = 0  # the signal that came
        self._methods: dict[str, Callable[[Request], Values]] = {
            "load": self._load,
            "generate": self._generate,
            "redo": self._generate,  # with flags of its own: `requests.args_of`
            "close": lambda request: {},
        }
        channel.on_closed = self._end

    # ------------------------------------------------------------ the thread that reads
    def hello(self) -> None:
        """Send the first line."""
        values = {"protocol": PROTOCOL, "version": program_version(), "bundle": self._bundle(), "methods": list(FIELDS)}
        self._channel.send("hello", **values, max_line=MAX_LINE)

    def take(self, line: bytes | None) -> None:
        """Take a line: answer it at once, or queue it."""
        if line is None:
            self._fail(None, "line_too_long", f"a line has over {MAX_LINE} bytes; it was skipped")
        elif line.strip():
            try:
                self._accept(read_request_line(line))
            except IdInUse as error:  # an answer with this id would be taken for the other request's
                self._fail(None, *describe_error(error))
            except MaskVATError as error:
                self._fail(find_id(line), *describe_error(error))

    def end_of_input(self) -> None:
        """The host sends no more: what is queued is still done."""
        self._queue.put(None)

    def _accept(self, request: Request) -> None:
        with self._lock:
            if request.id in self._open:
                raise IdInUse(f"id {request.id!r} is in use; wait for its answer, or give another id")
            if len(self._open) >= MAX_QUEUED:
                raise BadRequest(f"{MAX_QUEUED} requests wait already; wait for answers")
            if request.method in self._methods:
                self._open[request.id] = request
        if request.method == "cancel":
            self._channel.send("done", id=request.id, result={"cancelled": self._cancel(request.params["target"])})
        elif request.method == "info":
            self._channel.send("done", id=request.id, result=self._info())
        else:
            if request.method == "close":
                self._cancel_all(but=request)
            self._queue.put(request)

    def _cancel(self, target: RequestId) -> bool:
        with self._lock:
            request = self._open.get(target)
        if request is not None:
            request.cancel.set()
        return request is not None

    def _cancel_all(self, but: Request | None = None) -> None:
        with self._lock:
            for request in self._open.values():
                if request is not but:
                    request.cancel.set()

    def _end(self) -> None:
        self._cancel_all()
        self._queue.put(None)

    def stop(self, number: int) -> None:
        """A signal asks to stop. It may come while this thread holds a lock, so it takes none."""
        self.stopped = self.stopped or number
        for request in list(self._open.values()):
            request.cancel.set()
        self._queue.put(None)

    # ------------------------------------------------------------ the main thread
    def run(self) -> int:
        """Do the requests, until the host ends the session. Returns the exit status."""
        try:
            while (request := self._queue.get()) is not None and not self._channel.closed:
                self._perform(request)
                if request.method == "close":
                    break
        finally:
            if self._pipeline is not None:
                self._pipeline.close()
        return 128 + self.stopped if self.stopped else int(self._channel.closed)

    def _perform(self, request: Request) -> None:
        send = partial(self._channel.send, id=request.id)
        forget()
        tell({"request": request.id})
        signals.ALSO.set(partial(_check, request))
        self._running = request
        try:
            _check(request)
            if request.method != "close":
                send("started")
            result = self._methods[request.method](request)
        except Exception as error:
            answer = partial(self._fail, request.id, *describe_error(error))
        else:
            answer = partial(send, "done", result=result)
        self._running = None
        with self._lock:
            del self._open[request.id]
        answer()

    def _load(self, request: Request) -> Values:
        begin = time.monotonic()
        args = Namespace(**vars(self._args) | request.params)
        opened = open_engines(args, wait=True)
        self._args = args
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline = opened
        seconds = round(time.monotonic() - begin, 3)
        return {**self._engines(), "warnings": list(opened.bundle.warnings), "seconds": seconds}

    def _generate(self, request: Request) -> Values:
        args = args_of(request.params)
        tell({"video": str(args.video)})
        checked = read_request(args)
        delivery = plan_delivery(args, checked.config, checked.edit)
        if self._pipeline is None and checked.edit.unchanged is None:
            self._pipeline = open_engines(self._args, wait=True)

        def on_progress(progress: Progress) -> None:
            self._channel.send("progress", id=request.id, **asdict(progress))

        return make_sound(checked, delivery, self._pipeline, on_progress, request.cancel)

    # ------------------------------------------------------------ answers
    def _fail(self, request_id: RequestId | None, code: str, message: str) -> None:
        self._channel.send("error", id=request_id, code=code, message=message)

    def _bundle(self) -> Values | None:
        """Name and contract of the bundle; None if there is none that can be read. `load` says why."""
        try:
            manifest = Manifest.load(getattr(self._args, "engines", MINI))
        except (ManifestError, OSError):
            return None
        return {"name": manifest.name, "contract": CONTRACT_VERSION}

    def _engines(self) -> Values:
        pipeline = self._pipeline
        if pipeline is None:
            return {"bundle": self._bundle(), "backend": None, "precision": None}
        bundle = pipeline.bundle
        named = {"name": bundle.manifest.name, "contract": bundle.manifest.contract_version}
        return {"bundle": named, "backend": bundle.backend, "precision": bundle["step"].precision}

    def _info(self) -> Values:
        running = self._running
        with self._lock:
            queued = [key for key, request in self._open.items() if request is not running]
        return {
            "protocol": PROTOCOL,
            "version": program_version(),
            **self._engines(),
            "loaded": self._pipeline is not None,
            "running": None if running is None else running.id,
            "queued": queued,
        }


def _check(request: Request) -> None:
    if request.cancel.is_set():
        raise Cancelled("the request was cancelled")
