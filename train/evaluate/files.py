"""Folders of sounds or videos, and which of their files show the same clip.

A clip is named by its file, without the suffix. VGGSound's namings, ID_000030 and ID_30000_40000, are one name. A
WAV or FLAC file beside a video of the same name is that video's sound.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runtime.audio import open_media, read_audio
from runtime.errors import MediaError, OptionError
from runtime.video import Video
from train.data.clip_files import VIDEOS, clip_sound
from train.metrics import Sound
from train.prepare import clip_lists

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")
RATE = 44100  # every sound is read at this rate once, and resampled from it for what needs another
SLACK = 0.1  # seconds by which durations may differ, because codecs add some silence
SHORTEST = 1.0  # seconds that both sounds must have

LEFT_OUT = {  # kinds of problems that cost a clip: the result is not complete
    "missing": "no file for a clip of the reference",
    "duplicate": "several files with the name of one clip",
    "no sound": "a video without a sound track",
    "unreadable": "a file that cannot be read",
    "too short": f"less than {SHORTEST:g} s in common with the reference",
    "not measured": "a measure failed on the clip",
    "not in the reference": "a name of --subset that the reference does not have",
}
NOTED = {  # kinds that cost nothing
    "no reference": "a file whose clip the reference does not have: not scored",
    "two sounds": "a video with several sound tracks: the first is taken",
    "duration": f"lengths that differ by more than {SLACK:g} s: the common part is scored",
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one clip. `where` is the system's name, "reference", or a test set's."""

    kind: str
    where: str
    clip: str
    words: str

    def __str__(self) -> str:
        return f"{self.where}, {self.clip}: {self.words}"


@dataclass(frozen=True)
class Media:
    """The file that holds a clip's sound, and the one that holds its picture, if any."""

    sound: Path
    film: Path | None


@dataclass
class Folder:
    """The clips of one folder by name, and those that several files claim."""

    name: str
    path: Path
    clips: dict[str, Media]
    problems: list[Problem] = field(default_factory=list)


def clip_name(path: Path) -> str:
    """The name that files of one clip share."""
    return joined(*clip_lists.parse_name(path.stem))


def joined(video: str, start: float | None) -> str:
    """VGGSound's shorter naming, ID_000030, where a start (s) is known."""
    if start is None:
        return video
    return f"{video}_{start:06.0f}" if start == round(start) else f"{video}_{start:.3f}"


def scan(path: Path, name: str) -> Folder:
    """Raises OptionError where there is no folder, or no sound and no video in it."""
    if not path.is_dir():
        raise OptionError(f"{path} is no folder; give a folder of sounds or videos, one file per clip")
    groups: dict[str, list[Path]] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in (*SOUNDS, *VIDEOS) and not file.name.startswith(".") and file.is_file():
            groups.setdefault(clip_name(file), []).append(file)
    if not groups:
        raise OptionError(f"no sounds or videos in {path}; give a folder of {', '.join((*SOUNDS[:2], *VIDEOS))} files")
    folder = Folder(name, path, {})
    for clip, files in groups.items():
        sounds, videos = ([f for f in files if f.suffix.lower() in kinds] for kinds in (SOUNDS, VIDEOS))
        if len(sounds) > 1 or len(videos) > 1:
            words = f"{' and '.join(f.name for f in files)} are all called so; keep one of them"
            folder.problems.append(Problem("duplicate", name, clip, words))
        else:
            folder.clips[clip] = Media((sounds or videos)[0], videos[0] if videos else None)
    return folder


def scan_systems(arguments: Iterable[str]) -> list[Folder]:
    """One folder per argument, DIR or NAME=DIR. Raises OptionError where two have one name."""
    folders: list[Folder] = []
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if not separator or Path(argument).is_dir():
            name, path = Path(argument).resolve().name, argument
        if (
            not name
            or name == "reference"
            or name[0] == "."
            or set(name) & set("/\\")
            or any(folder.name == name for folder in folders)
        ):
            raise OptionError(
                f"a system cannot be called {name!r} (taken, or not allowed); write NAME={path} for another name"
            )
        folders.append(scan(Path(path), name))
    return folders


def read_list(path: Path) -> list[str]:
    """Clip names of a list that `clip_lists` reads. Raises SourceError; OptionError for one of classes."""
    chosen = clip_lists.read_list(path)
    if chosen.labels:
        raise OptionError(f"the list {path} names classes; give one of clips, a name on each line")
    return sorted(joined(video, start) for video, start in chosen.cuts)


def read_sound(media: Media, where: str, clip: str) -> tuple[Sound | None, list[Problem]]:
    """A clip's sound from the picture's start on, or None, and what is wrong with it."""
    problems = []
    try:
        if media.sound != media.film:
            return Sound(read_audio(media.sound, RATE), RATE), []
        with open_media(media.sound) as container:
            tracks = len(container.streams.audio)
        if not tracks:
            words = (
                f"{media.sound.name} has no sound track; give one that has, or a WAV file of the same name beside it"
            )
            return None, [Problem("no sound", where, clip, words)]
        if tracks > 1:
            words = f"{media.sound.name} has {tracks} sound tracks; the first is taken"
            problems.append(Problem("two sounds", where, clip, words))
        with Video(media.sound) as video:
            start = float(video.start)
        return Sound(clip_sound(media.sound, start, RATE), RATE), problems
    except (MediaError, OptionError, OSError) as error:
        return None, [*problems, Problem("unreadable", where, clip, str(error))]


def fit(sound: Sound, reference: Sound) -> tuple[Sound, Sound, str | None]:
    """Both sounds at one length, and words about a difference of more than SLACK.

    A generated sound that is longer, or hardly shorter, takes the reference's length: the reference stays the same
    object, and what is known of it need not be computed again.
    """
    have, want = len(sound.samples), len(reference.samples)
    words = None
    if abs(have - want) > SLACK * RATE:
        words = f"it lasts {sound.seconds:.2f} s, the reference {reference.seconds:.2f} s; the common part is scored"
    if have == want:
        return sound, reference, None
    if have > want:
        return Sound(sound.samples[:want], RATE), reference, words
    if words is None:
        padded = sound.samples.copy()
        padded.resize(want, refcheck=False)
        return Sound(padded, RATE), reference, None
    return sound, Sound(reference.samples[:have], RATE), words
