"""The process that benchmarks.latency measures: it loads one system, then makes one sound for every line on stdin.

The first line on stdin is the order: which system to load, and how. Every other line is a request: {"video",
"sampling": {...}, "mux": FILE or null, "codes": FILE or null, "kernels": true to profile it}. Every answer is one JSON
line: first the times of loading, then the seconds of each stage. Memory is the peak of this process so far, so every
point needs a new process. Slow imports happen inside functions, after the clock has started.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNTIME, EAGER, COMPILED = "runtime", "torch-eager", "torch-compile"
Answer = dict[str, Any]
Make = Callable[[Answer], Answer]


def process_peak_mb(process: int | str) -> float | None:
    """Peak resident memory of a process in MB, from VmHWM on Linux; None on other systems, and after it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) / 1024 if found else None


def tree_peak_mb(process: int) -> float:
    """The largest peak among a process and its children in MB: the command works in a child process. 0 if unknown."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    except OSError:
        children = []
    return max([process_peak_mb(process) or 0.0, *(tree_peak_mb(int(child)) for child in children)])


def peak_megabytes() -> float:
    """Peak resident memory of this process in MB.

    On Linux this is VmHWM, because ru_maxrss includes the memory of the parent process.
    """
    if (found := process_peak_mb("self")) is not None:
        return found
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def card_megabytes() -> float | None:
    """Memory in MB that all processes use on the first NVIDIA GPU; None if there is none."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return float(subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def open_runtime(order: Answer) -> tuple[Answer, Make]:
    """Load the runtime as users do: runtime.load, then generate, and mux if the request names a file."""
    begin = time.perf_counter()
    import runtime

    imported = time.perf_counter() - begin
    pipeline = runtime.load(order["engines"], order["backend"], order["threads"], order["precision"])
    loaded = {"load_seconds": time.perf_counter() - begin, "import_seconds": imported}
    from benchmarks.common.machine import physical_cores

    loaded |= {"backend": pipeline.bundle.backend, "threads": order["threads"] or physical_cores()}
    loaded |= {"precision": pipeline.bundle["step"].precision}
    loaded |= {"bundle": pipeline.bundle.manifest.name, "step_file": pipeline.bundle.file_for("step")}

    def make(request: Answer) -> Answer:
        sampling = runtime.SamplingConfig(**request["sampling"])
        pipeline.forget()  # every clip counts as one that was not seen before
        begin = time.perf_counter()
        take = pipeline.generate(request["video"], sampling)[0]
        middle = time.perf_counter()
        stages = dict(take.report.seconds)
        if request.get("mux"):
            from runtime.deliver.mux import mux

            mux(request["video"], take.audio, take.sample_rate, request["mux"])
            Path(request["mux"]).unlink()
            stages["mux"] = time.perf_counter() - middle
        save_codes(request, take.codes)
        sound = {"sound_seconds": take.report.samples / take.sample_rate, "windows": take.report.windows}
        return sound | {"seconds": middle - begin, "stages": stages, "warnings": list(take.report.warnings)}

    return loaded, make


def open_torch(order: Answer) -> tuple[Answer, Make]:
    """Load the same weights in PyTorch."""
    begin = time.perf_counter()
    import torch

    from benchmarks.common import torchvision_stub
    from benchmarks.latency.torch_baseline import Mode, TorchSystem
    from runtime.sampling import SamplingConfig

    torchvision_stub.install()
    imported = time.perf_counter() - begin
    torch.set_num_threads(order["threads"])  # as many as for MaskVAT, regardless of OMP_NUM_THREADS
    mode = Mode(
        compiled=order["kind"] == COMPILED,
        device=order["device"],
        dtype=getattr(torch, order["dtype"]),
        sample_on_host=order["sample_on_host"],
        tuned=order["tuned"],
    )
    system = TorchSystem(Path(order["system"]), mode)
    loaded = {"load_seconds": time.perf_counter() - begin, "import_seconds": imported}
    loaded |= {"backend": f"torch {order['device']}", "threads": torch.get_num_threads()}

    def make(request: Answer) -> Answer:
        sampling = SamplingConfig(**request["sampling"])
        begin = time.perf_counter()
        made = system.generate(Path(request["video"]), sampling)
        seconds = time.perf_counter() - begin
        save_codes(request, made.codes)
        sound = {"sound_seconds": len(made.audio) / system.config.sample_rate, "windows": made.windows}
        return sound | {"seconds": seconds, "stages": made.seconds, "warnings": []}

    return loaded, make


def save_codes(request: Answer, codes: Any) -> None:
    if request.get("codes"):
        import numpy as np

        np.save(request["codes"], codes)


def main() -> int:
    """Answer the order and all requests. An error is the answer {"error": ...} and ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    order = json.loads(sys.stdin.readline())
    try:
        loaded, make = open_runtime(order) if order["kind"] == RUNTIME else open_torch(order)
        print(json.dumps(loaded | {"peak_mb": peak_megabytes()}), flush=True)
        for line in sys.stdin:
            request = json.loads(line)
            if request.get("kernels"):
                from benchmarks.latency.op_profile import with_kernels

                answer = with_kernels(make, request)
            else:
                answer = make(request)
            print(json.dumps(answer | {"peak_mb": peak_megabytes(), "card_mb": card_megabytes()}), flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}".partition("\n")[0]}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
