"""The little of Blender's module `bpy` that the add-on touches, for tests of what cannot be tried without a window."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ADDON = "plugins.blender"


class Strip(dict[str, Any]):
    """A strip; its custom properties are the entries."""

    __hash__ = object.__hash__

    def __init__(self, type: str, channel: int, frames: tuple[int, int], **values: Any) -> None:
        super().__init__()
        self.type, self.channel, self.name, self.mute, self.select = type, channel, type.lower(), False, True
        self.frame_final_start, self.frame_final_end = frames
        self.frame_start, self.frame_duration = float(frames[0]), frames[1] - frames[0]
        self.animation_offset_start = self.animation_offset_end = self.stream_index = 0
        self.fps, self.retiming_keys, self.use_reverse_frames, self.sound_offset = 25.0, [], False, 0.0
        self.volume, self.pan = 1.0, 0.0
        vars(self).update(values)

    def __eq__(self, other: object) -> bool:
        return self is other


class Strips(list[Strip]):
    def get(self, name: str) -> Strip | None:
        return next((strip for strip in self if strip.name == name), None)

    def new_sound(self, name: str, filepath: str, channel: int, frame_start: int) -> Strip:
        sound = SimpleNamespace(filepath=filepath)
        self.append(Strip("SOUND", channel, (frame_start, frame_start + 100), name=name, sound=sound))
        return self[-1]


class Operator:
    """What bpy.types.Operator gives: `report` keeps what the user would read."""

    said: list[tuple[str, str]]

    def report(self, kinds: set[str], text: str) -> None:
        vars(self).setdefault("said", []).append((*kinds, text))

    @classmethod
    def poll_message_set(cls, text: str) -> None:
        pass


def new_context(program: str, *strips: Strip) -> Any:
    """A context with one scene of 25 frames per second, and the add-on's preferences and settings."""
    channels = [SimpleNamespace(lock=False, mute=False) for _ in range(129)]
    editor = SimpleNamespace(meta_stack=[], active_strip=None, strips=Strips(strips), channels=channels)
    wanted = SimpleNamespace(takes=2, steps=8, seed=5, new_seed=False, prompt="", avoid=" ", prompt_weight=1.0)
    scene = SimpleNamespace(
        sequence_editor=editor, render=SimpleNamespace(fps=25, fps_base=1.0), maskvat=wanted, use_preview_range=False
    )
    chosen = SimpleNamespace(program=program, engines="", backend="cpu", threads=0, keep_warm=True)
    timers: list[object] = []
    manager = SimpleNamespace(
        event_timer_add=lambda tick, window: timers.append(tick) or tick,
        event_timer_remove=timers.remove,
        modal_handler_add=lambda operator: None,
        windows=[],
        timers=timers,
    )
    texts: list[str | None] = []
    return SimpleNamespace(
        scene=scene,
        window=None,
        window_manager=manager,
        workspace=SimpleNamespace(status_text_set=texts.append, texts=texts),
        preferences=SimpleNamespace(
            addons={ADDON: SimpleNamespace(preferences=chosen)}, filepaths=SimpleNamespace(use_relative_paths=True)
        ),
    )


@contextmanager
def installed(context: Any, frames: int = 100) -> Iterator[None]:
    """Let the add-on import a `bpy` of this context, in which each movie has a number of frames."""
    bpy, props = ModuleType("bpy"), ModuleType("bpy.props")
    bases = ("Operator", "Panel", "AddonPreferences", "PropertyGroup")
    types = {name: Operator if name == "Operator" else type(name, (), {}) for name in bases}
    clips = SimpleNamespace(
        load=lambda path: SimpleNamespace(frame_duration=frames, fps=25.0), remove=lambda clip: None
    )
    data = SimpleNamespace(is_saved=False, filepath="", movieclips=clips)
    path = SimpleNamespace(abspath=str, relpath=lambda text: f"//{Path(text).name}")
    vars(bpy).update(types=SimpleNamespace(**types), data=data, path=path, context=context, props=props)
    for kind in ("Bool", "Enum", "Float", "Int", "String"):
        setattr(props, f"{kind}Property", lambda **options: None)
    loaded = {f"{ADDON}.{name}" for name in ("operators", "panel", "settings", "strips")}
    sys.modules.update({"bpy": bpy, "bpy.props": props})
    try:
        yield
    finally:
        for name in {"bpy", "bpy.props", *loaded}:
            sys.modules.pop(name, None)
