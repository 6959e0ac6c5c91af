"""train.evaluate: known scores, bad input, and the report."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from matplotlib.figure import Figure

from runtime.audio import read_audio, write_wav
from runtime.errors import OptionError
from runtime.video import Video
from tests.conftest import Bundles
from tests.support.eval_corpus import NAMES, RATE, hits, low_pass, write_reference, write_system
from tests.support.media import Picture, Sound, steady, write_video
from tests.support.tiny_system import tiny_components
from tests.support.tiny_system import write_system as write_components
from train.evaluate import __main__ as evaluate
from train.evaluate import core
from train.evaluate.avbench import SECONDS, AVBenchmark
from train.evaluate.codec import reconstruct
from train.evaluate.files import clip_name, match_length, read_list, scan, scan_systems
from train.evaluate.page import Clip, choose
from train.evaluate.plots import RANGE, draw_spectrogram
from train.evaluate.report import Report, Section, as_json, as_markdown, number
from train.evaluate.scores import Loaded, Tally, columns, measure
from train.metrics import METRICS, Metric, Pair, Weights
from train.metrics import Sound as MeasuredSound
from train.metrics.onsets import RATE as ONSET_RATE
from train.metrics.onsets import onset_scores

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference, and systems whose scores are known."""
    root = tmp_path_factory.mktemp("corpus")
    write_reference(root / "reference")
    rng = np.random.default_rng(9)
    truth = {name: hits(seed) for seed, name in enumerate(NAMES)}
    write_system(root / "same", truth)
    write_system(root / "late", {name: hits(seed, delay=0.2) for seed, name in enumerate(NAMES)})
    write_system(root / "noise", {n: (0.1 * rng.standard_normal(len(a))).astype(np.float32) for n, a in truth.items()})
    write_system(root / "dull", {name: low_pass(a) for name, a in truth.items()})
    write_system(root / "narrow", truth, rate=16000)
    return root


def run(corpus: Path, out: Path, *systems: str, status: int = 0, options: tuple[str, ...] = ()) -> dict[str, Any]:
    arguments = [str(corpus / s) for s in systems] + ["--reference", str(corpus / "reference"), "--out", str(out)]
    assert evaluate.main([*arguments, "--show", "0", *options]) == status
    return json.loads((out / "report.json").read_text())


# ---------------------------------------------------------------- known answers
def test_known_answers(corpus: Path, tmp_path: Path) -> None:
    report = run(corpus, tmp_path / "out", "same", "late", "noise", "dull", "narrow")
    systems = report["systems"]
    assert report["complete"] and report["clips"] == 3
    same = systems["same"]
    assert same["FDM"] == {
        "value": pytest.approx(0, abs=1e-3),
        "low": 0.0,
        "high": pytest.approx(0, abs=1e-3),
        "clips": 3,
    }
    assert same["onset_f1"]["value"] == same["onset_f1"]["low"] == 1.0
    sounds = [read_audio(corpus / "same" / f"{name}.wav", ONSET_RATE) for name in NAMES]
    chance = np.mean([onset_scores(sound, sound)["chance"] for sound in sounds])
    assert 0 < chance < 1 and same["onset_lift"]["value"] == pytest.approx(1 - chance, abs=1e-6)
    assert abs(systems["noise"]["onset_lift"]["value"]) < 0.2 < same["onset_lift"]["value"]
    assert systems["late"]["onset_f1"]["value"] < 0.2  # 0.2 s is twice the tolerance
    assert systems["late"]["FDM"]["value"] < systems["dull"]["FDM"]["value"]  # FDM hears colour, not time
    assert systems["dull"]["onset_f1"]["value"] > 0.9
    assert (
        systems["narrow"]["onset_f1"]["value"] > 0.9
        and systems["narrow"]["FDM"]["value"] > 10 * same["FDM"]["high"] + 1
    )
    for row in systems.values():
        for entry in row.values():
            assert entry["low"] is None or entry["low"] <= entry["value"] <= entry["high"]


def test_a_subset_is_a_test_set_of_its_own(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "sparse.txt").write_text("# loud ones\nape.mp4\nfox,x,y\n")
    report = run(corpus, tmp_path / "out", "late", status=3, options=("--subset", str(tmp_path / "sparse.txt")))
    subset = report["subsets"]["sparse"]
    assert subset["clips"] == 1 and subset["systems"]["late"]["onset_f1"]["clips"] == 1
    assert report["systems"]["late"]["onset_f1"]["clips"] == 3
    assert report["counts"] == {"not in the reference": 1} and not report["complete"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## reference: 3 clips" in text and "## sparse: 1 clips" in text


def test_codecs_own_row(corpus: Path, bundles: Bundles, tmp_path: Path, one_thread: None) -> None:
    components = tiny_components()
    write_components(tmp_path / "system", {"codec": components["codec"]})
    rows = {}
    for folder in (tmp_path / "system", bundles()):
        out = tmp_path / folder.name
        report = run(corpus, out / "report", "same", options=("--codec", str(folder), "--metrics", "onsets"))
        assert list(report["systems"]) == ["codec reconstruction", "same"]
        rows[folder.name] = report["systems"]["codec reconstruction"]
        assert rows[folder.name]["energy_r"]["clips"] == 3
        best = [line for line in (out / "report" / "report.md").read_text().splitlines() if line.startswith("| codec")]
        assert best and "**" not in "".join(best)
    assert evaluate.main([str(corpus / "same"), "--reference", str(corpus / "same"), "--out", "x", "--codec", "."]) == 1


class Hissing:
    """A codec whose silence is not quite silent."""

    name, rate = "hissing", RATE

    def encode(self, audio: NDArray[np.float32]) -> NDArray[np.int32]:
        return np.zeros((1, len(audio)), np.int32)

    def decode(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.random.default_rng(0).uniform(-1e-5, 1e-5, codes.shape[1] + 7).astype(np.float32)


def test_codec_hiss_below_16_bits_gives_no_onset() -> None:
    """The codec's output is rounded to 16 bits, as in the files of systems that use this codec."""
    silence = MeasuredSound(np.zeros(2 * RATE, np.float32), RATE)
    assert not reconstruct(Hissing(), silence).samples.any()


# ---------------------------------------------------------------- bad input
@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Ten clips, and a system in which each clip has a different problem."""
    root = tmp_path / "broken"
    sounds = {f"clip{n}": hits(n) for n in range(10)}
    reference, system = write_system(root / "reference", sounds), write_system(root / "system", sounds)
    picture = Picture(steady(100, 25), last=1 / 25)
    track = Sound(hits(3)[None], RATE, "pcm_s16le")
    for n in (0, 2, 3, 5):
        (system / f"clip{n}.wav").unlink()
    shutil.copy(system / "clip1.wav", system / "clip1.flac")  # 1: two files of one name; 0: missing
    write_video(system / "clip2.mov", picture)  # no sound
    write_video(system / "clip3.mov", picture, track)
    second_track(system / "clip3.mov")
    (system / "clip4.wav").write_bytes(b"RIFF and no more")
    write_wav(system / "clip5.wav", hits(5)[:RATE], 22050)  # 2 s
    write_wav(system / "clip6.wav", hits(6)[: RATE // 2], RATE)  # 0.5 s
    write_wav(system / "other.wav", hits(6), RATE)
    (reference / "clip7.wav").write_bytes(b"")
    return root


def second_track(path: Path) -> None:
    """The same file with its sound track twice."""
    import av

    whole = path.with_name("whole.mov")
    with av.open(str(path)) as source, av.open(str(whole), "w") as out:
        streams = [*source.streams.video, *source.streams.audio, *source.streams.audio]
        targets = [out.add_stream_from_template(stream) for stream in streams]
        for packet in source.demux(source.streams.video + source.streams.audio):
            wanted = [t for s, t in zip(streams, targets, strict=True) if s is packet.stream] if packet.size else []
            content, stamps = bytes(packet), (packet.pts, packet.dts, packet.time_base, packet.duration)
            for target in wanted:
                copy = av.Packet(content)
                copy.stream, (copy.pts, copy.dts, copy.time_base, copy.duration) = target, stamps
                out.mux(copy)
    whole.replace(path)


def test_bad_input_is_named_counted_and_leaves_the_result_incomplete(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(broken, tmp_path / "out", "system", status=3, options=("--metrics", "onsets"))
    assert report["counts"] == {
        "missing": 1, "duplicate": 1, "no sound": 1, "two sounds": 1, "unreadable": 2,
        "duration": 2, "too short": 1, "no reference": 1,
    }  # fmt: skip
    assert not report["complete"] and report["systems"]["system"]["onset_f1"]["clips"] == 4  # 3, 5, 8, 9
    about = {(p["kind"], p["clip"]): p["words"] for p in report["problems"]}
    assert "clip1.flac and clip1.wav" in about["duplicate", "clip1"]
    assert "WAV file" in about["no sound", "clip2"] and "2 sound tracks" in about["two sounds", "clip3"]
    assert ("unreadable", "clip4") in about and ("unreadable", "clip7") in about
    assert "2.00 s, the reference 4.00 s" in about["duration", "clip5"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "NOT complete" in text and "- duplicate: 1 (" in text
    assert "missing: system, clip0: " in capsys.readouterr().err


def test_errors_are_one_line_and_leave_no_report(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.txt").write_text("# nothing\n")
    (tmp_path / "foreign.txt").write_text("gnu\n")
    (tmp_path / "reference.txt").write_text("ape\n")
    write_system(tmp_path / "foreign", {"gnu": hits(0)})
    same, reference = str(corpus / "same"), ["--reference", str(corpus / "reference")]
    for arguments, words in (
        ([str(tmp_path / "empty"), *reference], "no sounds or videos in"),
        ([str(tmp_path / "nowhere"), *reference], "nowhere is not a folder"),
        ([same, "--reference", str(tmp_path / "empty")], "no sounds or videos in"),
        ([same, same, *reference], "the system name 'same' is taken or not allowed"),
        ([f"reference={same}", *reference], "the system name 'reference' is taken or not allowed"),
        ([f"a/b={same}", *reference], "the system name 'a/b' is taken or not allowed"),
        ([str(tmp_path / "foreign"), *reference], "name the sounds like the reference"),
        ([same, *reference, "--metrics", "FDX"], "unknown names: FDX; choose from"),
        ([same, *reference, "--metrics", "FDD"], "FDD is left out: it needs"),
        ([same, *reference, "--subset", str(tmp_path / "none.txt")], "is empty"),
        ([same, *reference, "--subset", str(tmp_path / "foreign.txt")], "none of the 1 names"),
        ([same, *reference, "--subset", str(tmp_path / "absent.txt")], "cannot be read"),
        ([same, *reference, "--subset", str(tmp_path / "reference.txt")], "two test sets have the name reference"),
        ([same, *reference, "--codec", str(tmp_path)], "neither a system folder"),
        ([same, *reference, "--show", "-1"], "--show is -1"),
    ):
        assert evaluate.main([*arguments, "--out", str(tmp_path / "out")]) == 1, words
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and words in error
        assert not (tmp_path / "out" / "report.json").exists()


# ---------------------------------------------------------------- files
def test_names(tmp_path: Path) -> None:
    assert clip_name(Path("0nib7bMm8BA_15000_25000.mp4")) == clip_name(Path("0nib7bMm8BA_000015.wav"))
    assert clip_name(Path("-a_b-c_d-e__30000_40000.mp4")) == "-a_b-c_d-e__000030"
    assert clip_name(Path("drum_1000_2000.mp4")) == "drum_1000_2000" and clip_name(Path("v1.5.wav")) == "v1.5"
    (tmp_path / "list.csv").write_text('"vid/0nib7bMm8BA_15000_25000.mp4",1\n\nv1.5,x\nv1.5\n')
    (tmp_path / "classes.txt").write_text("barking\ty\nrain\tn\n")
    with pytest.raises(OptionError, match="names classes"):
        read_list(tmp_path / "classes.txt")
    assert read_list(tmp_path / "list.csv") == ["0nib7bMm8BA_000015", "v1.5"]
    assert [f.name for f in scan_systems([f"x={write_system(tmp_path / 'y', {'a': hits(0)})}"])] == ["x"]


def test_a_sound_beside_its_video_is_one_clip(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mov", Picture(steady(25, 25)))
    write_wav(tmp_path / "a.wav", hits(0), RATE)
    (tmp_path / "notes.txt").write_text("no media")
    folder = scan(tmp_path, "x")
    assert list(folder.clips) == ["a"] and not folder.problems
    assert folder.clips["a"].film == tmp_path / "a.mov" and folder.clips["a"].sound == tmp_path / "a.wav"


def test_lengths_are_made_equal() -> None:
    def sound(n: int) -> MeasuredSound:
        return MeasuredSound(np.ones(n, np.float32), RATE)

    reference = sound(2 * RATE)
    for length in (2 * RATE, 2 * RATE + 999, 2 * RATE - 999, 3 * RATE):
        made, kept, words = match_length(sound(length), reference)
        assert kept is reference and len(made.samples) == 2 * RATE and (words is None) == (length != 3 * RATE)
    made, kept, words = match_length(sound(RATE), reference)
    assert len(made.samples) == len(kept.samples) == RATE and words is not None


# ---------------------------------------------------------------- scores and report
def test_a_measure_that_fails_or_has_nothing_to_say_spoils_no_other() -> None:
    def fails(pair: Pair) -> dict[str, float]:
        raise ValueError("too quiet")

    def make(name: str, work: Any, video: bool = False) -> Loaded:
        return Loaded(Metric(name, name, "clip", {name: "higher"}, lambda files, device: work, (), video), work)

    measures = [
        make("bad", fails),
        make("nothing", lambda pair: {"nothing": float("nan")}),
        make("good", lambda pair: {"good": 2.0}),
        make("film", fails, video=True),
    ]
    tally = Tally()
    sound = MeasuredSound(hits(0), RATE)
    for clip in "abc":
        measured = measure(measures, Pair(sound, sound))
        assert measured.failures == ["bad failed: too quiet"]
        tally.add(clip, measured)
    assert tally.row(columns(measures)) == {"good": {"value": 2.0, "low": 2.0, "high": 2.0, "clips": 3}}


def test_weights_are_found_hashed_and_measures_of_the_picture_see_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(files: list[Path], device: str) -> Any:
        return lambda pair: {"FILM": float(pair.film is not None) + len(files[0].read_bytes())}

    needs = Weights("net.pt", "https://example.org", "MIT")
    monkeypatch.setitem(METRICS, "FILM", Metric("FILM", "", "clip", {"FILM": "higher"}, make, (needs,), video=True))
    (tmp_path / "net.pt").write_bytes(b"12")
    options = ("--metrics", "FILM", "--weights", str(tmp_path))
    report = run(corpus, tmp_path / "out", "same", options=options)
    assert report["systems"]["same"]["FILM"] == {"value": 3.0, "low": 3.0, "high": 3.0, "clips": 3}
    assert report["measured_with"]["net.pt"] == f"sha256 {hashlib.sha256(b'12').hexdigest()}"
    sounds = ["--reference", str(corpus / "same"), "--out", str(tmp_path / "b"), "--show", "0", *options]
    assert evaluate.main([str(corpus / "late"), *sounds]) == 0  # a reference without pictures: no such column
    assert json.loads((tmp_path / "b" / "report.json").read_text())["systems"]["late"] == {}


def test_interval_of_a_distance_holds_it_and_shrinks_with_more_clips() -> None:
    rng = np.random.default_rng(0)
    loaded = Loaded(METRICS["FDM"], lambda sound: sound.samples[:60].reshape(20, 3).astype(np.float64))
    assert not Tally().undersampled()
    widths = []
    for count in (8, 80):
        tally = Tally()
        for n in range(count):
            a, b = (MeasuredSound((0.1 * rng.standard_normal(60) + m).astype(np.float32), RATE) for m in (0.0, 0.3))
            tally.add(f"{count}-{n}", measure([loaded], Pair(a, b)))
        row = tally.row(columns([loaded]))["FDM"]
        assert row["value"] == pytest.approx(3 * 0.3**2, rel=0.2) and row["low"] <= row["value"] <= row["high"]
        widths.append(row["high"] - row["low"])
        assert not tally.undersampled()
    lone = Tally()
    lone.add("a", measure([Loaded(METRICS["FDM"], lambda sound: np.eye(3))], Pair(a, b)))
    assert lone.undersampled() == ["FDM has 3 vectors of 3 numbers"]
    assert 0 < widths[1] < 0.6 * widths[0]


def entry(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "clips": 7}


def test_tables_are_the_papers() -> None:
    rows = {
        "DAC reconstruction": {"FAD": entry(0.5), "NS": entry(0.9)},
        "ours": {"FAD": entry(2.0), "NS": entry(0.1), "onset_f1": entry(12.0)},
        "theirs": {"FAD": entry(3.0), "NS": entry(0.2)},
    }
    order = {"FAD": "lower", "NS": "higher", "onset_f1": "higher"}
    report = Report("ref", order, [Section("test", 7, rows)], "DAC reconstruction", ["SS is left out: ..."])
    lines = as_markdown(report).splitlines()
    assert "| | FDD ↓ | FDM ↓ | FAD ↓ | WC ↑ | CC ↑ | NS ↑ | SS ↓ |" in lines
    assert "| ours | – | – | **2.000** [1.900, 2.100] | – | – | 0.100 [0.000, 0.200] | – |" in lines
    assert "| theirs | – | – | 3.000 [2.900, 3.100] | – | – | **0.200** [0.100, 0.300] | – |" in lines
    assert "| DAC reconstruction | – | – | 0.500 [0.400, 0.600] | – | – | 0.900 [0.800, 1.000] | – |" in lines
    assert not any("fewer clips" in line for line in lines)  # each value is of 7 clips
    assert "- SS is left out: ..." in lines and "| ours | 12.00 [11.90, 12.10] |" in lines
    assert as_json(report)["systems"]["ours"]["FAD"] == entry(2.0)
    assert [number(x) for x in (-0.0001, 0.5, 10, 123.456, 3974.18)] == ["0.000", "0.500", "10.00", "123.5", "3974"]


# ---------------------------------------------------------------- what a person looks at
def test_page_has_players_strips_and_spectrograms(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    systems = [f"a & b={corpus / 'same'}", "--reference", str(corpus / "reference"), "--out", str(out)]
    assert evaluate.main([*systems, "--show", "1", "--metrics", "onsets"]) == 0
    page = (out / "index.html").read_text()
    assert "The result is complete." in page and "onset_lift: that minus" in page
    assert page.count("<video ") == 2 and "<figcaption>a &amp; b</figcaption>" in page and "http" not in page
    made = out / "media" / "ape" / "a & b.mp4"
    with Video(made) as video:
        assert video.has_audio
    loud = read_audio(made, RATE)
    assert np.corrcoef(loud[: 3 * RATE], hits(0)[: 3 * RATE])[0, 1] > 0.8
    for name in ("bars-0.png", "strips/ape/a & b.png", "spectrograms/a & b.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_silence_looks_dark_beside_the_loudest() -> None:
    axes = Figure().subplots(1, 2)
    for one, audio in zip(axes, (np.zeros(RATE), np.sin(np.arange(RATE))), strict=True):
        draw_spectrogram(one, audio, RATE)
    silence, sound = (one.images[0] for one in axes)
    assert silence.get_array().max() < -0.9 * RANGE and sound.get_array().max() == 0
    assert silence.get_clim() == sound.get_clim() == (-RANGE, 0)


def test_shown_clips_are_spread() -> None:
    names = [f"{n:02}" for n in range(10)]
    assert choose(names, 0) == frozenset() and choose(names, 99) == frozenset(names)
    assert choose(names, 5) == {"00", "02", "04", "06", "08"}


def test_av_benchmark_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export = AVBenchmark(Path("av"))
    film = tmp_path / "film.mp4"
    write_video(film, Picture(steady(25, 25)))
    long, short = (MeasuredSound(np.full(n * RATE, 0.5, np.float32), RATE) for n in (SECONDS + 1, SECONDS - 1))
    export.add(Clip("zxpo56cpUBU_000007-0", long, film, {"ours": short}))  # a name that av-benchmark would cut
    export.add(Clip("zxpo56cpUBU_000007", long, None, {"ours": long}))
    export.add(Clip("brief", short, film, {"ours": long}))
    files = sorted(p.relative_to(tmp_path / "av").as_posix() for p in (tmp_path / "av").rglob("*.*"))
    names = ("zxpo56cpUBU_000007-0-av", "zxpo56cpUBU_000007")
    assert files == sorted(
        [f"{folder}/{name}.wav" for folder in ("gt_audio", "pred_audio/ours") for name in names]
        + [f"videos/{names[0]}.mp4"]
    )
    assert {len(read_audio(p, RATE)) for p in (tmp_path / "av").rglob("*.wav")} == {SECONDS * RATE}
    words = export.summary_lines()
    assert words[0].startswith("2 clips") and words[1].startswith("left out for av-benchmark: brief")
    assert any("evaluate.py" in line and "--audio_length=8" in line for line in words)
    assert all(f"--gt_cache {tmp_path / 'av' / 'gt_cache'} " in line for line in words[2:])  # run elsewhere


def test_measures_must_be_known() -> None:
    with pytest.raises(OptionError, match="choose from"):
        core.load_measures(["XYZ"], None, "cpu")
    ready, missing = core.load_measures(None, None, "cpu")
    assert {loaded.metric.name for loaded in ready} >= {"FDM", "onsets"} and any(
        "FDD is left out" in m for m in missing
    )
