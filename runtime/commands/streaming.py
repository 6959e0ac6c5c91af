"""`maskvat make --stream`: the sound is written while it is made, to a pipe or to a file that grows."""

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from engines.contract import FloatArray
from runtime.audio import cannot_write
from runtime.commands.crash_guard import forget, tell
from runtime.commands.deliverables import PIPE, Delivery, standard_output
from runtime.commands.editing import Edit
from runtime.commands.outputs import staged
from runtime.commands.staging import Message
from runtime.deliver.streamed import GrowingWav, check_streamed_rate, deliver_pieces
from runtime.errors import OptionError
from runtime.media.wav import WavFormat, endless_header, raw_samples
from runtime.pipeline import Pipeline
from runtime.sampling import Progress, SamplingConfig
from runtime.take import Take

KINDS = ("wav", "pcm")


def check_stream(args: Namespace) -> None:
    """Refuse flags that do not go together with --stream. Raises OptionError."""
    if hasattr(args, "take"):
        raise OptionError("--stream makes a new sound, and --from goes on with a take; leave out one of them")
    output: Path = getattr(args, "output", args.video.with_suffix(".wav"))
    if output == PIPE:
        return
    if args.stream == "pcm":
        raise OptionError(f"--stream pcm writes bare samples to a pipe, not to {output}; give -o -, or --stream wav")
    if output.suffix.lower() != ".wav":
        raise OptionError(f"--stream writes a .wav file that grows, not {output}; name a .wav file, or give -o -")


class Sink(Protocol):
    """Where the pieces of a sound go."""

    name: str
    seconds: float  # how much there is by now

    def add(self, audio: FloatArray) -> None:
        """Write a piece [n]."""


class PipeSink:
    """Standard output. Raises BrokenPipeError once nobody reads it."""

    name = "standard output"

    def __init__(self, form: WavFormat, kind: str) -> None:
        self.form, self.kind, self.seconds = form, kind, 0.0

    def add(self, audio: FloatArray) -> None:
        stream = standard_output()
        if not self.seconds and self.kind == "wav":
            stream.write(endless_header(self.form))
        for block in raw_samples(self.form, audio):
            stream.write(block)
        stream.flush()
        self.seconds += len(audio) / self.form.rate


class FileSink:
    """A WAV file that grows. It gets its name together with the first piece; until then nothing is changed."""

    def __init__(self, form: WavFormat, path: Path, args: Namespace) -> None:
        self.name, self.path, self.args, self.wav, self.seconds = str(path), path, args, GrowingWav(form), 0.0

    def add(self, audio: FloatArray) -> None:
        if self.wav.samples:
            try:
                self.wav.add(self.path, audio)
            except OSError as error:
                raise cannot_write(self.path, error) from error
        else:
            with staged([self.path], self.args.video, self.args.overwrite, _tell_unpublished) as parts:
                self.wav.add(parts[self.path], audio)
            forget()  # after a crash from now on, the file stays as it is
            tell({"video": str(self.args.video), "progress": self.args.progress, "begun": self.name})
        self.seconds = self.wav.seconds


def _tell_unpublished(message: Message) -> None:
    """As `tell`, without the end of publishing: a command whose sound has only begun has failed if it crashes."""
    if message.get("state") != "published":
        tell(message)


def open_sink(args: Namespace, delivery: Delivery, sounds: list[Path], rate: int) -> Sink:
    """Where the flags want the sound, which is made at `rate` Hz. Raises OptionError."""
    check_streamed_rate(delivery.config, rate)
    form = WavFormat(rate, delivery.config.bits, delivery.config.channels)
    return PipeSink(form, args.stream) if delivery.pipe else FileSink(form, sounds[0], args)


@contextmanager
def telling_what_is_there(sink: Sink) -> Iterator[None]:
    """Let an error, or a signal that stops, say how much of the sound was written."""
    try:
        yield
    except BaseException as error:
        if sink.seconds:
            error.add_note(f"{sink.name} has the first {sink.seconds:.1f} s of the sound")
        raise


def stream_sound(
    sink: Sink,
    args: Namespace,
    sampling: SamplingConfig,
    edit: Edit,
    delivery: Delivery,
    pipeline: Pipeline,
    on_progress: Callable[[Progress], None],
    cancel: threading.Event | None,
) -> Take:
    """Make the sound and write it piece by piece. Returns the whole take."""
    pieces = pipeline.stream(
        args.video, sampling, on_progress, cancel, max_duration=args.max_duration, span=delivery.span,
        words=edit.words, timing=delivery.timing,
    )  # fmt: skip
    with closing(pieces):
        sounds = (piece.audio for piece in pieces)
        for audio in deliver_pieces(sounds, delivery.config, pipeline.config.sample_rate, delivery.span is not None):
            sink.add(audio)
        return pieces.take
