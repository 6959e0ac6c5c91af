"""Time of one step on the CPU by kind of operator: ONNX Runtime's profile, with real inputs of the runtime."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import runtime
from engines.base import Feeds
from engines.ort import import_onnxruntime

RUNS = 3


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
