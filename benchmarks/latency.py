"""`python -m benchmarks.latency`: where the time of one clip goes, as users run it.

Each point is a process of its own (so that peak memory is that point's), which imports `runtime`, loads the bundle,
makes one clip cold and then `--repeat` clips warm. Prints a card, a table per stage (medians of the warm runs), and as
the last line one JSON object. Not timed: writing the file. No threshold here decides a test.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.machine import facts

STAGES = ("video", "frame_encoder", "sync_encoder", "condition", "step", "host", "codec", "select")


def make_clip(path: Path, seconds: float) -> None:
    """A moving square at 25 fps, 640 x 360, so that the benchmark needs no file of anyone's."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        noise = np.random.Generator(np.random.Philox(0)).integers(0, 60, (360, 640, 3)).astype(np.uint8)
        for n in range(round(seconds * 25)):
            image = noise.copy()
            x = (n * 7) % 560
            image[140:220, x : x + 80] = 230
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def peak_megabytes() -> float:
    """Peak resident memory of this process."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def measure(args: argparse.Namespace) -> None:
    """One process: prints its numbers as JSON."""
    begin = time.perf_counter()
    import runtime

    pipeline = runtime.load(args.engines, args.backend, args.threads)
    load_seconds = time.perf_counter() - begin
    sampling = runtime.SamplingConfig(steps=args.steps, candidates=args.candidates, guidance=args.guidance)
    reports: list[dict[str, Any]] = []
    for _ in range(args.repeat + 1):
        reports.append(pipeline.generate(args.clip, sampling)[0].report)
    numbers = [r["seconds"] | {"total": r["total_seconds"]} for r in reports]
    out = {"load_seconds": load_seconds, "cold": numbers[0], "warm": numbers[1:], "peak_mb": peak_megabytes()}
    files = {g: e["file"] for g, e in reports[0]["engines"].items()}
    out |= {"backend": pipeline.bundle.backend, "bundle": pipeline.bundle.manifest.name, "files": files}
    out |= {"card": card(pipeline.bundle.manifest, files)}
    out |= {"seconds_of_sound": reports[0]["samples"] / reports[0]["sample_rate"]}
    print(json.dumps(out))


def card(manifest: Any, files: dict[str, str]) -> dict[str, Any]:
    """What the architecture and the files imply, from the manifest."""
    c, used = manifest.config, set(files.values())
    return {
        "design": c.design,
        "transformer": f"width {c.hidden_size}, {c.n_blocks} blocks, {c.n_heads} heads",
        "tokens": f"{c.n_codebooks} x {c.window_tokens} a window of {c.window_seconds} s, {c.codebook_size} codewords",
        "files": {f: {"precision": e.precision, "bytes": e.bytes} for f, e in manifest.files.items() if f in used},
        "parity_of_step": manifest.parity.get("step"),
    }


def quantile(values: list[float], q: float) -> float:
    """Nearest-rank quantile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def point(run: dict[str, Any], steps: int, candidates: int) -> dict[str, Any]:
    """One row of the results."""
    totals = [w["total"] for w in run["warm"]]
    stages = {s: statistics.median(w.get(s, 0.0) for w in run["warm"]) for s in STAGES}
    return {
        "bundle": run["bundle"],
        "backend": run["backend"],
        "step_file": run["files"]["step"],
        "steps": steps,
        "candidates": candidates,
        "clip_seconds": run["seconds_of_sound"],
        "seconds": statistics.median(totals),
        "p95": quantile(totals, 0.95),
        "cold_seconds": run["cold"]["total"],
        "load_seconds": run["load_seconds"],
        "first_clip_seconds": run["load_seconds"] + run["cold"]["total"],
        "peak_mb": run["peak_mb"],
        "stages": stages,
        "host_share_of_step": stages["host"] / max(stages["host"] + stages["step"], 1e-9),
    }


def table(p: dict[str, Any]) -> str:
    """Stages of one point."""
    lines = [
        f"\n{p['steps']} steps, {p['candidates']} candidates, {p['clip_seconds']:.1f} s clip: "
        f"median {p['seconds']:.2f} s, p95 {p['p95']:.2f} s, peak {p['peak_mb']:.0f} MB; "
        f"import + load {p['load_seconds']:.2f} s, and with a first clip {p['first_clip_seconds']:.2f} s",
        f"{'stage':15} {'seconds':>8} {'share':>7}",
    ]
    for name, seconds in p["stages"].items():
        lines.append(f"{name:15} {seconds:8.3f} {seconds / p['seconds']:7.1%}")
    lines.append(f"host's share of a step: {p['host_share_of_step']:.1%}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--engines", type=Path, help="bundle (default: the shipped one)")
    add("--backend", default="auto", help="backend (default: auto)")
    add("--threads", type=int, default=0, help="CPU threads (default: the backend's choice)")
    add("--clip", type=Path, help="video to use (default: one of 10 s made here)")
    add("--steps", type=int, nargs="+", default=[32], help="step counts (default: 32)")
    add("--candidates", type=int, nargs="+", default=[1], help="candidate counts (default: 1)")
    add("--guidance", type=float, default=3.0, help="guidance (default: 3)")
    add("--repeat", type=int, default=3, help="warm runs of each point (default: 3)")
    add("--out", type=Path, help="also write the JSON to this file")
    add("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        args.steps, args.candidates = args.steps[0], args.candidates[0]
        measure(args)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        if args.clip is None:
            args.clip = Path(folder) / "clip.mp4"
            make_clip(args.clip, 10)
        runs = {(s, c): run_process(args, s, c) for s in args.steps for c in args.candidates}
    points = [point(run, *at) for at, run in runs.items()]
    machine = facts()
    print(f"machine  {machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}")
    print("versions " + ", ".join(f"{k} {v}" for k, v in machine["packages"].items()))
    threads = args.threads or "the backend's choice of"
    print(f"bundle   {points[0]['bundle']} on {points[0]['backend']}, {threads} threads")
    described = next(iter(runs.values()))["card"]
    for name, value in described.items():
        if name != "files":
            print(f"{name:14} {value}")
    for name, entry in described["files"].items():
        print(f"  {name:22} {entry['precision']:6} {entry['bytes'] / 1e6:7.2f} MB")
    for p in points:
        print(table(p))
    result: dict[str, Any] = {"benchmark": "latency", "date": date.today().isoformat(), "machine": machine}
    result |= {"threads": args.threads, "card": described, "results": points}
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def run_process(args: argparse.Namespace, steps: int, candidates: int) -> dict[str, Any]:
    """Measure one point in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.latency", "--measure", "--clip", str(args.clip)]
    command += ["--steps", str(steps), "--candidates", str(candidates), "--guidance", str(args.guidance)]
    command += ["--repeat", str(args.repeat), "--backend", args.backend, "--threads", str(args.threads)]
    if args.engines is not None:
        command += ["--engines", str(args.engines)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return run


if __name__ == "__main__":
    sys.exit(main())
