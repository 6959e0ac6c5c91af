"""Encodes and decodes the true sounds with a codec: an upper bound for every system that generates its codes.

The paper has this as the first row of Tables 1 and 2.
"""

import json
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.audio import pcm16
from runtime.errors import OptionError
from train import checkpoint
from train.extras import requires_extra
from train.metrics import Sound
from train.models.loading import file_sha256

FloatArray = NDArray[np.float32]
Int32Array = NDArray[np.int32]


class Codec(Protocol):
    """A codec: audio [L] at `rate` -> codes [K, T] -> audio [T * hop], which is at least as long."""

    name: str
    rate: int

    def encode(self, audio: FloatArray) -> Int32Array: ...
    def decode(self, codes: Int32Array) -> FloatArray: ...


class SystemCodec:
    """The codec of a system folder."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.module: Any = checkpoint.load(folder, "codec", device)
        self.device = device
        self.rate: int = self.module.config.sample_rate
        self.name = str(folder)

    @torch.inference_mode()
    def encode(self, audio: FloatArray) -> Int32Array:
        codes: Int32Array = self.module.encode(torch.from_numpy(audio)[None].to(self.device))[0].cpu().numpy()
        return codes

    @torch.inference_mode()
    def decode(self, codes: Int32Array) -> FloatArray:
        audio: FloatArray = self.module.decode(torch.from_numpy(codes)[None].to(self.device))[0].cpu().numpy()
        return audio


class ExportedCodec:
    """The codec of an exported bundle, on the CPU."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as engines.ort: it would report to a server
        with requires_extra("cpu", __name__):
            import onnxruntime
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self.name, self.rate = str(manifest["name"]), int(manifest["config"]["sample_rate"])
        self.sessions = {}
        for graph in ("codec_encoder", "codec_decoder"):
            names = [name for name, entry in manifest["files"].items() if entry["graph"] == graph]
            if not names or file_sha256(folder / names[0]) != manifest["files"][names[0]]["sha256"]:
                raise OptionError(f"{folder} has no {graph} as its manifest describes it; export the bundle again")
            self.sessions[graph] = onnxruntime.InferenceSession(folder / names[0], providers=["CPUExecutionProvider"])

    def encode(self, audio: FloatArray) -> Int32Array:
        codes: Int32Array = self.sessions["codec_encoder"].run(["codes"], {"audio": audio[None]})[0][0]
        return codes

    def decode(self, codes: Int32Array) -> FloatArray:
        audio: FloatArray = self.sessions["codec_decoder"].run(["audio"], {"codes": codes[None]})[0][0]
        return audio


def load_codec(folder: Path, device: str = "cpu") -> Codec:
    """Load the codec of a system folder (meta.json) or a bundle (manifest.json).

    Raises OptionError or CheckpointError if there is none.
    """
    if (folder / "meta.json").exists():
        return SystemCodec(folder, device)
    if not (folder / "manifest.json").exists():
        raise OptionError(
            f"--codec {folder} is neither a system folder (it has no meta.json) nor a bundle (no manifest.json)"
        )
    try:
        return ExportedCodec(folder)
    except (OSError, ValueError, KeyError) as error:
        raise OptionError(f"the bundle {folder} cannot be used ({error!r}); export it again") from error


def row_name(codec: Codec) -> str:
    """The name of the codec's row in the report."""
    kind = type(codec.module).__name__ if isinstance(codec, SystemCodec) else ""
    return "DAC reconstruction" if kind == "DAC" else "codec reconstruction"


def reconstruct(codec: Codec, sound: Sound) -> Sound:
    """The sound after encoding and decoding, cut to its length and rounded to 16 bits, as systems' files are.

    Without rounding, hiss far below one 16-bit step would count as onsets in a silent clip, because onset detection
    scales every sound to the same peak.
    """
    audio = sound.at(codec.rate)
    decoded = codec.decode(codec.encode(audio))[: len(audio)]
    return Sound(pcm16(decoded).astype(np.float32) / 32768, codec.rate)
