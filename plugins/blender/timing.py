"""Which part of a clip a strip shows, and which part of a take is marked. Exact arithmetic, no bpy here."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .engine import Refused

SNAP = Fraction(1, 10000)  # relative difference up to which a rate counts as a standard one, such as 23.98


def exact_rate(rate: float) -> Fraction:
    """Frames per second as a fraction: 29.97 is 30000/1001. The engine has the same rule."""
    value = Fraction(rate)
    base = max(1, round(value))
    for standard in (Fraction(base), Fraction(base * 1000, 1001)):
        if abs(value - standard) <= SNAP * standard:
            return standard
    return value


def rate_text(rate: Fraction) -> str:
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def seconds_text(seconds: Fraction) -> str:
    """Seconds as the engine reads them. A whole number of frames survives the rounding."""
    return f"{float(seconds):.6f}"


@dataclass(frozen=True)
class ClipFacts:
    """What a movie strip says about itself. Frames of the timeline, unless they are called the clip's."""

    scene_rate: Fraction
    clip_rate: Fraction
    clip_frames: int  # the clip's, of the whole file
    cut: tuple[int, int]  # the clip's frames that a hard split cut off, at the start and at the end
    content_start: float  # where the first frame that is not cut off would be shown
    content_frames: int
    visible: tuple[int, int]  # [first, end)


@dataclass(frozen=True)
class UsedRange:
    """The part of the clip that a strip shows, and where it is shown."""

    first: int  # the clip's frames [first, end)
    end: int
    rate: Fraction  # the clip's
    whole: bool  # all of the clip
    place: int  # frame of the timeline where the sound begins
    late: float  # seconds from there to the moment when the clip's frame `first` is due; below 0: it was due before

    @property
    def text(self) -> str:
        """The range for the engine. Seconds, because clips of variable rate take nothing else."""
        return f"{seconds_text(self.first / self.rate)}-{seconds_text(self.end / self.rate)}"


def check_speed(facts: ClipFacts) -> None:
    """Raise Refused unless the clip plays at its own speed."""
    frames = facts.clip_frames - sum(facts.cut)
    if abs(facts.content_frames - frames * facts.scene_rate / facts.clip_rate) <= 1:
        return
    clip, scene = rate_text(facts.clip_rate), rate_text(facts.scene_rate)
    if abs(facts.content_frames - frames) <= 1:
        percent = 100 * float(facts.scene_rate / facts.clip_rate)
        raise Refused(
            f"The clip has {clip} frames per second and the scene {scene}, so it plays at {percent:.1f} % speed. "
            f"Set the scene to {clip}, or add the clip again with 'Adjust Playback Rate'."
        )
    raise Refused(
        f"The strip shows {frames} frames of a clip at {clip} frames per second as {facts.content_frames} frames at "
        f"{scene}, so its speed was changed. A sound can be made at the clip's own speed only."
    )


def used_range(facts: ClipFacts) -> UsedRange:
    """Find the clip's frames that a strip shows. Held frames at its ends do not count. Raises Refused."""
    check_speed(facts)
    start = Fraction(facts.content_start)
    place = max(facts.visible[0], ceil(start))
    stop = min(Fraction(facts.visible[1]), start + facts.content_frames)
    last = facts.clip_frames - facts.cut[1]

    def clip_frame(frame: Fraction) -> Fraction:
        return facts.cut[0] + (frame - start) * facts.clip_rate / facts.scene_rate

    first, end = (min(round(clip_frame(Fraction(frame))), last) for frame in (place, stop))
    if stop == start + facts.content_frames:
        end = last  # the length on the timeline was rounded
    if first >= end:
        raise Refused("The strip shows no frame of its clip.")
    late = (first - clip_frame(Fraction(place))) / facts.clip_rate
    return UsedRange(first, end, facts.clip_rate, (first, end) == (0, facts.clip_frames), place, float(late))


@dataclass(frozen=True)
class TakeFacts:
    """What the strip of a take says about itself."""

    scene_rate: Fraction
    begins: Fraction  # frame of the timeline where the take begins, a fraction of a frame included
    seconds: Fraction  # of the take
    visible: tuple[int, int]  # frames [first, end) of the timeline


def marked_range(take: TakeFacts, preview: tuple[int, int] | None, playhead: int) -> str:
    """The part of a take to make anew, in seconds from its start.

    The preview range, frames [first, end), counts if it is on; else from the playhead to the end of the strip. Raises
    Refused if that is not on the strip.
    """
    first, end = preview or (playhead, take.visible[1])
    first, end = max(first, take.visible[0]), min(end, take.visible[1])
    begin = max(Fraction(0), (first - take.begins) / take.scene_rate)
    stop = min(take.seconds, (end - take.begins) / take.scene_rate)
    if begin >= stop or (preview is None and playhead < take.visible[0]):
        raise Refused(
            f"The {'preview range' if preview else 'playhead'} is not on the sound. Press P and draw a range over it, "
            "or put the playhead where the part to redo begins."
        )
    return f"{seconds_text(begin)}-{seconds_text(stop)}"
