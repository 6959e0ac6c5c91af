"""The machine and the package versions that a benchmark ran with."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engines import cpu

# instruction sets that decide the speed of a step, above all in int8; the names are those of Linux
EXTENSIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
ROOT = Path(__file__).resolve().parents[2]  # of the checkout
TOPOLOGY = Path("/sys/devices/system/cpu")  # Linux
PACKAGES = ("numpy", "av", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx-cu13", "torch")


def cpu_name() -> str:
    """Model name of the processor, or its architecture if the system does not report the model."""
    return cpu.cpuinfo_field("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """Number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Number of physical cores that this process may use: the default thread count of ONNX Runtime.

    If the system does not report which logical cores share a physical one, all logical cores count.
    """
    if not hasattr(os, "sched_getaffinity"):
        return cores()
    files = [TOPOLOGY / f"cpu{n}" / "topology" / "thread_siblings_list" for n in os.sched_getaffinity(0)]
    try:
        return len({file.read_text(encoding="utf-8") for file in files})
    except OSError:
        return cores()


def revision() -> str | None:
    """The commit of this checkout, with "-dirty" if tracked files were changed; None if this is not a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:  # a copy inside another repository
            return None
        altered = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if altered else "")
    except (OSError, subprocess.SubprocessError):
        return None


def card_name() -> str | None:
    """The first NVIDIA GPU with its memory and driver; None if there is none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{line} (name, memory, driver)"


def facts() -> dict[str, Any]:
    """Processor, instruction sets, cores, system, Python and package versions, and the GPU if there is one."""
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
