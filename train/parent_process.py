"""Worker processes end with the process that started them."""

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess


def exit_with_parent() -> None:
    """Start a thread that ends this worker process as soon as its parent ends, for whatever reason.

    If a signal kills the parent, a worker of a ProcessPoolExecutor would otherwise wait for work for ever.
    """
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_exit_after, args=(parent,), name="exit-with-parent", daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
