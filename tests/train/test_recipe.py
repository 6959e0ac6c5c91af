"""Values of recipes: a wrong type or range is reported in one line that says what is allowed."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from train import fit
from train.errors import RecipeError
from train.loop.trainer import LoopConfig
from train.recipe import POSITIVE, SHARE, Range, options_from
from train.tasks.codec import CodecOptions
from train.tasks.maskvat import MaskVATOptions
from train.tasks.scav import ScavPreparedOptions
from train.tasks.scav_joint import ScavOptions
from train.tasks.sync import SyncOptions

pytestmark = pytest.mark.torch
CLASSES = {
    "codec": CodecOptions,
    "sync": SyncOptions,
    "scav": ScavOptions,
    "scav-prepared": ScavPreparedOptions,
    "maskvat": MaskVATOptions,
}
SOUNDS = {"sounds": "a"}
PLACES = {"data": "a", "validation": "b", "system": "c"}
RECIPES = sorted((Path(fit.__file__).parent / "recipes").rglob("*.toml"))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("codec", SOUNDS | {"threads": 0}, "threads must be at least 1, not 0"),
        ("codec", SOUNDS | {"batch": 0}, "batch must be at least 1, not 0"),
        ("codec", SOUNDS | {"batch": "many"}, "batch must be a whole number, not 'many'"),
        ("codec", SOUNDS | {"batch": 2.0}, "batch must be a whole number, not 2.0"),
        ("codec", SOUNDS | {"batch": True}, "batch must be a whole number, not True"),
        ("codec", SOUNDS | {"bfloat16": 1}, "bfloat16 must be true or false, not 1"),
        ("codec", SOUNDS | {"fit_rounds": 0}, "fit_rounds must be at least 1, not 0"),
        ("codec", SOUNDS | {"mel_weight": -1}, "mel_weight must be at least 0, not -1"),
        (
            "codec",
            SOUNDS | {"adversarial": True, "frames": 16},
            "judged_frames 24 must not exceed the crop's frames 16",
        ),
        ("sync", {"crop": 3}, "crop must be at least 4, not 3"),
        ("sync", {"distractors": -1}, "distractors must be at least 0, not -1"),
        ("sync", {"clips": 3}, "clips must be a text, not 3"),
        ("scav", {"crops_per_clip": 0}, "crops_per_clip must be at least 1, not 0"),
        ("scav", {"seconds": 0}, "seconds must be above 0, not 0"),
        ("scav-prepared", PLACES | {"heads": 0}, "heads must be at least 1, not 0"),
        ("scav-prepared", PLACES | {"dim": 10, "heads": 4}, "dim 10 must be a multiple of heads 4"),
        ("maskvat", PLACES | {"crop_seconds": -1}, "crop_seconds must be above 0, not -1"),
        ("maskvat", PLACES | {"crop_seconds": float("nan")}, "crop_seconds must be above 0, not nan"),
        ("maskvat", PLACES | {"device_batch": -1}, "device_batch must be at least 0, not -1"),
        ("maskvat", PLACES | {"generate_batch": 0}, "generate_batch must be at least 1, not 0"),
        ("maskvat", PLACES | {"design": "big"}, "unknown design 'big'; choose from adaln_a"),
        ("maskvat", PLACES | {"target_norm": "batch"}, "unknown target_norm 'batch'; choose from layernorm, none"),
    ],
)
def test_a_bad_value_of_a_task(name: str, values: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        options_from(CLASSES[name], values)
    assert str(caught.value).startswith(f"[task] {words}")


def test_folders_have_no_default() -> None:
    with pytest.raises(RecipeError) as caught:
        options_from(CodecOptions, {"batch": 2})
    assert str(caught.value) == "[task] lacks sounds; add --set task.sounds=DIR"
    with pytest.raises(RecipeError, match=r"lacks data, system; .* --set task\.data=DIR --set task\.system=DIR"):
        options_from(MaskVATOptions, {"validation": "b"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"learning_rate": -1e-3}, "learning_rate must be above 0, not -0.001"),
        ({"minutes": 0}, "minutes must be above 0, not 0"),
        ({"minutes": "5"}, "minutes must be a number, not '5'"),
        ({"betas": [0.9]}, "betas must be two numbers from 0 to below 1, not [0.9]"),
        ({"betas": [0.9, 1]}, "betas must be two numbers from 0 to below 1, not [0.9, 1]"),
    ],
)
def test_a_bad_value_of_the_loop(values: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        options_from(LoopConfig, values, "loop")
    assert str(caught.value) == f"[loop] {words}"


def test_ranges() -> None:
    assert 0 in SHARE and 1 in SHARE and 1.01 not in SHARE
    assert 0 not in POSITIVE and 1e-9 in POSITIVE and float("inf") not in POSITIVE
    assert 3 not in Range(4) and 4 in Range(4)


def test_every_range_is_that_of_a_field() -> None:
    """A misspelt name would not be checked."""
    for cls in (*CLASSES.values(), LoopConfig):
        for owner in cls.__mro__:
            assert set(vars(owner).get("RANGES", {})) <= set(cls.__dataclass_fields__)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_projects_recipes_are_within_the_ranges(path: Path) -> None:
    recipe = fit.read_recipe(path, [])
    options = {key: value for key, value in recipe["task"].items() if key != "name"}
    name = recipe["task"]["name"]
    options_from(CLASSES[name], (SOUNDS if name == "codec" else {}) | options)
    options_from(LoopConfig, recipe["loop"], "loop")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"task": {}, "loop": 3}', '{"task": {"name": "codec"'])
def test_a_damaged_recipe_of_a_run(tmp_path: Path, text: str) -> None:
    recipe = {"task": {"name": "codec"}, "loop": {}}
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(RecipeError, match=r"recipe\.json is damaged .*; delete it to continue with this recipe"):
        fit.keep_recipe(tmp_path, recipe)
    assert (tmp_path / "recipe.json").read_text() == text
    (tmp_path / "recipe.json").unlink()
    fit.keep_recipe(tmp_path, recipe)
    assert json.loads((tmp_path / "recipe.json").read_text()) == recipe


def test_the_command_reports_a_bad_value_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(p for p in RECIPES if p.stem == "codec")
    assert (
        fit.main([str(path), "--out", str(tmp_path / "run"), "--set", "task.sounds=a", "--set", "task.threads=0"]) == 1
    )
    assert capsys.readouterr().err == "error: [task] threads must be at least 1, not 0\n"
    assert not (tmp_path / "run").exists()
