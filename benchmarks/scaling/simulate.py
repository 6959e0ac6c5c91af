"""A simulation of one card with the times of the model, clip by clip, to check what the model says on average."""

from dataclasses import dataclass
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

from benchmarks.scaling.model import Stages

CLIPS, WARM = 20_000, 1000  # clips of one simulation; the first ones find an empty card and do not count
NORMAL_95 = 1.645  # standard deviations of a normal distribution


@dataclass(frozen=True)
class Simulated:
    """Clips per second; mean, median and 95th percentile of the seconds from arrival to sound; clips per batch."""

    rate: float
    mean: float
    median: float
    p95: float
    batch: float
    busy: float  # share of the time that the card works


def after_host(arrivals: NDArray[np.float64], work: NDArray[np.float64], cores: int) -> NDArray[np.float64]:
    """When each clip leaves the cores, in the order of arrival: the next free core takes the next clip."""
    if not work.any():
        return arrivals
    free, out = [0.0] * cores, []
    for arrival, seconds in zip(arrivals.tolist(), work.tolist(), strict=True):
        out.append(max(arrival, free[0]) + seconds)
        heapreplace(free, out[-1])
    return np.array(out)


def simulate(stages: Stages, rate: float, batch: int, cores: int, clips: int = CLIPS, seed: int = 0) -> Simulated:
    """Let `clips` clips arrive at random, `rate` per second; an infinite rate lets all arrive at once.

    The times of host and card vary as measured: log-normal, with the model's median and `spread`.
    """
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, clips)) if np.isfinite(rate) else np.zeros(clips)
    factors = np.exp(rng.standard_normal((2, clips)) * np.log(stages.spread) / NORMAL_95)
    ready = after_host(arrivals, stages.host * factors[0], cores)
    order = np.argsort(ready, kind="stable")
    waits, slower = ready[order].tolist(), factors[1].tolist()
    now, works, batches, first, ends = 0.0, 0.0, 0, 0, list[float]()
    while first < clips:
        now, last = max(now, waits[first]), first + 1
        while last < min(clips, first + batch) and waits[last] <= now:
            last += 1
        seconds = stages.service(last - first) * slower[first]
        now, works, batches = now + seconds, works + seconds, batches + 1
        ends += [now] * (last - first)
        first = last
    done = np.empty(clips)
    done[order] = ends
    took = (done - arrivals)[WARM:]
    return Simulated(
        clips / now, float(took.mean()), float(np.median(took)), float(np.quantile(took, 0.95)), clips / batches,
        works / now,
    )  # fmt: skip
