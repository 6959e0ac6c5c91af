"""Writes sounds as files that a browser plays, with the picture if there is one."""

from pathlib import Path

from runtime.audio import write_wav
from runtime.deliver import mux
from runtime.errors import MediaError
from train.metrics import Sound


def write_playable(sound: Sound, film: Path | None, target: Path) -> Path:
    """Write `target`.mp4, the video with this sound (AAC), or `target`.wav without a video; returns the file's path.

    The picture is copied, never encoded again. If its codec does not fit into an mp4 file, `target`.wav is written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if film is not None:
        path = target.with_name(f"{target.name}.mp4")
        try:
            mux.mux(film, sound.samples, sound.rate, path)
            return path
        except MediaError:
            pass
    path = target.with_name(f"{target.name}.wav")
    write_wav(path, sound.samples, sound.rate)
    return path
