"""Render a timeline's sound with melt, the player of the MLT framework."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ATTEMPTS, PATIENCE = 6, 20  # now and then melt hangs at its start, or writes nothing and exits with 0; seconds


def render(timeline: Path, out: Path) -> None:
    """Write the sound of an .mlt file as mono WAV at 48 kHz. Skips the test without melt."""
    _melt(timeline, out, ["ac=1", "ar=48000", "acodec=pcm_s16le", "vn=1"])


def render_picture(timeline: Path, out: Path) -> None:
    """Write the picture of an .mlt file without loss, in FFV1. Skips the test without melt."""
    _melt(timeline, out, ["an=1", "vcodec=ffv1", "pix_fmt=yuv420p"])


def _melt(timeline: Path, out: Path, form: list[str]) -> None:
    if shutil.which("melt") is None:
        pytest.skip("needs melt")
    options: Any = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": PATIENCE, "check": True}
    for attempt in range(1, ATTEMPTS + 1):
        out.unlink(missing_ok=True)
        try:
            subprocess.run(["melt", timeline, "-consumer", f"avformat:{out}", *form, "real_time=-1"], **options)
            if out.stat().st_size or attempt == ATTEMPTS:
                return
        except subprocess.TimeoutExpired:
            if attempt == ATTEMPTS:
                raise
