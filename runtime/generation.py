"""One generation: video -> features -> conditions -> decoded codes -> waveform -> selection, window by window."""

import time
from collections.abc import Generator, Iterator
from fractions import Fraction

import numpy as np

from engines.advice import own_command
from engines.base import Feeds
from engines.contract import FloatArray, Int32Array
from engines.feeds import CODEC_CHUNK, replace_null, step_conditions
from runtime.candidates import Candidates, Scene
from runtime.context import GenerationContext, WorkEstimate
from runtime.deliver.loudness import Loudness, measure_loudness
from runtime.edit.activity import Motion, activity, changes
from runtime.edit.feature_cache import FeatureCache, PassKey, SeenVideo, View
from runtime.edit.plan import Plan
from runtime.edit.report_facts import edit_facts, range_facts
from runtime.edit.request import GenerationRequest
from runtime.errors import MediaError, OptionError
from runtime.exit_wait import check_ending
from runtime.features import Encoders
from runtime.take import EngineFile, Piece, Report, Take
from runtime.version import program_version
from runtime.windows import PictureFacts, PictureSource, Window, windows


class Run(GenerationContext):
    """One call of `Pipeline.generate` or `Pipeline.stream`."""

    cache: FeatureCache | None = None  # set with `key`, if features of the video are kept
    key: PassKey | None = None

    def check_cancel(self) -> None:
        check_ending()
        super().check_cancel()

    def __call__(self, video: PictureSource | SeenVideo, plan: Plan, request: GenerationRequest) -> list[Take]:
        """Make all takes, the best first."""
        begin = time.perf_counter()
        candidates = self._begin(video, plan, request)
        for _ in self._decoded(video, candidates):
            pass
        total = self._samples(video)
        order = [int(i) for i in candidates.order()[: self.sampling.takes]]
        first, stop = self._rendered_tokens(candidates.chains[0].shape[1])
        self.work.begin_rendering(len(order) * self.chunks(first, stop))
        audio = [self._render(candidates.chains[i], total) for i in order]
        return self._takes(video, candidates, order, audio, begin)

    def pieces(
        self, video: PictureSource | SeenVideo, plan: Plan, request: GenerationRequest
    ) -> Generator[Piece, None, Take]:
        """Make one take that goes on with no other one. Yields its sound in order, as soon as that cannot change any
        more, and returns the take.

        The codec gets the same chunks of tokens as in a call, so the samples are the same, too.
        """
        begin = time.perf_counter()
        candidates, sound = self._begin(video, plan, request), bytearray()
        for _ in self._decoded(video, candidates):
            codes = candidates.chains[candidates.running[0]]
            yield from self._settled(codes, sound)
        self.work.begin_rendering(self.chunks(self._tokens_in(sound), codes.shape[1]))
        yield from self._settled(codes, sound, self._samples(video))
        return self._takes(video, candidates, candidates.running, [np.frombuffer(sound, np.float32)], begin)[0]

    def _begin(self, video: PictureFacts, plan: Plan, request: GenerationRequest) -> Candidates:
        self.plan, self.request, self.motion, self.windows = plan, request, Motion(self.config), 0
        self._views: list[View] = []
        self.work = WorkEstimate(self._estimate_windows(video), self.sampling.takes)
        return Candidates(self, None if plan.known is None else plan.known.codes)

    def seen(self, video: PictureSource) -> SeenVideo:
        """What was seen of a video, once all its windows are decoded."""
        facts = (video.name, video.start, video.duration, video.expected_duration, list(video.warnings))
        return SeenVideo(*facts, views=self._views)

    def _decoded(self, video: PictureSource | SeenVideo, candidates: Candidates) -> Iterator[None]:
        """Decode all windows, one at a time."""
        for window in self._windows(video):
            self.work.begin_window(candidates.cost())
            view = self._view(video, window) if isinstance(window, Window) else window
            candidates.extend(self._scene(view))
            self.motion.add(view.window, view.motion)
            if self.cache is not None and not self.cache.too_large(self._views):
                self._views.append(view.without_frames())
            self.windows += 1
            yield
        if not self.windows:
            raise OptionError("the frames end where the take ends; give more frames to extend it")
        candidates.scores /= self.windows

    def _takes(
        self,
        video: PictureFacts,
        candidates: Candidates,
        order: list[int],
        audio: list[FloatArray],
        begin: float,
    ) -> list[Take]:
        """Takes of the candidates of `order`, with their sound. `begin` is when the call began."""
        config, plan = self.config, self.plan
        self.warnings.extend(video.warnings)
        loudness = [measure_loudness(a, config.sample_rate, check_cancelled=self.check_cancel) for a in audio]
        report = self._report(video, len(audio[0]), loudness, candidates, order, time.perf_counter() - begin)
        scores = report.scores or [None]
        earlier = None if plan.known is None else plan.known.take.activity
        place = (self._duration(video), video.start, report, plan.span, plan.fingerprint)
        seconds = len(audio[0]) / config.sample_rate
        takes = [
            Take(
                sound, config.sample_rate, i, scores[i], candidates.chains[i], *place,
                activity=activity(config, candidates.confidence[i], self.motion, seconds, earlier),
            )
            for i, sound in zip(order, audio, strict=True)
        ]  # fmt: skip
        self.work.finish()
        self.report_progress("codec", self.windows - 1, self.sampling.steps)
        return takes

    def _duration(self, video: PictureFacts) -> Fraction:
        """Seconds of the sound. Known once all windows are decoded."""
        known = self.plan.known
        return known.take.duration if known is not None and known.count else video.duration

    def _samples(self, video: PictureFacts) -> int:
        return max(1, round(self._duration(video) * self.config.sample_rate))

    def _untrained(self) -> Iterator[str]:
        effects = {"maskvat": "the sound means nothing", "scav": "the ranking of candidates means nothing"}
        for role, effect in effects.items():
            if self.bundle.untrained(role) and (role != "scav" or self.sampling.candidates > 1):
                yield f"{role} of the bundle {self.bundle.manifest.name} is untrained: {effect}"

    def _estimate_windows(self, video: PictureFacts) -> int:
        """The expected number of windows; 0 if the file does not say how long it is."""
        c, stretch = self.config, self.plan.stretch
        end = video.expected_duration if stretch.end is None else stretch.end * c.hop_length / c.sample_rate
        if end is None:
            return 0
        hop = c.window_seconds - c.overlap_seconds
        return max(1, int(np.ceil((end - stretch.first - c.overlap_seconds) / hop)))

    # ------------------------------------------------------------ one window
    def _windows(self, video: PictureSource | SeenVideo) -> Iterator[Window | View]:
        """The windows to decode, one at a time; views of them if they were seen before."""
        if isinstance(video, SeenVideo):
            yield from video.views
            return
        cutter = windows(self.config, video, self.check_cancel, self.plan.stretch)
        while True:
            with self.timer("video"):
                window = next(cutter, None)
            if window is None:
                break
            yield window

    def _view(self, video: PictureFacts, window: Window) -> View:
        """Encode the pictures of a window, as far as their features are not kept."""
        encoded, total = 0, len(window.frames) + len(window.sync_frames) * self.config.uses_sync

        def before_part(frames: int) -> None:
            nonlocal encoded
            self.work.pictures_done(encoded / total)
            self.report_progress("video", window.number)
            encoded += frames

        encoders = Encoders(self.bundle, self.timer, before_part)
        kept = self._kept_features(video, window)
        features: Feeds = {"frame_features": encoders.frame_features(window.frames) if kept is None else kept}
        if self.config.uses_sync:
            features["sync_features"] = encoders.sync_features(window.sync_frames)
        return View(window, features, changes(window))

    def _kept_features(self, video: PictureFacts, window: Window) -> FloatArray | None:
        """Frame features of a window that another pass has computed. None on GPUs, whose last digits depend on the
        number of frames in a call, and if it is not known yet how long the video is.
        """
        if self.cache is None or self.plan.part is None or self.bundle.encodes_whole_windows:
            return None
        return self.cache.frame_features(self.key, self.config, video.start, video.duration, window)

    def _scene(self, view: View) -> Scene:
        """Compute the conditions that all candidates and steps of a window share."""
        window, features, request = view.window, dict(view.features), self.request
        seen = features["frame_features"]
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

    def _render(self, codes: Int32Array, total: int) -> FloatArray:
        """The sound of codes [K, T], [total] samples. What no changed token reaches is the earlier take's, as it is."""
        (first, stop), hop = self._rendered_tokens(codes.shape[1]), self.config.hop_length
        audio = self.sound(codes, self.windows - 1, first, stop)
        if self.plan.known is not None:
            before = self.plan.known.take.audio
            audio = np.concatenate([before[: first * hop], audio, before[stop * hop :]])
        audio = audio[:total]
        _check_finite(audio)
        return np.clip(audio, -1.0, 1.0, out=audio)

    def _settled(self, codes: Int32Array, sound: bytearray, total: int | None = None) -> Iterator[Piece]:
        """Yield, and add to `sound` (float32), the chunks of codes [K, T] that it does not have yet, and that no later
        token changes. `total` is the length of the whole sound in samples, once all tokens are known.
        """
        hop, length, context = self.config.hop_length, codes.shape[1], self.config.codec_context
        begin = self._tokens_in(sound)
        while begin < length if total is not None else begin + CODEC_CHUNK + context < length:
            end, first = min(begin + CODEC_CHUNK, length), begin * hop
            audio = self.chunk(codes, self.windows - 1, begin, end)[: None if total is None else total - first]
            _check_finite(audio)
            piece = Piece(np.clip(audio, -1.0, 1.0), first, self.config.sample_rate)
            sound += piece.audio.tobytes()
            yield piece
            begin = end

    def _tokens_in(self, sound: bytearray) -> int:
        return len(sound) // (np.dtype(np.float32).itemsize * self.config.hop_length)

    def _report(
        self,
        video: PictureFacts,
        samples: int,
        loudness: list[Loudness],
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
            windows=self.windows,
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


def _check_finite(audio: FloatArray) -> None:
    if not np.isfinite(audio).all():
        raise MediaError(
            f"the codec returned values that are not finite; check the bundle with {own_command('doctor')}"
        )
