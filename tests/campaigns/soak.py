"""`python -m tests.campaigns.soak`: thousands of generations in one process, from several threads.

Clips, options, cancels and errors vary. After a warm-up, resident memory must stay within 5 %, and the numbers of open
files and threads must not change. The same request must give the same bytes at the beginning and at the end. The exit
status is 1 if one of these fails; the last line is JSON. Linux only: memory is read from /proc.
"""

import argparse
import ctypes
import gc
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from tests.campaigns import report, sandbox
from tests.support.fake_engines import FakeBundle, small_config, write_bundle
from tests.support.media import Picture, Sound, bad_file, clicks, steady, write_video

MEMORY_GROWTH = 0.05
WARM_UP = 0.25  # of the generations
SETTLE = 0.5  # seconds
SAMPLES = 40  # measurements of memory, files and threads


@dataclass(frozen=True)
class Clips:
    """Good clips of several lengths and containers, and files that cannot be used."""

    good: tuple[Path, ...]
    bad: tuple[Path, ...]

    @classmethod
    def write(cls, folder: Path) -> "Clips":
        good = []
        for n, (suffix, codec, frames) in enumerate(
            (("mp4", "libx264", 20), ("mkv", "libx264", 75), ("avi", "mpeg4", 50), ("webm", "libvpx", 30))
        ):
            sound = Sound(clicks(44100 * frames // 25, 44100)[None], 44100, "aac") if suffix == "mp4" else None
            picture = Picture(steady(frames, 25), Fraction(1, 25), codec=codec, tick=Fraction(1, 25))
            good.append(write_video(folder / f"clip{n}.{suffix}", picture, sound))
        bad = []
        for kind in ("missing", "empty", "text", "audio only"):
            bad.append(folder / f"{kind.replace(' ', '-')}.mp4")
            bad_file(kind, bad[-1])
        return cls(tuple(good), tuple(bad))


class Soak:
    """The requests, one by number, so that they can be made again."""

    def __init__(self, pipeline: runtime.Pipeline, clips: Clips, seed: int) -> None:
        self.pipeline, self.clips, self.seed = pipeline, clips, seed

    def request(self, number: int) -> str:
        """Run one request; "made", "cancelled" or "refused"."""
        rng = np.random.default_rng([self.seed, number])
        kind = rng.random()
        clip = self.clips.bad[int(rng.integers(len(self.clips.bad)))] if kind < 0.15 else self._good(rng)
        cancel = threading.Event()
        seen = 0

        def on_progress(_: runtime.Progress) -> None:
            nonlocal seen
            seen += 1
            if 0.15 <= kind < 0.35 and seen == 3:
                cancel.set()

        try:
            self.pipeline.generate(clip, self._options(rng), on_progress, cancel)
            return "made"
        except runtime.Cancelled:
            return "cancelled"
        except runtime.MediaError:
            return "refused"

    def _good(self, rng: np.random.Generator) -> Path:
        return self.clips.good[int(rng.integers(len(self.clips.good)))]

    def _options(self, rng: np.random.Generator) -> runtime.SamplingConfig:
        return runtime.SamplingConfig(
            steps=int(rng.integers(1, 6)),
            guidance=float(rng.choice([0.0, 3.0])),
            candidates=int(rng.integers(1, 4)),
            seed=int(rng.integers(1000)),
        )

    def digest(self) -> str:
        """SHA-256 of the sound of one fixed request."""
        take = self.pipeline.generate(self.clips.good[1], runtime.SamplingConfig(steps=3, seed=11))[0]
        return hashlib.sha256(take.audio.tobytes()).hexdigest()


def held() -> dict[str, float]:
    """Resident memory (MB), open files and threads of this process, once threads that are ending have ended."""
    gc.collect()
    time.sleep(SETTLE)
    threads = len(os.listdir("/proc/self/task"))
    untrimmed = sandbox.resident_mb(os.getpid())
    ctypes.CDLL(None).malloc_trim(0)  # free memory that malloc keeps in the arenas of threads is no leak
    return {
        "memory_mb": sandbox.resident_mb(os.getpid()),
        "with_free_memory_mb": untrimmed,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threads,
    }


def run(soak: Soak, count: int, threads: int) -> tuple[Counter[str], list[dict[str, float]]]:
    """All requests; what became of them, and what the process held now and then, while no request ran."""
    counts: Counter[str] = Counter()
    samples = []
    for part in np.array_split(np.arange(count), SAMPLES):
        with ThreadPoolExecutor(threads) as pool:
            counts.update(pool.map(soak.request, map(int, part)))
        samples.append(held())
        print(f"{int(part[-1]) + 1} of {count}: {samples[-1]}, {dict(counts)}", file=sys.stderr, flush=True)
    return counts, samples


def judge(samples: list[dict[str, float]], digests: tuple[str, str]) -> dict[str, Any]:
    """What must hold, and whether it does."""
    warm = samples[int(WARM_UP * len(samples)) :]
    half = len(warm) // 2
    first, last = (float(np.median([s["memory_mb"] for s in part])) for part in (warm[:half], warm[half:]))
    return {
        "memory_growth": round(last / first - 1, 4),
        "memory_flat": last / first - 1 <= MEMORY_GROWTH,
        "files_constant": len({s["files"] for s in warm}) == 1,
        "threads_constant": len({s["threads"] for s in warm}) == 1,
        "same_bytes": digests[0] == digests[1],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=2_000, help="generations (default: 2,000)")
    parser.add_argument("--threads", type=int, default=4, help="threads that generate at once (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the requests (default: 0)")
    parser.add_argument("--engines", type=Path, help="bundle (default: engines of a kilobyte)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        engines = args.engines or write_bundle(folder / "bundle", FakeBundle(small_config(), self_test=True))
        soak = Soak(runtime.load(engines, "cpu", threads=1), Clips.write(folder), args.seed)
        before = soak.digest()
        counts, samples = run(soak, args.count, args.threads)
        found = judge(samples, (before, soak.digest()))
    good = all(value for name, value in found.items() if name != "memory_growth")
    print(f"{'good' if good else 'NOT good'}: {found}")
    facts = {"seed": args.seed, "count": args.count, "threads": args.threads, "counts": dict(counts), "found": found}
    report.finish("soak", facts | {"samples": samples, "seconds": round(time.monotonic() - begin)}, args.out)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
