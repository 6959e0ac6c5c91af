"""What error messages advise: when memory is short, and how the user calls or installs this program.

Imports nothing large, because there may be no memory for it.
"""

import sys

MEMORY = (
    "not enough memory; close other programs, use fewer --candidates or shorter videos, or raise the limit (ulimit -v)"
)
GPU_MEMORY = "not enough memory on the GPU; close other programs that use it, or use fewer --candidates or short videos"
NO_GPU = "the app uses the CPU only; for an NVIDIA GPU install MaskVAT with pip"
WORDS = (
    "bad_alloc",
    "cannot allocate memory",
    "failed to allocate",
    "failed to map segment",
    "memory allocation",
    "memoryerror",
    "out of memory",
    "pthread_create failed",
    "can't start new thread",
    "resource temporarily unavailable",
    "unable to allocate",
)


def is_app() -> bool:
    """Whether this is the app without Python (docs/APP.md): its user has no `python` and no `pip` for it."""
    return bool(getattr(sys, "frozen", False))


def own_command(words: str) -> str:
    """How the user calls a command, for example "doctor": `python -m runtime.doctor`, in the app `maskvat doctor`."""
    return unless_app(f"`python -m runtime.{words}`", f"`maskvat {words}`")


def unless_app(advice: str, in_app: str) -> str:
    """Advice that needs pip or git; in the app, what to do instead."""
    return in_app if is_app() else advice


def short_of_memory(text: str) -> bool:
    """Whether a library's message is about lack of memory."""
    return any(words in text.lower() for words in WORDS)


def memory_is_limited() -> bool:
    """Whether `ulimit -v` is set. Libraries that get no memory abort, use a null pointer, or return nothing."""
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
