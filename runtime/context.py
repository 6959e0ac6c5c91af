"""What the stages of one generation share: the bundle, the options, timing, warnings, progress and cancelling."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from engines.contract import FloatArray, Int32Array
from engines.feeds import CODEC_CHUNK, CODEC_PERIOD
from runtime.bundle import Bundle, BundleFuture
from runtime.errors import Cancelled
from runtime.sampling import Progress, SamplingConfig, Stage

# Costs of work, counted in unmasking steps of one candidate. They were measured with the shipped bundle on a CPU, and
# only decide how evenly the progress moves.
PICTURES = 3.0  # decode and encode the pictures of a window
SCORE = 1.0  # score one candidate in a window
RENDER = 1.0  # turn the tokens of a take into sound, for each window


class Timer:
    """Seconds and calls per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin
            self.calls[stage] = self.calls.get(stage, 0) + 1


class WorkEstimate:
    """Turns finished work into a fraction of the whole. It never falls, and is 1 only after `finish`."""

    def __init__(self, windows: int, takes: int) -> None:
        """`windows` is the expected number of windows; 0 if the file does not say how long it is."""
        self.windows, self._takes = windows, takes
        self.fraction = 0.0
        self._window = -1
        self._window_cost = 1.0
        self._render_share = 0.0  # of the whole
        self._chunks = self._rendered = 0  # chunks of sound, counted once rendering has begun

    def begin_window(self, decoding: float) -> None:
        """Start the next window, in which decoding the candidates costs `decoding`."""
        self._window += 1
        self._window_cost = PICTURES + decoding
        if self._window == 0:  # later windows cost less if a budget dropped candidates; keep the first estimate
            render = RENDER * self._takes
            self._render_share = render / (self._window_cost + render)

    def pictures_done(self, share: float) -> None:
        """Note that this share of the window's pictures is encoded."""
        self._within_window(PICTURES * share)

    def decoding_done(self, cost: float) -> None:
        """Note how much of the window's decoding is done, in the unit of `begin_window`."""
        self._within_window(PICTURES + cost)

    def _within_window(self, cost: float) -> None:
        begun = self._window + 1
        whole = max(self.windows, begun) if self.windows else begun + 1
        self._raise((1 - self._render_share) * (self._window + cost / self._window_cost) / whole)

    def begin_rendering(self, chunks: int) -> None:
        """Start turning the takes into sound, in so many chunks."""
        self._chunks = chunks
        self._raise(1 - self._render_share)

    def chunk_done(self) -> None:
        """Note that a chunk of sound is decoded. Chunks that are decoded before rendering, to score, do not count."""
        if self._chunks:
            self._rendered += 1
            self._raise(1 - self._render_share * (1 - self._rendered / (self._chunks + 1)))  # `finish` is the last part

    def finish(self) -> None:
        """Note that all is done."""
        self.fraction = 1.0

    def _raise(self, fraction: float) -> None:
        self.fraction = max(self.fraction, fraction)


class GenerationContext:
    """One generation's engines, options, timer, warnings and progress."""

    def __init__(
        self,
        bundle: Bundle | BundleFuture,
        sampling: SamplingConfig,
        on_progress: Callable[[Progress], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        if bundle.manifest.distilled_guidance:
            sampling = replace(sampling, guidance=0.0)  # a second pass would guide twice
        self._bundle, self.config, self.sampling = bundle, bundle.config, sampling
        self.on_progress, self.cancel = on_progress, cancel
        self.timer = Timer()
        self.warnings: list[str] = []
        self.work = WorkEstimate(0, sampling.takes)

    @property
    def bundle(self) -> Bundle:
        """The open bundle. Waits if a thread is opening it; raises Cancelled, and whatever that thread failed with."""
        if isinstance(self._bundle, BundleFuture):
            self._bundle = self._bundle.wait(self.check_cancel)
        return self._bundle

    def check_cancel(self) -> None:
        """Raises Cancelled if the caller has cancelled."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("generation was cancelled")

    def report_progress(self, stage: Stage, window: int, step: int = 0) -> None:
        """Report progress. Raises Cancelled, and whatever the caller's function raises."""
        self.check_cancel()
        if self.on_progress is not None:
            self.on_progress(Progress(stage, window, step, self.sampling.steps, self.work.fraction))

    def sound(self, codes: Int32Array, window: int, first: int = 0, stop: int | None = None) -> FloatArray:
        """Decode token frames [first, stop) of codes [K, T] to audio [(stop - first) * hop].

        It is done chunk by chunk, with enough context that the result is exact. Chunks begin at multiples of
        CODEC_PERIOD.
        """
        hop, stop = self.config.hop_length, codes.shape[1] if stop is None else stop
        origin = first // CODEC_PERIOD * CODEC_PERIOD
        out = np.empty((stop - origin) * hop, np.float32)
        for begin in range(origin, stop, CODEC_CHUNK):
            end = min(begin + CODEC_CHUNK, stop)
            out[(begin - origin) * hop : (end - origin) * hop] = self.chunk(codes, window, begin, end)
        return out[(first - origin) * hop :]

    def chunk(self, codes: Int32Array, window: int, begin: int, end: int) -> FloatArray:
        """Decode token frames [begin, end) of codes [K, T] to audio [(end - begin) * hop], with their context.

        `begin` is a multiple of CODEC_PERIOD. Tokens from `end` + `codec_context` on change nothing, so `codes` may
        still grow then.
        """
        hop, context = self.config.hop_length, self.config.codec_context
        left, right = max(0, begin - context) // CODEC_PERIOD * CODEC_PERIOD, min(codes.shape[1], end + context)
        with self.timer("codec"):
            (audio,) = self.bundle.run("codec_decoder", codes=np.ascontiguousarray(codes[None, :, left:right]))
        self.work.chunk_done()
        self.report_progress("codec", window, self.sampling.steps)
        sound: FloatArray = audio[0, (begin - left) * hop : (end - left) * hop]
        return sound

    def chunks(self, first: int, stop: int) -> int:
        """Chunks in which `sound` decodes token frames [first, stop)."""
        return -(-(stop - first // CODEC_PERIOD * CODEC_PERIOD) // CODEC_CHUNK)
