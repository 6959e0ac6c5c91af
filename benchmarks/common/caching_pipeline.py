"""A pipeline that encodes a picture once: benchmarks generate from the same clip again and again.

Times stay those of whole calls: an answer of an encoder that is given again counts with what it took the first time.
"""

import hashlib
from pathlib import Path

import numpy as np

import runtime
from benchmarks.common.stopwatch import Spent
from engines.backends import AUTO
from engines.base import Array
from runtime.bundle import Bundle

ENCODERS = ("frame_encoder", "sync_encoder")
KEPT = 256  # answers; a 10 s clip needs about ten


class RememberingBundle(Bundle):
    """The encoders' answers are kept and given again for equal frames; all else runs as always."""

    def __init__(
        self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0, precision: str = AUTO
    ) -> None:
        self._answers: dict[tuple[str, bytes], tuple[tuple[Array, ...], Spent]] = {}
        self.saved = Spent()  # by all answers that were given again
        super().__init__(folder, backend, threads, precision)

    def run(self, graph: str, **feeds: Array) -> tuple[Array, ...]:
        """As Bundle.run. The answer must not be changed."""
        if graph not in ENCODERS:
            return super().run(graph, **feeds)
        digest = hashlib.blake2b(repr(feeds["frames"].shape).encode())
        digest.update(np.ascontiguousarray(feeds["frames"]))
        key = (graph, digest.digest())
        if key in self._answers:
            answer, spent = self._answers[key]
            self.saved += spent
            return answer
        begin = Spent.now()
        answer = super().run(graph, **feeds)
        while len(self._answers) >= KEPT:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = answer, Spent.now() - begin
        return answer


class RememberingPipeline(runtime.Pipeline):
    """A pipeline whose bundle remembers."""

    bundle: RememberingBundle

    def __init__(
        self, folder: str | Path | None = None, backend: str = "auto", threads: int = 0, precision: str = AUTO
    ) -> None:
        super().__init__(RememberingBundle(folder, backend, threads, precision))

    def timed(self, clip: Path, sampling: runtime.SamplingConfig) -> tuple[list[runtime.Take], Spent]:
        """The takes of a clip, and what a call that encodes everything takes."""
        begin, saved = Spent.now(), self.bundle.saved
        takes = self.generate(clip, sampling)
        return takes, Spent.now() - begin + self.bundle.saved - saved
