"""`python -m benchmarks.scenes CLIPS`: sounds of made-up clips, whose events are known.

CLIPS holds ID.mp4, ID.flac and ID.json, of the test split. Onset F1 within 50 ms on clips with impacts (reference:
onsets of the true track), the same for the codec's copy of the true track, the level made for silent clips, and the
material that a classifier of real recordings hears. Several --engines are compared in pairs, clip by clip. The last
line is one JSON object.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runtime
from benchmarks.common.pairing import sampling_options
from benchmarks.common.true_track import TOLERANCE, detect, peak_rms
from benchmarks.scenes import materials
from engines.contract import FloatArray
from runtime.audio import resample
from train.evaluate.frame_difference import frame_difference
from train.extras import requires_extra
from train.metrics.onsets import RATE, chance_f1, onset_f1

with requires_extra("bench", __name__):
    from benchmarks.scenes.clips import SceneClip, read_clip

if TYPE_CHECKING:
    from train.evaluate.plots import Strip

SHEET = 24  # clips on the contact sheet


def heard(clip: SceneClip, sound: FloatArray, onsets: np.ndarray, judge: materials.Classifier) -> list[dict[str, str]]:
    """What is heard at the impacts of known class that an onset of `sound` [L] at 16 kHz marks, each onset once."""
    found, windows = [], []
    for k, onset in enumerate(onsets):
        event = clip.impact_at(onset, TOLERANCE)
        if event is None or event.material not in materials.CLASS_OF:
            continue
        until = onsets[k + 1] if k + 1 < len(onsets) else None
        windows.append(materials.window_after(sound, onset, until))
        found.append({"kind": event.kind, "truth": materials.CLASS_OF[event.material]})
    return [entry | {"guess": guess} for entry, guess in zip(found, judge(windows), strict=True)]


class Bundled:
    """One bundle, and the scores of its codec on tracks (kept: bundles often share a codec)."""

    copies: dict[tuple[str, ...], dict[str, float]] = {}  # noqa: RUF012 - one table for all

    def __init__(self, name: str, folder: Path | None, backend: str, precision: str) -> None:
        self.name = name
        self.pipeline = runtime.load(folder, backend, precision=precision)
        bundle = self.pipeline.bundle
        self.codec = [bundle.manifest.files[bundle.file_for(g)].sha256 for g in ("codec_encoder", "codec_decoder")]

    def copy(self, clip: SceneClip) -> dict[str, float]:
        """F1 and loudness of the true track after the codec."""
        key = (*self.codec, str(clip.path))
        if key not in self.copies:
            bundle, rate = self.pipeline.bundle, self.pipeline.config.sample_rate
            codes = bundle.run("codec_encoder", audio=clip.truth_at(rate)[None])[0]
            audio = bundle.run("codec_decoder", codes=codes)[0][0]
            f1 = onset_f1(clip.onsets, detect(resample(audio, rate, RATE)), TOLERANCE).f1
            self.copies[key] = {"f1": f1, "peak_rms": peak_rms(audio, rate)}
        return self.copies[key]


def measure(
    clip: SceneClip, bundled: Bundled, sampling: runtime.SamplingConfig, judge: materials.Classifier | None
) -> tuple[dict[str, Any], FloatArray]:
    """One clip through one bundle: its row of results, and the sound at 16 kHz."""
    takes = bundled.pipeline.generate(clip.path, sampling)
    first = takes[0]
    sounds = [resample(take.audio, take.sample_rate, RATE) for take in takes]
    row: dict[str, Any] = {
        "clip": clip.path.name,
        "kind": clip.kind,
        "peak_rms": peak_rms(first.audio, first.sample_rate),
    }
    copy = bundled.copy(clip)
    row["codec_peak_rms"] = copy["peak_rms"]
    if clip.scored:
        found = [detect(sound) for sound in sounds]
        scores = [onset_f1(clip.onsets, times, TOLERANCE).f1 for times in found]
        row |= {"f1": scores[0], "codec_f1": copy["f1"], "onsets": len(clip.onsets), "made": len(found[0])}
        row["chance"] = chance_f1(clip.onsets, found[0], clip.seconds, TOLERANCE)
        if len(takes) > 1:
            row["takes"] = scores  # the best by SCAV first
        if judge is not None:
            row["heard"] = heard(clip, sounds[0], found[0], judge)
            row["heard_true"] = heard(clip, clip.truth, clip.onsets, judge)
    return row, sounds[0]


def strip(clip: SceneClip, row: dict[str, Any], made: FloatArray, name: str) -> "Strip":
    from train.evaluate.plots import Strip

    score = f"F1 {row['f1']:.2f} (codec {row['codec_f1']:.2f})" if clip.scored else f"peak {row['peak_rms']:.0f} dBFS"
    contacts = np.array([e.time for e in clip.events])
    title = f"{clip.path.stem} {clip.kind}: {score}, {name}"
    return Strip(title, frame_difference(clip.path, clip.seconds), contacts, clip.truth, made)


def run_clips(
    args: argparse.Namespace, clips: list[Path], bundles: list[Bundled], judge: materials.Classifier | None
) -> dict[str, list[dict[str, Any]]]:
    """Rows of every bundle, clip by clip; pictures where they are wanted."""
    sampling = runtime.SamplingConfig(seed=args.seed, **sampling_options(args))
    rows: dict[str, list[dict[str, Any]]] = {b.name: [] for b in bundles}
    strips: list[Strip] = []
    begin = time.perf_counter()
    for n, path in enumerate(clips):
        try:
            clip = read_clip(path)
        except runtime.MediaError as error:
            print(f"skipped {path.name}: {error}", file=sys.stderr)
            continue
        for bundled in bundles:
            row, made = measure(clip, bundled, sampling, judge)
            rows[bundled.name].append(row)
            if args.plots:
                strips.append(strip(clip, row, made, bundled.name))
                from train.evaluate.plots import onset_strip

                onset_strip(args.plots / f"{path.stem}-{bundled.name}.png", strips[-1])
        each = (time.perf_counter() - begin) / (n + 1)
        scores = "  ".join(f"{name} {words_of(r[-1])}" for name, r in rows.items())
        print(f"{n + 1}/{len(clips)} {clip.path.stem} {clip.kind}: {scores}  ({each:.1f} s a clip)", flush=True)
    if args.plots:
        from train.evaluate.plots import contact_sheet

        contact_sheet(args.plots / "contact-sheet.png", strips[:SHEET])
    return rows


def words_of(row: dict[str, Any]) -> str:
    return f"F1 {row['f1']:.2f} codec {row['codec_f1']:.2f}" if "f1" in row else f"peak {row['peak_rms']:.0f} dBFS"
