"""A contrastive loss over a whole batch that no device holds at once: over all processes, and all parts of each.

The embeddings of all rows are computed without gradients and gathered; the loss's gradient with respect to each is
taken; every part is then computed again, and its embeddings' products with those gradients are what it propagates. So
the negatives of a row are all other rows of the effective batch, however it is split: the gradient is that of the
undivided batch (Gao et al., arXiv 2101.06983).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.distributed import gather_rows, rank

Rows = tuple[Tensor, ...]  # each (n, ...): embeddings, and what the loss wants to know of every row
Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class CachedLoss:
    """The loss of the whole batch and its gradients for this process's rows."""

    value: float
    gradients: list[tuple[Tensor | None, ...]]  # of each part, for each of its tensors

    def surrogate(self, part: int, rows: Rows) -> Tensor:
        """A number whose gradient is this part's share of the loss's gradient."""
        pairs = zip(rows, self.gradients[part], strict=True)
        return torch.stack([(row * gradient).sum() for row, gradient in pairs if gradient is not None]).sum()


def cached_loss(parts: Sequence[Rows], loss: Loss) -> CachedLoss:
    """`loss` of the rows of all parts of all processes. Every process must have equally many rows."""
    own = [torch.cat(column) for column in zip(*parts, strict=True)]
    columns = [gather_rows(column.detach()) for column in own]
    free = [column.requires_grad_() for column in columns if column.is_floating_point()]
    with torch.enable_grad():
        value = loss(*columns)
    found = iter(torch.autograd.grad(value, free))
    begin, sizes = rank() * len(own[0]), [len(part[0]) for part in parts]
    split = [
        next(found)[begin : begin + len(own[0])].split(sizes) if column.is_floating_point() else [None] * len(sizes)
        for column in columns
    ]
    return CachedLoss(value.item(), [tuple(column[i] for column in split) for i in range(len(sizes))])
