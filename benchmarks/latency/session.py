"""What `benchmarks.latency` does in which order: floors, points, pairs with PyTorch, quality, shares."""

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
from benchmarks.latency.clip import make_clip
from benchmarks.latency.points import (
    Answer,
    Load,
    Worker,
    WorkerError,
    alternate,
    figures,
    ratios,
    runtime_order,
    torch_order,
)
from benchmarks.latency.step_flops import step_products
from benchmarks.latency.subjects import Subject, precisions, view
from benchmarks.latency.utilisation import computed_on
from benchmarks.latency.worker import COMPILED, EAGER
from engines.manifest import MANIFEST, sha256
from runtime.errors import MaskVATError, OptionError
from runtime.sampling import SamplingConfig

Values = dict[str, Any]
LISTS = ("results", "baselines", "pairs", "floors", "profiles", "notes")
AGREED = 10  # seconds of the clip that token agreement is measured on
# PyTorch as a baseline, by device: name -> what differs from eager fp32 on the CPU
TORCH: dict[str, dict[str, Values]] = {
    "cpu": {"eager": {"kind": EAGER}, "compile": {"kind": COMPILED}},
    "cuda": {
        "eager": {"kind": EAGER},
        "compile": {"kind": COMPILED},
        "compile fp16": {"kind": COMPILED, "dtype": "float16"},
        "compile fp16, sampled on the card": {"kind": COMPILED, "dtype": "float16", "sample_on_host": False},
    },
}


def card_in_torch() -> bool:
    """Whether PyTorch is here and sees an NVIDIA card."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


@dataclass
class Session:
    """One call of the command: its options, its scratch folder, and what has been measured so far."""

    args: argparse.Namespace
    folder: Path
    backends: list[str]
    values: Values = field(default_factory=lambda: {k: [] for k in LISTS} | {"networks": {}, "bundles": {}})
    gflop: dict[str, Values] = field(default_factory=dict)  # of the stages, by size

    @property
    def threads(self) -> int:
        """Of the CPU, ours and PyTorch's. Without --threads the backends choose, ONNX Runtime as many."""
        return int(self.args.threads) or physical_cores()

    @property
    def measured(self) -> bool:
        return any(self.values.get(name) for name in ("results", "pairs", "bars", "profiles"))

    def note(self, text: str) -> None:
        """What was left out, and why: shown at once, and kept with the result."""
        if text not in self.values["notes"]:
            print(f"note: {text}", file=sys.stderr, flush=True)
            self.values["notes"].append(text)

    def networks(self, subject: Subject, twin: Subject | None) -> None:
        """Which bundles and components a size is made of: at base one component may stand in for the paper's."""
        used = {subject.name: subject} | ({f"{subject.name} in pairs": twin} if twin not in (None, subject) else {})
        for name, bundle in used.items():
            assert bundle is not None
            told = {"manifest_sha256": sha256(bundle.bundle / MANIFEST)}  # it holds the hash of every file
            self.values["bundles"][name] = told | {"trained": bundle.trained}
        names = {w["role"]: w["name"] for w in subject.manifest["weights"]}
        self.values["networks"][subject.name] = names
        if subject.name == "base" and "mobilenet" in names["frame_encoder"]:
            self.note("base has MobileNetV2 in place of CLIP, for open_clip does not import here")

    def clip(self, seconds: int) -> Path:
        if self.args.clip is not None:
            return Path(self.args.clip)
        path = self.folder / f"clip{seconds}.mp4"
        if not path.exists():
            make_clip(path, seconds)
        return path

    def request(self, load: Load, mux: bool = False) -> Answer:
        asked: Answer = {"clip": str(self.clip(load.clip_seconds)), "sampling": load.sampling(self.args.guidance)}
        return asked | ({"mux": str(self.folder / "muxed.mp4")} if mux else {})

    def ways(self, subject: Subject) -> Iterator[tuple[str, str]]:
        """Backend and precision, those asked for and found."""
        for backend in self.backends:
            found = [p for p in precisions(subject, backend) if self.args.precision in (None, p)]
            if not found:
                wanted = "" if self.args.precision is None else f" in {self.args.precision}"
                advice = f"; `python -m export.tensorrt {subject.bundle}` writes them" if "tensorrt" in backend else ""
                self.note(f"{subject.name} has no step for backend {backend}{wanted}{advice}")
            yield from ((backend, p) for p in found)

    # ------------------------------------------------------------ floors
    def floors(self, subject: Subject) -> None:
        """The rate of the step's matrix products, at each precision that is computed in."""
        rows = 2 if self.args.guidance else 1
        products = step_products(subject.config, subject.config.window_tokens, rows)
        for backend, precision in self.ways(subject):
            card, computed = computed_on(backend, precision)
            what = {"size": subject.name, "device": "card" if card else "cpu", "precision": computed}
            if any(what.items() <= floor.items() for floor in self.values["floors"]):
                continue
            if card and not card_in_torch():
                self.note(f"no floor for backend {backend}: it is measured through PyTorch, which sees no card here")
                continue
            try:
                measured = roofline.measure(products, computed, self.threads, card)
            except OptionError as error:
                self.note(f"no floor of {subject.name} in {computed}: {error}")
                continue
            found = what | {"products": measured, "gflops": roofline.rate(measured)}
            if not card:
                speed = self.values["machine_floor"]["bandwidth_gb_per_second"]
                found["weights_floor_seconds"] = roofline.weights_seconds(measured, speed)
            self.values["floors"].append(found)

    # ------------------------------------------------------------ points
    def point(self, subject: Subject, backend: str, precision: str, load: Load) -> None:
        """One process: cold, then warm."""
        order = runtime_order(subject.name, view(subject, backend, precision, self.folder), backend, self.args.threads)
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

    def points(self, subject: Subject, loads: list[Load]) -> None:
        for (backend, precision), load in product(list(self.ways(subject)), loads):
            try:
                self.point(subject, backend, precision, load)
            except WorkerError as error:
                self.note(f"{load} on {backend} is left out: {error}")

    # ------------------------------------------------------------ pairs
    def opened(self, stack: ExitStack, orders: list[tuple[Values, Answer]], request: Answer) -> list[Values]:
        """Start the processes and let each make its first clip; one that fails is noted and left out."""
        members = []
        for n, (what, order) in enumerate(orders):
            codes = self.folder / f"codes{n}.npy"
            try:
                worker = stack.enter_context(Worker(order))
                cold = worker.ask(request | {"codes": str(codes)})
            except WorkerError as error:
                self.note(f"left out of the pairs: {error}")
                continue
            members.append({"what": what, "worker": worker, "cold": cold, "codes": np.load(codes)})
        return members

    def pairs(self, subject: Subject, load: Load) -> None:
        """Our precisions and PyTorch's modes, alternating clip by clip; a group per device."""
        assert subject.system is not None
        for device, modes in TORCH.items():
            ours = [(b, p) for b, p in self.ways(subject) if (b == "cpu") == (device == "cpu")]
            if not ours or (device == "cuda" and not card_in_torch()):
                continue
            at = {"size": subject.name, "steps": load.steps, "candidates": 1, "clip_seconds": load.clip_seconds}
            orders: list[tuple[Values, Answer]] = []
            for backend, precision in ours:
                order = runtime_order(
                    subject.name, view(subject, backend, precision, self.folder), backend, self.args.threads
                )
                orders.append((at | {"backend": backend, "precision": precision, "ours": True}, order))
            for name, changes in modes.items():
                if self.args.baselines == "eager" and changes["kind"] != EAGER:
                    continue
                order = torch_order(subject.name, subject.system, self.threads, **{"device": device} | changes)
                precision = {"float16": "fp16"}.get(order["dtype"], "fp32")
                orders.append(
                    (at | {"backend": f"torch {device} {name}", "precision": precision, "ours": False}, order)
                )
            try:
                self._group(orders, load)
            except WorkerError as error:
                self.note(f"pairs of {subject.name} on {device} are left out: {error}")

    def _group(self, orders: list[tuple[Values, Answer]], load: Load) -> None:
        request = self.request(load)
        with ExitStack() as stack:
            members = self.opened(stack, orders, request)
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
    def agreement(self, subject: Subject) -> None:
        """Token agreement with fp32 on the CPU, beside the points whose clip and steps it is measured with."""
        from benchmarks.latency.quality import Reference

        exact = (("cpu", "fp32"), ("cpu", "fp16"))  # a CPU computes both in fp32
        others = [p for p in self.values["results"]
                  if p["size"] == subject.name and (p["backend"], p["precision"]) not in exact]  # fmt: skip
        measured = [p for p in others if p["candidates"] == 1 and (self.args.clip or p["clip_seconds"] == AGREED)]
        if others and not measured:
            self.note(f"no token agreement of {subject.name}: it is measured at points of {AGREED} s and one candidate")
        for steps in sorted({p["steps"] for p in measured}):
            sampling = SamplingConfig(steps=steps, guidance=self.args.guidance)
            reference = Reference(subject, self.clip(AGREED), sampling, self.folder)
            if reference.constant:
                self.note(f"no token agreement of {subject.name} at {steps} steps: its tokens are constant")
            for p in measured:
                if p["steps"] == steps:
                    way = (p["backend"], p["precision"])
                    p["agreement"] = None if reference.constant else reference.agreement(subject, *way)

    def onsets(self, subject: Subject) -> None:
        """Onset F1 of trained bundles, for every pair of steps and candidates."""
        from benchmarks.latency.quality import onset_scores

        if not subject.trained:
            self.note(f"no onset F1 of {subject.name}: its weights are random")
            return
        for backend, precision in self.ways(subject):
            points = [p for p in self.values["results"]
                      if (p["size"], p["backend"], p["precision"]) == (subject.name, backend, precision)]  # fmt: skip
            asked = sorted({(p["steps"], p["candidates"]) for p in points})
            options = [{"steps": s, "candidates": c, "guidance": self.args.guidance} for s, c in asked]
            bundle = view(subject, backend, precision, self.folder)
            found = onset_scores(bundle, backend, self.args.clips, self.args.clips_limit, options)
            scores = dict(zip(asked, found, strict=True))
            for p in points:
                p["onset_f1"] = scores[p["steps"], p["candidates"]]

    def quality(self, subject: Subject) -> None:
        try:
            self.agreement(subject)
            if self.args.clips is not None:
                self.onsets(subject)
        except MaskVATError as error:
            self.note(f"quality of {subject.name} is incomplete: {error}")

    def profiles(self, subject: Subject) -> None:
        """A step's operators on the CPU, at every precision that is not known yet."""
        from benchmarks.latency.op_profile import step_profile

        for backend, precision in self.ways(subject):
            what = {"size": subject.name, "precision": precision}
            if backend != "cpu" or any(what.items() <= known.items() for known in self.values["profiles"]):
                continue
            bundle = view(subject, backend, precision, self.folder)
            try:
                rows = step_profile(bundle, self.clip(AGREED), self.args.guidance, self.threads, self.folder)
            except MaskVATError as error:
                self.note(f"no profile of {subject.name} in {precision}: {error}")
                continue
            self.values["profiles"].append(what | {"operators": rows})
