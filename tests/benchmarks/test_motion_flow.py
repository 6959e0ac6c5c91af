"""Flow of the motion probe: known movements, the camera's motion, and ranks that forget light."""

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from benchmarks.motion_probe.flow import (
    FUNCTIONS,
    POOLED,
    SIZES,
    MotionHead,
    affine_fit,
    level_functions,
    pooled_motion,
    ranks,
    solve3,
    standardise,
)

pytestmark = pytest.mark.torch


def texture(size: int, seed: int, side: int = 9) -> Tensor:
    """A smooth random picture [size, size] from 40 to 200."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 1, size + side - 1, size + side - 1, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, side, 1)[0, 0]
    return 40 + 160 * (smooth - smooth.min()) / (smooth.max() - smooth.min())


def colour(grey: Tensor) -> Tensor:
    """Grey pictures [Y, s, s] -> frames uint8 [1, Y, s, s, 3]."""
    return grey.round().to(torch.uint8)[None, ..., None].expand(-1, -1, -1, -1, 3)


def moving_square(rows: list[int], pan: int = 0) -> Tensor:
    """A square of 24 pixels in front of a background that moves by `pan` pixels a frame; its upper edge is `rows`."""
    background, piece = texture(112 + abs(pan) * len(rows), 1), texture(24, 2)
    frames = []
    for k, row in enumerate(rows):
        picture = background[:112, abs(pan) * k : abs(pan) * k + 112].clone()
        picture[row : row + 24, 44:68] = piece
        frames.append(picture)
    return colour(torch.stack(frames))


def function(pooled: Tensor, name: str, level: int, top: bool = True) -> Tensor:
    """One pooled function [Y] of a level."""
    start = level * (POOLED // len(SIZES)) + len(FUNCTIONS) * top
    return pooled[0, :, start + FUNCTIONS.index(name)]


def test_a_square_that_falls_and_stops() -> None:
    rows = [8 + 2 * min(k, 20) for k in range(40)]
    pooled = pooled_motion(moving_square(rows))
    assert pooled.shape == (1, 40, POOLED) and torch.isfinite(pooled).all() and (pooled >= 0).all()
    for level in (0, 1):
        down, up = (function(pooled, name, level) for name in ("down", "up"))
        assert down[5:18].min() > 3 * down[25:].max() and down[5:18].mean() > 1.5 * up[5:18].mean()
        assert int(function(pooled, "stop", level).argmax()) in (19, 20, 21)
        assert int(function(pooled, "upward", level).argmax()) in (19, 20, 21)


def test_the_cameras_motion_is_taken_off() -> None:
    still = [44] * 16
    pan, none = pooled_motion(moving_square(still, pan=2)), pooled_motion(moving_square(still))
    shift = [x[0, 8, len(FUNCTIONS) * 2] for x in (pan, none)]
    assert shift[0] > 0.5 and shift[1] < 0.05  # pixels of 2: the camera moves by one a frame
    x = standardise(torch.nn.functional.avg_pool2d(moving_square(still, pan=2)[..., 0].float(), 2))
    speed = level_functions(x)[0][0, 8, FUNCTIONS.index("speed")]
    assert speed[13:16, 13:16].mean() > 4 * speed[:, :9].mean()  # only the square moves against the background


def test_affine_fit_ignores_what_few_pixels_do() -> None:
    side = torch.linspace(-1, 1, 14)
    u = (0.3 + 0.2 * side - 0.1 * side[:, None]).expand(1, 2, 14, 14).clone()
    v = (-0.4 * side[:, None] + 0.1).expand(1, 2, 14, 14).clone()
    true = u.clone(), v.clone()
    u[..., :3, :3] += 2
    for part, expected in zip(affine_fit(u, v, torch.ones(1, 2, 14, 14)), true, strict=True):
        assert (part - expected).abs().max() < 0.06
    a = torch.tensor([[4.0, 1, 0.5], [1, 3, 0.2], [0.5, 0.2, 2]], dtype=torch.float64)
    rows = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(solve3(a, rows) @ a, rows)


def test_ranks() -> None:
    found = ranks(torch.tensor([[[3.0, 0], [1, 0], [2, 5], [2, 0]]]))
    assert found[0].T.tolist() == [[0.75, -0.75, 0.0, 0.0], [-0.25, -0.25, 0.75, -0.25]]


def test_ranks_forget_light_and_contrast() -> None:
    grey = torch.randint(0, 100, (1, 30, 56, 56, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    one, two = (ranks(pooled_motion(frames)) for frames in (grey, grey * 2 + 20))
    assert (one - two).abs().mean() < 0.01 < one.std()


def test_features_are_local_in_time() -> None:
    head = MotionHead(8).eval()
    x = torch.randn(1, 40, POOLED, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 20] += 1
    changed = (head(x) - head(other)).abs().sum(-1)[0].nonzero()[:, 0].tolist()
    assert head.dim == 8 and changed == list(range(14, 27))
