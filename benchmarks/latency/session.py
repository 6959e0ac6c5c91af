"""One run of benchmarks.latency: measures floors, points, pairs with PyTorch, quality and profiles."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.machine import physical_cores
from benchmarks.latency import roofline
from benchmarks.latency.points import (
    Answer,
    Worker,
    WorkerError,
    Workload,
    alternate,
    figures,
    ratios,
    runtime_order,
    torch_order,
)
from benchmarks.latency.step_flops import step_products
from benchmarks.latency.subjects import Subject, precisions, select_precision
from benchmarks.latency.utilisation import computed_on
from benchmarks.latency.video import write_video
from benchmarks.latency.worker import COMPILED, EAGER
from engines.manifest import MANIFEST, sha256
from runtime.errors import MaskVATError, OptionError
from runtime.sampling import SamplingConfig

Values = dict[str, Any]
LISTS = ("results", "baselines", "pairs", "floors", "profiles", "notes")
AGREEMENT_SECONDS = 10  # length in seconds of the video for token agreement
# PyTorch baselines by device: name -> settings that differ from eager fp32 on the CPU
TORCH_MODES: dict[str, dict[str, Values]] = {
    "cpu": {"eager": {"kind": EAGER}, "compile": {"kind": COMPILED}},
    "cuda": {
        "eager": {"kind": EAGER},
        "compile": {"kind": COMPILED},
        "compile fp16": {"kind": COMPILED, "dtype": "float16"},
        "compile fp16, sampled on the card": {"kind": COMPILED, "dtype": "float16", "sample_on_host": False},
        "max-autotune fp16, sampled on the card": {
            "kind": COMPILED,
            "dtype": "float16",
            "sample_on_host": False,
            "tuned": True,
        },
    },
}


def card_in_torch() -> bool:
    """Whether PyTorch is installed and sees an NVIDIA GPU."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@dataclass
class Session:
    """One run of the command: its options, a scratch folder, and the values measured so far."""

    args: argparse.Namespace
    folder: Path
    backends: list[str]
    values: Values = field(default_factory=lambda: {k: [] for k in LISTS} | {"networks": {}, "bundles": {}})
    gflop: dict[str, Values] = field(default_factory=dict)  # size -> GFLOP of each stage

    @property
    def threads(self) -> int:
        """CPU threads of PyTorch, and of MaskVAT: the default of ONNX Runtime is the number of physical cores, too."""
        return int(self.args.threads) or physical_cores()

    @property
    def measured(self) -> bool:
        return any(self.values.get(name) for name in ("results", "pairs", "bars", "first_sound", "at_once", "profiles"))

    def note(self, text: str) -> None:
        """Report once what was left out and why, on stderr and in the result."""
        if text not in self.values["notes"]:
            print(f"note: {text}", file=sys.stderr, flush=True)
            self.values["notes"].append(text)

    def record_networks(self, subject: Subject, twin: Subject | None) -> None:
        """Record the bundles and components of a size. At size base, MobileNetV2 may replace CLIP."""
        used = {subject.name: subject} | ({f"{subject.name} in pairs": twin} if twin not in (None, subject) else {})
        for name, bundle in used.items():
            assert bundle is not None
            identity = {"manifest_sha256": sha256(bundle.bundle / MANIFEST)}  # the manifest has the hash of every file
            self.values["bundles"][name] = identity | {"trained": bundle.trained}
        names = {w["role"]: w["name"] for w in subject.manifest["weights"]}
        self.values["networks"][subject.name] = names
        if subject.name == "base" and "mobilenet" in names["frame_encoder"]:
            self.note("size base has MobileNetV2 instead of CLIP, because open_clip cannot be imported")

    def video(self, seconds: int) -> Path:
        if self.args.clip is not None:
            return Path(self.args.clip)
        path = self.folder / f"video{seconds}.mp4"
        if not path.exists():
            write_video(path, seconds)
        return path

    def request(self, load: Workload, mux: bool = False) -> Answer:
        request: Answer = {"video": str(self.video(load.clip_seconds)), "sampling": load.sampling(self.args.guidance)}
        return request | ({"mux": str(self.folder / "muxed.mp4")} if mux else {})

    def backend_precisions(self, subject: Subject) -> Iterator[tuple[str, str]]:
        """The requested backends and precisions that the bundle has."""
        for backend in self.backends:
            available = [p for p in precisions(subject, backend) if self.args.precision in (None, p)]
            if not available:
                wanted = "" if self.args.precision is None else f" in {self.args.precision}"
                advice = f"; `python -m export.tensorrt {subject.bundle}` builds them" if "tensorrt" in backend else ""
                self.note(f"{subject.name} has no step graph for backend {backend}{wanted}{advice}")
            yield from ((backend, p) for p in available)

    # ------------------------------------------------------------ floors
    def measure_floors(self, subject: Subject) -> None:
        """Measure the rate of the step's matrix products in every precision that the backends compute in."""
        rows = 2 if self.args.guidance else 1
        products = step_products(subject.config, subject.config.window_tokens, rows)
        for backend, precision in self.backend_precisions(subject):
            card, computed = computed_on(backend, precision)
            point = {"size": subject.name, "device": "card" if card else "cpu", "precision": computed}
            if any(point.items() <= floor.items() for floor in self.values["floors"]):
                continue
            if card and not card_in_torch():
                self.note(f"no floor for backend {backend}: PyTorch, which measures it, sees no GPU")
                continue
            try:
                measured = roofline.measure(products, computed, self.threads, card)
            except OptionError as error:
                self.note(f"no floor for {subject.name} in {computed}: {error}")
                continue
            floor_row = point | {"products": measured, "gflops": roofline.rate(measured)}
            speed = self.values["machine_floor"].get(f"{'card_' if card else ''}bandwidth_gb_per_second")
            if speed:
                floor_row["weights_floor_seconds"] = roofline.weights_seconds(measured, speed)
            self.values["floors"].append(floor_row)

    # ------------------------------------------------------------ points
    def measure_point(self, subject: Subject, backend: str, precision: str, load: Workload) -> None:
        """Measure one point in a new process: first cold, then warm."""
        order = runtime_order(
            subject.name, select_precision(subject, backend, precision, self.folder), backend, self.args.threads
        )
        request = self.request(load, mux=True)
        with Worker(order) as worker:
            cold = worker.ask(request)
            (warm,) = alternate([worker], [request], self.args.repeat, self.args.limit)
            measured = figures(worker.loaded, cold, warm)
        what = {"size": subject.name, "backend": backend, "precision": precision, "steps": load.steps}
        what |= {"candidates": load.candidates, "clip_seconds": load.clip_seconds, "trained": subject.trained}
        if self.args.clip is not None:
            what["clip_seconds"] = round(measured["sound_seconds"], 1)
        self.values["results"].append(what | measured)
        print(f"{subject.name} {backend} {precision} {load}: {measured['seconds']:.2f} s", file=sys.stderr, flush=True)

    def measure_points(self, subject: Subject, loads: list[Workload]) -> None:
        for (backend, precision), load in product(list(self.backend_precisions(subject)), loads):
            try:
                self.measure_point(subject, backend, precision, load)
            except WorkerError as error:
                self.note(f"{load} on {backend} was skipped: {error}")

    # ------------------------------------------------------------ pairs
    def start_workers(self, stack: ExitStack, orders: list[tuple[Values, Answer]], request: Answer) -> list[Values]:
        """Start the processes, and let each generate its first sound. A process that fails is reported and skipped."""
        members = []
        for n, (what, order) in enumerate(orders):
            codes = self.folder / f"codes{n}.npy"
            try:
                worker = stack.enter_context(Worker(order))
                cold = worker.ask(request | {"codes": str(codes)})
            except WorkerError as error:
                self.note(f"skipped in the pairs: {error}")
                continue
            members.append({"what": what, "worker": worker, "cold": cold, "codes": np.load(codes)})
        return members

    def measure_pairs(self, subject: Subject, load: Workload) -> None:
        """Measure our precisions and PyTorch's modes in turn, clip by clip; one group per device."""
        assert subject.system is not None
        for device, modes in TORCH_MODES.items():
            ours = [(b, p) for b, p in self.backend_precisions(subject) if (b == "cpu") == (device == "cpu")]
            if not ours or (device == "cuda" and not card_in_torch()):
                continue
            point = {"size": subject.name, "steps": load.steps, "candidates": 1, "clip_seconds": load.clip_seconds}
            orders: list[tuple[Values, Answer]] = []
            for backend, precision in ours:
                order = runtime_order(
                    subject.name, select_precision(subject, backend, precision, self.folder), backend, self.args.threads
                )
                orders.append((point | {"backend": backend, "precision": precision, "ours": True}, order))
            for name, changes in modes.items():
                if self.args.baselines == "eager" and changes["kind"] != EAGER:
                    continue
                order = torch_order(subject.name, subject.system, self.threads, **{"device": device} | changes)
                precision = {"float16": "fp16"}.get(order["dtype"], "fp32")
                orders.append(
                    (point | {"backend": f"torch {device} {name}", "precision": precision, "ours": False}, order)
                )
            try:
                self._measure_group(orders, load)
            except WorkerError as error:
                self.note(f"pairs of {subject.name} on {device} were skipped: {error}")

    def _measure_group(self, orders: list[tuple[Values, Answer]], load: Workload) -> None:
        request = self.request(load)
        with ExitStack() as stack:
            members = self.start_workers(stack, orders, request)
            workers = [m["worker"] for m in members]
            answers = alternate(workers, [request] * len(workers), self.args.repeat, self.args.limit * len(workers))
        exact = next((m["codes"] for m in members if m["what"]["ours"] and m["what"]["precision"] != "int8"), None)
        entries = []
        for member, warm in zip(members, answers, strict=True):
            entry = member["what"] | figures(member["worker"].loaded, member["cold"], warm)
            entry["tokens_equal"] = None if exact is None else float((member["codes"] == exact).mean())
            entries.append(entry)
        self.values["baselines"] += entries
        for i, j in product(range(len(entries)), repeat=2):
            if entries[i]["ours"] and not entries[j]["ours"]:
                names = ("backend", "precision", "seconds", "peak_mb")
                sides = [{k: entries[n][k] for k in names} for n in (i, j)]
                row = {"size": entries[i]["size"], "steps": load.steps, "ours": sides[0], "theirs": sides[1]}
                self.values["pairs"].append(row | ratios(answers[i], answers[j]))

    # ------------------------------------------------------------ quality
    def measure_agreement(self, subject: Subject) -> None:
        """Measure token agreement with fp32 on the CPU, for points with one candidate on the agreement video."""
        from benchmarks.latency.quality import Reference

        exact = (("cpu", "fp32"), ("cpu", "fp16"))  # CPUs compute both in fp32
        others = [p for p in self.values["results"]
                  if p["size"] == subject.name and (p["backend"], p["precision"]) not in exact]  # fmt: skip
        measured = [
            p for p in others if p["candidates"] == 1 and (self.args.clip or p["clip_seconds"] == AGREEMENT_SECONDS)
        ]
        if others and not measured:
            self.note(
                f"no token agreement for {subject.name}: it needs points with {AGREEMENT_SECONDS} s and one candidate"
            )
        for steps in sorted({p["steps"] for p in measured}):
            sampling = SamplingConfig(steps=steps, guidance=self.args.guidance)
            reference = Reference(subject, self.video(AGREEMENT_SECONDS), sampling, self.folder)
            if reference.constant:
                self.note(f"no token agreement for {subject.name} at {steps} steps: its tokens are constant")
            for p in measured:
                if p["steps"] == steps:
                    agreement = (
                        None if reference.constant else reference.agreement(subject, p["backend"], p["precision"])
                    )
                    p["agreement"] = agreement

    def measure_onsets(self, subject: Subject) -> None:
        """Measure onset F1 of a trained bundle, for every combination of steps and candidates."""
        from benchmarks.latency.quality import onset_scores

        if not subject.trained:
            self.note(f"no onset F1 for {subject.name}: its weights are random")
            return
        for backend, precision in self.backend_precisions(subject):
            points = [p for p in self.values["results"]
                      if (p["size"], p["backend"], p["precision"]) == (subject.name, backend, precision)]  # fmt: skip
            combinations = sorted({(p["steps"], p["candidates"]) for p in points})
            options = [{"steps": s, "candidates": c, "guidance": self.args.guidance} for s, c in combinations]
            bundle = select_precision(subject, backend, precision, self.folder)
            found = onset_scores(bundle, backend, self.args.clips, self.args.clips_limit, options)
            scores = dict(zip(combinations, found, strict=True))
            for p in points:
                p["onset_f1"] = scores[p["steps"], p["candidates"]]

    def measure_quality(self, subject: Subject) -> None:
        """Measure token agreement, and with --clips onset F1."""
        try:
            self.measure_agreement(subject)
            if self.args.clips is not None:
                self.measure_onsets(subject)
        except MaskVATError as error:
            self.note(f"the quality of {subject.name} is incomplete: {error}")
