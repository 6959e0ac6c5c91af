"""`python -m export.quantise BUNDLE`: adds step.int8.onnx, made of its own step; CPUs with fast int8 then prefer it.

What is written is judged before: the tokens that the int8 step draws, given the codes of every step, beside those of
the step that it was made of. The exit code is a verdict: 0 when it is written. What it does to the sound is for
`python -m benchmarks.scenes --precision fp16 --precision int8` to say.
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
    import onnx

    from export import verify
    from export.int8 import quantise
    from export.onnx_export import save
    from export.tensorrt import copy_bundle

FILE, PRECISION = "step.int8.onnx", "int8"


@dataclass(frozen=True)
class Result:
    """An int8 step in a folder, and what was measured."""

    files: dict[str, BundleFile]
    parity: verify.Parity
    source: str  # the file that it was made of
    seconds: tuple[float, float]  # of CPU for one step, the source's and its own


# ---------------------------------------------------------------- made and judged
def make(bundle: Path, manifest: Manifest, folder: Path, trials: verify.Trials | None = None) -> Result:
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
    runs: list[verify.Run] = []
    for trial in trials or verify.default_trials(config):
        feeds = verify.step_feeds(condition.run, config, trial)
        runs.append((feeds, engine_run(exact, feeds, config, trial)))
    parity = verify.step_parity(runs, step, config.mask_token, verify.LIMITS[PRECISION])
    parity = replace(parity, numbers=parity.numbers | {"against": source})
    return Result(files, parity, source, cpu_seconds((exact, step), runs[0], config.mask_token))


def engine_run(engine: Engine, feeds: Feeds, config: ModelConfig, trial: verify.Trial) -> list[verify.Moment]:
    """`recorded` with an exported step, whose conditions are `feeds`."""
    bound = engine.bind(feeds | {"guidance": np.array(verify.GUIDANCE, np.float32)})

    def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
        got = bound.run({"codes": codes, "index": all_positions(codes.shape), "u": u})
        return got["tokens"], got["logp"]

    return verify.recorded(step, config, trial)


def cpu_seconds(
    engines: tuple[Engine, Engine], run: verify.Run, mask_token: int, repeat: int = 3
) -> tuple[float, float]:
    """Least CPU time of a step in the middle of a run; the two take turns."""
    feeds, moments = run
    given = feeds | verify.moment_feeds(moments[len(moments) // 2], mask_token)

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
    """Move the files from `part` into the bundle, and list them.

    Whenever this is cut off, the manifest lists what is there: an int8 step that was there is taken off the list first.
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
    for name in reversed(result.files):  # the weights beside it first
        os.replace(part / name, bundle / name)
    after.save(bundle)


def run(bundle: Path, out: Path | None) -> None:
    """Make, judge, print, and write where it is good enough. Raises MaskVATError."""
    manifest = Manifest.load(bundle)
    if out is not None and (out.exists() or not out.parent.is_dir()):
        reason = "exists" if out.exists() else "is in a folder that does not"
        raise ExportError(f"{out} {reason}; --out takes a new folder in one that exists")
    target = bundle if out is None else out
    part = (bundle if out is None else out.parent) / f".{FILE}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir()
        result = make(bundle, manifest, part)
        print(report(result, manifest))
        if result.parity.failures:
            raise ExportError(f"{FILE} is not written: {'; '.join(result.parity.failures)}; this graph is broken")
        if out is not None:
            copy_bundle(bundle, without_int8(manifest), out)
        add(target, manifest, part, result)
    except PermissionError as error:
        raise ExportError(f"{target} cannot be written to ({error}); give --out DIR for a copy of it") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{FILE} is in {target}: CPUs that are fast at int8 use it from now on (--precision has the choice)")


def report(result: Result, manifest: Manifest) -> str:
    """What it costs and what it buys."""
    (before, after), numbers = result.seconds, result.parity.numbers
    old, new = manifest.files[result.source].bytes, sum(f.bytes for f in result.files.values())
    rows = {
        "equal tokens, codes given": f"{numbers['tokens_equal']:.2%} of {numbers['tokens_compared']}",
        "CPU time of a step, one thread": f"{after:.3f} s; {before:.3f} s before ({after / before:.2f})",
        "size": f"{new / 1e6:.2f} MB; {old / 1e6:.2f} MB before",
    }
    return "\n".join([f"{FILE} beside {result.source}", *(f"  {name:32} {text}" for name, text in rows.items())])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.quantise", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("bundle", type=Path, help="folder of a bundle")
    parser.add_argument("--out", type=Path, help="copy the bundle to this new folder and leave BUNDLE as it is")
    args = parser.parse_args(argv)
    try:
        run(args.bundle, args.out)
    except (MaskVATError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
