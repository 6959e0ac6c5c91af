"""Export trained weights to a bundle of ONNX graphs, and measure their agreement with PyTorch."""

from runtime.errors import MaskVATError


class ExportError(MaskVATError):
    """A graph cannot be exported as the contract requires. The message says which graph, why, and what to do."""

    code = "export_error"
