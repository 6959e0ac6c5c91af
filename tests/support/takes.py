"""Takes made without a pipeline."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from engines.contract import FloatArray, Int32Array
from runtime.deliver.loudness import Loudness
from runtime.sampling import SamplingConfig
from runtime.take import EngineFile, Report, Take

REPORT = Report(
    version="1.0",
    clip="x.mp4",
    bundle="fake",
    backend="cpu",
    precision="fp32",
    threads=0,
    engines={"step": EngineFile("step.onnx", "0" * 64)},
    sampling=SamplingConfig(),
    windows=1,
    samples=44100,
    sample_rate=44100,
    seconds={"step": 1.0},
    calls={"step": 32},
    total_seconds=1.0,
    loudness=(Loudness(None, None, None, None, None, True),),
    warnings=(),
    scores=None,
    ranking=(0,),
    dropped=(),
)


def make_take(audio: FloatArray, codes: Int32Array | None = None, **changes: Any) -> Take:
    """A take of one second at 44.1 kHz, with some fields changed."""
    codes = np.zeros((9, 87), np.int32) if codes is None else codes
    return replace(Take(audio, 44100, 0, None, codes, Fraction(1), Fraction(0), REPORT), **changes)
