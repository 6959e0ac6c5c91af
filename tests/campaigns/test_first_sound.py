"""The guides from a fresh clone to a sound, with the real programs. MASKVAT_BPY names a Python that has `bpy`."""

import os
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("onnxruntime")

from tests.campaigns import first_sound

PYTHON = os.environ.get("MASKVAT_BPY", "").split(os.pathsep)[0]
pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not PYTHON, reason="MASKVAT_BPY does not name a Python that has bpy"),
    pytest.mark.skipif(first_sound.browser() is None, reason="no Chromium is installed"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone of git"),
]


def test_from_a_fresh_clone_to_a_sound(tmp_path: Path) -> None:
    found = first_sound.run(Path(PYTHON).absolute(), tmp_path)
    assert found["faults"] == [] and len(found["steps"]) == 11
