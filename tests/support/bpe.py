"""CLIP's table of merges, from the installed package open_clip_torch. The package itself is not imported."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import pytest


def clip_merges() -> list[tuple[str, str]]:
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open_clip_torch is not installed: pip install '.[train]'")
    packed = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    return [(a, b) for a, b in (line.split() for line in lines[1 : 49152 - 256 - 2 + 1])]
