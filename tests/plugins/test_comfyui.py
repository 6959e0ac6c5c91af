"""The ComfyUI nodes as classes with tensors. ComfyUI is not needed; what it gives to a node is imitated."""

import importlib.util
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import runtime
from runtime.edit.timecode import frame_samples
from tests.support.fake_engines import NEEDS_ORT, WORDS
from tests.support.media import noisy
from tests.support.paths import ROOT

pytestmark = [pytest.mark.torch, NEEDS_ORT]
FRAMES = 40


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    """The plug-in, loaded as ComfyUI loads a folder of custom_nodes: by its path, under a name made of it."""
    folder = ROOT / "plugins" / "comfyui"
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for pipeline in module._pipelines.values():
        pipeline.close()
    del sys.modules[name]


@pytest.fixture(scope="module")
def images() -> Any:
    """IMAGE of 40 frames, float32 [40, 64, 96, 3] in 0..1."""
    return torch.from_numpy(np.stack(noisy(FRAMES)).astype(np.float32) / 255)


@pytest.fixture
def make(plugin: ModuleType, images: Any, bundles: Callable[..., Path]) -> Callable[..., Any]:
    """make(**changes) -> AUDIO of the node for frames, as ComfyUI calls it: by FUNCTION, with keywords."""

    def call(**changes: Any) -> Any:
        node = plugin.NODE_CLASS_MAPPINGS["MaskVATImagesToAudio"]()
        values = {"images": images, "fps": 25.0, "seed": 1, "steps": 2, "guidance": 3.0, "candidates": 1}
        values |= {"bundle": str(bundles()), "backend": "cpu"}
        result = getattr(node, node.FUNCTION)(**(values | changes))
        assert isinstance(result, tuple) and len(result) == len(node.RETURN_TYPES)
        return result[0]

    return call


@pytest.mark.parametrize("fps", [23.976, 24.0, 25.0, 29.97, 50.0, 59.94, 12.5, Fraction(30000, 1001)])
def test_the_sound_is_exactly_as_long_as_the_frames(make: Callable[..., Any], fps: float | Fraction) -> None:
    audio = make(fps=fps)
    exact = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001), 59.94: Fraction(60000, 1001)}
    samples = frame_samples(FRAMES, exact.get(float(fps), Fraction(fps)), 44100)
    assert set(audio) == {"waveform", "sample_rate"} and audio["sample_rate"] == 44100
    assert audio["waveform"].dtype == torch.float32 and list(audio["waveform"].shape) == [1, 1, samples]
    assert audio["waveform"].abs().max() > 0


def test_it_is_the_sound_of_the_python_api(make: Callable[..., Any], images: Any, bundles: Callable) -> None:
    frames = [(image, n / 25) for n, image in enumerate(noisy(FRAMES))]
    with runtime.load(bundles(), "cpu") as pipeline:
        (take,) = pipeline.generate(runtime.FrameSource(frames, rate=25), runtime.SamplingConfig(steps=2, seed=1))
    for same in (images, images.double(), images.clone().requires_grad_(), torch.cat([images, images[..., :1]], -1)):
        assert np.array_equal(make(images=same)["waveform"][0, 0].numpy(), take.audio)
    high = torch.where(images == 1, torch.tensor(1.5), images)  # values out of range are clipped, not wrapped
    assert np.array_equal(make(images=high)["waveform"][0, 0].numpy(), take.audio)


def test_seed_and_options_change_the_sound(make: Callable[..., Any], images: Any) -> None:
    first = make()["waveform"]
    assert torch.equal(make()["waveform"], first)
    for changes in ({"seed": 2}, {"steps": 4}, {"guidance": 0.0}, {"images": images.flip(0)},
                    {"prompt": WORDS[0]}, {"avoid": WORDS[0]}):  # fmt: skip
        assert not torch.equal(make(**changes)["waveform"], first), changes
    assert torch.equal(make(prompt=" ", avoid="")["waveform"], first)
    assert make(candidates=3)["waveform"].shape == first.shape


def test_a_video_brings_its_frames_and_rate(plugin: ModuleType, make: Callable, images: Any, bundles: Callable) -> None:
    parts = SimpleNamespace(images=images, audio=None, frame_rate=Fraction(30000, 1001))
    video = SimpleNamespace(get_components=lambda: parts)
    node = plugin.NODE_CLASS_MAPPINGS["MaskVATVideoToAudio"]()
    options = {"seed": 1, "steps": 2, "guidance": 3.0, "candidates": 1, "bundle": str(bundles()), "backend": "cpu"}
    (audio,) = node.make(video=video, **options)
    assert torch.equal(audio["waveform"], make(fps=29.97)["waveform"])


def test_what_comfyui_reads(plugin: ModuleType) -> None:
    assert set(plugin.NODE_CLASS_MAPPINGS) == set(plugin.NODE_DISPLAY_NAME_MAPPINGS)
    for node in plugin.NODE_CLASS_MAPPINGS.values():
        inputs = node.INPUT_TYPES()
        required = inputs["required"]
        assert node.RETURN_TYPES == ("AUDIO",) and callable(getattr(node, node.FUNCTION))
        # a seed is an input, so it is part of what ComfyUI compares before it uses an old result
        assert required["seed"][0] == "INT" and required["seed"][1]["max"] == 2**64 - 1
        assert all(options[0] == "STRING" or "default" in options[1] for options in inputs["optional"].values())
        for name in ("steps", "guidance", "candidates"):  # the limits are those of the engine
            for limit in ("min", "max"):
                runtime.SamplingConfig(**{"candidates": 1, name: required[name][1][limit]})
        defaults = {name: required[name][1]["default"] for name in ("seed", "steps", "guidance", "candidates")}
        assert runtime.SamplingConfig(**defaults) == runtime.SamplingConfig()
    assert plugin.MaskVATImagesToAudio.INPUT_TYPES()["required"]["fps"][1] == {"forceInput": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(3, 8, 8)}, r"images have the shape \[3, 8, 8\]; give"),
        ({"images": torch.zeros(0, 8, 8, 3)}, "with one frame or more"),
        ({"images": torch.zeros(2, 8, 8, 1)}, "give"),
        ({"fps": 0.0}, "the frame rate is 0.0; it must lie above 0"),
        ({"fps": float("nan")}, "not a frame rate"),
        ({"steps": 0}, "steps is 0"),
        ({"prompt": "no such word"}, "no such word"),
        ({"avoid": WORDS[0], "guidance": 0.0}, "guidance"),
        ({"bundle": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_what_is_refused(make: Callable[..., Any], changes: dict, message: str) -> None:
    with pytest.raises(runtime.MaskVATError, match=message):
        make(**changes)


class Interrupted(Exception):
    """As comfy.model_management.InterruptProcessingException."""


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The two modules of ComfyUI that the nodes use if they are there."""
    state = SimpleNamespace(interrupted=False, shown=[], total=None)

    class ProgressBar:
        def __init__(self, total: int) -> None:
            state.total = total

        def update_absolute(self, value: int, total: int | None = None) -> None:
            state.shown.append(value)

    def throw() -> None:
        if state.interrupted:
            state.interrupted = False
            raise Interrupted

    management = SimpleNamespace(
        processing_interrupted=lambda: state.interrupted, throw_exception_if_processing_interrupted=throw
    )
    monkeypatch.setitem(sys.modules, "comfy.utils", SimpleNamespace(ProgressBar=ProgressBar))
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    return state


def test_progress_and_interrupt(make: Callable[..., Any], comfy: SimpleNamespace) -> None:
    first = make()["waveform"]
    assert comfy.total == 100 and comfy.shown == sorted(comfy.shown) and comfy.shown[-1] == 100
    comfy.interrupted = True
    with pytest.raises(Interrupted):
        make()
    assert torch.equal(make()["waveform"], first)  # the next prompt works


def test_a_bundle_is_opened_once(plugin: ModuleType, make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    monkeypatch.setattr(runtime, "load", None)
    make(seed=5)
