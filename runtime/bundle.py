"""A verified bundle and its engines, loaded when first used."""

import threading
from pathlib import Path

from engines.backends import choose, open_engine, precisions
from engines.base import Array, Engine
from engines.contract import Graph, ModelConfig, graphs
from engines.manifest import MINI, Manifest


class Bundle:
    """`bundle[name]` is the engine of a graph. Thread-safe; verification happens once, here."""

    def __init__(self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0) -> None:
        """`folder` None is the bundle that is shipped. Raises ManifestError, BackendUnavailable."""
        self.folder = MINI if folder is None else Path(folder)
        self.manifest = Manifest.load(self.folder)
        self.backend = choose(backend)
        self.threads = threads
        self._graphs: dict[str, Graph] = graphs(self.config)
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    @property
    def config(self) -> ModelConfig:
        return self.manifest.config

    def file_for(self, graph: str) -> str:
        """The file that this backend runs: its preferred precision among those the bundle has."""
        have = {f.precision for f in self.manifest.files.values() if f.graph == graph}
        wanted = next((p for p in precisions(self.backend) if p in have), None)
        return self.manifest.file_for(graph, wanted)

    def __getitem__(self, graph: str) -> Engine:
        with self._lock:
            if graph not in self._engines:
                path = self.folder / self.file_for(graph)
                self._engines[graph] = open_engine(path, self._graphs[graph], self.backend, self.threads)
            return self._engines[graph]

    def run(self, graph: str, **feeds: Array) -> tuple[Array, ...]:
        """Run a graph; its outputs in the contract's order."""
        outputs = self[graph].run(feeds)
        return tuple(outputs[spec.name] for spec in self._graphs[graph].outputs)

    def untrained(self, role: str) -> bool:
        """True where the manifest says that a component has random weights."""
        return any(w.role == role and not w.trained for w in self.manifest.weights)
