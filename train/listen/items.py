"""The items of a listening test: which samples it has, in the paper's three sections, and each listener's order.

A test is a folder with test.json (the items; only this file says which system made an item), media/ITEM.mp4 and
ratings.jsonl.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np

from runtime.audio import open_media, resample
from runtime.deliver import mux
from runtime.errors import MediaError, OptionError
from train.checkpoint import write_json
from train.evaluate.core import Evaluation
from train.evaluate.page import Clip

PLAYED = ("h264", "vp8", "vp9", "av1")  # picture codecs that browsers play
LOW, FULL = 16000, 44100  # Hz
TRUTH = "reference"  # the true sound, which is rated too; listeners do not know that


@dataclass(frozen=True)
class Section:
    """A section of the test: its title and instruction, its questions, and the sample rates of its items."""

    title: str
    instruction: str
    questions: dict[str, str]
    rates: tuple[int, ...]


SECTIONS = {
    "quality": Section(
        "Quality and relevance",
        "Judge how good the sound is, and whether it is the kind of sound that belongs to this video.",
        {"quality": "How good is the sound?", "relevance": "How well does the kind of sound fit the video?"},
        (LOW, FULL),
    ),
    "alignment": Section(
        "Alignment",
        "Judge only the timing of the sound, not its quality.",
        {"alignment": "How well does the sound's timing match the video?"},
        (LOW,),
    ),
    "overall": Section(
        "Overall",
        "Judge your overall impression.",
        {"overall": "All in all, how good is this sound for this video?"},
        (FULL,),
    ),
}


@dataclass(frozen=True)
class Item:
    """One sample: a clip with the sound of one system, at one sample rate."""

    id: str  # a hash, which does not reveal the system
    section: str
    clip: str
    system: str
    rate: int


@dataclass(frozen=True)
class ListeningTest:
    """All items of a test."""

    seed: int
    items: tuple[Item, ...]

    def save(self, folder: Path) -> None:
        """Write test.json."""
        write_json(folder / "test.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "ListeningTest":
        """Read test.json. Raises OptionError if it is absent or malformed."""
        try:
            values = json.loads((folder / "test.json").read_text(encoding="utf-8"))
            return cls(values["seed"], tuple(Item(**item) for item in values["items"]))
        except FileNotFoundError as error:
            raise OptionError(f"{folder} has no listening test; make one with: python -m train.listen make") from error
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{folder / 'test.json'} cannot be read ({error!r}); make the test again") from error

    def order(self, listener: str) -> list[Item]:
        """The items in a listener's order: section after section, each shuffled by the seed and the name."""
        out = []
        for number, name in enumerate(SECTIONS):
            items = [item for item in self.items if item.section == name]
            rng = np.random.default_rng([self.seed, crc32(listener.encode()), number])
            out += [items[k] for k in rng.permutation(len(items))]
        return out


def make_item(seed: int, section: str, clip: str, system: str, rate: int) -> Item:
    """An item with its id."""
    text = json.dumps([seed, section, clip, system, rate])
    return Item(hashlib.sha256(text.encode()).hexdigest()[:16], section, clip, system, rate)


# ---------------------------------------------------------------- making a test
def usable(clip: Clip, systems: Sequence[str]) -> str | None:
    """The reason why a clip cannot be used, or None if it can."""
    absent = [system for system in systems if system not in clip.made]
    if absent:
        return f"there is no sound for it from {', '.join(absent)}"
    if clip.film is None:
        return "the reference has no picture for it"
    try:
        with open_media(clip.film) as container:
            codecs = [stream.codec_context.name for stream in container.streams.video[:1]]
    except MediaError as error:
        return str(error)
    if not codecs or codecs[0] not in PLAYED:
        return f"browsers do not play its picture ({', '.join(codecs) or 'none'}); convert it to H.264 with ffmpeg"
    return None


def pick(evaluation: Evaluation, names: Sequence[str], count: int, seed: int) -> Iterator[Clip]:
    """Yield `count` random clips that every system has and browsers can play. Unusable ones are reported."""
    order = [names[k] for k in np.random.default_rng(seed).permutation(len(names))]
    taken = 0
    for name in order:
        clip = next(evaluation.clips([name]), None)
        reason = evaluation.problems[-1].message if clip is None else usable(clip, evaluation.rows)
        if clip is None or reason is not None:
            print(f"skipped {name}: {reason}", flush=True)
            continue
        yield clip
        taken += 1
        if taken == count:
            return


def write_item(folder: Path, item: Item, clip: Clip) -> None:
    """Write media/ID.mp4: the picture with the item's sound, band-limited to half of the item's rate."""
    sound = clip.reference if item.system == TRUTH else clip.made[item.system]
    samples = sound.at(FULL) if item.rate == FULL else resample(sound.at(item.rate), item.rate, FULL)
    assert clip.film is not None  # `usable` has checked this
    mux.mux(clip.film, samples, FULL, folder / "media" / f"{item.id}.mp4")


def make(folder: Path, evaluation: Evaluation, sparse: Sequence[str], count: int, seed: int) -> ListeningTest:
    """Write a test with `count` clips per section. The alignment section uses clips of `sparse` only.

    Raises OptionError if a section would be empty, or if the folder holds a test already.
    """
    if (folder / "test.json").exists():
        raise OptionError(f"{folder} holds a test already; choose another folder, or delete this one with its ratings")
    (folder / "media").mkdir(parents=True, exist_ok=True)
    items: list[Item] = []
    for name, section in SECTIONS.items():
        names = sorted(set(sparse) if name == "alignment" else evaluation.reference.clips)
        before = len(items)
        for clip in pick(evaluation, names, count, seed):
            try:
                for system in (TRUTH, *evaluation.rows):
                    for rate in section.rates:
                        item = make_item(seed, name, clip.name, system, rate)
                        write_item(folder, item, clip)
                        items.append(item)
            except MediaError as error:
                raise OptionError(f"{clip.name} cannot be written for a browser: {error}") from error
        if len(items) == before:
            raise OptionError(f"no clip is usable in the section {section.title!r}; the lines above say why")
    test = ListeningTest(seed, tuple(items))
    test.save(folder)
    return test
