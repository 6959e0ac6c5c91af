"""The result of a generation: takes, the report that they share, and the pieces of a take that is still being made."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import PurePath
from types import TracebackType
from typing import Any, Self

import numpy as np

from engines.contract import CONTRACT_VERSION, FloatArray, Int32Array
from runtime.audio import PathLike
from runtime.deliver.loudness import Loudness
from runtime.edit.fingerprint import Fingerprint
from runtime.edit.timecode import Span
from runtime.exit_wait import delay_exit
from runtime.sampling import SamplingConfig


@dataclass(frozen=True)
class EngineFile:
    """The bundle's file that ran a graph."""

    file: str
    sha256: str


@dataclass(frozen=True)
class DroppedCandidate:
    """A candidate that the budget dropped on the way."""

    candidate: int
    steps: int  # unmasking steps that it took
    preview: float | None  # SCAV distance of its preview when it was dropped; None if that was not finite


@dataclass(frozen=True)
class Report:
    """How the takes of one call were made. `to_dict` gives it as plain JSON values, with the fields' names as keys."""

    version: str  # of this program
    clip: str  # path of the video
    bundle: str  # the bundle's name
    backend: str  # what ran the engines: a name in engines.backends.BACKENDS
    precision: str  # precision of the step graph
    threads: int  # CPU threads; 0: the backend's choice
    engines: Mapping[str, EngineFile]  # graph -> its file
    sampling: SamplingConfig
    windows: int  # windows that the video was cut into
    samples: int  # length of the sound
    sample_rate: int  # Hz
    seconds: Mapping[str, float]  # stage -> time spent in it; "host" is the part of "sample" outside of "step"
    calls: Mapping[str, int]  # stage -> how often it ran
    total_seconds: float  # of the whole call
    loudness: Sequence[Loudness]  # of the takes, in their order
    warnings: Sequence[str]  # what went less than well, one line each
    scores: Sequence[float | None] | None  # mean SCAV distance of every candidate; None if there was only one
    ranking: Sequence[int]  # candidates of the takes, the best first
    dropped: Sequence[DroppedCandidate]  # in the order in which they were dropped
    range: Mapping[str, Any] | None = None  # the part of the video: begin, end (s), frames, rate; None: all of it
    words: Mapping[str, Any] | None = None  # what was to be heard: prompts and avoid; None: no words
    edit: Mapping[str, Any] | None = None  # what was changed in an earlier take: kind, tokens, changed; None: nothing

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values: dicts, lists, strings, numbers and None.

        `runtime.infer --report` writes these keys, and adds `rate`, `outputs` and `takes`.
        """
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return values


@dataclass(frozen=True, eq=False)
class Take:
    """One finished sound.

    Two takes are equal if everything but their reports and activity is equal, the arrays sample by sample.
    """

    audio: FloatArray  # [L] mono, within [-1, 1], exactly as long as the picture or the range
    sample_rate: int  # Hz
    candidate: int  # number of the candidate, from 0
    score: float | None  # mean SCAV distance, lower is better; None if there was nothing to rank
    codes: Int32Array  # [K, T] the codec's tokens
    duration: Fraction  # of the picture, seconds
    start: Fraction  # time stamp of its first picture, seconds on the container's clock; the sound starts there
    report: Report = field(repr=False)  # shared by the takes of one call
    span: Span | None = None  # the part of the video that it fills; None: all of it
    fingerprint: Fingerprint | None = None  # of the video
    contract: int = CONTRACT_VERSION  # of the bundle that made it
    activity: FloatArray | None = field(default=None, repr=False)  # [2, F], runtime.edit.activity; None: not known

    def save(self, path: PathLike) -> None:
        """Write the take to a .npz file, whole or not at all. Raises OptionError, MediaError."""
        from runtime.edit.take_file import save_take

        save_take(self, path)

    @staticmethod
    def load(path: PathLike) -> "Take":
        """Read a take that `save` wrote. Raises MediaError if the file is damaged or no take."""
        from runtime.edit.take_file import load_take

        return load_take(path)

    def _plain(self) -> tuple[object, ...]:
        return self.sample_rate, self.candidate, self.score, self.duration, self.start, self.span

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Take):
            return NotImplemented
        same_arrays = np.array_equal(self.audio, other.audio) and np.array_equal(self.codes, other.codes)
        return same_arrays and self._plain() == other._plain()

    def __hash__(self) -> int:
        return hash(self._plain())  # arrays can change, so they do not count


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a sound that is still being made. Pieces come in order and without gaps."""

    audio: FloatArray  # [n] mono, within [-1, 1]
    first: int  # which sample of the sound is its first
    sample_rate: int  # Hz

    @property
    def begin(self) -> float:
        """Where it begins, in seconds after the beginning of the sound."""
        return self.first / self.sample_rate


class SoundStream(Iterator[Piece]):
    """The pieces of one sound, each made when it is asked for. After the last one, `take` is the whole.

    Use it as a context manager, or call `close`, if you may stop before the end: the video stays open until then.
    Iterating raises what `Pipeline.generate` raises.
    """

    def __init__(self, pieces: Generator[Piece, None, Take]) -> None:
        self._pieces = pieces
        self._take: Take | None = None

    def __next__(self) -> Piece:
        try:
            with delay_exit():  # while something is done; the caller may leave the stream as it is
                return next(self._pieces)
        except StopIteration as end:
            self._take = self._take or end.value
            raise

    @property
    def take(self) -> Take:
        """The whole sound, with its report. Raises ValueError before the last piece has been read."""
        if self._take is None:
            raise ValueError("the take is complete once all pieces have been read")
        return self._take

    def close(self) -> None:
        """Stop: release the video. There are no more pieces then."""
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def name_clip(takes: Sequence[Take], path: str, name: str) -> list[Take]:
    """Takes of one call that call their clip `name`, also in warnings, in place of its path."""
    report = takes[0].report
    warnings = [text.replace(path, name) for text in report.warnings]
    shared = replace(report, clip=name, warnings=warnings)
    made = takes[0].fingerprint
    known = None if made is None else replace(made, name=PurePath(name).name)
    return [replace(take, report=shared, fingerprint=known) for take in takes]
