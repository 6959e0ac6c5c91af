"""`python -m runtime.infer clip.mp4`: make a sound for a silent video. Also the console script `maskvat`."""

import argparse
import atexit
import gc
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from engines.backends import BACKENDS, PRECISIONS
from engines.contract import FloatArray
from engines.manifest import write_atomically
from runtime.audio import resample, write_wav
from runtime.decode import SCHEDULES
from runtime.errors import MaskVATError, MediaError, OptionError
from runtime.mux import check_container, mux
from runtime.pipeline import load
from runtime.progress import PROGRESS, reporter
from runtime.sampling import Progress, SamplingConfig, read_budget
from runtime.take import Take

log = logging.getLogger(__name__)
DEFAULTS = {f.name: f.default for f in fields(SamplingConfig)}


def get_parser() -> argparse.ArgumentParser:
    """The parser; every flag's help gives its default and range."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.infer",
        description="Make a synchronised sound for a silent video.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        usage="%(prog)s clip [options]",  # the clip comes first: after --mux it would be read as the value of --mux
    )
    add = parser.add_argument
    add("clip", type=Path, help="video file, in any container and codec that FFmpeg decodes")
    add("-o", "--output", type=Path, default=argparse.SUPPRESS,
        help="WAV to write (default: the clip's name with .wav)")  # fmt: skip
    add("--engines", type=Path, default=argparse.SUPPRESS,
        help="folder of the bundle to use (default: the shipped one)")  # fmt: skip
    add("--backend", choices=("auto", *BACKENDS), default="auto",
        help="what runs the engines; auto uses a GPU only if it passes the bundle's self-test")  # fmt: skip
    add("--precision", choices=("auto", *PRECISIONS), default="auto",
        help="precision of the step graph; auto picks the fastest that is available")  # fmt: skip
    add("--threads", type=int, default=0, help="CPU threads, 0 to 1024; 0 lets the backend choose")
    add_sampling_options(add)
    add_output_options(add)
    add("--progress", choices=PROGRESS, default="auto",
        help="auto shows a bar on a terminal; json prints JSON lines on stdout")  # fmt: skip
    add("--debug", action="store_true", help="log more, and show the traceback of an error")
    return parser


def add_sampling_options(add: Callable[..., object]) -> None:
    """Add the flags that set the fields of SamplingConfig."""
    add("--steps", type=int, default=DEFAULTS["steps"], help="unmasking steps, 1 to 1024")
    add("--guidance", type=float, default=DEFAULTS["guidance"], help="classifier-free guidance, 0 (off) to 100")
    add("--diversity", type=float, default=DEFAULTS["diversity"], help="randomness of the unmasking order, 0 to 1000")
    add("--seed", type=int, default=DEFAULTS["seed"], help="0 to 2^64 - 1; the same seed gives the same sound")
    add("--candidates", type=int, default=DEFAULTS["candidates"], help="sounds to choose among by SCAV, 1 to 256")
    add("--takes", type=int, default=DEFAULTS["takes"], help="best candidates to write, 1 to --candidates")
    add("--budget", metavar="N,N", default=argparse.SUPPRESS,
        help="candidates that SCAV keeps on the way: of 10, 4,1 drops six after a third of the steps and three after "
        "two thirds; the last number is at least --takes (default: keep all)")  # fmt: skip
    add("--schedule", choices=list(SCHEDULES), default=DEFAULTS["schedule"],
        help="how the share of masked tokens falls")  # fmt: skip
    add("--guidance-from", type=float, default=DEFAULTS["guidance_from"],
        help="share of the steps before guidance begins, 0 to 1; steps without guidance cost half")  # fmt: skip
    add("--guidance-until", type=float, default=DEFAULTS["guidance_until"],
        help="share of the steps after which guidance ends, --guidance-from to 1")  # fmt: skip


def add_output_options(add: Callable[..., object]) -> None:
    """Add the flags that say what to write."""
    add("--rate", type=int, choices=(44100, 48000), default=44100, help="sample rate of the WAV in Hz")
    add("--mux", nargs="?", type=Path, const=Path(), metavar="VIDEO", default=argparse.SUPPRESS,
        help="also write the video with the best sound; the picture is copied unchanged (default: CLIP.sound.SUFFIX); "
        "give the clip first, because a name after --mux is the video to write")  # fmt: skip
    add("--existing", choices=("replace", "keep"), default="replace",
        help="with --mux: replace the clip's own sound track, or keep it as a second one")  # fmt: skip
    add("--report", type=Path, metavar="JSON", default=argparse.SUPPRESS,
        help="write a report: seed, options, scores, hashes of the engines, times")  # fmt: skip
    add("--overwrite", action="store_true", help="replace outputs that exist")


@dataclass(frozen=True)
class Outputs:
    """The files that a call will write."""

    wavs: list[Path]
    video: Path | None
    report: Path | None

    @property
    def files(self) -> list[Path]:
        return self.wavs + [p for p in (self.video, self.report) if p is not None]


def plan_outputs(args: argparse.Namespace) -> Outputs:
    """Choose the outputs' names and check them before any work starts.

    Names must differ, be in folders that can be written, and be new unless --overwrite is given. Raises MediaError,
    OptionError.
    """
    clip: Path = args.clip
    if clip.is_dir():
        raise MediaError(f"{clip} is a folder; give the path of one file")
    wav: Path = getattr(args, "output", clip.with_suffix(".wav"))
    if wav.suffix.lower() != ".wav":
        raise OptionError(f"the output {wav} is not a .wav file; for a video with sound use --mux {wav}")
    wavs = [wav] + [wav.with_name(f"{wav.stem}.take{n}.wav") for n in range(2, args.takes + 1)]
    video: Path | None = getattr(args, "mux", None)
    if video == Path():
        video = clip.with_name(f"{clip.stem}.sound{clip.suffix}")
    if video is not None:
        check_container(video, clip, args.existing)
    outputs = Outputs(wavs, video, getattr(args, "report", None))
    seen = {clip.resolve()}
    for path in outputs.files:
        if path.resolve() in seen:
            raise OptionError(f"{path} is named twice; give the clip and each output different names")
        seen.add(path.resolve())
        if path.is_dir():
            raise MediaError(f"cannot write {path}: it is a folder; give a file name")
        if path.exists() and not args.overwrite:
            raise MediaError(f"{path} exists; give --overwrite to replace it, or another name")
        if not path.parent.is_dir():
            raise MediaError(f"cannot write {path}: the folder {path.parent} does not exist")
        if not os.access(path.parent, os.W_OK):
            raise MediaError(f"cannot write {path}: no permission to write in {path.parent}")
    return outputs


@contextmanager
def staged(files: list[Path]) -> Iterator[dict[Path, Path]]:
    """Yield a temporary path for each file; when the block ends well, give all files their final names.

    The temporary files lie in hidden folders beside the final ones. They are removed after an error.
    """
    try:
        with ExitStack() as stack:

            def hidden() -> dict[Path, Path]:
                folders = {
                    parent: Path(stack.enter_context(TemporaryDirectory(prefix=".maskvat-", dir=parent)))
                    for parent in sorted({p.parent for p in files})
                }
                return {p: folders[p.parent] / p.name for p in files}

            parts, aside = hidden(), hidden()
            yield parts
            publish(parts, aside)
    except MediaError as error:
        raise MediaError(unstaged(str(error))) from error
    except OSError as error:
        folder, reason = files[0].parent, error.strerror or error
        raise MediaError(f"cannot write in {folder}: {reason}; free some space or choose another folder") from error


def publish(parts: dict[Path, Path], aside: dict[Path, Path]) -> None:
    """Give all parts their final names, or none: after an error, files that were replaced come back from `aside`."""

    def undo(path: Path) -> None:  # looks at the files, so that Ctrl-C between two lines does no harm
        if os.path.lexists(aside[path]):
            os.replace(aside[path], path)
        elif not parts[path].exists():
            path.unlink()

    with ExitStack() as undoing:
        for path, part in parts.items():
            undoing.callback(undo, path)
            if os.path.lexists(path):
                os.replace(path, aside[path])
            os.replace(part, path)
        undoing.pop_all()


def unstaged(text: str) -> str:
    """Remove the names of `staged` folders from a message."""
    return re.sub(r"\.maskvat-\w+[/\\]", "", text)


def at_rate(take: Take, rate: int) -> FloatArray:
    """The sound at another rate, again as long as the picture, rounded to one sample of that rate."""
    if rate == take.sample_rate:
        return take.audio
    audio = resample(take.audio, take.sample_rate, rate)
    length = max(1, round(take.duration * rate))
    return np.pad(audio, (0, max(0, length - len(audio))), mode="edge")[:length]


def write_outputs(args: argparse.Namespace, outputs: Outputs, takes: list[Take]) -> dict[str, Any]:
    """Write all outputs, or none of them. Returns the report, with what was written."""
    report = takes[0].report.to_dict()
    report["rate"] = args.rate
    report["outputs"] = [str(p) for p in outputs.files]
    report["takes"] = [
        {"file": str(p), "candidate": t.candidate, "score": t.score} for p, t in zip(outputs.wavs, takes, strict=True)
    ]
    with staged(outputs.files) as parts:
        for path, take in zip(outputs.wavs, takes, strict=True):
            write_wav(parts[path], at_rate(take, args.rate), args.rate)
        if outputs.video is not None:
            best = takes[0]
            warnings = mux(
                args.clip, best.audio, best.sample_rate, parts[outputs.video], existing=args.existing, start=best.start
            )
            report["warnings"] += map(unstaged, warnings)
        if outputs.report is not None:
            write_atomically(parts[outputs.report], json.dumps(report, indent=1) + "\n")
    return report


def run(args: argparse.Namespace) -> None:
    """Run the command. Raises MaskVATError."""
    options: dict[str, Any] = {name: getattr(args, name, default) for name, default in DEFAULTS.items()}
    sampling = SamplingConfig(**options | {"budget": read_budget(getattr(args, "budget", ""))})
    outputs = plan_outputs(args)
    engines = load(getattr(args, "engines", None), args.backend, args.threads, args.precision, wait=False)
    with engines as pipeline, reporter(args.progress) as shown:

        def on_progress(progress: Progress) -> None:
            shown.update(progress)

        takes = pipeline.generate(args.clip, sampling, on_progress)
        log.debug("bundle %s on %s", pipeline.bundle.manifest.name, pipeline.bundle.backend)
        report = write_outputs(args, outputs, takes)
        shown.done(report)
    for warning in report["warnings"]:
        log.warning("%s", warning)
    for entry in report["takes"]:
        score = "" if entry["score"] is None else f"  SCAV distance {entry['score']:.4f}"
        log.info("%s%s", entry["file"], score)
    if outputs.video is not None:
        log.info("%s", outputs.video)
    log.info("%.1f s of sound in %.1f s", report["samples"] / report["sample_rate"], report["total_seconds"])


def drop_unread() -> None:
    """Discard the output of a stream that nobody reads any more: flushing it when Python ends would raise again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def run_command(main: Any, debug: bool) -> int:
    """Run a command and return its exit status: 0, 1 after an error, or 130 after Ctrl-C.

    An error is one line on stderr, or a traceback with `debug`. Prints nothing more once the output has no reader.
    """
    try:
        main()
        print(end="", flush=True)
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        drop_unread()
        return 1
    except (MaskVATError, OSError) as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    atexit.register(gc.freeze)  # at exit, searching the remaining objects for cycles would only take time
    logging.basicConfig(level=logging.DEBUG if args.debug else logging.INFO, format="%(message)s", stream=sys.stderr)
    return run_command(lambda: run(args), args.debug)


if __name__ == "__main__":
    sys.exit(main())
