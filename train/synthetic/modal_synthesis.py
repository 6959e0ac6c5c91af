"""Modal synthesis: the sound of a struck object as a sum of decaying sine waves (modes), from PyImpact's tables.

A table lists the modes of one object: frequency (cf, Hz), level (op, dB) and decay (rt, seconds to -60 dB). Each
object varies the modes of a table by random amounts that depend on its number (voice) only, so that all its hits sound
alike. Its size shifts all frequencies. A blow lasts 0.3 to 5 ms; a shorter blow excites more of the high modes.
"""

import json
import zlib
from dataclasses import dataclass, field
from math import pi
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.synthetic.recordings import RATE, Floats, PoolError

# Material -> (tables, contact time in milliseconds, largest factor on the decay times of its table)
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
MODES = 24  # the number of modes that are kept, the strongest ones
LONGEST = 2.0  # seconds
REFERENCE = 0.12  # metres: an object of this size has its table's frequencies
BLOCK = 256  # samples that are synthesised at once


@dataclass(frozen=True)
class Modes:
    """K decaying sine waves: frequency in Hz, signed amplitude (at most 1), decay in seconds to -60 dB; each [K]."""

    frequency: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    decay: NDArray[np.float64]

    def resonances(self, bins: int = 2049) -> Floats:
        """Magnitude spectrum [bins], 0 to 22.05 kHz, of noise that is filtered by these modes."""
        at = np.linspace(0, RATE / 2, bins)[:, None]
        width = np.maximum(60.0, 2.2 / self.decay)
        peaks = np.abs(self.amplitude) / (1 + ((at - self.frequency) / width) ** 2)
        return (peaks.sum(1) + 0.03 / (1 + at[:, 0] / 3000)).astype(np.float32)


def read_table(path: Path) -> Modes:
    """Read a table of modes. Raises ValueError if it is malformed or has no audible mode."""
    table = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not {"cf", "op", "rt"} <= set(table):
        raise ValueError("no table with cf, op and rt")
    try:
        frequency, level, decay = (np.array(table[key], np.float64) for key in ("cf", "op", "rt"))
    except (TypeError, ValueError):
        raise ValueError("cf, op and rt must be lists of numbers") from None
    if frequency.ndim != 1 or not frequency.shape == level.shape == decay.shape:
        raise ValueError("cf, op and rt must be as long as each other")
    audible = (frequency > 20) & (frequency < RATE / 2) & (decay > 0.002) & np.isfinite(level)
    if not audible.any():
        raise ValueError("no mode between 20 Hz and 22 kHz that lasts 2 ms")
    return Modes(
        frequency[audible], 10 ** ((level[audible] - level[audible].max()) / 20), decay[audible].clip(max=LONGEST)
    )


@dataclass
class ModeTables:
    """The tables of modes, grouped by material."""

    tables: dict[str, list[Modes]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)  # "file: reason"

    @classmethod
    def load(cls, folder: Path) -> "ModeTables":
        """Read every `<material>_<0 to 5>_mm.json` of a folder. Raises PoolError if none of them is usable."""
        bodies, known = cls(), {name for names, _, _ in MATERIALS.values() for name in names}
        for path in sorted(folder.glob("*.json")):
            name = path.name.rsplit("_", 2)[0]
            try:
                if name not in known:
                    raise ValueError("unknown material; the known ones are " + ", ".join(sorted(known)))
                table = read_table(path)
            except (OSError, ValueError) as error:
                bodies.skipped.append(f"{path.name}: {error}")
                continue
            for material, (names, _, _) in MATERIALS.items():
                if name in names:
                    bodies.tables.setdefault(material, []).append(table)
        if not bodies.tables:
            raise PoolError(
                f"{folder} has no usable table of modes; give PyImpact's folder, with files such as wood_hard_2_mm.json"
                " that hold the lists cf (Hz), op (dB) and rt (s)"
            )
        return bodies

    def body(self, material: str, size: float, voice: int) -> Modes:
        """The modes of one object, at most MODES of them. The same arguments give the same modes."""
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


def contact_duration(materials: list[str], size: float, strength: float) -> float:
    """Duration of a blow in seconds. Soft materials, large objects and weak blows make it longer."""
    longest = max(MATERIALS[m][1] for m in materials if m in MATERIALS)
    return float(np.clip(1e-3 * longest * (size / REFERENCE) ** 0.3 * max(strength, 0.02) ** -0.35, 0.3e-3, 5e-3))


def impact_sound(modes: Modes, push: float) -> Floats:
    """The sound [L] of an object after a blow of `push` seconds. It ends at -60 dB, or after 2 s."""
    # This is the smooth envelope of a half-sine pulse's spectrum. The spectrum's zeros would silence single modes.
    gain = modes.amplitude / (1 + (2 * modes.frequency * push) ** 2) * (modes.frequency < 0.45 * RATE)
    level = 20 * np.log10(np.maximum(np.abs(gain), 1e-12))
    lasts = float((modes.decay * (1 + (level - level.max()) / 60)).max())
    count = max(2, -(-round(min(lasts, LONGEST) * RATE) // BLOCK))
    rate = (2j * pi * modes.frequency - np.log(1000) / modes.decay) / RATE
    starts = np.exp(np.arange(count)[:, None] * BLOCK * rate)  # [count, K]
    inside = gain[:, None] * np.exp(np.arange(BLOCK) * rate[:, None])  # [K, BLOCK]
    # The sum of all modes' sines is the imaginary part of starts @ inside, written as two real products.
    out = (starts.real @ inside.imag + starts.imag @ inside.real).ravel().astype(np.float32)
    rise, fade = min(round(push * RATE / 2), RATE // 1000), min(len(out), 400)
    out[:rise] *= np.sin(pi / 2 * np.arange(1, rise + 1) / rise)
    out[-fade:] *= np.linspace(1, 0, fade)
    return out


def contact_noise(push: float, rng: np.random.Generator) -> Floats:
    """The noise [L] of the contact itself, with peak 1. A longer blow (`push` seconds) gives longer, duller noise."""
    soft = np.hanning(max(3, round(push * RATE / 2)))
    length = round(6 * push * RATE) + len(soft)
    noise = np.convolve(rng.normal(size=length), soft, "same") * np.exp(-5 * np.arange(length) / length)
    return (noise / np.abs(noise).max()).astype(np.float32)
