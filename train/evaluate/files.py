"""Finds the clips in folders of sounds or videos, reads their sound, and notes what is wrong with them.

A clip's name is its file name without suffix. VGGSound's two namings, ID_000030 and ID_30000_40000, count as the same.
A WAV or FLAC file beside a video of the same name is that video's sound.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from runtime.audio import open_media, read_audio
from runtime.errors import MediaError, OptionError
from runtime.video import Video
from train.data.video_files import VIDEOS, video_sound
from train.metrics import Sound
from train.prepare import clip_lists

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac")
RATE = 44100  # Hz: every sound is read once at this rate, and resampled for measures that need another one
SLACK = 0.1  # seconds by which durations may differ, because codecs pad with silence
SHORTEST = 1.0  # seconds that both sounds must have in common

LEFT_OUT = {  # problems that leave a clip out, so the result is not complete
    "missing": "no file for a clip of the reference",
    "duplicate": "several files with the name of the same clip",
    "no sound": "a video without a sound track",
    "unreadable": "a file that cannot be read",
    "too short": f"less than {SHORTEST:g} s in common with the reference",
    "not measured": "a measure failed on the clip",
    "not in the reference": "a name in a --subset list that is not a clip of the reference",
}
NOTED = {  # problems that leave nothing out
    "no reference": "a file that is not a clip of the reference; it is not scored",
    "two sounds": "a video with several sound tracks; the first one is used",
    "duration": f"lengths that differ by more than {SLACK:g} s; the common part is scored",
}


@dataclass(frozen=True)
class Problem:
    """A problem with one clip. `where` is the name of a system or test set, or "reference"."""

    kind: str
    where: str
    clip: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}, {self.clip}: {self.message}"


@dataclass(frozen=True)
class Media:
    """The file with a clip's sound, and the file with its picture, if there is one."""

    sound: Path
    film: Path | None


@dataclass
class Folder:
    """The clips of one folder by name, and the problems found in it."""

    name: str
    path: Path
    clips: dict[str, Media]
    problems: list[Problem] = field(default_factory=list)


def clip_name(path: Path) -> str:
    """The clip's name of a file."""
    return vggsound_name(*clip_lists.parse_name(path.stem))


def vggsound_name(video: str, start: float | None) -> str:
    """A clip's name in VGGSound's shorter form, ID_000030, if its start (s) is known."""
    if start is None:
        return video
    return f"{video}_{start:06.0f}" if start == round(start) else f"{video}_{start:.3f}"


def scan(path: Path, name: str) -> Folder:
    """Find the clips of a folder. Raises OptionError if it does not exist, or has no sounds or videos."""
    if not path.is_dir():
        raise OptionError(f"{path} is not a folder; give a folder of sounds or videos, one file per clip")
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
            words = f"{' and '.join(f.name for f in files)} are files of the same clip; keep one of them"
            folder.problems.append(Problem("duplicate", name, clip, words))
        else:
            folder.clips[clip] = Media((sounds or videos)[0], videos[0] if videos else None)
    return folder


def scan_systems(arguments: Iterable[str]) -> list[Folder]:
    """The folders that arguments of the form DIR or NAME=DIR name. Raises OptionError if two have the same name."""
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
                f"the system name {name!r} is taken or not allowed; write NAME={path} to choose another name"
            )
        folders.append(scan(Path(path), name))
    return folders


def read_list(path: Path) -> list[str]:
    """The clip names of a list (see train.prepare.clip_lists).

    Raises SourceError if it cannot be read, OptionError if it lists classes.
    """
    chosen = clip_lists.read_list(path)
    if chosen.labels:
        raise OptionError(f"the list {path} names classes; give a list of clips, one name per line")
    return sorted(vggsound_name(video, start) for video, start in chosen.cuts)


def read_sound(media: Media, where: str, clip: str) -> tuple[Sound | None, list[Problem]]:
    """Read a clip's sound, from the start of its picture on; None if that fails. Also returns the problems."""
    problems = []
    try:
        if media.sound != media.film:
            return Sound(read_audio(media.sound, RATE), RATE), []
        with open_media(media.sound) as container:
            tracks = len(container.streams.audio)
        if not tracks:
            words = f"{media.sound.name} has no sound track; add one, or put a WAV file of the same name beside it"
            return None, [Problem("no sound", where, clip, words)]
        if tracks > 1:
            words = f"{media.sound.name} has {tracks} sound tracks; the first one is used"
            problems.append(Problem("two sounds", where, clip, words))
        with Video(media.sound) as video:
            start = float(video.start)
        return Sound(video_sound(media.sound, start, RATE), RATE), problems
    except (MediaError, OptionError, OSError) as error:
        return None, [*problems, Problem("unreadable", where, clip, str(error))]


def match_length(sound: Sound, reference: Sound) -> tuple[Sound, Sound, str | None]:
    """Give both sounds the same length; also returns a message if their lengths differ by more than SLACK.

    A generated sound that is longer, or shorter by at most SLACK, gets the reference's length. The reference then stays
    the same object, so that its cached results remain valid.
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
