"""Simulated clips: contact times follow the physics, no contact means silence, and clips are reproducible."""

import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

if find_spec("mujoco") is None:  # not imported here: train.synthetic.scenes.gl chooses its OpenGL first
    pytest.skip("needs the extra scenes", allow_module_level=True)

from runtime.audio import read_audio
from tests.support.pool import write_pool
from train.synthetic.build import RATE, ClipError, make_clips
from train.synthetic.projection import project
from train.synthetic.scenes.__main__ import main
from train.synthetic.scenes.compose import KINDS, SceneClipSpec, draw_world, events_in_view
from train.synthetic.scenes.contacts import audible_events, find_blows, find_sliding
from train.synthetic.scenes.film import draw_film
from train.synthetic.scenes.gl import RenderError, open_context
from train.synthetic.scenes.motion import Blow, aim, compose, rotate, strokes, turn, vec
from train.synthetic.scenes.physics import States, simulate
from train.synthetic.scenes.render import Camera, compile_world, draw_camera, pictures
from train.synthetic.scenes.world import STEP, Geom, World
from train.synthetic.splits import GROUPS

SILENT = ("pendulum", "wave", "tour", "floating", "passing")


class Plain:
    """Plain looks, which are fast to make."""

    def material(self, rng: np.random.Generator, material: str, size: int = 64) -> np.ndarray:
        return rng.integers(0, 255, (size, size, 3), dtype=np.uint8)

    def surface(self, rng: np.random.Generator, size: int = 128) -> np.ndarray:
        return self.material(rng, "", size)

    def backdrop(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        return rng.integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def drawing() -> None:
    try:
        open_context()
    except RenderError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four decaying tones for each group, so that each of the three splits has some."""
    return write_pool(tmp_path_factory.mktemp("sounds"), GROUPS, 4)


def simulated(world: World) -> list:
    """The audible events of the free bodies of a world."""
    camera = Camera(np.zeros(3), 2.0, 90, -20, 45)
    world.ground = world.ground or "stone"
    _, log = simulate(world, compile_world(world, camera, 64, 48, False), [])
    return [event for event, _ in audible_events(log, world.bodies, world.ground)]


@pytest.mark.parametrize(("height", "material"), [(0.2, "wood"), (0.8, "glass"), (1.9, "soft")])
def test_a_sphere_lands_when_gravity_says(height: float, material: str) -> None:
    world = World(np.random.default_rng(0), Plain(), 1.0)
    world.free([Geom("sphere", (0.05,))], material, (0, 0, 0.05 + height))
    first = simulated(world)[0]
    assert first.time == pytest.approx(np.sqrt(2 * height / 9.81), abs=0.0015)
    assert first.kind == "impact" and first.material == material and first.other == "stone"


def test_bounces_come_when_restitution_says() -> None:
    """Each flight is shorter than the last one by the same factor, and each blow is softer."""
    world = World(np.random.default_rng(0), Plain(), 3.0)
    world.ground = "stone"
    world.free([Geom("sphere", (0.05,))], "rubber", (0, 0, 1.05))
    events = [e for e in simulated(world) if e.kind == "impact"][:4]
    flights = np.diff([e.time for e in events])
    assert len(events) == 4 and flights[1] / flights[0] == pytest.approx(flights[2] / flights[1], abs=0.05)
    assert all(a.strength > b.strength for a, b in pairwise(events))
    assert flights[1] / flights[0] > 0.7
    soft = World(np.random.default_rng(0), Plain(), 3.0)
    soft.free([Geom("sphere", (0.05,))], "soft", (0, 0, 1.05))
    assert len([e for e in simulated(soft) if e.kind == "impact" and e.strength > 0.2]) < 3


def test_what_rests_is_silent_and_what_topples_is_heard_when_it_lands() -> None:
    world = World(np.random.default_rng(0), Plain(), 2.0)
    world.free([Geom("box", (0.05, 0.05, 0.2))], "wood", (0, 0, 0.2))
    assert [e for e in simulated(world) if e.time > 0.02] == []  # it settles in the first moment
    world = World(np.random.default_rng(0), Plain(), 2.0)
    slab = world.free([Geom("box", (0.05, 0.1, 0.2))], "wood", (0, 0, 0.2))
    world.kick(slab, 0.5, vec(0.6, 0, 0, 0, 3.5, 0))
    events = [e for e in simulated(world) if e.strength > 0.15]
    assert events and all(0.6 < e.time < 1.5 for e in events)


def test_a_rolling_ball_sounds_as_long_as_it_rolls() -> None:
    world = World(np.random.default_rng(0), Plain(), 2.0)
    ball = world.free([Geom("sphere", (0.05,))], "metal", (0, 0, 0.05))
    world.kick(ball, 0.5, vec(1, 0, 0, 0, 20, 0))
    roll = next(e for e in simulated(world) if e.kind == "roll")
    assert roll.time == pytest.approx(0.5, abs=0.03) and roll.end == pytest.approx(2.0, abs=0.03)
    assert max(roll.envelope) == 1 and 0 < roll.strength <= 1


def test_onsets_of_known_forces() -> None:
    force = np.zeros(1000)
    force[100:105] = 400.0  # 2 Ns on 1 kg
    force[500:] = 9.81  # rests
    force[700:705] += 600.0  # struck while it rests
    found = find_blows(force, 1.0)
    assert [step for step, _ in found] == [100, 500, 700]
    assert found[0][1] == pytest.approx(2.0) and found[2][1] == pytest.approx(3.0, abs=0.15)


def test_sustained_follows_speed() -> None:
    speeds = np.concatenate([np.zeros(500), np.linspace(0, 2, 500), np.zeros(500)])
    ((start, end, level, peak),) = find_sliding(np.ones(1500, bool), speeds)
    assert 0.5 < start < 0.55 and end == pytest.approx(1.0, abs=2 * STEP)
    assert list(level) == sorted(level) and 0.5 < peak < 1


def test_strokes_touch_on_time_and_only_then() -> None:
    blows = [Blow(t, vec(t, 0, 0), vec(0, 0, 1), 0.2, 0.1, gap) for t, gap in ((0.5, 0.0), (1.0, 0.05), (2.0, 0.0))]
    tip = strokes(blows, np.random.default_rng(0))
    for blow in blows:
        assert tip(blow.time) == pytest.approx([*blow.point[:2], blow.gap], abs=1e-9)
        assert tip(blow.time - 0.01)[2] > blow.gap and tip(blow.time + 0.01)[2] > blow.gap
        late = (tip(blow.time - 1e-4)[2] - blow.gap) / 1e-4
        assert late == pytest.approx(blow.speed, rel=0.05)


def test_rotations() -> None:
    direction = vec(0.3, -2, 0.5)
    assert rotate(aim(direction), [0, 0, 1]) == pytest.approx(direction / np.linalg.norm(direction))
    assert rotate(aim([0, 0, -1]), [0, 0, 1]) == pytest.approx([0, 0, -1])
    both = compose(turn([1, 0, 0], np.pi / 2), turn([0, 0, 1], np.pi / 2))
    assert rotate(both, [0, 1, 0]) == pytest.approx([0, 0, 1])
    assert rotate(both, [1, 0, 0]) == pytest.approx([0, 1, 0])


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_make_events_inside_the_clip_and_the_picture(kind: str) -> None:
    """The events of three scenes lie inside the clip and in view. Only silent kinds have no events."""
    events = []
    for seed in range(3):
        film = draw_film(np.random.default_rng(seed), 3.0, (64, 64), 15)
        world, kinds = draw_world(np.random.default_rng(seed), Plain(), 3.0, kind)
        camera = draw_camera(world, 64, 64)
        _, log = simulate(world, compile_world(world, camera, 64, 64, False), [])
        found = events_in_view(world, audible_events(log, world.bodies, world.ground), camera, film)
        assert kinds == [kind] and all(camera.sees(point, 64, 64) for _, point in found)
        assert [e.time for e, _ in found] == sorted(e.time for e, _ in found)
        events += [event for event, _ in found]
    assert all(0 < e.time < 3 and 0 < e.strength <= 1 and e.size > 0 and e.material for e in events)
    assert all(e.time < e.end <= 3 and max(e.envelope) <= 1 for e in events if e.end)
    assert bool(events) == (kind not in SILENT)


def test_camera_sees_the_middle_and_not_beside() -> None:
    camera = Camera(vec(0, 0, 0.5), 2.0, 90, 0, 45)
    half = 2 * np.tan(np.radians(22.5))
    assert camera.sees(vec(0.95 * half, 0, 0.5), 160, 120) and not camera.sees(vec(1.05 * half, 0, 0.5), 160, 120)
    assert not camera.sees(vec(0.95 * half, 0, 0.5), 60, 120)  # a tall picture is narrow
    assert not camera.sees(vec(0, -3, 0.5), 160, 120)  # behind


def test_places_in_the_picture_are_where_things_are_drawn(drawing: None) -> None:
    """The pixels that change when a small ball is removed are where `project` places it."""
    point, camera, drawn = vec(0.3, -0.2, 0.5), Camera(vec(0, 0, 0.4), 2.0, 70, -20, 45), []
    for opacity in (0, 1):
        world = World(np.random.default_rng(0), Plain(), 1.0)  # type: ignore[arg-type]
        world.ground = "stone"
        world.parts.append(f'<geom type="sphere" size="0.03" pos="0.3 -0.2 0.5" rgba="1 0 1 {opacity}"/>')
        model = compile_world(world, camera, 160, 120, False)
        drawn.append(next(pictures(world, model, camera, States([model.qpos0.copy()]), [0.0])).astype(int))
    row, column = np.argwhere(np.abs(drawn[1] - drawn[0]).max(axis=2) > 20).mean(axis=0)
    right, down = project(point[None], camera.to_dict())[0] * 120
    assert column == pytest.approx(79.5 + right, abs=1.5) and row == pytest.approx(59.5 + down, abs=1.5)


def facts(folder: Path) -> list[dict]:
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]


@pytest.mark.usefixtures("drawing")
def test_jobs_and_resuming_do_not_change_a_clip(pool: Path, tmp_path: Path) -> None:
    orders = [SceneClipSpec(tmp_path / name, pool, seed=3, seconds=1.0, fps=15, size=(64, 48)) for name in "ab"]
    assert make_clips(orders[0], 3, jobs=2) == 3
    assert make_clips(orders[1], 2) == 2
    (tmp_path / "b" / "train-0003-00001.mp4").unlink()  # as if interrupted
    assert make_clips(orders[1], 3) == 2
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 9 and files == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.usefixtures("drawing")
def test_splits_differ_and_share_no_recording(pool: Path, tmp_path: Path) -> None:
    used, pictures = {}, set()
    for split in ("train", "val", "test"):
        make_clips(SceneClipSpec(tmp_path, pool, split, 1, 2.0, "drums", 15, (64, 48)), 1)
        fact = next(f for f in facts(tmp_path) if f["split"] == split)
        assert fact["events"] and fact["sounds"]
        assert {"time", "end", "strength", "kind", "material", "size", "place"} <= set(fact["events"][0])
        used[split] = set(fact["sounds"])
        pictures.add((tmp_path / f"{fact['id']}.mp4").read_bytes())
    assert len(pictures) == 3 and not used["train"] & used["val"] and not used["test"] & (used["train"] | used["val"])


@pytest.mark.usefixtures("drawing")
def test_silent_kind_is_silent(pool: Path, tmp_path: Path) -> None:
    options = "--clips 1 --kind pendulum --seconds 1 --fps 15 --size 64 48"
    assert main([str(tmp_path), "--sounds", str(pool), *options.split()]) == 0
    fact = facts(tmp_path)[0]
    assert fact["silent"] and fact["events"] == [] and fact["scenes"] == ["pendulum"]
    assert np.abs(read_audio(tmp_path / f"{fact['id']}.flac", RATE)).max() < 10 ** (-50 / 20)


@pytest.mark.usefixtures("drawing")
def test_failures_are_named(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "bad", (lambda world: world.between(float("nan"), "x"), 0.0))  # type: ignore[arg-type]
    with pytest.raises(ClipError, match=r"train-0007-00000 \(seed 7, split train, index 0\)"):
        make_clips(SceneClipSpec(tmp_path, pool, seed=7, seconds=1.0, kind="bad", size=(64, 48)), 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("drawing")
def test_command_line_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out"), "--sounds", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--sounds", str(tmp_path), "--kind", "nonsense"])


def test_no_opengl_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr("train.synthetic.scenes.gl._contexts", [])
    monkeypatch.setattr("train.synthetic.scenes.gl.mujoco.MjrContext", fails)
    with pytest.raises(RenderError, match=r"no display.*libegl1.*libosmesa6"):
        open_context()
