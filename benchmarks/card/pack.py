"""Makes the folder that travels to the machine with the GPU: code, wheels, data, states and earlier results.

The folder is a checkout in which `python -m benchmarks.card` runs. What the command needs besides is in its folder
`pack`; pack/pack.json names it. A folder larger than the limit is divided into volumes, FOLDER/1, FOLDER/2, ...: copied
over each other, in any order, they are one folder.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.card import wheels
from benchmarks.card.home import newest_state, unpack
from benchmarks.card.pieces import INDEX, MEGABYTE, cut, files_in, sha256_of, size_of, write_text
from benchmarks.card.store import CARD
from benchmarks.common.machine import ROOT, revision
from engines.manifest import MANIFEST
from runtime.errors import OptionError
from train.fit import read_recipe

LIMIT = 55.0  # megabytes
PIECE_BYTES = 8 * MEGABYTE
BUNDLE = "engines/mini/"
LEFT_HERE = (".png", "plugins/", "benchmarks/results/", "tests/campaigns/", "tests/plugins/")  # not needed there
PATHS = ("data", "validation", "system", "start", "concepts", "sounds", "class_sounds", "clips", "frames",
         "validation_data", "validation_clips", "validation_frames", "metric_weights")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What to pack. `results` is the --out folder of an earlier run."""

    folder: Path
    recipes: dict[str, Path] = field(default_factory=dict)  # by name
    runs: dict[str, Path] = field(default_factory=dict)
    results: Path | None = None
    have: Path | None = None
    python: str = "3.12"
    limit: float = LIMIT  # megabytes of a volume
    volumes: int = 1
    with_bundle: bool = False
    with_wheels: bool = True


@dataclass
class Volumes:
    """Folders that are filled one after the other, each up to a limit in bytes."""

    folder: Path
    limit: int
    count: int
    used: list[int] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)  # of the files that were cut

    def __post_init__(self) -> None:
        self.used = [0] * self.count

    @property
    def room(self) -> int:
        return sum(self.limit - used for used in self.used)

    def place(self, number: int) -> Path:
        return self.folder if self.count == 1 else self.folder / str(number + 1)

    def add(self, source: Path, name: str) -> bool:
        """Copy a file into the first volume with room for it, in pieces if there are several volumes.

        Returns False, and copies nothing, if there is not enough room.
        """
        size = source.stat().st_size
        if self.count == 1 or size <= PIECE_BYTES:
            return self._put([(name, size)], lambda target, _: shutil.copyfile(source, target))
        sizes = [min(PIECE_BYTES, size - n) for n in range(0, size, PIECE_BYTES)]
        names = [f"{name}.piece{n:03}of{len(sizes):03}" for n in range(1, len(sizes) + 1)]
        contents = cut(source, PIECE_BYTES)
        done = self._put(list(zip(names, sizes, strict=True)), lambda target, _: target.write_bytes(next(contents)[1]))
        if done:
            self.hashes[name] = sha256_of(source)
        return done

    def _put(self, files: list[tuple[str, int]], write: Any) -> bool:
        used, places = list(self.used), []
        for _, size in files:
            number = next((n for n in range(self.count) if used[n] + size <= self.limit), None)
            if number is None:
                return False
            used[number] += size
            places.append(number)
        self.used = used
        for (name, size), number in zip(files, places, strict=True):
            target = self.place(number) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, size)
        return True


# ---------------------------------------------------------------- what travels
def code_files(with_bundle: bool) -> list[str]:
    """Files of this checkout that git does not ignore, without what is not needed there. Raises OptionError."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise OptionError(f"--pack needs a git checkout, which says what is code; {ROOT} is none") from error
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    kept = [n for n in names if not any(n.startswith(x) or n.endswith(x) for x in LEFT_HERE)]
    return [n for n in kept if with_bundle or not n.startswith(BUNDLE) or n == BUNDLE + MANIFEST]


def training_files(name: str, recipe: Path, run: Path | None) -> tuple[dict[str, Any], list[tuple[Path, str]]]:
    """A training for pack.json, and its files: (source, name in `pack`).

    All files and folders that the recipe's table [task] names travel. Raises OptionError for one that does not exist.
    """
    base, task = f"train/{name}", read_recipe(recipe, [])["task"]
    training: dict[str, Any] = {"name": name, "recipe": f"{base}/recipe.toml", "set": {}}
    files = [(recipe, training["recipe"])]
    copied: dict[Path, str] = {}
    for key in PATHS:
        if not (text := task.get(key)):
            continue
        source = Path(text).resolve()
        if not source.exists():
            raise OptionError(
                f"{recipe}: task.{key} = {text} does not exist here; give a file or folder of this machine"
            )
        if source not in copied:
            copied[source] = f"{base}/{key}" + ("" if source.is_dir() else source.suffix)
            files += walk(source, copied[source])
        training["set"][f"task.{key}"] = copied[source]
    if run is not None:
        state = newest_state(run)
        if state is None:
            raise OptionError(f"--run {name}={run}: there is no state in {run / 'state'}")
        training["run"] = f"{base}/run"
        files += walk(state, f"{base}/run/state/{state.name}")
        files.append((run / "recipe.json", f"{base}/run/recipe.json"))
    return training, files


def walk(source: Path, name: str) -> Iterator[tuple[Path, str]]:
    """A file, or all files of a folder, each with its name in the pack."""
    if source.is_file():
        yield source, name
    else:
        yield from ((source / file, f"{name}/{file.as_posix()}") for file in files_in(source))


# ---------------------------------------------------------------- the command
def make(options: Options, say: Any = print) -> dict[str, Any]:
    """Write the folder; returns what pack.json says. Raises OptionError if what is needed does not fit."""
    if options.folder.exists() and any(options.folder.iterdir()):
        raise OptionError(f"{options.folder} is not empty; give a new folder")
    if not (options.limit >= 1 and options.volumes >= 1):
        given = f"--pack-limit {options.limit:g} --volumes {options.volumes}"
        raise OptionError(f"{given}: both must be at least 1")
    target = wheels.Target(options.python, wheels.read_have(options.have))
    volumes = Volumes(options.folder, int(options.limit * MEGABYTE) - 200_000, options.volumes)  # and the two tables
    with tempfile.TemporaryDirectory() as scratch:
        needed, trainings = needed_files(options, Path(scratch))
        for source, name in needed:
            if not volumes.add(source, name):
                total = sum(source.stat().st_size for source, _ in needed) / MEGABYTE
                limit = f"--pack-limit {options.limit:g} and --volumes {options.volumes}"
                shutil.rmtree(options.folder, ignore_errors=True)
                raise OptionError(f"{total:.0f} MB do not fit into {limit}; raise one, or prepare fewer clips")
        left_out = add_wheels(target, volumes, Path(scratch), say) if options.with_wheels else []
    files = {n.as_posix(): size_of(p / n) for p in map(volumes.place, range(options.volumes)) for n in files_in(p)}
    values = {"made": date.today().isoformat(), "revision": revision(), "trainings": trainings, "left_out": left_out,
              "python": options.python, "files": files}  # fmt: skip
    for number in range(options.volumes):  # each volume has the tables, so it says what else there is
        write_text(volumes.place(number) / "pack" / "pack.json", json.dumps(values) + "\n")
        write_text(volumes.place(number) / INDEX, json.dumps(volumes.hashes) + "\n")
    say(f"{options.folder}: {sum(volumes.used) / MEGABYTE:.1f} MB in {options.volumes} volumes")
    return values


def needed_files(options: Options, scratch: Path) -> tuple[list[tuple[Path, str]], list[dict[str, Any]]]:
    """All files without which the pack is of no use, and the trainings."""
    files = [(ROOT / name, name) for name in code_files(options.with_bundle)]
    runs, trainings = dict(options.runs), []
    if options.results is not None:
        card, came = unpack(options.results, scratch / "results")
        runs = came | runs
        files.append((card, f"pack/results/{CARD}"))
    for name, recipe in options.recipes.items():
        training, more = training_files(name, recipe, runs.get(name))
        trainings.append(training)
        files += [(source, f"pack/{target}") for source, target in more]
    return files, trainings


def add_wheels(target: wheels.Target, volumes: Volumes, scratch: Path, say: Any) -> list[str]:
    """Download and add wheels while there is room; returns what is left out, one line each."""
    folder, left_out = scratch / "wheels", []
    folder.mkdir()
    for requirement, wheel in wheels.collect(target, folder):
        if wheel is None:
            left_out.append(f"{requirement}: there is no wheel for Python {target.python} on Linux x86-64")
        else:
            size = wheel.stat().st_size / MEGABYTE
            if not volumes.add(wheel, f"pack/wheels/{wheel.name}"):
                left_out.append(f"{wheel.name}: {size:.1f} MB do not fit, {volumes.room / MEGABYTE:.1f} MB are left")
            wheel.unlink()
    for line in left_out:
        say(f"left out: {line}")
    return left_out
