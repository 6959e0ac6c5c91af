"""Preferences of the add-on, and what the panel asks for."""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from .files import find_program

SOUND_RATE = "48000"  # Blender mixes at this rate
MAX_SEED = 2**31 - 1  # of Blender's whole numbers


class MaskvatPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    program: StringProperty(
        name="Program",
        subtype="FILE_PATH",
        default="maskvat",
        description="MaskVAT's program: the file maskvat (maskvat.exe), its folder, or the Python it is installed in",
    )
    engines: StringProperty(
        name="Model",
        subtype="DIR_PATH",
        description="Folder of the bundle. Empty: the one that came with the program",
    )
    backend: EnumProperty(
        name="Runs on",
        items=[
            ("auto", "Whatever is fastest", "A graphics card if it passes the model's self-test, else the processor"),
            ("cpu", "Processor", "Leaves the graphics card to Blender"),
        ],
    )
    threads: IntProperty(name="Threads", min=0, max=1024, description="Processor threads; 0 lets the engine choose")
    keep_warm: BoolProperty(
        name="Keep the engine running",
        default=True,
        description="The next sound starts at once, and some memory stays in use until Blender ends",
    )

    def draw(self, context: Any) -> None:
        from .operators import SESSION, MaskvatCheck

        layout = self.layout
        layout.prop(self, "program")
        row = layout.row()
        row.operator(MaskvatCheck.bl_idname)
        row.label(text=SESSION.job.text if SESSION.busy else MaskvatCheck.found)
        layout.prop(self, "engines")
        layout.prop(self, "backend")
        layout.prop(self, "threads")
        layout.prop(self, "keep_warm")


class MaskvatSettings(bpy.types.PropertyGroup):
    """What a scene's sounds are made with."""

    prompt: StringProperty(name="Prompt", description="Words for what shall be heard. Empty: the picture alone decides")
    avoid: StringProperty(name="Avoid", description="Words for what shall not be heard")
    prompt_weight: FloatProperty(
        name="Prompt Weight",
        default=1.0,
        min=0.0,
        max=1.0,
        description="How far the prompt takes the place of what is seen",
    )
    takes: IntProperty(name="Takes", default=2, min=1, max=16, description="Sounds to make. The best one is audible")
    steps: IntProperty(name="Steps", default=32, min=1, max=1024, description="More steps take longer and sound better")
    new_seed: BoolProperty(
        name="New Seed Each Time", default=True, description="Each press makes other sounds. The seed used is shown"
    )
    seed: IntProperty(name="Seed", min=0, max=MAX_SEED, description="The same seed makes the same sounds")


def preferences(context: Any) -> Any:
    return context.preferences.addons[__package__].preferences


def command(context: Any) -> list[str]:
    """The command that starts the engine. Raises Refused."""
    return find_program(bpy.path.abspath(preferences(context).program))


def opening(context: Any) -> dict[str, Any]:
    """The fields of the engine's `load`."""
    chosen = preferences(context)
    fields: dict[str, Any] = {"backend": chosen.backend}
    if chosen.engines:
        fields["engines"] = str(Path(bpy.path.abspath(chosen.engines)).absolute())
    if chosen.threads:
        fields["threads"] = chosen.threads
    return fields


def options(scene: Any, save: Path) -> dict[str, Any]:
    """The options of a request that generations and redos share."""
    wanted = scene.maskvat
    found: dict[str, Any] = {"rate": SOUND_RATE, "steps": wanted.steps, "save": str(save)}
    found |= {"candidates": wanted.takes, "takes": wanted.takes}
    for name in ("prompt", "avoid"):
        if text := getattr(wanted, name).strip():
            found[name] = text
    if "prompt" in found and wanted.prompt_weight != 1.0:
        found["prompt_weight"] = round(wanted.prompt_weight, 4)
    return found
