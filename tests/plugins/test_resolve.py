"""The two scripts for DaVinci Resolve, against a fake that has the twelve behaviours of plugins/resolve/README.md."""

import ast
import importlib.util
import json
import os
import shlex
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runtime.deliver.timeline.model import Timeline, TimelineSound
from runtime.deliver.timeline.write import write_timeline
from runtime.edit.timecode import frame_samples
from tests.support.fake_engines import NEEDS_ORT
from tests.support.fake_resolve import Item, PoolItem, Resolve, World, rate_of
from tests.support.lua_host import LuaHost
from tests.support.paths import ROOT

FOLDER = ROOT / "plugins" / "resolve"
KINDS = {  # how a script is run
    "python": None,
    "lua-sandbox": ("luajit21", True),
    "lua": ("luajit21", False),
    "lua51-sandbox": ("lua51", True),
}
RUNS = pytest.mark.parametrize("kind", KINDS)
USED = (40, 100)  # first frame of the video that the clip shows, and its frames
PLACE = 37  # of the clip on the timeline


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("maskvat_resolve", FOLDER / "MaskVAT.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wav(path: Path, samples: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, samples, "NONE", ""))
        file.writeframes(b"\0\0" * samples)


@dataclass
class Scene:
    """A clip on a timeline, and the sounds that exist for it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    world: World = field(default_factory=World)
    sounds: int = 1
    span: tuple[int, int] = USED  # frames of the video that the sounds are for

    def __post_init__(self) -> None:
        self.video = self.folder / "Täkes & cuts 100%" / 'a "b".mov'
        self.resolve = Resolve(self.world)
        self.rate = rate_of(self.world.timeline_rate)

    @property
    def timeline(self) -> Any:
        return self.resolve.timeline

    @property
    def tracks(self) -> dict[str, list[tuple[int, int, int]]]:
        """Name -> (start, frames, first frame of the sound) of what is on each new track after the next save."""
        self.timeline.save()
        return {t.name: [(i.start, i.frames, i.left) for i in t.items] for t in self.timeline.tracks["audio"][1:]}

    def put_clip(self, **changes: Any) -> None:
        self.video.parent.mkdir(exist_ok=True)
        self.video.touch()
        media = PoolItem(self.world, str(self.video), self.world.timeline_rate, 500)
        values = {"media": media, "start": self.world.start_frame + PLACE, "frames": USED[1], "left": USED[0]}
        self.timeline.current = Item(self.world, **(values | changes))

    def run(self, kind: str) -> str:
        """Run a script. Returns its last message."""
        host = KINDS[kind]
        if host is not None:
            self.write_table()
            return str(LuaHost(*host).run(FOLDER / "MaskVAT place.lua", resolve=self.resolve))
        script = load()
        self.monkeypatch.setattr(script, "LOG", self.folder / "log")
        self.monkeypatch.setattr(script, "SETTINGS", self.folder / "settings.ini")
        (self.folder / "settings.ini").write_text("[maskvat]\nprogram = x\n")
        self.monkeypatch.setattr(script, "make_sounds", lambda clip, *_: self.make_sounds(clip.rate, clip.frames))
        script.main(self.resolve)
        return (self.folder / "log").read_text(encoding="utf-8")

    def make_sounds(self, rate: Fraction, frames: int) -> list[str]:
        names = [self.video.with_name(f"{n}.wav") for n in range(1, self.sounds + 1)]
        for name in names:
            write_wav(name, frame_samples(frames, rate, 48000))
        return [str(name) for name in names]

    def write_table(self) -> None:
        self.video.parent.mkdir(exist_ok=True)
        first, frames = self.span
        sounds = [
            TimelineSound(Path(name), f"MaskVAT take {n}", 48000, 1, 16, 1, first, frames)
            for n, name in enumerate(self.make_sounds(self.rate, frames), 1)
        ]
        write_timeline(self.video.with_suffix(".lua"), Timeline("x", self.rate, self.video, 500, (64, 48), sounds))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scene]:
    def make(sounds: int = 1, span: tuple[int, int] = USED, clip: dict | None = None, **world: Any) -> Scene:
        made = Scene(tmp_path, monkeypatch, World(**world), sounds, span)
        made.put_clip(**(clip or {}))
        return made

    return make


def expected(scene: Scene, frames: int = USED[1], left: int = 0) -> dict[str, list[tuple[int, int, int]]]:
    return {f"MaskVAT take {n}": [(scene.world.start_frame + PLACE, frames, left)] for n in range(1, scene.sounds + 1)}


# ---------------------------------------------------------------- the twelve behaviours
@RUNS
@pytest.mark.parametrize("rate", ["23.976", "24", 25.0, "29.97", "29.97 DF", 30, "50", 59.94, "60"])
def test_1_2_absolute_frames_at_any_rate(scene: Callable[..., Scene], kind: str, rate: object) -> None:
    start = 3600 * round(rate_of(rate))
    s = scene(2, timeline_rate=rate, project_rate=rate, start_frame=start)
    s.run(kind)
    assert s.tracks == expected(s)
    assert [t.enabled for t in s.timeline.tracks["audio"]] == [True, True, False]  # one take sounds


@RUNS
@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("refuses", [False, True])
def test_3_5_both_readings_of_the_end_frame(
    scene: Callable[..., Scene], kind: str, inclusive: bool, refuses: bool
) -> None:
    s = scene(end_is_inclusive=inclusive, refuses_beyond_end=refuses)
    s.run(kind)
    assert s.tracks == expected(s)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "python"])
@pytest.mark.parametrize("inclusive", [False, True])
def test_the_used_part_of_a_sound_for_the_whole_video(scene: Callable[..., Scene], kind: str, inclusive: bool) -> None:
    s = scene(span=(0, 500), end_is_inclusive=inclusive)
    s.run(kind)
    assert s.tracks == expected(s, left=USED[0])
    late = scene(span=(60, 440))
    late.run(kind)
    assert late.tracks == {"MaskVAT take 1": [(late.world.start_frame + PLACE + 20, 80, 0)]}


@RUNS
def test_4_a_dropped_append_is_noticed(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(drops_appends=True)
    assert "error: Resolve placed 0 of 100 frames" in s.run(kind)
    assert s.tracks == {}


@RUNS
def test_6_source_frames_that_are_off_by_one(scene: Callable[..., Scene], kind: str) -> None:
    for off in (False, True):
        s = scene(sources_off_by_one=off)
        s.run(kind)
        assert s.tracks == expected(s)


@RUNS
@pytest.mark.parametrize("speed", [2.0, 0.5, 1.1, -1.0])
def test_6_a_changed_speed_is_refused(scene: Callable[..., Scene], kind: str, speed: float) -> None:
    s = scene(clip={"speed": speed})
    assert "in 100 frames of the timeline: its speed was changed" in s.run(kind)
    assert s.tracks == {}


@RUNS
def test_7_what_may_be_nothing(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(clip={"media": None})
    assert "has no video file (a title, generator or compound clip)" in s.run(kind)
    s.timeline.current = None
    assert "no clip under the playhead; move the playhead" in s.run(kind)
    for nothing in ({"has_timeline": False}, {"has_project": False}):
        s.resolve = Resolve(s.world, **nothing)
        assert "no timeline" in s.run(kind) or "has no timeline open" in s.run(kind)


@RUNS
def test_8_functions_that_this_version_lacks(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(missing={"AppendToTimeline"})
    assert hasattr(s.resolve.project.pool, "AppendToTimeline")  # as in Resolve
    assert "this version of Resolve has no AppendToTimeline" in s.run(kind) and s.tracks == {}
    s = scene(missing={"GetCurrentVideoItem"})
    assert "this version of Resolve has no GetCurrentVideoItem" in s.run(kind)
    s = scene(missing={"SetTrackEnable", "DeleteTrack"})  # they are not needed
    s.run(kind)
    assert s.tracks == expected(s)


@RUNS
def test_9_the_free_edition(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(product="DaVinci Resolve")
    s.run(kind)
    assert not s.world.broken and s.tracks == expected(s)
    if kind == "python":
        assert s.world.calls[0] == "GetProductName"


@RUNS
def test_10_bins_and_saving(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(2)
    pool = s.resolve.project.pool
    s.run(kind)
    assert pool.current is pool.root and not pool.root.clips
    assert [(bin.name, len(bin.clips)) for bin in pool.root.folders] == [("MaskVAT", 2)]
    s.run(kind)
    assert [(bin.name, len(bin.clips)) for bin in pool.root.folders] == [("MaskVAT", 4)]
    assert "SaveProject" not in s.world.calls


@RUNS
def test_11_a_project_of_another_rate(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(project_rate="24")
    text = s.run(kind)
    assert s.tracks == expected(s, frames=99)
    assert kind != "python" or "shows MaskVAT take 1 with 99 frames instead of 100" in text


@RUNS
def test_12_calls_that_err(scene: Callable[..., Scene], kind: str) -> None:
    s = scene(failing_appends=1)
    s.run(kind)
    assert all(items for items in s.tracks.values())
    s = scene(failing_appends=100)
    assert "error: Resolve placed 0 of 100 frames" in s.run(kind)
    assert s.tracks == {}


# ---------------------------------------------------------------- only Lua
def test_what_the_lua_script_says(scene: Callable[..., Scene], tmp_path: Path) -> None:
    s = scene(span=(200, 20))
    assert "is for the frames 200 to 220, the clip shows 40 to 140" in s.run("lua-sandbox")
    assert s.timeline.markers["maskvat"][0] == PLACE and "200 to 220" in s.timeline.markers["maskvat"][1]
    s.span = USED
    assert s.run("lua-sandbox") == "sounds placed" and not s.timeline.markers
    s.rate = Fraction(24)
    assert "the video has 24 frames per second and the timeline 25" in s.run("lua-sandbox")
    s.write_table = lambda: s.video.with_suffix(".lua").write_text("return 1")
    assert "is not a file of this version of maskvat" in s.run("lua-sandbox")
    s.write_table = lambda: s.video.with_suffix(".lua").unlink()
    assert "make it with: maskvat VIDEO --timeline" in s.run("lua-sandbox")


def test_a_table_of_another_video(scene: Callable[..., Scene]) -> None:
    s = scene()
    s.write_table()
    table = s.video.with_suffix(".lua")
    table.write_text(table.read_text().replace('b\\".mov', "c.mov"))
    s.write_table = lambda: None
    assert "belongs to" in s.run("lua-sandbox") and s.tracks == {}


# ---------------------------------------------------------------- only Python: the engine
@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The Python script with its files in the test's folder."""
    script = load()
    monkeypatch.setattr(script, "SETTINGS", tmp_path / "settings.ini")
    monkeypatch.setattr(script, "LOG", tmp_path / "log")
    return script


def set_program(tmp_path: Path, code: str, options: str = "") -> None:
    program = shlex.join([sys.executable, "-c", code])
    (tmp_path / "settings.ini").write_text(f"[maskvat]\nprogram = {program}\noptions = {options}\n")


@NEEDS_ORT
def test_the_real_command_makes_the_sounds(
    scene: Callable[..., Scene], script: ModuleType, tmp_path: Path, bundles: Callable, make_video: Callable
) -> None:
    s = scene(2)
    s.video.write_bytes(make_video(60, 25).read_bytes())
    s.timeline.current = Item(s.world, s.timeline.current.media, 90037, 30, 20)
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from runtime.commands.subcommands import process; "
    code += "sys.exit(process())"
    set_program(tmp_path, code, f"--engines '{bundles()}' --steps 2 --candidates 2 --takes 2 --threads 1")
    assert script.main(s.resolve), script.LOG.read_text()
    assert s.tracks == {f"MaskVAT take {n}": [(90037, 30, 0)] for n in (1, 2)}
    made = sorted(path.name for path in (s.video.parent / "MaskVAT").iterdir())
    assert made == ['a "b" 20-50 1.take2.wav', 'a "b" 20-50 1.wav']
    assert s.resolve.project.pool.root.folders[0].clips[0].path.endswith("20-50 1.wav")  # the best take is first
    log = script.LOG.read_text(encoding="utf-8")
    assert "codec 100 %" in log and "placed" in log


EVENT = 'import json, sys; print("noise"); print(json.dumps({}), flush=True); sys.exit({})'


def test_each_try_has_a_seed_of_its_own(
    scene: Callable[..., Scene], script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scene()
    code = "import json, os, sys, pathlib; a = sys.argv[1:]; out = a[a.index('-o') + 1]; pathlib.Path(out).touch(); "
    code += "assert not {'PYTHONHOME', 'PYTHONPATH'} & set(os.environ); "
    code += "print(json.dumps({'event': 'done', 'report': {'outputs': [out], 'arguments': a, 'warnings': [str(a)]}}))"
    set_program(tmp_path, code, "--steps 8 --seed 99")
    monkeypatch.setenv("PYTHONHOME", sys.prefix)
    monkeypatch.setenv("PYTHONPATH", os.pathsep)
    clip, said = script.Clip(s.timeline), list[str]()
    paths = [Path(script.make_sounds(clip, *script.read_settings(), said.append)[0]) for _ in range(2)]
    assert [path.name[-5:] for path in paths] == ["1.wav", "2.wav"]
    for number, text in enumerate(said, 1):
        assert f"'--range', '40f-140f', '--seed', '{number}', '--rate', '48000', '--steps', '8', '--seed', '99'" in text


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (EVENT.format(json.dumps({"event": "error", "code": "x", "message": "no picture"}), 1), "error: no picture"),
        ("import sys; sys.exit(3)", "error: maskvat ended with status 3"),
        ("pass", "error: maskvat ended with status 0"),
    ],
)
def test_errors_of_the_engine(
    scene: Callable[..., Scene], script: ModuleType, tmp_path: Path, code: str, message: str
) -> None:
    s = scene()
    set_program(tmp_path, code)
    assert not script.main(s.resolve)
    assert message in script.LOG.read_text(encoding="utf-8") and s.tracks == {}


def test_settings(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.shutil, "which", lambda _: None)
    with pytest.raises(script.Problem, match="maskvat was not found; write its path into"):
        script.read_settings()
    monkeypatch.setattr(script.shutil, "which", lambda _: "/opt/maskvat")
    assert script.read_settings() == (["/opt/maskvat"], [])
    for text in ("nonsense", "[maskvat]\noptions = 'x"):
        script.SETTINGS.write_text(text)
        with pytest.raises(script.Problem, match="cannot read"):
            script.read_settings()
    script.SETTINGS.write_text("[maskvat]\nprogram = /no/such/program\n")
    s = World()
    clip = type("Clip", (), {"path": str(tmp_path / "x.mov"), "first": 0, "frames": 5, "world": s})()
    with pytest.raises(script.Problem, match="cannot start /no/such/program"):
        script.make_sounds(clip, *script.read_settings())
    with pytest.raises(script.Problem, match="is not a standard one"):
        script.exact_rate("14.5")


def test_it_is_python_of_the_version_that_it_names() -> None:
    ast.parse((FOLDER / "MaskVAT.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_no_resolve(script: ModuleType, tmp_path: Path) -> None:
    assert not script.main(None)
    assert "gives no access to scripts" in script.LOG.read_text(encoding="utf-8")


def test_a_clip_of_another_rate_is_refused(scene: Callable[..., Scene], script: ModuleType) -> None:
    s = scene()
    s.timeline.current.media.rate = "30"
    with pytest.raises(script.Problem, match=r"the clip has 30 frames per second and the timeline 25\.000"):
        script.Clip(s.timeline)
    s.timeline.current.media.rate, s.timeline.current.media.path = "25", str(s.video.with_name("gone.mov"))
    with pytest.raises(script.Problem, match="no such file; relink the clip"):
        script.Clip(s.timeline)
