"""The pipeline on kilobyte engines: lengths, windows, seeds, candidates, ranking, progress, cancelling, threads."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from engines.base import Array, Feeds
from engines.contract import DESIGNS
from runtime import Pipeline, Progress, SamplingConfig, Take, candidates, context, generation
from runtime.bundle import Bundle
from runtime.candidates import Candidates, Scene, Span
from runtime.decode import DecodeState
from runtime.errors import BackendUnavailable, Cancelled, EngineError, MediaError, OptionError
from runtime.rng import TOKENS, uniforms
from runtime.video import Video
from runtime.windows import Window, windows
from tests.support.engine_spy import Spy
from tests.support.fake_engines import NEEDS_ORT, FakeBundle, entry_of, rewrite_manifest, small_config, write_bundle
from tests.support.media import Picture, steady, write_video

pytestmark = NEEDS_ORT
QUICK = SamplingConfig(steps=4, seed=1)
FOUR = replace(QUICK, candidates=4, takes=4)
MASK = 1024


@pytest.fixture
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4.6 s: four windows of 2 s that overlap by 1 s, the last one moved back. The picture changes all the time."""
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", Picture(steady(46, 10), last=Fraction(1, 10)))


def seen_windows(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    seen: list[Window] = []

    def spy(*args: object) -> object:
        for window in windows(*args):
            seen.append(window)
            yield window

    monkeypatch.setattr(generation, "windows", spy)
    return seen


def codes_of(takes: list[Take]) -> dict[int, bytes]:
    return {t.candidate: t.codes.tobytes() for t in takes}


# ---------------------------------------------------------------- length
@pytest.mark.parametrize(
    ("frames", "fps"),
    [(1, 25), (1, 120), (3, 30), (199, 100), (50, 25), (201, 100), (53, 10), (97, 10)],
    ids=["1 frame", "8 ms", "0.1 s", "1.99 s", "2 s", "2.01 s", "5.3 s", "9.7 s"],
)
def test_the_sound_is_as_long_as_the_picture(
    pipeline: Pipeline, tmp_path: Path, frames: int, fps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = seen_windows(monkeypatch)
    video = write_video(tmp_path / "x.mp4", Picture(steady(frames, fps), last=Fraction(1, fps)))
    (take,) = pipeline.generate(video, QUICK)
    samples = round(Fraction(frames, fps) * 44100)
    assert take.audio.shape == (samples,) and take.audio.dtype == np.float32
    assert take.codes.shape == (9, -(-samples // 512)) and take.codes.dtype == np.int32
    assert take.sample_rate == 44100
    assert MASK not in take.codes
    assert np.abs(take.audio).max() <= 1
    assert take.report.windows == len(seen)
    if frames / fps > 2:
        assert seen[-1].length > pipeline.config.window_tokens - 87  # as full as whole seconds allow


def test_variable_frame_rate_and_a_late_start(pipeline: Pipeline, tmp_path: Path) -> None:
    times = [Fraction(n, 100) for n in (30, 33, 50, 51, 90, 170)]
    video = write_video(tmp_path / "x.mkv", Picture(times, last=Fraction(1, 4)))
    (take,) = pipeline.generate(video, QUICK)
    assert abs(len(take.audio) - round(Fraction(165, 100) * 44100)) <= 44  # Matroska counts in milliseconds


# ---------------------------------------------------------------- windows
def test_windows_continue_from_known_tokens_without_a_seam(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, spy = seen_windows(monkeypatch), Spy(pipeline, "step")
    (take,) = pipeline.generate(long_video, QUICK)
    first_steps = spy.feeds[:: QUICK.steps]
    assert len(first_steps) == len(seen) == 4
    end = 0
    for window, feeds in zip(seen, first_steps, strict=True):
        known = end - window.start
        codes = feeds["codes"][0]
        assert np.array_equal(codes[:, :known], take.codes[:, window.start : end])
        assert np.all(codes[:, known:] == MASK)
        end = window.start + window.length
    assert end == take.codes.shape[1]


def test_chunked_decoding_equals_whole_decoding(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "CODEC_CHUNK", 36)  # a multiple of the fake codec's period
    (take,) = pipeline.generate(long_video, QUICK)
    (whole,) = pipeline.bundle.run("codec_decoder", codes=take.codes[None])
    assert np.array_equal(take.audio, whole[0, : len(take.audio)])


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("cls", [False, True])
def test_every_design_runs_with_its_own_feeds(
    bundles: Callable[..., Path], long_video: Path, design: str, cls: bool
) -> None:
    pipeline = runtime.load(bundles(design, cls_in_memory=cls), "cpu", threads=1)
    takes = pipeline.generate(long_video, replace(FOUR, candidates=2, takes=2))
    assert len({t.codes.tobytes() for t in takes}) == 2
    used_sync = "sync_encoder" in takes[0].report.calls or "sync_encoder" in takes[0].report.seconds
    assert used_sync == (design != "adaln_a")


def test_the_condition_is_computed_once_per_window(pipeline: Pipeline, long_video: Path) -> None:
    (take,) = pipeline.generate(long_video, QUICK)
    calls = take.report.calls
    assert (calls["condition"], calls["sync_encoder"], calls["step"]) == (4, 4, 4 * QUICK.steps)


# ---------------------------------------------------------------- seeds and options
def test_same_seed_same_bytes(bundles: Callable[..., Path], long_video: Path) -> None:
    first, second = (runtime.load(bundles(), "cpu", threads=1).generate(long_video, FOUR) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.candidate, a.score, a.audio.tobytes()) == (b.candidate, b.score, b.audio.tobytes())


CHANGES = {"seed": 2, "steps": 5, "guidance": 1.5, "diversity": 100.0, "schedule": "linear"}
CHANGES |= {"guidance_from": 0.5, "guidance_until": 0.5}


@pytest.mark.parametrize("option", [*CHANGES, "no guidance", "no diversity"])
def test_every_option_changes_the_sound(pipeline: Pipeline, long_video: Path, option: str) -> None:
    name = option.removeprefix("no ")
    changed = replace(QUICK, **{name: CHANGES[name] if name == option else 0})
    sounds = {pipeline.generate(long_video, s)[0].audio.tobytes() for s in (QUICK, changed)}
    assert len(sounds) == 2


def own_rows(feeds: Feeds, name: str) -> list[Array]:
    """What a step of `FOUR` got for each candidate. Those that are alike share a row, side by side."""
    return list(feeds[name]) if len(feeds[name]) > 1 else np.split(feeds[name][0], 4, axis=-1)


def test_uniforms_have_the_documented_addresses(pipeline: Pipeline, long_video: Path) -> None:
    spy = Spy(pipeline, "step")
    pipeline.generate(long_video, replace(FOUR, steps=2))
    for window in range(4):
        for step in range(2):
            feeds = spy.feeds[2 * window + step]
            rows = zip(*(own_rows(feeds, name) for name in ("index", "u")), strict=True)
            for candidate, (index, drawn) in enumerate(rows):
                u = uniforms(1, candidate, window, step, TOKENS, feeds["codes"].shape[1:])
                assert np.array_equal(drawn, np.take_along_axis(u, index, axis=-1))


def test_another_picture_changes_the_sound(pipeline: Pipeline, tmp_path: Path) -> None:
    def picture(level: int) -> Picture:
        return Picture(steady(20, 10), last=Fraction(1, 10), images=[np.full((48, 64, 3), level, np.uint8)] * 20)

    videos = [write_video(tmp_path / f"{level}.mp4", picture(level)) for level in (40, 200)]
    assert len({pipeline.generate(c, QUICK)[0].audio.tobytes() for c in videos}) == 2


def test_guidance_zero_pays_for_no_null_group(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    spy = Spy(pipeline, "step")
    for guidance, groups in ((0, 1), (3, 2)):
        spy.feeds.clear()
        pipeline.generate(make_video(), replace(QUICK, guidance=guidance))
        assert all(len(f[name]) == groups for f in spy.feeds for name in ("keys", "values", "frame_index"))
        assert all(float(f["guidance"]) == guidance for f in spy.feeds)


def distil(manifest: dict[str, Any]) -> None:
    for weights in manifest["weights"]:
        if weights["role"] == "maskvat":
            weights["distilled_guidance"] = 3.0


@pytest.mark.parametrize("wait", [True, False])
def test_distilled_guidance_is_not_added_again(own_bundle: Path, make_video: Callable[..., Path], wait: bool) -> None:
    video = make_video()
    one_pass = runtime.load(own_bundle, "cpu", 1).generate(video, replace(QUICK, guidance=0))[0]
    rewrite_manifest(own_bundle, distil)
    with runtime.load(own_bundle, "cpu", 1, wait=wait) as pipeline:
        take = pipeline.generate(video, QUICK)[0]
        assert take.report.sampling.guidance == 0 and np.array_equal(take.codes, one_pass.codes)
        with pytest.raises(OptionError, match="is distilled, so it cannot lead away"):
            pipeline.generate(video, QUICK, words=runtime.Words(avoid="dog"))


def test_cpus_draw_where_tokens_are_masked_and_gpus_everywhere(pipeline: Pipeline, long_video: Path) -> None:
    """The codes are the same: what is drawn at decided positions is not used."""
    spy = Spy(pipeline, "step")
    found = codes_of(pipeline.generate(long_video, FOUR))
    asked = []
    for feeds in spy.feeds:
        index = np.stack(own_rows(feeds, "index"))
        masked = np.broadcast_to(feeds["codes"] == MASK, (4, *feeds["codes"].shape[1:]))
        chosen = np.zeros_like(masked)
        np.put_along_axis(chosen, index, True, axis=-1)
        assert (chosen | ~masked).all() and (chosen.sum(axis=-1) == index.shape[-1]).all()  # all masked, none twice
        assert index.shape[-1] == masked.sum(axis=-1).max()
        asked.append(index.shape[-1])
    assert len(set(asked)) > 2
    spy.feeds.clear()
    pipeline.bundle.backend = "cuda"
    pipeline.bundle.file_for = lambda graph: f"{graph}.onnx"  # type: ignore[method-assign]
    assert codes_of(pipeline.generate(long_video, FOUR)) == found
    assert all(f["index"].shape == f["codes"].shape for f in spy.feeds)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("steps", [0, -1, 1025, 1.5, True, None, "8"]),
        ("guidance", [-1, -0.01, 101, float("nan"), float("inf"), None]),
        ("diversity", [-1, 1001, float("nan")]),
        ("seed", [-1, 2**64, 0.5]),
        ("candidates", [0, 257]),
        ("takes", [0, 2]),
        ("guidance_from", [-0.1, 1.1, float("nan"), None]),
        ("guidance_until", [-0.1, 1.1]),
    ],
)
def test_options_outside_their_range(option: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(OptionError, match=rf"{option} is .*; it must be a .*number from \d+(\.\d)? to \d+"):
            SamplingConfig(**{option: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    SamplingConfig(steps=1, guidance=0, diversity=0, seed=0, candidates=1, takes=1)
    SamplingConfig(steps=1024, guidance=100, diversity=1000, seed=2**64 - 1, candidates=256, takes=256)
    assert SamplingConfig() == SamplingConfig(32, 3.0, 8.0, 0, 1, 1)


# ---------------------------------------------------------------- candidates
def test_a_candidate_does_not_depend_on_how_many_there_are(pipeline: Pipeline, long_video: Path) -> None:
    four = codes_of(pipeline.generate(long_video, FOUR))
    two = codes_of(pipeline.generate(long_video, replace(FOUR, candidates=2, takes=2)))
    (alone,) = pipeline.generate(long_video, QUICK)
    assert len(set(four.values())) == 4
    assert {i: four[i] for i in (0, 1)} == two
    assert alone.codes.tobytes() == four[0]
    assert (alone.candidate, alone.score) == (0, None)


def test_smaller_batches_give_the_same_candidates(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, spy = codes_of(pipeline.generate(long_video, FOUR)), Spy(pipeline, "step")
    monkeypatch.setattr(candidates, "STEP_MEMORY", 1)
    assert codes_of(pipeline.generate(long_video, FOUR)) == whole
    assert {len(f["codes"]) for f in spy.feeds} == {1}


def test_a_batch_that_fails_is_tried_again_in_halves(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine can hold two rows. With more it fails in the middle of a window."""
    whole, spy = codes_of(pipeline.generate(long_video, FOUR)), Spy(pipeline, "step")
    sizes: list[int] = []
    execute, take_steps = spy.execute, Candidates._advance

    def small(fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        if len(varying["codes"]) > 2 and (varying["codes"] != MASK).any():
            raise EngineError("out of memory")
        return execute(fixed, varying, sizes)

    def counted(self: Candidates, scene: Scene, span: Span, batch: list[int], rows: DecodeState) -> None:
        sizes.append(len(batch))
        take_steps(self, scene, span, batch, rows)

    monkeypatch.setattr(spy, "execute", small)
    monkeypatch.setattr(Candidates, "_advance", counted)
    seen: list[Progress] = []
    takes = pipeline.generate(long_video, FOUR, seen.append)
    assert codes_of(takes) == whole
    assert sizes == [4] + 4 * [2, 2]  # the next windows know
    assert takes[0].report.warnings == [
        "the engines failed with 4 candidates at once; smaller batches were used: out of memory"
    ]
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_an_engine_that_fails_for_one_row_is_an_error(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        calls.append(varying["u"].size // varying["codes"][0].size)
        raise EngineError("out of memory")

    calls: list[int] = []  # candidates, which share a row as long as they are alike
    monkeypatch.setattr(Spy(pipeline, "step"), "execute", broken)
    with pytest.raises(EngineError, match="out of memory"):
        pipeline.generate(long_video, FOUR)
    assert calls == [4, 2, 1]


def test_takes_are_the_best_candidates_best_first(pipeline: Pipeline, long_video: Path) -> None:
    takes = pipeline.generate(long_video, FOUR)
    scores = [t.score for t in takes]
    assert len(set(scores)) == 4 and scores == sorted(scores)
    assert [t.candidate for t in takes] == takes[0].report.ranking
    assert [takes[0].report.scores[t.candidate] for t in takes] == scores
    best = pipeline.generate(long_video, replace(FOUR, takes=2))
    assert [t.candidate for t in best] == [t.candidate for t in takes[:2]]
    assert best[0].audio.tobytes() == takes[0].audio.tobytes()


def test_candidates_of_a_still_picture_are_ranked(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    """40 ms is shorter than one step of the audio encoder."""
    takes = pipeline.generate(make_video(1), FOUR)
    assert len({t.codes.tobytes() for t in takes}) == 4
    assert all(t.score is not None and np.isfinite(t.score) for t in takes)


# ---------------------------------------------------------------- progress and stopping
@pytest.mark.parametrize("batches", ["one batch", "four batches"])
def test_progress_only_grows(
    pipeline: Pipeline, long_video: Path, batches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if batches == "four batches":
        monkeypatch.setattr(candidates, "STEP_MEMORY", 1)
    seen: list[Progress] = []
    pipeline.generate(long_video, FOUR, seen.append)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0 and fractions[-1] == 1
    assert fractions.count(1) < len(fractions) / 3
    assert {p.stage for p in seen} == {"video", "sample", "codec", "select"}
    assert [p.window for p in seen] == sorted(p.window for p in seen)
    assert max(p.window for p in seen) == 3
    assert all(0 <= p.step <= p.steps == QUICK.steps for p in seen)


def test_progress_only_grows_when_the_length_is_not_known(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation.Run, "_estimate_windows", lambda self, video: expected)
    for expected in (0, 1, 9):  # unknown, too short, too long
        seen: list[Progress] = []
        pipeline.generate(long_video, QUICK, seen.append)
        fractions = [p.fraction for p in seen]
        assert fractions == sorted(fractions) and fractions[-1] == 1
        assert expected == 1 or fractions.count(1) <= 2


@pytest.mark.parametrize("stage", ["video", "sample", "codec", "select"])
def test_cancelling_stops_within_one_step(pipeline: Pipeline, long_video: Path, stage: str) -> None:
    spies = [Spy(pipeline, name) for name in ("step", "codec_decoder", "scav_audio", "frame_encoder")]
    cancel, calls = threading.Event(), []

    def on_progress(progress: Progress) -> None:
        if progress.stage == stage and not cancel.is_set():
            cancel.set()
            calls.append(sum(len(s.feeds) for s in spies))

    with pytest.raises(Cancelled):
        pipeline.generate(long_video, FOUR, on_progress, cancel)
    assert sum(len(s.feeds) for s in spies) - calls[0] <= 1


def test_cancelled_before_it_began(pipeline: Pipeline, long_video: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    spy = Spy(pipeline, "step")
    with pytest.raises(Cancelled):
        pipeline.generate(long_video, QUICK, cancel=cancel)
    assert not spy.feeds


def test_cancelling_is_seen_at_every_frame(
    pipeline: Pipeline, long_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, image, images = threading.Event(), Video._image, 0

    def slow(self: Video, *args: object) -> object:
        nonlocal images
        images += 1
        if images == 3:
            cancel.set()
        return image(self, *args)

    monkeypatch.setattr(Video, "_image", slow)
    with pytest.raises(Cancelled):
        pipeline.generate(long_video, QUICK, cancel=cancel)
    assert images == 3


def test_an_error_of_the_callback_comes_through(pipeline: Pipeline, long_video: Path) -> None:
    def on_progress(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.generate(long_video, QUICK, on_progress)


def test_threads_share_nothing(bundles: Callable[..., Path], long_video: Path) -> None:
    pipeline = runtime.load(bundles(), "cpu", threads=1)
    samplings = [replace(QUICK, seed=n % 2) for n in range(6)]
    with ThreadPoolExecutor(3) as pool:
        sounds = list(pool.map(lambda s: pipeline.generate(long_video, s)[0].audio.tobytes(), samplings))
    assert sounds[0::2] == sounds[:1] * 3 and sounds[1::2] == sounds[1:2] * 3
    assert sounds[0] != sounds[1]
    assert sounds[1] == pipeline.generate(long_video, QUICK)[0].audio.tobytes()


# ---------------------------------------------------------------- report, warnings, files
def test_report(pipeline: Pipeline, long_video: Path) -> None:
    take = pipeline.generate(long_video, FOUR)[0]
    report = json.loads(json.dumps(take.report.to_dict(), allow_nan=False))
    assert report == take.report.to_dict() and list(report) == [f.name for f in fields(runtime.Report)]
    plain = {"steps": 4, "guidance": 3.0, "diversity": 8.0, "seed": 1, "candidates": 4, "takes": 4}
    plain |= {"schedule": "cosine", "guidance_from": 0.0, "guidance_until": 1.0, "budget": []}  # the paper's sampler
    assert report["sampling"] == plain and report["dropped"] == []
    assert (report["windows"], report["samples"], report["sample_rate"]) == (4, 202860, 44100)
    assert (report["bundle"], report["backend"], report["clip"]) == ("fake", "cpu", str(long_video))
    assert report["engines"]["step"]["file"] == "step.onnx" and len(report["engines"]["step"]["sha256"]) == 64
    assert {"video", "step", "host", "codec", "select"} <= set(report["seconds"])
    assert report["warnings"] == []
    assert pipeline.generate(long_video, QUICK)[0].report.scores is None
    assert report["threads"] == 1
    assert report["version"] == runtime.__version__ and report["version"][0].isdigit()


def test_scores_that_are_not_numbers_are_null(
    pipeline: Pipeline, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    distances = iter([0.5, np.nan, 0.25, np.inf] * 2)  # the video has two windows
    monkeypatch.setattr(candidates, "scav_distance", lambda *_: next(distances))
    takes = pipeline.generate(make_video(), FOUR)
    assert takes[0].report.to_dict()["scores"] == [0.5, None, 0.25, None]
    assert [t.candidate for t in takes] == [2, 0, 3, 1]
    assert [t.score for t in takes] == [0.25, 0.5, None, None]


def test_untrained_parts_are_reported(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    folder = write_bundle(tmp_path / "b", FakeBundle(small_config(), untrained=("maskvat", "scav"), name="raw"))
    pipeline = runtime.load(folder, "cpu", threads=1)
    alone = pipeline.generate(make_video(), QUICK)[0].report.warnings
    ranked = pipeline.generate(make_video(), FOUR)[0].report.warnings
    assert alone == ["maskvat of the bundle raw is untrained: the sound means nothing"]
    assert ranked == [*alone, "scav of the bundle raw is untrained: the ranking of candidates means nothing"]


def test_a_truncated_video_is_used_as_far_as_it_goes(pipeline: Pipeline, tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.mkv", Picture(steady(100, 25), last=Fraction(1, 25)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (take,) = pipeline.generate(path, QUICK)
    assert 0.5 * 44100 < len(take.audio) < 3.5 * 44100
    assert take.report.warnings


def test_a_codec_that_returns_nan_is_an_error(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    Spy(pipeline, "codec_decoder", lambda out: {"audio": out["audio"] * np.float32(np.nan)})
    with pytest.raises(MediaError, match=r"not finite; check the bundle with `python -m runtime\.doctor`"):
        pipeline.generate(make_video(), QUICK)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_step_that_returns_nan_is_an_error(
    pipeline: Pipeline, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, everywhere: bool
) -> None:
    """Half precision may overflow. The tokens are in range all the same, so only the log-probabilities show it."""
    monkeypatch.setattr(Bundle, "draws_all_positions", everywhere)
    spy = Spy(pipeline, "step", lambda out: out | {"logp": out["logp"] * np.float32(np.nan)})
    with pytest.raises(BackendUnavailable, match=r"log-probabilities that are not finite .*use another --precision"):
        pipeline.generate(make_video(), FOUR)
    assert len(spy.feeds) == 1


def test_loud_sound_is_clipped(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    Spy(pipeline, "codec_decoder", lambda out: {"audio": out["audio"] * np.float32(1000)})
    (take,) = pipeline.generate(make_video(), QUICK)
    assert np.abs(take.audio).max() == 1


def test_a_cpu_prefers_int8(own_bundle: Path, make_video: Callable[..., Path]) -> None:
    path = own_bundle / "step.int8.onnx"
    path.write_bytes((own_bundle / "step.onnx").read_bytes())
    rewrite_manifest(own_bundle, lambda m: m["files"].update({path.name: entry_of(path, "step", "int8")}))
    pipeline = runtime.load(own_bundle, "cpu", threads=1)
    assert pipeline.bundle.file_for("step") == "step.int8.onnx"
    assert pipeline.bundle.file_for("condition") == "condition.onnx"
    report = pipeline.generate(make_video(), QUICK)[0].report
    assert report.engines["step"].file == "step.int8.onnx"
