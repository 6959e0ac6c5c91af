"""Silent video in, synchronised 44.1 kHz sound out, without PyTorch.

with runtime.load() as pipeline:
    take = pipeline.generate("video.mp4", runtime.SamplingConfig(steps=32, seed=0))[0]
take.audio, take.sample_rate
"""

from importlib import import_module

TYPE_CHECKING = False  # as in `typing`, which takes long to import

if TYPE_CHECKING:
    from runtime.deliver.delivery import DeliveryConfig, deliver_take, write_take
    from runtime.deliver.loudness import Loudness
    from runtime.edit.frame_source import FrameSource
    from runtime.edit.request import GenerationRequest, extend, redo, vary
    from runtime.edit.timecode import TimeRange
    from runtime.edit.words import Words
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
    from runtime.take import Piece, Report, SoundStream, Take

    __version__: str
else:
    _HOMES = {"Pipeline": "pipeline", "load": "pipeline"}
    _HOMES |= dict.fromkeys(("Piece", "Report", "SoundStream", "Take"), "take")
    _HOMES |= dict.fromkeys(("DeliveryConfig", "deliver_take", "write_take"), "deliver.delivery")
    _HOMES |= {"Loudness": "deliver.loudness", "FrameSource": "edit.frame_source", "TimeRange": "edit.timecode"}
    _HOMES["Words"] = "edit.words"
    _HOMES |= dict.fromkeys(("GenerationRequest", "extend", "redo", "vary"), "edit.request")
    _HOMES |= dict.fromkeys(("Progress", "SamplingConfig", "Stage"), "sampling")

    def __getattr__(name: str) -> object:
        """A public name, imported when it is first used: the command must handle signals before NumPy is imported."""
        if name == "__version__":
            return import_module("runtime.version").program_version()  # package metadata is slow to read
        if name == "errors":
            return import_module("runtime.errors")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"runtime.{_HOMES.get(name, 'errors')}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "BackendUnavailable",
    "Cancelled",
    "ContractError",
    "DeliveryConfig",
    "EngineError",
    "FrameSource",
    "GenerationRequest",
    "Loudness",
    "ManifestError",
    "MaskVATError",
    "MediaError",
    "OptionError",
    "Piece",
    "Pipeline",
    "PipelineClosed",
    "Progress",
    "Report",
    "SamplingConfig",
    "SoundStream",
    "Stage",
    "Take",
    "TimeRange",
    "Words",
    "__version__",
    "deliver_take",
    "extend",
    "load",
    "redo",
    "vary",
    "write_take",
]
