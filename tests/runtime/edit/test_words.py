"""Words: what they do to the conditions, where they apply, what a take keeps, and what is refused before any work."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.contract import DESIGNS
from engines.manifest import BundleFile, Manifest, sha256
from engines.words import tokeniser
from engines.words.prompts import mixture
from runtime import FrameSource, OptionError, Pipeline, SamplingConfig, Take, Words
from runtime.edit.words import read_mixture
from runtime.infer import main
from tests.support.engine_spy import Spy
from tests.support.fake_engines import NEEDS_ORT, FakeBundle, small_config, write_bundle

QUICK = SamplingConfig(steps=3, seed=1)
DOG, CAT = np.eye(6, dtype=np.float32)[:2]

pytestmark = NEEDS_ORT


@pytest.fixture(scope="module")
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@pytest.fixture(scope="module")
def video(make_video: Callable[..., Path]) -> Path:
    return make_video(90)  # 3.6 s at 25 fps: windows at 0, 1 and 2 s that overlap by 1 s


@pytest.fixture(scope="module")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake bundle with a text encoder that knows two merges."""
    folder = write_bundle(tmp_path_factory.mktemp("text"), FakeBundle(small_config(text_context=8)))
    table = {"context": 8, "merges": ["d o", "do g</w>"], "origin": "a test", "licence": "MIT"}
    path = folder / tokeniser.FILE
    path.write_text(json.dumps(table))
    manifest = Manifest.read(folder)
    entry = BundleFile("", "fp32", path.stat().st_size, sha256(path))
    replace(manifest, tokeniser=path.name, files={**manifest.files, path.name: entry}).save(folder)
    return folder


def conditions(pipeline: Pipeline, video: Path, *, sampling: SamplingConfig = QUICK, **options: object) -> list:
    """(take, the frame features [N, D] of each run of `condition`)."""
    spy = Spy(pipeline, "condition")
    (take,) = pipeline.generate(video, sampling, **options)
    return [take, *(feeds["frame_features"][0] for feeds in spy.feeds)]


# ---------------------------------------------------------------- how wishes are written
def test_a_wish_is_a_mixture() -> None:
    assert read_mixture("dog") == {"dog": 1}
    assert read_mixture(" dog:2 ,big cat : .5, Dog") == {"dog": 3, "big cat": 0.5}


@pytest.mark.parametrize("text", ["", "dog,", "dog:", "dog:x", "dog:-1", "dog:nan", ":2", "d" * 1001])
def test_wrong_wishes_are_refused(text: str) -> None:
    with pytest.raises(OptionError):
        read_mixture(text)


# ---------------------------------------------------------------- what words do
def test_a_prompt_takes_the_place_of_what_is_seen(pipeline: Pipeline, video: Path) -> None:
    plain, *seen = conditions(pipeline, video)
    for text, vector in (
        ("dog", DOG),
        ("Big_Cat:3, dog", mixture(pipeline.bundle.vocabulary, {"big cat": 3, "dog": 1})),
    ):
        take, *made = conditions(pipeline, video, words=Words(text))
        assert len(made) == len(seen) == 3 and all(np.array_equal(m, np.tile(vector, (len(m), 1))) for m in made)
        assert not np.array_equal(take.codes, plain.codes)
    take, *made = conditions(pipeline, video, words=Words("dog", weight=0))
    assert take == plain and all(map(np.array_equal, made, seen))
    _, *made = conditions(pipeline, video, words=Words("dog", weight=0.5))
    wanted = [(s + DOG) / np.linalg.norm(s + DOG, axis=1, keepdims=True) for s in seen]
    assert all(np.allclose(m, w, atol=1e-6) for m, w in zip(made, wanted, strict=True))


@pytest.mark.parametrize("where", ["1.0-1.5", "25f-38f", (1.0, 1.5), "00:00:01:00-00:00:01:13"])
def test_a_wish_for_a_range_is_at_the_right_time_in_every_window(
    pipeline: Pipeline, video: Path, where: object
) -> None:
    _, *seen = conditions(pipeline, video)
    take, *made = conditions(pipeline, video, words=Words(at=[(where, "big cat")]))
    for second, (before, after) in enumerate(zip(seen, made, strict=True)):
        times = second + (np.arange(len(before)) + 0.5) / 8
        inside = (times >= 1) & (times < 1.52)
        assert inside.sum() == (0 if second == 2 else 4)
        assert (after[inside] == CAT).all() and np.array_equal(after[~inside], before[~inside])
    assert take.report.words["prompts"][0]["begin"] == 1


def test_ranges_count_from_the_start_of_the_sound(pipeline: Pipeline, video: Path) -> None:
    _, whole = conditions(pipeline, video, span=(1, 2), words=Words(at=[("0.5-1", "dog")]))
    assert (whole[4:] == DOG).all() and not (whole[:4] == DOG).all(axis=1).any()
    _, *last = conditions(pipeline, video, words=Words("dog", at=[("0-1", "dog"), ("0-2", "big cat")]))
    assert (last[0] == CAT).all() and (last[2] == DOG).all()
    _, short = conditions(pipeline, video, span=(1, 2), words=Words(at=[("0.20-0.24", "dog")]))
    assert (short == DOG).all(axis=1).sum() == 1  # the nearest of eight features a second


@pytest.mark.parametrize("design", DESIGNS)
def test_guidance_leads_away_from_what_is_avoided(
    bundles: Callable[..., Path], make_video: Callable[..., Path], design: str
) -> None:
    """The condition runs twice; sync features are the same. Avoiding what is heard equals no guidance."""
    pipeline, video = runtime.load(bundles(design), "cpu", threads=1), make_video(40)
    spy = Spy(pipeline, "condition")
    sampling = replace(QUICK, guidance=2.3)
    (other,) = pipeline.generate(video, sampling, words=Words("dog", avoid="big cat"))
    first, second = spy.feeds
    assert (first["frame_features"] == DOG).all() and (second["frame_features"] == CAT).all()
    assert all(np.array_equal(first[name], second[name]) for name in first if name != "frame_features")
    (same,) = pipeline.generate(video, sampling, words=Words("dog", avoid="dog"))
    (plain,) = pipeline.generate(video, replace(QUICK, guidance=0), words=Words("dog"))
    assert np.array_equal(same.codes, plain.codes)
    assert design == "adaln_c" or not np.array_equal(other.codes, same.codes)
    with pytest.raises(OptionError, match="no step has guidance"):
        pipeline.generate(video, replace(QUICK, guidance=0), words=Words(avoid="dog"))


def test_free_text_goes_through_the_text_encoder(text_bundle: Path, video: Path) -> None:
    with runtime.load(text_bundle, "cpu", 1) as pipeline:
        tokens = pipeline.bundle.tokeniser("dogs barking")
        take, made, *_ = conditions(pipeline, video, words=Words("dogs barking"))
        assert np.allclose(made, tokens.mean() / 1000) and not take.report.warnings
        take, made, *_ = conditions(pipeline, video, words=Words("dog"))  # the vocabulary comes first
        assert (made == DOG).all()
        take, *_ = conditions(pipeline, video, words=Words("dgo"))
        assert "did you mean dog" in take.report.warnings[0]


def test_frames_of_a_host_take_words(pipeline: Pipeline) -> None:
    frames = [(np.full((32, 32, 3), n, np.uint8), n / 25) for n in range(30)]
    _, made = conditions(pipeline, FrameSource(frames, rate=25), words=Words(at=[("10f-20f", "dog")]))
    assert (made == DOG).all(axis=1).sum() == 3
    with pytest.raises(OptionError, match="timecode"):
        pipeline.generate(FrameSource(frames), words=Words(at=[("00:00:01:00-00:00:02:00", "dog")]))


# ---------------------------------------------------------------- takes
def test_a_take_keeps_its_words(pipeline: Pipeline, video: Path, tmp_path: Path) -> None:
    (made,) = pipeline.generate(video, QUICK, words=Words("dog", 0.5, "big cat"))
    made.save(tmp_path / "take.npz")
    take = Take.load(tmp_path / "take.npz")
    kept = {"prompts": [{"prompt": "dog", "weight": 0.5, "begin": None, "end": None}], "avoid": "big cat"}
    assert take.report.words == made.report.words == kept
    (again,) = pipeline.generate(video, edit=runtime.redo(take, (1, 2)))
    assert again.report.words == kept
    new = {"prompt": "big cat", "weight": 1.0}

    def words_of(edit: object, words: Words) -> dict:
        return pipeline.generate(video, edit=edit, words=words)[0].report.words

    found = words_of(runtime.redo(take, (1, 2)), Words("big cat", avoid=""))
    first, end = 86 * 512 / 44100, 173 * 512 / 44100  # the tokens of the range
    assert found == {"prompts": [*kept["prompts"], new | {"begin": first, "end": end}], "avoid": ""}
    assert words_of(runtime.vary(take, 0.3), Words("big cat")) == kept | {
        "prompts": [new | {"begin": None, "end": None}]
    }
    assert words_of(runtime.redo(take, (1, 2)), Words("", avoid="")) is None


def test_a_redo_hears_its_words_in_its_range_only(pipeline: Pipeline, video: Path) -> None:
    (take,) = pipeline.generate(video, QUICK, words=Words("dog"))
    _, made = conditions(pipeline, video, edit=runtime.redo(take, (1, 2)), words=Words("big cat"))
    assert (made[:8] == DOG).all() and (made[8:] == CAT).all() and len(made) == 16


def test_an_extension_hears_its_words_after_the_take(pipeline: Pipeline, video: Path) -> None:
    (take,) = pipeline.generate(video, QUICK, span=(0, 2))
    longer, *made = conditions(pipeline, video, edit=runtime.extend(take), words=Words("dog"))
    assert np.array_equal(longer.codes[:, : take.codes.shape[1]], take.codes)
    assert not (made[0][:8] == DOG).all(axis=1).any() and (made[-1] == DOG).all()


# ---------------------------------------------------------------- the command
def test_the_command_looks_words_up_first(
    bundles: Callable[..., Path], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*flags: str) -> str:
        steps = [] if "--from" in flags else ["--steps", "2"]
        options = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", *steps]
        status = main([str(video), *options, "-o", str(tmp_path / "x.wav"), *flags])
        assert (status == 0) == (tmp_path / "x.wav").is_file()
        return capsys.readouterr().err

    for flag in ("--prompt", "--avoid"):
        assert "'dgo'; similar words: dog; `python -m runtime.info --words` lists its 6 words" in run(flag, "dog, dgo")
    assert "'speech'" in run("--at", "0-1", "speech")
    assert "is not inside the sound; the sound lasts 3.600 s" in run("--at", "1-9", "dog")
    assert "--guidance" in run("--avoid", "dog", "--guidance", "0")
    assert "--prompt-weight" in run("--prompt-weight", "0.5") and "from 0 to 1" in run(
        "--prompt=dog", "--prompt-weight=2"
    )
    given = ["--prompt", "dog:2, big cat", "--at", "0-1", "dog", "--at", "25f-50f", "big cat", "--avoid", "big cat"]
    run(*given, "--report", str(tmp_path / "r.json"), "--save", str(tmp_path / "t.npz"))
    words = json.loads((tmp_path / "r.json").read_text())["words"]
    assert [p["prompt"] for p in words["prompts"]] == ["dog:2, big cat", "dog", "big cat"]
    (tmp_path / "x.wav").unlink()
    assert "--prompt changes nothing in the take" in run("--from", str(tmp_path / "t.npz"), "--prompt", "dog")
