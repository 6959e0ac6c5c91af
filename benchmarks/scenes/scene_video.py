"""A synthetic video of train.synthetic.drawn or train.synthetic.scenes, with its true track and its events."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.true_track import TrueTrack, read_true_track
from engines.contract import FloatArray
from runtime.errors import MediaError
from train.data.video_files import video_sound


@dataclass(frozen=True)
class Contact:
    """One event of ID.json, times in seconds; `end` is 0 for an impact."""

    time: float
    kind: str
    material: str
    end: float


@dataclass(frozen=True)
class SceneVideo:
    """A synthetic video with its true track and its events."""

    track: TrueTrack
    silent: bool  # no sound is expected
    events: tuple[Contact, ...]

    @property
    def impacts(self) -> list[Contact]:
        return [e for e in self.events if not e.end]

    @property
    def scored(self) -> bool:
        """Whether onset F1 can be measured: there are impacts, and the true track has onsets."""
        return bool(self.impacts) and len(self.track.onsets) > 0

    @property
    def kind(self) -> str:
        """The most frequent kind of impact; the most frequent kind of event if there are no impacts."""
        if self.silent or not self.events:
            return "silent"
        return Counter(e.kind for e in self.impacts or self.events).most_common(1)[0][0]

    def true_track_at(self, rate: int) -> FloatArray:
        """The true track [L] at another sample rate."""
        return video_sound(self.track.path, self.track.start, rate)

    def impact_at(self, time: float, tolerance: float) -> Contact | None:
        """The impact that is nearest to a time, if it is within the tolerance."""
        near = [e for e in self.impacts if abs(e.time - time) <= tolerance]
        return min(near, key=lambda e: abs(e.time - time)) if near else None


def read_scene_video(path: Path) -> SceneVideo:
    """Read a video and its ID.json. Raises MediaError if it has no sound, or ID.json cannot be used."""
    label = path.with_suffix(".json")
    try:
        facts = json.loads(label.read_text(encoding="utf-8"))
        rows = facts["events"]
        events = tuple(Contact(float(e["time"]), e["kind"], e["material"], float(e.get("end", 0))) for e in rows)
        silent = bool(facts.get("silent", not events))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(
            f"{label} cannot be used ({error!r}); make clips with train.synthetic.drawn or train.synthetic.scenes"
        ) from error
    return SceneVideo(read_true_track(path), silent, events)
