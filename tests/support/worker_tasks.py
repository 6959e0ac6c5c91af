"""Tasks that tests of train.prepare.workers run. Every worker process imports this module."""

import os
import time


def where(number: int, careful: bool) -> tuple[str, bool]:
    """Return the node of a task, and `careful`. Task 1 raises; tasks 3 and, unless `careful`, 2 end their process."""
    import ray

    if number == 1:
        raise ValueError("one")
    if number == 3 or (number == 2 and not careful):
        os._exit(9)
    time.sleep(2)
    return ray.get_runtime_context().get_node_id(), careful


def linger(number: int, careful: bool) -> None:
    """Print a line, and do not end for a minute."""
    print(number, flush=True)
    time.sleep(60)
