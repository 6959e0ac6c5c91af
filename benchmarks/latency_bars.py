"""Figures of `benchmarks.latency --bars` that need a process, a long clip or the installed files: what a user meets.

The whole process of `python -m runtime.infer`, import and load, memory of a long clip above a short one, and the bytes
of what `pip install 'maskvat[cpu]'` installs.
"""

import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from benchmarks.latency_clip import make_clip
from benchmarks.latency_points import Load, Worker, runtime_order

ROOT = Path(__file__).resolve().parent.parent
OURS = ("engines", "runtime", "train", "export", "benchmarks")  # the packages that are installed
LEAN = ("numpy", "av", "onnxruntime")  # the extra `cpu`
INSTALLED = (".py", ".toml", ".html")  # what the wheel has of them, beside the bundle
LONG, SHORT = 600, 10  # seconds


def whole_process(engines: Path, clip: Path, folder: Path, steps: int, repeat: int) -> dict[str, Any]:
    """Seconds from start to exit of the command line, interpreter and writing included."""
    command = [sys.executable, "-m", "runtime.infer", str(clip), "--engines", str(engines), "--steps", str(steps)]
    command += ["-o", str(folder / "whole.wav"), "--overwrite", "--progress", "none"]
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return {"steps": steps, "seconds": statistics.median(times), "all": times}


def import_and_load(engines: Path, repeat: int) -> dict[str, Any]:
    """Seconds of `import runtime; runtime.load(...)` in fresh processes."""
    times = []
    for _ in range(repeat):
        with Worker(runtime_order("load", engines, "auto", 0)) as worker:
            times.append(worker.loaded["load_seconds"])
    return {"seconds": statistics.median(times), "all": times}


def long_clip_memory(engines: Path, folder: Path, long: int = LONG) -> dict[str, Any]:
    """Peak memory of a long clip and of a short one; two steps each, for memory does not depend on them."""
    peaks = {}
    for seconds in (SHORT, long):
        clip = folder / f"clip{seconds}.mp4"
        if not clip.exists():
            make_clip(clip, seconds)
        with Worker(runtime_order("memory", engines, "auto", 0)) as worker:
            peaks[seconds] = worker.ask({"clip": str(clip), "sampling": Load(2).sampling(3.0)})["peak_mb"]
    return {
        "short_mb": peaks[SHORT],
        "long_mb": peaks[long],
        "long_seconds": long,
        "above_mb": peaks[long] - peaks[SHORT],
    }


def requirements(package: Distribution) -> list[str]:
    """Names of what a package needs on its own, without extras."""
    needed = [r for r in package.requires or [] if "extra ==" not in r]
    return [re.split(r"[^A-Za-z0-9._-]", r, maxsplit=1)[0] for r in needed]


def installed_megabytes() -> dict[str, float]:
    """MB (10^6 bytes) per package of a lean installation, as they are installed here, and of our code; no bundle.

    A requirement that is not installed here is for another Python or system, and is left out.
    """
    sizes: dict[str, float] = {}
    queue = list(LEAN)
    while queue:
        name = queue.pop(0)
        if name in sizes:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in package.files or []]
        sizes[name] = sum(p.stat().st_size for p in paths if p.is_file()) / 1e6
        queue += requirements(package)
    ours = [p for n in OURS for p in (ROOT / n).rglob("*") if p.suffix in INSTALLED]
    sizes["maskvat"] = sum(p.stat().st_size for p in ours) / 1e6
    return sizes


def bars(engines: Path, folder: Path, repeat: int, long: int = LONG) -> dict[str, Any]:
    """All of them for one bundle."""
    clip = folder / f"clip{SHORT}.mp4"
    if not clip.exists():
        make_clip(clip, SHORT)
    sizes = installed_megabytes()
    return {
        "whole_process": [whole_process(engines, clip, folder, steps, repeat) for steps in (32, 8)],
        "import_and_load": import_and_load(engines, repeat),
        "long_clip_memory": long_clip_memory(engines, folder, long),
        "installed_mb": {"total": sum(sizes.values()), "packages": sizes},
    }
