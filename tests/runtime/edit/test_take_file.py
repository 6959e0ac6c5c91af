"""Takes on disk: what is saved comes back, and what is no take is refused."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import MediaError, OptionError, Take
from runtime.edit import fingerprint
from runtime.edit.fingerprint import Fingerprint, file_fingerprint
from runtime.edit.timecode import Span
from runtime.sampling import SamplingConfig
from runtime.take import DroppedCandidate
from tests.support.takes import REPORT, make_take

SOUND = np.linspace(-1, 1, 44100, dtype=np.float32)
RATE = Fraction(30000, 1001)


def full_take() -> Take:
    """A take with all that a take can have. It lasts 30 frames at 29.97."""
    sampling = SamplingConfig(steps=9, seed=2**64 - 1, candidates=5, budget=(3, 1))
    report = replace(
        REPORT, sampling=sampling, dropped=(DroppedCandidate(2, 8, None),), scores=(0.5, None), warnings=("a", "ü")
    )
    span = Span.of_frames(60, 90, RATE)
    sound = np.sin(np.arange(span.samples(44100))).astype(np.float32)
    return make_take(
        sound, np.arange(9 * 87, dtype=np.int32).reshape(9, 87), score=0.25, candidate=3, duration=span.seconds,
        start=Fraction(7, 3), report=report, span=span, fingerprint=Fingerprint("x.mp4", 123, "ab" * 32),
    )  # fmt: skip


@pytest.mark.parametrize("take", [make_take(SOUND), full_take()], ids=["plain", "full"])
def test_a_take_comes_back(tmp_path: Path, take: Take) -> None:
    path = tmp_path / "x.npz"
    take.save(path)
    back = Take.load(path)
    assert back == take and (back.fingerprint, back.contract) == (take.fingerprint, take.contract)
    assert back.report.to_dict() == take.report.to_dict() and back.report.sampling == take.report.sampling
    assert back.audio.dtype == np.float32 and back.codes.dtype == np.int32
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
    with np.load(path, allow_pickle=False) as arrays:  # readable without this program
        assert set(arrays) == {"codes", "audio", "facts"}
        assert json.loads(arrays["facts"].tobytes())["report"]["bundle"] == "fake"


def test_a_take_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"give a name that ends in \.npz"):
        make_take(SOUND).save(tmp_path / "x.zip")
    with pytest.raises(MediaError, match="does not exist; create it"):
        make_take(SOUND).save(tmp_path / "folder" / "x.npz")
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(MediaError, match="it is a folder"):
        make_take(SOUND).save(tmp_path / "x.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


# ---------------------------------------------------------------- what is no take
def rewrite(path: Path, change: Callable[[dict], object] = lambda facts: None, **arrays: np.ndarray) -> Path:
    """Change the facts or the arrays of a saved take."""
    with np.load(path) as saved:
        content = {name: saved[name] for name in saved}
    facts = json.loads(content["facts"].tobytes())
    change(facts)
    content["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(path, **content | arrays)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    full_take().save(path)
    return path


def test_what_is_no_take(tmp_path: Path, saved: Path) -> None:
    for name, content in (("empty", b""), ("text", b"hello"), ("zip", b"PK\5\6" + bytes(18))):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(MediaError, match=f"{name} is not a take, or it is damaged .*; give a file that --save"):
            Take.load(path)
    for path in (tmp_path, tmp_path / "absent.npz"):
        with pytest.raises(MediaError, match="is not a file"):
            Take.load(path)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(MediaError, match="it holds something else"):
        Take.load(tmp_path / "other.npz")
    with np.load(saved) as arrays:
        np.savez_compressed(tmp_path / "small.npz", **arrays)
    with pytest.raises(MediaError, match="it is compressed"):
        Take.load(tmp_path / "small.npz")


def test_pickles_are_refused(saved: Path) -> None:
    with pytest.raises(MediaError, match="is not a take, or it is damaged"):
        Take.load(rewrite(saved, codes=np.array([[print]], object)))


def test_a_size_that_cannot_be_is_refused(saved: Path) -> None:
    """The header of an array promises far more than the file holds."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**15,)}
    with zipfile.ZipFile(saved) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    text = repr(header).ljust(117) + "\n"
    parts["audio.npy"] = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(16)
    with zipfile.ZipFile(saved, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    with pytest.raises(MediaError, match="is not a take, or it is damaged"):
        Take.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(maskvat_take=2), "is a take of format 2, and this program reads format 1; update it"),
        (lambda f: f.pop("maskvat_take"), "is not a take: its description cannot be read"),
        (lambda f: f.pop("span"), "is damaged: its description contradicts itself"),
        (lambda f: f.update(duration="2"), "the sound has another length"),
        (lambda f: f.update(duration="1/0"), "is damaged"),
        (lambda f: f["report"].pop("bundle"), "is damaged"),
        (lambda f: f["report"]["sampling"].update(new=1), "was made by version 1.0 of the program, .*: new; update it"),
        (lambda f: f["report"].update(words={"prompts": [], "avoid": "", "tone": 1}), "program, .*: tone; update it"),
        (lambda f: f["report"]["sampling"].update(new=1, steps=0), "was made by version 1.0 of the program"),
        (lambda f: f["report"]["sampling"].update(steps=0), "is damaged: .*steps is 0"),
        (lambda f: f["span"].update(rate="x"), "is damaged"),
    ],
)
def test_facts_that_contradict_themselves(saved: Path, change: Callable[[dict], object], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        Take.load(rewrite(saved, change))


def test_arrays_that_contradict_the_facts(saved: Path) -> None:
    good = full_take().audio
    for arrays in (
        {"audio": good[:-1]},
        {"audio": good * np.nan},
        {"audio": good * 2},
        {"audio": good[None]},
        {"codes": np.zeros(9, "<u2")},
        {"codes": np.zeros((9, 0), "<u2")},
        {"codes": np.zeros((9, 87), "<f4")},
        {"facts": np.zeros(3, "<f4")},
    ):
        full_take().save(saved)
        with pytest.raises(MediaError, match=r"damaged|is not a take"):
            Take.load(rewrite(saved, **arrays))


def test_what_a_newer_version_adds_is_left_out(saved: Path) -> None:
    """Unknown arrays and keys, apart from those of the sampling."""

    def add(facts: dict) -> None:
        report = facts["report"]
        engines, loudness, dropped = report["engines"]["step"], report["loudness"][0], report["dropped"][0]
        for part in (facts, facts["span"], facts["fingerprint"], report, engines, loudness, dropped):
            part["new"] = [1]

    back = Take.load(rewrite(saved, add, new=np.zeros(3)))
    assert back == full_take() and back.report.to_dict() == full_take().report.to_dict()


def test_what_an_older_version_lacks_gets_its_default(saved: Path) -> None:
    def remove(facts: dict) -> None:
        for name in ("range", "words", "edit"):
            del facts["report"][name]
        for name in ("schedule", "guidance_from", "guidance_until"):
            del facts["report"]["sampling"][name]

    back = Take.load(rewrite(saved, remove))
    assert back == full_take() and back.report.to_dict() == full_take().report.to_dict()
    plain = make_take(SOUND)
    plain.save(saved)
    back = Take.load(rewrite(saved, lambda facts: facts["report"]["sampling"].pop("budget")))
    assert back.report.sampling == plain.report.sampling


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), kind=st.sampled_from(["flip", "cut", "zero"]), n=st.integers(1, 255))
def test_damage_is_seen(tmp_path_factory: pytest.TempPathFactory, at: float, kind: str, n: int) -> None:
    """Any damaged byte, and any cut, gives the one error or the same take."""
    path = tmp_path_factory.mktemp("damage") / "x.npz"
    take = make_take(SOUND[:512], np.zeros((9, 1), np.int32), duration=Fraction(512, 44100))
    take.save(path)
    data = bytearray(path.read_bytes())
    i = int(at * len(data))
    if kind == "cut":
        del data[i:]
    elif kind == "flip":
        data[i] ^= n
    else:
        data[i : i + n] = bytes(len(data[i : i + n]))
    path.write_bytes(data)
    try:
        assert Take.load(path) == take
    except MediaError as error:
        assert str(path) in str(error)


# ---------------------------------------------------------------- fingerprints
def test_a_fingerprint_is_of_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "BLOCK", 16)
    content = np.random.default_rng(0).bytes(5000)  # above 64 blocks of 16 bytes
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    one.write_bytes(content)
    two.write_bytes(content)
    assert file_fingerprint(one).matches(file_fingerprint(two))
    for changed in (b"x" + content[1:], content[:-1] + b"x", content + b"x", content[:-1], content[::-1], content[:9]):
        two.write_bytes(changed)
        assert not file_fingerprint(one).matches(file_fingerprint(two))
    assert str(file_fingerprint(one)).startswith("one.mp4 (5000 bytes, ")
    assert Fingerprint("frames", 0, "").matches(file_fingerprint(one))
    with pytest.raises(MediaError, match="no such file"):
        file_fingerprint(tmp_path / "absent")
