"""The flags for words: --prompt, --prompt-weight, --at, --avoid. Words are looked up before the engines are opened."""

import argparse
from argparse import Namespace
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from engines.manifest import MINI, Manifest
from engines.words.vocabulary import Vocabulary
from runtime.edit.words import Words, check_guided
from runtime.errors import ManifestError, OptionError
from runtime.sampling import SamplingConfig

FLAGS = ("prompt", "prompt_weight", "at", "avoid")


def add_word_options(add: Callable[..., object]) -> None:
    """Add the flags for words."""
    add("--prompt", metavar="WORDS", default=argparse.SUPPRESS,
        help='what is to be heard, in place of what is seen: a word of the bundle ("dog"; `maskvat info --words` lists '
        'them), a mixture ("dog:2, engine"), or any text if the bundle has a text encoder')  # fmt: skip
    add("--prompt-weight", type=float, metavar="X", default=argparse.SUPPRESS,
        help="of --prompt and --at, 0 to 1: 1 replaces what is seen, less blends with it (default: 1)")  # fmt: skip
    add("--at", nargs=2, action="append", metavar=("IN-OUT", "WORDS"), default=argparse.SUPPRESS,
        help="the same for a range, in place of --prompt; seconds and frames count from the start of the sound; may be "
        "repeated")  # fmt: skip
    add("--avoid", metavar="WORDS", default=argparse.SUPPRESS,
        help="what is not to be heard: guidance leads away from these words")  # fmt: skip


def given_flags(args: Namespace) -> list[str]:
    """The flags for words that were given."""
    return [name for name in FLAGS if hasattr(args, name)]


def read_words(args: Namespace) -> Words | None:
    """What the flags ask for; None if none was given. Raises OptionError."""
    if not given_flags(args):
        return None
    at = [(where, text) for where, text in getattr(args, "at", ())]
    words = Words(getattr(args, "prompt", None), getattr(args, "prompt_weight", 1.0), getattr(args, "avoid", None), at)
    if hasattr(args, "prompt_weight") and not (words.prompt or at):
        raise OptionError("--prompt-weight weights the words of --prompt or --at; give one of them")
    return words


class KnownWords:
    """The words of the bundle that the flags name. It is read when words are first looked up."""

    def __init__(self, args: Namespace) -> None:
        self._folder: Path = getattr(args, "engines", MINI)

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest.load(self._folder)

    @cached_property
    def _bundle(self) -> tuple[Vocabulary, bool]:
        manifest = self._manifest
        return Vocabulary.load(self._folder / manifest.vocabulary, manifest.config), bool(manifest.tokeniser)

    def listed(self) -> tuple[list[str], bool]:
        """All words, and whether any other text is known too. No words if the bundle cannot be read."""
        try:
            vocabulary, any_text = self._bundle
        except ManifestError:
            return [], False
        return list(vocabulary.words), any_text

    def check(self, words: Words | None, sampling: SamplingConfig) -> None:
        """Raises OptionError for a word that the bundle does not know, ManifestError."""
        if words is not None and words.texts:
            if words.avoid:
                check_guided(words.avoid, sampling, self._manifest)
            words.check(*self._bundle)
