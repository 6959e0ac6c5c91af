"""MaskVAT for Blender's video sequencer: sounds for movie strips, made by MaskVAT's engine in a process of its own.

The modules that import bpy are imported by `register` alone, so that the others can be tested without Blender.
"""

import atexit


def register() -> None:
    import bpy

    from . import operators, panel, settings

    for item in _classes():
        bpy.utils.register_class(item)
    bpy.types.Scene.maskvat = bpy.props.PointerProperty(type=settings.MaskvatSettings)
    bpy.types.SEQUENCER_MT_strip.append(panel.menu)
    atexit.register(operators.SESSION.close)


def unregister() -> None:
    import bpy

    from . import operators, panel

    operators.SESSION.close()
    atexit.unregister(operators.SESSION.close)
    bpy.types.SEQUENCER_MT_strip.remove(panel.menu)
    del bpy.types.Scene.maskvat
    for item in reversed(_classes()):
        bpy.utils.unregister_class(item)


def _classes() -> list[type]:
    from . import operators, panel, settings

    return [
        settings.MaskvatPreferences,
        settings.MaskvatSettings,
        operators.MaskvatGenerate,
        operators.MaskvatRedo,
        operators.MaskvatCancel,
        operators.MaskvatCheck,
        panel.MaskvatPanel,
    ]
