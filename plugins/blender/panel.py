"""The panel in the sequencer's sidebar, and the entries in its Strip menu."""

from typing import Any

import bpy

from .names import edited_scene
from .operators import SESSION, MaskvatCancel, MaskvatGenerate, MaskvatRedo


class MaskvatPanel(bpy.types.Panel):
    bl_idname = "SEQUENCER_PT_maskvat"
    bl_label = "MaskVAT"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "MaskVAT"

    def draw(self, context: Any) -> None:
        scene, layout = edited_scene(context), self.layout
        wanted = scene.maskvat
        layout.use_property_split = True
        layout.prop(wanted, "prompt")
        layout.prop(wanted, "avoid")
        row = layout.row()
        row.enabled = bool(wanted.prompt)
        row.prop(wanted, "prompt_weight", slider=True)
        layout.prop(wanted, "takes")
        layout.prop(wanted, "steps")
        layout.prop(wanted, "new_seed")
        layout.prop(wanted, "seed")
        if SESSION.busy and SESSION.job is not None:
            layout.progress(factor=SESSION.job.fraction, text=SESSION.job.text)
            layout.operator(MaskvatCancel.bl_idname, icon="X")
            return
        layout.operator(MaskvatGenerate.bl_idname, icon="SOUND")
        layout.operator(MaskvatRedo.bl_idname, icon="FILE_REFRESH")
        mark = "the preview range" if scene.use_preview_range else "playhead to the end of the sound"
        layout.label(text=f"Redo: {mark}")


def menu(self: Any, context: Any) -> None:
    self.layout.separator()
    self.layout.operator(MaskvatGenerate.bl_idname)
    self.layout.operator(MaskvatRedo.bl_idname)
