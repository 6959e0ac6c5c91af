"""Sound files: WAV and broadcast WAV, by `runtime.media.wav`, and FLAC with tags. The suffix decides."""

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame

from runtime.audio import FloatArray, PathLike, replacing
from runtime.errors import OptionError
from runtime.media.wav import BLOCK, Chunk, WavFormat, integers, wav_header, wav_samples

SUFFIXES = (".wav", ".flac")
LAYOUTS = {1: "mono", 2: "stereo"}
FLAC_BITS = ("16", "24")
FLAC_RATE_LIMIT = 655_350  # Hz


def check_sound_file(path: PathLike, form: WavFormat, broadcast: bool = False) -> None:
    """Raise OptionError if the suffix of a name and the format do not fit."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"the output {path} is not a .wav or .flac file; for a video with sound use --mux {path}")
    if suffix == ".flac" and form.bits not in FLAC_BITS:
        raise OptionError(f"{path}: FLAC holds 16 or 24 bits, and no float samples; use --bits 24, or name a .wav file")
    if suffix == ".flac" and broadcast:
        raise OptionError(f"{path}: a broadcast WAV (--bwf) is a WAV file; name a .wav file, or leave out --bwf")
    if suffix == ".flac" and form.rate > FLAC_RATE_LIMIT:
        raise OptionError(f"{path}: FLAC holds up to {FLAC_RATE_LIMIT} Hz, not {form.rate}; name a .wav file")


def write_sound(
    path: PathLike,
    audio: FloatArray,
    form: WavFormat,
    chunks: Sequence[Chunk] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write mono audio [L] in [-1, 1], whole or not at all. WAV files get `chunks`, FLAC files `tags`.

    Raises OptionError if the format does not fit the suffix, MediaError if the file cannot be written.
    """
    check_sound_file(path, form, broadcast=bool(chunks))
    with replacing(path) as part:
        if Path(path).suffix.lower() == ".flac":
            _write_flac(part, audio, form, tags or {})
        else:
            with open(part, "xb") as file:
                write_wav_to(file, audio, form, chunks)


def write_wav_to(file: BinaryIO, audio: FloatArray, form: WavFormat, chunks: Sequence[Chunk] = ()) -> None:
    """Write a WAV file to anything that takes bytes, such as a pipe: it is written from front to back."""
    file.write(wav_header(form, len(audio), chunks))
    for block in wav_samples(form, audio):
        file.write(block)


def _write_flac(path: Path, audio: FloatArray, form: WavFormat, tags: Mapping[str, str]) -> None:
    bits, layout = int(form.bits), LAYOUTS[form.channels]
    kind = "s16" if bits == 16 else "s32"
    with av.open(os.path.abspath(path), "w", format="flac") as out:
        out.metadata.update(tags)
        stream = out.add_stream("flac", rate=form.rate, layout=layout)
        context: Any = stream.codec_context
        context.format = kind
        context.time_base = Fraction(1, form.rate)
        for first in range(0, len(audio), BLOCK):
            samples = integers(audio[first : first + BLOCK], bits)
            samples = samples.astype(np.int16) if bits == 16 else samples << 8  # FFmpeg keeps the upper 24 bits of 32
            row: Any = samples.repeat(form.channels)[None]
            frame = AudioFrame.from_ndarray(row, format=kind, layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = form.rate, Fraction(1, form.rate), first
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
