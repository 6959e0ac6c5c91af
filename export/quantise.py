"""Add an int8 step to a bundle. CPUs with fast int8 use it from then on.

    python -m export.quantise BUNDLE

The int8 step is made from the step of the bundle and compared with it first: both get the same codes in every step, and
the share of equal tokens is counted. It is not written if that share is so low that the graph must be broken. The exit
status is 0 if it was written. Measure the effect on the sound with:

    python -m benchmarks.scenes CLIPS --precision fp16 --precision int8
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

from engines.base import Engine, Feeds
from engines.contract import FloatArray, Int32Array, ModelConfig, graphs
from engines.feeds import all_positions
from engines.manifest import BundleFile, Manifest, sha256
from engines.ort import OrtEngine
from engines.selftest import summarise
from engines.typed import SOURCES
from export import ExportError
from runtime.errors import MaskVATError
from train.extras import requires_extra

with requires_extra("export", __name__):
    from export import verify
    from export.int8 import quantise
    from export.onnx_export import load, save
    from export.tensorrt import copy_bundle

FILE, PRECISION = "step.int8.onnx", "int8"


@dataclass(frozen=True)
class Result:
    """The files of an int8 step, and its measurements."""

    files: dict[str, BundleFile]
    parity: verify.Parity
    source: str  # the file that it was made from
    seconds: tuple[float, float]  # CPU seconds of one step: of the source, and of the int8 step


# ---------------------------------------------------------------- make and compare
def make(bundle: Path, manifest: Manifest, folder: Path, trials: verify.Trials | None = None) -> Result:
    """Write the int8 step into `folder`, and compare it with the step of the bundle on random features."""
    config, table, reader = manifest.config, graphs(manifest.config), "this command"
    source = manifest.file_for("step", SOURCES, reader)
    written = save(quantise(load(bundle / source)), folder / FILE)
    entries = [BundleFile("step", PRECISION, path.stat().st_size, sha256(path)) for path in written]
    files = {
        path.name: entry if path.name == FILE else replace(entry, graph="")
        for path, entry in zip(written, entries, strict=True)
    }
    condition = OrtEngine(bundle / manifest.file_for("condition", SOURCES, reader), table["condition"], "cpu")
    exact, step = (OrtEngine(path, table["step"], "cpu", threads=1) for path in (bundle / source, folder / FILE))
    runs: list[verify.Run] = []
    for trial in trials or verify.default_trials(config):
        feeds = verify.step_feeds(condition.run, config, trial)
        runs.append((feeds, engine_run(exact, feeds, config, trial)))
    parity = verify.step_parity(runs, step, config.mask_token, verify.LIMITS[PRECISION])
    parity = replace(parity, numbers=parity.numbers | {"against": source})
    return Result(files, parity, source, cpu_seconds((exact, step), runs[0], config.mask_token))


def engine_run(engine: Engine, feeds: Feeds, config: ModelConfig, trial: verify.Trial) -> list[verify.StepRecord]:
    """`record_run` with an exported step and the conditions `feeds`."""
    bound = engine.bind(feeds | {"guidance": np.array(verify.GUIDANCE, np.float32)})

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        got = bound.run({"codes": codes, "index": all_positions(codes.shape), "u": u})
        return got["tokens"], got["logp"]

    return verify.record_run(step, config, trial)


def cpu_seconds(
    engines: tuple[Engine, Engine], run: verify.Run, mask_token: int, repeat: int = 3
) -> tuple[float, float]:
    """Least CPU seconds of a step in the middle of a run, for two engines that take turns."""
    feeds, records = run
    given = feeds | verify.record_feeds(records[len(records) // 2], mask_token)

    def once(engine: Engine) -> float:
        begin = time.process_time()
        engine.run(given)
        return time.process_time() - begin

    exact, step = zip(*([once(engine) for engine in engines] for _ in range(repeat)), strict=True)
    return min(exact), min(step)


# ---------------------------------------------------------------- the bundle
def without_int8(manifest: Manifest) -> Manifest:
    return replace(manifest, files={n: f for n, f in manifest.files.items() if f.precision != PRECISION})


def add(bundle: Path, manifest: Manifest, part: Path, result: Result) -> None:
    """Move the files from `part` into the bundle, and add them to the manifest.

    The manifest is correct even if this is interrupted, because an old int8 step is first removed from it.
    """
    before = without_int8(manifest)
    step = OrtEngine(part / FILE, graphs(manifest.config)["step"], "cpu", threads=1)
    numbers = {**manifest.parity.get("step", {}), PRECISION: result.parity.numbers}
    after = replace(
        before,
        files={**before.files, **result.files},
        parity={**manifest.parity, "step": numbers},
        self_test={**manifest.self_test, **summarise({FILE: step}, manifest.config)},
    )
    if before.files != manifest.files:
        before.save(bundle)
    for name in reversed(result.files):  # external weights first
        os.replace(part / name, bundle / name)
    after.save(bundle)


def run(bundle: Path, out: Path | None) -> None:
    """Make the int8 step, compare it, print the result, and write it. Raises MaskVATError if the graph is broken."""
    manifest = Manifest.load(bundle)
    if out is not None and (out.exists() or not out.parent.is_dir()):
        reason = "already exists" if out.exists() else "is in a folder that does not exist"
        raise ExportError(f"{out} {reason}; give --out a new folder inside an existing one")
    target = bundle if out is None else out
    part = (bundle if out is None else out.parent) / f".{FILE}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)  # left by a killed process
        part.mkdir()
        result = make(bundle, manifest, part)
        print(report(result, manifest))
        if result.parity.failures:
            raise ExportError(f"{FILE} is not written: {'; '.join(result.parity.failures)}; the int8 graph is broken")
        if out is not None:
            copy_bundle(bundle, without_int8(manifest), out)
        add(target, manifest, part, result)
    except PermissionError as error:
        raise ExportError(f"{target} cannot be written to ({error}); use --out DIR to write a copy of it") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{FILE} was added to {target}; CPUs with fast int8 now use it (--precision selects another step)")


def report(result: Result, manifest: Manifest) -> str:
    """A table of agreement, CPU time and size."""
    (before, after), numbers = result.seconds, result.parity.numbers
    old, new = manifest.files[result.source].bytes, sum(f.bytes for f in result.files.values())
    rows = {
        "equal tokens, teacher-forced": f"{numbers['tokens_equal']:.2%} of {numbers['tokens_compared']}",
        "CPU time of a step, one thread": f"{after:.3f} s; {before:.3f} s before ({after / before:.2f})",
        "size": f"{new / 1e6:.2f} MB; {old / 1e6:.2f} MB before",
    }
    return "\n".join([f"{FILE} compared with {result.source}", *(f"  {name:32} {text}" for name, text in rows.items())])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m export.quantise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument(
        "--out", type=Path, help="write to a copy of the bundle in this new folder, and leave BUNDLE unchanged"
    )
    args = parser.parse_args(argv)
    try:
        run(args.bundle, args.out)
    except (MaskVATError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
