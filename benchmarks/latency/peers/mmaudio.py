"""MMAudio (Cheng et al., arXiv 2412.15322) from its own code, with random weights. Runs in a process of its own.

CLIP ViT-H/14 sees 8 frames a second and Synchformer 24 segments of 16 frames in 8 s. 25 Euler steps with guidance make
latents, a VAE turns these into a spectrogram, and BigVGAN into sound.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import torchvision_stub
from benchmarks.latency.peers import stand_ins
from benchmarks.latency.peers.clock import Clock

# librosa makes the spectrogram of a sound that is given; none is
ABSENT = ("librosa",)
PACKAGES = ("torchvision", "open_clip_torch", "timm", "einops", "torchdiffeq")
VOCODER = "configs/bigvgan_v2_44khz_128band_512x.json"  # in NVIDIA's repository; MMAudio downloads it
CLIP = "ViT-H-14-378-quickgelu"  # the network of the weights that MMAudio names
CLIP_SIZE = 384  # pixels; MMAudio's frames
FRAMES, SEGMENTS = 16, 8  # computed of CLIP's and Synchformer's unless the whole is asked for
GUIDANCE, STEPS = 4.5, 25  # defaults of its demo


def variant(order: dict[str, Any]) -> str:
    """Its small model at 44.1 kHz needs BigVGAN's configuration; that at 16 kHz has its own."""
    return "small_44k" if order["bigvgan"] else "small_16k"


def assemble(order: dict[str, Any]) -> tuple[Any, Any]:
    """Its feature utilities with all networks that generation needs, and their configuration."""
    import open_clip
    from mmaudio import eval_utils
    from mmaudio.ext.synchformer import Synchformer
    from mmaudio.model.utils import features_utils

    config = eval_utils.all_model_cfg[variant(order)]
    utilities = features_utils.FeaturesUtils(enable_conditions=False, mode=config.mode)
    clip = open_clip.create_model(CLIP, pretrained=None, force_image_size=CLIP_SIZE)
    utilities.clip_model = features_utils.patch_clip(clip)
    utilities.clip_preprocess = features_utils.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    utilities.tokenizer = open_clip.get_tokenizer(CLIP)
    utilities.synchformer = Synchformer()
    utilities.tod = autoencoder(order, config.mode)
    return utilities, config


def autoencoder(order: dict[str, Any], mode: str) -> Any:
    """Its VAE and vocoder, put together as its constructor does, which loads weights."""
    from mmaudio.ext.autoencoder import autoencoder as theirs
    from torch import nn

    made = theirs.AutoEncoderModule.__new__(theirs.AutoEncoderModule)
    nn.Module.__init__(made)
    made.vae = theirs.get_my_vae(mode)
    made.vae.remove_weight_norm()
    del made.vae.encoder
    if mode == "44k":
        from mmaudio.ext.bigvgan_v2.env import AttrDict

        values = json.loads((Path(order["bigvgan"]) / VOCODER).read_text(encoding="utf-8"))
        made.vocoder = theirs.BigVGANv2(AttrDict(values), use_cuda_kernel=False)
    else:
        from mmaudio.ext.bigvgan import bigvgan
        from omegaconf import OmegaConf

        config = Path(bigvgan.__file__).parent / "bigvgan_vocoder.yml"
        made.vocoder = bigvgan.BigVGANVocoder(OmegaConf.load(config))
    made.vocoder.remove_weight_norm()
    return made


class Peer:
    """`facts` describes it; `generate` makes one sound."""

    def __init__(self, order: dict[str, Any]) -> None:
        sys.path.append(order["folder"])
        torchvision_stub.install()
        self.finder = stand_ins.install(ABSENT)
        import torch
        from mmaudio.model.flow_matching import FlowMatching
        from mmaudio.model.networks import get_my_mmaudio

        self.dtype = torch.float32 if order["precision"] == "fp32" else torch.bfloat16
        self.variant = variant(order)
        self.utilities, config = assemble(order)
        self.utilities.to(self.dtype).eval().requires_grad_(False)
        self.sequence = config.seq_cfg
        dim = 40 if config.mode == "44k" else 20
        mean, std = torch.zeros(dim), torch.ones(dim)  # a new network has NaN, for the weights to replace
        self.network = get_my_mmaudio(self.variant, latent_mean=mean, latent_std=std).to(self.dtype).eval()
        self.flow = FlowMatching(min_sigma=0, inference_mode="euler", num_steps=STEPS)
        self.sequence.duration = float(order["seconds"])
        lengths = self.sequence.latent_seq_len, self.sequence.clip_seq_len, self.sequence.sync_seq_len
        self.network.update_seq_lengths(*lengths)
        self.video = order["video"]

    @property
    def facts(self) -> dict[str, Any]:
        sound = {"sound_seconds": self.sequence.duration, "sample_rate": self.sequence.sampling_rate}
        method = {"precision": "fp32" if self.dtype.itemsize == 4 else "bf16", "method": "Euler steps with guidance"}
        return {"name": f"MMAudio {self.variant}", "steps": STEPS} | method | sound

    def watch(self, clock: Clock) -> None:
        """Let a clock see the stages, and leave out frames and segments."""
        clip, sync = self.utilities.clip_model, self.utilities.synchformer
        clock.rows("features: CLIP", clip, "encode_image", FRAMES, "frames")
        clock.rows("features: Synchformer", sync, "forward", SEGMENTS, "segments")
        clock.stage("features: CLIP", self.utilities, "encode_video_with_clip")
        clock.stage("features: Synchformer", self.utilities, "encode_video_with_sync")
        clock.stage("features: text", self.utilities, "encode_text")
        clock.stage("codec: VAE", self.utilities, "decode")
        clock.stage("codec: vocoder", self.utilities, "vocode")
        clock.stage("video", self, "read")

    def read(self) -> Any:
        """Its frames of the video, for both encoders."""
        from mmaudio import eval_utils

        return eval_utils.load_video(Path(self.video), self.sequence.duration)

    def generate(self) -> Any:
        """From the file to samples [1, 1, samples], as its demo does."""
        import torch
        from mmaudio import eval_utils

        with torch.inference_mode():
            read = self.read()
            return eval_utils.generate(
                read.clip_frames[None],
                read.sync_frames[None],
                [""],
                negative_text=[""],
                feature_utils=self.utilities,
                net=self.network,
                fm=self.flow,
                rng=torch.Generator().manual_seed(0),
                cfg_strength=GUIDANCE,
            )
