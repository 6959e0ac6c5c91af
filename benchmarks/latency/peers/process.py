"""The process that measures one peer: an order as JSON on stdin, one line of JSON at the end of stdout.

Every peer has a process of its own, because their modules have names like `utils` and `models`, and V-AURA's
configuration has paths from its root.
"""

import json
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.latency.peers.clock import Clock, fastest
from benchmarks.latency.worker import peak_megabytes

REST = "generation"


def versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Build the peer that `order` names, and time it."""
    import torch

    torch.set_num_threads(order["threads"])
    torch.manual_seed(0)
    module = import_module(f"benchmarks.latency.peers.{order['peer']}")
    begin = time.perf_counter()
    peer = module.Peer(order)
    built = time.perf_counter() - begin
    runs = []
    for _ in range(order["repeat"]):
        with Clock(order["whole"]) as clock:
            peer.watch(clock)
            runs.append(clock.measure(peer.generate, REST))
    extra = {"build_seconds": built, "peak_mb": peak_megabytes(), "packages": versions(module.PACKAGES)}
    return fastest(runs) | peer.facts | extra | {"stand_ins": sorted(peer.finder.used)}


def main() -> int:
    """An error is the answer {"error": ...}."""
    try:
        answer = measure(json.loads(sys.stdin.readline()))
    except ModuleNotFoundError as error:
        answer = {"error": f"{error.name} is not installed; docs/PEERS.md says what to install"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
    print("\n" + json.dumps(answer), flush=True)
    return int("error" in answer)


if __name__ == "__main__":
    sys.exit(main())
