"""benchmarks.rerank on fake engines."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.test_scan import videos  # noqa: F401
from tests.support.fake_engines import NEEDS_ORT

pytest.importorskip("torch")

from benchmarks import rerank

pytestmark = [NEEDS_ORT, pytest.mark.torch]


def test_every_system_is_measured_on_the_same_candidates(videos: Path, bundles, tmp_path: Path, capsys) -> None:  # noqa: F811
    arguments = ["--candidates", "4", "--budget", "2,1", "3", "--steps", "4", "--out", str(tmp_path / "x.json")]
    assert rerank.main([str(videos), "--engines", str(bundles()), "--threads", "1", *arguments]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / "x.json").read_text()) == found
    assert list(found["summary"]) == ["single", "plain", "2,1", "3"] and found["budgets"] == ["2,1", "3"]
    plain = found["summary"]["plain"]
    assert plain["rank"]["mean"] == 0 and plain["plains_choice"]["mean"] == 1 and plain["paired_seconds"]["mean"] == 0
    for name, numbers in found["summary"].items():
        assert numbers["distance"]["n"] == numbers["seconds"]["n"] == 2 and numbers["f1"]["n"] == 1
        assert numbers["distance"]["mean"] >= plain["distance"]["mean"] and 0 <= numbers["rank"]["mean"] <= 3
        assert numbers["seconds"]["mean"] > 0 and numbers["cpu_seconds"]["mean"] > 0
        by_video = [video[name]["distance"] for video in found["clips"]]
        assert numbers["distance"]["mean"] == pytest.approx(np.mean(by_video))
    assert [video["clip"] for video in found["clips"]] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--budget", "4,5"], "budget is (4, 5)"),
        (["--budget", "10"], "below candidates (10)"),
        (["--budget", "x"], "give falling whole numbers"),
        (["--candidates", "1"], "--candidates is 1"),
        (["--seeds", "0"], "--seeds is 0"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys, arguments: list[str], advice: str) -> None:
    assert rerank.main([str(tmp_path), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and advice in printed.err and not printed.out
