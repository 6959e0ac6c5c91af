"""Paths in the checkout."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "bounce.mp4"
GOLDEN = ROOT / "tests" / "golden"
