"""Training in several processes, as torchrun starts them: who this one is, sums and rows over all, wrapped networks.

In one process everything here does nothing. PyTorch's own means are used: DDP (every process holds the network) and
FSDP2 (`fully_shard`: each holds a part of every layer, for networks that one device has no room for).
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
    """The process group that torchrun's environment describes; nothing where the command was started by hand."""
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
    """Which process of this machine this is: the index of its device."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def find_device(name: str, index: int) -> torch.device:
    """The device of this name; "auto" gives process `index` of this machine a CUDA device of its own, or the CPU.

    Raises OptionError when the machine has no such device.
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
    """How many processes train."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    if world_size() > 1:
        dist.barrier()


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes."""
    return _reduced(values, dist.ReduceOp.SUM)


def max_over_processes(values: Tensor) -> Tensor:
    """The maximum over all processes, element by element."""
    return _reduced(values, dist.ReduceOp.MAX)


def _reduced(values: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values, how)
    return values


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of every process in the order of ranks (n * world, ...); no gradient passes."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def gather_objects(value: T) -> list[T]:
    """What every process has, in the order of ranks."""
    if world_size() == 1:
        return [value]
    out: list[Any] = [None] * world_size()
    dist.all_gather_object(out, value)
    return out


@dataclass(frozen=True, kw_only=True)
class BatchSplit:
    """How a batch is computed; the result does not depend on it."""

    RANGES: ClassVar[Ranges] = {"device_batch": NATURAL}
    device_batch: int = 0  # examples computed at once; 0: the process's whole share. The rest is accumulated

    def split_batch(self, batch: int) -> tuple[slice, int]:
        """Which rows of a batch are this process's, and how many of them at once. Raises RecipeError."""
        size, rest = divmod(batch, world_size())
        part = self.device_batch or size
        if rest or not size or size % part:
            raise RecipeError(
                f"task.batch {batch} cannot be shared by {world_size()} processes in parts of {part} (task.device_batch); "
                "choose a multiple of both"
            )
        return slice(rank() * size, (rank() + 1) * size), part


# ---------------------------------------------------------------- networks
def distribute(module: nn.Module, device: torch.device, strategy: str, layers: Iterable[nn.Module]) -> nn.Module:
    """What to call instead of `module`, which goes to the device: gradients are averaged over the processes.

    "fsdp" splits `layers`, each gathered only while it computes, and the rest of the module as one more. All work must
    pass through the returned module's forward. In one process the module itself is returned.
    """
    if world_size() == 1:
        return module.to(device)
    if strategy == "ddp":
        module.to(device)
        return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
    mesh = init_device_mesh(device.type, (world_size(),))  # moves layer by layer: the device never holds the whole
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(module, mesh=mesh, reshard_after_forward=True)


@contextmanager
def gradient_exchange(network: nn.Module, last: bool) -> Iterator[None]:
    """Forward and backward of one part of a batch: gradients are exchanged with those of the `last` part only."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
        yield
    elif isinstance(network, DistributedDataParallel) and not last:
        with network.no_sync():
            yield
    else:
        yield


def to_full(value: Tensor) -> Tensor:
    """A tensor of which every process may hold a part, as one. All processes must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def to_sharded(value: Tensor, like: Tensor) -> Tensor:
    """The opposite: the whole `value`, of which this process keeps the part that it holds of `like`."""
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
