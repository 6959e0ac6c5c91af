"""Facts of the machine and the versions a benchmark ran with."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engines import cpu

# what decides about a step's speed, int8's above all; names as Linux spells them
EXTENSIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
ROOT = Path(__file__).resolve().parent.parent
TOPOLOGY = Path("/sys/devices/system/cpu")  # Linux
PACKAGES = ("numpy", "av", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13", "torch")


def cpu_name() -> str:
    """Model name of the processor, where the system tells."""
    return cpu.cpuinfo_field("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Cores that this process may use, those that share a core's units counted once: what ONNX Runtime takes by itself.

    Where the system does not tell which share, all of them.
    """
    if not hasattr(os, "sched_getaffinity"):
        return cores()
    files = [TOPOLOGY / f"cpu{n}" / "topology" / "thread_siblings_list" for n in os.sched_getaffinity(0)]
    try:
        return len({file.read_text(encoding="utf-8") for file in files})
    except OSError:
        return cores()


def revision() -> str | None:
    """The checkout's commit, "-dirty" behind it where files that git knows are altered; None without git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:  # a copy inside another repository
            return None
        altered = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if altered else "")
    except (OSError, subprocess.SubprocessError):
        return None


def card_name() -> str | None:
    """The first NVIDIA card with its memory and driver; None where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{told} (name, memory, driver)"


def facts() -> dict[str, Any]:
    """Processor and its extensions, cores, system, Python and package versions, and the card where there is one."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    found = {
        "cpu": cpu_name(),
        "extensions": [name for name in EXTENSIONS if name in cpu.extensions()],
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": packages,
    }
    card = card_name()
    return found if card is None else found | {"card": card}
