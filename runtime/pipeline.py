"""Video -> features -> conditions -> decoded codes -> waveform -> selection, window by window."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from engines.base import Array, Feeds
from engines.contract import FloatArray, Int32Array, condition_indices
from engines.feeds import add_null_row
from runtime.bundle import Bundle, BundleFuture
from runtime.candidates import Candidates, Scene
from runtime.context import GenerationContext
from runtime.errors import MediaError
from runtime.features import Encoders
from runtime.sampling import Progress, SamplingConfig, Take
from runtime.video import Video
from runtime.windows import Window, total_samples, windows


def load(
    bundle: str | Path | None = None,
    backend: str = "auto",
    threads: int = 0,
    precision: str = "auto",
    wait: bool = True,
) -> "Pipeline":
    """Verify and open a bundle (None: the one that is shipped). `threads` 0 lets the backend choose.

    `precision` is that of `step`, among those that the backend has it in ("auto": the first of them that it prefers).
    Raises ManifestError, BackendUnavailable. With wait=False a thread opens it, so that the first clip is decoded
    meanwhile: what is wrong with bundle or backend is then raised where the engines are first needed.
    """
    return Pipeline((Bundle if wait else BundleFuture)(bundle, backend, threads, precision))


class Pipeline:
    """A loaded bundle that turns clips into takes. Calls from several threads share nothing but the engines."""

    def __init__(self, bundle: Bundle | BundleFuture) -> None:
        self._bundle = bundle
        self.config = bundle.config

    @property
    def bundle(self) -> Bundle:
        """The open bundle. Waits for one that a thread opens, and raises what that failed with."""
        return self._bundle if isinstance(self._bundle, Bundle) else self._bundle.wait(lambda: None)

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
        run = _Run(self._bundle, sampling or SamplingConfig(), on_progress, cancel)
        with Video(clip) as video:
            return run(video)


class _Run(GenerationContext):
    """One call of `generate`."""

    def __call__(self, video: Video) -> list[Take]:
        begin = time.perf_counter()
        config, s = self.config, self.sampling
        self.expected = self._estimate_windows(video)
        candidates = Candidates(self)
        cutter, done = windows(config, video, self.check_cancel), 0
        while True:
            with self.timer("video"):
                window = next(cutter, None)
            if window is None:
                break
            self.window_fraction = 0.0
            candidates.extend(self._scene(window))
            done += 1
        total = total_samples(config, video)
        self.warnings.extend(video.warnings)
        order = candidates.order()[: s.takes]
        self.expected = done
        audio = [self._render(candidates.chains[i], total) for i in order]
        candidates.scores /= done
        report = self._report(video, total, done, time.perf_counter() - begin) | ranking(candidates, order)
        scores = report["scores"] or [None]
        return [
            Take(audio[n], config.sample_rate, int(i), scores[i], candidates.chains[i], video.duration, report)
            for n, i in enumerate(order)
        ]

    def _untrained(self) -> Iterator[str]:
        for role, loss in (("maskvat", "the sound means nothing"), ("scav", "the ranking of candidates means nothing")):
            if self.bundle.untrained(role) and (role != "scav" or self.sampling.candidates > 1):
                yield f"{role} of the bundle {self.bundle.manifest.name} is untrained: {loss}"

    def _estimate_windows(self, video: Video) -> int:
        c = self.config
        if video.expected_duration is None:
            return 0
        hop = c.window_seconds - c.overlap_seconds
        return max(1, int(np.ceil((video.expected_duration - c.overlap_seconds) / hop)))

    # ------------------------------------------------------------ one window
    def _scene(self, window: Window) -> Scene:
        encoders = Encoders(self.bundle, self.timer, lambda: self.report_progress("video", window.number))
        clip_features = encoders.clip_features(window.clip_frames)
        sync_features = encoders.sync_features(window.sync_frames) if self.config.uses_sync else None
        return Scene(window, clip_features, self._condition(window, clip_features, sync_features))

    def _condition(self, window: Window, clip_features: FloatArray, sync_features: FloatArray | None) -> Feeds:
        """All that `step` needs beside codes, positions, uniforms and guidance: the same for every candidate."""
        config = self.config
        feeds: Feeds = {"clip_features": clip_features}
        if sync_features is not None:
            feeds["sync_features"] = sync_features
        n_sync = 0 if sync_features is None else sync_features.shape[1]
        indices: Feeds = dict(condition_indices(config, window.length, clip_features.shape[1], n_sync))
        frame_index = indices.pop("frame_index", None)
        with self.timer("condition"):
            step_feeds = self.bundle["condition"].run(feeds | indices)
        if frame_index is not None:
            step_feeds["frame_index"] = add_null_row(frame_index, step_feeds["modulation"].shape[1])
        return step_feeds

    # ------------------------------------------------------------ sound
    def _render(self, codes: Int32Array, total: int) -> FloatArray:
        audio = self.sound(codes, self.expected - 1)[:total]
        if not np.isfinite(audio).all():
            raise MediaError(
                "the codec returned values that are not numbers; check the bundle with `python -m runtime.doctor`"
            )
        return np.clip(audio, -1.0, 1.0, out=audio)

    def _report(self, video: Video, total: int, n_windows: int, seconds: float) -> dict[str, Any]:
        manifest, timer = self.bundle.manifest, self.timer
        timer.seconds["host"] = timer.seconds["sample"] - timer.seconds["step"]
        graphs = {f.graph for f in manifest.files.values() if f.graph}
        engines = {g: self.bundle.file_for(g) for g in sorted(graphs)}
        return {
            "version": program_version(),
            "clip": str(video.path),
            "bundle": manifest.name,
            "backend": self.bundle.backend,
            "precision": self.bundle["step"].precision,
            "threads": self.bundle.threads,
            "engines": {g: {"file": f, "sha256": manifest.files[f].sha256} for g, f in engines.items()},
            "sampling": asdict(self.sampling),
            "windows": n_windows,
            "samples": total,
            "sample_rate": self.config.sample_rate,
            "seconds": {k: round(v, 4) for k, v in timer.seconds.items()},
            "calls": dict(timer.calls),
            "total_seconds": round(seconds, 4),
            "warnings": list(dict.fromkeys([*self.bundle.warnings, *self._untrained(), *self.warnings])),
        }


def ranking(candidates: Candidates, order: Array) -> dict[str, Any]:
    """The report's words on who was chosen; scores of candidates that were dropped are null."""
    scores = [float(x) if np.isfinite(x) else None for x in candidates.scores]
    return {
        "scores": scores if len(scores) > 1 else None,
        "ranking": [int(i) for i in order],
        "dropped": candidates.dropped,
    }


def program_version() -> str:
    """Version of the installed package; "source" where it runs without being installed."""
    try:
        return version("maskvat")
    except PackageNotFoundError:
        return "source"
