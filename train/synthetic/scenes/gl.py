"""Imports MuJoCo with an OpenGL that needs no screen, and draws models with it.

Import `mujoco` from here: MuJoCo chooses its OpenGL from the environment at import. Each process has one context.
"""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")  # each worker draws on one core

import numpy as np
from numpy.typing import NDArray

CHOSEN, NO_OPENGL = os.environ["MUJOCO_GL"], ""  # NO_OPENGL: why there is none, if there is none
try:
    import mujoco
    from mujoco.rendering.classic import gl_context
except ModuleNotFoundError:
    raise
except Exception as error:  # MuJoCo's import fails in several ways without OpenGL, but physics work without it
    NO_OPENGL, os.environ["MUJOCO_GL"] = str(error), "disable"
    import mujoco
    from mujoco.rendering.classic import gl_context

__all__ = ["Drawing", "RenderError", "mujoco", "open_context"]

GEOMS = 2000  # the most geoms in a picture
_contexts: list[object] = []  # holds the context of this process


class RenderError(OSError):
    """MuJoCo cannot draw on this machine."""


def open_context() -> None:
    """Open this process's OpenGL context, once: this is slow. Raises RenderError if MuJoCo cannot draw."""
    if _contexts:
        return
    try:
        if NO_OPENGL:
            raise RuntimeError(NO_OPENGL)
        # With OSMesa the class's own __del__ fails at exit. The context lives as long as the process.
        context = type("Context", (gl_context.GLContext,), {"__del__": lambda self: None})(64, 64)
        context.make_current()
        mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_50).free()
    except Exception as error:
        raise RenderError(
            f"MuJoCo cannot draw with MUJOCO_GL={CHOSEN} ({error}); install an OpenGL that needs no screen: "
            "`apt-get install libegl1 libgl1-mesa-dri`, or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error
    _contexts.append(context)


class Drawing:
    """Draws one model at the size of its off-screen buffer. Call `close` at the end."""

    def __init__(self, model: "mujoco.MjModel") -> None:
        open_context()
        size = model.vis.global_
        self.model, self.rect = model, mujoco.MjrRect(0, 0, size.offwidth, size.offheight)
        self.scene, self.option = mujoco.MjvScene(model, GEOMS), mujoco.MjvOption()
        self.target = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.target)
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE):
            self.scene.flags[flag] = 0

    def draw(self, data: "mujoco.MjData", camera: "mujoco.MjvCamera") -> NDArray[np.uint8]:
        """Draw the model's state; returns the picture [height, width, 3]."""
        every, picture = mujoco.mjtCatBit.mjCAT_ALL, np.empty((self.rect.height, self.rect.width, 3), np.uint8)
        mujoco.mjv_updateScene(self.model, data, self.option, None, camera, every, self.scene)
        mujoco.mjr_render(self.rect, self.scene, self.target)
        mujoco.mjr_readPixels(picture, None, self.rect, self.target)
        return picture[::-1].copy()

    def close(self) -> None:
        self.target.free()
