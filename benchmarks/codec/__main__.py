"""Measure how closely the codec reproduces sounds, and compare it with Opus at 8, 16 and 24 kbit/s.

    python -m benchmarks.codec --sounds FOLDER [BUNDLE]

FOLDER is a pool of recordings with sounds.csv; only its held-out recordings are used, the first 2 s of each. They pass
through the codec graphs of a bundle, or with --system through the codec of a training checkpoint.

The table has one row per codec; `identity` is the original.
  mel               distance of log-mel spectra, lower is better
  SI-SDR dB         scale-invariant signal-to-distortion ratio, higher is better; `aligned` first removes a small delay
  rise time ratio   rise time of an attack over the original's; 1 is best
  pre-echo dB       power in the 20 ms before an attack, over the original's; 0 is best
  silence dBFS      output level for digital silence
  -60 dBFS noise    output level for white noise at -60 dBFS
Values have bootstrap 95 % intervals over recordings. The last line is one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.bundle_codec import BundleCodec
from benchmarks.common.report import (
    add_output_options,
    command_parser,
    finish,
    make_plots_folder,
    make_result,
    run_command,
    table,
)
from engines.contract import FloatArray
from runtime.bundle import Bundle
from train.errors import CheckpointError
from train.evaluate.bootstrap import format_summary
from train.extras import requires_extra

with requires_extra("bench", __name__):
    from benchmarks.codec.measure import (
        BITRATES,
        RATE,
        SECONDS,
        Roundtrip,
        codes_used,
        measure,
        opus,
        speed,
    )
    from train.evaluate.codec import Codec, SystemCodec
    from train.tasks.codec_data import Pool, PoolError, read_pool

RECORDINGS = 80
PLOTTED = 6  # recordings


def recordings(folder: Path) -> tuple[tuple[str, ...], list[FloatArray]]:
    """Names and the first SECONDS of up to RECORDINGS held-out recordings."""
    held_out: Pool = read_pool(folder, RATE)[1]
    if not held_out.names:
        raise PoolError(f"{folder / 'sounds.csv'} has no recording in the validation split; give a larger pool")
    if len(held_out.names) < RECORDINGS:
        print(
            f"note: the pool has only {len(held_out.names)} held-out recordings, fewer than {RECORDINGS}; all are used"
        )
    return held_out.names[:RECORDINGS], [sound[: SECONDS * RATE] for sound in held_out.sounds[:RECORDINGS]]


def table_row(name: str, r: dict[str, Any]) -> list[str]:
    floors = (f"{r['silence_dbfs']:.1f}", f"{r['noise_at_minus_60_dbfs']:.1f}")
    medians = (format_summary(r[k], ".2f") for k in ("si_sdr", "si_sdr_aligned", "rise", "pre_echo"))
    return [name, format_summary(r["mel"], ".3f"), *medians, *floors]


def run(args: argparse.Namespace) -> None:
    make_plots_folder(args.plots)
    codec: Codec = SystemCodec(args.system) if args.system else BundleCodec(Bundle(args.bundle, args.backend))
    names, sounds = recordings(args.sounds)

    def roundtrip(audio: FloatArray) -> FloatArray:
        return codec.decode(codec.encode(audio))[: len(audio)]

    codecs: dict[str, Roundtrip] = {"codec": roundtrip}
    codecs |= {f"opus {k} kbit/s": lambda audio, k=k: opus(audio, k) for k in BITRATES}  # type: ignore[misc]
    codecs["identity"] = lambda audio: audio
    results = {}
    for name, function in codecs.items():
        results[name] = measure(sounds, function)
        print(f"measured {name}", file=sys.stderr)
    used, speeds = codes_used(codec, sounds), speed(codec, sounds)
    header = ["", "mel", "SI-SDR dB", "aligned", "rise time ratio", "pre-echo dB", "silence dBFS", "-60 dBFS noise"]
    print(
        f"{codec.name}: {len(sounds)} held-out recordings, first {SECONDS} s; mel is a mean, the others are medians\n"
    )
    print(table(header, [table_row(name, r) for name, r in results.items()]))
    print(f"\ndifferent codes used, by codebook: {', '.join(map(str, used))}")
    print(f"speed, times real time: encode {speeds['encode_x_realtime']:.1f}, decode {speeds['decode_x_realtime']:.1f}")
    if args.plots:
        from train.evaluate.plots import spectrogram_pairs

        indices = [k * len(sounds) // PLOTTED for k in range(min(PLOTTED, len(sounds)))]
        pairs = [(Path(names[k]).stem, sounds[k], roundtrip(sounds[k])) for k in indices]
        spectrogram_pairs(args.plots / "codec.png", pairs, RATE)
    values = {"codec": codec.name, "recordings": len(sounds), "seconds": SECONDS, "results": results}
    finish(make_result("codec", values | {"codes_used": used, "speed": speeds}), args.out)


def main(argv: Sequence[str] | None = None) -> int:
    parser = command_parser("benchmarks.codec", __doc__)
    parser.add_argument(
        "bundle", type=Path, nargs="?", help="folder of the bundle (default: the bundle that ships with MaskVAT)"
    )
    parser.add_argument("--system", type=Path, help="folder of a training checkpoint, instead of a bundle")
    parser.add_argument("--sounds", type=Path, required=True, help="folder with sounds.csv and its recordings")
    parser.add_argument("--backend", default="auto", help="backend of the bundle (default: auto)")
    add_output_options(parser, plots="folder for codec.png: spectrograms of recordings before and after the codec")
    args = parser.parse_args(argv)
    if args.bundle and args.system:
        parser.error("give a bundle or --system, not both")
    return run_command(run, args, CheckpointError)


if __name__ == "__main__":
    sys.exit(main())
