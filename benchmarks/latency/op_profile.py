"""Where the time goes: of one step on the CPU by kind of operator, of one clip on a GPU by kernel.

Operators are from ONNX Runtime's profile, with real inputs of the runtime. Kernels are from PyTorch's profiler, which
sees all kernels of its process, also those of ONNX Runtime and TensorRT.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runtime
from benchmarks.latency.points import Worker, Workload, runtime_order
from benchmarks.latency.subjects import Subject, select_precision
from benchmarks.latency.worker import Answer, Make
from engines.base import Feeds
from engines.ort import import_onnxruntime
from runtime.errors import MaskVATError

if TYPE_CHECKING:
    from benchmarks.latency.session import Session

RUNS = 3
PROFILE_SECONDS, PROFILE_STEPS = 10, 8  # of the clip that is profiled
KERNELS = 25  # rows of a profile by kernel; the rest is one row


class StopGeneration(Exception):
    """Raised to end a generation once the inputs of the first step are known."""


def first_feeds(pipeline: runtime.Pipeline, video: Path, guidance: float) -> Feeds:
    """Inputs of the first step of a video, when all tokens are masked. The generation ends there."""
    engine, recorded = pipeline.bundle["step"], []
    execute = engine.execute

    def recording(fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        recorded.append(fixed | varying)
        raise StopGeneration

    engine.execute = recording  # type: ignore[method-assign]
    try:
        pipeline.generate(video, runtime.SamplingConfig(steps=1, guidance=guidance))
    except StopGeneration:
        pass
    finally:
        engine.execute = execute  # type: ignore[method-assign]
    return recorded[0]


def by_operator(events: Sequence[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """Milliseconds and calls of one run per kind of operator, longest first, averaged over the last `runs` runs."""
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    time: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    kept = nodes[len(nodes) // (runs + 1) :]  # without the first run, which is a warm-up
    for event in kept:
        name = event["args"]["op_name"]
        time[name] += event["dur"] / 1000 / runs
        calls[name] += 1
    whole = sum(time.values())
    ordered = sorted(time, key=lambda name: -time[name])
    return [
        {"operator": n, "milliseconds": time[n], "share": time[n] / whole, "calls": calls[n] // runs} for n in ordered
    ]


def step_profile(bundle: Path, video: Path, guidance: float, threads: int, folder: Path) -> list[dict[str, Any]]:
    """Profile one step on the CPU. ONNX Runtime writes its log to `folder`."""
    ort = import_onnxruntime()

    pipeline = runtime.load(bundle, "cpu", threads)
    feeds = first_feeds(pipeline, video, guidance)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    path = pipeline.bundle.folder / pipeline.bundle.file_for("step")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(RUNS + 1):
        session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return by_operator(events, RUNS)


# ---------------------------------------------------------------- kernels on a GPU
def with_kernels(make: Make, request: Answer) -> Answer:
    """Generate one sound; the answer also has its `kernels`. Without a GPU these are PyTorch's operators on the CPU."""
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    card = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CUDA if card else ProfilerActivity.CPU]) as recorded:
        answer = make(request)
        if card:
            torch.cuda.synchronize()
    device = DeviceType.CUDA if card else DeviceType.CPU
    events = [(e.name, e.time_range.elapsed_us()) for e in recorded.events() or () if e.device_type == device]
    return answer | {"kernels": by_kernel(events)}


def by_kernel(events: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Milliseconds and calls by name, from (name, microseconds), longest first; after KERNELS rows one for the rest."""
    time: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for name, microseconds in events:
        time[name] += microseconds / 1000
        calls[name] += 1
    ordered = sorted(time, key=lambda name: -time[name])
    kept, rest = ordered[:KERNELS], ordered[KERNELS:]
    rows = [(n[:100], time[n], calls[n]) for n in kept]
    if rest:
        rows.append((f"{len(rest)} others", sum(time[n] for n in rest), sum(calls[n] for n in rest)))
    whole = sum(time.values()) or 1.0
    return [{"operator": n, "milliseconds": t, "share": t / whole, "calls": c} for n, t, c in rows]


def card_profile(session: "Session", subject: Subject, backend: str, precision: str) -> list[dict[str, Any]]:
    """Kernels of one clip, the second of its process. Raises WorkerError."""
    bundle = select_precision(subject, backend, precision, session.folder)
    request = session.request(Workload(PROFILE_STEPS, clip_seconds=PROFILE_SECONDS))
    with Worker(runtime_order(subject.name, bundle, backend, session.args.threads)) as worker:
        worker.ask(request)
        rows: list[dict[str, Any]] = worker.ask(request | {"kernels": True})["kernels"]
    return rows


# ---------------------------------------------------------------- all of a bundle
def profile_steps(session: "Session", subject: Subject) -> None:
    """Profile every backend and precision of a bundle that was not profiled yet."""
    for backend, precision in session.backend_precisions(subject):
        what = {"size": subject.name, "backend": backend, "precision": precision}
        if any(what.items() <= ({"backend": "cpu"} | known).items() for known in session.values["profiles"]):
            continue
        try:
            if backend == "cpu":
                bundle = select_precision(subject, backend, precision, session.folder)
                video, guidance = session.video(PROFILE_SECONDS), session.args.guidance
                rows = step_profile(bundle, video, guidance, session.threads, session.folder)
            else:
                rows = card_profile(session, subject, backend, precision)
        except MaskVATError as error:
            session.note(f"no profile for {subject.name} in {precision} on {backend}: {error}")
            continue
        session.values["profiles"].append(what | {"operators": rows})
