"""Where the engine's program is, and which names new sounds get. No bpy here."""

import os
import re
import shutil
import wave
from fractions import Fraction
from pathlib import Path

from .engine import Refused

INSIDE = ("maskvat", "maskvat.exe", "bin/maskvat", "Scripts/maskvat.exe")  # of a folder that was chosen
FOLDER = "maskvat"  # beside the .blend file, or beside the clip


def find_program(text: str) -> list[str]:
    """The command that starts the engine. `text` is a file, a folder that has it, or a name on the path.

    A Python (python, python3.exe, ...) runs the engine that is installed in its environment. Raises Refused.
    """
    given = text.strip() or "maskvat"
    path = Path(given).expanduser()
    if path.is_dir():
        inside = [path / name for name in INSIDE if (path / name).is_file()]
        if not inside:
            raise Refused(f"The folder {path} has no program maskvat. Choose the file itself in the preferences.")
        path = inside[0]
    found = shutil.which(str(path))
    if found is None:
        reason = "is not a program" if path.is_file() else "was not found"
        raise Refused(f"{given} {reason}. Choose MaskVAT's program in the add-on's preferences.")
    module = ["-m", "runtime.commands"] if re.match(r"python[\d.w]*(\.exe)?$", Path(found).name.lower()) else []
    return [found, *module, "stdio"]


def output_folder(blend: str, clip: Path) -> Path:
    """The folder for new sounds: beside the .blend file, or beside the clip as long as that was never saved.

    Makes it. Raises Refused.
    """
    folder = (Path(blend) if blend else clip).parent / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        reason = f"Cannot make the folder {folder}: {error.strerror}. Save the .blend file where you may write."
        raise Refused(reason) from error
    if not os.access(folder, os.W_OK):
        raise Refused(f"You may not write in {folder}. Save the .blend file in another folder.")
    return folder


def next_sound(folder: Path, clip: Path) -> Path:
    """A name for a sound of this clip, such as shot.003.wav: after the highest number that any file has."""
    taken = re.compile(re.escape(clip.stem) + r"\.(\d{3,})\.")
    numbers = [int(match[1]) for path in folder.iterdir() if (match := taken.match(path.name))]
    return folder / f"{clip.stem}.{max(numbers, default=0) + 1:03}.wav"


def sound_seconds(sound: Path) -> Fraction:
    """How long a WAV lasts, less one sample, because its length was rounded. Raises Refused."""
    try:
        with wave.open(str(sound)) as file:
            return Fraction(file.getnframes() - 1, file.getframerate())
    except (OSError, EOFError, wave.Error) as error:
        raise Refused(f"{sound} is no WAV that MaskVAT wrote: {error}.") from error
