"""The systems that are measured: ours through the runtime, and peers in a process of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import torchvision_stub
from benchmarks.common.machine import ROOT
from benchmarks.common.random_system import has_shipped_bundle
from benchmarks.latency.peers.clock import fastest
from benchmarks.latency.points import Worker, WorkerError, Workload, runtime_order
from benchmarks.latency.subjects import random_weights_subject
from engines.manifest import MINI
from runtime.errors import OptionError

GUIDANCE = 3.0  # the runtime's default
OURS = {  # stage of the runtime -> stage of the table
    "video": "video",
    "frame_encoder": "features: frames",
    "sync_encoder": "features: motion",
    "codec": "codec",
}
PEERS = {  # option -> module, name, and a file that its folder has
    "mmaudio": ("mmaudio", "MMAudio", "mmaudio/eval_utils.py"),
    "v_aura": ("v_aura", "V-AURA", "models/vaura_model.py"),
}


# ---------------------------------------------------------------- ours
def bundle_of(size: str, cache: Path) -> tuple[Path, bool]:
    """The bundle of a size, and whether it is the shipped one. Others have random weights and are made once."""
    if size == "mini" and has_shipped_bundle():
        return MINI, True
    torchvision_stub.install()  # CLIP and DAC of `base` import torchvision
    return random_weights_subject(size, cache).bundle, False


def by_stage(answer: dict[str, Any]) -> dict[str, Any]:
    """A worker's answer with the stages of the table; what has no stage there is generation."""
    stages: dict[str, float] = {"generation": 0.0}
    for stage, seconds in answer["stages"].items():
        name = OURS.get(stage, "generation")
        stages[name] = stages.get(name, 0.0) + seconds
    stages["generation"] += answer["seconds"] - sum(stages.values())
    return {"seconds": answer["seconds"], "stages": stages, "sound_seconds": answer["sound_seconds"]}


def measure_ours(size: str, steps: list[int], repeat: int, threads: int, bundle: Path, video: Path) -> list[Any]:
    """One row for each number of steps. The first sound, with the fewest steps, does not count."""
    rows = []
    with Worker(runtime_order(size, bundle, "cpu", threads)) as worker:
        requests = [{"video": str(video), "sampling": Workload(n).sampling(GUIDANCE)} for n in sorted(steps)]
        worker.ask(requests[0])
        for count, request in zip(sorted(steps), requests, strict=True):
            answers = [worker.ask(request) for _ in range(repeat)]
            row = fastest([by_stage(answer) for answer in answers])
            rows.append(row | {"steps": count, "peak_mb": answers[-1]["peak_mb"], "sample_rate": 44100})
        loaded = worker.loaded
    facts = {"precision": f"{loaded['precision']} step", "method": "unmasking steps with guidance", "in_part": {}}
    return [row | facts for row in rows]


# ---------------------------------------------------------------- peers
def check_folder(option: str, folder: Path) -> None:
    """Raises OptionError if a folder is not that of the peer's code."""
    _, name, file = PEERS[option]
    if not (folder / file).is_file():
        raise OptionError(
            f"--{option.replace('_', '-')} {folder} lacks {file}; give the folder of a checkout of {name}, "
            "see docs/PEERS.md"
        )


def commit(folder: Path) -> str | None:
    """The commit of a checkout, with "-dirty" if its Python files were changed; None if it is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno", "--", "*.py") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def measure_peer(option: str, order: dict[str, Any]) -> dict[str, Any]:
    """One row. Raises WorkerError if the peer's process fails."""
    module, name, _ = PEERS[option]
    command = [sys.executable, "-m", "benchmarks.latency.peers.process"]
    text = json.dumps(order | {"peer": module}) + "\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if "seconds" not in answer:
        reason = answer.get("error", f"its process ended with status {done.returncode}; out of memory?")
        raise WorkerError(f"{name} cannot be measured: {reason}")
    return answer | {"commit": commit(Path(order["folder"]))}
