"""An engine that records what it is given."""

from collections.abc import Callable

import numpy as np

from engines.base import Engine, Feeds
from runtime import Pipeline


class Spy(Engine):
    """An engine that records its inputs, and may change its outputs."""

    def __init__(self, pipeline: Pipeline, name: str, change: Callable[[Feeds], Feeds] = lambda out: out) -> None:
        self.engine: Engine = pipeline.bundle[name]
        self.graph, self.backend, self.change = self.engine.graph, self.engine.backend, change
        self.feeds: list[Feeds] = []
        pipeline.bundle._engines[name] = self

    def execute(self, fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        self.feeds.append({k: np.copy(v) for k, v in (fixed | varying).items()})
        return self.change(self.engine.execute(fixed, varying, sizes))
