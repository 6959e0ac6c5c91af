"""The throughput model of docs/SCALING.md: one card, some cores beside it, clips that arrive at random.

A clip needs `host` seconds of one core (decoding, schedule, noise) and then the card. The card takes up to `batch`
clips that wait, and needs for n of them

    S(n) = n * alone + steps * (call + n * row)

where `alone` is what is not joined (encoders, condition, codec), `call` the part of a step that does not depend on the
number of clips (starting kernels, reading weights), and `row` the rest of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import OptionError

HOST = ("video", "host")  # stages on the cores beside a GPU
JOINED = "step"
KERNELS_PER_BLOCK, OTHER_KERNELS, KERNEL_SECONDS = 25, 30, 2e-6  # assumed, for a card on paper
HALF_BYTES = 2


@dataclass(frozen=True)
class Stages:
    """Seconds of one clip: see the module. `spread` is the 95th percentile over the median."""

    host: float
    alone: float
    call: float
    row: float
    steps: int
    spread: float = 1.1

    def service(self, clips: float) -> float:
        """Seconds of the card for so many clips at once."""
        return clips * self.alone + self.steps * (self.call + clips * self.row)

    def most(self, batch: int, cores: int) -> float:
        """Clips per second at full load."""
        return min(batch / self.service(batch), cores / self.host if self.host else float("inf"))

    def latency(self, rate: float, join: bool, cores: int) -> float:
        """Mean seconds from arrival to sound at `rate` clips per second; infinite if so many cannot be made.

        One clip at a time is a queue of kind M/D/1. If the card takes all that wait (`join`), however many, it is
        within the bounds of Inoue, "Queueing analysis of GPU-based inference servers with dynamic batching: A
        closed-form characterization" (Performance Evaluation, 2021), which are close; the lower one is given.
        """
        fixed, each = self.steps * self.call, self.alone + self.steps * self.row
        busy = rate * (each if join else fixed + each)
        if busy >= 1:
            return float("inf")
        if join:
            more = rate * fixed
            first = (each + fixed) / (2 * (1 - busy)) * (1 + 2 * more + (1 - more) / (1 + busy))
            second = 1.5 * fixed / (1 - busy) + each / 2 * (busy + 2) / (1 - busy**2)
            card = min(first, second)
        else:
            card = (fixed + each) * (1 + busy / (2 * (1 - busy)))
        return self.host_wait(rate, cores) + self.host + card

    def host_wait(self, rate: float, cores: int) -> float:
        """Mean seconds until one of `cores` is free for a clip: M/D/c, by Erlang's C and half of its wait."""
        busy = rate * self.host / cores
        if busy == 0 or busy >= 1:
            return 0.0 if busy == 0 else float("inf")
        terms = [1.0]
        for n in range(1, cores):
            terms.append(terms[-1] * rate * self.host / n)
        last = terms[-1] * rate * self.host / cores / (1 - busy)
        return last / (sum(terms) + last) * self.host / (2 * cores * (1 - busy))

    def pays(self, batch: int) -> float:
        """The longest round trip of a step, in seconds, at which joining `batch` clips in a server gives more clips.

        A server adds `trip` to each step: b / (S(b) + steps * trip) > 1 / S(1), so trip < (b - 1) * call.
        """
        return (batch - 1) * self.call


# ---------------------------------------------------------------- from measurements
def fit_step(points: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """`call` and `row` in seconds, from points that differ in candidates alone, by least relative squares.

    Neither is negative. Raises OptionError for fewer than two numbers of candidates.
    """
    counts = np.array([p["candidates"] for p in points], float)
    if len(set(counts)) < 2:
        raise OptionError("the result has points with one number of candidates; measure it with --candidates 1 4 10")
    seconds = np.array([p["stages"][JOINED] / p["steps"] for p in points])
    table = np.stack([1 / seconds, counts / seconds], axis=1)
    call, row = np.linalg.lstsq(table, np.ones(len(points)), rcond=None)[0]
    if call < 0:  # no fixed part could be seen
        call, row = 0.0, float(np.median(seconds / counts))
    return float(call), float(row)


def chosen_points(values: dict[str, Any], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """The points of a result of benchmarks.latency, or of the parts of benchmarks.card, that match `wanted`.

    Raises OptionError if there are none.
    """
    parts = values.get("parts", {"": {"result": values}})
    results = [p.get("result") or {} for p in parts.values()]
    points = [p for result in results for name in ("results", "baselines") for p in result.get(name, ())]
    found = [p for p in points if all(p.get(key) == value for key, value in wanted.items())]
    if not found:
        have = sorted({tuple(str(p.get(key)) for key in wanted) for p in points})
        words = "; ".join(" ".join(row) for row in have) or "no points"
        raise OptionError(f"no point has {wanted}; the result has {', '.join(wanted)}: {words}")
    return found


def stages_from(points: Sequence[dict[str, Any]]) -> Stages:
    """Stages from points of one size, backend, precision and step count. On a CPU all stages share its cores."""
    first = min(points, key=lambda p: p["candidates"])
    own, on_cpu = first["stages"], first["backend"] == "cpu"
    host = 0.0 if on_cpu else sum(own[name] for name in HOST)
    alone = sum(v for name, v in own.items() if name not in (JOINED, "mux") and (on_cpu or name not in HOST))
    call, row = fit_step(points)
    return Stages(host, alone, call, row, first["steps"], max(1.0, first["p95"] / first["seconds"]))


def flop_of(values: dict[str, Any], point: dict[str, Any]) -> tuple[float, float, float]:
    """Operations of a clip outside of steps and of one step, and bytes of a step's weights in half precision.

    They are counted in the result: products of the step, and each stage's share of the CPU's rate. Raises OptionError.
    """
    floors = [f for f in values.get("floors", ()) if f["size"] == point["size"] and f["device"] == "cpu"]
    shares = point.get("shares")
    if not floors or not shares:
        raise OptionError("a card on paper needs a result with floors and shares, of one candidate and 10 s")
    products = floors[0]["products"]
    step = sum(2.0 * p["m"] * p["k"] * p["n"] * p["batch"] * p["count"] for p in products)
    weights = sum(HALF_BYTES * p["k"] * p["n"] * p["count"] for p in products if p["weight"])
    peak = values["machine_floor"]["gflops"]["fp32"] * 1e9
    alone = sum(peak * share * point["stages"][name] for name, share in shares.items() if name != JOINED)
    return alone, step, weights


def card_on_paper(
    values: dict[str, Any], point: dict[str, Any], blocks: int, tflops: float, gigabytes: float
) -> Stages:
    """Stages of a card that reaches `tflops` in these products and copies `gigabytes` per second.

    Decoding and host work are those measured on the CPU. The number and cost of kernels are assumptions.
    """
    alone, step, weights = flop_of(values, point)
    kernels = (KERNELS_PER_BLOCK * blocks + OTHER_KERNELS) * KERNEL_SECONDS
    host = sum(point["stages"][name] for name in HOST)
    rate = tflops * 1e12
    return Stages(host, alone / rate + kernels, kernels + weights / (gigabytes * 1e9), step / rate, point["steps"])
