"""A made-up clip of train.synthetic.drawn or train.synthetic.scenes, with its true track and its events."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.contract import FloatArray
from runtime.errors import MediaError
from runtime.video import Video
from train.data.clip_files import clip_sound
from train.metrics.onsets import RATE, Floats, onset_strength, pick_onsets


@dataclass(frozen=True)
class Contact:
    """One event of ID.json: `end` is 0 for an impact."""

    time: float
    kind: str
    material: str
    end: float


@dataclass(frozen=True)
class SceneClip:
    """`truth` is [L] at 16 kHz, `onsets` (s) are found in it."""

    path: Path
    start: float  # of the picture, seconds
    silent: bool
    events: tuple[Contact, ...]
    truth: FloatArray
    onsets: Floats

    @property
    def impacts(self) -> list[Contact]:
        return [e for e in self.events if not e.end]

    @property
    def scored(self) -> bool:
        """Whether onset F1 means something: impacts that are heard."""
        return bool(self.impacts) and len(self.onsets) > 0

    @property
    def seconds(self) -> float:
        return len(self.truth) / RATE

    @property
    def kind(self) -> str:
        """The kind of most impacts, else of most events."""
        if self.silent or not self.events:
            return "silent"
        return Counter(e.kind for e in self.impacts or self.events).most_common(1)[0][0]

    def truth_at(self, rate: int) -> FloatArray:
        """The true track at another rate."""
        return clip_sound(self.path, self.start, rate)

    def impact_at(self, time: float, tolerance: float) -> Contact | None:
        """The impact nearest to a time, within the tolerance."""
        near = [e for e in self.impacts if abs(e.time - time) <= tolerance]
        return min(near, key=lambda e: abs(e.time - time)) if near else None


def read_clip(path: Path) -> SceneClip:
    """Raises MediaError where ID.json is missing or is not what train.synthetic writes."""
    label = path.with_suffix(".json")
    try:
        facts = json.loads(label.read_text(encoding="utf-8"))
        rows = facts["events"]
        events = tuple(Contact(float(e["time"]), e["kind"], e["material"], float(e.get("end", 0))) for e in rows)
        silent = bool(facts.get("silent", not events))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(
            f"{label} cannot be used ({error!r}); clips are made by train.synthetic.drawn or train.synthetic.scenes"
        ) from error
    with Video(path) as video:
        start = float(video.start)
    truth = clip_sound(path, start, RATE)
    return SceneClip(path, start, silent, events, truth, np.asarray(pick_onsets(onset_strength(truth))))
