"""Video -> features -> conditions -> decoded codes -> waveform -> selection, window by window."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engines.advice import own_command
from engines.base import Feeds
from engines.contract import FloatArray, Int32Array
from engines.feeds import replace_null, step_conditions
from runtime.audio import MAX_DURATION
from runtime.bundle import CLOSED, Bundle, BundleFuture
from runtime.candidates import Candidates, Scene
from runtime.context import GenerationContext, WorkEstimate
from runtime.deliver.loudness import Loudness, measure_loudness
from runtime.edit.activity import Motion, activity
from runtime.edit.frame_source import FrameSource
from runtime.edit.plan import Plan, Planner, check_bundle
from runtime.edit.report_facts import edit_facts, range_facts
from runtime.edit.request import GenerationRequest, RangeLike
from runtime.edit.timecode import Span
from runtime.edit.timing import VideoTiming
from runtime.edit.words import Words, with_words
from runtime.errors import MediaError, OptionError, PipelineClosed
from runtime.exit_wait import check_ending, delay_exit
from runtime.features import Encoders
from runtime.sampling import Progress, SamplingConfig, whole_number
from runtime.take import EngineFile, Report, Take
from runtime.version import program_version
from runtime.video import Video
from runtime.windows import PictureSource, Window, windows


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

    Several threads may call `generate` at once; they share nothing but the engines.
    """

    def __init__(self, bundle: Bundle | BundleFuture) -> None:
        self._bundle = bundle
        self.config = bundle.config

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the engines. Using the pipeline afterwards raises PipelineClosed; closing it again does nothing.

        A generation that still runs in another thread ends with PipelineClosed, too.
        """
        self._bundle.close()

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
        run = _Run(self._usable(), sampling or request.sampling(), on_progress, cancel)
        with delay_exit():
            planner = Planner(video, self.config, timing, run.check_cancel)
            plan = planner.with_words(planner.plan(request, span, run.sampling.seed), request, words)
            if plan.known is not None:
                check_bundle(plan.known.take, run.bundle.manifest)
            request, warnings = with_words(request, plan.words, run.sampling, lambda: run.bundle)
            run.warnings += warnings
            if isinstance(video, FrameSource):
                video.open(max_duration)
                return run(video, plan, request)
            with Video(video, max_duration, run.check_cancel, plan.part) as opened:
                return run(opened, plan, request)


class _Run(GenerationContext):
    """One call of `generate`."""

    def check_cancel(self) -> None:
        check_ending()
        super().check_cancel()

    def __call__(self, video: PictureSource, plan: Plan, request: GenerationRequest) -> list[Take]:
        begin = time.perf_counter()
        self.plan, self.request, self.motion = plan, request, Motion(self.config)
        config, known = self.config, plan.known
        self.work = WorkEstimate(self._estimate_windows(video), self.sampling.takes)
        candidates = Candidates(self, None if known is None else known.codes)
        done = self._decode(video, candidates)
        duration = known.take.duration if known is not None and known.count else video.duration
        total = max(1, round(duration * config.sample_rate))
        self.warnings.extend(video.warnings)
        order = [int(i) for i in candidates.order()[: self.sampling.takes]]
        first, stop = self._rendered_tokens(candidates.chains[0].shape[1])
        self.work.begin_rendering(len(order) * self.chunks(first, stop))
        audio = [self._render(candidates.chains[i], total, done - 1) for i in order]
        loudness = [measure_loudness(a, config.sample_rate, check_cancelled=self.check_cancel) for a in audio]
        report = self._report(video, total, loudness, done, candidates, order, time.perf_counter() - begin)
        scores = report.scores or [None]
        earlier = None if known is None else known.take.activity
        place = (duration, video.start, report, plan.span, plan.fingerprint)
        takes = [
            Take(
                audio[n], config.sample_rate, i, scores[i], candidates.chains[i], *place,
                activity=activity(config, candidates.confidence[i], self.motion, total / config.sample_rate, earlier),
            )
            for n, i in enumerate(order)
        ]  # fmt: skip
        self.work.finish()
        self.report_progress("codec", done - 1, self.sampling.steps)
        return takes

    def _decode(self, video: PictureSource, candidates: Candidates) -> int:
        """Decode all windows. Returns how many there were."""
        cutter, done = windows(self.config, video, self.check_cancel, self.plan.stretch), 0
        while True:
            with self.timer("video"):
                window = next(cutter, None)
            if window is None:
                break
            self.work.begin_window(candidates.cost())
            candidates.extend(self._scene(window))
            self.motion.add(window)
            done += 1
        if not done:
            raise OptionError("the frames end where the take ends; give more frames to extend it")
        candidates.scores /= done
        return done

    def _untrained(self) -> Iterator[str]:
        effects = {"maskvat": "the sound means nothing", "scav": "the ranking of candidates means nothing"}
        for role, effect in effects.items():
            if self.bundle.untrained(role) and (role != "scav" or self.sampling.candidates > 1):
                yield f"{role} of the bundle {self.bundle.manifest.name} is untrained: {effect}"

    def _estimate_windows(self, video: PictureSource) -> int:
        """The expected number of windows; 0 if the file does not say how long it is."""
        c, stretch = self.config, self.plan.stretch
        end = video.expected_duration if stretch.end is None else stretch.end * c.hop_length / c.sample_rate
        if end is None:
            return 0
        hop = c.window_seconds - c.overlap_seconds
        return max(1, int(np.ceil((end - stretch.first - c.overlap_seconds) / hop)))

    # ------------------------------------------------------------ one window
    def _scene(self, window: Window) -> Scene:
        """Encode the pictures of a window, and compute the conditions that all its candidates and steps share."""
        encoded, total = 0, len(window.frames) + len(window.sync_frames) * self.config.uses_sync

        def before_part(frames: int) -> None:
            nonlocal encoded
            self.work.pictures_done(encoded / total)
            self.report_progress("video", window.number)
            encoded += frames

        encoders = Encoders(self.bundle, self.timer, before_part)
        features: Feeds = {"frame_features": encoders.frame_features(window.frames)}
        if self.config.uses_sync:
            features["sync_features"] = encoders.sync_features(window.sync_frames)
        seen, request = features["frame_features"], self.request
        if request.picture is not None:
            features["frame_features"] = request.picture(window, seen)
        feeds = step_conditions(self.config, window.length, features, self._run_condition)
        if request.other_side is not None and self.sampling.guidance:
            other = features | {"frame_features": request.other_side(window, seen)}
            feeds = replace_null(feeds, step_conditions(self.config, window.length, other, self._run_condition))
        return Scene(window, features["frame_features"], feeds)

    def _run_condition(self, feeds: Feeds) -> Feeds:
        with self.timer("condition"):
            return self.bundle["condition"].run(feeds)

    # ------------------------------------------------------------ sound
    def _rendered_tokens(self, length: int) -> tuple[int, int]:
        """Token frames [first, stop) whose sound may differ from that of the take with which the call goes on."""
        known = self.plan.known
        if known is None:
            return 0, length
        first, end = known.changed if known.count else (known.changed[0], length)
        return max(0, first - self.config.codec_context), min(length, end + self.config.codec_context)

    def _render(self, codes: Int32Array, total: int, window: int) -> FloatArray:
        """The sound of codes [K, T], [total] samples. What no changed token reaches is the earlier take's, as it is."""
        (first, stop), hop = self._rendered_tokens(codes.shape[1]), self.config.hop_length
        audio = self.sound(codes, window, first, stop)
        if self.plan.known is not None:
            before = self.plan.known.take.audio
            audio = np.concatenate([before[: first * hop], audio, before[stop * hop :]])
        audio = audio[:total]
        if not np.isfinite(audio).all():
            raise MediaError(
                f"the codec returned values that are not finite; check the bundle with {own_command('doctor')}"
            )
        return np.clip(audio, -1.0, 1.0, out=audio)

    def _report(
        self,
        video: PictureSource,
        samples: int,
        loudness: list[Loudness],
        n_windows: int,
        candidates: Candidates,
        order: list[int],
        seconds: float,
    ) -> Report:
        manifest, timer = self.bundle.manifest, self.timer
        timer.seconds["host"] = timer.seconds["sample"] - timer.seconds["step"]
        graphs = {f.graph for f in manifest.files.values() if f.graph}
        files = {g: self.bundle.file_for(g) for g in sorted(graphs)}
        scores = [float(x) if np.isfinite(x) else None for x in candidates.scores]
        return Report(
            version=program_version(),
            clip=video.name,
            bundle=manifest.name,
            backend=self.bundle.backend,
            precision=self.bundle["step"].precision,
            threads=self.bundle.threads,
            engines={g: EngineFile(file, manifest.files[file].sha256) for g, file in files.items()},
            sampling=self.sampling,
            windows=n_windows,
            samples=samples,
            sample_rate=self.config.sample_rate,
            seconds={stage: round(value, 4) for stage, value in timer.seconds.items()},
            calls=dict(timer.calls),
            total_seconds=round(seconds, 4),
            loudness=loudness,
            warnings=list(dict.fromkeys([*self.bundle.warnings, *self._untrained(), *self.warnings])),
            scores=scores if len(scores) > 1 else None,
            ranking=order,
            dropped=candidates.dropped,
            range=range_facts(self.plan.span),
            words=self.plan.words.facts(),
            edit=edit_facts(self.plan, self.request),
        )
