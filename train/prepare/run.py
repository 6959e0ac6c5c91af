"""Prepares a data set as shards: chooses the splits, makes the shards in many processes, writes manifest and report.

`prepare` is the whole run, read from top to bottom. docs/DATA.md describes the files.
"""

import hashlib
import json
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engines.contract import ModelConfig
from runtime.errors import MediaError, OptionError
from train.checkpoint import PREPARED_ARRAYS, encoding_sha256, read_meta, system_config
from train.data.shard_files import BAD, FORMAT, SPLITS, ShardInfo, Store, unpack, write_index
from train.errors import CheckpointError, ShardError
from train.models.loading import file_sha256
from train.prepare import workers
from train.prepare.clip_lists import choose
from train.prepare.features import load_components
from train.prepare.filters import UNREADABLE, Filters
from train.prepare.shard_worker import ShardSettings, make_shard, usable
from train.prepare.sources import SOURCES, Clip, Excluded, Files, rank, stratified

PREPROCESSING = 1  # Raise it when the same file would give other arrays.
VALIDATION = {"vggsound": 535}  # clips (paper, section 4); other sources: 1 in 20, at least one
TEST = {"music21": 103}  # videos (paper, section 4)
PER_CHECK = 8  # clips that one task reads to check whether they are usable
INCOMPLETE = 3  # exit status if shards were written but some files could not be read


@dataclass(frozen=True)
class PrepareJob:
    """What a run makes: the settings that decide the content of the shards, and the clips of each split."""

    settings: dict[str, Any]
    splits: dict[str, list[str]]  # names of clips, in the order of the shards

    def shards(self) -> Iterator[tuple[str, str, list[str]]]:
        """(name, split, clips) of every shard."""
        size = self.settings["shard_clips"]
        for split in SPLITS:
            names = self.splits[split]
            for number, first in enumerate(range(0, len(names), size)):
                yield f"{split}-{number:05d}", split, names[first : first + size]


# ---------------------------------------------------------------- plan
def find_clips(args: Namespace) -> tuple[list[Clip], list[Excluded]]:
    """The clips that have files and pass the lists, and the clips that are left out.

    Raises OptionError without a table, MediaError if no clip has a file.
    """
    if args.source != "folder" and args.table is None:
        raise OptionError(f"--source {args.source} needs its list: --table FILE")
    clips, excluded = SOURCES[args.source](Files(args.videos), args.table)
    if not clips:
        first = f", first {excluded[0].clip}: {excluded[0].detail}" if excluded else ""
        raise MediaError(f"{args.videos} holds none of the {len(excluded)} clips of {args.table}{first}")
    kept, unwanted = choose(clips, args.only, args.without)
    return kept, excluded + unwanted


def settings_of(args: Namespace, config: ModelConfig, clips: Sequence[Clip]) -> dict[str, Any]:
    """Everything that decides the content of the shards."""
    known = read_meta(args.system)["components"]
    names = hashlib.sha256("\n".join(sorted(clip.id for clip in clips)).encode()).hexdigest()
    return {
        "format": FORMAT,
        "preprocessing": PREPROCESSING,
        "source": args.source,
        "table": None if args.table is None else file_sha256(args.table),
        "clips": {"count": len(clips), "sha256": names},
        "seed": args.seed,
        "validation": args.validation,
        "test": args.test,
        "shard_clips": args.shard_clips,
        "audio_bands": args.audio_bands,
        "filters": asdict(filters_of(args)),
        "components": {name: encoding_sha256(args.system, name) for name in PREPARED_ARRAYS if name in known},
        "config": {k: v for k, v in config.to_dict().items() if k.startswith(("clip_", "sync_", "audio_", "window_"))}
        | {k: getattr(config, k) for k in ("sample_rate", "hop_length", "n_codebooks", "codebook_size")},
    }


def filters_of(args: Namespace) -> Filters:
    """The filters that the options set."""
    return Filters(**{name: getattr(args, name) for name in Filters.__dataclass_fields__})


def digest(value: Any) -> str:
    """The sha256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_settings(before: dict[str, Any], now: dict[str, Any], url: str) -> None:
    """Raises OptionError if the shards at `url` were started with other settings."""
    changed = [k for k in now if before.get(k) != now[k]]
    if changed:
        words = "; ".join(f"{k} was {json.dumps(before.get(k))[:90]}, is {json.dumps(now[k])[:90]}" for k in changed)
        raise OptionError(f"{url} was started with other settings ({words}); use the same ones, or another folder")


def hold_out_test(args: Namespace, clips: list[Clip]) -> list[Clip]:
    """Mark the test clips: those of the table, or --test videos of the whole list, drawn by class and seed."""
    if args.source == "vggsound":
        return clips
    count = TEST.get(args.source, 0) if args.test is None else args.test
    strata: dict[str, list[str]] = {}
    for name, label in videos_of(args, clips):
        strata.setdefault(label, []).append(name)
    chosen = stratified(strata, min(count, sum(map(len, strata.values()))), args.seed)
    return [replace(clip, split="test" if clip.video in chosen else "train") for clip in clips]


def videos_of(args: Namespace, clips: Sequence[Clip]) -> list[tuple[str, str]]:
    """(video, label) of the whole list. The split must not depend on which files are present."""
    if args.source == "music21":
        videos = json.loads(args.table.read_text(encoding="utf-8"))["videos"]
        return sorted({video: label for label, ids in videos.items() for video in ids}.items())
    return sorted({clip.video: clip.label for clip in clips}.items())


def validation_clips(
    settings: ShardSettings, clips: Sequence[Clip], count: int, seed: int, pool: workers.Workers
) -> list[str]:
    """The first `count` usable training clips in the order of the seed. They are read, but not encoded."""
    order, chosen = sorted(clips, key=lambda clip: rank(seed, clip.id)), []
    while order and len(chosen) < count:
        block, order = order[: count - len(chosen)], order[count - len(chosen) :]
        tasks = [(settings, block[i : i + PER_CHECK]) for i in range(0, len(block), PER_CHECK)]
        results = dict(workers.run(usable, tasks, pool))
        for number, (_, part) in enumerate(tasks):
            verdicts = results[number]
            if isinstance(verdicts, Exception):
                print(f"not checked {part[0].id} and {len(part) - 1} others: {verdicts}", file=sys.stderr)
                continue
            chosen += [clip.id for clip, good in zip(part, verdicts, strict=True) if good]
    return chosen


def make_plan(args: Namespace, settings: ShardSettings, clips: list[Clip], pool: workers.Workers) -> PrepareJob:
    """Assign every clip to a split. Raises OptionError if validation would take more than half of the clips."""
    clips = hold_out_test(args, clips)
    training = [clip for clip in clips if clip.split == "train"]
    usual = VALIDATION.get(args.source, max(len(training) > 1, round(len(training) / 20)))
    count = usual if args.validation is None else args.validation
    if 2 * count > len(training):
        raise OptionError(
            f"{count} validation clips are more than half of the {len(training)} training clips; lower --validation"
        )
    validation = set(validation_clips(settings, training, count, args.seed, pool)) if count else set()
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for clip in sorted(clips, key=lambda clip: rank(args.seed, clip.id)):
        splits["validation" if clip.id in validation else clip.split].append(clip.id)
    return PrepareJob(settings_of(args, settings.config, clips), splits)


# ---------------------------------------------------------------- shards
def is_done(store: Store, name: str, sizes: dict[str, int], check: bool) -> bool:
    """Whether a shard exists with the right size. With `check`, its content and every sample are verified too."""
    if f"{name}.json" not in sizes or f"{name}.tar" not in sizes:
        return False
    try:
        info = ShardInfo(**store.read_json(f"{name}.json"))
        if sizes[f"{name}.tar"] != info.bytes:
            raise ShardError(f"it has {sizes[f'{name}.tar']} bytes, not {info.bytes}")
        if check:
            content = store.read(f"{name}.tar")
            if hashlib.sha256(content).hexdigest() != info.sha256:
                raise ShardError("its bytes have changed since they were written")
            for _, offset, size, _ in info.samples:
                unpack(content[offset : offset + size])
    except (*BAD, TypeError) as error:
        print(f"damaged {name}: {error}; it will be made again", file=sys.stderr)
        return False
    return True


def make_all(
    store: Store, plan: PrepareJob, settings: ShardSettings, clips: Sequence[Clip], args: Namespace
) -> list[str]:
    """Make the missing shards; returns "NAME: reason" for each that failed."""
    by_name = {clip.id: clip for clip in clips}
    sizes = store.sizes()
    shards = list(plan.shards())
    split_of = {name: split for split, names in plan.splits.items() for name in names}
    tasks = [
        (settings, name, split, [replace(by_name[c], split=split_of[c]) for c in names])
        for name, split, names in shards
        if not is_done(store, name, sizes, args.check)
    ]
    failed, begin, done = [], time.monotonic(), 0
    for number, result in workers.run(make_shard, tasks, worker_pool(args)):
        name, shard_clips = tasks[number][1], tasks[number][3]
        if isinstance(result, Exception):
            failed.append(f"{name}: {result or type(result).__name__}")
            print(f"failed {failed[-1]}", file=sys.stderr, flush=True)
            continue
        done += len(shard_clips)
        speed = done / (time.monotonic() - begin)
        rest = sum(len(t[3]) for t in tasks) - done
        counts = f"{len(result.samples)} samples, {len(result.dropped)} left out"
        print(f"{name}: {counts} ({speed:.2f} clips/s, {rest / speed / 60:.0f} min left)", flush=True)
    return failed


def worker_pool(args: Namespace) -> workers.Workers:
    """The processes, or the cluster, that the options name."""
    return workers.Workers(args.processes, args.threads, args.ray or "", args.gpus_per_task)


def finish(
    store: Store, plan: PrepareJob, excluded: Sequence[Excluded], failed: list[str], args: Namespace
) -> dict[str, Any]:
    """Write the report and, if no shard failed, the indices and the manifest; returns the report."""
    names = [name for name, _, _ in plan.shards() if not _has_failed(name, failed)]
    infos = [ShardInfo(**store.read_json(f"{name}.json")) for name in names]
    dropped = [asdict(entry) for entry in excluded]
    dropped += [{"clip": d["clip"], "reason": d["reason"], "detail": d["detail"]} for i in infos for d in i.dropped]
    samples = {split: sum(len(i.samples) for i in infos if i.split == split) for split in SPLITS}
    reasons = Counter(d["reason"] for d in dropped)
    report = {"samples": samples, "reasons": dict(reasons), "failed_shards": failed, "dropped": dropped}
    report["complete"] = not failed and not any(reasons[r] for r in UNREADABLE)
    store.write_json("report.json", report)
    if failed:
        return report
    for split in SPLITS:
        if any(i.split == split for i in infos):
            write_index(store, split, [i for i in infos if i.split == split])
    known = read_meta(args.system)["components"]
    manifest = {
        "format": FORMAT,
        "samples": samples,
        "dropped": dict(reasons),
        "components": {name: known[name] for name in plan.settings["components"]},
        "preprocessing": {"sha256": digest(plan.settings), "settings": plan.settings},
        "shards": [
            {"name": i.name, "split": i.split, "samples": len(i.samples), "bytes": i.bytes, "sha256": i.sha256}
            for i in infos
        ],
    }
    store.write_json("manifest.json", manifest)
    return report


def _has_failed(name: str, failed: Sequence[str]) -> bool:
    return any(line.startswith(f"{name}: ") for line in failed)


def prepare(args: Namespace) -> int:
    """The command with --source; returns the exit status.

    Raises CheckpointError, MediaError, OptionError or ShardError.
    """
    store, system = Store(args.out), Path(args.system)
    clips, excluded = find_clips(args)
    components = load_components(system)
    if not components:
        raise CheckpointError(f"{system} has none of {', '.join(PREPARED_ARRAYS)}; train or import them first")
    config = system_config(components)
    made_by = tuple((name, encoding_sha256(system, name)) for name in components)
    settings = ShardSettings(
        str(system.absolute()), args.out, config, filters_of(args), made_by, args.audio_bands, args.device, args.batch,
        args.threads,
    )  # fmt: skip
    if "plan.json" in store.sizes():
        before = store.read_json("plan.json")
        check_settings(before["settings"], json.loads(json.dumps(settings_of(args, config, clips))), args.out)
        plan = PrepareJob(before["settings"], before["splits"])
    else:
        plan = make_plan(args, settings, clips, worker_pool(args))
        store.write_json("plan.json", asdict(plan))
    failed = make_all(store, plan, settings, clips, args)
    report = finish(store, plan, excluded, failed, args)
    for reason, count in sorted(report["reasons"].items()):
        print(f"left out, {reason}: {count}")
    print(", ".join(f"{count} {split}" for split, count in report["samples"].items()), f"samples in {args.out}")
    if not any(report["samples"].values()):
        raise MediaError(f"none of the {len(clips)} clips can be used; report.json in {args.out} says why")
    return 0 if report["complete"] else INCOMPLETE
