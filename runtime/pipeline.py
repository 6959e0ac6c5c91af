"""Video -> features -> conditions -> decoded codes -> waveform -> selection, window by window."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import Array, EngineError, Feeds
from engines.contract import FloatArray, Int32Array, condition_indices
from engines.feeds import frame_rows, positions, without_null
from runtime.audio import resample
from runtime.bundle import Bundle
from runtime.decode import decode
from runtime.errors import Cancelled, MediaError
from runtime.ranking import scav_distance
from runtime.rng import CONFIDENCE, TOKENS, uniforms
from runtime.sampling import Progress, SamplingConfig, Take
from runtime.video import Video
from runtime.windows import Window, total_samples, windows

FRAME_BATCH = 16  # frames encoded at once
CODEC_CHUNK = 256  # token frames decoded at once (export.md: exact with context, a third of the memory)
STEP_MEMORY = 2 * 2**30  # bytes that the candidates of one batch may take in `step`


class Timer:
    """Seconds per stage."""

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


def load(bundle: str | Path | None = None, backend: str = "auto", threads: int = 0) -> "Pipeline":
    """Verify and open a bundle (None: the one that is shipped). `threads` 0 lets the backend choose."""
    return Pipeline(Bundle(bundle, backend, threads))


class Pipeline:
    """A loaded bundle that turns clips into takes. Calls from several threads share nothing but the engines."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.config = bundle.config

    def generate(
        self,
        clip: str | Path,
        sampling: SamplingConfig | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Take]:
        """Sound for a video file: `sampling.takes` takes, the best first.

        `on_progress` is called in this thread; `cancel` stops within one step or frame. Raises MediaError, Cancelled.
        """
        run = _Run(self.bundle, sampling or SamplingConfig(), on_progress, cancel)
        with Video(clip) as video:
            return run(video)


class _Run:
    """One call of `generate`."""

    def __init__(
        self,
        bundle: Bundle,
        sampling: SamplingConfig,
        on_progress: Callable[[Progress], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self.bundle, self.config, self.sampling = bundle, bundle.config, sampling
        self.on_progress, self.cancel = on_progress, cancel
        self.timer = Timer()
        self.warnings = list(bundle.warnings)
        self.chains = [np.zeros((self.config.n_codebooks, 0), np.int32) for _ in range(sampling.candidates)]
        self.scores = np.zeros(sampling.candidates)
        self.expected = 0  # windows, an estimate; 0 where the file does not say how long it is
        self.finished, self.at_work = 0, 0  # candidates, in this window
        self.largest = sampling.candidates  # batch that the engines can hold, as far as is known
        self.fraction = 0.0

    def __call__(self, video: Video) -> list[Take]:
        begin = time.perf_counter()
        config, s = self.config, self.sampling
        for role, loss in (("maskvat", "the sound means nothing"), ("scav", "the ranking of candidates means nothing")):
            if self.bundle.untrained(role) and (role != "scav" or s.candidates > 1):
                self.warnings.append(f"{role} of the bundle {self.bundle.manifest.name} is untrained: {loss}")
        self.expected = self._estimate_windows(video)
        cutter, done = windows(config, video, self._check_cancel), 0
        while True:
            with self.timer("video"):
                window = next(cutter, None)
            if window is None:
                break
            self._window(window)
            done += 1
        total = total_samples(config, video)
        self.warnings.extend(video.warnings)
        order = np.argsort(self.scores, kind="stable")[: s.takes] if s.candidates > 1 else np.array([0])
        self.expected = done
        audio = [self._render(self.chains[i], total) for i in order]
        self.scores /= done
        report = self._report(video, total, order, done, time.perf_counter() - begin)
        scores = report["scores"] or [None]
        return [
            Take(audio[n], config.sample_rate, int(i), scores[i], self.chains[i], video.duration, report)
            for n, i in enumerate(order)
        ]

    def _estimate_windows(self, video: Video) -> int:
        c = self.config
        if video.expected_duration is None:
            return 0
        hop = c.window_seconds - c.overlap_seconds
        return max(1, int(np.ceil((video.expected_duration - c.overlap_seconds) / hop)))

    def _check_cancel(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("generation was cancelled")

    def _tell(self, stage: str, window: int, step: int = 0) -> None:
        self._check_cancel()
        if self.on_progress is not None:
            steps = self.sampling.steps
            done = window + (self.finished + self.at_work * step / steps) / self.sampling.candidates
            whole = max(self.expected, window + 1) if self.expected else window + 2
            self.fraction = max(self.fraction, done / whole)
            self.on_progress(Progress(stage, window, step, steps, self.fraction))

    # ------------------------------------------------------------ one window
    def _window(self, window: Window) -> None:
        self.finished = self.at_work = 0
        self._tell("video", window.number)
        clip_features = self._clip_features(window)
        step_feeds = self._condition(window, clip_features)
        while self.finished < self.sampling.candidates:
            size = min(self._batch_size(window.length), self.largest)
            batch = range(self.sampling.candidates)[self.finished :][:size]
            self.at_work = len(batch)
            try:
                self._sample(window, batch, step_feeds)
            except EngineError:  # nothing was kept of this batch: `_sample` extends the chains at its very end
                if len(batch) == 1:
                    raise
                self.largest = len(batch) // 2
                self.warnings.append("the engines failed with so many candidates at once; smaller batches were used")
                continue
            if self.sampling.candidates > 1:
                self._score(window, batch, clip_features)
            self.finished, self.at_work = batch.stop, 0

    def _clip_features(self, window: Window) -> FloatArray:
        parts = []
        for i in range(0, len(window.clip_frames), FRAME_BATCH):
            self._tell("video", window.number)
            with self.timer("frame_encoder"):
                parts.append(self.bundle.run("frame_encoder", frames=window.clip_frames[i : i + FRAME_BATCH])[0])
        features: FloatArray = np.concatenate(parts).astype(np.float32, copy=False)[None]
        return features  # [1, N, Dc]

    def _condition(self, window: Window, clip_features: FloatArray) -> Feeds:
        """All that `step` needs beside codes, positions and uniforms: the same for every candidate."""
        config = self.config
        feeds: Feeds = {"clip_features": clip_features}
        n_sync = 0
        if config.uses_sync:
            with self.timer("sync_encoder"):
                feeds["sync_features"] = self.bundle.run("sync_encoder", frames=window.sync_frames[None])[0]
            n_sync = feeds["sync_features"].shape[1]
        indices: Feeds = dict(condition_indices(config, window.length, clip_features.shape[1], n_sync))
        frame_index = indices.pop("frame_index", None)
        with self.timer("condition"):
            step_feeds = self.bundle["condition"].run(feeds | indices)
        step_feeds["guidance"] = np.array(self.sampling.guidance, np.float32)
        if frame_index is not None:
            step_feeds["frame_index"] = frame_rows(frame_index, step_feeds["modulation"].shape[1])
        return step_feeds if self.sampling.guidance else without_null(step_feeds)

    def _batch_size(self, length: int) -> int:
        """Candidates in one batch. A constant of clip and bundle: the same options give the same bytes everywhere."""
        c = self.config
        rows = 2 if self.sampling.guidance else 1
        logits = 3 * c.n_codebooks * c.codebook_size  # logits, exponentials, cumulative sums
        per_token = 4 * (logits + rows * (16 * c.hidden_size + 2 * c.n_heads * length))
        return max(1, STEP_MEMORY // (per_token * length))

    def _sample(self, window: Window, batch: range, step_feeds: Feeds) -> None:
        config, s = self.config, self.sampling
        shape = (config.n_codebooks, window.length)
        codes = np.full((len(batch), *shape), config.mask_token, np.int32)
        known = self.chains[batch[0]].shape[1] - window.start
        for row, candidate in enumerate(batch):
            codes[row, :, :known] = self.chains[candidate][:, window.start :]
        every = self.bundle.backend != "cpu"  # cards replay what they recorded, which has one shape

        def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
            index = positions(codes == config.mask_token, every)
            u = np.take_along_axis(u, index, axis=-1)
            with self.timer("step"):
                drawn = self.bundle.run("step", codes=codes, index=index, u=u, **step_feeds)
            tokens, logp = codes.copy(), np.zeros(codes.shape, np.float32)
            for whole, part in zip((tokens, logp), drawn, strict=True):
                np.put_along_axis(whole, index, part, axis=-1)
            return tokens, logp

        def noise(n: int) -> tuple[FloatArray, FloatArray]:
            def draw(stream: int) -> FloatArray:
                return np.stack([uniforms(s.seed, i, window.number, n, stream, shape) for i in batch])

            return draw(TOKENS), draw(CONFIDENCE)

        def on_step(n: int) -> None:
            self._tell("sample", window.number, n + 1)

        with self.timer("sample"):  # the engine and the host's share
            codes = decode(
                step, codes, noise, mask_token=config.mask_token, steps=s.steps, diversity=s.diversity, on_step=on_step
            )
        for row, candidate in enumerate(batch):
            self.chains[candidate] = np.concatenate([self.chains[candidate], codes[row][:, known:]], axis=1)

    def _score(self, window: Window, batch: range, clip_features: FloatArray) -> None:
        for candidate in batch:
            self._tell("select", window.number, self.sampling.steps)
            codes = self.chains[candidate][:, window.start : window.start + window.length]
            audio = self._decode_codec(codes, window.number)
            with self.timer("select"):
                audio = resample(audio, self.config.sample_rate, self.config.audio_rate)
                self.scores[candidate] += scav_distance(self.bundle, clip_features, audio)

    # ------------------------------------------------------------ sound
    def _decode_codec(self, codes: Int32Array, window: int) -> FloatArray:
        """codes [K, T] -> audio [T * hop], chunk by chunk with the context that makes this exact."""
        hop, context, length = self.config.hop_length, self.config.codec_context, codes.shape[1]
        out = np.empty(length * hop, np.float32)
        for begin in range(0, length, CODEC_CHUNK):
            end = min(begin + CODEC_CHUNK, length)
            left, right = max(0, begin - context), min(length, end + context)
            with self.timer("codec"):
                (audio,) = self.bundle.run("codec_decoder", codes=np.ascontiguousarray(codes[None, :, left:right]))
            out[begin * hop : end * hop] = audio[0, (begin - left) * hop : (end - left) * hop]
            self._tell("codec", window, self.sampling.steps)
        return out

    def _render(self, codes: Int32Array, total: int) -> FloatArray:
        audio = self._decode_codec(codes, self.expected - 1)[:total]
        if not np.isfinite(audio).all():
            raise MediaError(
                "the codec returned values that are not numbers; check the bundle with `python -m runtime.doctor`"
            )
        return np.clip(audio, -1.0, 1.0, out=audio)

    def _report(self, video: Video, total: int, order: Array, n_windows: int, seconds: float) -> dict[str, Any]:
        manifest, timer = self.bundle.manifest, self.timer
        timer.seconds["host"] = timer.seconds["sample"] - timer.seconds["step"]
        graphs = {f.graph for f in manifest.files.values() if f.graph}
        engines = {g: self.bundle.file_for(g) for g in sorted(graphs)}
        return {
            "version": program_version(),
            "clip": str(video.path),
            "bundle": manifest.name,
            "backend": self.bundle.backend,
            "threads": self.bundle.threads,
            "engines": {g: {"file": f, "sha256": manifest.files[f].sha256} for g, f in engines.items()},
            "sampling": asdict(self.sampling),
            "windows": n_windows,
            "samples": total,
            "sample_rate": self.config.sample_rate,
            "scores": [float(x) if np.isfinite(x) else None for x in self.scores] if len(self.scores) > 1 else None,
            "ranking": [int(i) for i in order],
            "seconds": {k: round(v, 4) for k, v in timer.seconds.items()},
            "calls": dict(timer.calls),
            "total_seconds": round(seconds, 4),
            "warnings": list(dict.fromkeys(self.warnings)),
        }


def program_version() -> str:
    """Version of the installed package; "source" where it runs without being installed."""
    try:
        return version("maskvat")
    except PackageNotFoundError:
        return "source"
