"""`python -m export.quantise BUNDLE`: adds step.int8.onnx, made of the bundle's own step, which CPUs then prefer.

What is written is judged before: the tokens that the int8 step draws, given the codes of every step, beside those of
the step that it was made of. The exit code is a verdict: 0 when it is written. What it does to the sound is for
`python -m benchmarks.scenes` to say, with the bundle and a copy of it as two --engines.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engines.base import Engine, Feeds, MaskVATError
from engines.contract import FloatArray, Int32Array, ModelConfig, graphs
from engines.feeds import all_positions
from engines.manifest import BundleFile, Manifest, sha256
from engines.ort import OrtEngine
from engines.selftest import summarise
from export import ExportError
from train.extras import extra

with extra("export", __name__):
    import onnx

    from export.int8 import quantise
    from export.onnx_export import save
    from export.tensorrt import copy_bundle
    from export.verify import (
        GUIDANCE,
        LIMITS,
        Moment,
        Parity,
        Run,
        Trial,
        Trials,
        default_trials,
        moment_feeds,
        recorded,
        step_feeds,
        step_parity,
    )

FILE, PRECISION = "step.int8.onnx", "int8"
SOURCES = ("fp32", "fp16")  # the bundle's steps that it can be made of, the most exact first


@dataclass(frozen=True)
class Options:
    """One run."""

    bundle: Path
    out: Path | None = None


def parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m export.quantise", description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument("--out", type=Path, help="copy the bundle to this new folder and leave BUNDLE as it is")
    return Options(**vars(parser.parse_args(argv)))


@dataclass(frozen=True)
class Result:
    """An int8 step in a folder, and what was measured."""

    files: dict[str, BundleFile]
    parity: Parity
    source: str  # the file that it was made of
    seconds: tuple[float, float]  # of CPU for one step, the source's and its own


# ---------------------------------------------------------------- made and judged
def make(bundle: Path, manifest: Manifest, folder: Path, trials: Trials | None = None) -> Result:
    """Write the int8 step into `folder` and judge it by the bundle's own step, by what the bundle makes of noise."""
    config, table, reader = manifest.config, graphs(manifest.config), "this command"
    source = manifest.file_for("step", SOURCES, reader)
    written = save(quantise(onnx.load(str(bundle / source))), folder / FILE)
    entries = [BundleFile("step", PRECISION, path.stat().st_size, sha256(path)) for path in written]
    files = {
        path.name: entry if path.name == FILE else replace(entry, graph="")
        for path, entry in zip(written, entries, strict=True)
    }
    condition = OrtEngine(bundle / manifest.file_for("condition", SOURCES, reader), table["condition"], "cpu")
    exact, step = (OrtEngine(path, table["step"], "cpu", threads=1) for path in (bundle / source, folder / FILE))
    runs: list[Run] = []
    for trial in trials or default_trials(config):
        feeds = step_feeds(condition.run, config, trial)
        runs.append((feeds, engine_run(exact, feeds, config, trial)))
    parity = step_parity(runs, step, config.mask_token, LIMITS[PRECISION])
    parity = replace(parity, numbers=parity.numbers | {"against": source})
    return Result(files, parity, source, cpu_seconds((exact, step), runs[0], config.mask_token))


def engine_run(engine: Engine, feeds: Feeds, config: ModelConfig, trial: Trial) -> list[Moment]:
    """`recorded` with an exported step, whose conditions are `feeds`."""
    bound = engine.bind(feeds | {"guidance": np.array(GUIDANCE, np.float32)})

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        got = bound.run({"codes": codes, "index": all_positions(codes.shape), "u": u})
        return got["tokens"], got["logp"]

    return recorded(step, config, trial)


def cpu_seconds(engines: tuple[Engine, Engine], run: Run, mask_token: int, repeat: int = 3) -> tuple[float, float]:
    """Least CPU time of a step in the middle of a run; the two take turns."""
    feeds, moments = run
    given = feeds | moment_feeds(moments[len(moments) // 2], mask_token)

    def once(engine: Engine) -> float:
        begin = time.process_time()
        engine.run(given)
        return time.process_time() - begin

    exact, step = zip(*([once(engine) for engine in engines] for _ in range(repeat)), strict=True)
    return min(exact), min(step)


# ---------------------------------------------------------------- the bundle
def merged(manifest: Manifest, result: Result, engine: Engine) -> Manifest:
    """The manifest with the int8 step, in place of one that was there."""
    files = {**without(manifest).files, **result.files}
    parity = {**manifest.parity, "step": {**manifest.parity.get("step", {}), PRECISION: result.parity.numbers}}
    self_test = {**manifest.self_test, **summarise({FILE: engine}, manifest.config)}
    return replace(manifest, files=files, parity=parity, self_test=self_test)


def without(manifest: Manifest) -> Manifest:
    """The manifest without an int8 step."""
    return replace(manifest, files={n: f for n, f in manifest.files.items() if n not in (FILE, f"{FILE}.data")})


def add(bundle: Path, manifest: Manifest, part: Path, result: Result) -> None:
    """Move the files from `part` into the bundle, and list them.

    Whenever this is cut off, the manifest lists what is there: an int8 step that was there is taken off the list first.
    """
    engine = OrtEngine(part / FILE, graphs(manifest.config)["step"], "cpu", threads=1)
    new = merged(manifest, result, engine)
    if FILE in manifest.files:
        without(manifest).save(bundle)
    for name in reversed(result.files):  # the weights beside it first
        os.replace(part / name, bundle / name)
    new.save(bundle)


def run(options: Options) -> bool:
    """Make, judge, print; True where the int8 step is good enough to be written."""
    manifest = Manifest.load(options.bundle)
    out = options.bundle if options.out is None else options.out
    if options.out is not None and out.exists():
        raise ExportError(f"{out} exists; choose a folder that does not, or give it as BUNDLE")
    part = (out if options.out is None else out.parent) / f".{FILE}.part"
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        part.mkdir()
        result = make(options.bundle, manifest, part)
        print(report(result, manifest))
        if result.parity.failures:
            return False
        if options.out is not None:
            copy_bundle(options.bundle, without(manifest), out)
        add(out, manifest, part, result)
    except PermissionError as error:
        raise ExportError(f"{out} cannot be written to ({error}); give --out DIR for a copy of it") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{FILE} is in {out}; CPUs use it from now on")
    return True


def report(result: Result, manifest: Manifest) -> str:
    """What it costs and what it buys."""
    (before, after), numbers = result.seconds, result.parity.numbers
    old, new = manifest.files[result.source].bytes, sum(f.bytes for f in result.files.values())
    rows = {
        "equal tokens, codes given": f"{numbers['tokens_equal']:.2%} of {numbers['tokens_compared']}",
        "CPU time of a step, one thread": f"{after:.3f} s; {before:.3f} s before ({after / before:.2f})",
        "size": f"{new / 1e6:.2f} MB; {old / 1e6:.2f} MB before",
    }
    lines = [f"{FILE} beside {result.source}", *(f"  {name:32} {text}" for name, text in rows.items())]
    return "\n".join([*lines, *result.parity.failures])


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        good = run(options)
    except (MaskVATError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
