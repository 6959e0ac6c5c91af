"""Recognises libraries' messages about lack of memory. Imports nothing, because there is no memory for it then."""

import sys

MEMORY = (
    "not enough memory; close other programs, use fewer --candidates or shorter videos, or raise the limit (ulimit -v)"
)
GPU_MEMORY = "not enough memory on the GPU; close other programs that use it, or use fewer --candidates or short videos"
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


def short_of_memory(text: str) -> bool:
    """Whether a library's message is about lack of memory."""
    return any(words in text.lower() for words in WORDS)


def memory_is_limited() -> bool:
    """Whether `ulimit -v` is set. Libraries that get no memory abort, use a null pointer, or return nothing."""
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
