"""Let torchvision be imported beside a CPU build of torch that its wheel was not made for.

Such a wheel's compiled half does not load, and its import then dies on operators that do not exist. open_clip imports
torchvision at once, and transformers does as soon as it is installed. Tests need none of its operators, only its names.
"""

import importlib.util

_libraries: list[object] = []  # a torch.library.Library lives as long as something holds it


def install() -> None:
    """Declare the two missing operators, unless torchvision is absent or already works."""
    if _libraries or importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, OSError):
        import sys

        import torch

        for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
            del sys.modules[name]  # what the failed import left
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
