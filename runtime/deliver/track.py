"""The generated sound as a track of a copy, encoded only as far as the picture is written."""

from fractions import Fraction
from typing import cast

import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition

from runtime.audio import FloatArray, audio_frame, pcm16
from runtime.deliver.containers import Container

BLOCK = 4096  # samples encoded at a time


class SoundTrack:
    """Encodes the sound bit by bit, as far as the picture has come."""

    def __init__(self, out: OutputContainer, kind: Container, audio: FloatArray, rate: int, start: Fraction) -> None:
        self.out, self.rate, self.start = out, rate, start
        self.stream = cast(AudioStream, out.add_stream(kind.codec, rate=rate, layout="mono"))
        self.stream.codec_context.time_base = Fraction(1, rate)
        self.stream.disposition = Disposition.default
        if kind.bit_rate is not None:
            self.stream.codec_context.bit_rate = kind.bit_rate
        lead = 0 if kind.timed else max(0, round(start * rate))  # a file without time stamps begins with silence
        self.audio = np.pad(audio, (lead, 0)) if lead else audio
        self.first = round(start * rate) - lead  # time stamp of the first sample
        self.at = 0  # samples encoded

    def until(self, time: Fraction) -> None:
        """Encode whole blocks that end before `time`, seconds."""
        while self.first + self.at + BLOCK <= time * self.rate:
            self._encode(BLOCK)

    def finish(self, end: Fraction) -> None:
        """Encode the rest up to the picture's end, seconds."""
        total = max(1, round(end * self.rate) - self.first)
        while self.at < total:
            self._encode(min(BLOCK, total - self.at))
        self.out.mux(self.stream.encode(None))

    def _encode(self, n: int) -> None:
        block = self.audio[self.at : self.at + n]
        block = np.pad(block, (0, n - len(block)))
        rounded = pcm16(block)  # as in the WAV: AAC searches long for how to keep what lies below, which nobody hears
        samples = rounded if self.stream.format.name.startswith("s16") else np.divide(rounded, 32768, dtype=np.float32)
        # Without explicit time stamps the encoder's priming would come on top: 1024 samples late with AAC.
        self.out.mux(self.stream.encode(audio_frame(samples, self.rate, self.first + self.at)))
        self.at += n
