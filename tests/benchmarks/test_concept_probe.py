"""The concept probe: which clips it chooses with, what it learns, how it is scored, and a whole run on tiny clips."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.concept_probe import __main__ as probe_command
from benchmarks.concept_probe.probe import ROUTES, RealVideo, fit, plain_rule, score
from benchmarks.concept_probe.real import choosing_videos, pooled_features, read_truth
from runtime.errors import OptionError
from train.synthetic.concepts.features import ClassifierHead
from train.synthetic.concepts.table import CLASSES, membership, read_table

pytestmark = pytest.mark.torch


def test_choosing_clips_are_those_with_the_smallest_digests() -> None:
    paths = [Path(f"/x/{n}/clip{n}.mp4") for n in range(63)]
    chosen = choosing_videos(paths)
    digests = {p: hashlib.sha256(p.name.encode()).hexdigest() for p in paths}
    assert len(chosen) == 31
    assert max(digests[p] for p in chosen) < min(digests[p] for p in paths if p not in chosen)
    assert choosing_videos(Path("/other") / p.name for p in reversed(paths)) == [
        Path("/other") / p.name for p in chosen
    ]


def test_true_answers_are_concepts_of_the_table(tmp_path: Path) -> None:
    table = read_table()
    truth = read_truth(table)
    assert len(truth) == 31 and sum(bool(right) for right in truth.values()) > 15
    assert [table[k].name for k in truth["FoleyCrafter_avsync_0.mp4"]] == ["dog"]
    (tmp_path / "t.csv").write_text("file,concepts\na.mp4,dog unicorn\n")
    with pytest.raises(OptionError, match=r"1 concepts .* unicorn"):
        read_truth(table, tmp_path / "t.csv")


def video(pooled: np.ndarray, right: list[int], name: str = "a") -> RealVideo:
    return RealVideo(name, pooled.astype(np.float32), right)


def test_scores_of_known_probabilities() -> None:
    answers = {1: [0.5, 0.3, 0.1, 0.1], 2: [0.0, 0.0, 0.0, 1.0]}

    def classify(pooled: np.ndarray) -> np.ndarray:
        return np.array([answers[int(row[0])] for row in pooled])

    one, both = np.ones((3, 1)), np.array([[1.0], [2.0]])
    found = score(classify, [video(one, [0]), video(one, [1, 2]), video(both, [])])
    assert found["first"].tolist() == [1, 0] and found["five"].tolist() == [1, 1]
    assert found["log"] == pytest.approx(np.log([0.5, 0.4]), abs=1e-3)
    assert found["nothing"] == pytest.approx([0.1, 0.1]) and found["nothing_unknown"] == pytest.approx([0.55])


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_probe_learns_and_repeats(hidden: int) -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(3, size=600)
    inputs = (np.eye(3)[kinds] * 2 + rng.normal(0, 0.15, (600, 3))).astype(np.float32)
    one, two = (fit(inputs, np.eye(3, dtype=np.float32)[kinds], hidden, 1000, 7) for _ in range(2))
    assert (one(inputs).argmax(1) == kinds).mean() > 0.95
    assert np.array_equal(one(inputs), two(inputs))


def test_the_plain_rule_sums_by_concept_and_every_route_has_features() -> None:
    table = read_table()
    matrix = membership(table)
    head = ClassifierHead(np.eye(CLASSES, 8, dtype=np.float32), np.zeros(CLASSES, np.float32))
    pooled = np.eye(8, dtype=np.float32)
    found = plain_rule(head, matrix)(pooled)
    assert found.shape == (8, len(table) + 1) and found.sum(1) == pytest.approx(np.ones(8), abs=1e-4)
    rooster = next(k for k, concept in enumerate(table) if concept.name == "rooster")  # class 7
    assert found[7, rooster] == pytest.approx(1, abs=1e-4)
    widths = {n: f(pooled, head.probabilities(pooled), matrix).shape[1] for n, f in ROUTES.items()}
    assert widths == {"a": 1000, "a_warm": 1000, "b": len(table) + 1, "c": 8}


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Real networks are replaced: features of each video come from the cache folder."""
    rng = np.random.default_rng(1)
    table = read_table()
    names = [*read_truth(table)]
    rows = rng.standard_normal((CLASSES, 32)).astype(np.float32)
    for folder, files in (("real", names), ("simulated", ["s1.mp4", "s2.mp4"])):
        (tmp_path / folder).mkdir()
        for name in files:
            (tmp_path / folder / name).touch()
            (tmp_path / "cache").mkdir(exist_ok=True)
            np.save(tmp_path / "cache" / f"{name}.npy", np.abs(rng.standard_normal((4, 32))))
    head = ClassifierHead(rows, np.zeros(CLASSES, np.float32))
    monkeypatch.setattr(probe_command, "read_encoder", lambda weights: (None, head))
    out = tmp_path / "out.json"
    paths = [str(tmp_path / "real"), "--backgrounds", str(tmp_path / "simulated"), "--cache", str(tmp_path / "cache")]
    small = ["--examples", "40", "--steps", "3", "--seeds", "1", "--out", str(out)]
    monkeypatch.setattr(probe_command, "SEQUENCES", 4)
    assert probe_command.main([*paths, *small]) == 0
    values = json.loads(out.read_text())
    assert values == json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(values["summary"]["probes"]) == {"plain", *(f"{r}_{k}" for r in ROUTES for k in ("linear", "layers"))}
    pair = values["summary"]["pairs"]["c_linear - a_linear"]["log"]
    scores = values["scores"]
    assert pair["mean"] == pytest.approx(
        np.mean(np.subtract(scores["c_linear"]["log"], scores["a_linear"]["log"])), abs=1e-3
    )
    assert set(values["quantiles"]) == {"real", "made_up", "simulated"} and len(values["clips"]) == 31
    assert len(scores["plain"]["first"]) == pair["n"] == sum(bool(right) for right in read_truth(table).values())

    (tmp_path / "real" / "foreign.mp4").touch()
    for name in names[:5]:
        (tmp_path / "real" / name).unlink()
    assert probe_command.main([*paths, *small]) == 1
    assert "1 clips have no answer in truth.csv: foreign.mp4" in capsys.readouterr().err
    assert probe_command.main([*paths, "--seeds", "0"]) == 1


def test_features_are_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.mp4.npy", np.ones((2, 5)))
    found = pooled_features(tmp_path / "clip.mp4", None, tmp_path)  # type: ignore[arg-type]
    assert found.dtype == np.float32 and found.shape == (2, 5)
