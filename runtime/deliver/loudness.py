"""Loudness and true peak of a sound (EBU R 128), measured by FFmpeg's filter ebur128."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import log10

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from runtime.audio import FloatArray, audio_frame

HOP = Fraction(1, 10)  # seconds: the filter measures whole hops only
PEAK_TAIL = 2  # hops of silence after the sound: the filter's interpolation is late by less
GATE = -70.0  # LUFS: blocks below this count as silence
FILTER_FLOOR = -100.0  # LUFS: the filter gives about -120 for silence, and for windows that are not full yet
RANGE_GATE, RANGE_WINDOWS = -20.0, 5  # LU below the integrated loudness; the filter's range is wrong for fewer windows
KEYS, PEAK = ("I", "LRA", "M", "S"), "true_peak"
PRECISE_ABOVE = 0.25  # peak above which its three decimals are enough; a quieter sound is measured once more, scaled up


@dataclass(frozen=True)
class Loudness:
    """Loudness in LUFS, its range in LU and the true peak in dBTP. A value that the sound does not have is None.

    `dual_mono` says that the sound was measured as one that both speakers play, 3 LU above one speaker.
    """

    integrated: float | None  # None: silence, or shorter than 0.4 s
    range: float | None  # None: silence, or shorter than about 3.5 s
    momentary_max: float | None  # of windows of 0.4 s
    short_term_max: float | None  # of windows of 3 s
    true_peak: float | None  # None: digital silence
    dual_mono: bool


def measure_loudness(
    audio: FloatArray, rate: int, dual_mono: bool = True, check_cancelled: Callable[[], None] = lambda: None
) -> Loudness:
    """Measure mono audio [L]. `dual_mono`: for a sound that plays on both speakers, as a mono track usually does.

    `check_cancelled` is called for every tenth of a second, and may raise.
    """
    scale = float(np.abs(audio).max(initial=0.0))
    if scale == 0:
        return Loudness(None, None, None, None, None, dual_mono)
    options = {"metadata": "1", "dualmono": str(int(dual_mono)), "peak": "true"}
    found: dict[str, list[float]] = {key: [] for key in (*KEYS, PEAK)}
    for values in _run_filter(audio, rate, options, check_cancelled):
        for key, series in found.items():
            series.append(values[key])
    peak = max(found[PEAK])
    if scale < PRECISE_ABOVE:
        scaled = _run_filter(audio / np.float32(scale), rate, options, check_cancelled)
        peak = scale * max(values[PEAK] for values in scaled)
    hops = len(audio) // round(rate * HOP)  # whole ones: windows that end in the padding do not count
    whole = {key: found[key][:hops] for key in KEYS}
    integrated = _above(whole["I"][-1:], GATE)
    gate = FILTER_FLOOR if integrated is None else max(GATE, integrated + RANGE_GATE)
    windows = sum(value > gate for value in whole["S"])
    return Loudness(
        integrated=integrated,
        range=whole["LRA"][-1] if integrated is not None and windows >= RANGE_WINDOWS else None,
        momentary_max=_above(whole["M"], FILTER_FLOOR),
        short_term_max=_above(whole["S"], FILTER_FLOOR),
        true_peak=round(20 * log10(max(peak, scale)), 3),
        dual_mono=dual_mono,
    )


def _above(values: list[float], floor: float) -> float | None:
    loudest = max(values, default=floor)
    return loudest if loudest > floor else None


def _run_filter(
    audio: FloatArray, rate: int, options: dict[str, str], check_cancelled: Callable[[], None]
) -> Iterator[dict[str, float]]:
    """The filter's values after each tenth of a second, names without their prefix."""
    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout="mono", time_base=Fraction(1, rate))
    meter = graph.add("ebur128", ":".join(f"{key}={value}" for key, value in options.items()))
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    hop = round(rate * HOP)
    for first in range(0, len(audio) + PEAK_TAIL * hop, hop):
        check_cancelled()
        block = audio[first : first + hop]
        source.push(audio_frame(np.pad(block, (0, hop - len(block))), rate, first))
        yield from _pull(sink)
    source.push(None)
    yield from _pull(sink)


def _pull(sink: "av.filter.context.FilterContext") -> Iterator[dict[str, float]]:
    while True:
        try:
            frame = sink.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        tags = frame.metadata if isinstance(frame, AudioFrame) else {}
        values = {key.removeprefix("lavfi.r128."): value for key, value in tags.items()}
        if values:
            yield {key: float(value) for key, value in values.items()}
