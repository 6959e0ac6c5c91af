"""Which part of a clip or a take the Blender add-on asks for, where the sound goes, and what is refused."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest

from plugins.blender import names
from plugins.blender.engine import Refused
from plugins.blender.timing import ClipFacts, TakeFacts, exact_rate, marked_range, used_range
from runtime.edit import timecode

NTSC = Fraction(30000, 1001)
WHOLE = ClipFacts(Fraction(25), Fraction(25), 100, (0, 0), 37, 100, (37, 137))


@pytest.mark.parametrize("rate", [23.976, 23.98, 24, 24.5, 25, 29.97, 30 / 1.001, 50, 59.94, 60, 12.5, 119.88])
def test_rates_are_the_engines(rate: float) -> None:
    assert exact_rate(rate) == timecode.exact_rate(rate)


def test_a_whole_clip_needs_no_range() -> None:
    used = used_range(WHOLE)
    assert (used.first, used.end, used.whole, used.place, used.late) == (0, 100, True, 37, 0)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), NTSC, Fraction(50), Fraction(60000, 1001)])
def test_a_trimmed_strip(rate: Fraction) -> None:
    used = used_range(replace(WHOLE, scene_rate=rate, clip_rate=rate, visible=(47, 78)))
    assert (used.first, used.end, used.whole, used.place, used.late) == (10, 41, False, 47, 0)
    span = timecode.TimeRange.parse(used.text).resolve(rate)
    assert span.frames == (10, 41)


def test_a_hard_split() -> None:
    """Blender counts what was cut off in the clip's frames, also where the strip is stretched to the scene's rate."""
    used = used_range(replace(WHOLE, cut=(35, 15), content_frames=50, visible=(37, 87)))
    assert (used.first, used.end, used.whole) == (35, 85, False)
    stretched = ClipFacts(Fraction(60), Fraction(30), 210, (35, 0), 2070, 350, (2070, 2420))
    assert (used_range(stretched).first, used_range(stretched).end) == (35, 210)


def test_held_frames_are_not_part_of_the_clip() -> None:
    used = used_range(replace(WHOLE, visible=(20, 150)))
    assert (used.first, used.end, used.whole, used.place) == (0, 100, True, 37)


def test_a_clip_at_the_scenes_rate_by_adjust_playback_rate() -> None:
    facts = ClipFacts(Fraction(30), Fraction(25), 100, (0, 0), 1, 120, (1, 121))
    assert used_range(facts).whole
    used = used_range(replace(facts, visible=(8, 121)))  # 7 frames at 30 are 5.83 frames at 25
    assert (used.first, used.end, used.place) == (6, 100, 8)
    assert used.late == pytest.approx(6 / 25 - 7 / 30) and abs(used.late) <= 0.5 / 25
    early = used_range(replace(facts, visible=(3, 121)))
    assert early.first == 2 and early.late == pytest.approx(2 / 25 - 2 / 30)


def test_a_length_that_was_rounded_ends_with_the_clip() -> None:
    facts = ClipFacts(Fraction(25), NTSC, 100, (0, 0), 1, 84, (1, 85))  # 83.4 frames
    assert used_range(facts).end == 100
    assert used_range(replace(facts, content_frames=83, visible=(1, 84))).end == 100


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (replace(WHOLE, scene_rate=Fraction(30)), "The clip has 25 frames per second and the scene 30.*120.0 %"),
        (replace(WHOLE, content_frames=50), "its speed was changed"),
        (replace(WHOLE, visible=(137, 150)), "shows no frame"),
        (replace(WHOLE, visible=(10, 37)), "shows no frame"),
    ],
)
def test_what_has_no_sound(facts: ClipFacts, text: str) -> None:
    with pytest.raises(Refused, match=text):
        used_range(facts)


# ---------------------------------------------------------------- redo
TAKE = TakeFacts(Fraction(25), Fraction(37), Fraction(4) - Fraction(1, 48000), (37, 137))


@pytest.mark.parametrize(
    ("preview", "playhead", "frames"),
    [
        ((47, 62), 0, (10, 25)),  # the playhead does not matter
        ((1, 62), 0, (0, 25)),
        ((100, 500), 0, (63, 100)),
        (None, 87, (50, 100)),
        (None, 37, (0, 100)),
    ],
)
def test_the_marked_range(preview: tuple[int, int] | None, playhead: int, frames: tuple[int, int]) -> None:
    text = marked_range(TAKE, preview, playhead)
    assert timecode.TimeRange.parse(text).resolve(Fraction(25), None, Fraction(4)).frames == frames


@pytest.mark.parametrize(("preview", "playhead"), [((1, 37), 50), ((137, 200), 50), (None, 36), (None, 137)])
def test_a_mark_beside_the_take(preview: tuple[int, int] | None, playhead: int) -> None:
    with pytest.raises(Refused, match=f"The {'preview range' if preview else 'playhead'} is not on the sound"):
        marked_range(TAKE, preview, playhead)


def test_a_take_that_begins_inside_a_frame() -> None:
    assert marked_range(replace(TAKE, begins=Fraction("37.5")), (38, 40), 0) == "0.020000-0.100000"


# ---------------------------------------------------------------- names by version
class Old:
    frame_final_start, frame_start, animation_offset_end = 5, 4.0, 3


class New(Old):
    left_handle, content_start, content_trim_end = 50, 40.0, 30

    def __getattribute__(self, name: str) -> object:
        assert name not in vars(Old) or name.startswith("__"), f"{name} is deprecated"
        return super().__getattribute__(name)


@pytest.mark.parametrize(("strip", "factor"), [(Old(), 1), (New(), 10)])
def test_the_newest_name_is_used(strip: object, factor: int) -> None:
    found = [names.read(strip, what) for what in ("start", "content_start", "cut_end")]
    assert found == [5 * factor, 4.0 * factor, 3 * factor]
    names.write(strip, "start", 7)
    assert names.read(strip, "start") == 7
    assert ("left_handle" in vars(strip)) == (factor == 10)


def test_the_edited_scene() -> None:
    assert names.edited_scene(SimpleNamespace(scene="a")) == "a"
    assert names.edited_scene(SimpleNamespace(scene="a", sequencer_scene=None)) == "a"
    assert names.edited_scene(SimpleNamespace(scene="a", sequencer_scene="b")) == "b"
