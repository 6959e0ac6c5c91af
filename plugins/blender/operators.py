"""The operators: sound from picture, redo of a marked range, cancel, and the check of the program.

In the user interface they run modally, with progress in the status bar; called from a script they wait for the sound.
"""

import random
from pathlib import Path
from typing import Any, ClassVar

import bpy

from . import strips
from .engine import Event, Refused
from .files import next_sound, output_folder, sound_seconds
from .job import Job, Session
from .names import edited_scene
from .settings import MAX_SEED, command, opening, options, preferences

SESSION = Session()
TICK = 0.1  # seconds between two looks at the engine


class JobOperator:
    """Runs one job. A subclass says how it begins and what is done with its result."""

    _timer: Any = None
    _job: Job

    def begin(self, context: Any) -> Job:
        """Check everything and start. Raises Refused."""
        raise NotImplementedError

    def succeed(self, context: Any, result: Event) -> str:
        """Use the result; returns a message for the user. Raises Refused."""
        raise NotImplementedError

    @classmethod
    def poll(cls, context: Any) -> bool:
        if SESSION.busy:
            cls.poll_message_set("MaskVAT is at work; Esc cancels it")
        return not SESSION.busy

    def execute(self, context: Any) -> set[str]:
        if not self._start(context):
            return {"CANCELLED"}
        self._job.wait()
        return self._end(context)

    def invoke(self, context: Any, event: Any) -> set[str]:
        if not self._start(context):
            return {"CANCELLED"}
        manager = context.window_manager
        self._timer = manager.event_timer_add(TICK, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        if event.type == "ESC" and event.value == "PRESS":
            self._job.cancel()
        elif event.type != "TIMER":
            return {"PASS_THROUGH"}  # the user goes on working
        self._job.poll()
        if not self._job.finished:
            context.workspace.status_text_set(f"MaskVAT: {self._job.text}   |   Esc: cancel")
            _redraw(context)
            return {"RUNNING_MODAL" if event.type == "ESC" else "PASS_THROUGH"}
        self._clear(context)
        return self._end(context)

    def cancel(self, context: Any) -> None:
        """Blender closes the window or opens another file: nobody waits for the sound any more."""
        SESSION.close()
        self._clear(context)

    def _start(self, context: Any) -> bool:
        try:
            self._job = self.begin(context)
        except Refused as reason:
            self.report({"ERROR"}, str(reason))
            return False
        return True

    def _end(self, context: Any) -> set[str]:
        try:
            if self._job.error:
                raise Refused(self._job.error)
            self.report({"INFO"}, self.succeed(context, self._job.result))
        except Refused as reason:
            cancelled = self._job.code == "cancelled"
            self.report({"INFO" if cancelled else "ERROR"}, str(reason))
            return {"CANCELLED"}
        finally:
            if not preferences(context).keep_warm:
                SESSION.close()
        return {"FINISHED"}

    def _clear(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)
        _redraw(context)


class MaskvatGenerate(JobOperator, bpy.types.Operator):
    bl_idname = "sequencer.maskvat_generate"
    bl_label = "Sound from Picture"
    bl_description = "Make sounds for the visible part of the selected movie strip, each on a channel of its own"
    bl_options: ClassVar = {"UNDO"}

    def begin(self, context: Any) -> Job:
        scene = edited_scene(context)
        movie = strips.chosen(context, strips.is_movie, "movie strip")
        self._shot = shot = strips.read_shot(scene, movie)
        strips.free_channels(scene, movie.channel, strips.visible(movie), scene.maskvat.takes)
        output = next_sound(output_folder(bpy.data.filepath, shot.video), shot.video)
        if scene.maskvat.new_seed:
            scene.maskvat.seed = random.randint(0, MAX_SEED)
        wanted = options(scene, output.with_suffix(".npz")) | {"seed": scene.maskvat.seed}
        if not shot.used.whole:
            wanted["range"] = shot.used.text
        fields = {"video": str(shot.video), "output": str(output), "options": wanted}
        return SESSION.start(command(context), opening(context), "generate", **fields)

    def succeed(self, context: Any, result: Event) -> str:
        placed = strips.place_takes(edited_scene(context), self._shot, *_sounds(result))
        return _told(f"{len(placed)} sound(s) for {self._shot.name}, seed {placed[0][strips.SEED]}", result)


class MaskvatRedo(JobOperator, bpy.types.Operator):
    bl_idname = "sequencer.maskvat_redo"
    bl_label = "Redo Marked Range"
    bl_description = (
        "Make a part of the selected sound anew and keep the rest: the preview range (P) if it is on, "
        "else from the playhead to the end of the strip"
    )
    bl_options: ClassVar = {"UNDO"}

    def begin(self, context: Any) -> Job:
        scene = edited_scene(context)
        strip = strips.chosen(context, strips.is_take, "sound strip that MaskVAT made")
        self._name = strip.name
        video = strips.full_path(strip[strips.VIDEO], "The clip")
        sound = strips.full_path(strip.sound.filepath, "The sound")
        take = sound.with_suffix(".npz")  # moves with the sound
        if not take.is_file():
            take = strips.full_path(strip[strips.TAKE], "The saved take")
        mark = strips.read_mark(scene, strip, sound_seconds(sound))
        strips.free_channels(scene, strip.channel, strips.visible(strip), scene.maskvat.takes)
        output = next_sound(output_folder(bpy.data.filepath, video), video)
        wanted = options(scene, output.with_suffix(".npz"))
        if scene.maskvat.new_seed:  # else the engine takes the one after the take's
            wanted["seed"] = random.randint(0, MAX_SEED)
        fields = {"video": str(video), "take": str(take), "range": mark, "output": str(output), "options": wanted}
        return SESSION.start(command(context), opening(context), "redo", **fields)

    def succeed(self, context: Any, result: Event) -> str:
        placed = strips.place_redone(edited_scene(context), self._name, *_sounds(result))
        return _told(f"{len(placed)} new version(s) of {self._name}, which is muted", result)


class MaskvatCancel(bpy.types.Operator):
    bl_idname = "sequencer.maskvat_cancel"
    bl_label = "Cancel"
    bl_description = "Stop making the sound. Nothing is written"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return SESSION.busy

    def execute(self, context: Any) -> set[str]:
        if SESSION.job is not None:
            SESSION.job.cancel()
        return {"FINISHED"}


class MaskvatCheck(JobOperator, bpy.types.Operator):
    bl_idname = "preferences.maskvat_check"
    bl_label = "Check"
    bl_description = "Start the program and open its model"
    found = ""

    def begin(self, context: Any) -> Job:
        MaskvatCheck.found = ""
        SESSION.close()  # so that the program is really started
        return SESSION.start(command(context), opening(context))

    def succeed(self, context: Any, result: Event) -> str:
        hello, model = SESSION.hello, result["bundle"]
        MaskvatCheck.found = (
            f"MaskVAT {hello['version']}, model {model['name']} (contract {model['contract']}), "
            f"runs on {result['backend']} ({result['precision']})"
        )
        return MaskvatCheck.found


def _sounds(result: Event) -> tuple[list[Path], str]:
    """Files of the takes, the best first, and the seed that was used."""
    return [Path(take["file"]) for take in result["takes"]], str(result.get("sampling", {}).get("seed", ""))


def _told(text: str, result: Event) -> str:
    return ". ".join([text, *result.get("warnings", [])])


def _redraw(context: Any) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("SEQUENCE_EDITOR", "PREFERENCES"):
                area.tag_redraw()
