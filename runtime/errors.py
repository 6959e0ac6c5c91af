"""Every error that a user can meet. Each message says what was given, what is allowed and what to do.

Import errors from here, not from `engines`. Each class has a `code`: a stable name that programs can rely on, unlike
the message.

    class                   code                    meaning
    MaskVATError            maskvat_error           base of all others
        ContractError       contract_error          a tensor does not fit the contract
        ManifestError       manifest_error          a bundle is missing, altered or made for another contract
        BackendUnavailable  backend_unavailable     the requested backend is not installed or does not work here
        EngineError         engine_error            a backend failed while it ran, for example out of memory
        MediaError          media_error             a video or sound file cannot be read or written
        OptionError         option_error            an option's value is not allowed; also a ValueError
        PipelineClosed      pipeline_closed         a pipeline was used after `close()`
        Cancelled           cancelled               the caller cancelled the generation
"""

from engines.base import BackendUnavailable, ContractError, EngineError, MaskVATError, OptionError
from engines.manifest import ManifestError


class MediaError(MaskVATError):
    """A video or sound file cannot be read or written."""

    code = "media_error"


class PipelineClosed(MaskVATError):
    """A pipeline was used after `close()`."""

    code = "pipeline_closed"


class Cancelled(MaskVATError):
    """The caller cancelled the generation."""

    code = "cancelled"


__all__ = [
    "BackendUnavailable",
    "Cancelled",
    "ContractError",
    "EngineError",
    "ManifestError",
    "MaskVATError",
    "MediaError",
    "OptionError",
    "PipelineClosed",
]
