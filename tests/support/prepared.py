"""A tiny system and prepared examples of noise, for tests of training."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import ModelConfig
from tests.support.tiny_system import tiny_components, write_system
from train.data.shard_files import FORMAT, ShardWriter, write_index
from train.data.storage import Store

SMALL = {"hidden_size": 32, "n_blocks": 1, "n_heads": 2, "encoder_blocks": 1}


def arrays(config: ModelConfig, seed: int, tokens: int = 862) -> dict[str, NDArray]:
    """Random arrays of one prepared example; 862 tokens are 10 s."""
    rng = np.random.default_rng(seed)
    n_audio = max(1, tokens * 62 // 862)
    return {
        "codes": rng.integers(0, 1024, (9, tokens)).astype(np.uint16),
        "frame_features": rng.standard_normal((config.n_frames(tokens), config.frame_dim)).astype(np.float16),
        "sync_features": rng.standard_normal((config.n_sync(tokens), config.sync_dim)).astype(np.float16),
        "audio_features": rng.standard_normal((n_audio, 8, config.audio_dim)).astype(np.float16),
    }


def write_prepared(root: Path, examples: int, tokens: int = 862, frame_fps: int = 8) -> Path:
    """Write root/system without `maskvat`, and root/prepared with that many examples."""
    components = tiny_components()
    maskvat = components.pop("maskvat")
    write_system(root / "system", components)
    (root / "prepared").mkdir()
    for n in range(examples):
        np.savez(root / "prepared" / f"{n}.npz", **arrays(replace(maskvat.config, frame_fps=frame_fps), n, tokens))
    return root


def write_shards(folder: Path, examples: list[dict[str, NDArray]], split: str = "train") -> None:
    """Write two shards of one split in the format of train.prepare."""
    store, infos = Store(folder), []
    for number, part in enumerate((examples[:2], examples[2:])):
        with ShardWriter(store, f"{split}-{number:05d}", split, 1024) as shard:
            for i, example in enumerate(part):
                shard.add(f"example{number}{i}", example, {})
        infos.append(shard.info)
    write_index(store, split, infos)
    store.write_json("manifest.json", {"format": FORMAT})


def together(world: int, work: Callable[[int], int]) -> list[int | None]:
    """Run `work(rank)` in `world` forked processes, with the environment of torchrun; return their exit codes.

    If one fails, the others get some seconds to notice it. None: the process had not ended by then and was killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def run_process(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        raise SystemExit(work(rank))

    processes = [multiprocessing.get_context("fork").Process(target=run_process, args=(rank,)) for rank in range(world)]
    for process in processes:
        process.start()
    end = time.monotonic() + 300
    while (running := [p for p in processes if p.exitcode is None]) and time.monotonic() < end:
        wait([p.sentinel for p in running], timeout=1)
        if any(p.exitcode for p in processes):
            end = min(end, time.monotonic() + 60)
    codes = [process.exitcode for process in processes]
    for process in running:
        process.kill()
        process.join()
    return codes
