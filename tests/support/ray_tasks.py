"""Tasks that tests/train/prepare/test_ray.py runs on a cluster. Every worker process imports this module."""

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
