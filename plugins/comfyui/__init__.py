"""MaskVAT for ComfyUI: nodes that make sound for frames, in ComfyUI's own Python. README.md says how to install them.

The engine gets one frame at a time as a NumPy array. PyTorch is only used at the edges, where ComfyUI's types need it.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import runtime

CATEGORY = "audio/MaskVAT"
MAX_SEED = 2**64 - 1
Audio = dict[str, Any]

_pipelines: dict[tuple[str, str], runtime.Pipeline] = {}  # (bundle, backend) -> opened; they stay warm between prompts
_opening = threading.Lock()


def _options() -> dict[str, Any]:
    """The inputs that both nodes have. ComfyUI makes a sound again only if one of them, or the frames, changed."""
    seed = {"default": 0, "min": 0, "max": MAX_SEED, "control_after_generate": True}
    return {
        "seed": ("INT", seed | {"tooltip": "the same seed gives the same sound"}),
        "steps": ("INT", {"default": 32, "min": 1, "max": 1024, "tooltip": "8 are fast, 32 are the paper's"}),
        "guidance": ("FLOAT", {"default": 3.0, "min": 0.0, "max": 100.0, "step": 0.1}),
        "candidates": ("INT", {"default": 1, "min": 1, "max": 256, "tooltip": "makes so many, returns the best"}),
    }


def _extras() -> dict[str, Any]:
    """The inputs that may be left alone."""
    return {
        "prompt": ("STRING", {"default": "", "tooltip": "what is heard, in place of what is seen: dog, street"}),
        "avoid": ("STRING", {"default": "", "tooltip": "what is not heard; needs guidance"}),
        "bundle": ("STRING", {"default": "", "tooltip": "folder of another bundle; empty: the one that is shipped"}),
        "backend": (["auto", "cpu", "cuda", "tensorrt", "tensorrt-rtx"], {"default": "auto"}),
    }


def _pipeline(bundle: str, backend: str) -> runtime.Pipeline:
    """An open pipeline. Raises runtime.MaskVATError."""
    with _opening:
        key = (bundle.strip(), backend)
        if key not in _pipelines:
            _pipelines[key] = runtime.load(key[0] or None, backend)
        return _pipelines[key]


def _frames(images: torch.Tensor, rate: Fraction) -> Iterator[tuple[np.ndarray, Fraction]]:
    """(RGB uint8 [height, width, 3], seconds) of each frame of an IMAGE, one at a time."""
    for number in range(images.shape[0]):
        frame = (images[number, ..., :3].detach().float() * 255.0).round().clamp(0, 255)
        yield frame.to(device="cpu", dtype=torch.uint8).numpy(), number / rate


def _watched(cancel: threading.Event) -> Callable[[runtime.Progress], None]:
    """Shows progress in ComfyUI, and sets `cancel` when its user interrupts. Outside of ComfyUI it does neither."""
    utils, management = (sys.modules.get(f"comfy.{name}") for name in ("utils", "model_management"))
    bar = utils.ProgressBar(100) if utils is not None else None

    def on_progress(progress: runtime.Progress) -> None:
        if bar is not None:
            bar.update_absolute(round(100 * progress.fraction), 100)
        if management is not None and management.processing_interrupted():
            cancel.set()

    return on_progress


def make_audio(
    images: torch.Tensor,
    fps: float | Fraction,
    *,
    prompt: str = "",
    avoid: str = "",
    bundle: str = "",
    backend: str = "auto",
    **sampling: Any,
) -> Audio:
    """Make a sound exactly as long as the frames. `sampling` are fields of runtime.SamplingConfig.

    `images`: IMAGE, float [frames, height, width, 3 or 4], 0 to 1. Returns AUDIO: `waveform`, float32 [1, 1, samples],
    and `sample_rate` in Hz. Raises runtime.MaskVATError for what is not allowed.
    """
    config = runtime.SamplingConfig(**sampling)
    words = runtime.Words(prompt.strip() or None, avoid=avoid.strip() or None)
    if images.ndim != 4 or images.shape[0] < 1 or images.shape[3] < 3:
        raise runtime.OptionError(
            f"images have the shape {list(images.shape)}; give [frames, height, width, 3] with one frame or more"
        )
    source = runtime.FrameSource(iter(()), rate=fps, name="ComfyUI frames")  # checks the rate, and finds the exact one
    rate = source.rate
    assert rate is not None
    duration = Fraction(images.shape[0]) / rate
    source = runtime.FrameSource(_frames(images, rate), rate=rate, duration=duration, name="ComfyUI frames")
    cancel = threading.Event()
    try:
        pipeline, watch = _pipeline(bundle, backend), _watched(cancel)
        (take,) = pipeline.generate(source, config, on_progress=watch, cancel=cancel, words=words)
    except runtime.Cancelled:
        management = sys.modules.get("comfy.model_management")
        if management is not None:
            management.throw_exception_if_processing_interrupted()  # what ComfyUI expects in place of an error
        raise
    return {"waveform": torch.from_numpy(take.audio.copy())[None, None], "sample_rate": take.sample_rate}


class MaskVATImagesToAudio:
    """Sound for frames (IMAGE) of a known rate."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "make"
    CATEGORY = CATEGORY
    DESCRIPTION = "Makes a sound for frames, exactly as long as they are. Connect fps with the video's own rate."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs, as ComfyUI asks for them. `fps` must be connected: a wrong rate would be a sound out of time."""
        frames = {"images": ("IMAGE",), "fps": ("FLOAT", {"forceInput": True})}
        return {"required": frames | _options(), "optional": _extras()}

    def make(self, images: torch.Tensor, fps: float, **options: Any) -> tuple[Audio]:
        """As `make_audio`."""
        return (make_audio(images, fps, **options),)


class MaskVATVideoToAudio:
    """Sound for a VIDEO, whose frames and rate it brings."""

    RETURN_TYPES = ("AUDIO",)
    FUNCTION = "make"
    CATEGORY = CATEGORY
    DESCRIPTION = "Makes a sound for a video, exactly as long as its picture. The video's own sound is not used."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs, as ComfyUI asks for them."""
        return {"required": {"video": ("VIDEO",)} | _options(), "optional": _extras()}

    def make(self, video: Any, **options: Any) -> tuple[Audio]:
        """As `make_audio`, with the frames and the exact rate of `video.get_components()`."""
        parts = video.get_components()
        return (make_audio(parts.images, parts.frame_rate, **options),)


NODE_CLASS_MAPPINGS = {"MaskVATImagesToAudio": MaskVATImagesToAudio, "MaskVATVideoToAudio": MaskVATVideoToAudio}
NODE_DISPLAY_NAME_MAPPINGS = {
    "MaskVATImagesToAudio": "MaskVAT: sound for frames",
    "MaskVATVideoToAudio": "MaskVAT: sound for a video",
}
__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
