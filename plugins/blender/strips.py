"""Reads movie strips and places sounds in Blender's video sequencer. Nothing here starts the engine."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import bpy

from .engine import Refused
from .names import edited_scene, read, write
from .timing import ClipFacts, TakeFacts, UsedRange, exact_rate, marked_range, used_range

CHANNELS = 128  # of Blender's sequencer
TAKE, VIDEO, SEED = "maskvat_take", "maskvat_video", "maskvat_seed"  # custom properties of a sound strip
AUDIBLE_SHIFT = 0.0005  # seconds; a smaller one is not set


def scene_rate(scene: Any) -> Fraction:
    return exact_rate(scene.render.fps / scene.render.fps_base)


def shown(scene: Any) -> Any:
    """What the sequencer shows: the timeline, or the meta strip that is open. It has `strips` and `channels`."""
    editor = scene.sequence_editor
    if editor is None:
        raise Refused("The scene has no strips. Add a movie in the video sequencer first.")
    return editor.meta_stack[-1] if len(editor.meta_stack) else editor


def chosen(context: Any, fits: Any, what: str) -> Any:
    """The strip to work on: the active one if it fits, else the only selected one that does. Raises Refused."""
    scene = edited_scene(context)
    strips, active = shown(scene).strips, scene.sequence_editor.active_strip
    if active is not None and active.select and fits(active):
        return active
    found = [strip for strip in strips if strip.select and fits(strip)]
    if len(found) != 1:
        raise Refused(f"Select one {what}; {len(found)} are selected.")
    return found[0]


def is_movie(strip: Any) -> bool:
    return bool(strip.type == "MOVIE")


def is_take(strip: Any) -> bool:
    return strip.type == "SOUND" and TAKE in strip


def full_path(path: str, what: str) -> Path:
    """The path of a file that a strip names. Raises Refused if it is not there."""
    if path.startswith("//") and not bpy.data.is_saved:
        raise Refused(f"{what} {path} is relative, but this file was never saved. Save it first.")
    full = Path(bpy.path.abspath(path))
    if not full.is_file():
        raise Refused(f"{what} {full} is missing.")
    return full.resolve()


def stored_path(path: Path) -> str:
    """A path as Blender stores it: relative to the saved file, if the user's preferences say so."""
    if bpy.data.is_saved and bpy.context.preferences.filepaths.use_relative_paths:
        return bpy.path.relpath(str(path))
    return str(path)


@dataclass(frozen=True)
class Shot:
    """A movie strip that a sound can be made for."""

    name: str
    video: Path
    used: UsedRange
    lead: float  # frames of the timeline from the content's start to the sound's
    frames: int  # of the timeline that show the picture


def read_shot(scene: Any, strip: Any) -> Shot:
    """Read which part of which file a movie strip shows. Raises Refused with the reason if it has no sound to make."""
    video = full_path(strip.filepath, "The clip")
    _refuse_retiming(strip)
    if strip.use_reverse_frames:
        raise Refused("The strip plays backwards. Turn off 'Backwards' (Reverse Frames), or render the shot first.")
    if strip.stream_index:
        raise Refused(f"The strip shows video stream {strip.stream_index} of its file. The engine reads the first.")
    if any(s.type == "SPEED" and s.input_1 == strip for s in shown(scene).strips):
        raise Refused("A Speed effect changes this strip. Remove it, or render the shot first.")
    try:
        clip = bpy.data.movieclips.load(str(video))
    except RuntimeError as error:
        raise Refused(f"Blender cannot read {video}: {error}") from error
    frames, rate = clip.frame_duration, strip.fps or clip.fps
    bpy.data.movieclips.remove(clip)
    facts = ClipFacts(
        scene_rate=scene_rate(scene),
        clip_rate=exact_rate(rate),
        clip_frames=frames,
        cut=(read(strip, "cut_start"), read(strip, "cut_end")),
        content_start=read(strip, "content_start"),
        content_frames=read(strip, "content_frames"),
        visible=visible(strip),
    )
    used = used_range(facts)
    return Shot(strip.name, video, used, used.place - facts.content_start, facts.visible[1] - used.place)


def read_mark(scene: Any, strip: Any, seconds: Fraction) -> str:
    """The marked part of a take that lasts `seconds`, in seconds from its start. Raises Refused."""
    _refuse_retiming(strip)
    rate = scene_rate(scene)
    begins = Fraction(read(strip, "content_start")) + Fraction(strip.sound_offset) * rate
    preview = (scene.frame_preview_start, scene.frame_preview_end + 1) if scene.use_preview_range else None
    return marked_range(TakeFacts(rate, begins, seconds, visible(strip)), preview, scene.frame_current)


def _refuse_retiming(strip: Any) -> None:
    if len(strip.retiming_keys):
        raise Refused("The strip is retimed. Reset it with Strip > Retiming > Reset, or render the shot first.")


def visible(strip: Any) -> tuple[int, int]:
    """Frames [first, end) of the timeline that a strip covers."""
    return int(read(strip, "start")), int(read(strip, "end"))


def free_channels(scene: Any, above: int, frames: tuple[int, int], count: int) -> list[int]:
    """The lowest `count` channels in a row, above a channel, that are free in [first, end). Raises Refused."""
    owner = shown(scene)
    used = {s.channel for s in owner.strips if visible(s)[0] < frames[1] and visible(s)[1] > frames[0]}
    used |= {n for n, channel in enumerate(owner.channels) if channel.lock or channel.mute}
    for first in range(above + 1, CHANNELS + 2 - count):
        wanted = range(first, first + count)
        if not used & set(wanted):
            return list(wanted)
    raise Refused(f"There are no {count} free channels above channel {above} here. Make room, or ask for fewer.")


def place_takes(scene: Any, shot: Shot, sounds: list[Path], seed: str) -> list[Any]:
    """Add a sound strip for each take, the best first and audible, the others muted. Returns them.

    If the picture was moved meanwhile, the sounds follow it. Raises Refused if it is gone.
    """
    movie = shown(scene).strips.get(shot.name)
    if movie is None:
        raise Refused(f"The strip {shot.name} is gone. The sounds are in {sounds[0].parent}.")
    first = round(read(movie, "content_start") + shot.lead)
    channels = free_channels(scene, movie.channel, (first, first + shot.frames), len(sounds))
    placed = []
    for n, (path, channel) in enumerate(zip(sounds, channels, strict=True), 1):
        strip = _add(scene, f"{shot.video.stem} take {n}", path, channel, first)
        if abs(shot.used.late) > AUDIBLE_SHIFT:
            strip.sound_offset = shot.used.late
        if visible(strip)[1] > first + shot.frames:  # part of a frame counts as a frame
            write(strip, "end", first + shot.frames)
        strip.mute = n > 1
        strip[TAKE], strip[VIDEO], strip[SEED] = stored_path(path.with_suffix(".npz")), movie.filepath, seed
        placed.append(strip)
    _select(scene, placed[0])
    return placed


def place_redone(scene: Any, old_name: str, sounds: list[Path], seed: str) -> list[Any]:
    """Add the new versions of a take over the old one, which is muted. Returns them. Raises Refused if it is gone."""
    old = shown(scene).strips.get(old_name)
    if old is None:
        raise Refused(f"The strip {old_name} is gone. The sounds are in {sounds[0].parent}.")
    placed = []
    for n, (path, channel) in enumerate(
        zip(sounds, free_channels(scene, old.channel, visible(old), len(sounds)), strict=True), 1
    ):
        strip = _add(scene, path.stem, path, channel, round(read(old, "content_start")))
        strip.sound_offset, strip.volume, strip.pan = old.sound_offset, old.volume, old.pan
        write(strip, "end", min(visible(strip)[1], visible(old)[1]))
        write(strip, "start", visible(old)[0])
        strip.mute = n > 1
        strip[TAKE], strip[VIDEO], strip[SEED] = stored_path(path.with_suffix(".npz")), old[VIDEO], seed
        placed.append(strip)
    old.mute = True
    _select(scene, placed[0])
    return placed


def _add(scene: Any, name: str, path: Path, channel: int, frame: int) -> Any:
    strip = shown(scene).strips.new_sound(name=name, filepath=str(path), channel=channel, frame_start=frame)
    strip.sound.filepath = stored_path(path)
    return strip


def _select(scene: Any, take: Any) -> None:
    """Make a take active, so that it can be redone. Movies stay selected, so that another take can be made."""
    for strip in shown(scene).strips:
        strip.select = strip == take or (strip.select and strip.type == "MOVIE")
    scene.sequence_editor.active_strip = take
