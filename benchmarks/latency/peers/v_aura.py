"""V-AURA (Viertola et al., arXiv 2409.13689) from its own code, with random weights. Runs in a process of its own.

Segment AVCLIP sees 16 frames at a time. A transformer of 24 layers predicts the 9 codes of DAC 44.1 kHz, one token
frame after the other, with guidance and without a cache of keys and values. Longer sounds are made in chunks of 2.56 s,
each from the end of the last one and 0.64 s longer.
"""

import os
import sys
from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

from benchmarks.common import torchvision_stub
from benchmarks.latency.peers import stand_ins
from benchmarks.latency.peers.clock import Clock

# readers and writers of files, and what DAC's training needs
ABSENT = ("torchaudio", "pyloudnorm", "ffmpeg", "argbind", "audiotools", "torchvision.io.read_video",
          "torchvision.io._video_opt", "torchvision.io.video")  # fmt: skip
PACKAGES = ("torchvision", "timm", "einops", "omegaconf", "pytorch-lightning", "descript-audio-codec")
EXPERIMENT = "configs/experiments/vggsound/avclip/9cb-viscond-avclip-channel_concat-llama.yaml"
DEFAULTS, GENERATION = "configs/vaura_defaults.yaml", "configs/generate_vgg.yaml"
SEGMENT = 16  # frames
UNIT = Fraction(64, 100)  # seconds; a sound is a multiple of this
APART = 57  # sequence lengths; every so many-th step of the transformer is computed: of 1 to 229 these are five


def placeholders() -> dict[str, Any]:
    """What DAC's package needs of others while it loads."""
    from torch import nn

    class BaseModel(nn.Module):
        INTERN: list[str] = []  # noqa: RUF012
        EXTERN: list[str] = []  # noqa: RUF012

    def bind(*_: Any, **__: Any) -> Callable[[Any], Any]:
        return lambda function: function

    return {"audiotools.ml.BaseModel": BaseModel, "argbind.bind": bind}


def configuration() -> tuple[Any, Any]:
    """Its configurations of network and generation. Paths in them are relative, so the working folder is its root."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("from_file", lambda path: OmegaConf.load(path))
    OmegaConf.register_new_resolver("negation", lambda value: not value)
    network = OmegaConf.merge(OmegaConf.load(DEFAULTS), OmegaConf.load(EXPERIMENT))
    OmegaConf.resolve(network)
    network.model.feature_extractor_config.params.ckpt_path = None  # random weights
    return network, OmegaConf.load(GENERATION)


def whole_units(seconds: float) -> float:
    """The shortest length that it can make of at least `seconds`."""
    return float(ceil(Fraction(str(seconds)) / UNIT) * UNIT)


class Peer:
    """`facts` describes it; `generate` makes one sound."""

    def __init__(self, order: dict[str, Any]) -> None:
        os.chdir(order["folder"])
        sys.path.append(order["folder"])
        torchvision_stub.install()
        self.finder = stand_ins.install(ABSENT, placeholders())
        import dac
        from models.vaura_model import VAURAModel
        from omegaconf import OmegaConf

        dac.utils.download = lambda **_: None  # random weights
        dac.DAC.load = classmethod(lambda cls, _: cls())  # its default sizes are those of DAC 44.1 kHz
        self.config, self.options = configuration()
        values = OmegaConf.to_container(self.config.model)
        values.pop("name")
        self.model = VAURAModel(**values).eval().requires_grad_(False)
        self.model.sampler.empty_video_emb.zero_()  # not initialised in a new network: it may hold NaN
        self.model.sampler.audio_tokens_per_video_frame = 7  # as its generation sets it for DAC
        if order["precision"] == "fp32":
            self.model.audio_encoder.model.float()
        self.seconds, self.video = whole_units(order["seconds"]), order["video"]

    @property
    def facts(self) -> dict[str, Any]:
        from scripts.generate import COMPRESSION_MODEL_FRAME_RATE as RATE

        sound = {"sound_seconds": self.seconds, "sample_rate": 44100}
        own = self.model.audio_encoder.model.decoder.parameters()
        codec = "fp32" if next(own).dtype.itemsize == 4 else "fp16"
        method = {"precision": f"fp32, codec {codec}", "method": "token frames one by one, with guidance"}
        return {"name": "V-AURA", "steps": int(self.seconds * RATE)} | method | sound

    def watch(self, clock: Clock) -> None:
        """Let a clock see the stages, and leave out chunks that are like another and steps of about equal length."""
        model = self.model
        clock.calls("features", model, "_handle_visual_conditioning", lambda x, *_: x.shape[1], "chunks")
        clock.calls("generation", model, "_sample_next_token", lambda x, *_: x.shape[-1], "steps", APART)
        clock.calls("codec", model.audio_encoder, "decode", lambda x: x[0][0].shape[-1], "sounds")
        clock.stage("features", model, "_handle_visual_conditioning")
        clock.stage("codec", model.audio_encoder, "decode")
        clock.stage("video", self, "frames")

    def frames(self) -> Any:
        """Segments [1, segments, 3, 16, 224, 224] of the video, through its transforms. Its reader is not used."""
        import av
        import torch
        from utils.utils import instantiate_from_config

        with av.open(self.video) as container:
            images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        pixels = torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2)
        for transform in self.config.dataloader.video_transforms_test:
            pixels = instantiate_from_config(transform)(pixels)
        count = min(len(pixels), int(self.seconds * self.options.vfps)) // SEGMENT
        return pixels[: count * SEGMENT].unflatten(0, (count, SEGMENT)).transpose(1, 2)[None]

    def generate(self) -> Any:
        """From the file to samples [1, 1, samples], in chunks as its generation script makes them."""
        import torch
        from scripts.generate import COMPRESSION_MODEL_FRAME_RATE as RATE

        frames, options = self.frames(), self.options
        stride, wanted = int(RATE * options.stride), int(self.seconds * RATE)
        codes: list[Any] = []
        known, at = None, 0  # tokens that the next chunk continues, and where it begins
        while at + (0 if known is None else known.shape[-1]) < wanted:
            begin = at / RATE
            length = min(self.seconds - begin, options.model_max_duration)
            first = ceil(begin * options.vfps)
            segments = torch.arange(first // SEGMENT, (first + ceil(length * options.vfps)) // SEGMENT)
            made = self.chunk(frames[:, segments % frames.shape[1]], known, ceil(length * RATE))
            codes.append(made if known is None else made[..., known.shape[-1] :])
            known, at = made[..., stride:], at + stride
        return self.model.audio_encoder.decode([(torch.cat(codes, dim=-1), None)])

    def chunk(self, frames: Any, known: Any, length: int) -> Any:
        """Tokens [1, 9, length] of one chunk."""
        options = self.options
        sampling = {"use_sampling": options.use_sampling, "temp": options.temperature}
        sampling |= {name: options[name] for name in ("top_k", "top_p", "cfg_scale")}
        made = self.model.generate(
            frames, known, max_new_tokens=length, return_sampled_indices=True, prompt_is_encoded=True, **sampling
        )
        return made["sampled_indices"]
