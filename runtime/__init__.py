"""Silent video in, synchronised 44.1 kHz sound out, without PyTorch.

takes = runtime.load().generate("clip.mp4", runtime.SamplingConfig(steps=32, seed=0))
takes[0].audio, takes[0].sample_rate
"""

from runtime.errors import (
    BackendUnavailable,
    Cancelled,
    ContractError,
    EngineError,
    ManifestError,
    MaskVATError,
    MediaError,
    OptionError,
)
from runtime.pipeline import Pipeline, load
from runtime.sampling import Progress, SamplingConfig, Take

__all__ = [
    "BackendUnavailable",
    "Cancelled",
    "ContractError",
    "EngineError",
    "ManifestError",
    "MaskVATError",
    "MediaError",
    "OptionError",
    "Pipeline",
    "Progress",
    "SamplingConfig",
    "Take",
    "load",
]
