"""A verified bundle and its engines. It is opened at once, or by a thread while the program does something else."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path

from engines.backends import AUTO, BACKENDS, Opening, check_precision, choose
from engines.base import Array, Engine
from engines.contract import Graph, ModelConfig, graphs
from engines.manifest import MINI, Manifest, VerifiedFiles
from engines.selftest import check_repeats, compare, summarise
from engines.words.tokeniser import Tokeniser
from engines.words.vocabulary import Vocabulary
from runtime.errors import BackendUnavailable, Cancelled, ContractError, EngineError, ManifestError, PipelineClosed
from runtime.exit_wait import check_ending, delay_exit

NEEDED = ("frame_encoder", "sync_encoder", "condition", "step", "codec_decoder")  # by every generation
CLOSED = "this pipeline is closed; open another one with runtime.load()"


class Bundle:
    """A bundle's engines: `bundle[name]` is the engine of a graph. Thread-safe. Files are verified once, here.

    Opens the engines that every generation needs, so that a backend that does not work is found now; others are opened
    when they are first used. With "auto", the first backend that works is used: a GPU must pass the bundle's self-test.
    `warnings` says which installed backends were skipped, and why.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        backend: str = "auto",
        threads: int = 0,
        precision: str = AUTO,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the bundle in `folder` (None: the shipped one).

        `precision` is that of the step graph; other graphs follow if they can. `check_cancelled()` is called before an
        engine is opened, and may raise to stop. Raises ManifestError, BackendUnavailable.
        """
        self.folder = MINI if folder is None else Path(folder)
        self._files = VerifiedFiles(self.folder)
        self.manifest = self._files.manifest
        self.threads, self.precision = threads, precision
        self.warnings: list[str] = []
        self.closed = False
        self._graphs: dict[str, Graph] = graphs(self.config)
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()  # held for moments only: opening an engine may take minutes
        self._opening: dict[str, threading.Lock] = {}  # one for each graph
        with delay_exit():
            self._open_first(backend, check_cancelled)

    def _open_first(self, backend: str, check_cancelled: Callable[[], None]) -> None:
        """Open the first backend that works."""
        names = choose(backend)
        for self.backend in names:
            before = len(self.warnings)
            try:
                self._open_needed(check_cancelled, must_pass=backend == "auto" and BACKENDS[self.backend].accelerated)
                return
            except (BackendUnavailable, EngineError, ContractError, ManifestError) as error:
                self._release()
                if self.backend == names[-1]:
                    raise
                self.warnings[before:] = [f"backend {self.backend!r} does not work here, the next one is used: {error}"]
            except BaseException:
                self._release()
                raise

    def _open_needed(self, check_cancelled: Callable[[], None], must_pass: bool) -> None:
        check_precision(self.backend, self.folder, self.manifest, self.precision)
        for graph in NEEDED:
            check_ending()
            check_cancelled()
            self[graph]
        if must_pass:
            self.prove()

    def self_test(self, names: Iterable[str]) -> dict[str, str | None]:
        """Run the self-test of some graphs. Returns, for each file, None if it passed, else what differs."""
        engines = {self.file_for(name): self[name] for name in names}
        verdicts = compare(self.manifest.self_test, summarise(engines, self.config))
        if BACKENDS[self.backend].accelerated:
            for file, engine in engines.items():
                if engine.graph.name == "step" and verdicts[file] is None:
                    verdicts[file] = check_repeats(engine, self.config)
        return verdicts

    def prove(self) -> None:
        """Run the self-test of the graphs that every generation needs. Raises BackendUnavailable if one fails."""
        verdicts = self.self_test(NEEDED)
        failed = [f"{file}: {problem}" for file, problem in verdicts.items() if problem is not None]
        if failed:
            raise BackendUnavailable(f"the bundle's self-test failed on {self.backend}: {'; '.join(failed)}")

    def close(self) -> None:
        """Release the engines. Using the bundle afterwards raises PipelineClosed; closing it again does nothing."""
        self.closed = True
        self._release()

    def _release(self) -> None:
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].close()

    @property
    def config(self) -> ModelConfig:
        return self.manifest.config

    @property
    def draws_all_positions(self) -> bool:
        """Whether `step` draws at all positions, not only at masked ones: see `engines.backends.Backend`."""
        return BACKENDS[self.backend].draws_all_positions

    @property
    def encodes_whole_windows(self) -> bool:
        """Whether the picture encoders get a window's frames at once: see `engines.backends.Backend`."""
        return BACKENDS[self.backend].encodes_whole_windows

    def file_for(self, graph: str) -> str:
        """The bundle's file that this backend runs (or derives its own from), in the preferred precision."""
        allowed = BACKENDS[self.backend].files(graph, self.precision)
        return self.manifest.file_for(graph, allowed, f"backend {self.backend!r}")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the bundle, read when they are first used. Raises ManifestError."""
        name = self.manifest.vocabulary
        with self._files.unchanged(name):
            return Vocabulary.load(self.folder / name, self.config)

    @cached_property
    def tokeniser(self) -> Tokeniser | None:
        """The tokeniser of the text encoder; None without one. Raises ManifestError."""
        name = self.manifest.tokeniser
        if not name:
            return None
        with self._files.unchanged(name):
            return Tokeniser.load(self.folder / name, self.config)

    def __getitem__(self, graph: str) -> Engine:
        engine = self._opened(graph)
        if engine is not None:
            return engine
        with self._lock:
            turn = self._opening.setdefault(graph, threading.Lock())
        with turn, delay_exit():
            engine = self._opened(graph)
            return self._open(graph) if engine is None else engine

    def _opened(self, graph: str) -> Engine | None:
        with self._lock:
            if self.closed:
                raise PipelineClosed(CLOSED)
            return self._engines.get(graph)

    def _open(self, graph: str) -> Engine:
        """Open an engine. Other graphs stay usable meanwhile. If the bundle is closed meanwhile, so is the engine."""
        file = self.file_for(graph)
        opening = Opening(self.folder, self.manifest, file, self.threads, self.precision, self.warnings)
        with ExitStack() as undo:
            with self._files.unchanged(file):
                engine = BACKENDS[self.backend].open(self._graphs[graph], opening)
                undo.callback(engine.close)
            with self._lock:
                if self.closed:
                    raise PipelineClosed(CLOSED)
                self._engines[graph] = engine
            undo.pop_all()
        return engine

    def run(self, graph: str, **feeds: Array) -> tuple[Array, ...]:
        """Run a graph. Returns its outputs in the contract's order."""
        outputs = self[graph].run(feeds)
        return tuple(outputs[spec.name] for spec in self._graphs[graph].outputs)

    def untrained(self, role: str) -> bool:
        """Whether the manifest says that a component has random weights."""
        return any(w.role == role and not w.trained for w in self.manifest.weights)


class BundleFuture:
    """A bundle that a thread is opening. The program does not end before that thread."""

    POLL = 0.05  # seconds

    def __init__(
        self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0, precision: str = AUTO
    ) -> None:
        """Take the same arguments as Bundle. Only the manifest is known at once.

        Raises ManifestError if the manifest cannot be read.
        """
        self.manifest = Manifest.read(MINI if folder is None else Path(folder))
        self.config = self.manifest.config
        self.closed = False
        self._bundle: Future[Bundle] = Future()
        threading.Thread(target=self._open, args=(folder, backend, threads, precision), name="maskvat-loading").start()

    def _open(self, folder: str | Path | None, backend: str, threads: int, precision: str) -> None:
        try:
            self._bundle.set_result(Bundle(folder, backend, threads, precision, self._check_wanted))
        except BaseException as error:
            self._bundle.set_exception(error)

    def _check_wanted(self) -> None:
        if not threading.main_thread().is_alive():
            raise Cancelled("the program has ended")  # it waits for this thread
        if self.closed:
            raise PipelineClosed(CLOSED)

    def close(self) -> None:
        """Stop opening the bundle, and close it.

        Returns at once. If the thread is opening an engine now, it closes the bundle after that.
        """
        self.closed = True
        self._bundle.add_done_callback(_close_result)

    def wait(self, check_cancelled: Callable[[], None]) -> Bundle:
        """Wait for the open bundle; calls `check_cancelled()` while it waits. Raises whatever the thread raised."""
        while not self._bundle.done():
            check_cancelled()
            wait([self._bundle], self.POLL)
            if self.closed:
                raise PipelineClosed(CLOSED)
        return self._bundle.result()


def _close_result(opened: "Future[Bundle]") -> None:
    with suppress(BaseException):  # a bundle that could not be opened has nothing to close
        opened.result().close()
