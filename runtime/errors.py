"""Every error a user can meet. Each message says what was given, what is allowed and what to do.

MaskVATError
    ContractError           a tensor does not fit the contract
    ManifestError           a bundle is missing, altered or from another contract
    BackendUnavailable      a backend was asked for that this machine does not have
    EngineError             a backend failed while it ran: out of memory, for example
    MediaError              a video or sound file cannot be read or written
    OptionError             an option's value is not allowed
    Cancelled               the caller asked to stop
"""

from engines.base import BackendUnavailable, ContractError, EngineError, MaskVATError
from engines.manifest import ManifestError


class MediaError(MaskVATError):
    """A video or sound file cannot be read or written."""


class OptionError(MaskVATError, ValueError):
    """An option's value is not allowed."""


class Cancelled(MaskVATError):
    """The caller asked to stop."""


__all__ = [
    "BackendUnavailable",
    "Cancelled",
    "ContractError",
    "EngineError",
    "ManifestError",
    "MaskVATError",
    "MediaError",
    "OptionError",
]
