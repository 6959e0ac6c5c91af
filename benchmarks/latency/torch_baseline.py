"""The PyTorch baseline of benchmarks.latency: the same weights, implemented carefully from the paper.

- Conditions are computed once per video.
- The transformer gets the conditional and the null row as one batch.
- The logits of all codebooks are copied to the host; guidance and sampling run there.
- Sampling is vectorised float32 PyTorch, several times as fast as the float64 reference `runtime.decode.sample`.
- The loop is `runtime.decode`; the codec decodes the whole video at once.

Frames and random numbers are those of the runtime, so equal weights give equal codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.contract import FloatArray, Int32Array
from engines.length_adapter import condition_indices
from runtime.context import Timer
from runtime.decode import StepFn, decode
from runtime.rng import CONFIDENCE, TOKENS, uniforms
from runtime.sampling import SamplingConfig
from runtime.video import Video
from runtime.windows import Window, total_samples, windows
from train.checkpoint import load
from train.prepare.features import FRAME_BATCH


@dataclass(frozen=True)
class Mode:
    """How PyTorch runs the networks."""

    compiled: bool = False
    device: str = "cpu"
    dtype: torch.dtype = torch.float32  # of the transformer
    sample_on_host: bool = True  # False: sample on the GPU; the paper does not specify it
    tuned: bool = False  # compile the transformer with max-autotune, which on a GPU includes CUDA graphs


def sample(logits: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """logits [..., V] and one uniform per row -> tokens and their log-probabilities, by inverting the CDF."""
    p = logits.float().softmax(dim=-1)
    cdf = p.cumsum(dim=-1)
    threshold = (u * cdf[..., -1])[..., None]
    tokens = torch.searchsorted(cdf, threshold, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[..., 0], p.gather(-1, tokens)[..., 0].log()


@dataclass(frozen=True)
class Generated:
    """The sound of one video."""

    audio: FloatArray  # [L]
    codes: Int32Array  # [K, T]
    seconds: dict[str, float]  # by stage, as in the report of the runtime
    windows: int


class TorchSystem:
    """The networks of a system folder, ready to generate."""

    def __init__(self, folder: Path, mode: Mode) -> None:
        self.mode = mode
        roles = ("maskvat", "frame_encoder", "sync_encoder", "codec")
        networks = {role: load(folder, role, mode.device).requires_grad_(False) for role in roles}
        self.model: Any = networks["maskvat"].to(mode.dtype)
        self.config = self.model.config
        self.frame_encoder = self._maybe_compile(networks["frame_encoder"])
        self.sync_encoder = self._maybe_compile(networks["sync_encoder"])
        self.codec = self._maybe_compile(networks["codec"].decode)  # type: ignore[arg-type]
        self.network = self._maybe_compile(
            lambda codes, condition: self.model.logits(self.model.hidden(codes, condition)),
            "max-autotune" if mode.tuned else None,
        )

    def _maybe_compile(self, function: Callable[..., Any], mode: str | None = None) -> Callable[..., Any]:
        return torch.compile(function, dynamic=False, mode=mode) if self.mode.compiled else function

    def _to_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.mode.device)

    @torch.no_grad()
    def generate(self, video: Path, s: SamplingConfig) -> Generated:
        """Generate one candidate."""
        timer, codes, count = Timer(), np.zeros((self.config.n_codebooks, 0), np.int32), 0
        with Video(video) as opened:
            cutter = windows(self.config, opened)
            while True:
                with timer("video"):
                    window = next(cutter, None)
                if window is None:
                    break
                known = codes[:, window.start :]
                new = self._window(window, known, s, timer)
                codes = np.concatenate([codes, new[:, known.shape[1] :]], axis=1)
                count += 1
            total = total_samples(self.config, opened)
        with timer("codec"):
            audio = self.codec(self._to_device(codes[None]))[0].cpu().numpy()[:total].clip(-1, 1)
        timer.seconds["host"] = timer.seconds["sample"] - timer.seconds["step"]
        return Generated(audio, codes, timer.seconds, count)

    def _window(self, window: Window, known: Int32Array, s: SamplingConfig, timer: Timer) -> Int32Array:
        c = self.config
        with timer("frame_encoder"):
            frames = window.frames
            parts = [self._to_device(frames[i : i + FRAME_BATCH]) for i in range(0, len(frames), FRAME_BATCH)]
            frame = torch.cat([self.frame_encoder(part) for part in parts])[None].to(self.mode.dtype)
            self._synchronise()
        with timer("sync_encoder"):
            sync = self.sync_encoder(self._to_device(window.sync_frames[None])).to(self.mode.dtype)
            self._synchronise()
        with timer("condition"):
            indices = condition_indices(c, window.length, frame.shape[1], sync.shape[1] if c.uses_sync else 0)
            gathers = {name: self._to_device(index) for name, index in indices.items()}
            drop = torch.tensor([[False] * 2, [True] * 2][: 2 if s.guidance else 1], device=self.mode.device)
            rows = [x.expand(len(drop), -1, -1) for x in (frame, sync)]
            condition = self.model.condition(rows[0], rows[1] if c.uses_sync else None, gathers, drop)
            self._synchronise()
        codes = np.full((1, c.n_codebooks, window.length), c.mask_token, np.int32)
        codes[0, :, : known.shape[1]] = known

        def noise(n: int) -> tuple[FloatArray, FloatArray]:
            shape = codes.shape[1:]
            position = (s.seed, 0, window.number, n)
            return uniforms(*position, TOKENS, shape)[None], uniforms(*position, CONFIDENCE, shape)[None]

        step = self._step(condition, len(drop), s.guidance, timer)
        with timer("sample"):
            found = decode(step, codes, noise, mask_token=c.mask_token, steps=s.steps, diversity=s.diversity)
        return found[0]

    def _step(self, condition: Any, rows: int, guidance: float, timer: Timer) -> StepFn:
        device = "cpu" if self.mode.sample_on_host else self.mode.device

        def step(codes: Int32Array, u: FloatArray) -> tuple[Int32Array, FloatArray]:
            with timer("step"):
                logits = self.network(self._to_device(codes).expand(rows, -1, -1), condition).to(device)
            guided = (1 + guidance) * logits[:1] - guidance * logits[1:] if rows == 2 else logits
            tokens, logp = sample(guided, torch.from_numpy(u).to(device))
            return tokens.to(torch.int32).cpu().numpy(), logp.cpu().numpy()

        return step

    def _synchronise(self) -> None:
        if self.mode.device != "cpu":
            torch.cuda.synchronize()
