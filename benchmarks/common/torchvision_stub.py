"""Make torchvision importable with a build of torch that it was not compiled for.

The compiled part of such a torchvision does not load, and its import fails because operators are missing. open_clip and
transformers import torchvision. Benchmarks and tests need its names, and transforms written in Python, but none of its
operators.
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
            del sys.modules[name]  # left by the failed import
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
