"""`python -m benchmarks.codec`: how much of a sound the codec keeps, beside Opus at 8, 16 and 24 kbit/s."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.codec.measure import BITRATES, RATE, SECONDS, BundleCodec, Roundtrip, codes_used, measure, opus, speed
from benchmarks.common.report import command, finish, plots_folder, result, table
from engines.contract import FloatArray
from runtime.bundle import Bundle
from train.errors import CheckpointError
from train.evaluate.bootstrap import words
from train.evaluate.codec import Codec, SystemCodec
from train.tasks.codec_data import Pool, PoolError, read_pool

# ---------------------------------------------------------------- command
RECORDINGS = 80
PAIRS = 6  # recordings in the picture


def recordings(folder: Path) -> tuple[tuple[str, ...], list[FloatArray]]:
    """Names and first SECONDS of RECORDINGS held-out recordings."""
    held_out: Pool = read_pool(folder, RATE)[1]
    if not held_out.names:
        raise PoolError(f"{folder / 'sounds.csv'} leaves no recording for validation; give a larger pool")
    if len(held_out.names) < RECORDINGS:
        print(f"note: the pool has only {len(held_out.names)} held-out recordings, not {RECORDINGS}; all are used")
    return held_out.names[:RECORDINGS], [sound[: SECONDS * RATE] for sound in held_out.sounds[:RECORDINGS]]


def row(name: str, r: dict[str, Any]) -> list[str]:
    floors = (f"{r['silence_dbfs']:.1f}", f"{r['noise_at_minus_60_dbfs']:.1f}")
    medians = (words(r[k], ".2f") for k in ("si_sdr", "si_sdr_aligned", "rise", "pre_echo"))
    return [name, words(r["mel"], ".3f"), *medians, *floors]


def run(args: argparse.Namespace) -> None:
    plots_folder(args.plots)
    codec: Codec = SystemCodec(args.system) if args.system else BundleCodec(Bundle(args.bundle, args.backend))
    names, sounds = recordings(args.sounds)

    def roundtrip(audio: FloatArray) -> FloatArray:
        return codec.decode(codec.encode(audio))[: len(audio)]

    tried: dict[str, Roundtrip] = {"codec": roundtrip}
    tried |= {f"opus {k} kbit/s": lambda audio, k=k: opus(audio, k) for k in BITRATES}  # type: ignore[misc]
    tried["identity"] = lambda audio: audio
    results = {}
    for name, way in tried.items():
        results[name] = measure(sounds, way)
        print(f"measured {name}", file=sys.stderr)
    used, fast = codes_used(codec, sounds), speed(codec, sounds)
    header = ["", "mel", "SI-SDR dB", "aligned", "rise time ratio", "pre-echo dB", "silence dBFS", "-60 dBFS noise"]
    print(f"{codec.name}: {len(sounds)} held-out recordings, first {SECONDS} s; mean of mel, medians of the others\n")
    print(table(header, [row(name, r) for name, r in results.items()]))
    print(f"\ncodes used per codebook: {', '.join(map(str, used))}")
    print(f"x realtime: encode {fast['encode_x_realtime']:.1f}, decode {fast['decode_x_realtime']:.1f}")
    if args.plots:
        from train.evaluate.plots import spectrogram_pairs

        picked = [k * len(sounds) // PAIRS for k in range(min(PAIRS, len(sounds)))]
        pairs = [(Path(names[k]).stem, sounds[k], roundtrip(sounds[k])) for k in picked]
        spectrogram_pairs(args.plots / "codec.png", pairs, RATE)
    values = {"codec": codec.name, "recordings": len(sounds), "seconds": SECONDS, "results": results}
    finish(result("codec", values | {"codes_used": used, "speed": fast}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path, nargs="?", help="bundle (default: the shipped one)")
    parser.add_argument("--system", type=Path, help="folder of a training checkpoint, in place of a bundle")
    parser.add_argument("--sounds", type=Path, required=True, help="folder with sounds.csv and the recordings")
    parser.add_argument("--backend", default="auto", help="backend of the bundle (default: auto)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    parser.add_argument("--plots", type=Path, help="folder for codec.png: recordings and what the codec makes of them")
    args = parser.parse_args(argv)
    if args.bundle and args.system:
        parser.error("give a bundle or --system, not both")
    return command(run, args, CheckpointError)


if __name__ == "__main__":
    sys.exit(main())
