"""An exponential moving average (EMA) of a network's weights; it varies less than the weights of the last step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from train.distributed import to_sharded

WARM = 10  # early in the run the decay is lower: (1 + step) / (WARM + step)


class Average:
    """The averaged weights of a module: all floating-point entries of its state dict."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in _floats(module).items()}

    def update(self, module: nn.Module, step: int) -> None:
        """Include the module's weights after `step` updates."""
        decay = min(self.decay, (1 + step) / (WARM + step))
        live = [_floats(module)[name] for name in self.weights]
        torch._foreach_lerp_(list(self.weights.values()), live, 1 - decay)

    def load(self, weights: dict[str, Tensor], module: nn.Module) -> None:
        """Continue from a stored average; if it is empty, from the module's own weights."""
        for name, value in (weights or _floats(module)).items():
            self.weights[name].copy_(to_sharded(value, self.weights[name]))

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Give the module the averaged weights inside the block, and its own weights back after it."""
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
    """Floating-point entries of the state dict, as views of the module's own memory."""
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
