"""Sound of simulated scenes: attacks are on time, hard contacts are louder, splits are disjoint, silence is silent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.pool import write_pool
from tests.train.synthetic.test_modal_synthesis import write_tables
from train.synthetic.events import Event
from train.synthetic.recordings import RATE, Floats, PoolError
from train.synthetic.scenes.sound import MATERIALS, SCENE_GROUPS, Foley, levels
from train.synthetic.splits import SPLITS

TAKES = 4


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each group, decaying tones after some silence."""
    return write_pool(tmp_path_factory.mktemp("sounds"), SCENE_GROUPS, TAKES, 700)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("impacts")
    write_tables(folder)
    return folder


@pytest.fixture(scope="module")
def foley(pool: Path, tables: Path) -> Foley:
    return Foley.load(pool, tables, "train")


class Dry:
    """A generator whose `random()` without a size gives neither reverberation nor background."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def random(self, *args: object, **options: object) -> object:
        return self.rng.random(*args, **options) if args else 0.99

    def __getattr__(self, name: str) -> object:
        return getattr(self.rng, name)


def hit(time: float, material: str = "wood", voice: int = 1, **more: object) -> Event:
    return replace(Event(time, "impact", material, 0.1, 0.8, voice), **more)


def loudness(audio: Floats, start: float, end: float) -> float:
    return float(np.sqrt(np.mean(audio[round(start * RATE) : round(end * RATE)] ** 2)))


@pytest.mark.parametrize("material", MATERIALS)
def test_attack_is_at_its_time(foley: Foley, material: str) -> None:
    """It is silent before the contact. Within 1 ms after it, the level reaches a tenth of the clip's peak."""
    for voice in range(8):
        time = 0.3 + 0.0137 * voice
        audio, _ = foley.mix([hit(time, material, voice, other="floor")], Dry(voice), 1.0)
        at = round(time * RATE)
        assert not audio[:at].any()
        assert np.abs(audio[at : at + RATE // 1000]).max() > 0.1 * np.abs(audio).max(), voice


@pytest.mark.parametrize("material", ["wood", "metal", "soft", "snare", "cardboard"])
def test_harder_is_louder(foley: Foley, material: str) -> None:
    for voice in range(6):
        events = [hit(0.1 + i, material, voice, strength=s) for i, s in enumerate((0.05, 0.35, 0.65, 1.0))]
        audio, _ = foley.mix(events, Dry(voice), 4.0)
        level = [20 * np.log10(loudness(audio, e.time, e.time + 0.3)) for e in events]
        assert level == sorted(level) and 20 < level[-1] - level[0] < 40, level


def test_modes_and_recordings_share_the_solids(foley: Foley) -> None:
    drawn = [len(foley.mix([hit(0.0, "wood", voice)], Dry(0), 0.5)[1]) for voice in range(200)]
    assert 0.25 < drawn.count(0) / 200 < 0.45 and drawn.count(1) == 200 - drawn.count(0)
    assert all(foley.mix([hit(0.0, "snare", voice)], Dry(0), 0.5)[1] for voice in range(20))  # never modes alone


def test_the_surface_is_heard(foley: Foley) -> None:
    on = {other: foley.mix([hit(0.1, "metal", 3, other=other)], Dry(0), 1.0)[0] for other in ("", "boards", "grass")}
    assert not np.allclose(on[""], on["boards"]) and not np.allclose(on["boards"], on["grass"])


def test_without_tables_only_recordings(pool: Path) -> None:
    foley = Foley.load(pool, None, "val")
    events = [hit(0.1 * voice, material, voice) for voice, material in enumerate(MATERIALS)]
    audio, used = foley.mix(events, Dry(0), 4.0)
    assert len(used) == len(events) and audio.any()
    assert used[: len(events)] == [u for u in used if (pool / u).exists()]


@pytest.mark.parametrize("kind", ["roll", "scrape", "rain", "pour"])
def test_sustained_follows_the_envelope(foley: Foley, kind: str) -> None:
    shape = (0.0, 1.0, 1.0, 0.3, 0.3, 0.0, 0.0, 0.0)  # one value per half second
    for material in ("wood", "water", "snare"):
        event = Event(0.5, kind, material, 0.1, 0.8, 3, end=4.0, envelope=shape)
        audio, _ = foley.mix([event], Dry(2), 5.0)
        loud, quiet = loudness(audio, 1.0, 1.5), loudness(audio, 2.0, 2.5)
        assert loud > 2 * quiet > 0, (material, loud, quiet)
        assert not audio[: RATE // 2].any() and not audio[round(3.01 * RATE) :].any()


def test_faster_is_brighter(foley: Foley) -> None:
    event = Event(0.0, "scrape", "metal", 0.1, 0.8, 3, end=4.0, envelope=(0.1, 0.1, 1.0, 1.0))
    audio, _ = foley.mix([event], Dry(2), 4.0)
    slow, fast = (np.abs(np.fft.rfft(part)) ** 2 for part in (audio[:RATE], audio[3 * RATE :]))
    middle = len(slow) // 22  # 1 kHz
    assert fast[middle:].sum() / fast.sum() > slow[middle:].sum() / slow.sum()


def test_levels_without_an_envelope() -> None:
    shape = levels(Event(0.0, "slide", "wood", 0.1, 0.5, 1, end=1.0), 100)
    assert shape[0] == 0 and shape[50] == pytest.approx(1) and shape[-1] < 0.05


def test_the_shortest_sounds(foley: Foley) -> None:
    blink = Event(0.5, "scrape", "wood", 0.1, 0.8, 3, end=0.50001, envelope=(1.0,))
    audio, _ = foley.mix([blink, hit(0.99999)], Dry(0), 1.0)
    assert np.isfinite(audio).all() and audio[RATE // 2] != 0


def test_silence(foley: Foley) -> None:
    for seed in range(12):
        still, used = foley.mix([], np.random.default_rng(seed), 1.0)
        assert still.shape == (RATE,) and not still.any() and not used
        zero = Event(0.1, "roll", "wood", 0.1, 1.0, 1, end=0.9, envelope=(0.0, 0.0))
        assert not foley.mix([zero, hit(5.0)], np.random.default_rng(seed), 1.0)[0].any()  # nor after its end


def test_levels_vary_and_never_clip(foley: Foley) -> None:
    peaks = []
    for seed in range(40):
        events = [hit(0.1 * n, MATERIALS[(seed + n) % len(MATERIALS)], n) for n in range(8)]
        audio, used = foley.mix(events, np.random.default_rng(seed), 1.0)
        assert audio.dtype == np.float32 and len(used) <= 9
        peaks.append(20 * np.log10(np.abs(audio).max()))
    assert -20.1 < min(peaks) < -14 and -5 < max(peaks) < -0.4


def test_rooms_and_backgrounds(foley: Foley) -> None:
    """After an only, early contact, some clips are silent and some have a background. An ambience is named last."""
    ends, named = [], 0
    for seed in range(60):
        audio, used = foley.mix([hit(0.0, "snare", 1)], np.random.default_rng(seed), 3.0)
        ends.append(loudness(audio, 2.5, 3.0))
        named += used[-1].startswith("ambience")
    assert 0.4 < ends.count(0.0) / 60 < 0.8 and 3 < named < 25
    assert max(ends) < 0.05


def test_same_generator_same_sound(foley: Foley, pool: Path, tables: Path) -> None:
    events = [hit(0.1 * n, m, n, other="floor") for n, m in enumerate(("wood", "metal", "snare", "door"))]
    events.append(Event(0.5, "rain", "water", 0.1, 0.8, 9, end=0.9))
    first, again, other = (
        f.mix(events, np.random.default_rng(seed), 1.0)
        for f, seed in ((foley, 1), (Foley.load(pool, tables, "train"), 1), (foley, 2))
    )
    assert np.array_equal(first[0], again[0]) and first[1] == again[1]
    assert not np.array_equal(first[0], other[0])


def test_splits_share_no_recording(pool: Path, tables: Path) -> None:
    parts = {split: Foley.load(pool, tables, split).sounds.groups for split in SPLITS}
    files = {s: {f for labels in g.values() for names in labels.values() for f in names} for s, g in parts.items()}
    assert all(set(groups) == set(SCENE_GROUPS) for groups in parts.values())
    assert len(set().union(*files.values())) == sum(map(len, files.values())) == TAKES * len(SCENE_GROUPS)
    with pytest.raises(ValueError, match="unknown split dev; the splits are train, val, test"):
        Foley.load(pool, tables, "dev")


def test_unknown_materials_are_refused(foley: Foley) -> None:
    for event in (hit(0.1, "cheese"), hit(0.1, other="cheese")):
        with pytest.raises(ValueError, match=r"unknown material .*cheese.*; the known ones are clap"):
            foley.mix([event], Dry(0), 1.0)


def test_bad_files_are_named(pool: Path, tables: Path, tmp_path: Path) -> None:
    for path in pool.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    sounds = Foley.load(pool, None, "train").sounds.groups["wood"]
    missing, cut = sorted(next(iter(sounds.values())))[:2]
    (tmp_path / missing).unlink()
    (tmp_path / cut).write_bytes((pool / cut).read_bytes()[:1500])
    impacts = tmp_path / "impacts"
    impacts.mkdir()
    for path in tables.iterdir():
        (impacts / path.name).write_bytes(path.read_bytes())
    (impacts / "metal_2_mm.json").write_text("not a table")
    foley = Foley.load(tmp_path, impacts, "train")
    assert {line.split(":")[0] for line in foley.skipped} == {missing, cut, "metal_2_mm.json"}
    assert foley.mix([hit(0.1, "wood"), hit(0.5, "metal")], Dry(0), 1.0)[0].any()
    with pytest.raises(PoolError, match="no usable table"):
        Foley.load(pool, pool, "train")
