"""What the machine has, as one JSON object on the last line. It is a process, because a broken library may crash it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.card.parts import CARDS, PROBE, Machine
from benchmarks.common.machine import card_name, facts
from engines.backends import availability
from runtime.errors import MaskVATError


def free_memory_mb() -> float:
    """Free memory of the first NVIDIA GPU in MB; 0 without one."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return float(subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0.0


def torch_reason() -> str | None:
    """Why PyTorch cannot use a GPU here; None if it can."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"PyTorch cannot be imported ({error})"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no GPU"
    return None


def describe() -> dict[str, Any]:
    """The fields of Machine."""
    found = availability()
    backends = {name: found[name] for name in CARDS}
    return {"card": card_name(), "memory_mb": free_memory_mb(), "backends": backends, "torch": torch_reason(),
            "facts": facts()}  # fmt: skip


def probe(root: Path, environment: Mapping[str, str]) -> Machine:
    """Run this module. Raises MaskVATError if it fails."""
    command = [sys.executable, "-m", "benchmarks.card.probe"]
    try:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=PROBE)
        return Machine(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, IndexError, ValueError, TypeError) as error:
        said = "it took too long" if isinstance(error, subprocess.TimeoutExpired) else done.stderr.strip()[-400:]
        raise MaskVATError(f"this machine cannot be examined with {' '.join(command)}: {said}") from error


if __name__ == "__main__":
    print(json.dumps(describe()))
