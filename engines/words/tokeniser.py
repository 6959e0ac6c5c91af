"""CLIP's tokeniser in plain Python: byte-level BPE, as in OpenAI's CLIP and open_clip (both MIT).

A bundle with a text encoder has its table: {"context": 77, "merges": ["i n", "t h", ...], "origin", "licence"}.
The official tokenisers clean text with ftfy. `cleaned` does the same to widths, ligatures, quotes, control characters,
HTML entities and Unicode's composition (NFC), but does not repair text that was decoded with a wrong encoding. What is
a letter or a number comes from Python's Unicode tables, not from the package regex; they differ only in characters that
one of the two does not know yet.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from engines.contract import Int32Array, ModelConfig
from engines.manifest import ManifestError, repair_hint

FILE = "tokeniser.json"  # its usual name; the manifest has the real one
START, END = "<start_of_text>", "<end_of_text>"
END_OF_WORD = "</w>"
LARGEST = 10_000_000  # bytes of a table
SPECIAL = re.compile(rf"{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d", re.IGNORECASE)
LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ"
CONTROL = (*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
TERMINAL = re.compile("\033\\[((?:\\d|;)*)([a-zA-Z])")  # colours and other escapes
REPLACED: dict[int, str | None] = {
    **{ord(c): unicodedata.normalize("NFKC", c) for c in (*LIGATURES, "\u3000", *map(chr, range(0xFF01, 0xFFF0)))},
    **dict.fromkeys(CONTROL),
    **dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'"),
    **dict.fromkeys(range(0x201C, 0x2020), '"'),
    **dict.fromkeys((0x85, 0x2028, 0x2029), "\n"),
    ord("ŉ"): "'n",
    ord("ﬅ"): "ſt",
}


def cleaned(text: str) -> str:
    """Text as the tokeniser sees it: without odd characters and HTML entities, in lower case, single spaces."""
    if "<" not in text:
        text = html.unescape(text)
    text = TERMINAL.sub("", text).translate(REPLACED)
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # UTF-8 has no halves of pairs
    text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(text.split()).lower()


@cache
def byte_symbols() -> list[str]:
    """A printable character for each byte, as in GPT-2: printable Latin-1 as it is, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    symbols = {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(others)}
    return [symbols[b] for b in range(256)]


def pieces(text: str) -> Iterator[str]:
    """Cut cleaned text into words, single digits, and runs of other characters. Contractions are pieces of their own.

    The same as findall of `<start_of_text>|<end_of_text>|'s|...|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+`.
    """
    kinds = [" " if c.isspace() else unicodedata.category(c)[0] for c in text]
    kinds = [k if k in " LN" else "." for k in kinds]
    begin = 0
    while begin < len(text):
        special = SPECIAL.match(text, begin)
        end = special.end() if special else begin + 1
        while not special and kinds[begin] in "L." and end < len(text) and kinds[end] == kinds[begin]:
            end += 1
        if kinds[begin] != " ":
            yield text[begin:end]
        begin = end


class Tokeniser:
    """Free text -> the tokens of the graph `text_encoder`."""

    def __init__(self, merges: Sequence[tuple[str, str]], context: int) -> None:
        """`merges`: pairs of symbols, the most frequent first; `context`: tokens of one text."""
        symbols = sorted(byte_symbols(), key=ord)
        symbols = [*symbols, *(s + END_OF_WORD for s in symbols), *(a + b for a, b in merges), START, END]
        self.context = context
        self._ids = {symbol: n for n, symbol in enumerate(symbols)}
        self._ranks = {pair: n for n, pair in enumerate(merges)}
        self.size = len(symbols)  # of the text encoder's table; START and END are its last rows

    @classmethod
    def load(cls, path: Path, config: ModelConfig) -> Self:
        """Read and check a bundle's table. Raises ManifestError, which names the file and how to repair it."""
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f"it has more than {LARGEST} bytes")
            table = json.loads(path.read_text(encoding="utf-8"))
            merges = [tuple(merge.split(" ")) for merge in table["merges"]]
            wrong = [" ".join(merge) for merge in merges if len(merge) != 2 or "" in merge]
            if wrong or len(set(merges)) != len(merges):
                raise ValueError(f"the merge {wrong[0]!r} is not a pair" if wrong else "it lists a merge twice")
            if table["context"] != config.text_context:
                raise ValueError(f"it is for {table['context']} tokens, the text encoder for {config.text_context}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ManifestError(f"{path} is not a tokeniser ({error}); {repair_hint(path.parent)}") from error
        return cls([(a, b) for a, b in merges], config.text_context)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without start and end."""
        return [n for piece in pieces(cleaned(text)) for n in self._encode_piece(piece)]

    def _encode_piece(self, piece: str) -> list[int]:
        if piece in (START, END):
            return [self._ids[piece]]
        symbols = [byte_symbols()[b] for b in piece.encode("utf-8")]
        symbols[-1] += END_OF_WORD
        never = len(self._ranks)
        while len(symbols) > 1:
            best = min(pairwise(symbols), key=lambda pair: self._ranks.get(pair, never))
            if best not in self._ranks:
                break
            symbols = _merged(symbols, best)
        return [self._ids[symbol] for symbol in symbols]

    def __call__(self, text: str) -> Int32Array:
        """Tokens [1, context]: start, the tokens of the text, end, then zeros. A longer text is cut before its end."""
        ids = [*[self._ids[START], *self.encode(text)][: self.context - 1], self._ids[END]]
        tokens = np.zeros((1, self.context), np.int32)
        tokens[0, : len(ids)] = ids
        return tokens


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of a pair, from the left."""
    out: list[str] = []
    i = 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            out.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out
