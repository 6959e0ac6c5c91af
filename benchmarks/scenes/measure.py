"""Measures of benchmarks.scenes for one video: onsets, levels, the codec's copy of the true track, and materials."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runtime
from benchmarks.common.pairing import sampling_options
from benchmarks.common.true_track import TOLERANCE, detect_onsets, peak_rms
from benchmarks.scenes import materials
from engines.contract import FloatArray
from runtime.audio import resample
from train.evaluate.frame_difference import frame_difference
from train.extras import requires_extra
from train.metrics.onsets import RATE, chance_f1, onset_f1

with requires_extra("bench", __name__):
    from benchmarks.scenes.scene_video import SceneVideo, read_scene_video

if TYPE_CHECKING:
    from train.evaluate.plots import Strip

SHEET_VIDEOS = 24  # on the contact sheet


def recognise_materials(
    video: SceneVideo, sound: FloatArray, onsets: np.ndarray, classifier: materials.Classifier
) -> list[dict[str, str]]:
    """Classify the material of `sound` [L] at 16 kHz at each onset that is near an impact of a known class."""
    entries, windows = [], []
    for k, onset in enumerate(onsets):
        event = video.impact_at(onset, TOLERANCE)
        if event is None or event.material not in materials.CLASS_OF:
            continue
        until = onsets[k + 1] if k + 1 < len(onsets) else None
        windows.append(materials.window_after(sound, onset, until))
        entries.append({"kind": event.kind, "truth": materials.CLASS_OF[event.material]})
    return [entry | {"guess": guess} for entry, guess in zip(entries, classifier(windows), strict=True)]


class MeasuredBundle:
    """One bundle, and the scores of its codec on true tracks."""

    codec_scores: dict[tuple[str, ...], dict[str, float]] = {}  # noqa: RUF012 - shared: bundles often have equal codecs

    def __init__(self, name: str, folder: Path | None, backend: str, precision: str) -> None:
        self.name = name
        self.pipeline = runtime.load(folder, backend, precision=precision)
        bundle = self.pipeline.bundle
        self.codec = [bundle.manifest.files[bundle.file_for(g)].sha256 for g in ("codec_encoder", "codec_decoder")]

    def score_codec(self, video: SceneVideo) -> dict[str, float]:
        """F1 and loudest level of the true track after the codec."""
        key = (*self.codec, str(video.track.path))
        if key not in self.codec_scores:
            bundle, rate = self.pipeline.bundle, self.pipeline.config.sample_rate
            codes = bundle.run("codec_encoder", audio=video.true_track_at(rate)[None])[0]
            audio = bundle.run("codec_decoder", codes=codes)[0][0]
            f1 = onset_f1(video.track.onsets, detect_onsets(resample(audio, rate, RATE)), TOLERANCE).f1
            self.codec_scores[key] = {"f1": f1, "peak_rms": peak_rms(audio, rate)}
        return self.codec_scores[key]


def measure(
    video: SceneVideo, bundle: MeasuredBundle, sampling: runtime.SamplingConfig, classifier: materials.Classifier | None
) -> tuple[dict[str, Any], FloatArray]:
    """Run one video through one bundle: its row of results, and the sound at 16 kHz."""
    takes = bundle.pipeline.generate(video.track.path, sampling)
    first = takes[0]
    sounds = [resample(take.audio, take.sample_rate, RATE) for take in takes]
    row: dict[str, Any] = {
        "clip": video.track.path.name,
        "kind": video.kind,
        "peak_rms": peak_rms(first.audio, first.sample_rate),
    }
    codec = bundle.score_codec(video)
    row["codec_peak_rms"] = codec["peak_rms"]
    if video.scored:
        found = [detect_onsets(sound) for sound in sounds]
        scores = [onset_f1(video.track.onsets, times, TOLERANCE).f1 for times in found]
        row |= {"f1": scores[0], "codec_f1": codec["f1"], "onsets": len(video.track.onsets), "made": len(found[0])}
        row["chance"] = chance_f1(video.track.onsets, found[0], video.track.seconds, TOLERANCE)
        if len(takes) > 1:
            row["takes"] = scores  # SCAV's choice first
        if classifier is not None:
            row["heard"] = recognise_materials(video, sounds[0], found[0], classifier)
            row["heard_true"] = recognise_materials(video, video.track.audio, video.track.onsets, classifier)
    return row, sounds[0]


def onset_plot(video: SceneVideo, row: dict[str, Any], sound: FloatArray, name: str) -> "Strip":
    """The onset strip of one video and one bundle."""
    from train.evaluate.plots import Strip

    score = f"F1 {row['f1']:.2f} (codec {row['codec_f1']:.2f})" if video.scored else f"peak {row['peak_rms']:.0f} dBFS"
    contacts = np.array([e.time for e in video.events])
    title = f"{video.track.path.stem} {video.kind}: {score}, {name}"
    return Strip(title, frame_difference(video.track.path, video.track.seconds), contacts, video.track.audio, sound)


def run_videos(
    args: argparse.Namespace,
    videos: list[Path],
    bundles: list[MeasuredBundle],
    classifier: materials.Classifier | None,
) -> dict[str, list[dict[str, Any]]]:
    """Rows of every bundle, video by video. Draws plots with --plots, and reports videos that cannot be used."""
    sampling = runtime.SamplingConfig(seed=args.seed, **sampling_options(args))
    rows: dict[str, list[dict[str, Any]]] = {b.name: [] for b in bundles}
    strips: list[Strip] = []
    begin = time.perf_counter()
    for n, path in enumerate(videos):
        try:
            video = read_scene_video(path)
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
            continue
        for bundle in bundles:
            row, sound = measure(video, bundle, sampling, classifier)
            rows[bundle.name].append(row)
            if args.plots:
                strips.append(onset_plot(video, row, sound, bundle.name))
                from train.evaluate.plots import onset_strip

                onset_strip(args.plots / f"{path.stem}-{bundle.name}.png", strips[-1])
        mean = (time.perf_counter() - begin) / (n + 1)
        scores = "  ".join(f"{name} {score_text(r[-1])}" for name, r in rows.items())
        print(
            f"{n + 1}/{len(videos)} {video.track.path.stem} {video.kind}: {scores}  ({mean:.1f} s per clip)", flush=True
        )
    if args.plots:
        from train.evaluate.plots import contact_sheet

        contact_sheet(args.plots / "contact-sheet.png", strips[:SHEET_VIDEOS])
    return rows


def score_text(row: dict[str, Any]) -> str:
    return f"F1 {row['f1']:.2f} codec {row['codec_f1']:.2f}" if "f1" in row else f"peak {row['peak_rms']:.0f} dBFS"
