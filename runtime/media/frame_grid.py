"""Frames sampled by time stamp on several grids in one pass, and scaled to squares."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from math import ceil
from typing import Any, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from runtime.errors import MediaError, OptionError

Image = NDArray[np.uint8]  # [height, width, 3] RGB

SCALING = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT  # the same pixels on every machine
)
YUV_UNSPECIFIED = 2  # libav's AVCOL_SPC_UNSPECIFIED


@dataclass(frozen=True)
class FrameGrid:
    """Frames at `fps` per second, scaled so that the short side is `resize` pixels, cropped to a square of `size`."""

    fps: int
    resize: int
    size: int

    def __post_init__(self) -> None:
        if min(self.fps, self.resize, self.size) < 1:
            raise OptionError(f"a frame grid needs fps, resize and size of at least 1; got {self}")


def sample_frames(
    frames: Iterator[tuple[Fraction, VideoFrame]],
    duration: Callable[[], Fraction],
    grids: Sequence[FrameGrid],
    image: Callable[[VideoFrame, int, int], Image],
    begin: int = 0,
) -> Iterator[tuple[int, Image]]:
    """Yield (grid number, image) for every sample from second `begin` on.

    `frames` are (seconds after the beginning, frame) in order, at least one. Frames before second `begin` are needed
    only as far as the first samples show them. `duration()` is asked when the frames are exhausted. `image(frame,
    resize, size)` scales a frame. `Video.sample` says which frame each sample shows.
    """
    _, current = next(frames)
    done = [begin * grid.fps for grid in grids]
    for time, frame in frames:
        # sample k is due before `time` when (2 k + 1) / (2 fps) < time
        due = [max(0, ceil(time * g.fps - Fraction(1, 2))) for g in grids]
        yield from _show(current, grids, done, due, image)
        current = frame
    due = [max(begin * g.fps + 1, ceil(duration() * g.fps)) for g in grids]
    yield from _show(current, grids, done, due, image)


def _show(
    frame: VideoFrame,
    grids: Sequence[FrameGrid],
    done: list[int],
    due: Sequence[int],
    image: Callable[[VideoFrame, int, int], Image],
) -> Iterator[tuple[int, Image]]:
    """Samples done..due of every grid, all of which show `frame`; it is scaled once per size, if at all."""
    images: dict[tuple[int, int], Image] = {}
    for _, i in merge(*(_due_times(g.fps, i, done[i], due[i]) for i, g in enumerate(grids))):
        key = (grids[i].resize, grids[i].size)
        if key not in images:
            images[key] = image(frame, *key)
        yield i, images[key]
    done[:] = map(max, done, due)


def _due_times(fps: int, grid: int, first: int, end: int) -> Iterator[tuple[Fraction, int]]:
    """(time, grid number) of samples first..end of a grid, one at a time: a frame may last for hours."""
    return ((Fraction(2 * k + 1, 2 * fps), grid) for k in range(first, end))


class Scaler:
    """Makes upright squares of frames. `name` is the video's, for errors."""

    def __init__(self, name: object) -> None:
        self.name = name
        self._scalers: dict[tuple[int, int], VideoReformatter] = {}

    def image(self, frame: VideoFrame, resize: int, size: int) -> Image:
        """Upright RGB square of `size` from the centre of the frame scaled to short side `resize`."""
        short = min(frame.width, frame.height)
        width, height = (max(size, (2 * n * resize + short) // (2 * short)) for n in (frame.width, frame.height))
        scaler = self._scalers.setdefault((resize, size), VideoReformatter())
        matrix = None
        if frame.colorspace == YUV_UNSPECIFIED and not frame.format.is_rgb:  # as players do: by size
            matrix = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
        try:
            scaled = scaler.reformat(
                frame, width, height, "rgb24", src_colorspace=matrix, interpolation=SCALING, threads=1
            )
        except (av.FFmpegError, MemoryError) as error:
            raise MediaError(
                f"{self.name}: a frame of {frame.width} x {frame.height} cannot be scaled to {width} x {height} pixels "
                f"({error}); make the picture smaller or less elongated, for example with ffmpeg"
            ) from error
        image = cast(Image, scaled.to_ndarray())
        turned, flip_x, flip_y = orientation(frame)
        image = image.transpose(1, 0, 2) if turned else image
        image = image[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        return np.ascontiguousarray(image[top : top + size, left : left + size])


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """(transpose, then mirror left-right, then upside down) that shows a frame upright.

    The display matrix ((a b u) (c d v) (x y w)) sends the point (p, q) to (a p + c q + x, b p + d q + y); angles
    between quarter turns count as the nearest one.
    """
    side_data = cast(Mapping[SideDataType, Any], frame.side_data).get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return False, False, False
    a, b, c, d = np.frombuffer(side_data, np.int32)[[0, 1, 3, 4]].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0
