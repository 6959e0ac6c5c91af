"""Made-up frame features: the classifier reads what they were made to show; routes, spans and quantiles."""

import numpy as np
import pytest

from runtime.errors import OptionError
from train.synthetic.concepts.compose import answer, draw_shown, draw_spans, looks
from train.synthetic.concepts.features import (
    NORM,
    ClassifierHead,
    FeatureMaker,
    Settings,
    Span,
    class_roots,
    concept_roots,
    unit_features,
)
from train.synthetic.concepts.table import CLASSES, Concept, membership

WIDTH = 64
TABLE = [Concept("dog", "burst", (0, 1), ("bark",)), Concept("harp", "notes", (2,), ("pluck",))]


def head(rng: np.random.Generator) -> ClassifierHead:
    return ClassifierHead(rng.standard_normal((CLASSES, WIDTH)).astype(np.float32) / 4, np.zeros(CLASSES, np.float32))


def maker(rng: np.random.Generator, **settings: object) -> FeatureMaker:
    still = np.abs(rng.standard_normal((2, WIDTH))).astype(np.float32)
    backgrounds = [
        row * rng.uniform(0.95, 1.05, (n, WIDTH)).astype(np.float32) for row, n in zip(still, (5, 30), strict=True)
    ]
    return FeatureMaker(TABLE, head(rng), backgrounds, Settings(**settings))  # type: ignore[arg-type]


def test_the_classifier_reads_the_concept_that_was_made() -> None:
    rng = np.random.default_rng(0)
    made = maker(rng, certainty=(80.0, 20.0), distractors=0.0, frame_noise=0.05, drift=0.05)
    matrix = membership(TABLE)
    for index in (0, 1):
        shares = [
            (made.head.probabilities(made.pooled([Span(0, 12, {index: 1.0})], rng)) @ matrix.T).mean(0)
            for _ in range(20)
        ]
        assert np.mean(shares, 0)[index] > 0.6 and np.mean(shares, 0)[1 - index] < 0.1


def test_certainty_sets_the_probability() -> None:
    rng = np.random.default_rng(1)
    found = []
    for wanted in (0.3, 0.8):
        made = maker(rng, certainty=(wanted * 1e4, (1 - wanted) * 1e4), distractors=0.0, drift=0.0, frame_noise=0.0)
        steady = made.backgrounds[0][:1]
        made.backgrounds = [steady]
        found.append(made.head.probabilities(made.pooled([Span(0, 3, {1: 1.0})], rng))[:, 2].mean())
    assert found == pytest.approx([0.3, 0.8], abs=0.05)


def test_a_concept_of_many_classes_is_shown_clearly() -> None:
    """Without a choice among its classes, their rows would cancel each other and distractors would win."""
    rng = np.random.default_rng(8)
    made = maker(rng)
    made.table.append(Concept("animal", "burst", tuple(range(100, 220)), ("call",)))
    matrix = membership(made.table)
    found = [made.head.probabilities(made.pooled([Span(0, 4, {2: 1.0})], rng)) @ matrix[2] for _ in range(60)]
    assert np.median(np.mean(found, axis=1)) > 0.3


def test_two_concepts_share_a_frame_and_cuts_change_them() -> None:
    rng = np.random.default_rng(2)
    made = maker(rng, certainty=(80.0, 20.0), distractors=0.0, frame_noise=0.05, drift=0.05)
    matrix = membership(TABLE)
    both = made.head.probabilities(made.pooled([Span(0, 40, {0: 0.5, 1: 0.5})], rng)) @ matrix.T
    assert (both.mean(0) > 0.02).all()
    cut = made.pooled([Span(0, 10, {0: 1.0}), Span(10, 30, {1: 1.0})], rng)
    shares = made.head.probabilities(cut) @ matrix.T
    assert cut.shape == (30, WIDTH) and cut.dtype == np.float32 and (cut >= 0).all()
    assert shares[:10, 0].mean() > shares[:10, 1].mean() and shares[10:, 1].mean() > shares[10:, 0].mean()


def test_nothing_known_shows_no_concept() -> None:
    rng = np.random.default_rng(3)
    made = maker(rng)
    shares = [made.head.probabilities(made.pooled([Span(0, 8)], rng)) @ membership(TABLE).sum(0) for _ in range(40)]
    assert np.mean(shares) < 0.1


def test_the_same_generator_makes_the_same_features() -> None:
    spans = [Span(0, 9, {0: 1.0})]
    one, two = (maker(np.random.default_rng(4)).pooled(spans, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("spans", [[], [Span(1, 2)], [Span(0, 2), Span(3, 4)]])
def test_spans_with_gaps_are_refused(spans: list[Span]) -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(OptionError, match="without a gap"):
        maker(rng).pooled(spans, rng)


@pytest.mark.parametrize(("end", "weight"), [(0, 1.0), (3, 0.0), (3, -1.0), (3, float("nan"))])
def test_spans_that_show_nothing_are_refused(end: int, weight: float) -> None:
    with pytest.raises(OptionError, match="one or more frames, and weights above 0"):
        Span(0, end, {0: weight})


def test_what_does_not_fit_is_refused() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(OptionError, match=r"got \[10, 4\] and \[10\]"):
        ClassifierHead(np.zeros((10, 4), np.float32), np.zeros(10, np.float32))
    for backgrounds in ([], [np.zeros((3, 5), np.float32)], [np.zeros((0, WIDTH), np.float32)]):
        with pytest.raises(OptionError, match=r"features \[N, 64\]"):
            FeatureMaker(TABLE, head(rng), backgrounds)


def test_the_norm_of_pooled_features_does_not_count() -> None:
    rng = np.random.default_rng(8)
    classifier, pooled = head(rng), np.abs(rng.standard_normal((4, WIDTH))).astype(np.float32)
    logits = NORM * unit_features(pooled) @ classifier.weight.T
    expected = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = classifier.probabilities(pooled)
    np.testing.assert_allclose(probabilities, expected / expected.sum(1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(probabilities, classifier.probabilities(7 * pooled), rtol=1e-4)


def test_routes_have_norm_one() -> None:
    rng = np.random.default_rng(9)
    probabilities = rng.dirichlet(np.full(CLASSES, 0.01), 5).astype(np.float32)
    for features in (class_roots(probabilities), class_roots(probabilities, 2), unit_features(probabilities)):
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(class_roots(probabilities) ** 2, probabilities, atol=1e-5)
    concepts = concept_roots(probabilities, membership(TABLE))
    assert concepts.shape == (5, 3)
    np.testing.assert_allclose(concepts[:, 0] ** 2, probabilities[:, :2].sum(1), atol=1e-6)
    np.testing.assert_allclose((concepts**2).sum(1), 1, rtol=1e-4)


def test_drawn_spans_cover_all_frames_and_have_answers() -> None:
    rng = np.random.default_rng(10)
    kinds = set()
    for _ in range(300):
        spans = draw_spans(5, 20, rng)
        assert spans[0].begin == 0 and spans[-1].end == 20 and len(spans) <= 2
        for span in spans:
            kinds.add((len(spans), len(span.shown)))
            shares = answer(span, 5)
            assert shares.sum() == pytest.approx(1) and shares[-1] == (not span.shown)
            assert all(shares[k] == pytest.approx(w) for k, w in span.shown.items())
    assert kinds == {(a, b) for a in (1, 2) for b in (0, 1, 2)}
    assert all(len(draw_shown(1, rng)) <= 1 for _ in range(50))


def test_quantiles_of_known_sequences() -> None:
    sure, even = np.eye(CLASSES, dtype=np.float32)[[0, 0]], np.full((2, CLASSES), 1 / CLASSES, np.float32)
    found = looks([sure, even], np.arange(CLASSES) < 100)
    assert found["entropy"][0] == pytest.approx(0, abs=1e-3) and found["entropy"][-1] == pytest.approx(6.908, abs=1e-2)
    assert found["highest"][-1] == 1 and found["five_highest"][0] == pytest.approx(0.005)
    assert found["cosine_next"] == found["cosine_mean"] == [1, 1, 1, 1, 1]
    assert found["cosine_between"][0] == pytest.approx(1000**-0.5, abs=1e-3)
    assert found["in_table"][2] == pytest.approx(0.55)
