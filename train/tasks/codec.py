"""Training the small codec: codebooks by k-means at the first step, then the decoder, by spectra and attacks.

The codebooks are saved as soon as they are found, and never change after that. So data can be prepared, and MaskVAT
trained, while the decoder learns. A second stage (`start`, `adversarial`) trains it further, against discriminators.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from train import checkpoint
from train.errors import RecipeError
from train.models.codec import FrameCodec, FrameCodecConfig
from train.models.discriminators import Discriminators
from train.models.mel import codec_bank, mel_filters
from train.recipe import COUNT, NATURAL, ProvenanceOptions, Ranges, options_from
from train.tasks.codec_data import Crops, FloatArray, describe, read_pools
from train.tasks.precision import uses_bfloat16

BIN_FLOOR = 2e-3  # added to the magnitude of a bin before the logarithm
LOG_FLOOR = 1e-5  # floor of mel magnitudes: a quieter sound counts as silence
ENVELOPE, ENVELOPE_HOP = 44, 16  # samples: a level is that of 1 ms
POWER_FLOOR = 1e-7
RISE, STRETCH = 4, 32  # in hops of the envelope: a rise within 1.5 ms, the steepest of 12 ms
SCALES = {128: 20, 512: 80, 2048: 128}  # FFT size -> mel bands; only three, because each costs as much as the network
FIT_BATCH = 32  # crops whose levels are computed at once
FIT_STEPS = 1 << 30  # the crops of steps from here on are for the codebooks


@dataclass(frozen=True)
class CodecOptions(ProvenanceOptions):
    """The [task] table of a recipe."""

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("batch", "frames", "judged_frames", "validation_sounds", "threads"), COUNT),
        **dict.fromkeys(("fit_crops", "fit_rounds"), COUNT),
        **dict.fromkeys(("mel_weight", "bin_weight", "attack_weight", "generator_weight", "feature_weight"), NATURAL),
    }
    sounds: str  # folder with sounds.csv
    class_sounds: str = ""  # a second folder, whose labels are sound classes; held-out recordings are whole sessions
    system: str = ""  # system folder to save the codec in; default: the run's own
    start: str = ""  # system folder with a codec to start from; default: random weights
    adversarial: bool = False  # also train against discriminators
    judged_frames: int = 24  # token frames of each crop that the discriminators see
    batch: int = 16
    frames: int = 64  # token frames per crop
    fit_crops: int = 2048  # crops from which the codebooks are found
    fit_rounds: int = 12  # of k-means, for each codebook
    mel_weight: float = 15.0
    bin_weight: float = 5.0  # of single bins, where noise and a smooth spectrum of one level differ most
    attack_weight: float = 4.0
    generator_weight: float = 1.0
    feature_weight: float = 2.0
    validation_sounds: int = 40
    bfloat16: bool = True  # the network's matrix products in bfloat16, if the CPU has instructions for it
    threads: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversarial and self.judged_frames > self.frames:
            raise ValueError(f"judged_frames {self.judged_frames} must not exceed the crop's frames {self.frames}")


# ---------------------------------------------------------------- spectra
def mel_bank(rate: int, fft: int, bands: int) -> Tensor:
    """Filters of train.models.mel.codec_bank as float32 [fft // 2 + 1, bands]."""
    return torch.from_numpy(mel_filters(codec_bank(rate, fft, bands))).float()


def log_mel(magnitude: Tensor, bank: Tensor) -> Tensor:
    """log10 of mel magnitudes [..., bands] of a magnitude spectrum [..., F]."""
    return torch.log10((magnitude @ bank).clamp_min(LOG_FLOOR))


def stft(audio: Tensor, fft: int, hop: int) -> Tensor:
    """[B, L] -> complex [B, frames, F], Hann window, reflected at the ends."""
    window = torch.hann_window(fft, device=audio.device)
    return torch.stft(audio, fft, hop, window=window, return_complex=True).transpose(1, 2)


def mel_distance(a: Tensor, b: Tensor, rate: int) -> float:
    """Mean absolute difference of log10 80-band mel magnitudes (FFT 2048, hop 512, floor 1e-5) of [L] and [L]."""
    bank = mel_bank(rate, 2048, 80)
    size = max(2048, len(a))
    x, y = (log_mel(stft(F.pad(s, (0, size - len(s)))[None], 2048, 512).abs(), bank) for s in (a, b))
    return (x - y).abs().mean().item()


def si_sdr(estimate: Tensor, target: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio of [L] against [L], in dB."""
    scaled = target * (torch.dot(estimate, target) / torch.dot(target, target).clamp_min(1e-12))
    return float(10 * torch.log10(scaled.square().sum() / (estimate - scaled).square().sum().clamp_min(1e-12)))


# ---------------------------------------------------------------- losses
class Losses:
    """Distances between decoded waveforms with different noise, and their reference; all [B, L].

    They are energy distances (arXiv 2008.01160): the mean distance to the reference, minus half of the mean distance of
    two decoded waveforms to each other. A decoder that writes one smooth spectrum where the reference has noise is
    nearer to it than any noise would be; the second term takes off just that. So the decoder has least loss where its
    sounds are spread as the references are. With one waveform, the loss is the plain distance.
    """

    def __init__(self, rate: int) -> None:
        self.banks = {fft: mel_bank(rate, fft, bands) for fft, bands in SCALES.items()}

    def __call__(self, decoded: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {"mel": [], "bins": []}
        for fft, bank in self.banks.items():
            with torch.no_grad():
                truth = self._levels(target, fft, bank)
            own = [self._levels(one, fft, bank) for one in decoded]
            for i, part in enumerate(parts.values()):
                part.append(_energy_distance([one[i] for one in own], truth[i]))
        rises = _energy_distance([attacks(one) for one in decoded], attacks(target))
        return {name: torch.stack(part).mean() for name, part in parts.items()} | {"attacks": rises}

    @staticmethod
    def _levels(audio: Tensor, fft: int, bank: Tensor) -> tuple[Tensor, Tensor]:
        """log10 of mel magnitudes [B, frames, bands] and of magnitudes [B, frames, F]."""
        x = stft(audio, fft, fft // 4)
        magnitude = (x.real.square() + x.imag.square() + 1e-9).sqrt()
        return log_mel(magnitude, bank), torch.log10(magnitude + BIN_FLOOR)


def _energy_distance(own: Sequence[Tensor], truth: Tensor) -> Tensor:
    distance = sum((_mean_difference(one, truth) for one in own), start=truth.new_zeros(()))
    for one, other in pairwise(own):
        distance = distance - _mean_difference(one, other)
    return distance / len(own)


def _mean_difference(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


def attacks(audio: Tensor) -> Tensor:
    """Steepest rise of the level in each stretch of [B, L]: [B, stretches of 512 samples that overlap by a half].

    Codes tell the time of an attack only to within some milliseconds. Judged by spectra alone, a slow rise over that
    time is nearest on average. Here it is not, because the steepest place of a stretch may be anywhere in it.
    """
    power = F.avg_pool1d(audio[:, None].square(), ENVELOPE, ENVELOPE_HOP)
    level = torch.log10(power + POWER_FLOOR)
    rise = (level[..., RISE:] - level[..., :-RISE]).clamp_min(0)
    return F.max_pool1d(rise, STRETCH, STRETCH // 2)[:, 0]


def load_start(folder: Path) -> FrameCodec:
    """The codec of a system folder, with a volume curve. The head of one without noise begins at random.

    Raises RecipeError if it is not a FrameCodec.
    """
    entry = checkpoint.read_meta(folder)["components"].get("codec", {})
    if entry.get("kind", "framecodec") != "framecodec":
        raise RecipeError(f"the codec in {folder} is of kind {entry['kind']}; only a framecodec can be trained")
    config = entry.get("config", {})
    codec = FrameCodec.from_config(config | {"gains": config.get("gains") or FrameCodecConfig.gains})
    fresh = codec.state_dict()
    state = load_file(folder / "codec.safetensors")
    if "noise" in state:  # a codec without a volume curve has all rows of the head but the last ones
        for name in ("head.weight", "head.bias"):
            state[name] = torch.cat([state[name], fresh[name][len(state[name]) :]])
    left = sorted(name for name, value in fresh.items() if name not in state or state[name].shape != value.shape)
    if left:
        print(f"the codec in {folder} has no {', '.join(left)} of today's shape; they begin at random")
    codec.load_state_dict(state | {name: fresh[name] for name in left})
    return codec


class CodecTask:
    """The task "codec" of train.fit. See train.loop.trainer.Task."""

    def __init__(self, options: CodecOptions, seed: int, config: FrameCodecConfig | None = None) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codec = load_start(Path(options.start)) if options.start else FrameCodec(config)
            self.module = nn.ModuleDict({"codec": codec})
            if options.adversarial:
                self.module["discriminators"] = Discriminators()
        self.codec, c = codec, codec.config
        if not options.start and options.fit_crops * options.frames < c.codebook_size:
            raise RecipeError(
                f"fit_crops {options.fit_crops} of {options.frames} frames cannot fill codebooks of {c.codebook_size} "
                "rows; raise task.fit_crops or task.frames"
            )
        self.pool, self.validation = read_pools(
            Path(options.sounds), Path(options.class_sounds) if options.class_sounds else None, c.sample_rate
        )
        self.crops = Crops(self.pool, c.sample_rate, options.frames * c.hop_length, seed)
        self.losses = Losses(c.sample_rate)
        self.worker = ThreadPoolExecutor(max_workers=1)
        self.ahead: dict[int, Future[FloatArray]] = {}
        self.bfloat16 = uses_bfloat16(options.bfloat16, torch.device("cpu"))
        self.facts = {"bfloat16": float(self.bfloat16)}
        self.steps = 0  # steps done, for the provenance

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "CodecTask":
        return cls(options_from(CodecOptions, options), seed)

    def _batch(self, step: int) -> FloatArray:
        """The crops of this step; a thread prepares those of the next step."""
        ready = self.ahead.pop(step, None)
        batch = ready.result() if ready else self.crops.batch(step, self.options.batch)
        self.ahead = {step + 1: self.worker.submit(self.crops.batch, step + 1, self.options.batch)}
        return batch

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        o, c = self.options, self.codec.config
        if step == 0 and not o.start:
            self._fit()
        audio = torch.from_numpy(self._batch(step))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        size = (2, len(audio), o.frames)  # two draws of noise
        rows = torch.randint(c.noise_rows, size, generator=generator, dtype=torch.int32)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            both = self.codec(audio, rows.unbind())
        parts, decoded = self.losses(both, audio), both[0]
        weights = {"mel": o.mel_weight, "bins": o.bin_weight, "attacks": o.attack_weight}
        if o.adversarial:
            first = int(torch.randint(o.frames - o.judged_frames + 1, (), generator=generator)) * c.hop_length
            part = slice(first, first + o.judged_frames * c.hop_length)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                adversary = self.module["discriminators"].losses(decoded[:, part], audio[:, part])
            parts |= vars(adversary)
            weights |= {"generator": o.generator_weight, "features": o.feature_weight, "discriminator": 1.0}
        total = sum((weights[name] * part for name, part in parts.items()), start=audio.new_zeros(()))
        self.steps = step + 1
        return total, {name: part.item() for name, part in parts.items()}

    @torch.no_grad()
    def _fit(self) -> None:
        """Find the codebooks, and save the codec with them."""
        o = self.options
        sizes = [min(FIT_BATCH, o.fit_crops - first) for first in range(0, o.fit_crops, FIT_BATCH)]
        crops = (torch.from_numpy(self.crops.batch(FIT_STEPS + i, size)) for i, size in enumerate(sizes))
        levels = torch.cat([self.codec.levels(audio).flatten(0, 1) for audio in crops])
        errors = self.codec.fit(levels, o.fit_rounds, torch.Generator().manual_seed(self.seed))
        print(f"codebooks: {len(levels)} frames, mean error of a level {errors[0]:.3f} to {errors[-1]:.3f}", flush=True)
        if o.system:
            self._save(Path(o.system))

    def validate(self) -> dict[str, float]:
        """Mel distance, SI-SDR and codebook use for the first 2 s of held-out recordings; level of decoded silence."""
        c = self.codec.config
        positions = np.linspace(0, len(self.validation.sounds) - 1, self.options.validation_sounds)
        sounds = [self.validation.sounds[int(i)] for i in positions]  # from every part of the list
        mel, sdr, codes = [], [], []
        for sound in sounds:
            target = torch.from_numpy(sound[: 2 * c.sample_rate])
            codes.append(self.codec.encode(target[None]))
            decoded = self.codec.decode(codes[-1])[0, : len(target)]
            mel.append(mel_distance(decoded, target, c.sample_rate))
            sdr.append(si_sdr(decoded, target))
        used = [float(len(level.unique())) for level in torch.cat(codes, dim=2)[0]]
        silence = self.codec.decode(self.codec.encode(torch.zeros(1, c.sample_rate)))
        floor = float(20 * torch.log10(silence.square().mean().sqrt() + 1e-9))
        return {"mel": float(np.mean(mel)), "si_sdr": float(np.mean(sdr)), "silence_db": floor, "codes": min(used)}

    def finish(self, out: Path) -> None:
        self._save(Path(self.options.system) if self.options.system else out / "system")

    def _save(self, folder: Path) -> None:
        facts = describe(self.pool) | {"steps": self.steps}
        provenance = self.options.provenance("frame codec 44.1 kHz, 7.75 kbps", **facts)
        checkpoint.save(folder, "codec", self.codec, "framecodec", provenance)
