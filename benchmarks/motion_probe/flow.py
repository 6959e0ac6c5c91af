"""What moves in a picture, how it speeds up and stops, as ranks over the window; and a small network that reads them.

Networks trained on simulated pictures do not know the colours, textures and noise of real video. Motion looks alike in
both, and ranks within a window also forget its unit. Flow is computed without any learned weight, from the gradients of
brightness (structure tensor), at 56, 28 and 14 pixels. The camera's motion is taken off with a robust affine fit. What
is left is pooled by the mean and by the top cells. Each pooled number becomes its rank among the window's frames.

All operators export to ONNX, so that this could be a part of a sync encoder. At the ends of a window the first and the
last frame are repeated. Ranks need the whole window, so pieces of it cannot be encoded one by one.

Axes: B batch, Y frames at 25 fps, K functions, h and w cells, M = LEVELS * (K * 2 + CAMERA) pooled numbers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZES = (56, 28, 14)  # pixels of the three levels; the last one is the grid of cells that are pooled
LUMA = (0.299, 0.587, 0.114)
FUNCTIONS = (
    "speed", "faster", "slower", "change", "down", "up", "upward", "downward", "aside", "turn_aside", "spread",
    "shrink", "curl", "difference", "rise", "fall", "unexplained", "reversal", "stop", "flash",
)  # fmt: skip
CAMERA = ("shift", "shift_change")  # of the affine fit
POOLED = len(SIZES) * (2 * len(FUNCTIONS) + len(CAMERA))
TOP = 6  # cells of the 196 that the second pooling averages
BOX, FITS = 5, 4  # side of the box filters in pixels; steps of the robust fit
STIFFNESS = 2e-3  # added to the diagonal of the structure tensor, for pictures of unit variance
SURE = 1e-2  # sum of squared gradients at which a flow is half sure
GRID = 28  # most places along a side
FASTEST = 2.0  # pixels per frame of a level; gradients cannot see faster motion
EPSILON = 1e-6


def before(x: Tensor) -> Tensor:
    """x [B, Y, ...] one frame earlier; the first frame is repeated."""
    return torch.cat([x[:, :1], x[:, :-1]], dim=1)


def after(x: Tensor) -> Tensor:
    """x [B, Y, ...] one frame later; the last frame is repeated."""
    return torch.cat([x[:, 1:], x[:, -1:]], dim=1)


def slope(x: Tensor) -> Tensor:
    """Half the difference of the frames after and before, [B, Y, ...]."""
    return (after(x) - before(x)) / 2


def box(x: Tensor, side: int = BOX) -> Tensor:
    """Mean over a square around every pixel, [B, Y, h, w]; squares are cut at the edges."""
    rows = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def length(x: Tensor) -> Tensor:
    """Length of vectors [..., 2], almost 0 at least."""
    return (x.square().sum(-1) + EPSILON).sqrt()


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Change of x [B, Y, h, w] per pixel to the right and down, smoothed over three pixels across (Sobel)."""
    across = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 8
    along = torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype)
    kernels = torch.stack([across[:, None] * along, along[:, None] * across])[:, None]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    found = F.conv2d(padded, kernels).unflatten(0, x.shape[:2])
    return found[:, :, 0], found[:, :, 1]


def standardise(x: Tensor) -> Tensor:
    """Brightness [B, Y, h, w] without its local mean, of unit variance over the window: light and gain do not count."""
    x = x - box(x, x.shape[-1] // 4 * 2 + 1)
    return x / (x.square().mean(dim=(1, 2, 3), keepdim=True) + EPSILON).sqrt()


def affine_fit(u: Tensor, v: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """The affine motion that most of the picture follows: both parts at every pixel, [B, Y, h, w].

    Iteratively reweighted least squares: a pixel counts by `sure`, and less the farther it is from the last fit.
    """
    side = torch.linspace(-1, 1, u.shape[-1], dtype=u.dtype)
    basis = torch.stack([torch.ones(u.shape[-2:]), side.expand(u.shape[-2:]), side[:, None].expand(u.shape[-2:])])
    flat, weight = basis.flatten(1), sure.flatten(2)  # [3, h w], [B, Y, h w]
    products = (flat[:, None] * flat[None]).flatten(0, 1)  # [9, h w]
    target = torch.stack([u, v], dim=2).flatten(3)  # [B, Y, 2, h w]
    weights = weight
    for _ in range(FITS):
        normal = (weights @ products.T).unflatten(-1, (3, 3)) + 1e-3 * torch.eye(3)
        right = (weights[:, :, None] * target) @ flat.T  # [B, Y, 2, 3]
        fit = solve3(normal, right) @ flat
        error = (target - fit).square().sum(dim=2)
        scale = (weights * error).sum(-1, keepdim=True) / (weights.sum(-1, keepdim=True) + EPSILON)
        weights = weight * scale / (scale + error + EPSILON)
    parts = fit.unflatten(-1, u.shape[-2:])
    return parts[:, :, 0], parts[:, :, 1]


def solve3(a: Tensor, rows: Tensor) -> Tensor:
    """x with x[..., i, :] @ a = rows[..., i, :], for symmetric positive a [..., 3, 3], by its adjugate."""
    (p, q, r), (_, s, t), (_, _, z) = ([a[..., i, j] for j in range(3)] for i in range(3))
    cofactors = [[s * z - t * t, r * t - q * z, q * t - r * s], [None, p * z - r * r, q * r - p * t]]
    last = p * s - q * q
    (c00, c01, c02), (_, c11, c12) = cofactors
    inverse = torch.stack([c00, c01, c02, c01, c11, c12, c02, c12, last], dim=-1).unflatten(-1, (3, 3))
    determinant = p * c00 + q * c01 + r * c02
    return rows @ (inverse / determinant[..., None, None])


def level_functions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Standardised brightness [B, Y, s, s] -> functions at places [B, Y, K, h, w] and of the camera [B, Y, 2].

    Places are pixels; in pictures larger than GRID every second one, because box filters leave no detail between them.
    """
    gx, gy = gradients((before(x) + 2 * x + after(x)) / 4)
    gt = slope((x + box(x, 3)) / 2)  # as smooth as the gradients in space
    stride = max(1, x.shape[-1] // GRID)
    xx, xy, yy, xt, yt, tt = (
        F.avg_pool2d(product, BOX, stride, BOX // 2, count_include_pad=False)
        for product in (gx * gx, gx * gy, gy * gy, gx * gt, gy * gt, gt * gt)
    )
    a, c = xx + STIFFNESS, yy + STIFFNESS
    determinant = a * c - xy * xy
    u = ((xy * yt - c * xt) / determinant).clamp(-FASTEST, FASTEST)
    v = ((xy * xt - a * yt) / determinant).clamp(-FASTEST, FASTEST)
    sure = (xx + yy) / (xx + yy + SURE)
    camera_u, camera_v = affine_fit(u, v, sure)
    moments = xx, xy, yy, xt, yt, tt
    difference = left_over(*moments, camera_u, camera_v)
    unexplained = left_over(*moments, u, v)
    shift = torch.stack([camera_u, camera_v], dim=2).mean(dim=(3, 4))  # [B, Y, 2]
    camera = torch.stack([length(shift), length(slope(shift))], dim=-1)
    flash = F.avg_pool2d((before(x) - 2 * x + after(x)).abs(), stride)
    functions = motion_functions((u - camera_u) * sure, (v - camera_v) * sure)
    rise = slope(difference)
    functions[13:13] = [difference, rise.relu(), (-rise).relu(), unexplained]
    return torch.stack([*functions, flash], dim=2), camera


def left_over(xx: Tensor, xy: Tensor, yy: Tensor, xt: Tensor, yt: Tensor, tt: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """How much brightness changes that the motion (u, v) does not explain: the root of the mean square in a box."""
    return (tt + 2 * (u * xt + v * yt) + u * u * xx + 2 * u * v * xy + v * v * yy).clamp(min=0).add(EPSILON).sqrt()


def motion_functions(u: Tensor, v: Tensor) -> list[Tensor]:
    """Functions of flow [B, Y, h, w] to the right and down, each [B, Y, h, w] and at least 0, in FUNCTIONS' order."""
    speed = (u * u + v * v + EPSILON).sqrt()
    du, dv, faster = slope(u), slope(v), slope(speed)
    ux, uy = gradients(u)
    vx, vy = gradients(v)
    spread = ux + vy
    reversal = -(after(u) * before(u) + after(v) * before(v))
    return [
        speed, faster.relu(), (-faster).relu(), (du * du + dv * dv + EPSILON).sqrt(), v.relu(), (-v).relu(),
        (-dv).relu(), dv.relu(), u.abs(), du.abs(), spread.relu(), (-spread).relu(), (vx - uy).abs(),
        reversal.relu(), before(v).relu() * (-dv).relu(),
    ]  # fmt: skip


def pool(maps: Tensor) -> Tensor:
    """Maps [B, Y, K, h, w] -> [B, Y, 2 K]: mean over the picture, and mean of the TOP cells of a grid."""
    cells = F.avg_pool2d(maps.flatten(0, 1), maps.shape[-1] // SIZES[-1]).flatten(2).unflatten(0, maps.shape[:2])
    return torch.cat([cells.mean(-1), cells.topk(TOP, dim=-1).values.mean(-1)], dim=-1)


def pooled_motion(frames: Tensor) -> Tensor:
    """Frames uint8 [B, Y, s, s, 3], s a multiple of 56 -> pooled functions [B, Y, M], each at least 0."""
    grey = frames.to(torch.float32) @ torch.tensor(LUMA)  # [B, Y, s, s]
    found = []
    for size in SIZES:
        maps, camera = level_functions(standardise(F.avg_pool2d(grey, grey.shape[-1] // size)))
        found += [pool(maps), camera]
    return torch.cat(found, dim=-1)


def ranks(x: Tensor) -> Tensor:
    """Numbers [B, Y, M] -> the rank of each among the frames of its window, from -1 (lowest) to 1."""
    own, others = x.transpose(1, 2)[..., None], x.transpose(1, 2)[..., None, :]
    lower = (others < own).to(x.dtype).mean(-1) - (others > own).to(x.dtype).mean(-1)  # equal numbers count half
    return lower.transpose(1, 2)


class MotionHead(nn.Module):
    """Ranks [B, Y, M] -> features [B, Y, dim]: convolutions over time that see 13 frames."""

    def __init__(self, dim: int = 32, kernels: Sequence[int] = (5, 5, 5), inputs: int = POOLED) -> None:
        super().__init__()
        self.dim = dim
        self.mix = nn.Conv1d(inputs, dim, 1)
        self.layers = nn.ModuleList(nn.Conv1d(dim, dim, kernel, padding=kernel // 2) for kernel in kernels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x.transpose(1, 2))
        for layer in self.layers:
            x = layer(F.gelu(x))
        return F.gelu(x).transpose(1, 2)
