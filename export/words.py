"""The words of a bundle: vectors for its vocabulary, and the tokeniser of its text encoder.

A system whose frame encoder gives class probabilities knows the project's concepts. One with a text encoder knows any
word. Others know none. Every vocabulary has `[NULL]`, the network's own vector for "nothing is known".
"""

import gzip
import json
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engines.contract import FloatArray
from engines.words.tokeniser import Tokeniser
from engines.words.vocabulary import NULL_WORD, folded
from export import ExportError
from train.models.clip_text import ClipTextConfig
from train.synthetic.concepts.features import concept_vectors
from train.synthetic.concepts.table import Concept, read_table

TEMPLATE = "a photo of a {}"  # CLIP was trained on captions of pictures
BATCH = 16  # texts that the text encoder gets at once
PACKAGE, MERGES = "open_clip_torch", "bpe_simple_vocab_16e6.txt.gz"
SYMBOLS = 256 + 256 + 2  # ids that are not merges: bytes, bytes that end a word, start and end


def vocabulary_vectors(components: dict[str, nn.Module], words: Path | None) -> dict[str, FloatArray]:
    """Word -> vector [frame_dim], in the order of the table or of the file `words`. Raises ExportError."""
    null = components["maskvat"].null_frame.detach().numpy()
    if "text_encoder" in components:
        listed = read_words(words) if words else [spoken(concept) for concept in read_table()]
        vectors = text_vectors(components["text_encoder"], listed)
    elif words:
        raise ExportError(f"--words {words} needs a text encoder, and the system has none; adopt CLIP, or leave it out")
    elif getattr(components["frame_encoder"].config, "features", "") == "classes":
        table = read_table()
        vectors = dict(zip(map(spoken, table), concept_vectors(table), strict=True))
    else:
        vectors = {}
    return {NULL_WORD: null, **vectors}


def spoken(concept: Concept) -> str:
    """A concept's name as a person writes it: `big_cat` is "big cat"."""
    return concept.name.replace("_", " ")


def read_words(path: Path) -> list[str]:
    """Words of a text file, one a line; empty lines and lines that begin with # are skipped. Raises ExportError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"cannot read the words of {path} ({error}); give a text file in UTF-8") from error
    words = [line for line in lines if line and not line.startswith("#")]
    known = {folded(NULL_WORD)}
    for word in words:
        if folded(word) in known:
            raise ExportError(
                f"remove {word!r} from {path}: it is listed twice, or is {NULL_WORD}, which all vocabularies have"
            )
        known.add(folded(word))
    if not words:
        raise ExportError(f"{path} lists no words; write one word per line")
    return words


def text_vectors(encoder: nn.Module, words: list[str]) -> dict[str, FloatArray]:
    """The text encoder's embedding of each word, written into TEMPLATE."""
    tokenise = Tokeniser(merges(encoder.config), encoder.config.context)
    rows = np.concatenate([tokenise(TEMPLATE.format(word)) for word in words])
    with torch.no_grad():
        parts = [encoder(torch.from_numpy(rows[i : i + BATCH])).numpy() for i in range(0, len(rows), BATCH)]
    return dict(zip(words, np.concatenate(parts), strict=True))


# ---------------------------------------------------------------- the tokeniser
def merges(config: ClipTextConfig) -> list[tuple[str, str]]:
    """CLIP's table of merges, as long as the text encoder's table of tokens allows. It comes with open_clip."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ExportError(f"the table of CLIP's tokeniser comes with {PACKAGE}: pip install '.[train]'")
    lines = gzip.decompress((Path(spec.origin).parent / MERGES).read_bytes()).decode("utf-8").split("\n")
    count = config.vocabulary - SYMBOLS
    pairs = [tuple(line.split()) for line in lines[1 : 1 + count]]  # the first line states the version
    if count < 0 or len(pairs) < count or any(len(pair) != 2 for pair in pairs):
        raise ExportError(f"the text encoder has {config.vocabulary} tokens, which CLIP's table cannot give")
    return [(a, b) for a, b in pairs]


def write_tokeniser(path: Path, config: ClipTextConfig) -> None:
    """Write the bundle's table of merges, with its origin and licence."""
    try:
        package = f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        package = PACKAGE
    table = {
        "context": config.context,
        "merges": [f"{a} {b}" for a, b in merges(config)],
        "origin": f"CLIP (OpenAI), {MERGES} of the package {package}",
        "licence": "MIT, Copyright (c) 2021 OpenAI",
    }
    path.write_text(json.dumps(table, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
