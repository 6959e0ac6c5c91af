"""The works that the campaign kill9 kills, and what must hold after a kill."""

import hashlib
import importlib
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from engines import plans
from engines.contract import graphs
from runtime import infer
from runtime.audio import write_wav
from tests.campaigns import sandbox
from tests.support.fake_engines import FakeBundle, model, small_config, write_bundle
from tests.support.media import Picture, Sound, clicks, steady, write_video


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Bytes of the files under final names, which are those whose path has no hidden part and no suffix `.part`."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        name = path.relative_to(folder)
        if path.is_file() and not any(p.startswith(".") for p in name.parts) and ".part" not in path.name:
            found[name.as_posix()] = path.read_bytes()
    return found


class Work:
    """Something that writes files. Each run gets the same folder `out` until it has finished."""

    name = ""
    good = 0  # exit status of a run that finished
    modules: tuple[str, ...] = ()  # that every run needs
    always_again = False  # whether every kill is followed by a run that must finish

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.reference: dict[str, bytes] = {}

    def write(self) -> None:
        """Write the inputs, in a forked process: encoders leave threads. Import here what every run needs."""
        for module in self.modules:
            importlib.import_module(module)
        made = sandbox.run(self.make, self.folder / "log", sandbox.Limits(seconds=300))
        if made.status != 0:
            raise SystemExit(f"error: the inputs of {self.name} could not be written:\n{made.output}")

    def make(self) -> int:
        raise NotImplementedError

    def run(self) -> int:
        raise NotImplementedError

    def keep_reference(self) -> None:
        self.reference = self.files()
        shutil.rmtree(self.out)

    def files(self) -> dict[str, bytes]:
        return contents(self.out)

    def begin(self, number: int) -> None:
        """Before a run that may be killed."""

    def whole_group(self, number: int) -> bool:
        return True

    def check(self) -> list[str]:
        """What is wrong after a kill or the end."""
        return [f"{name} is not whole" for name, data in self.files().items() if data != self.reference.get(name)]

    def check_again(self, status: int, says: str, counts: Counter[str]) -> list[str]:
        """What is wrong after the next run, which nobody killed; then a new beginning."""
        faults = [] if status == self.good else [f"the next run ended with {status}: {says}"]
        if self.files() != self.reference:
            faults.append("the next run wrote other files")
        shutil.rmtree(self.out, ignore_errors=True)
        return faults


class Command(Work):
    """The command with all outputs: into an empty folder, over older outputs, and if only its parent is killed."""

    name, always_again = "command", True

    def make(self) -> int:
        picture = Picture(steady(50, 25), 1 / 25)
        write_video(self.folder / "v.mp4", picture, Sound(clicks(88200, 44100)[None], 44100, "aac"))
        write_bundle(self.folder / "bundle", FakeBundle(small_config(), self_test=True))
        return 0

    seed, overwrite = 1, False

    def run(self) -> int:
        self.out.mkdir(exist_ok=True)
        options = ["--mux", f"{self.out / 'o.mp4'}", "--candidates", "3", "--takes", "3"]
        options += ["--report", f"{self.out / 'r.json'}", "-o", f"{self.out / 'o.wav'}", "--seed", f"{self.seed}"]
        options += ["--engines", f"{self.folder / 'bundle'}", "--backend", "cpu", "--steps", "2"]
        sys.argv = ["runtime.infer", f"{self.folder / 'v.mp4'}", *options, *(["--overwrite"] if self.overwrite else [])]
        return infer.process()

    def files(self) -> dict[str, bytes]:
        """Times are left out of the report. A report that cannot be read stays as it is, and is not whole."""
        found = contents(self.out) if self.out.is_dir() else {}
        if "r.json" in found:
            try:
                report = json.loads(found["r.json"])
                kept = {name: report[name] for name in ("takes", "outputs", "rate", "samples", "warnings", "sampling")}
                found["r.json"] = json.dumps(kept, sort_keys=True).encode()
            except (ValueError, KeyError):
                pass
        return found

    def keep_reference(self) -> None:
        self.old = self.folder / "old"
        shutil.copytree(self.out, self.old)
        self.old_files = self.files()
        shutil.rmtree(self.out)
        self.seed = 2
        made = sandbox.run(self.run, self.folder / "log", sandbox.Limits())
        assert made.status == 0, made.output
        super().keep_reference()

    def begin(self, number: int) -> None:
        self.overwrite = number % 3 == 1
        if self.overwrite:
            shutil.copytree(self.old, self.out)

    def whole_group(self, number: int) -> bool:
        return number % 3 != 2

    def check(self) -> list[str]:
        found, ok = self.files(), (self.reference, self.old_files if self.overwrite else {})
        faults = [f"{n} is not whole" for n, data in found.items() if data not in [known.get(n) for known in ok]]
        if self.overwrite and set(found) != set(self.reference):
            faults.append(f"of the older outputs only {sorted(found)} are there")
        return faults

    def check_again(self, status: int, says: str, counts: Counter[str]) -> list[str]:
        if not self.overwrite and status == 1 and "exists; give --overwrite" in says:
            counts["some outputs were there, and the next run said so"] += 1
            self.overwrite = True
            again = sandbox.run(self.run, self.folder / "log", sandbox.Limits())
            status, says = again.status if again.status is not None else -1, again.output
        if list(self.out.glob(".maskvat-*")):
            counts["hidden folders stayed"] += 1
        return super().check_again(status, says, counts)


class Fit(Work):
    """Training a tiny codec. It is killed again and again until it has finished."""

    name, save_every = "fit", 2
    modules = ("train.fit", "train.tasks.codec")

    def make(self) -> int:
        from tests.support.tiny_system import tiny_components, write_system

        write_system(self.folder / "system", {"codec": tiny_components()["codec"]})
        sounds, rng = self.folder / "sounds", np.random.default_rng(0)
        sounds.mkdir()
        names = [f"t{i}.wav" for i in range(4)]
        for name in names:
            write_wav(sounds / name, (0.2 * rng.standard_normal(22050)).astype(np.float32), 44100)
        rows = "".join(f"{name},x,0.5,CC0-1.0,a,b\n" for name in names)
        (sounds / "sounds.csv").write_text("file,label,seconds,licence,author,source\n" + rows)
        task = f'name = "codec"\nsounds = "{sounds}"\nstart = "{self.folder / "system"}"\n'
        sizes = "batch = 1\nframes = 8\nthreads = 1\nvalidation_sounds = 1\n"
        loop = f"steps = 20\nsave_every = {self.save_every}\nvalidate_every = 1000\nlog_every = 1\n"
        (self.folder / "recipe.toml").write_text(f"[task]\n{task}{sizes}[loop]\n{loop}")
        return 0

    def run(self) -> int:
        from train import fit

        return fit.main([str(self.folder / "recipe.toml"), "--out", str(self.out)])

    def files(self) -> dict[str, bytes]:
        """The result and the states: no clock is in them."""
        states = contents(self.out, "state/*/*.safetensors")
        return states | contents(self.out, "system/*") if self.out.is_dir() else {}

    def check(self) -> list[str]:
        from safetensors.torch import load_file

        if not self.out.is_dir():
            return []
        faults = []
        for name in contents(self.out):
            path = self.out / name
            try:
                if path.suffix == ".safetensors":
                    load_file(str(path))
                elif path.suffix == ".json":
                    json.loads(path.read_text())
            except Exception as error:
                faults.append(f"{name} is not whole: {error}")
        steps = [int(p.name) for p in (self.out / "state").glob("[0-9]*")] if (self.out / "state").is_dir() else []
        log = self.out / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        done = max((json.loads(line).get("step", 0) for line in lines if line.endswith("}")), default=0)
        if done - max(steps, default=0) > self.save_every:
            faults.append(f"step {done} was done, and the newest state is of step {max(steps, default=0)}")
        return faults


class Prepare(Work):
    """Preparing shards of a tiny corpus. It is killed again and again until it has finished.

    Every third run has a worker process, and only the parent is killed.
    """

    name, number = "prepare", 0
    modules = ("train.prepare.__main__", "train.prepare.shard_worker")

    def make(self) -> int:
        from tests.support.corpus import video
        from tests.support.tiny_system import tiny_components, write_system

        write_system(self.folder / "system", tiny_components())
        first = video(self.folder / "videos" / "a.mkv")
        for letter in "bcd":
            shutil.copy(first, self.folder / "videos" / f"{letter}.mkv")
        return 0

    def run(self) -> int:
        from tests.support.corpus import HERE
        from train.prepare import __main__ as prepare

        paths = [str(self.folder / "videos"), str(self.folder / "system"), str(self.out)]
        options = ["--source", "folder", "--validation", "1", "--shard-clips", "1", *HERE]
        return prepare.main([*paths, *options, *([] if self.whole_group(self.number) else ["--processes", "1"])])

    def begin(self, number: int) -> None:
        self.number = number

    def whole_group(self, number: int) -> bool:
        return number % 3 != 2


class Plans(Work):
    """Building TensorRT-RTX plans of two tiny graphs, which needs no card. Without the library, a fake builder."""

    name = "plans"

    def make(self) -> int:
        import onnx

        config = small_config()
        for name in ("step", "frame_encoder"):
            onnx.save(model(graphs(config)[name], config), self.folder / f"{name}.onnx")
        return 0

    def run(self) -> int:
        try:
            import tensorrt_rtx  # noqa: F401
        except ImportError:
            _use_the_fake_builder(self.folder)
        config = small_config()
        options = plans.PlanOptions(config, "fp32", cache=self.out, targets=("sm89",), say=print)
        for name in ("step", "frame_encoder"):
            plan = plans.find("rtx", self.folder / f"{name}.onnx", graphs(config)[name], options)
            print(name, plan.kept, plan.built)
        return 0

    def files(self) -> dict[str, bytes]:
        """Which plans are there. The library does not write the same bytes twice, so they are compared in `check`."""
        return {path.name: b"" for path in self.out.glob("*.plan")} if self.out.is_dir() else {}

    def check(self) -> list[str]:
        faults = []
        for about in self.out.glob("*.plan.json"):
            data = about.with_suffix("").read_bytes()
            if hashlib.sha256(data).hexdigest() != json.loads(about.read_text())["sha256"]:
                faults.append(f"{about.name} describes other bytes")
        return faults

    def check_again(self, status: int, says: str, counts: Counter[str]) -> list[str]:
        faults = self.check()
        if not all(f"{name} True False" in says for name in ("step", "frame_encoder")):
            faults.append(f"plans were built again: {says}")
        return faults + super().check_again(status, says, counts)


def _use_the_fake_builder(folder: Path) -> None:
    import os

    from tests.support.fake_builder import module

    os.environ |= {"BUILDS": str(folder / "builds"), "BUILD_SECONDS": "0.05"}
    sys.modules["tensorrt_rtx"] = module()


WORKS: dict[str, type[Work]] = {work.name: work for work in (Command, Fit, Prepare, Plans)}
