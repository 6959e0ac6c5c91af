"""The Blender add-on's operators in a window, which the module `bpy` does not have: modal, Esc, the status bar."""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import fake_bpy, fake_stdio
from tests.support.fake_bpy import Strip

TIMER, MOUSE = SimpleNamespace(type="TIMER", value="NOTHING"), SimpleNamespace(type="MOUSEMOVE", value="NOTHING")
ESC = SimpleNamespace(type="ESC", value="PRESS")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")


class Desk:
    """A timeline with one movie strip, and a program that behaves in a certain way."""

    def __init__(self, folder: Path, behaviour: str) -> None:
        program = folder / "program"
        line = f'"{sys.executable}" "{fake_stdio.__file__}" "{folder / "log"}" "{behaviour}"'
        program.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        program.chmod(0o755)
        self.folder, self.clip = folder, folder / "shot.mp4"
        self.clip.touch()
        self.movie = Strip("MOVIE", 1, (37, 137), filepath=str(self.clip), name="shot")
        self.context = fake_bpy.new_context(str(program), self.movie)
        self.strips = self.context.scene.sequence_editor.strips

    def operator(self, name: str = "MaskvatGenerate") -> Any:
        return getattr(self.module("operators"), name)()

    def module(self, name: str) -> Any:
        return importlib.import_module(f"plugins.blender.{name}")

    def run(self, operator: Any, *events: Any) -> set[str]:
        """Give it a timer's ticks, and these events once the engine makes the sound."""
        assert operator.invoke(self.context, None) == {"RUNNING_MODAL"}, operator.said
        answer, waiting = {"PASS_THROUGH"}, list(events)
        while answer <= {"PASS_THROUGH", "RUNNING_MODAL"}:
            ready = waiting and operator._job.stage == "sample"
            answer = operator.modal(self.context, waiting.pop(0) if ready else TIMER)
            time.sleep(0.01)
        return answer

    def requests(self, method: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]
        return [line for line in lines if line["method"] == method]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Any] = []

    def make(behaviour: str = "") -> Desk:
        desk = Desk(tmp_path, behaviour)
        made.append(fake_bpy.installed(desk.context))
        made[-1].__enter__()
        return desk

    yield make
    importlib.import_module("plugins.blender.operators").SESSION.close()
    made[0].__exit__(None, None, None)


def test_sounds_come_while_the_user_goes_on_working(desk: Callable[..., Desk]) -> None:
    at = desk()
    operator = at.operator()
    assert at.run(operator) == {"FINISHED"}
    assert operator.said == [("INFO", "2 sound(s) for shot, seed 5")]
    texts = at.context.workspace.texts
    assert texts[-1] is None and all("Esc: cancel" in text for text in texts[:-1])
    assert at.context.window_manager.timers == []
    first, second = at.strips[1:]
    assert (first.channel, first.mute, second.channel, second.mute) == (2, False, 3, True)
    assert first["maskvat_take"] == str(at.folder / "maskvat" / "shot.001.npz")
    assert at.context.scene.sequence_editor.active_strip is first and at.movie.select and not second.select
    (request,) = at.requests("generate")
    assert request["options"] == {
        "rate": "48000", "steps": 8, "save": str(at.folder / "maskvat" / "shot.001.npz"),
        "candidates": 2, "takes": 2, "seed": 5,
    }  # fmt: skip


def test_esc_cancels(desk: Callable[..., Desk]) -> None:
    at = desk("slow")
    operator = at.operator()
    assert at.run(operator, MOUSE, ESC) == {"CANCELLED"}
    assert operator.said == [("INFO", "Cancelled")] and len(at.strips) == 1
    assert not list((at.folder / "maskvat").iterdir()) and at.context.workspace.texts[-1] is None


def test_the_mouse_is_left_to_the_user(desk: Callable[..., Desk]) -> None:
    at = desk("slow")
    operator = at.operator()
    operator.invoke(at.context, None)
    assert operator.modal(at.context, MOUSE) == {"PASS_THROUGH"}
    assert not type(operator).poll(at.context)  # the button is grey
    operator.cancel(at.context)  # the window was closed
    assert operator._job.code == "cancelled" and at.context.window_manager.timers == []
    assert type(operator).poll(at.context)


def test_the_sound_follows_a_strip_that_was_moved(desk: Callable[..., Desk]) -> None:
    at = desk("")
    operator = at.operator()
    operator.invoke(at.context, None)
    at.movie.frame_start, at.movie.frame_final_start, at.movie.frame_final_end = 87.0, 87, 187
    operator._job.wait()
    assert operator.modal(at.context, TIMER) == {"FINISHED"}
    assert [strip.frame_final_start for strip in at.strips[1:]] == [87, 87]


def test_a_strip_that_was_deleted(desk: Callable[..., Desk]) -> None:
    at = desk("")
    operator = at.operator()
    operator.invoke(at.context, None)
    at.strips.clear()
    operator._job.wait()
    assert operator.modal(at.context, TIMER) == {"CANCELLED"}
    assert "The strip shot is gone. The sounds are in" in operator.said[0][1]


def test_words_and_a_new_seed(desk: Callable[..., Desk]) -> None:
    at = desk("")
    wanted = at.context.scene.maskvat
    wanted.prompt, wanted.avoid, wanted.prompt_weight, wanted.new_seed = " dog ", "music", 0.25, True
    at.movie.frame_final_start = 47
    assert at.run(at.operator()) == {"FINISHED"}
    options = at.requests("generate")[0]["options"]
    assert (options["prompt"], options["avoid"], options["prompt_weight"]) == ("dog", "music", 0.25)
    assert options["range"] == "0.400000-4.000000" and options["seed"] == wanted.seed


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"retiming_keys": [1]}, "The strip is retimed"),
        ({"stream_index": 1}, "video stream 1"),
        ({"type": "IMAGE"}, "Select one movie strip; 0 are selected"),
    ],
)
def test_what_is_refused_before_the_engine_starts(desk: Callable[..., Desk], change: dict, text: str) -> None:
    at = desk("")
    vars(at.movie).update(change)
    operator = at.operator()
    assert operator.invoke(at.context, None) == {"CANCELLED"}
    assert text in operator.said[0][1] and not (at.folder / "log").exists()


def test_channels_that_are_free(desk: Callable[..., Desk]) -> None:
    at = desk("")
    find = at.module("strips").free_channels
    at.strips += [Strip("SOUND", 3, (130, 140)), Strip("SOUND", 4, (137, 150))]
    at.context.scene.sequence_editor.channels[6].lock = True
    assert find(at.context.scene, 1, (37, 137), 1) == [2]
    assert find(at.context.scene, 1, (37, 137), 2) == [4, 5]
    assert find(at.context.scene, 1, (37, 137), 3) == [7, 8, 9]
    with pytest.raises(at.module("engine").Refused, match="no 3 free channels above channel 126"):
        find(at.context.scene, 126, (37, 137), 3)


def test_an_engine_that_is_not_kept(desk: Callable[..., Desk]) -> None:
    at = desk("refuse")
    at.context.preferences.addons[fake_bpy.ADDON].preferences.keep_warm = False
    operator = at.operator()
    assert at.run(operator) == {"CANCELLED"}
    assert operator.said == [("ERROR", "shot.mp4 is damaged; give a whole video")]
    assert at.requests("close")


def test_the_check_says_what_was_found(desk: Callable[..., Desk]) -> None:
    at = desk("")
    operator = at.operator("MaskvatCheck")
    assert at.run(operator) == {"FINISHED"}
    assert type(operator).found == "MaskVAT 9.9, model fake (contract 3), runs on cpu (int8)"


class Layout:
    """Notes what a panel shows."""

    def __init__(self, shown: list[str]) -> None:
        self._shown = shown

    def row(self) -> "Layout":
        return Layout(self._shown)

    def prop(self, owner: object, name: str, **options: Any) -> None:
        self._shown.append(name)

    def operator(self, name: str, **options: Any) -> None:
        self._shown.append(name)

    def progress(self, factor: float, text: str) -> None:
        self._shown.append(text)

    def separator(self) -> None:
        pass

    def label(self, text: str) -> None:
        self._shown.append(text)


def test_the_panel_shows_every_setting_and_what_can_be_done(desk: Callable[..., Desk]) -> None:
    at = desk("slow")
    panel, shown = at.module("panel").MaskvatPanel(), []
    panel.layout = Layout(shown)
    panel.draw(at.context)
    settings = list(at.module("settings").MaskvatSettings.__annotations__)
    assert sorted(shown[: len(settings)]) == sorted(settings)
    assert shown[len(settings) :] == [
        "sequencer.maskvat_generate", "sequencer.maskvat_redo", "Redo: playhead to the end of the sound",
    ]  # fmt: skip
    at.operator().invoke(at.context, None)
    shown.clear()
    panel.draw(at.context)
    assert shown[len(settings) :] == ["starting the engine", "sequencer.maskvat_cancel"]


def test_the_preferences_show_every_setting_and_the_check(desk: Callable[..., Desk]) -> None:
    preferences, shown = desk("").module("settings").MaskvatPreferences(), []
    preferences.layout = Layout(shown)
    preferences.draw(None)
    assert set(preferences.__annotations__) | {"preferences.maskvat_check"} == set(shown) - {""}
