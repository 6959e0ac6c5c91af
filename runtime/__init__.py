"""Silent video in, synchronised 44.1 kHz sound out, without PyTorch.

with runtime.load() as pipeline:
    take = pipeline.generate("clip.mp4", runtime.SamplingConfig(steps=32, seed=0))[0]
take.audio, take.sample_rate
"""

from typing import TYPE_CHECKING

from runtime.errors import (
    BackendUnavailable,
    Cancelled,
    ContractError,
    EngineError,
    ManifestError,
    MaskVATError,
    MediaError,
    OptionError,
    PipelineClosed,
)
from runtime.pipeline import Pipeline, load
from runtime.sampling import Progress, SamplingConfig, Stage
from runtime.take import Report, Take

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """`__version__`, looked up when it is first used: reading package metadata would slow every import."""
        if name == "__version__":
            from runtime.version import program_version

            return program_version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    "PipelineClosed",
    "Progress",
    "Report",
    "SamplingConfig",
    "Stage",
    "Take",
    "__version__",
    "load",
]
