"""A verified bundle and its engines, loaded when first used."""

import threading
from pathlib import Path

from engines.backends import BACKENDS, choose
from engines.base import Array, BackendUnavailable, Engine
from engines.contract import Graph, ModelConfig, graphs
from engines.manifest import MINI, Manifest, ManifestError

NEEDED = ("frame_encoder", "sync_encoder", "condition", "step", "codec_decoder")  # by every generation


class Bundle:
    """`bundle[name]` is the engine of a graph. Thread-safe; files are verified once, here.

    The engines that every generation needs are opened here too, so that a backend that does not work is found now:
    `auto` then takes the next one and says so in `warnings`. The others are opened when first used.
    """

    def __init__(self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0) -> None:
        """`folder` None is the bundle that is shipped. Raises ManifestError, BackendUnavailable."""
        self.folder = MINI if folder is None else Path(folder)
        self.manifest = Manifest.load(self.folder)
        self.threads = threads
        self.warnings: list[str] = []
        self._graphs: dict[str, Graph] = graphs(self.config)
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()
        names = choose(backend)
        for self.backend in names:
            try:
                for graph in NEEDED:
                    self[graph]
                return
            except BackendUnavailable as error:
                if self.backend == names[-1]:
                    raise
                self._engines.clear()
                self.warnings.append(f"backend {self.backend!r} does not work here, the next one is used: {error}")

    @property
    def config(self) -> ModelConfig:
        return self.manifest.config

    def file_for(self, graph: str) -> str:
        """The file that this backend runs: its preferred precision among those the bundle has."""
        have = {f.precision: name for name, f in reversed(self.manifest.files.items()) if f.graph == graph}
        for precision in BACKENDS[self.backend].precisions:
            if precision in have:
                return have[precision]
        raise ManifestError(
            f"the bundle {self.manifest.name} has {graph} in {', '.join(have) or 'no precision'}, and backend "
            f"{self.backend!r} runs {', '.join(BACKENDS[self.backend].precisions)}; export it again with one of these"
        )

    def __getitem__(self, graph: str) -> Engine:
        with self._lock:
            if graph not in self._engines:
                path = self.folder / self.file_for(graph)
                self._engines[graph] = BACKENDS[self.backend].open(path, self._graphs[graph], self.threads)
            return self._engines[graph]

    def run(self, graph: str, **feeds: Array) -> tuple[Array, ...]:
        """Run a graph; its outputs in the contract's order."""
        outputs = self[graph].run(feeds)
        return tuple(outputs[spec.name] for spec in self._graphs[graph].outputs)

    def untrained(self, role: str) -> bool:
        """True where the manifest says that a component has random weights."""
        return any(w.role == role and not w.trained for w in self.manifest.weights)
