"""The looks of simulated scenes: textures of objects, grounds and walls, and the backdrops behind them.

    looks = Looks.load("train")
    looks.material(rng, "wood")  # uint8 [64, 64, 3]

A picture depends only on the generator's state, the split, and which of the packages below are installed. Splits share
no texture: each has its own photographs and its own random streams. A material only tends to have certain colours and
patterns, so a model cannot guess the sound from the looks alone.
"""

import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import exp
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from train.synthetic.drawn.shapes import LOOKS, Array, Look
from train.synthetic.scenes.texture import TEXTURES, smooth, texture
from train.synthetic.splits import SPLITS, check_split

Picture = NDArray[np.uint8]

ANY = 0.25  # share of objects whose look does not depend on their material
LONGEST = 720  # longest side of a photograph in memory, in pixels
MIXED = 0.2  # share of grounds and backdrops that are mixed from two


@dataclass(frozen=True)
class Photograph:
    """A photograph that a Python package ships. No person is recognisable in it."""

    package: str
    file: str
    split: str
    licence: str
    origin: str


PHOTOGRAPHS = (
    Photograph("sklearn", "datasets/images/china.jpg", "train", "CC-BY-2.0", "danielbuechele, Flickr 6061409035"),
    Photograph("skimage", "data/coffee.png", "train", "CC0", "Rachel Michetti, Pikolo Espresso Bar"),
    Photograph("skimage", "data/brick.png", "train", "CC0", "CC0Textures, Bricks25"),
    Photograph("skimage", "data/gravel.png", "train", "CC0", "CC0Textures, Gravel04"),
    Photograph("skimage", "data/rocket.jpg", "train", "public domain", "SpaceX, Flickr 16511594820"),
    Photograph("skimage", "data/coins.png", "train", "no known restrictions", "Brooklyn Museum, archive image 51611"),
    Photograph("sklearn", "datasets/images/flower.jpg", "val", "CC-BY-2.0", "vultilion, Flickr 6056698931"),
    Photograph("skimage", "data/clock_motion.png", "val", "public domain", "Stefan van der Walt"),
    Photograph("skimage", "data/chelsea.png", "test", "CC0", "Stefan van der Walt"),
    Photograph("skimage", "data/grass.png", "test", "CC0", "linolafett, DeviantArt, Grass-01"),
)  # Licence and origin are from the packages' own documentation; CC-BY photographs must be credited.
EXTRA = {
    "cardboard": Look((185, 145, 100), (160, 122, 80), vary=14),
    "rubber": Look((48, 48, 52), (75, 72, 72), vary=20),
}
KINDS = {  # material -> kinds of textures that it may have; a kind that is repeated is more frequent
    "wood": "grain grain planks stripes", "metal": "brushed brushed noise gradient speckle rings",
    "bell": "brushed gradient plain rings", "stone": "noise cells speckle marble", "glass": "gradient plain marble",
    "soft": "dots weave weave plain stripes checks blades", "ceramic": "plain stripes dots marble gradient tiles",
    "plastic": "plain plain checks gradient stripes dots", "cardboard": "plain speckle noise brushed",
    "rubber": "plain noise speckle", "kick": "dots plain gradient", "snare": "stripes plain weave",
    "tom": "gradient plain brushed", "hihat": "rings rings stripes", "cymbal": "rings rings gradient brushed",
    "cajon": "grain grain plain", "clap": "noise plain gradient", "card": "checks dots plain",
    "chip": "stripes plain dots", "chop": "noise plain speckle gradient", "boards": "planks planks grain stripes",
    "floor": "noise speckle tiles plain marble", "grass": "blades blades noise speckle", "snow": "noise plain speckle",
    "carpet": "dots weave weave speckle noise", "grating": "checks tiles bricks",
}  # fmt: skip
MATERIALS = tuple(KINDS)
SURFACES = tuple(kind for kind in TEXTURES if kind != "rings")


# ---------------------------------------------------------------- photographs
@cache
def photographs(split: str) -> tuple[Picture, ...]:
    """The photographs [H, W, 3] of a split whose packages are installed. If there are none, a message is printed."""
    found = []
    for photograph in PHOTOGRAPHS:
        spec = find_spec(photograph.package)  # finds the file without importing the package
        folders = spec.submodule_search_locations if spec else None
        path = Path(folders[0]) / photograph.file if folders else None
        if photograph.split == split and path and path.exists():
            with av.open(str(path)) as media:
                picture = next(media.decode(video=0)).to_ndarray(format="rgb24")
            found.append(picture[:: -(-max(picture.shape) // LONGEST), :: -(-max(picture.shape) // LONGEST)])
    if not found:
        print("the looks have no photographs; install some with: pip install '.[scenes]'", file=sys.stderr)
    return tuple(found)


def resized(picture: Array, height: int, width: int) -> Array:
    """Resize [H, W, 3] to [height, width, 3]: linear interpolation, averaged if the picture becomes smaller."""
    across = np.einsum("ij,hjc->hic", _filter(width, picture.shape[1]), picture, optimize=True)
    return np.einsum("ij,jwc->iwc", _filter(height, picture.shape[0]), across, optimize=True)


def _filter(n_out: int, n_in: int) -> Array:
    """Triangular filters as a matrix [n_out, n_in], two output pixels wide and at least two input pixels."""
    ratio = n_in / n_out
    away = np.abs((np.arange(n_out)[:, None] + 0.5) * ratio - 0.5 - np.arange(n_in))
    weights = np.maximum(1 - away / max(1.0, ratio), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def crop(rng: np.random.Generator, picture: Picture, height: int, width: int) -> Array:
    """A random part of a photograph as [height, width, 3], perhaps mirrored or in other colours."""
    most = min(picture.shape[0] / height, picture.shape[1] / width)
    scale = most * exp(rng.uniform(-1.2, 0))
    h, w = max(2, int(height * scale)), max(2, int(width * scale))
    top, left = rng.integers(0, picture.shape[0] - h + 1), rng.integers(0, picture.shape[1] - w + 1)
    part = resized(picture[top : top + h, left : left + w].astype(np.float32), height, width)
    part = part[:, ::-1] if rng.random() < 0.5 else part
    if rng.random() < 0.3:
        part = part[..., rng.permutation(3)]
    tint = np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.25)).astype(np.float32)
    mean = part.mean((0, 1))
    return (mean + (part - mean) * np.float32(rng.uniform(0.5, 1.2))) * tint


# ---------------------------------------------------------------- colours
def colours(rng: np.random.Generator) -> tuple[Array, Array]:
    """Any two colours [3]. Most are pale, and many pairs are similar."""
    tones = rng.uniform(0, 255, (2, 3))
    grey = tones.mean(1, keepdims=True)
    first, second = grey + (tones - grey) * rng.random((2, 1)) ** 1.5
    second = first + (second - first) * rng.uniform(0.15, 1)
    return first.astype(np.float32), second.astype(np.float32)


def tinted(rng: np.random.Generator, look: Look) -> tuple[Array, Array]:
    """The two colours [3] of one object with this look: randomly lighter or darker, tinted, and more or less alike."""
    first, second = np.array([look.colour, look.second], np.float32) + rng.normal(0, look.vary, (2, 3))
    second = first + (second - first) * rng.uniform(0.3, 1.6)
    tint = np.exp(rng.normal(-0.05, 0.3) + rng.normal(0, 0.08, 3))
    tint *= min(1.0, 250 / max(1.0, float((first * tint).max())))  # brighter than white would lose its colour
    return (first * tint).astype(np.float32), (second * tint).astype(np.float32)


def painted(rng: np.random.Generator, kind: str, pair: tuple[Array, Array], height: int, width: int) -> Array:
    """A texture [height, width, 3] in two colours, with grain and spots of dirt or shade."""
    first, second = pair
    canvas = first + texture(rng, kind, height, width)[..., None] * (second - first)
    worn = 1 - rng.uniform(0, 0.35) * smooth(rng, height, width, (3, 3 * width / height))
    return canvas * worn[..., None] + rng.normal(0, rng.uniform(0, 6), (height, width, 1)).astype(np.float32)


def to_picture(canvas: Array) -> Picture:
    return np.clip(canvas, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------- looks
@dataclass(frozen=True)
class Looks:
    """All looks of one split. Each method advances `rng` by a fixed amount, whatever it draws."""

    split: str
    photographs: tuple[Picture, ...]

    @classmethod
    def load(cls, split: str) -> "Looks":
        """Load a split's photographs. Raises ValueError for an unknown split, OSError for an unreadable photograph."""
        check_split(split)
        return cls(split, photographs(split))

    def material(self, rng: np.random.Generator, material: str, size: int = 64) -> Picture:
        """Texture [size, size, 3] of an object. Raises ValueError for a name that is not in MATERIALS."""
        if material not in KINDS:
            raise ValueError(f"unknown material {material!r}; the known ones are {', '.join(MATERIALS)}")
        own = self._own(rng)
        if own.random() < ANY:
            return to_picture(self._anything(own, size, size, 0.5))
        look = LOOKS.get(material) or EXTRA[material]
        kind = str(own.choice(KINDS[material].split()))
        return to_picture(painted(own, kind, tinted(own, look), size, size))

    def surface(self, rng: np.random.Generator, size: int = 128) -> Picture:
        """Texture [size, size, 3] of a ground or a wall."""
        own = self._own(rng)
        canvas = self._anything(own, size, size, 0.2)
        if own.random() < MIXED:
            weight = np.clip(3 * smooth(own, size, size, (4, 4)) - 1, 0, 1)[..., None]
            canvas = canvas + weight * (self._anything(own, size, size, 0.2) - canvas)
        return to_picture(canvas)

    def backdrop(self, rng: np.random.Generator, height: int, width: int) -> Picture:
        """A picture [height, width, 3] to put behind a scene: a photograph, a wall, a room, or light and shade."""
        own = self._own(rng)
        canvas = self._anything(own, height, width, 0.35)
        if own.random() < MIXED:  # two pictures with a line between them, like a wall and its floor
            line = int(height * own.uniform(0.25, 0.85))
            canvas[line:] = self._anything(own, height, width, 0.2)[: height - line]
        if own.random() < 0.35:  # out of focus
            coarse = own.uniform(2, 10)
            small = resized(canvas, max(2, int(height / coarse)), max(2, int(width / coarse)))
            canvas = resized(small, height, width)
        if own.random() < 0.3:  # light from one side
            canvas = canvas * (own.uniform(0.3, 0.8) + texture(own, "gradient", height, width)[..., None] * 0.6)
        return to_picture(canvas)

    def _own(self, rng: np.random.Generator) -> np.random.Generator:
        """A random stream that differs from those of the other splits."""
        return np.random.default_rng([SPLITS.index(self.split), *rng.integers(0, 1 << 32, 3).tolist()])

    def _anything(self, rng: np.random.Generator, height: int, width: int, photograph: float) -> Array:
        """Any texture in any colours, or with probability `photograph` a photograph, if there are some."""
        if rng.random() < photograph and self.photographs:
            return crop(rng, self.photographs[rng.integers(len(self.photographs))], height, width)
        return painted(rng, str(rng.choice(SURFACES)), colours(rng), height, width)
