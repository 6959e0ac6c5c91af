"""From trained weights to a bundle of ONNX graphs whose agreement with the network is measured."""

from runtime.errors import MaskVATError


class ExportError(MaskVATError):
    """A graph cannot be exported as the contract wants it; the message says which, why, and what to do."""

    code = "export_error"
