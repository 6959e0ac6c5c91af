"""Tasks that tests/test_ray.py gives to a cluster; a module of its own, for a worker imports it for every process."""

import os
import time


def where(number: int, careful: bool) -> tuple[str, bool]:
    """The node that a task runs on. Task 1 raises, task 2 kills its process where it is not careful, 3 always."""
    import ray

    if number == 1:
        raise ValueError("one")
    if number == 3 or (number == 2 and not careful):
        os._exit(9)
    time.sleep(2)
    return ray.get_runtime_context().get_node_id(), careful
