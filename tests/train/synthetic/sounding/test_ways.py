"""Sounds of concepts: hits and notes are on time, calls come near movements, what runs follows what is seen."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from tests.support.sounding import SCALE, SECONDS, TONE, sound_of, tone
from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats
from train.synthetic.sounding.cuts import calls_in, hits_in, pitch_of, running_part
from train.synthetic.sounding.layer import Cue, Layer, fade, stretch
from train.synthetic.sounding.notes import add_phrase, draw_style
from train.synthetic.sounding.pool import Recording
from train.synthetic.sounding.scene import Movement, activity
from train.synthetic.sounding.steady import add_running, running_sound, runs
from train.synthetic.sounding.ways import add_calls, add_hits

TIMES = (0.4, 1.1, 1.55, 2.9)
LENGTH = round(SECONDS * RATE)
STILL = np.zeros(round(SECONDS * 25), np.float32)


def int16(samples: Floats) -> np.ndarray:
    return np.round(samples * 32767).astype(np.int16)


@lru_cache
def labels(*names: str, takes: int = 6) -> dict[str, list[Recording]]:
    """Recordings by label; what they hold is found once."""
    return {name: [Recording(f"{name}{k}", name, int16(sound_of(name, k))) for k in range(takes)] for name in names}


def cue(label: str, **changes: object) -> Cue:
    contacts = [Event(t, "impact", "wood", 0.1, 0.8, 1 + n % 2) for n, t in enumerate(TIMES)]
    values = {"span": (0.0, SECONDS), "moments": [(t, 0.8) for t in TIMES], "contacts": contacts, "curve": STILL}
    return Cue(**{"labels": labels(label), **values, "voice": 9, **changes})  # type: ignore[arg-type]


def layer() -> Layer:
    return Layer("it", np.zeros(LENGTH, np.float32))


def rms(audio: Floats, begin: float, end: float) -> float:
    return float(np.sqrt(np.mean(audio[round(begin * RATE) : round(end * RATE)] ** 2)))


# ---------------------------------------------------------------- what recordings hold
def test_hits_and_calls_are_found() -> None:
    found = hits_in(int16(sound_of("bang", 0)))
    assert [begin / RATE for begin, _ in found] == pytest.approx([0, 0.3, 0.6], abs=0.003)
    assert all(0.05 < (end - begin) / RATE < 0.25 for begin, end in found)
    assert len(calls_in(int16(sound_of("bark", 0)))) == 2
    first, second = calls_in(int16(sound_of("bark", 3)))
    assert first[0] < 0.02 * RATE and second[0] / RATE == pytest.approx(0.45, abs=0.02)


def test_a_sound_without_an_attack_is_one_hit() -> None:
    swell = tone(300, 1.0) * np.linspace(0, 1, RATE, dtype=np.float32)
    ((begin, end),) = hits_in(int16(swell))
    assert 0.1 < begin / RATE < 0.45 and end > 0.9 * RATE


@pytest.mark.parametrize("samples", [np.ones(200, np.int16), np.ones(5000, np.int16)])
def test_the_shortest_recordings_can_be_cut(samples: np.ndarray) -> None:
    recording = Recording("x", "x", samples)
    assert all(0 <= a <= b <= len(samples) for a, b in [*recording.hits, *recording.calls, recording.running])
    assert recording.pitch is None or recording.pitch > 0
    assert np.isfinite(running_sound(recording, np.ones(1000, np.float32), np.random.default_rng(0))).all()


@pytest.mark.parametrize("note", [*SCALE, 36, 84])
def test_the_pitch_of_a_note(note: int) -> None:
    hertz = 440 * 2 ** ((note - 69) / 12)
    rich = sum(tone(hertz * k, 0.6, 0.5) / (2 * k) for k in (1, 2, 3))
    assert pitch_of(int16(rich)) == pytest.approx(note, abs=0.15)
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert pitch_of(int16(noise)) is None


def test_fades_are_not_part_of_what_runs() -> None:
    swell = tone(300, 2.0) * np.clip(np.linspace(0, 4, 2 * RATE, dtype=np.float32), 0, 1)
    begin, end = running_part(int16(swell))
    assert 0.1 < begin / RATE < 0.5 and end == 2 * RATE


def test_stretching_changes_pitch_and_length() -> None:
    high = stretch(tone(440, 1.0), 1.5)
    assert len(high) == pytest.approx(RATE / 1.5, abs=3)
    assert np.argmax(np.abs(np.fft.rfft(high))) * RATE / len(high) == pytest.approx(660, abs=3)
    assert abs(fade(np.ones(RATE, np.float32), 0.1, 0.1)[[0, -1]]).max() < 1e-6


# ---------------------------------------------------------------- ways
def test_hits_are_at_their_contacts() -> None:
    """It is silent before the first contact; every attack is within 10 ms of its contact."""
    for seed in range(12):
        made = layer()
        add_hits(made, cue("bang"), np.random.default_rng(seed))
        assert [e.time for e in made.events] == list(TIMES) and len(made.used) == len(TIMES)
        assert not made.audio[: round(TIMES[0] * RATE)].any()
        for time in TIMES:
            at = round(time * RATE)
            near = np.abs(made.audio[at : at + RATE // 20])
            assert np.argmax(near > near.max() / 3) < RATE // 100, (seed, time)
            assert near.max() > 5 * np.abs(made.audio[at - RATE // 50 : at]).max()


def test_an_object_keeps_its_recordings_and_what_slides_runs() -> None:
    made = layer()
    long = Event(1.0, "scrape", "wood", 0.1, 0.9, 3, end=3.0, envelope=(0.0, 1.0, 1.0, 0.0))
    add_hits(made, cue("bang", labels=labels("hum"), contacts=[long]), np.random.default_rng(0))
    assert rms(made.audio, 1.8, 2.2) > 4 * rms(made.audio, 1.0, 1.1) and not made.audio[round(3.01 * RATE) :].any()
    used = set()
    for _ in range(3):
        made = layer()
        hits = [Event(0.1 * n, "impact", "wood", 0.1, 0.8, 1) for n in range(30)]
        add_hits(made, cue("bang", contacts=hits), np.random.default_rng(4))
        used.add(tuple(made.used))
        assert len(set(made.used)) <= 3
    assert len(used) == 1


def test_calls_come_near_movements_in_groups_with_pauses() -> None:
    near, groups, between, silent = 0, 0, 0, 0
    for seed in range(60):
        made = layer()
        add_calls(made, cue("bark"), np.random.default_rng(seed))
        silent += not made.events
        assert not [1 for a, b in pairwise(made.events) if b.time < a.end]  # one after the other
        assert all(0 <= e.time < SECONDS and e.voice == 9 for e in made.events)
        starts = [
            b.time for a, b in pairwise([Event(-9, "", "", 0, 0, 9, end=-9), *made.events]) if b.time - a.end > 0.4
        ]
        groups += len(made.events) > len(starts)
        near += sum(any(0 <= s - t < 0.13 for t in TIMES) for s in starts)
        between += sum(not any(0 <= s - t < 0.13 for t in TIMES) for s in starts)
    assert near > 2 * between > 0 and 20 < groups < 60 and silent < 10


def test_calls_stay_inside_of_what_is_seen() -> None:
    for seed in range(20):
        made = layer()
        add_calls(made, cue("bark", span=(1.0, 2.0), moments=[(1.1, 0.8)]), np.random.default_rng(seed))
        assert all(1 <= e.time < 2 for e in made.events)
        assert not made.audio[:RATE].any() and not made.audio[round(2.4 * RATE) :].any()


def test_what_runs_follows_visibility_and_movement() -> None:
    curve = STILL.copy()
    curve[50:75] = 1  # from 2 s to 3 s
    louder = []
    for seed in range(20):
        made = layer()
        add_running(made, cue("hum", span=(1.0, SECONDS), curve=curve), np.random.default_rng(seed))
        assert not made.audio[:RATE].any()
        louder.append(rms(made.audio, 2.4, 2.9) / max(1e-9, rms(made.audio, 1.3, 1.9)))
        (event,) = made.events
        assert event.time in (1.0, 2.0) and len(event.envelope) > 5 and event.kind == "run"
    assert min(louder) > 1.2 and np.median(louder) > 2


def test_it_runs_when_nothing_moves() -> None:
    made = layer()
    add_running(made, cue("hum"), np.random.default_rng(1))
    levels = [rms(made.audio, t, t + 0.5) for t in np.arange(0.5, 3.5, 0.5)]
    assert min(levels) > 0.2 * max(levels) > 0


def test_loops_have_no_clicks() -> None:
    """The recording is shorter than the sound, so it repeats; neighbouring samples differ no more than in a tone."""
    recording = Recording("hum", "hum", int16(sound_of("hum", 0)))
    for seed in range(8):
        out = running_sound(recording, np.ones(4 * RATE, np.float32), np.random.default_rng(seed))
        largest = 2 * np.pi * TONE / RATE  # of a tone with peak 1
        assert np.abs(np.diff(out)).max() < 1.6 * largest and len(out) == 4 * RATE
        assert min(rms(out, t, t + 0.3) for t in np.arange(0, 3.7, 0.1)) > 0.1


def test_speed_changes_pitch() -> None:
    recording = Recording("hum", "hum", int16(sound_of("hum", 0)))
    out = running_sound(recording, np.full(RATE, 1.2, np.float32), np.random.default_rng(0))
    assert np.argmax(np.abs(np.fft.rfft(out))) == pytest.approx(1.2 * TONE, abs=4)


def test_runs_bridge_short_pauses() -> None:
    curve = np.zeros(100, np.float32)
    curve[10:30] = curve[34:50] = curve[80:82] = 1
    assert runs(curve) == [(10, 50)]


def test_notes_begin_at_movements_and_stay_on_a_scale() -> None:
    for seed in range(12):
        made = layer()
        add_phrase(made, cue("pluck"), np.random.default_rng(seed))
        times = sorted({e.time for e in made.events})
        assert {round(t, 6) for t in TIMES} & {round(t, 6) for t in times} and all(0 <= t < SECONDS for t in times)
        assert all(b - a >= 0.08 for a, b in pairwise(times))
        assert len(set(TIMES) - set(times)) <= 2
        for event in made.events:
            at = round(event.time * RATE)
            near = np.abs(made.audio[at : at + RATE // 20])
            assert np.argmax(near > near.max() / 3) < RATE // 100


def test_only_notes_that_decay_ring() -> None:
    plucked, blown = (Recording("x", "x", int16(x)) for x in (sound_of("pluck", 0), tone(440, 1.0)))
    assert plucked.decays and not blown.decays
    styles = [draw_style([60.0], rings, np.random.default_rng(seed)) for seed in range(40) for rings in (True, False)]
    assert any(s.legato == 0 for s in styles[::2]) and all(0.6 <= s.legato <= 1.05 for s in styles[1::2])


def test_without_movement_an_instrument_plays_or_rests() -> None:
    counts = []
    for seed in range(30):
        made = layer()
        add_phrase(made, cue("pluck", moments=[]), np.random.default_rng(seed))
        counts.append(len(made.events))
    assert 4 < counts.count(0) < 21 and max(counts) > 4


def test_sounds_without_a_pitch_are_called_not_tuned() -> None:
    noise = [Recording("n", "n", int16(np.random.default_rng(0).normal(0, 0.1, RATE // 2).astype(np.float32)))]
    made = layer()
    add_phrase(made, cue("bark", labels={"n": noise}), np.random.default_rng(0))
    assert made.events and all(e.kind == "call" for e in made.events)


# ---------------------------------------------------------------- movement
def test_movement_of_pictures() -> None:
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.uniform(0, 255, (1, 32, 32)), 100, 0).astype(np.float32)
    assert not activity(frames + rng.normal(0, 0.2, frames.shape).astype(np.float32)).any()  # noise
    assert not activity(frames + 20 * np.sin(np.arange(100))[:, None, None].astype(np.float32)).any()  # flicker
    for k in range(40, 60):
        frames[k, 8:16, k - 40 : k - 30] = 255
    curve = activity(frames)
    assert curve[40:60].mean() > 0.5 and curve[:38].max() < 0.1 and curve[63:].max() < 0.1


def test_peaks_of_movement_are_apart() -> None:
    curve = np.zeros(100, np.float32)
    curve[[10, 13, 40, 70]] = 0.5, 0.9, 0.2, 1.0
    assert Movement(curve).peaks == [(13 / 25, pytest.approx(0.9)), (70 / 25, pytest.approx(1.0))]
