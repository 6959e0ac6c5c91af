"""`python -m tests.campaigns.bundles`: bundles that were damaged or made to do harm.

Every field of the manifest is replaced by values of other types, by paths that leave the folder, and by huge numbers;
ONNX files are damaged; files are replaced by links. Opening such a bundle must end in a ManifestError (or another error
of ours, for an ONNX file whose hash the manifest was made to match), in one line, without a file written anywhere else.
Each case runs in a forked process with limits. The exit status is 1 if a fault was found; the last line is JSON.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from engines.manifest import MANIFEST, sha256
from runtime.bundle import Bundle
from runtime.errors import ManifestError, MaskVATError
from tests.campaigns import report, sandbox
from tests.campaigns.mutate import mutated
from tests.support.fake_engines import FakeBundle, small_config, write_bundle

OPENED, REFUSED, OTHER_ERROR = 0, 1, 2
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 1e308, "", "x" * 10_000, "../../outside", "/etc/passwd", "a\0b", [], {}, [[]], {"a": {}},
)  # fmt: skip
Json = Any


def fields(value: Json, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field of a JSON value."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from fields(inner, (*path, key))


def replaced(value: Json, path: tuple[Any, ...], new: Json) -> Json:
    """A copy with one field replaced; `...` removes it."""
    value = deepcopy(value)
    target = value
    for key in path[:-1]:
        target = target[key]
    if new is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = new
    return value


def manifests(manifest: Json) -> Iterator[tuple[str, Json]]:
    """(what was done, the manifest) for every field and value, and for every file name that leaves the folder."""
    for path in fields(manifest):
        name = ".".join(map(str, path))
        yield f"{name} removed", replaced(manifest, path, ...)
        for value in VALUES:
            yield f"{name} = {str(value)[:20]!r}", replaced(manifest, path, value)
    first = next(iter(manifest["files"]))
    for outside in ("../outside.onnx", "/tmp/outside.onnx", "a/../../outside.onnx", "."):
        moved = deepcopy(manifest)
        moved["files"][outside] = moved["files"].pop(first)
        yield f"files.{outside}", moved


def open_bundle(folder: Path) -> int:
    """Open a bundle and every engine of it."""
    try:
        bundle = Bundle(folder, "cpu")
        for file in bundle.manifest.files.values():
            if file.graph:
                bundle[file.graph]
        _ = bundle.vocabulary
        return OPENED
    except ManifestError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except MaskVATError as error:
        print(f"error: {error}", file=sys.stderr)
        return OTHER_ERROR


def verdict(outcome: sandbox.Outcome, allowed: tuple[int, ...]) -> str:
    """ "opened", "refused", or the name of a fault."""
    if outcome.killed:
        return outcome.killed
    if outcome.status not in (OPENED, REFUSED, OTHER_ERROR) or "Traceback" in outcome.output:
        return "traceback"
    if outcome.status not in allowed:
        return "not a ManifestError"
    if outcome.status == OPENED:
        return "opened"
    errors = [line for line in outcome.output.splitlines() if line.strip()]
    return "refused" if len(errors) == 1 else "error of several lines"


def manifest_cases(good: Path, folder: Path, most: int) -> Iterator[tuple[str, sandbox.Outcome, str]]:
    """Every change of the manifest's JSON, at most `most` of them, evenly."""
    manifest = json.loads((good / MANIFEST).read_text())
    cases = list(manifests(manifest))
    for name, changed in cases[:: max(1, len(cases) // most)]:
        own = Path(shutil.copytree(good, folder / "case"))
        (own / MANIFEST).write_text(json.dumps(changed), encoding="utf-8")
        outcome = sandbox.run(lambda own=own: open_bundle(own), folder / "log", sandbox.Limits())  # type: ignore[misc]
        yield name, outcome, verdict(outcome, (OPENED, REFUSED))
        shutil.rmtree(own)


def file_cases(good: Path, folder: Path, seed: int, count: int) -> Iterator[tuple[str, sandbox.Outcome, str]]:
    """Damaged files. In every second case the manifest is made to match, so that ONNX Runtime reads the file."""
    names = sorted(p.name for p in good.iterdir())
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name, other = names[number % len(names)], names[int(rng.integers(len(names)))]
        own = Path(shutil.copytree(good, folder / "case"))
        data, how = mutated((good / name).read_bytes(), (good / other).read_bytes(), rng)
        (own / name).write_bytes(data)
        matched = name != MANIFEST and bool(rng.random() < 0.5)
        if matched:
            manifest = json.loads((own / MANIFEST).read_text())
            manifest["files"][name] |= {"bytes": len(data), "sha256": sha256(own / name)}
            (own / MANIFEST).write_text(json.dumps(manifest))
        outcome = sandbox.run(lambda own=own: open_bundle(own), folder / "log", sandbox.Limits())  # type: ignore[misc]
        allowed = (OPENED, REFUSED, OTHER_ERROR) if matched else (OPENED, REFUSED)
        yield f"{number}: {name} {how}{' with its hash' if matched else ''}", outcome, verdict(outcome, allowed)
        shutil.rmtree(own)


def link_cases(good: Path, folder: Path) -> Iterator[tuple[str, sandbox.Outcome, str]]:
    """Files of the bundle replaced by links to files outside of it."""
    for name in sorted(p.name for p in good.iterdir() if p.name != MANIFEST):
        own, outside = Path(shutil.copytree(good, folder / "case")), folder / "outside"
        shutil.copy(own / name, outside)
        (own / name).unlink()
        (own / name).symlink_to(outside)
        outcome = sandbox.run(lambda own=own: open_bundle(own), folder / "log", sandbox.Limits())  # type: ignore[misc]
        yield f"{name} is a link", outcome, verdict(outcome, (REFUSED,))
        shutil.rmtree(own)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.bundles", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--fields", type=int, default=100_000, help="most changes of fields (default: all)")
    parser.add_argument("--files", type=int, default=500, help="damaged files (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default: 0)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}", file=sys.stderr)
    counts: Counter[str] = Counter()
    faults, begin = [], time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        good = folder / "good"
        sandbox.run(lambda: _write(good), folder / "log", sandbox.Limits(seconds=120))
        for cases in (
            manifest_cases(good, folder, args.fields),
            file_cases(good, folder, args.seed, args.files),
            link_cases(good, folder),
        ):
            for name, outcome, found in cases:
                counts[found] += 1
                if found not in ("opened", "refused"):
                    last = outcome.output.strip().splitlines()[-1:] or [""]
                    faults.append({"case": name, "fault": found, "says": last[0][:200]})
                    print(f"FAULT {faults[-1]}", file=sys.stderr, flush=True)
    print(f"{len(faults)} faults in {sum(counts.values())} bundles")
    facts = {"seed": args.seed, "cases": sum(counts.values()), "counts": dict(counts), "faults": faults}
    report.finish("bundles", facts | {"seconds": round(time.monotonic() - begin)}, args.out)
    return 1 if faults else 0


def _write(folder: Path) -> int:
    write_bundle(folder, FakeBundle(small_config(), self_test=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
