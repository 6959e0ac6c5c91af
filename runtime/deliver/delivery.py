"""From a take to a sound file: levels, format, and what the file says about itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import numpy as np

from engines.contract import FloatArray
from runtime.audio import MAX_RATE, PathLike, resample
from runtime.deliver.broadcast import Origin, broadcast_chunks, time_reference
from runtime.deliver.levels import Gain, choose_gain, decibels, fade_ends
from runtime.deliver.loudness import Loudness, measure_loudness
from runtime.deliver.silence import Gate, Silence, read_silence
from runtime.deliver.sound_file import write_sound
from runtime.edit.timecode import Span, Timecode
from runtime.edit.words import PlacedWords
from runtime.errors import OptionError
from runtime.media.wav import Bits, Chunk, WavFormat
from runtime.sampling import number, whole_number
from runtime.take import Take

RANGE_FADE = 5.0  # ms at both ends of a range: it was cut out of a longer sound
SAFE_PEAK = -1.0  # dBTP: the limit on true peaks if `lufs` is given and `peak` is not (EBU R 128)


@dataclass(frozen=True)
class DeliveryConfig:
    """How takes become sound files. The defaults change nothing: 16 bit, mono, the bundle's sample rate.

    Levels are applied in this order: silence, mix, fade, then one gain. Raises OptionError if a value is not allowed.
    """

    bits: Bits = "16"  # "16", "24" or "float"
    rate: int | None = None  # Hz; None: the bundle's
    channels: int = 1  # 1, or 2 with the same sound
    gain: float = 0.0  # dB, -120 to 60
    fade: float | None = None  # ms at both ends, 0 to 60000; None: 5 for a range, 0 for a whole video
    mix: float | None = None  # dB, -120 to 60: level of the take over the video's own sound; None: the take alone
    lufs: float | None = None  # LUFS, -70 to 0: integrated loudness to reach
    peak: float | None = None  # dBTP, -60 to 0: the true peak stays below; None: -1 with `lufs`, else no limit
    silence: Silence = "off"  # "auto", or dBFS: where nothing should sound becomes silence (runtime.deliver.silence)
    bwf: bool = False  # WAV files are broadcast WAV

    def __post_init__(self) -> None:
        if self.bits not in get_args(Bits):
            raise OptionError(f"bits is {self.bits!r}; choose from {', '.join(get_args(Bits))}")
        limits = {"gain": (-120, 60), "fade": (0, 60000), "mix": (-120, 60), "lufs": (-70, 0), "peak": (-60, 0)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, number(name, value, low, high))
        object.__setattr__(self, "silence", read_silence(self.silence))
        object.__setattr__(self, "channels", whole_number("channels", self.channels, 1, 2))
        if self.rate is not None:
            object.__setattr__(self, "rate", whole_number("rate", self.rate, 1, MAX_RATE))
        if self.lufs is not None and self.gain:
            raise OptionError("gain and lufs both set the level; give one of them")

    @property
    def changes_levels(self) -> bool:
        """Whether samples get other values than the take's, apart from their format."""
        return bool(self.gain) or any(value is not None for value in (self.fade, self.mix, self.lufs, self.peak))

    def fade_samples(self, rate: int, is_part: bool) -> int:
        """Samples at `rate` Hz that are faded at each end. `is_part`: the sound is that of a range."""
        fade = (RANGE_FADE if is_part else 0.0) if self.fade is None else self.fade
        return round(fade / 1000 * rate)


@dataclass(frozen=True, eq=False)
class DeliveredSound:
    """A take at its delivered level."""

    take: Take
    audio: FloatArray  # [L] mono at the take's sample rate; may exceed 1, which only float files keep
    form: WavFormat  # of the file
    loudness: Loudness  # of `audio`, played on two speakers
    gain: Gain
    warnings: tuple[str, ...]
    gate: Gate | None = None  # None: without --silence
    span: Span | None = None  # the part of the video that it fills; None: all of it

    @property
    def generated(self) -> FloatArray:
        """The take's sound [L] behind the gate, before any level is changed."""
        audio, rate = self.take.audio, self.take.sample_rate
        return audio if self.gate is None else self.gate.apply(audio, rate)

    @property
    def length(self) -> int:
        """Samples of the file, in each channel."""
        same = self.form.rate == self.take.sample_rate
        return len(self.audio) if same else _length_at(self.take.duration, self.form.rate)

    def samples(self) -> FloatArray:
        """`audio` at the file's rate: [length]."""
        return at_rate(self.audio, self.take.sample_rate, self.take.duration, self.form.rate)

    def facts(self) -> dict[str, Any]:
        """What a report says about the sound and its file."""
        return {
            "rate": self.form.rate,
            "bits": self.form.bits,
            "channels": self.form.channels,
            "samples": self.length,
            "loudness": asdict(self.loudness),
            "gain": asdict(self.gain),
        } | ({} if self.gate is None else {"silence": self.gate.facts()})


def deliver_take(
    take: Take, config: DeliveryConfig, span: Span | None = None, own: FloatArray | None = None
) -> DeliveredSound:
    """Bring a take to its delivered level and rate. `span` says where in the video it lies, if the take does not: a
    host's frames may be a part of a video. None: `take.span`.

    `own` is the video's own sound at the same place, [L] at the take's sample rate; `config.mix` needs it.
    Raises OptionError if `lufs` is given and the sound is silent.
    """
    audio, gate, span = take.audio, None, span or take.span
    if config.silence != "off":
        gate = Gate.of(config.silence, audio, take.sample_rate, take.activity)
        audio = gate.apply(audio, take.sample_rate)
    if config.mix is not None:
        if own is None or own.shape != audio.shape:
            raise OptionError("a mix needs the video's own sound, as long as the take")
        audio = own + audio * decibels(config.mix)
    audio = fade_ends(audio, config.fade_samples(take.sample_rate, span is not None))
    loudness = measure_loudness(audio, take.sample_rate)
    peak = SAFE_PEAK if config.peak is None and config.lufs is not None else config.peak
    gain = choose_gain(loudness, config.gain, config.lufs, peak)
    if gain.decibels:
        audio = audio * decibels(gain.decibels)
        loudness = measure_loudness(audio, take.sample_rate)
    form = WavFormat(config.rate or take.sample_rate, config.bits, config.channels)
    warnings = _level_warnings(config, gain, loudness, audio)
    return DeliveredSound(take, audio, form, loudness, gain, warnings, gate, span)


def at_rate(audio: FloatArray, source_rate: int, duration: Fraction, rate: int) -> FloatArray:
    """A sound at another rate, again as long as the picture, rounded to one sample of that rate."""
    if rate == source_rate:
        return audio
    resampled = resample(audio, source_rate, rate)
    length = _length_at(duration, rate)
    return np.pad(resampled, (0, max(0, length - len(resampled))), mode="edge")[:length]


def _length_at(duration: Fraction, rate: int) -> int:
    return max(1, round(duration * rate))


def _level_warnings(config: DeliveryConfig, gain: Gain, loudness: Loudness, audio: FloatArray) -> tuple[str, ...]:
    warnings = []
    if gain.set_by == "peak" and config.lufs is not None:
        warnings.append(
            f"the loudness is {loudness.integrated:.1f} LUFS and not {config.lufs:g}: a louder sound would exceed "
            f"the true peak of {SAFE_PEAK if config.peak is None else config.peak:g} dBTP"
        )
    clipped = int(np.count_nonzero(np.abs(audio) > 1)) if config.changes_levels and config.bits != "float" else 0
    if clipped:
        warnings.append(
            f"{clipped} samples are louder than full scale and are clipped; use --peak -1, a lower --gain, or "
            "--bits float"
        )
    return tuple(warnings)


@dataclass(frozen=True, eq=False)
class SoundContent:
    """All that a sound file holds, whatever it is written to."""

    sound: DeliveredSound
    samples: FloatArray
    chunks: list[Chunk]  # of a broadcast WAV; none otherwise
    tags: Mapping[str, str]  # of a FLAC file
    facts: dict[str, Any]  # what the file is, as plain JSON values


def sound_content(
    sound: DeliveredSound,
    config: DeliveryConfig,
    take_number: int = 1,
    span: Span | None = None,
    start: Timecode | None = None,
    made: datetime | None = None,
) -> SoundContent:
    """The content of a take's file. `span` is where it lies (None: `sound.span`), `start` the timecode of the video's
    first picture, which time stamps count from, `made` the time of making (None: now).
    """
    samples, facts = sound.samples(), sound.facts()
    origin = _make_origin(sound, samples, take_number, span or sound.span, start, made)
    chunks: list[Chunk] = []
    if config.bwf:
        chunks = broadcast_chunks(sound.form, origin, sound.loudness)
        facts |= {"time_reference": time_reference(origin, sound.form.rate), "identifier": origin.identifier}
    settings = "; ".join(f"{key}: {value}" for key, value in origin.settings.items())
    tags = {"TITLE": origin.description, "TRACKNUMBER": str(origin.take), "COMMENT": settings}
    return SoundContent(sound, samples, chunks, tags, facts)


def write_take(
    path: PathLike,
    sound: DeliveredSound,
    config: DeliveryConfig,
    take_number: int = 1,
    span: Span | None = None,
    start: Timecode | None = None,
    made: datetime | None = None,
) -> dict[str, Any]:
    """Write a delivered take as WAV or FLAC, by the suffix. Returns what the file is, as plain JSON values.

    The other arguments are those of `sound_content`. Raises OptionError if the format does not fit the suffix,
    MediaError if the file cannot be written.
    """
    content = sound_content(sound, config, take_number, span, start, made)
    write_sound(path, content.samples, sound.form, content.chunks, content.tags)
    return content.facts


def _make_origin(
    sound: DeliveredSound,
    samples: FloatArray,
    take_number: int,
    span: Span | None,
    start: Timecode | None,
    made: datetime | None,
) -> Origin:
    """What the file of a take says about itself."""
    report = sound.take.report
    name = Path(report.clip).name
    sampling = report.sampling
    settings: dict[str, object] = {
        "bundle": report.bundle,
        "seed": sampling.seed,
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "candidate": sound.take.candidate,
        "backend": report.backend,
        "precision": report.precision,
    }
    if report.words is not None:
        settings |= {"words": str(PlacedWords.of_facts(report.words))}
    digest = sha256(f"{name}\n{sound.form}\n{take_number}\n".encode())
    digest.update(np.ascontiguousarray(samples).data)
    return Origin(
        description=name,
        identifier=digest.hexdigest()[:32],
        version=report.version,
        settings={key: str(value) for key, value in settings.items()},
        take=take_number,
        made=datetime.now() if made is None else made,
        offset=Fraction(0) if span is None else span.begin,
        start=start,
    )
