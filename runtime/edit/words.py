"""Words that say what is to be heard: how they are written, where they apply, and what they do to the conditions."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, inf
from typing import Any

import numpy as np

from engines.contract import FloatArray, ModelConfig
from engines.manifest import Manifest
from engines.words.prompts import Prompt, WordVectors, mixture, prompt_features
from engines.words.vocabulary import Vocabulary, folded
from runtime.bundle import Bundle
from runtime.edit.request import FeatureHook, GenerationRequest, RangeLike, as_range
from runtime.edit.timecode import TimeRange
from runtime.errors import OptionError
from runtime.sampling import SamplingConfig, number
from runtime.windows import Window, start_second

WEIGHT = re.compile(r"\d+(?:\.\d*)?|\.\d+")
LONGEST = 1000  # characters of a wish


def read_mixture(text: str) -> dict[str, float]:
    """Read a wish: "dog", or several words with commas, and weights if need be: "dog:2, engine". Raises OptionError."""
    if not isinstance(text, str) or len(text) > LONGEST:
        raise OptionError(f"a wish must be a text of at most {LONGEST} characters")
    found: dict[str, tuple[str, float]] = {}
    for part in text.split(","):
        word, colon, weight = (piece.strip() for piece in part.partition(":"))
        if not word:
            raise OptionError(f"{text!r} has no word at one place; write words with commas between them: dog, engine")
        if colon and not WEIGHT.fullmatch(weight):
            raise OptionError(f"{weight!r} is not a weight of {word!r}; write a number above 0 after the colon: dog:2")
        named, sum_before = found.get(folded(word), (word, 0.0))
        found[folded(word)] = named, sum_before + (float(weight) if colon else 1.0)
    return dict(found.values())


@dataclass(frozen=True)
class Words:
    """What is to be heard, in words. Raises OptionError for a text that cannot be read.

    A wish is a word of the bundle's vocabulary, or several with commas, which are mixed: "dog:2, engine". If the bundle
    has a text encoder, any other text is a word, too.
    """

    prompt: str | None = None  # for all that is made anew; None: nothing, or what the take has; "": not any more
    weight: float = 1.0  # of `prompt` and `at`, 0 to 1: 1 replaces what is seen, less blends with it
    avoid: str | None = None  # what guidance leads away from; None: nothing, or what the take has; "": not any more
    at: Sequence[tuple[RangeLike, str]] = ()  # wishes for ranges, from the start of the sound; later ones win

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", number("prompt-weight", self.weight, 0, 1))
        object.__setattr__(self, "at", tuple((as_range(where), text) for where, text in self.at))
        for text in self.texts:
            read_mixture(text)
        object.__setattr__(self, "at", tuple((where, text.strip()) for where, text in self.at))

    @property
    def texts(self) -> list[str]:
        """All wishes."""
        return [text for text in (self.prompt, self.avoid) if text] + [text for _, text in self.at]

    def check(self, vocabulary: Vocabulary, free_text: bool) -> None:
        """Raise OptionError for a word that the bundle does not know. `free_text`: it has a text encoder."""
        if not free_text:
            for text in self.texts:
                mixture(vocabulary, read_mixture(text))


@dataclass(frozen=True)
class PlacedPrompt:
    """A wish for features with begin <= time < end, in seconds from the start of the sound; None: no limit."""

    prompt: str
    weight: float
    begin: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        read_mixture(self.prompt)
        number("weight", self.weight, 0, 1)
        begin, end = (0.0 if x is None else number("time", x, 0, inf) for x in (self.begin, self.end))
        if self.end is not None and begin >= end:
            raise OptionError(f"the words {self.prompt!r} end before they begin")


@dataclass(frozen=True)
class PlacedWords:
    """All wishes of a sound. Of prompts that overlap, the last one wins."""

    prompts: tuple[PlacedPrompt, ...] = ()
    avoid: str = ""

    def __bool__(self) -> bool:
        return bool(self.prompts or self.avoid)

    def __str__(self) -> str:
        """A short text for people: "dog; door (from 1.00 s to 2.00 s); not music"."""
        parts = []
        for p in self.prompts:
            begin = "" if p.begin is None else f"from {p.begin:.2f} s"
            where = f" ({begin}{'' if p.end is None else f' to {p.end:.2f} s'})" if begin else ""
            parts.append(f"{p.prompt}{'' if p.weight == 1 else f' at {p.weight:g}'}{where}")
        return "; ".join([*parts, *([f"not {self.avoid}"] if self.avoid else [])])

    def facts(self) -> dict[str, Any] | None:
        """What the report says: prompts (prompt, weight, begin, end) and avoid; None without words."""
        return {"prompts": [vars(p) for p in self.prompts], "avoid": self.avoid} if self else None

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any] | None) -> "PlacedWords":
        """The words of an earlier take's report. Raises KeyError, TypeError, OptionError if it is damaged."""
        if facts is None:
            return cls()
        return cls(tuple(PlacedPrompt(**values) for values in facts["prompts"]), facts["avoid"])


NO_WORDS = PlacedWords()


def place_words(
    words: Words | None,
    request: GenerationRequest,
    changed: tuple[float | None, float | None],
    seconds_of: Callable[[TimeRange], tuple[float, float]],
) -> PlacedWords:
    """The words of a sound: those that are given now, and those that the earlier take keeps.

    `changed` is the part that is made anew, in seconds from the sound's start; `seconds_of` finds a range.
    """
    placed = PlacedWords.of_facts(None if request.take is None else request.take.report.words)
    if words is None:
        return placed
    kept = () if words.prompt == "" or (changed == (None, None) and words.prompt) else placed.prompts
    new = [PlacedPrompt(words.prompt, words.weight, *changed)] if words.prompt else []
    new += [PlacedPrompt(text, words.weight, *seconds_of(as_range(where))) for where, text in words.at]
    return PlacedWords((*kept, *new), placed.avoid if words.avoid is None else words.avoid)


class BundleWords:
    """Vectors of words: from the bundle's vocabulary, or from its text encoder if it has one."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.warnings: list[str] = []

    def vector(self, word: str) -> FloatArray:
        """The vector [frame_dim] of a word. Raises OptionError with suggestions if the bundle does not know it."""
        vocabulary, tokenise = self.bundle.vocabulary, self.bundle.tokeniser
        if word in vocabulary or tokenise is None:
            return vocabulary.vector(word)
        close = vocabulary.similar(word)
        if close:
            self.warnings.append(
                f"the vocabulary has no {word!r}, so the text encoder reads it; did you mean {', '.join(close)}?"
            )
        (embedding,) = self.bundle.run("text_encoder", tokens=tokenise(word))
        return np.asarray(embedding[0], np.float32)


def with_words(
    request: GenerationRequest, words: PlacedWords, sampling: SamplingConfig, bundle: Callable[[], Bundle]
) -> tuple[GenerationRequest, list[str]]:
    """The request with hooks that do what the words say, and warnings. Hooks that it has already stay.

    Raises OptionError for words that the bundle does not know, or that cannot be followed.
    """
    if not words:
        return request, []
    vectors = BundleWords(bundle())
    if words.prompts and request.picture is None:
        request = replace(request, picture=_picture(words.prompts, vectors, vectors.bundle.config))
    if words.avoid and request.other_side is None:
        check_guided(words.avoid, sampling, vectors.bundle.manifest)
        request = replace(request, other_side=_other_side(words.avoid, vectors))
    return request, vectors.warnings


def check_guided(avoid: str, sampling: SamplingConfig, manifest: Manifest) -> None:
    """Raise OptionError if no step is guided: `avoid` works through guidance."""
    if manifest.distilled_guidance:
        raise OptionError(
            f"avoid is {avoid!r}, and the guidance of the bundle {manifest.name} is distilled, so it cannot lead away "
            'from words; drop it with --avoid ""'
        )
    if not sampling.guidance or round(sampling.guidance_from * sampling.steps) >= round(
        sampling.guidance_until * sampling.steps
    ):
        raise OptionError(
            f"avoid is {avoid!r}, and no step has guidance, which leads away from it; give --guidance 3, or drop it "
            'with --avoid ""'
        )


def _picture(prompts: Sequence[PlacedPrompt], vectors: WordVectors, config: ModelConfig) -> FeatureHook:
    made = [
        Prompt(mixture(vectors, read_mixture(p.prompt)), p.weight, *_features_in(p.begin, p.end, config.frame_fps))
        for p in prompts
    ]

    def picture(window: Window, seen: FloatArray) -> FloatArray:
        return prompt_features(config, seen, made, start_second(config, window.start))

    return picture


def _other_side(avoid: str, vectors: WordVectors) -> FeatureHook:
    vector = mixture(vectors, read_mixture(avoid))

    def other_side(window: Window, seen: FloatArray) -> FloatArray:
        return np.ascontiguousarray(np.broadcast_to(vector, seen.shape))

    return other_side


def _features_in(begin: float | None, end: float | None, fps: float) -> tuple[float, float]:
    """The range, or that of the feature at its middle if it is too short to hold the time of one, (k + 1/2) / fps."""
    if begin is None or end is None or ceil(begin * fps - 0.5) < end * fps - 0.5:
        return -inf if begin is None else begin, inf if end is None else end
    feature = floor((begin + end) / 2 * fps)
    return feature / fps, (feature + 1) / fps
