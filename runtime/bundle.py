"""A verified bundle and its engines: opened at once, or by a thread while something else is done."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from pathlib import Path

from engines.backends import AUTO, BACKENDS, Opening, check_precision, choose
from engines.base import Array, BackendUnavailable, ContractError, Engine, EngineError
from engines.contract import Graph, ModelConfig, graphs
from engines.manifest import MINI, Manifest, ManifestError
from engines.selftest import check_repeats, compare, summarise
from runtime.errors import Cancelled

NEEDED = ("frame_encoder", "sync_encoder", "condition", "step", "codec_decoder")  # by every generation


class Bundle:
    """`bundle[name]` is the engine of a graph. Thread-safe; files are verified once, here.

    The engines that every generation needs are opened here too, so that a backend that does not work is found now.
    `auto` takes the first backend that works: on a card it must pass the bundle's self-test. Those that are installed
    and were passed over are told in `warnings`. The other engines are opened when first used.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        backend: str = "auto",
        threads: int = 0,
        precision: str = AUTO,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        """`folder` None is the bundle that is shipped; `precision` is that of `step`, and of what else has it.

        `check_cancelled()` is called before an engine is opened, and may raise.

        Raises ManifestError, BackendUnavailable.
        """
        self.folder = MINI if folder is None else Path(folder)
        self.manifest = Manifest.load(self.folder)
        self.threads, self.precision = threads, precision
        self.warnings: list[str] = []
        self._graphs: dict[str, Graph] = graphs(self.config)
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()
        names = choose(backend)
        for self.backend in names:
            told = len(self.warnings)
            try:
                check_precision(self.backend, self.folder, self.manifest, precision)
                for graph in NEEDED:
                    check_cancelled()
                    self[graph]
                if backend == "auto" and BACKENDS[self.backend].accelerated:
                    self.prove()
                return
            except (BackendUnavailable, EngineError, ContractError, ManifestError) as error:
                self.close()
                if self.backend == names[-1]:
                    raise
                self.warnings[told:] = [f"backend {self.backend!r} does not work here, the next one is used: {error}"]

    def self_test(self, names: Iterable[str]) -> dict[str, str | None]:
        """File that runs a graph -> None where it gives what the manifest says, else what differs."""
        engines = {self.file_for(name): self[name] for name in names}
        verdicts = compare(self.manifest.self_test, summarise(engines, self.config))
        if BACKENDS[self.backend].accelerated:
            for file, engine in engines.items():
                if engine.graph.name == "step" and verdicts[file] is None:
                    verdicts[file] = check_repeats(engine, self.config)
        return verdicts

    def prove(self) -> None:
        """Run the self-test of what every generation needs. Raises BackendUnavailable where a result differs."""
        verdicts = self.self_test(NEEDED)
        failed = [f"{file}: {problem}" for file, problem in verdicts.items() if problem is not None]
        if failed:
            raise BackendUnavailable(f"the bundle's self-test failed on {self.backend}: {'; '.join(failed)}")

    def close(self) -> None:
        """Give back what the engines hold; they are opened again when used."""
        with self._lock:
            while self._engines:
                self._engines.popitem()[1].close()

    @property
    def config(self) -> ModelConfig:
        return self.manifest.config

    def file_for(self, graph: str) -> str:
        """The bundle's file that this backend runs, or a form of it: the preferred precision among those there are."""
        allowed = BACKENDS[self.backend].files(graph, self.precision)
        return self.manifest.file_for(graph, allowed, f"backend {self.backend!r}")

    def __getitem__(self, graph: str) -> Engine:
        with self._lock:
            if graph not in self._engines:
                opening = Opening(
                    self.folder, self.manifest, self.file_for(graph), self.threads, self.precision, self.warnings
                )
                self._engines[graph] = BACKENDS[self.backend].open(self._graphs[graph], opening)
            return self._engines[graph]

    def run(self, graph: str, **feeds: Array) -> tuple[Array, ...]:
        """Run a graph; its outputs in the contract's order."""
        outputs = self[graph].run(feeds)
        return tuple(outputs[spec.name] for spec in self._graphs[graph].outputs)

    def untrained(self, role: str) -> bool:
        """True where the manifest says that a component has random weights."""
        return any(w.role == role and not w.trained for w in self.manifest.weights)


class BundleFuture:
    """A bundle that a thread opens. The program does not end before that thread."""

    POLL = 0.05  # seconds

    def __init__(
        self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0, precision: str = AUTO
    ) -> None:
        """As Bundle, but only what the manifest says is known now. Raises ManifestError where it cannot be read."""
        self.config = Manifest.read(MINI if folder is None else Path(folder)).config
        self._bundle: Future[Bundle] = Future()
        threading.Thread(target=self._open, args=(folder, backend, threads, precision), name="maskvat-loading").start()

    def _open(self, folder: str | Path | None, backend: str, threads: int, precision: str) -> None:
        try:
            self._bundle.set_result(Bundle(folder, backend, threads, precision, self._go_on))
        except BaseException as error:
            self._bundle.set_exception(error)

    @staticmethod
    def _go_on() -> None:
        if not threading.main_thread().is_alive():
            raise Cancelled("the program has ended")  # and waits for this thread

    def wait(self, check_cancelled: Callable[[], None]) -> Bundle:
        """The open bundle. Calls `check_cancelled()` while it waits. Raises what the thread raised."""
        while not self._bundle.done():
            check_cancelled()
            wait([self._bundle], self.POLL)
        return self._bundle.result()
