"""Is a wish followed? Each bundle without words, with the right word, and with a wrong one, on the same videos.

The right words are the concepts that a video shows. The wrong word is a concept of another video of the set. `towards`
says how near a sound is to that word: its mean similarity to the true sounds of other videos that show the word, minus
that to those that do not.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.common.pairing import Rows
from benchmarks.meaning.judge import Judge
from benchmarks.meaning.measure import Measured
from benchmarks.meaning.shown import FeaturesOfShown, Shown, ShownPipeline, read_shown
from benchmarks.meaning.systems import System, Track, Wish, bundle_system
from runtime.errors import MediaError
from train.evaluate.bootstrap import format_summary, summarise
from train.metrics.semantic import similarities

RIGHT, WRONG = "right word", "wrong word"


@dataclass(frozen=True)
class Wishes:
    """The words of each video, by its file name."""

    concepts: Mapping[str, list[str]]  # that it shows; videos without any are left out

    @classmethod
    def of_videos(cls, videos: Iterable[Path], known: Mapping[str, list[str]]) -> "Wishes":
        """`known` are the concepts of real videos. Raises OptionError unless two videos show different ones."""
        found = {}
        for video in videos:
            shown = sorted({name for span in read_shown(video) for name in span.concepts})
            if names := shown or known.get(video.name, []):
                found[video.name] = names
        if len({tuple(names) for names in found.values()}) < 2:
            raise runtime.OptionError(
                "--words needs videos that show two concepts or more, and whose concepts are known"
            )
        return cls(found)

    def none(self, track: Track) -> None:
        """No words. Raises MediaError for a video that is left out."""
        self._known(track)

    def right(self, track: Track) -> runtime.Words:
        """The concepts that a video shows, each when it is shown. Raises MediaError if they are not known."""
        names = self._known(track)
        if not track.shown:
            return runtime.Words(", ".join(names))
        last = int(100 * len(track.sound.samples) / track.sound.rate) / 100
        spans = [(s.begin, min(s.end, last), s.concepts) for s in track.shown if s.concepts and s.begin < last]
        return runtime.Words(at=[((b, e), ", ".join(f"{n}:{w:.4f}" for n, w in c.items())) for b, e, c in spans])

    def wrong(self, track: Track) -> runtime.Words:
        return runtime.Words(self.wrong_word(track))

    def wrong_word(self, track: Track) -> str:
        """A concept of another video, chosen by the digest of the file name. Raises MediaError if there is none."""
        own = self._known(track)
        others = sorted({name for names in self.concepts.values() for name in names} - set(own))
        if not others:
            raise MediaError(f"{track.path} shows every concept of the set")
        return others[int(hashlib.sha256(track.path.name.encode()).hexdigest(), 16) % len(others)]

    def _known(self, track: Track) -> list[str]:
        if track.path.name not in self.concepts:
            raise MediaError(f"nothing says which concepts {track.path} shows")
        return self.concepts[track.path.name]

    def systems(
        self,
        name: str,
        pipeline: ShownPipeline,
        options: dict[str, Any],
        seeds: int,
        features: FeaturesOfShown | None,
    ) -> dict[str, System]:
        """A bundle without words (under its own name), with the right word, and with a wrong one."""
        words: dict[str, Wish] = {name: self.none, f"{name}, {RIGHT}": self.right, f"{name}, {WRONG}": self.wrong}
        return {n: bundle_system(pipeline, options, seeds, features, wish) for n, wish in words.items()}

    def score(self, measured: Measured, name: str, rows: Rows, judge: Judge | None) -> None:
        """Add to the rows of a system: wrong_word, `towards` it, and how often the judge hears it (`hears_wrong`)."""
        truth = np.stack(measured.truth)
        for k, (track, seeds, row) in enumerate(zip(measured.tracks, measured.systems[name], rows, strict=True)):
            word = row["wrong_word"] = self.wrong_word(track)
            shows = [word in self.concepts[other.path.name] for other in measured.tracks]
            near = [j for j, there in enumerate(shows) if there]
            far = [j for j, there in enumerate(shows) if not there and j != k]
            if near and far:
                cosines = similarities(np.stack([takes[0] for takes in seeds]), truth)
                row["towards"] = float(cosines[:, near].mean() - cosines[:, far].mean())
            if judge is not None and word in judge.concepts:
                whole = [Shown(0.0, len(track.sound.samples) / track.sound.rate, {word: 1.0})]
                heard = [entry for own in measured.first[name][k] for entry in judge.judge(own, track.sound, whole)]
                if heard:
                    row["hears_wrong"] = float(np.mean([entry["right"] for entry in heard]))


def wish_summary(rows: Mapping[str, Rows], name: str) -> dict[str, Any]:
    """Of one bundle: what the right word adds to semantic lift, and the wrong one to `towards` and `hears_wrong`."""
    found = {}
    for label, system, key in (
        ("right word, lift", RIGHT, "lift"),
        ("wrong word, lift", WRONG, "lift"),
        ("wrong word, towards it", WRONG, "towards"),
        ("wrong word, heard", WRONG, "hears_wrong"),
    ):
        pairs = [
            (a[key], b[key])
            for a, b in zip(rows[f"{name}, {system}"], rows[name], strict=True)
            if key in a and key in b
        ]
        if pairs:
            own, without = zip(*pairs, strict=True)
            difference = [a - b for a, b in pairs]
            found[label] = {"with": summarise(own), "without": summarise(without), "difference": summarise(difference)}
    return found


def print_wishes(values: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each bundle and measure."""
    for name, measures in values.items():
        for label, figures in measures.items():
            texts = [f"{part} {format_summary(figures[part], '.3f')}" for part in ("with", "without", "difference")]
            print(f"{name}: {label}: {', '.join(texts)}")
