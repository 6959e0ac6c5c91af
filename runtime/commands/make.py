"""The command `python -m runtime.infer`: its options, and what it does with them."""

import argparse
import atexit
import gc
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from engines.backends import BACKENDS, PRECISIONS
from runtime.audio import MAX_DURATION
from runtime.commands import signals
from runtime.commands.crash_guard import tell
from runtime.commands.deliverables import Delivery, add_delivery_options, plan_delivery, read_delivery
from runtime.commands.editing import Edit, Noted, add_edit_options, read_edit, read_sampling
from runtime.commands.option_groups import CommandParser, FlagGroups, HelpFormatter, parse_one_video
from runtime.commands.outputs import Outputs, plan_outputs, write_outputs
from runtime.commands.show_progress import PROGRESS, Reporter, reporter
from runtime.commands.standard_streams import drop_unread, print_event, say
from runtime.commands.status import run_command
from runtime.commands.streaming import KINDS, check_stream, open_sink, stream_sound, telling_what_is_there
from runtime.commands.words import KnownWords, add_word_options
from runtime.decode import SCHEDULES
from runtime.deliver.delivery import DeliveryConfig
from runtime.deliver.streamed import check_streamed
from runtime.errors import OptionError
from runtime.pipeline import Pipeline, load
from runtime.sampling import Progress, SamplingConfig
from runtime.take import Take, name_clip

log = logging.getLogger(__name__)
PROG = "python -m runtime.infer"
DEFAULTS = {f.name: f.default for f in fields(SamplingConfig)}


def get_parser(
    prog: str = PROG,
    kind: type[argparse.ArgumentParser] = CommandParser,
) -> argparse.ArgumentParser:
    """The parser; every flag's help gives its default and range."""
    parser = kind(
        prog=prog,
        description="Make a synchronised sound for a silent video.",
        formatter_class=HelpFormatter,
        usage="%(prog)s video [options]",  # the video comes first: after --mux it would be read as the value of --mux
    )
    parser.add_argument("video", type=Path, help="video file, in any container and codec that FFmpeg decodes")
    add_options(FlagGroups(parser))
    return parser


def add_options(group: FlagGroups) -> None:
    """Add all flags, in groups."""
    add_output_options(group("files to write"))
    add_sampling_options(partial(group("how the sound is made"), action=Noted))
    add_word_options(group("words"))
    add_edit_options(group("ranges and takes"))
    add_delivery_options(group("how the sound is delivered"))
    add_engine_options(group("what runs it"))
    add = group("what is shown, and limits")
    add("--progress", choices=PROGRESS, default="auto",
        help="auto shows a bar on a terminal; json prints JSON lines on stdout, errors too")  # fmt: skip
    add("--quiet", action="store_true", help="print warnings and errors only")
    add("--debug", action="store_true", help="log more, and show the traceback of an error")
    add("--max-duration", type=float, metavar="SECONDS", default=MAX_DURATION, help="refuse a video that lasts longer")


def add_engine_options(add: Callable[..., object]) -> None:
    """Add the flags that choose the bundle, and what runs it."""
    add("--engines", type=Path, metavar="FOLDER", default=argparse.SUPPRESS,
        help="folder of the bundle to use (default: the shipped one)")  # fmt: skip
    add("--backend", choices=("auto", *BACKENDS), default="auto",
        help="what runs the engines; auto uses a GPU only if it passes the bundle's self-test")  # fmt: skip
    add("--precision", choices=("auto", *PRECISIONS), default="auto",
        help="precision of the step graph; auto picks the fastest that is available")  # fmt: skip
    add("--threads", type=int, default=0, help="CPU threads, 0 to 1024; 0 lets the backend choose")


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
    add("-o", "--output", type=Path, default=argparse.SUPPRESS,
        help=".wav or .flac to write; - writes a WAV to stdout (default: the video's name with .wav)")  # fmt: skip
    add("--stream", nargs="?", choices=KINDS, const="wav", default=argparse.SUPPRESS,
        help="write the sound while it is made: a WAV file that grows, or with -o - a WAV without a length, or bare "
        "little-endian samples (pcm); give the video first")  # fmt: skip
    add("--mux", nargs="?", type=Path, const=Path(), metavar="FILE", default=argparse.SUPPRESS,
        help="also write the video with the best sound; the picture is copied unchanged (default: VIDEO.sound.SUFFIX); "
        "give the video first, because a name after --mux is the file to write")  # fmt: skip
    add("--existing", choices=("replace", "keep"), default="replace",
        help="with --mux: replace the video's own sound track, or keep it as a second one")  # fmt: skip
    add("--report", type=Path, metavar="JSON", default=argparse.SUPPRESS,
        help="write a report: seed, options, scores, hashes of the engines, times")  # fmt: skip
    add("--overwrite", action="store_true", help="replace outputs that exist")


@dataclass(frozen=True)
class Request:
    """One sound that is asked for. Its options and output names are checked."""

    args: argparse.Namespace
    sampling: SamplingConfig
    config: DeliveryConfig
    edit: Edit
    outputs: Outputs


def read_options(args: argparse.Namespace) -> tuple[SamplingConfig, DeliveryConfig, Edit]:
    """Check the options, and read the take of --from. The video itself is looked at later. Raises MaskVATError."""
    config, edit = read_delivery(args), read_edit(args)
    sampling = read_sampling(args, edit.request)
    if not 0 < args.max_duration < inf:
        raise OptionError(f"max-duration is {args.max_duration}; it must be a number of seconds above 0")
    return sampling, config, edit


def read_request(args: argparse.Namespace, try_copy: bool = True) -> Request:
    """Check options and output names before any work. Raises MaskVATError.

    `try_copy` also tries whether the copy of --mux can hold the video, which reads a little of it.
    """
    streamed = hasattr(args, "stream")
    if streamed:
        check_stream(args)
    sampling, config, edit = read_options(args)
    if streamed:
        sampling.check_stream()
        check_streamed(config)
    outputs = plan_outputs(args, config, try_copy)
    return Request(args, sampling, config, edit, outputs)


def open_engines(args: argparse.Namespace, wait: bool = False) -> Pipeline:
    """Open the bundle that the flags name. Raises MaskVATError."""
    return load(getattr(args, "engines", None), args.backend, args.threads, args.precision, wait=wait)


def make_sound(
    request: Request,
    delivery: Delivery,
    pipeline: Pipeline | None,
    on_progress: Callable[[Progress], None],
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Generate and write all outputs, or none. Returns the report. Raises MaskVATError.

    A take that stays as it is needs no pipeline.
    """
    args, edit = request.args, request.edit
    if pipeline is None or edit.unchanged is not None:
        assert edit.unchanged is not None
        return write_outputs(args, request.outputs, _named([edit.unchanged], args), delivery)

    def update(progress: Progress) -> None:
        signals.check()
        on_progress(progress)

    if hasattr(args, "stream"):
        sink = open_sink(args, delivery, request.outputs.sounds, pipeline.config.sample_rate)
        with telling_what_is_there(sink):
            take = stream_sound(sink, args, request.sampling, edit, delivery, pipeline, update, cancel)
            return write_outputs(args, request.outputs, [take], replace(delivery, streamed=True))
    takes = pipeline.generate(
        args.video, request.sampling, update, cancel, max_duration=args.max_duration, span=delivery.span,
        edit=edit.request, words=edit.words, timing=delivery.timing,
    )  # fmt: skip
    log.debug("bundle %s on %s", pipeline.bundle.manifest.name, pipeline.bundle.backend)
    return write_outputs(args, request.outputs, _named(takes, args), delivery)


def _named(takes: list[Take], args: argparse.Namespace) -> list[Take]:
    """The takes, with the name that a host gave the clip. Only `maskvat stdio` has one."""
    return name_clip(takes, str(args.video), args.clip_name) if hasattr(args, "clip_name") else takes


def run(args: argparse.Namespace) -> Callable[[], None]:
    """Generate and write. Returns a function that shows the result. Raises MaskVATError."""
    request = read_request(args)
    KnownWords(args).check(request.edit.words, request.sampling)
    tell({"video": str(args.video), "progress": args.progress})
    delivery = plan_delivery(args, request.config, request.edit)
    engines = open_engines(args) if request.edit.unchanged is None else nullcontext()
    with engines as pipeline, reporter(args.progress, args.quiet) as shown:
        report = make_sound(request, delivery, pipeline, shown.update)
        signals.finish()
    return lambda: show(shown, report, request.outputs)


def show(shown: Reporter, report: dict[str, Any], outputs: Outputs) -> None:
    """Show what was written."""
    shown.done(report)
    for warning in report["warnings"]:
        log.warning("%s", warning)
    for entry in report["takes"]:
        score = "" if entry["score"] is None else f"  SCAV distance {entry['score']:.4f}"
        log.info("%s%s", entry["file"], score)
    if outputs.muxed is not None:
        log.info("%s", outputs.muxed)
    log.info("%.1f s of sound in %.1f s", report["samples"] / report["sample_rate"], report["total_seconds"])


def execute(args: argparse.Namespace) -> int:
    results: list[Callable[[], None]] = []

    def on_error(code: str, message: str) -> None:
        if args.progress == "json":
            print_event("error", code=code, message=message)

    status = run_command(lambda: results.append(run(args)), args.debug, on_error)
    for show_result in results:  # the outputs are there: whatever happens now, the exit status says so
        with suppress(Exception, KeyboardInterrupt):
            show_result()
        drop_unread()
        return 0
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command inside of the caller's process. Returns its exit status."""
    return execute(parse_one_video(get_parser(), argv))


class StderrLog(logging.Handler):
    """Log lines on stderr, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def begin_process(debug: bool, quiet: bool) -> None:
    """Set up a process that belongs to a command: how it ends, its log lines and signals."""
    atexit.register(gc.freeze)  # at exit, searching the remaining objects for cycles would only take time
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", handlers=[StderrLog()])
    signals.listen()


def standalone(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command as a process of its own. Returns its exit status."""
    args = parse_one_video(get_parser(prog), argv)
    begin_process(args.debug, args.quiet)
    return execute(args)
