"""Training the small codec: multi-scale log-mel, complex STFT and waveform losses, and the quantiser's own terms.

The weights of the codebook terms follow DAC (arXiv 2306.06546, section 3.4). A second stage (`start`, `decoder_only`,
`adversarial`) trains the decoder alone against small discriminators. It does not change the codes, so MaskVAT can be
trained on them at the same time.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train import checkpoint
from train.errors import RecipeError
from train.models.codec import FrameCodec, FrameCodecConfig
from train.models.discriminators import Discriminators
from train.models.mel import codec_bank, mel_filters
from train.recipe import COUNT, NATURAL, SHARE, ProvenanceOptions, Ranges, options_from
from train.tasks.codec_data import Crops, FloatArray, describe, read_pools
from train.tasks.precision import uses_bfloat16

LOG_FLOOR = 1e-5  # floor of mel magnitudes: a quieter sound counts as silence
SCALES = {128: 20, 512: 80, 2048: 80}  # FFT size -> mel bands; only three, because each costs as much as the network
COMPLEX_SCALES = (512,)  # FFT sizes of the loss that includes phase
REVIVE_EVERY = 10  # steps between revivals of unused codebook rows


@dataclass(frozen=True)
class CodecOptions(ProvenanceOptions):
    """The [task] table of a recipe."""

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("batch", "frames", "judged_frames", "validation_sounds", "threads"), COUNT),
        **dict.fromkeys(("mel_weight", "complex_weight", "wave_weight", "generator_weight"), NATURAL),
        **dict.fromkeys(("feature_weight", "codebook_weight", "commitment_weight", "revive_steps"), NATURAL),
        **dict.fromkeys(("quantizer_dropout", "revive_below"), SHARE),
    }
    sounds: str  # folder with sounds.csv
    class_sounds: str = ""  # a second folder, whose labels are sound classes; held-out recordings are whole sessions
    system: str = ""  # system folder to save the codec in; default: the run's own
    start: str = ""  # system folder with a codec to start from; default: random weights
    decoder_only: bool = False  # freeze encoder and codebooks, so that codes do not change
    adversarial: bool = False  # also train against discriminators
    judged_frames: int = 24  # token frames of each crop that the discriminators see
    batch: int = 16
    frames: int = 64  # token frames per crop
    quantizer_dropout: float = 0.25  # share of crops that use a random number of codebooks
    mel_weight: float = 15.0
    complex_weight: float = 1.0
    wave_weight: float = 0.5
    generator_weight: float = 1.0
    feature_weight: float = 2.0
    codebook_weight: float = 1.0
    commitment_weight: float = 0.25
    revive_steps: int = 3000  # unused codebook rows are revived before this step
    revive_below: float = 0.08  # rows used less than this fraction of a fair share are revived
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
    """Distances between a decoded waveform and its reference, both [B, L]."""

    def __init__(self, rate: int) -> None:
        self.banks = {fft: mel_bank(rate, fft, bands) for fft, bands in SCALES.items()}

    def __call__(self, decoded: Tensor, target: Tensor) -> dict[str, Tensor]:
        mel = complex_ = decoded.new_zeros(())
        for fft, bank in self.banks.items():
            with torch.no_grad():
                y = stft(target, fft, fft // 4)
                y_power = y.real.square() + y.imag.square()
                y_mel = log_mel(y_power.sqrt(), bank)
            x = stft(decoded, fft, fft // 4)
            power = x.real.square() + x.imag.square() + 1e-9
            mel = mel + (log_mel(power.sqrt(), bank) - y_mel).abs().mean() / len(self.banks)
            if fft in COMPLEX_SCALES:
                complex_ = complex_ + compressed_distance(x, power, y, y_power) / len(COMPLEX_SCALES)
        error = (decoded - target).square().mean(-1)
        wave = ((error + 1e-8).sqrt() / (target.square().mean(-1) + 1e-6).sqrt()).clamp_max(10).mean()
        return {"mel": mel, "complex": complex_, "wave": wave}


def compressed_distance(x: Tensor, x_power: Tensor, y: Tensor, y_power: Tensor) -> Tensor:
    """Mean |x' - y'| / mean |y'|, where ' takes the square root of magnitudes: weak partials and phase count."""
    x = x * (x_power + 1e-4) ** -0.25
    y = y * (y_power + 1e-4) ** -0.25
    distance = (torch.view_as_real(x - y).square().sum(-1) + 1e-6).sqrt().mean((1, 2))
    return (distance / (y.abs().mean((1, 2)) + 0.1)).mean()


class CodecTask:
    """The task "codec" of train.fit. See train.loop.trainer.Task."""

    def __init__(self, options: CodecOptions, seed: int, config: FrameCodecConfig | None = None) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codec = checkpoint.load(options.start, "codec") if options.start else FrameCodec(config)
            self.module = nn.ModuleDict({"codec": codec})
            if options.adversarial:
                self.module["discriminators"] = Discriminators()
        if not isinstance(codec, FrameCodec):
            raise RecipeError(
                f"the codec in {options.start} is a {type(codec).__name__}; only a FrameCodec can be trained"
            )
        if options.decoder_only:
            for part in (codec.input, codec.encoder, codec.quantizer):
                part.requires_grad_(False)
        self.codec, c = codec, codec.config
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
        audio = torch.from_numpy(self._batch(step))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        levels = torch.randint(1, c.n_codebooks + 1, (o.batch,), generator=generator)
        levels[torch.rand(o.batch, generator=generator) >= o.quantizer_dropout] = c.n_codebooks
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            decoded, quantized = self.codec(audio, levels)
        parts = self.losses(decoded, audio)
        weights = {"mel": o.mel_weight, "complex": o.complex_weight, "wave": o.wave_weight}
        if not o.decoder_only:
            if step < o.revive_steps and step % REVIVE_EVERY == 0:
                self.codec.quantizer.revive(quantized, generator, o.revive_below, decay=0.9)
            parts |= {"codebook": quantized.codebook_loss, "commitment": quantized.commitment_loss}
            weights |= {"codebook": o.codebook_weight, "commitment": o.commitment_weight}
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
        folder = Path(self.options.system) if self.options.system else out / "system"
        facts = describe(self.pool) | {"steps": self.steps}
        provenance = self.options.provenance("frame codec 44.1 kHz, 7.75 kbps", **facts)
        checkpoint.save(folder, "codec", self.codec, "framecodec", provenance)
