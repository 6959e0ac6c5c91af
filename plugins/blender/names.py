"""Names that Blender changed between versions, in one place. No bpy here."""

from typing import Any

NAMES = {  # what -> the name since 5.1, and the one before, which 6.0 removes
    "start": ("left_handle", "frame_final_start"),
    "end": ("right_handle", "frame_final_end"),
    "content_start": ("content_start", "frame_start"),
    "content_frames": ("content_duration", "frame_duration"),
    "cut_start": ("content_trim_start", "animation_offset_start"),
    "cut_end": ("content_trim_end", "animation_offset_end"),
}


def read(strip: Any, what: str) -> Any:
    """A property of a strip, by the newest name that it has."""
    new, old = NAMES[what]
    return getattr(strip, new if hasattr(strip, new) else old)


def write(strip: Any, what: str, value: Any) -> None:
    """Set a property of a strip, by the newest name that it has."""
    new, old = NAMES[what]
    setattr(strip, new if hasattr(strip, new) else old, value)


def edited_scene(context: Any) -> Any:
    """The scene that the sequencer shows: since 5.0 it may be another one than the window's."""
    return getattr(context, "sequencer_scene", None) or context.scene
