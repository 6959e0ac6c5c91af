"""The Blender add-on inside of Blender, with the real engine. MASKVAT_BPY names Pythons that have `bpy`."""

import os
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from tests.campaigns import blender

PYTHONS = [path for path in os.environ.get("MASKVAT_BPY", "").split(os.pathsep) if path]


@pytest.mark.host
@pytest.mark.skipif(not PYTHONS, reason="MASKVAT_BPY does not name a Python that has bpy")
@pytest.mark.parametrize("python", PYTHONS or [""])
def test_in_blender(python: str, tmp_path: Path) -> None:
    found = blender.run(Path(python).absolute(), tmp_path)
    assert found["faults"] == [] and len(found["checks"]) > 40
