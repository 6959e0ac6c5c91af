"""A sound that is written while it is made: what can be done piece by piece, and a WAV file that grows."""

from collections.abc import Iterable, Iterator

from runtime.audio import FloatArray, PathLike
from runtime.deliver.delivery import DeliveryConfig
from runtime.deliver.levels import decibels, fade_pieces
from runtime.errors import OptionError
from runtime.media.wav import WavFormat, growing_header, raw_samples


def check_streamed(config: DeliveryConfig) -> None:
    """Raise OptionError for what needs the whole sound before its first sample."""
    needed = {name: getattr(config, name) is not None for name in ("lufs", "peak", "mix")}
    for name, given in (needed | {"silence": config.silence != "off", "bwf": config.bwf}).items():
        if given:
            raise OptionError(
                f"--{name} needs the whole sound, and --stream writes it while it is made; leave out one of them, or "
                f"add --save take.npz and deliver the take again, with --from take.npz --{name}"
            )


def check_streamed_rate(config: DeliveryConfig, rate: int) -> None:
    """Raise OptionError if the sound, which is made at `rate` Hz, is wanted at another rate."""
    if config.rate not in (None, rate):
        raise OptionError(
            f"--rate is {config.rate}, and --stream writes the {rate} Hz at which the sound is made; leave out one of "
            "them, or let the program that reads the sound convert it"
        )


def deliver_pieces(
    pieces: Iterable[FloatArray], config: DeliveryConfig, rate: int, is_part: bool
) -> Iterator[FloatArray]:
    """Pieces [n] of a sound at their delivered level: joined, the same samples as `deliver_take` gives for the whole.

    `is_part`: the sound is that of a range.
    """
    for audio in fade_pieces(pieces, config.fade_samples(rate, is_part)):
        yield audio * decibels(config.gain) if config.gain else audio


class GrowingWav:
    """A WAV file that grows. After each piece it is whole: the header counts the samples that are there."""

    def __init__(self, form: WavFormat) -> None:
        self.form, self.samples = form, 0

    @property
    def seconds(self) -> float:
        """How long the sound is by now."""
        return self.samples / self.form.rate

    def add(self, path: PathLike, audio: FloatArray) -> None:
        """Write mono audio [n] in [-1, 1] behind what the file holds; the first piece makes the file.

        The samples come before the header that counts them, so what is killed in between leaves the piece out. Raises
        OSError.
        """
        form, after = self.form, self.samples + len(audio)
        header = growing_header(form, after)
        with open(path, "r+b" if self.samples else "xb") as file:
            file.seek(len(header) + form.block * self.samples)
            file.writelines(raw_samples(form, audio))
            if form.block * after % 2:
                file.write(b"\0")  # chunks are whole words; the next piece takes its place
            file.flush()
            file.seek(0)
            file.write(header)
        self.samples = after
