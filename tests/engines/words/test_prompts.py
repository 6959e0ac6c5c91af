"""Frame features made from words: mixtures, ranges of time, blends with what is seen."""

from math import nan

import numpy as np
import pytest

from engines.base import OptionError
from engines.contract import ModelConfig
from engines.words.prompts import Prompt, mixture, prompt_features
from engines.words.vocabulary import Vocabulary

CONFIG = ModelConfig(frame_dim=4, frame_fps=8)
EYE = np.eye(4, dtype=np.float32)
NULL = np.array([0.3, 0.3, 0, 0], np.float32)
VOCABULARY = Vocabulary(("dog", "cat"), EYE[:2], NULL)


def seen(n: int = 16) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((1, n, 4)).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_one_word_is_its_own_vector_whatever_its_weight() -> None:
    assert np.array_equal(mixture(VOCABULARY, {"Dog": 0.2}), EYE[0])
    assert np.array_equal(mixture(VOCABULARY, {"[NULL]": 5}), NULL)  # it keeps its length


def test_a_mixture_has_length_one_and_the_weights_directions() -> None:
    mixed = mixture(VOCABULARY, {"dog": 3, "cat": 1})
    assert np.linalg.norm(mixed) == pytest.approx(1) and mixed[0] == pytest.approx(3 * mixed[1])
    assert np.allclose(mixed, mixture(VOCABULARY, {"dog": 0.75, "cat": 0.25})) and mixed.dtype == np.float32


@pytest.mark.parametrize("words", [{}, {"dog": 0}, {"dog": -1, "cat": 1}, {"dog": nan}, {"dgo": 1}])
def test_wrong_mixtures_are_refused(words: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        mixture(VOCABULARY, words)


def test_a_prompt_replaces_what_is_seen_in_its_range_only() -> None:
    before = seen()
    after = prompt_features(CONFIG, before, [Prompt(EYE[0], begin=0.5, end=1.0)])
    inside = np.arange(16) // 4 == 1  # features at 1/16, 3/16, ... s: those from 9/16 to 15/16
    assert np.array_equal(after[0, inside], np.tile(EYE[0], (4, 1)))
    assert np.array_equal(after[0, ~inside], before[0, ~inside]) and after.dtype == np.float32


def test_ranges_count_from_the_beginning_of_the_video() -> None:
    later = prompt_features(CONFIG, seen(), [Prompt(EYE[0], begin=8.5, end=9.0)], start=8.0)
    assert np.array_equal(later, prompt_features(CONFIG, seen(), [Prompt(EYE[0], begin=0.5, end=1.0)]))


def test_a_weight_blends_and_keeps_length_one() -> None:
    before = seen()
    half = prompt_features(CONFIG, before, [Prompt(EYE[0], weight=0.5)])
    assert np.allclose(np.linalg.norm(half, axis=-1), 1, atol=1e-6)
    wanted = before + EYE[0]
    assert np.allclose(half, wanted / np.linalg.norm(wanted, axis=-1, keepdims=True), atol=1e-6)
    assert np.array_equal(prompt_features(CONFIG, before, [Prompt(EYE[0], weight=0)]), before)
    assert np.array_equal(prompt_features(CONFIG, before, []), before)


def test_later_prompts_change_earlier_ones() -> None:
    prompts = [Prompt(EYE[0]), Prompt(EYE[1], begin=1.0)]
    after = prompt_features(CONFIG, seen(), prompts)[0]
    assert np.array_equal(after[:8], np.tile(EYE[0], (8, 1))) and np.array_equal(after[8:], np.tile(EYE[1], (8, 1)))


def test_opposite_directions_do_not_divide_by_zero() -> None:
    after = prompt_features(CONFIG, np.tile(-EYE[0], (1, 3, 1)), [Prompt(EYE[0], weight=0.5)])
    assert np.array_equal(after, np.zeros_like(after))


@pytest.mark.parametrize(
    "changes", [{"weight": 1.1}, {"weight": -0.1}, {"weight": nan}, {"begin": 2.0, "end": 2.0}, {"end": nan}]
)
def test_wrong_prompts_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        Prompt(EYE[0], **changes)


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(OptionError, match=r"shape \[4\], not \[3\]"):
        prompt_features(CONFIG, seen(), [Prompt(np.ones(3, np.float32))])
