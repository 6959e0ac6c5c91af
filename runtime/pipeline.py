"""The public side of a loaded bundle: videos in, takes or a stream of sound out."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.audio import MAX_DURATION
from runtime.bundle import CLOSED, Bundle, BundleFuture
from runtime.edit.feature_cache import FeatureCache, PassKey, SeenVideo
from runtime.edit.frame_source import FrameSource
from runtime.edit.plan import Plan, Planner, check_bundle
from runtime.edit.request import GenerationRequest, RangeLike
from runtime.edit.timecode import Span
from runtime.edit.timing import VideoTiming
from runtime.edit.words import Words, with_words
from runtime.errors import PipelineClosed
from runtime.exit_wait import delay_exit
from runtime.generation import Run
from runtime.sampling import Progress, SamplingConfig, whole_number
from runtime.take import Piece, SoundStream, Take
from runtime.video import Video
from runtime.windows import PictureSource


def load(
    bundle: str | Path | None = None,
    backend: str = "auto",
    threads: int = 0,
    precision: str = "auto",
    wait: bool = True,
) -> "Pipeline":
    """Verify and open a bundle.

    `bundle` is its folder (None: the shipped bundle), `threads` the number of CPU threads (0 to 1024; 0: the backend's
    choice), `precision` that of the step graph ("auto": the one that the backend prefers).

    With wait=False, a thread opens the engines while the first video is decoded. Errors of the bundle or the backend
    are then raised when the engines are first needed.

    Raises OptionError, ManifestError, BackendUnavailable.
    """
    threads = whole_number("threads", threads, 0, 1024)
    return Pipeline((Bundle if wait else BundleFuture)(bundle, backend, threads, precision))


class Pipeline:
    """A loaded bundle that turns videos into takes. Use it as a context manager, or call `close`.

    Several threads may call `generate` at once. They share the engines, and the features of the video files that were
    seen last: another take or redo of the same pictures neither decodes nor encodes them again.
    """

    def __init__(self, bundle: Bundle | BundleFuture) -> None:
        self._bundle = bundle
        self.config = bundle.config
        self._features = FeatureCache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the engines. Using the pipeline afterwards raises PipelineClosed; closing it again does nothing.

        A generation that still runs in another thread ends with PipelineClosed, too.
        """
        self._bundle.close()
        self.forget()

    def forget(self) -> None:
        """Drop the features that are kept of videos, so that the next call decodes and encodes its pictures."""
        self._features.clear()

    @property
    def bundle(self) -> Bundle:
        """The open bundle. Waits if a thread is opening it. Raises whatever that failed with, and PipelineClosed."""
        bundle = self._usable()
        return bundle if isinstance(bundle, Bundle) else bundle.wait(lambda: None)

    def _usable(self) -> Bundle | BundleFuture:
        if self._bundle.closed:
            raise PipelineClosed(CLOSED)
        return self._bundle

    def generate(
        self,
        video: str | Path | FrameSource,
        sampling: SamplingConfig | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        max_duration: float = MAX_DURATION,
        *,
        span: RangeLike | Span | None = None,
        edit: GenerationRequest | None = None,
        words: Words | None = None,
        timing: VideoTiming | None = None,
    ) -> list[Take]:
        """Make sounds for a video: a file, or frames of a host. Returns `sampling.takes` takes, the best first.

        `span` is a part of the file: a `TimeRange`, text such as "2.1-3.4", or two numbers of seconds. The sound is
        then exactly as long as that part, and the same as that of a file with these frames alone.
        `edit` goes on with an earlier take: see `redo`, `vary` and `extend`. Without `sampling`, the take's options are
        used, with the next seed. `words` say what is to be heard; without them, an edit keeps the take's. `timing` is
        the file's, if the caller has read it (`read_timing`).

        `on_progress` is called in this thread. Setting `cancel` stops the generation within one step or frame.
        The end of the program cancels it, too, if it runs in a daemon thread.
        A video or a part that lasts longer than `max_duration` seconds is refused.
        Raises MediaError, OptionError, EngineError, BackendUnavailable, Cancelled, PipelineClosed.
        """
        request = edit or GenerationRequest()
        run = Run(self._usable(), sampling or request.sampling(), on_progress, cancel)
        run.cache = None if request.has_hooks else self._features
        with delay_exit():
            plan, request = _prepare(run, video, request, span, words, timing)
            with _opened(run, video, plan, max_duration) as pictures:
                return run(pictures, plan, request)

    def stream(
        self,
        video: str | Path | FrameSource,
        sampling: SamplingConfig | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        max_duration: float = MAX_DURATION,
        *,
        span: RangeLike | Span | None = None,
        words: Words | None = None,
        timing: VideoTiming | None = None,
    ) -> SoundStream:
        """Make one sound, and give it piece by piece, each as soon as it is finished.

        Joined, the pieces are the samples that `generate` makes with the same arguments. The first ones come after the
        first window: the video is read, encoded and decoded only as far as the pieces need. Each is made while the
        caller waits for it, in the caller's thread, where `on_progress` is called, too.

        `sampling` may have several candidates only if its budget ends in 1. The other arguments are those of
        `generate`. Raises OptionError here, and when it is iterated what `generate` raises.
        """
        run = Run(self._usable(), sampling or SamplingConfig(), on_progress, cancel)
        run.sampling.check_stream()
        run.cache = self._features
        with delay_exit():
            plan, request = _prepare(run, video, GenerationRequest(), span, words, timing)

        def pieces() -> Generator[Piece, None, Take]:
            with _opened(run, video, plan, max_duration) as pictures:
                return (yield from run.pieces(pictures, plan, request))

        return SoundStream(pieces())


def _prepare(
    run: Run,
    video: str | Path | FrameSource,
    request: GenerationRequest,
    span: RangeLike | Span | None,
    words: Words | None,
    timing: VideoTiming | None,
) -> tuple[Plan, GenerationRequest]:
    """Plan a generation, and give the request its words."""
    planner = Planner(video, run.config, timing, run.check_cancel)
    plan = planner.with_words(planner.plan(request, span, run.sampling.seed), request, words)
    if plan.known is not None:
        check_bundle(plan.known.take, run.bundle.manifest)
    request, warnings = with_words(request, plan.words, run.sampling, lambda: run.bundle)
    run.warnings += warnings
    return plan, request


@contextmanager
def _opened(
    run: Run, video: str | Path | FrameSource, plan: Plan, max_duration: float
) -> Iterator[PictureSource | SeenVideo]:
    """The pictures of a video, open as long as the block runs; or what is kept of an earlier pass over them."""
    if isinstance(video, FrameSource):
        run.cache = None
        video.open(max_duration)
        yield video
        return
    key = run.key = None if run.cache is None else PassKey.of(video, plan, max_duration)
    seen = None if run.cache is None else run.cache.get(key)
    if seen is not None:
        yield seen
        return
    with Video(video, max_duration, run.check_cancel, plan.part) as opened:
        if opened.is_playlist:  # the state of the file says nothing of its pictures
            run.cache = key = None
        yield opened
        if run.cache is not None and key is not None and key == PassKey.of(video, plan, max_duration):
            run.cache.put(key, run.seen(opened))
