"""A contrastive loss over a batch that is too large for one device: over all processes and all parts.

The method is gradient caching (Gao et al., arXiv 2101.06983):
1. Compute the embeddings of all rows without gradients, and gather them.
2. Compute the loss and its gradient with respect to every embedding.
3. Compute every part again, with gradients, and propagate its embeddings' products with those gradients.

The negatives of a row are all other rows of the effective batch. The gradient equals that of the undivided batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.distributed import gather_rows, rank

Rows = tuple[Tensor, ...]  # each (n, ...): embeddings, and whatever else the loss needs of every row
Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class CachedLoss:
    """The loss of the whole batch, and its gradients with respect to this process's rows."""

    value: float
    gradients: list[tuple[Tensor | None, ...]]  # by part, then by tensor

    def surrogate(self, part: int, rows: Rows) -> Tensor:
        """A number whose gradient is the gradient of the loss for this part."""
        pairs = zip(rows, self.gradients[part], strict=True)
        return torch.stack([(row * gradient).sum() for row, gradient in pairs if gradient is not None]).sum()


def cached_loss(parts: Sequence[Rows], loss: Loss) -> CachedLoss:
    """Compute `loss` over the rows of all parts of all processes. Processes must have equally many rows."""
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
