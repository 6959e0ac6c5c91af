"""Training the small BEATs and SCAV together, from frame features and sound.

Data: prepared windows (ID.npz with `clip_features`, from train.prepare) and the videos they were made from, for the
sound at the encoder's sample rate. Every example gives several crops to a batch, so the model also learns to
distinguish moments of one example: at inference it chooses among candidates for the same video.
"""

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.contract import ModelConfig
from engines.length_adapter import interpolation_matrix
from runtime.audio import read_audio
from runtime.errors import MediaError
from runtime.video import Video
from train import checkpoint
from train.data.video_files import VIDEOS, video_sound
from train.errors import RecipeError
from train.models.beats import BUNDLED as BEATS_BUNDLED
from train.models.beats import RATE, BEATs, BEATsConfig, fbank
from train.models.loading import read_config
from train.models.scav import BUNDLED as SCAV_BUNDLED
from train.models.scav import SCAV, SCAVConfig, contrastive_loss, distances, pooled, recalls
from train.recipe import COUNT, NATURAL, POSITIVE, ProvenanceOptions, Ranges, options_from
from train.tasks.precision import uses_bfloat16

WINDOW = ModelConfig.window_seconds * RATE  # samples in a prepared window
FRAMES_PER_SECOND = 100  # frames of the filter bank
SHIFTS = 4  # crops per example in the validation of moments
POOLINGS = ("sequence", "mean")


@dataclass(frozen=True)
class ScavOptions(ProvenanceOptions):
    """The [task] table of a recipe."""

    RANGES: ClassVar[Ranges] = {
        **dict.fromkeys(("clip_fps", "batch", "crops_per_clip", "threads"), COUNT),
        "seconds": POSITIVE,
        "gain_db": NATURAL,
    }
    data: str = "prepared/train"  # folder with ID.npz
    clips: str = "clips/train"  # folder with ID.mp4, and ID.flac or ID.wav if the sound is in a separate file
    validation_data: str = "prepared/val"
    validation_clips: str = "clips/val"
    system: str = ""  # system folder to save both components in; default: the run's own
    clip_fps: int = 8
    batch: int = 32  # crops
    crops_per_clip: int = 2
    seconds: float = 5.0  # length of a crop
    gain_db: float = 6.0  # largest random gain of the sound, up or down
    pooling: str = "sequence"  # "mean": the baseline that compares means over time; it is not saved in `system`
    bfloat16: bool = True  # matrix products in bfloat16, if the CPU has instructions for it
    threads: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; choose from {', '.join(POOLINGS)}")
        if self.batch % self.crops_per_clip:
            raise ValueError(f"batch {self.batch} must be a multiple of crops_per_clip {self.crops_per_clip}")


# ---------------------------------------------------------------- data
@dataclass(frozen=True)
class Example:
    frames: Tensor  # (N, Dc) at clip_fps
    log_mel: Tensor  # (frames, 128), half precision


@lru_cache(maxsize=1)
def whole_sound(videos: Path, stem: str) -> NDArray[np.float32]:
    """The whole sound [L] of a video at 16 kHz. The last one is cached: windows of a video follow each other."""
    for end in (".flac", ".wav"):
        if (path := videos / f"{stem}{end}").exists():
            return read_audio(path, RATE)
    for end in VIDEOS:
        if (path := videos / f"{stem}{end}").exists():
            with Video(path) as video:
                return video_sound(path, float(video.start), RATE)
    raise RecipeError(f"{videos} has no sound or video named {stem}; give the folder of videos that train.prepare read")


def window_sound(videos: Path, name: str) -> NDArray[np.float32]:
    """Sound [L] at 16 kHz of the prepared window `name`: ID, or ID-wK for window K of a longer video."""
    whole = any((videos / f"{name}{end}").exists() for end in (".flac", ".wav", *VIDEOS))
    stem, _, index = (name, "", "0") if whole else name.rpartition("-w")
    if not index.isdecimal():
        stem, index = name, "0"  # a name with another "-w" in it
    return whole_sound(videos, stem)[int(index) * WINDOW :][:WINDOW]


def read_example(path: Path, videos: Path, shortest: float) -> Example | None:
    """Read a prepared window with its sound; None if it is silent or short. Raises an error if it cannot be used."""
    with np.load(path) as arrays:
        if "clip_features" not in arrays:
            raise RecipeError(
                "it has no clip_features; run `python -m train.prepare` with a system that has a frame_encoder"
            )
        frames = torch.from_numpy(arrays["clip_features"].astype(np.float32))
    if frames.ndim != 2 or not frames.isfinite().all():
        raise RecipeError(f"its clip_features {list(frames.shape)} must be finite numbers [frames, width]")
    audio = window_sound(videos, path.stem)
    if np.abs(audio).max(initial=0) < 1e-4 or len(audio) < shortest * RATE:
        return None  # silence matches every video; short ones give no crop
    with torch.no_grad():
        return Example(frames, fbank(torch.from_numpy(audio)[None])[0].half())


def read_examples(data: Path, videos: Path, shortest: float) -> list[Example]:
    """Read prepared windows with sound, by name; unusable ones are reported on stderr and counted.

    Takes about 75 ms per window on one core. Raises RecipeError if fewer than two are left.
    """
    found, bad, silent = dict[str, Example](), list[str](), 0
    for path in sorted(data.glob("*.npz")):
        try:
            example = read_example(path, videos, shortest)
        except (RecipeError, MediaError, OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            bad.append(f"{path.name}: {error}")
            continue
        silent += example is None
        if example:
            found[path.name] = example
    widths = Counter(example.frames.shape[1] for example in found.values())
    for name, example in list(found.items()):
        if (width := example.frames.shape[1]) != (usual := widths.most_common(1)[0][0]):
            bad.append(f"{name}: its features are {width} wide, most are {usual}; run `python -m train.prepare` again")
            del found[name]
    for line in bad:
        print(f"skipped {line}", file=sys.stderr)
    counts = f"{len(found)} windows with {shortest} s of sound or more ({silent} silent or shorter, {len(bad)} bad"
    if len(found) < 2:
        first = f"; {bad[0]}" if bad else ""
        need = "at least 2 are needed, some hundreds to learn from: make them with train.prepare"
        raise RecipeError(f"{data} has {counts}{first}); {need}")
    print(f"{data}: {counts})", file=sys.stderr)
    return list(found.values())


class ScavTask:
    """The task "scav" of train.fit: BEATs and SCAV together. See train.loop.trainer.Task."""

    def __init__(
        self, options: ScavOptions, seed: int, beats: BEATsConfig = BEATS_BUNDLED, scav: SCAVConfig = SCAV_BUNDLED
    ) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.seed = options, seed
        step = FRAMES_PER_SECOND / options.clip_fps
        self.stride = 1 if step.is_integer() else 2  # crops begin where both rates have a whole frame
        if not (step * self.stride).is_integer():
            raise RecipeError(
                f"task.clip_fps {options.clip_fps} does not fit 100 frames a second; use 4, 5, 8, 10 or 25"
            )
        # kernels reach beyond the last step, so an example must be half a second longer than a crop
        shortest = options.seconds + 0.5
        self.train_examples = read_examples(Path(options.data), Path(options.clips), shortest)
        self.validation = read_examples(Path(options.validation_data), Path(options.validation_clips), shortest)
        values = asdict(scav) | {"clip_dim": self.train_examples[0].frames.shape[1], "audio_dim": beats.dim}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = nn.ModuleDict({"audio_encoder": BEATs(beats), "scav": SCAV(read_config(SCAVConfig, values))})
        self.n_frames = round(options.seconds * options.clip_fps)
        self.n_mel = round(options.seconds * FRAMES_PER_SECOND) - 2  # full windows of 25 ms in a crop
        self.interpolation = torch.from_numpy(interpolation_matrix(self.n_mel // 16, self.n_frames))
        self.bfloat16 = uses_bfloat16(options.bfloat16, torch.device("cpu"))
        self.facts = {"bfloat16": float(self.bfloat16)}
        self.steps = 0  # the loop sets it

    @classmethod
    def from_options(cls, options: dict[str, Any], seed: int) -> "ScavTask":
        return cls(options_from(ScavOptions, options), seed)

    def last_start(self, example: Example) -> int:
        """The last possible start of a crop of this example, in units of `stride` frames."""
        mel = (len(example.log_mel) - self.n_mel) * self.options.clip_fps // FRAMES_PER_SECOND
        return max(0, min(len(example.frames) - self.n_frames, mel)) // self.stride

    def crop(self, example: Example, start: int) -> tuple[Tensor, Tensor]:
        """Frames [n, Dc] and log mel [m, 128] of the crop at `start`, in units of `stride` frames."""
        first = start * self.stride
        mel = first * FRAMES_PER_SECOND // self.options.clip_fps
        return example.frames[first : first + self.n_frames], example.log_mel[mel : mel + self.n_mel].float()

    def embed(self, crops: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Embeddings of video [B, A, H] and of sound [B, A, 8, H]."""
        frames, log_mel = (torch.stack(part) for part in zip(*crops, strict=True))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            features = self.module["audio_encoder"].encode(log_mel)
            video, audio = self.module["scav"](frames, features, self.interpolation)
        video, audio = video.float(), audio.float()
        return pooled(video, audio) if self.options.pooling == "mean" else (video, audio)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        o, rng = self.options, np.random.default_rng([self.seed, step])
        n_examples = o.batch // o.crops_per_clip
        crops = []
        for i in rng.choice(len(self.train_examples), n_examples, replace=len(self.train_examples) < n_examples):
            last = self.last_start(self.train_examples[i])
            starts = rng.choice(last + 1, o.crops_per_clip, replace=last + 1 < o.crops_per_clip)
            for start in starts:
                frames, log_mel = self.crop(self.train_examples[i], int(start))
                gain = rng.uniform(-o.gain_db, o.gain_db) * np.log(10) / 10  # energies are natural logarithms
                crops.append((frames, log_mel + gain))
        distance = distances(*self.embed(crops))
        temperature = self.module["scav"].temperature()
        loss = contrastive_loss(distance, temperature)
        right = (distance.argmin(dim=1) == torch.arange(len(distance))).float().mean()
        return loss, {"right": right.item(), "temperature": temperature.item()}

    def validate(self) -> dict[str, float]:
        """Recall of the right sound and the right video among all examples, and of the right moment within one."""
        pairs = [self.crop(example, self.last_start(example) // 2) for example in self.validation]
        distance = distances(*self.embed(pairs))
        numbers = {"clips": float(len(pairs))} | recalls(distance)
        right = []
        for example in self.validation:
            starts = np.linspace(0, self.last_start(example), SHIFTS).astype(int)
            table = distances(*self.embed([self.crop(example, int(s)) for s in starts]))
            right.append((table.argmin(dim=1) == torch.arange(SHIFTS)).float().mean().item())
        return numbers | {f"moment_of_{SHIFTS}": float(np.mean(right))}

    def finish(self, out: Path) -> None:
        is_baseline = self.options.pooling == "mean"
        folder = Path(self.options.system) if self.options.system and not is_baseline else out / "system"
        for name, kind, title in (("audio_encoder", "beats", "BEATs tiny"), ("scav", "scav", "SCAV tiny")):
            title += ", mean-pooled baseline, for comparison only" if is_baseline else ""
            provenance = self.options.provenance(title, clips=len(self.train_examples), steps=self.steps)
            checkpoint.save(folder, name, self.module[name], kind, provenance)
