"""What `tests.campaigns.blender` and `first_sound` do inside of Blender.

A Python with bpy runs this file, with a JSON file of names.
It installs the add-on, works with it as an editor would, and writes what it saw as JSON. It judges nothing.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import bpy

KEY = "bl_ext.user_default.maskvat"
NAMES = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
FOLDER = Path(NAMES["folder"])
STEPS = 8  # of a generation


def addon(module: str) -> Any:
    return sys.modules[f"{KEY}.{module}"]


def from_zip() -> Any:
    """Install the zip as "Install from Disk" does, and choose the program; the preferences."""
    bpy.ops.extensions.package_install_files(filepath=NAMES["zip"], repo="user_default", enable_on_install=True)
    chosen = bpy.context.preferences.addons[KEY].preferences
    chosen.program = NAMES["program"]
    return chosen


def install() -> dict[str, Any]:
    """From the zip; then the check button."""
    from_zip().backend = "cpu"
    bpy.ops.preferences.maskvat_check()
    icons = bpy.types.UILayout.bl_rna.functions["operator"].parameters["icon"].enum_items.keys()
    unknown = [name for name in ("SOUND", "FILE_REFRESH", "X") if name not in icons]
    return {"check": addon("operators").MaskvatCheck.found, "unknown icons": unknown}


def new_scene(rate: tuple[int, float]) -> Any:
    """An empty timeline of one minute."""
    scene = bpy.context.scene
    if scene.sequence_editor is not None:
        scene.sequence_editor_clear()
    scene.sequence_editor_create()
    scene.render.fps, scene.render.fps_base = rate
    scene.frame_start, scene.frame_end, scene.use_preview_range = 1, round(60 * rate[0] / rate[1]), False
    wanted = scene.maskvat
    wanted.takes, wanted.steps, wanted.new_seed, wanted.seed, wanted.prompt, wanted.avoid = 2, STEPS, False, 7, "", ""
    return scene


def add_movie(scene: Any, path: str, frame: int, trimmed: tuple[int, int] | None = None) -> Any:
    strip = scene.sequence_editor.strips.new_movie("picture", path, 1, frame)
    if trimmed is not None:
        addon("names").write(strip, "start", trimmed[0])
        addon("names").write(strip, "end", trimmed[1])
    strip.select, scene.sequence_editor.active_strip = True, strip
    return strip


def add_at_own_rate(scene: Any, path: str, frame: int, trimmed: tuple[int, int]) -> Any:
    """As Add > Movie does with Adjust Playback Rate. It needs an area, with which the modules of 5.x crash."""
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.sequencer.movie_strip_add(
            filepath=path, frame_start=frame, channel=1, adjust_playback_rate=True, sound=False, use_framerate=False
        )
    strip = scene.sequence_editor.strips[0]
    addon("names").write(strip, "start", trimmed[0])
    addon("names").write(strip, "end", trimmed[1])
    strip.select, scene.sequence_editor.active_strip = True, strip
    return strip


def strips(scene: Any) -> list[dict[str, Any]]:
    """What is on the timeline, channel by channel."""
    read, found = addon("names").read, []
    for strip in sorted(scene.sequence_editor.strips, key=lambda strip: strip.channel):
        row = {"name": strip.name, "type": strip.type, "channel": strip.channel, "mute": strip.mute}
        row |= {"frames": [read(strip, "start"), read(strip, "end")]}
        if strip.type == "SOUND":
            stored, take = strip.sound.filepath, strip.get("maskvat_take", "")
            row |= {"stored": stored, "file": bpy.path.abspath(stored), "take": bpy.path.abspath(take)}
            row |= {"offset": strip.sound_offset}
        found.append(row)
    return found


def mixdown(name: str) -> str:
    path = str(FOLDER / name)
    bpy.ops.sound.mixdown(filepath=path, container="WAV", codec="PCM", format="F32")
    return path


def generate(name: str) -> dict[str, Any]:
    begin = time.monotonic()
    bpy.ops.sequencer.maskvat_generate()
    seconds = round(time.monotonic() - begin, 2)
    scene = bpy.context.scene
    rate = scene.render.fps / scene.render.fps_base
    return {"rate": rate, "strips": strips(scene), "mix": mixdown(f"{name}.wav"), "seconds": seconds}


# ---------------------------------------------------------------- parts of the campaigns
def first() -> dict[str, Any]:
    """What README.md asks of somebody who uses it for the first time, with everything as it is at first."""
    begin = time.monotonic()
    from_zip()
    bpy.ops.preferences.maskvat_check()
    installed = round(time.monotonic() - begin, 1)
    scene = bpy.context.scene
    scene.sequence_editor_create()
    strip = scene.sequence_editor.strips.new_movie("picture", NAMES["clip30"], 1, 1)
    scene.render.fps, scene.render.fps_base = 30, 1.0  # what Set Scene Frame Rate does, for this clip
    strip.select, scene.sequence_editor.active_strip = True, strip
    scene.frame_end = addon("names").read(strip, "end") - 1
    found = generate("first")
    wanted = scene.maskvat
    making = f"Blender: Sound from Picture ({wanted.takes} takes, {wanted.steps} steps)"
    steps = [("Blender: install the zip, choose the program, Check", installed), (making, round(found["seconds"], 1))]
    return found | {"steps": [{"step": step, "seconds": seconds} for step, seconds in steps]}


def trimmed() -> dict[str, Any]:
    """In a saved project: a trimmed strip, then a redo of the preview range with a word."""
    scene = new_scene((30, 1.0))
    add_movie(scene, NAMES["clip30"], 37, (47, 107))
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / "project" / "film.blend"))
    found = {"generate": generate("trimmed")}
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 62, 76
    scene.maskvat.takes, scene.maskvat.prompt = 1, NAMES["word"]
    bpy.ops.sequencer.maskvat_redo()
    scene.use_preview_range = False
    return found | {"redo": {"strips": strips(scene), "mix": mixdown("redo.wav"), "rate": 30}}


def reopened() -> dict[str, Any]:
    """The project after it was saved and moved to another folder: the take is still known, and can be redone."""
    bpy.ops.wm.save_mainfile()
    (FOLDER / "project").rename(FOLDER / "moved")
    bpy.ops.wm.open_mainfile(filepath=str(FOLDER / "moved" / "film.blend"))
    scene = bpy.context.scene
    scene.frame_current = 92
    bpy.ops.sequencer.maskvat_redo()
    return {"strips": strips(scene)}


def unsaved() -> dict[str, Any]:
    """A whole clip at 29.97 in a file that was never saved."""
    bpy.ops.wm.read_homefile(use_empty=True)
    scene = new_scene((30, 1.001))
    add_movie(scene, NAMES["clip29"], 37)
    return generate("unsaved")


def own_rate() -> dict[str, Any] | None:
    """A clip of 25 in a scene of 60 frames per second, trimmed inside of one of its frames."""
    if bpy.app.version >= (5, 0, 0):
        return None
    scene = new_scene((60, 1.0))
    add_at_own_rate(scene, NAMES["clip25"], 100, (107, 200))
    return generate("own_rate")


def add_speed_effect(scene: Any, strip: Any) -> None:
    """Slow a strip down. (Adding retiming keys needs a window: without one it crashes Blender.)"""
    end = {"length": 50} if bpy.app.version >= (5, 0, 0) else {"frame_end": 87}
    new = scene.sequence_editor.strips.new_effect
    new(name="slow", type="SPEED", channel=2, frame_start=37, input1=strip, **end)


def refused() -> dict[str, str]:
    """What cannot be done -> the text."""
    found = {}

    def tried(what: str, call: Any) -> None:
        try:
            found[what] = str(call())
        except RuntimeError as error:
            found[what] = str(error).strip().removeprefix("Error: ")

    generating, redoing = bpy.ops.sequencer.maskvat_generate, bpy.ops.sequencer.maskvat_redo
    scene = new_scene((30, 1.0))
    tried("nothing selected", generating)
    tried("no take selected", redoing)
    strip = add_movie(scene, NAMES["clip25"], 37)
    tried("other rate", generating)
    scene.render.fps = 25
    strip.use_reverse_frames = True
    tried("backwards", generating)
    strip.use_reverse_frames = False
    strip.filepath = "//clip.mp4"
    tried("relative and unsaved", generating)
    strip.filepath = str(FOLDER / "absent.mp4")
    tried("missing", generating)
    strip.filepath = NAMES["clip25"]
    chosen = bpy.context.preferences.addons[KEY].preferences
    chosen.program = "/absent/maskvat"
    tried("no program", generating)
    chosen.program, chosen.engines = NAMES["program"], str(FOLDER)
    tried("no model", generating)
    chosen.engines, scene.maskvat.prompt = "", "dooor"
    tried("unknown word", generating)
    scene.maskvat.prompt = ""
    add_speed_effect(scene, strip)
    tried("speed effect", generating)
    return found | {"strips left": str(len(scene.sequence_editor.strips))}


def cancelled() -> dict[str, Any]:
    """The button Cancel, while steps are made."""
    scene = new_scene((25, 1.0))
    add_movie(scene, NAMES["clip25"], 37)
    operators, settings = addon("operators"), addon("settings")
    output, context = FOLDER / "cancelled.wav", bpy.context
    fields = {"video": NAMES["clip25"], "output": str(output), "options": {"steps": 1000}}
    job = operators.SESSION.start(settings.command(context), settings.opening(context), "generate", **fields)
    while job.stage != "sample" and not job.finished:
        job.poll()
        time.sleep(0.05)
    busy = not bpy.ops.sequencer.maskvat_generate.poll()
    begin = time.monotonic()
    bpy.ops.sequencer.maskvat_cancel()
    job.wait()
    seconds = round(time.monotonic() - begin, 2)
    return {"code": job.code, "written": output.exists(), "busy": busy, "seconds": seconds}


def disabled() -> dict[str, Any]:
    process = addon("operators").SESSION._engine._process
    running = process.poll() is None
    bpy.ops.preferences.addon_disable(module=KEY)
    left = hasattr(bpy.types.Scene, "maskvat")
    bpy.ops.preferences.addon_enable(module=KEY)
    again = hasattr(bpy.types.Scene, "maskvat")
    return {"running": running, "status": process.poll(), "left": left, "again": again}


WORK = (first, install, trimmed, reopened, unsaved, own_rate, refused, cancelled, disabled)
PARTS = {part.__name__: part for part in WORK}


def main() -> None:
    answer: dict[str, Any] = {"blender": bpy.app.version_string}
    for name in NAMES["parts"]:
        try:
            answer[name] = PARTS[name]()
        except Exception:
            answer[name] = {"fault": traceback.format_exc(limit=4)}
        Path(NAMES["answer"]).write_text(json.dumps(answer), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # the module hangs at its exit now and then


main()
