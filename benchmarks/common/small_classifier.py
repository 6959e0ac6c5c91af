"""A small classifier that benchmarks train themselves: linear, or with one hidden layer."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Floats = NDArray[np.float32]
BATCH, LEARNING_RATE, DECAY, DROPOUT = 256, 2e-3, 1e-2, 0.3


def fit(inputs: Floats, answers: Floats, hidden: int, steps: int, seed: int) -> Callable[[Floats], Floats]:
    """Train a linear (hidden 0) or two-layer softmax classifier; returns inputs [N, D] -> probabilities [N, C]."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, scale = inputs.mean(0), float(np.sqrt(inputs.var(0).mean()))
        x, y = torch.from_numpy((inputs - mean) / scale), torch.from_numpy(answers)
        dims, classes = x.shape[1], y.shape[1]
        layers = [nn.Linear(dims, hidden), nn.GELU(), nn.Dropout(DROPOUT)] if hidden else []
        net = nn.Sequential(*layers, nn.Linear(hidden or dims, classes))
        optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
        for _ in range(steps):
            batch = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
            loss = -(y[batch] * net(x[batch]).log_softmax(-1)).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()

    def classify(features: Floats) -> Floats:
        with torch.no_grad():
            return net(torch.from_numpy((features - mean) / scale)).softmax(-1).numpy()

    return classify
