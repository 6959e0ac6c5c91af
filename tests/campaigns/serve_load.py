"""`python -m tests.campaigns.serve_load`: clients ask a server for small jobs while its processes are killed.

By default 20 clients ask for 200 jobs of a short clip. Meanwhile workers, and the server itself, get kill -9. No
job that was accepted may be lost: each must succeed, except those whose worker was killed, which must fail as
`crashed`. The memory of the server must not grow from the second quarter to the end by more than --grow. The exit
status is 1 if a fault was found; the last line is JSON. Linux only.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaigns import report
from tests.support.media import Picture, steady, write_video
from tests.support.serve_process import ENDED, ServeProcess

FRAMES, FPS, STEPS = 25, 25, 2  # of the small jobs: one second
MB = 2**20


@dataclass
class Load:
    """What the clients and the killer note."""

    server: ServeProcess
    accepted: dict[str, float] = field(default_factory=dict)  # job -> when it was accepted
    latency: dict[str, float] = field(default_factory=dict)  # job -> seconds from acceptance to the last event
    refused: Counter[str] = field(default_factory=Counter)  # code -> how often
    lock: threading.Lock = field(default_factory=threading.Lock)
    kills: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, int]] = field(default_factory=list)  # seconds, bytes of the server
    ended: threading.Event = field(default_factory=threading.Event)


def client(load: Load, video: Path, jobs: int) -> None:
    """Upload once, then ask for jobs one after the other, and wait for each. A killed server is asked again."""
    file_id = insist(load, lambda: load.server.upload(video))
    for _ in range(jobs):
        begin = time.monotonic()
        job = insist(load, lambda: load.server.ask(file_id=file_id, options={"steps": STEPS}))
        with load.lock:
            load.accepted[job] = begin
        while insist(load, lambda job=job: load.server.get(f"/v1/jobs/{job}"))["status"] not in ENDED:
            time.sleep(0.5)
        with load.lock:
            load.latency[job] = time.monotonic() - begin


def insist(load: Load, call: Any) -> Any:
    """Call until there is an answer: the server may be away for a moment, or its queue full."""
    while True:
        try:
            return call()
        except urllib.error.HTTPError as error:
            code = json.loads(error.read()).get("code", str(error.code))
            if error.code not in (429, 503):
                raise
            load.refused[code] += 1
        except (OSError, ValueError, http.client.HTTPException):  # it was killed, maybe within an answer
            load.refused["away"] += 1
        time.sleep(0.5)


def watch(load: Load) -> None:
    """Note the memory of the server every second."""
    begin = time.monotonic()
    while not load.ended.wait(1.0):
        process = load.server.process
        with suppress(OSError, AttributeError, IndexError):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])  # type: ignore[union-attr]
            load.memory.append((time.monotonic() - begin, pages * os.sysconf("SC_PAGE_SIZE")))


def kill_some(load: Load, jobs: int, workers: int, servers: int) -> None:
    """kill -9 of workers and of the server, at shares of the work."""
    moments = sorted([(n / (workers + 1), "worker") for n in range(1, workers + 1)]
        + [(n / (servers + 1) + 0.03, "server") for n in range(1, servers + 1)])  # fmt: skip
    for share, what in moments:
        while len(load.latency) < share * jobs:
            if load.ended.wait(0.2):
                return
        if what == "worker":
            for pid in load.server.children():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            load.server.kill()
            load.server.start()
        load.kills[what] += 1


def judge(load: Load, jobs: int, grow: float) -> dict[str, Any]:
    """What came out, and the faults."""
    found = {job: load.server.get(f"/v1/jobs/{job}") for job in load.accepted}
    results = Counter(job["status"] for job in found.values())
    codes = Counter(job["error"]["code"] for job in found.values() if job["error"])
    faults = [f"{job}: {values['status']}" for job, values in found.items() if values["status"] not in ENDED]
    if len(load.accepted) != jobs:
        faults.append(f"{len(load.accepted)} of {jobs} jobs were accepted")
    if set(codes) - {"crashed", "interrupted"} or codes.total() > load.kills["worker"] * 2 + load.kills["server"]:
        faults.append(f"jobs failed: {dict(codes)}")
    growth = grown(load.memory)
    if growth > grow * MB:
        faults.append(f"the server's memory grew by {growth / MB:.1f} MB")
    times = sorted(load.latency.values())
    return {
        "jobs": jobs, "results": dict(results), "failed": dict(codes), "refused": dict(load.refused),
        "kills": dict(load.kills), "seconds": {
            name: round(times[min(len(times) - 1, int(share * len(times)))], 2)
            for name, share in (("median", 0.5), ("p95", 0.95), ("max", 1.0))
        },
        "memory_mb": round(max(size for _, size in load.memory) / MB, 1), "growth_mb": round(growth / MB, 1),
        "faults": faults,
    }  # fmt: skip


def grown(memory: Sequence[tuple[float, int]]) -> float:
    """Bytes that the median of the last quarter lies above that of the second one."""
    quarter = max(1, len(memory) // 4)
    second, last = memory[quarter : 2 * quarter], memory[-quarter:]
    if not second:
        return 0.0
    middle = [sorted(size for _, size in part)[len(part) // 2] for part in (second, last)]
    return float(middle[1] - middle[0])


def campaign(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="maskvat-load-") as folder:
        video = write_video(Path(folder) / "clip.mp4", Picture(steady(FRAMES, FPS), last=1 / FPS))
        flags = [*(["--engines", str(args.engines)] if args.engines else []), "--threads", "1", "--backend", "cpu"]
        begin = time.monotonic()
        with ServeProcess(Path(folder) / "state", "--workers", str(args.workers), *flags) as server:
            load = Load(server)
            shares = [args.jobs // args.clients + (n < args.jobs % args.clients) for n in range(args.clients)]
            clients = [threading.Thread(target=client, args=(load, video, share)) for share in shares]
            killed = (load, args.jobs, args.kill_workers, args.kill_servers)
            others = [threading.Thread(target=watch, args=(load,)), threading.Thread(target=kill_some, args=killed)]
            for thread in [*clients, *others]:
                thread.start()
            for thread in clients:
                thread.join()
            load.ended.set()
            for thread in others:
                thread.join()
            found = judge(load, args.jobs, args.grow)
        return {"clients": args.clients, "workers": args.workers, **found,
            "total_seconds": round(time.monotonic() - begin, 1)}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.serve_load", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill-workers", type=int, default=3, help="how often workers are killed")
    parser.add_argument("--kill-servers", type=int, default=2, help="how often the server is killed")
    parser.add_argument("--grow", type=float, default=16.0, help="MB by which the server's memory may grow")
    parser.add_argument("--engines", type=Path, help="folder of a bundle (default: the shipped one)")
    parser.add_argument("--out", type=Path, help="also write the results to this file")
    args = parser.parse_args(argv)
    found = campaign(args)
    report.finish("serve_load", found, args.out)
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
