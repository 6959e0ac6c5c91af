"""Figures of `benchmarks.latency --at-once`: how long a clip takes while others are made by the same process.

One opened bundle, and as many callers as there are clips at once, each with its share of the cores. Every caller makes
one clip to get warm, and then --repeat clips, all of which have their own files.
"""

import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import runtime
from benchmarks.latency.end_to_end import SHORT, RunOptions, cached_video
from benchmarks.latency.points import quantile

STEPS = 8
AT_ONCE = (1, 2, 3, 4)


def measure_at_once(
    run: RunOptions, folder: Path, repeat: int, threads: int, seconds: int = SHORT, counts: tuple[int, ...] = AT_ONCE
) -> dict[str, Any]:
    """Seconds of a clip and clips per hour, for each number of clips at once that shares `threads` CPU threads."""
    video = cached_video(folder, seconds)
    points = []
    for count in counts:
        each = max(1, threads // count)
        with runtime.load(run.engines, run.backend, each, run.precision) as pipeline:
            times, whole = _make(pipeline, _copies(video, count * (repeat + 1)), count)
        points.append(
            {
                "at_once": count,
                "threads": each,
                "seconds": statistics.median(times),
                "p95": quantile(times, 0.95),
                "all": times,
                "clips_per_hour": 3600 * len(times) / whole,
            }
        )
    return {"steps": STEPS, "clip_seconds": seconds, "points": points}


def _copies(video: Path, count: int) -> list[Path]:
    """Files with the same pictures: a pipeline keeps the features of a file that it has seen."""
    copies = [video.with_stem(f"{video.stem}-{number}") for number in range(count)]
    for copy in copies:
        if not copy.exists():
            shutil.copyfile(video, copy)
    return copies


def _make(pipeline: runtime.Pipeline, videos: list[Path], count: int) -> tuple[list[float], float]:
    """Seconds of each warm clip, and from the first one's beginning to the last one's end."""
    sampling, warm = runtime.SamplingConfig(steps=STEPS), Barrier(count)

    def caller(own: list[Path]) -> list[tuple[float, float]]:
        pipeline.generate(own[0], sampling)
        warm.wait()
        spans = []
        for video in own[1:]:
            begin = time.perf_counter()
            pipeline.generate(video, sampling)
            spans.append((begin, time.perf_counter()))
        return spans

    with ThreadPoolExecutor(count) as pool:
        spans = [span for own in pool.map(caller, [videos[n::count] for n in range(count)]) for span in own]
    return [end - begin for begin, end in spans], max(s[1] for s in spans) - min(s[0] for s in spans)
