"""Training in several processes, as torchrun starts them: ranks, sums and gathers over processes, wrapped networks.

In a single process these functions change nothing. Networks are wrapped with PyTorch's DDP (every process holds the
whole network) or FSDP2 (`fully_shard`: each process holds a part of every layer, for networks larger than one device).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from runtime.errors import OptionError
from train.errors import RecipeError
from train.recipe import NATURAL, Ranges

T = TypeVar("T")
STRATEGIES = ("ddp", "fsdp")


@contextmanager
def processes() -> Iterator[None]:
    """Open the process group that torchrun's environment describes; do nothing without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Index of this process on this machine, and so of its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def find_device(name: str, index: int) -> torch.device:
    """Find a device by name. "auto" gives process `index` of this machine a CUDA device of its own, or the CPU.

    Raises OptionError if the machine has no such device.
    """
    cards = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    if name not in ("auto", "cpu", *cards):
        raise OptionError(f"there is no device {name!r} here; choose from {', '.join(('auto', 'cpu', *cards))}")
    if name == "auto":
        return torch.device("cuda", index % (len(cards) - 1)) if cards else torch.device("cpu")
    return torch.device(name)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def sum_over_processes(values: Tensor) -> Tensor:
    """Sum over all processes, element by element."""
    return _reduced(values, dist.ReduceOp.SUM)


def max_over_processes(values: Tensor) -> Tensor:
    """Maximum over all processes, element by element."""
    return _reduced(values, dist.ReduceOp.MAX)


def _reduced(values: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values, how)
    return values


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows (n, ...) of all processes by rank: (n * world_size, ...). No gradient passes."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def gather_objects(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if world_size() == 1:
        return [value]
    out: list[Any] = [None] * world_size()
    dist.all_gather_object(out, value)
    return out


@dataclass(frozen=True, kw_only=True)
class BatchSplit:
    """Options for splitting a batch over processes and parts; the result does not depend on them."""

    RANGES: ClassVar[Ranges] = {"device_batch": NATURAL}
    device_batch: int = 0  # examples computed at once, with accumulated gradients; 0: all of the process

    def split_batch(self, batch: int) -> tuple[slice, int]:
        """The rows of this process, and how many to compute at once. Raises RecipeError if they cannot be split."""
        size, rest = divmod(batch, world_size())
        part = self.device_batch or size
        if rest or not size or size % part:
            raise RecipeError(
                f"task.batch {batch} cannot be split over {world_size()} processes in parts of {part} "
                "(task.device_batch); choose a multiple of both"
            )
        return slice(rank() * size, (rank() + 1) * size), part


# ---------------------------------------------------------------- networks
def distribute(module: nn.Module, device: torch.device, strategy: str, layers: Iterable[nn.Module]) -> nn.Module:
    """Move a module to the device and wrap it so that gradients are averaged over the processes.

    Call the returned module instead; all work must pass through its `forward`. "ddp" replicates the module. "fsdp"
    shards each of `layers`, and the rest of the module as one more unit; a unit is gathered only while it computes.
    In a single process the module itself is returned.
    """
    if world_size() == 1:
        return module.to(device)
    if strategy == "ddp":
        module.to(device)
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
    mesh = init_device_mesh(
        device.type, (world_size(),)
    )  # moves layer by layer: the device never holds the whole network
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(module, mesh=mesh, reshard_after_forward=True)


@contextmanager
def gradient_exchange(network: nn.Module, last: bool) -> Iterator[None]:
    """Wrap forward and backward of one part of a batch; processes exchange gradients only after the `last` part."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
        yield
    elif isinstance(network, DistributedDataParallel) and not last:
        with network.no_sync():
            yield
    else:
        yield


def to_full(value: Tensor) -> Tensor:
    """Gather a tensor that may be sharded over processes. All processes must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def to_sharded(value: Tensor, like: Tensor) -> Tensor:
    """Shard a full tensor like `like`; this process keeps its own part."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
