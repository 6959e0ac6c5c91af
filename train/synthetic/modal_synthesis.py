"""Modal synthesis: what a body of some material sounds like when it is hit, from the tables of PyImpact.

A table lists the modes of one object: frequency (cf, Hz), level (op, dB) and decay (rt, seconds to -60 dB). A body is
a table with its modes varied by the body's own number (voice), so that it sounds alike at every hit; its size shifts
all frequencies. A blow is a push of 0.3 to 5 ms: the shorter it is, the more of the high modes it excites.
"""

import json
import zlib
from dataclasses import dataclass, field
from math import pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.synthetic.recordings import RATE, Floats, PoolError

# Material -> (tables, milliseconds that it stays in touch, how much longer than its table a body may ring)
MATERIALS = {
    "wood": (("wood_hard", "wood_medium", "wood_soft"), 0.8, 1.3),
    "metal": (("metal",), 0.4, 5.0),
    "glass": (("glass",), 0.4, 2.5),
    "ceramic": (("ceramic",), 0.4, 2.0),
    "stone": (("stone",), 0.5, 1.2),
    "plastic": (("plastic_hard", "plastc_hard"), 0.9, 1.5),
    "cardboard": (("cardboard",), 1.8, 1.2),
    "paper": (("paper",), 1.8, 1.2),
    "leather": (("leather",), 2.5, 1.2),
    "rubber": (("rubber",), 2.5, 1.2),
    "soft": (("fabric", "plastic_soft_foam", "leather", "rubber"), 3.5, 1.2),
}
MODES = 24  # the strongest of a table that are kept
LONGEST = 2.0  # seconds
REFERENCE = 0.12  # metres: a body of this size has its table's frequencies
BLOCK = 256  # samples


@dataclass(frozen=True)
class Modes:
    """Damped sinusoids, arrays [K]: Hz, amplitude (signed, 1 at most), seconds to -60 dB."""

    frequency: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    decay: NDArray[np.float64]

    def resonances(self, bins: int = 2049) -> Floats:
        """The magnitude spectrum [bins] of noise that passes through these modes, 0 to 22.05 kHz."""
        at = np.linspace(0, RATE / 2, bins)[:, None]
        width = np.maximum(60.0, 2.2 / self.decay)
        peaks = np.abs(self.amplitude) / (1 + ((at - self.frequency) / width) ** 2)
        return (peaks.sum(1) + 0.03 / (1 + at[:, 0] / 3000)).astype(np.float32)


def read_table(path: Path) -> Modes:
    """ValueError if the file isn't a table with at least one mode that can be heard."""
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not {"cf", "op", "rt"} <= set(table):
        raise ValueError("no table with cf, op and rt")
    try:
        frequency, level, decay = (np.array(table[key], np.float64) for key in ("cf", "op", "rt"))
    except (TypeError, ValueError):
        raise ValueError("cf, op and rt must be lists of numbers") from None
    if frequency.ndim != 1 or not frequency.shape == level.shape == decay.shape:
        raise ValueError("cf, op and rt must be as long as each other")
    heard = (frequency > 20) & (frequency < RATE / 2) & (decay > 0.002) & np.isfinite(level)
    if not heard.any():
        raise ValueError("no mode between 20 Hz and 22 kHz that lasts 2 ms")
    return Modes(frequency[heard], 10 ** ((level[heard] - level[heard].max()) / 20), decay[heard].clip(max=LONGEST))


@dataclass
class Bodies:
    """The tables by material."""

    tables: dict[str, list[Modes]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)  # file: why

    @classmethod
    def load(cls, folder: Path) -> "Bodies":
        """All `<material>_<0 to 5>_mm.json` of a folder; PoolError if none can be used."""
        bodies, known = cls(), {name for names, _, _ in MATERIALS.values() for name in names}
        for path in sorted(folder.glob("*.json")):
            name = path.name.rsplit("_", 2)[0]
            try:
                if name not in known:
                    raise ValueError("no known material; known are " + ", ".join(sorted(known)))
                table = read_table(path)
            except (OSError, ValueError) as error:
                bodies.skipped.append(f"{path.name}: {error}")
                continue
            for material, (names, _, _) in MATERIALS.items():
                if name in names:
                    bodies.tables.setdefault(material, []).append(table)
        if not bodies.tables:
            raise PoolError(
                f"{folder} has no usable table of modes; expected are PyImpact's, such as wood_hard_2_mm.json"
                " with the lists cf (Hz), op (dB) and rt (s)"
            )
        return bodies

    def body(self, material: str, size: float, voice: int) -> Modes:
        """The modes of one object [at most MODES]; the same object has the same ones."""
        rng = np.random.default_rng([voice, zlib.crc32(material.encode())])
        tables = self.tables[material]
        table = tables[rng.integers(len(tables))]
        amplitude = table.amplitude * 10 ** (rng.normal(0, 4, len(table.amplitude)) / 20)
        keep = np.argsort(-amplitude)[:MODES]
        n = len(keep)
        scale = np.clip(REFERENCE / size, 0.1, 10) ** 0.6 * np.exp(rng.normal(0, 0.15))
        longer = rng.uniform(0.8, MATERIALS[material][2])
        return Modes(
            table.frequency[keep] * scale * np.exp(rng.normal(0, 0.05, n)),
            amplitude[keep] / amplitude[keep[0]] * rng.choice([-1.0, 1.0], n),
            (table.decay[keep] * longer * np.exp(rng.normal(0, 0.2, n)) * scale**-0.3).clip(0.004, LONGEST),
        )


def touch(materials: list[str], size: float, strength: float) -> float:
    """Seconds that a blow lasts: the softest material, the size and a weak blow make it long."""
    longest = max(MATERIALS[m][1] for m in materials if m in MATERIALS)
    return float(np.clip(1e-3 * longest * (size / REFERENCE) ** 0.3 * max(strength, 0.02) ** -0.35, 0.3e-3, 5e-3))


def ring(modes: Modes, push: float) -> Floats:
    """A body's sound [L] after a push of so many seconds; it ends at -60 dB or after 2 s."""
    # The smooth bound of a half-sine's spectrum: its zeros would take single modes away.
    gain = modes.amplitude / (1 + (2 * modes.frequency * push) ** 2) * (modes.frequency < 0.45 * RATE)
    level = 20 * np.log10(np.maximum(np.abs(gain), 1e-12))
    lasts = float((modes.decay * (1 + (level - level.max()) / 60)).max())
    count = max(2, -(-round(min(lasts, LONGEST) * RATE) // BLOCK))
    rate = (2j * pi * modes.frequency - np.log(1000) / modes.decay) / RATE
    starts = np.exp(np.arange(count)[:, None] * BLOCK * rate)  # [count, K]
    inside = gain[:, None] * np.exp(np.arange(BLOCK) * rate[:, None])  # [K, BLOCK]
    # The imaginary part of starts @ inside: sines, summed for all modes in two real products.
    out = (starts.real @ inside.imag + starts.imag @ inside.real).ravel().astype(np.float32)
    rise, fade = min(round(push * RATE / 2), RATE // 1000), min(len(out), 400)
    out[:rise] *= np.sin(pi / 2 * np.arange(1, rise + 1) / rise)
    out[-fade:] *= np.linspace(1, 0, fade)
    return out


def click(push: float, rng: np.random.Generator) -> Floats:
    """The noise of the contact itself [L], at a peak of 1: a few lengths of the push, as dull as it is long."""
    soft = np.hanning(max(3, round(push * RATE / 2)))
    length = round(6 * push * RATE) + len(soft)
    noise = np.convolve(rng.normal(size=length), soft, "same") * np.exp(-5 * np.arange(length) / length)
    return (noise / np.abs(noise).max()).astype(np.float32)
