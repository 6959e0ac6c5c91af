"""Work out a generation before it begins: which pictures, which tokens are known, and which windows fill the others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.contract import CONTRACT_VERSION, Int32Array, ModelConfig
from engines.manifest import Manifest
from runtime.edit.fingerprint import Fingerprint, file_fingerprint
from runtime.edit.frame_source import FrameSource
from runtime.edit.request import GenerationRequest, RangeLike, as_range
from runtime.edit.timecode import Span, Timecode, TimeRange
from runtime.edit.timing import VideoTiming, read_timing
from runtime.edit.words import NO_WORDS, PlacedWords, Words, place_words
from runtime.errors import OptionError
from runtime.rng import POSITIONS, uniforms
from runtime.take import Take
from runtime.video import Part
from runtime.windows import ALL, Stretch, start_token

CONTEXT = Fraction(9, 10)  # seconds of known tokens on each side of a range that is made again, at least. Windows begin
# at whole seconds, so this keeps 2 s below 5 s with their context: half of what 10 s cost
SEEK_FROM = 2  # seconds: what is skipped is shorter, so that finding out whether the file can seek does not pay


@dataclass(frozen=True)
class Known:
    """Tokens of an earlier take, and which of them are filled anew."""

    take: Take
    codes: Int32Array  # [K, T] with the mask token where they are filled
    changed: tuple[int, int]  # token frames [first, end) that hold all that is filled
    count: int  # tokens that are filled anew; 0 for an extension, whose length is not known yet


@dataclass(frozen=True)
class Plan:
    """One generation."""

    fingerprint: Fingerprint
    span: Span | None = None  # of the result
    part: Part | None = None  # of the video file; None: all of it
    known: Known | None = None
    stretch: Stretch = ALL
    words: PlacedWords = NO_WORDS


class Planner:
    """Makes the plan of one call. `timing` is that of the video, if the caller has read it."""

    def __init__(
        self,
        video: str | Path | FrameSource,
        config: ModelConfig,
        timing: VideoTiming | None = None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self.video, self.config = video, config
        self._timing, self._check = timing, check_cancelled
        self.fingerprint = video.fingerprint if isinstance(video, FrameSource) else file_fingerprint(video)

    @property
    def timing(self) -> VideoTiming:
        """The video's timing, read when it is first needed."""
        if isinstance(self.video, FrameSource):
            raise OptionError(f"{self.video.name} is given as frames, which have no timecode; give seconds")
        if self._timing is None:
            self._timing = read_timing(self.video, self._check)
        return self._timing

    def plan(self, request: GenerationRequest, span: RangeLike | Span | None, seed: int) -> Plan:
        """`span` is the part of the video to make a sound for (None: all), `seed` that of the generation.

        Raises OptionError if request and video do not fit each other, MediaError if the video cannot be read."""
        if request.take is not None:
            if span is not None:
                raise OptionError("the take has a range of its own; leave out the range, or extend the take")
            if not request.other_clip:
                check_clip(request.take, self.fingerprint)
            return self._extended(request) if request.kind == "extend" else self._changed(request, seed)
        if span is None:
            return Plan(self.fingerprint)
        if isinstance(self.video, FrameSource):
            raise OptionError("a range needs a video file; of frames, give those of the range alone")
        if not isinstance(span, Span):
            span = self.timing.resolve(as_range(span), self.timing.duration)
        return Plan(self.fingerprint, span, self.timing.part(span))

    # ------------------------------------------------------------ redo, vary
    def _changed(self, request: GenerationRequest, seed: int) -> Plan:
        take, c = _take(request), self.config
        total, rate = take.codes.shape[1], Fraction(c.sample_rate, c.hop_length)
        first, end, span = 0, total, self._span_of(take)
        if request.range is not None:
            part = self._within(request.range, span, take.duration, "take")
            begin, stop = part.begin, part.end
            first, end = min(floor(begin * rate), total - 1), min(ceil(stop * rate), total)
        mask = spread_mask(take.codes.shape, first, end, request.share, seed)
        codes = np.where(mask, np.int32(c.mask_token), take.codes)
        second, stretch = self._around(first, end, total)
        known = Known(take, codes, (first, end), int(mask.sum()))
        return Plan(self.fingerprint, span, self._part_of(take, span, second), known, stretch)

    def _around(self, first: int, end: int, total: int) -> tuple[int, Stretch]:
        """The second at which to begin, and the windows that hold tokens [first, end) with context."""
        c, rate = self.config, Fraction(self.config.sample_rate, self.config.hop_length)
        context = min(CONTEXT, Fraction(c.overlap_seconds))
        second = max(0, floor(first / rate - context))
        stop, full = min(total, end + ceil(context * rate)), start_token(c, second) + c.window_tokens
        if end <= full:
            stop = min(stop, full)  # context is not worth another window
        return second, Stretch(second, second, first, stop)

    def _within(self, wanted: TimeRange, whole: Span | None, duration: Fraction | None, name: str) -> Span:
        """A range of a sound, which fills `whole` of the video (None: all of it); its seconds count from its start."""
        rate, start = None, None
        if wanted.unit == "frames" and isinstance(self.video, FrameSource):
            rate = self.video.rate
        elif wanted.unit != "seconds" and self.timing.steady:
            rate = self.timing.rate
        if wanted.unit == "timecode" and rate is not None:
            offset = 0 if whole is None else round(whole.begin * rate)
            start = (self.timing.start or Timecode(0, rate, ";" in wanted.begin)).plus(offset)
        return wanted.resolve(rate, start, duration, name)

    # ------------------------------------------------------------ words
    def with_words(self, plan: Plan, request: GenerationRequest, words: Words | None) -> Plan:
        """The plan with the words that are given, and those that the take keeps. Raises OptionError."""
        known, c = plan.known, self.config
        begin: float | None = None
        end: float | None = None
        if known is not None and request.kind != "vary":
            seconds = [token * c.hop_length / c.sample_rate for token in known.changed]
            begin, end = seconds[0], seconds[1] if known.count else None

        def seconds_of(wanted: TimeRange) -> tuple[float, float]:
            part = self._within(wanted, plan.span, self._length(plan), "sound")
            return float(part.begin), float(part.end)

        return replace(plan, words=place_words(words, request, (begin, end), seconds_of))

    def _length(self, plan: Plan) -> Fraction | None:
        """How long the sound of a plan will be, in seconds; None if that is not known yet."""
        if plan.known is not None and plan.known.count:
            return plan.known.take.duration
        if plan.span is not None:
            return plan.span.seconds
        if isinstance(self.video, FrameSource):
            return None if self.video.expected_duration is None else Fraction(self.video.expected_duration)
        return self.timing.duration

    def _other_clip(self, take: Take) -> bool:
        """Whether the video is another file than the take's, with a timing of its own."""
        made = take.fingerprint
        return not isinstance(self.video, FrameSource) and made is not None and not made.matches(self.fingerprint)

    def _span_of(self, take: Take) -> Span | None:
        """The part of this video that a take fills: the same seconds, whatever the frame rate. None: all of it."""
        return self.timing.same_seconds(take.span) if take.span and self._other_clip(take) else take.span

    def _part_of(self, take: Take, span: Span | None, second: int) -> Part | None:
        """The pictures of a take, which fills `span`. They are read from `second` on."""
        if isinstance(self.video, FrameSource):
            return None
        rate = None if span is None else span.rate
        if self._other_clip(take):
            span = span or Span(Fraction(0), take.duration)
            if span.end > self.timing.duration:
                raise OptionError(
                    f"the take goes to {float(span.end):.3f} s of its video, and {self.video} lasts "
                    f"{float(self.timing.duration):.3f} s; give a video that is as long"
                )
            return self.timing.part(span)
        return Part(take.start, take.duration, rate, second >= SEEK_FROM and self.timing.steady)

    # ------------------------------------------------------------ extend
    def _extended(self, request: GenerationRequest) -> Plan:
        take, c = _take(request), self.config
        length = take.codes.shape[1]
        known = Known(take, take.codes, (length, length), 0)
        seconds = Fraction(length * c.hop_length, c.sample_rate)
        first = max(0, floor(seconds - c.overlap_seconds))
        stretch = Stretch(min(first, max(0, ceil(seconds) - c.window_seconds)), first, length)
        if isinstance(self.video, FrameSource):
            if request.range is not None:
                raise OptionError("a range needs a video file; of frames, give those of the longer range")
            return Plan(self.fingerprint, None, None, known, stretch)
        span = self._longer(take, request.range)
        if c.n_tokens(span.samples(c.sample_rate)) <= length:
            raise OptionError(
                f"the take already goes to {float((take.span or span).begin + take.duration):.3f} s of the video; "
                f"it cannot be extended to {float(span.end):.3f} s"
            )
        return Plan(self.fingerprint, span, self.timing.part(span), known, stretch)

    def _longer(self, take: Take, wanted: TimeRange | None) -> Span:
        """The part of the video that an extended take fills."""
        timing = self.timing
        begin = Fraction(0) if take.span is None else take.span.begin
        if wanted is not None:
            span = timing.resolve(wanted, timing.duration)
            if abs(span.begin - begin) >= Fraction(1, 1000):
                raise OptionError(
                    f"the range {wanted} begins at {float(span.begin):.3f} s, and the take at {float(begin):.3f} s; "
                    "a take can only be extended at its end, so give a range with the same IN"
                )
            return span
        return timing.same_seconds(Span(begin, timing.duration))


def spread_mask(shape: tuple[int, ...], first: int, end: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Choose about `share` of the tokens [K, T] in frames [first, end), evenly spread, as VampNet's prompts are.

    Each codebook cuts the frames into equal pieces, 1 / share frames long on average, and takes one at random of each.
    """
    books, n = shape[0], end - first
    count = max(1, round(share * n))
    edges = np.arange(count + 1) * n // count
    u = uniforms(seed, 0, 0, 0, POSITIONS, (books, count))
    chosen = first + edges[:-1] + np.floor(u * np.diff(edges)).astype(np.int64)
    mask = np.zeros(shape, np.bool_)
    np.put_along_axis(mask, chosen, True, axis=1)
    return mask


def check_clip(take: Take, video: Fingerprint) -> None:
    """Raise OptionError if a take was made for another video."""
    made = take.fingerprint
    if made is not None and not made.matches(video):
        raise OptionError(
            f"the take was made for another video, {made}, and this one is {video}; give that video, or --other-clip "
            "(other_clip=True) if this is a new version of it"
        )


def check_bundle(take: Take, manifest: Manifest) -> None:
    """Raise OptionError if a take was made with another bundle or contract: its tokens would mean something else."""
    c, books, tokens = manifest.config, *take.codes.shape
    if take.contract != CONTRACT_VERSION:
        raise OptionError(
            f"the take was made under contract {take.contract}, and this program uses contract {CONTRACT_VERSION}; go "
            f"on with version {take.report.version} of the program"
        )
    for engine in take.report.engines.values():
        here = manifest.files.get(engine.file)
        if here is None or here.sha256 != engine.sha256:
            found = "has no such file" if here is None else f"has {here.sha256[:8]}"
            raise OptionError(
                f"the take was made with the bundle {take.report.bundle}, whose {engine.file} is {engine.sha256[:8]}; "
                f"the bundle {manifest.name} {found}; give the folder of the first one with --engines"
            )
    whole = (take.sample_rate, books, tokens) == (c.sample_rate, c.n_codebooks, c.n_tokens(len(take.audio)))
    if not whole or take.codes.min() < 0 or take.codes.max() >= c.codebook_size:
        raise OptionError(f"the tokens of the take do not fit the bundle {manifest.name}; use the take's own bundle")


def _take(request: GenerationRequest) -> Take:
    assert request.take is not None
    return request.take
