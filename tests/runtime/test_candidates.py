"""Candidates that are dropped on the way, and steps without guidance, on kilobyte engines."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import runtime
from engines.base import Feeds
from runtime import EngineError, OptionError, Pipeline, Progress, SamplingConfig, Take, candidates
from runtime.bundle import Bundle
from runtime.candidates import spans
from runtime.sampling import read_budget
from tests.runtime.test_pipeline import Spy
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, steady, write_video

pytestmark = NEEDS_ORT
PLAIN = SamplingConfig(steps=6, seed=1, candidates=5, takes=5)
BUDGET = replace(PLAIN, takes=1, budget=(3, 1))


@pytest.fixture
def pipeline(bundles: Callable[..., Path]) -> Pipeline:
    return runtime.load(bundles(), "cpu", threads=1)


@pytest.fixture(scope="module")
def two_windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    picture = Picture(steady(26, 10), last=Fraction(1, 10))
    return write_video(tmp_path_factory.mktemp("two") / "x.mp4", picture)


def by_candidate(takes: list[Take]) -> dict[int, Take]:
    return {take.candidate: take for take in takes}


def guided(feeds: Feeds) -> bool:
    """Whether a call of `step` computes anything for [NULL]."""
    (groups,) = {len(feeds[name]) for name in ("keys", "values", "frame_index")}
    return groups == 2


# ---------------------------------------------------------------- the plan of a window
def test_the_paper_takes_its_steps_in_one_span() -> None:
    (span,) = spans(SamplingConfig())
    assert (span.steps, span.guided, span.candidates, span.keep) == (range(32), True, 1, 1)
    assert not spans(SamplingConfig(guidance=0))[0].guided


def test_spans_of_a_budget() -> None:
    found = spans(SamplingConfig(candidates=10, budget=(4, 1)))
    assert [(s.steps, s.candidates, s.keep) for s in found] == [
        (range(0, 10), 10, 4),
        (range(10, 21), 4, 1),
        (range(21, 32), 1, 1),
    ]


def test_spans_of_guidance_and_budget_together() -> None:
    found = spans(SamplingConfig(steps=8, candidates=6, budget=(2,), guidance_from=0.25, guidance_until=0.75))
    steps = [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert [(s.steps.start, s.steps.stop) for s in found] == steps
    assert [s.guided for s in found] == [False, True, True, False]
    assert [(s.candidates, s.keep) for s in found] == [(6, 6), (6, 2), (2, 2), (2, 2)]


@pytest.mark.parametrize("steps", range(3, 40))
def test_every_number_of_a_budget_has_a_step_of_its_own(steps: int) -> None:
    kept = [s.keep for s in spans(SamplingConfig(steps=steps, candidates=9, budget=(5, 2)))]
    assert kept == [5, 2, 2]


# ---------------------------------------------------------------- dropping
def test_who_stays_has_the_tokens_and_the_score_it_would_have_had(pipeline: Pipeline, two_windows: Path) -> None:
    plain = by_candidate(pipeline.generate(two_windows, PLAIN))
    for budget, takes in (((3, 1), 1), ((3, 2), 2), ((4,), 3)):
        kept = pipeline.generate(two_windows, replace(PLAIN, budget=budget, takes=takes))
        assert len(kept) == takes
        for take in kept:
            same = plain[take.candidate]
            assert (take.codes.tobytes(), take.score) == (same.codes.tobytes(), same.score)
            assert take.audio.tobytes() == same.audio.tobytes()
        assert [t.score for t in kept] == sorted(t.score for t in kept)


def test_the_worst_previews_go(pipeline: Pipeline, two_windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previews = [0.5, 0.1, np.nan, 0.2, 0.4]  # of five; 1, 3 and 4 stay
    later = [0.3, 0.3]  # equals: the earlier stays
    distances = iter([*previews, 0.9, *later, 0.25, 0.75])  # then the one that is left, in two windows
    monkeypatch.setattr(candidates, "scav_distance", lambda *_: next(distances))
    (take,) = pipeline.generate(two_windows, BUDGET)
    assert take.candidate == 3 and take.score == 0.5 and next(distances, None) is None
    report = take.report.to_dict()
    assert report["ranking"] == [3] and report["scores"] == [None, None, None, 0.5, None]
    assert report["sampling"]["budget"] == [3, 1]
    assert report["dropped"] == [
        {"candidate": 0, "steps": 2, "preview": 0.5},
        {"candidate": 2, "steps": 2, "preview": None},
        {"candidate": 1, "steps": 4, "preview": 0.9},
        {"candidate": 4, "steps": 4, "preview": 0.3},
    ]


def test_what_is_dropped_is_not_paid_for(pipeline: Pipeline, two_windows: Path) -> None:
    spy, codec = Spy(pipeline, "step"), Spy(pipeline, "codec_decoder")
    pipeline.generate(two_windows, BUDGET)
    assert [len(f["codes"]) for f in spy.feeds] == [1, 5, 3, 3, 1, 1] + 6 * [1]  # the first step is shared
    assert len(codec.feeds) == 5 + 3 + 1 + 1 + 1  # previews, the score of each window, the sound


def test_candidates_that_are_alike_share_a_step(
    pipeline: Pipeline, two_windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get the tokens and log-probabilities that rows of their own get."""
    spy = Spy(pipeline, "step")
    shared = by_candidate(pipeline.generate(two_windows, PLAIN))
    rows = [len(feeds["codes"]) for feeds in spy.feeds]
    assert rows == [1] + 5 * [5] + 6 * [5]  # in the second window, what is known differs
    monkeypatch.setattr(Bundle, "draws_all_positions", True)
    for number, apart in by_candidate(pipeline.generate(two_windows, PLAIN)).items():
        assert shared[number].codes.tobytes() == apart.codes.tobytes()
        assert np.array_equal(shared[number].activity, apart.activity, equal_nan=True)
    assert [len(feeds["codes"]) for feeds in spy.feeds[len(rows) :]] == 12 * [5]


def test_a_budget_in_small_batches(pipeline: Pipeline, two_windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = pipeline.generate(two_windows, BUDGET)
    monkeypatch.setattr(candidates, "STEP_MEMORY", 1)
    seen: list[Progress] = []
    (small,) = pipeline.generate(two_windows, BUDGET, seen.append)
    assert (small.candidate, small.score, small.codes.tobytes()) == (
        whole.candidate,
        whole.score,
        whole.codes.tobytes(),
    )
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    assert len([f for f in fractions if f < 0.5]) > len(fractions) / 2  # the first window is most of the work


def test_a_batch_that_fails_after_some_were_dropped(
    pipeline: Pipeline, two_windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,), spy = pipeline.generate(two_windows, BUDGET), Spy(pipeline, "step")
    execute = spy.execute

    def small(fixed: Feeds, varying: Feeds, sizes: dict[str, int]) -> Feeds:
        if len(varying["codes"]) == 3:
            raise EngineError("out of memory")
        return execute(fixed, varying, sizes)

    monkeypatch.setattr(spy, "execute", small)
    (take,) = pipeline.generate(two_windows, BUDGET)
    assert take.codes.tobytes() == whole.codes.tobytes() and len(take.report.warnings) == 1


def test_conditions_are_bound_once_for_all_batches_of_a_size(
    pipeline: Pipeline, two_windows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy, bound = Spy(pipeline, "step"), []
    bind = spy.bind
    monkeypatch.setattr(spy, "bind", lambda fixed: bound.append(fixed) or bind(fixed))
    monkeypatch.setattr(candidates.Candidates, "_batch_size", lambda self, length: 2)
    pipeline.generate(two_windows, BUDGET)
    assert len(bound) == 3  # batches of 2 + 2 + 1, then 2 + 1, then 1; and the second window's 1


# ---------------------------------------------------------------- guidance in an interval
def test_outside_its_interval_guidance_costs_nothing(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    spy = Spy(pipeline, "step")
    pipeline.generate(make_video(20), SamplingConfig(steps=4, guidance_from=0.25, guidance_until=0.75))
    assert [guided(f) for f in spy.feeds] == [False, True, True, False]


def test_an_empty_interval_is_no_guidance(pipeline: Pipeline, make_video: Callable[..., Path]) -> None:
    sounds = [
        pipeline.generate(make_video(20), SamplingConfig(steps=4, **options))[0].audio.tobytes()
        for options in ({"guidance": 0}, {"guidance_until": 0.0}, {"guidance_from": 1.0}, {})
    ]
    assert sounds[0] == sounds[1] == sounds[2] != sounds[3]


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize("budget", [(5,), (4, 4), (3, 4), (0,), (-1,), (2.0,), (True,), [3], "3", None, (1,)])
def test_budgets_that_cannot_be(budget: object) -> None:
    with pytest.raises(OptionError, match=r"budget is .*; it must be falling whole numbers such .*\(5\).* takes \(2\)"):
        SamplingConfig(candidates=5, takes=2, budget=budget)


def test_other_options_that_cannot_be() -> None:
    with pytest.raises(OptionError, match="budget has 3 numbers; with 3 steps there is room for 2 at most"):
        SamplingConfig(steps=3, candidates=5, budget=(3, 2, 1))
    with pytest.raises(OptionError, match=r"guidance_until is 0\.2; it must be a number from 0\.5 to 1"):
        SamplingConfig(guidance_from=0.5, guidance_until=0.2)
    for schedule in ("cosinus", None, 3):
        with pytest.raises(OptionError, match=r"schedule is .*; choose from cosine, linear, square, cubic"):
            SamplingConfig(schedule=schedule)


def test_a_budget_in_words() -> None:
    assert read_budget("") == () and read_budget("4") == (4,) and read_budget("40,4,1") == (40, 4, 1)
    for text in ("4;1", "a", "4,", "1.5"):
        with pytest.raises(OptionError, match="separated by commas, such as 4,1"):
            read_budget(text)
