"""An exponential moving average of a network's weights: steadier than the last step's, at no cost to its training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from train.distributed import to_sharded

WARM = 10  # early on the average forgets faster: (1 + step) / (WARM + step) of it stays


class Average:
    """The averaged weights of a module: all floating-point entries of its state dict."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in _floats(module).items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after `step` updates."""
        stays = min(self.decay, (1 + step) / (WARM + step))
        live = [_floats(module)[name] for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), live, 1 - stays)

    def load(self, weights: dict[str, Tensor], module: nn.Module) -> None:
        """Go on from a stored average; from the module's own weights where none was stored."""
        for name, value in (weights or _floats(module)).items():
            self.weights[name].copy_(to_sharded(value, self.weights[name]))

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module holds the average inside the block, and its own weights again after it."""
        own = _floats(module)
        kept = {name: value.clone() for name, value in own.items()}
        try:
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(self.weights[name])
            yield
        finally:
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(kept[name])


def _floats(module: nn.Module) -> dict[str, Tensor]:
    """Entries of the state dict, as views of the module's own memory."""
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
