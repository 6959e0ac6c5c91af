"""Preparing a folder: shapes, windows, sound beside or inside the video, and skipped files."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

from engines.contract import ModelConfig
from runtime.audio import write_wav
from runtime.video import FrameGrid
from tests.support.media import Picture, Sound, clicks, number, steady, write_video
from train import checkpoint
from train.checkpoint import PREPARED_ARRAYS, system_config
from train.data.video_files import video_sound
from train.models.beats import BEATs, BEATsConfig
from train.models.codec import FrameCodec, FrameCodecConfig
from train.models.mobilenet import MobileNetV2, MobileNetV2Config
from train.models.s3d import S3D, S3DConfig
from train.prepare import __main__ as prepare
from train.prepare import folder

RATE = 44100
ORIGIN = {"name": "test", "code_licence": "-", "data_licence": "-", "origin": "test", "trained": False}
CODEC = FrameCodecConfig(
    codebook_size=16, latent=16, decoder_mlp=16, decoder_blocks=1
)  # fmt: skip
PARTS = {
    "codec": ("framecodec", FrameCodec, CODEC),
    "frame_encoder": ("mobilenet_v2", MobileNetV2, MobileNetV2Config(width=0.1, resize=40, size=32)),
    "sync_encoder": ("s3d", S3D, S3DConfig(width=0.05, feature="mixed_4d", resize=32, size=32)),
    "audio_encoder": ("beats", BEATs, BEATsConfig(16, 16, 1, 2, 32, 8, 4)),
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("system")
    save_parts(folder, *PARTS)
    return folder


def save_parts(folder: Path, *names: str) -> None:
    for name in names:
        kind, cls, config = PARTS[name]
        torch.manual_seed(0)
        checkpoint.save(folder, name, cls(config), kind, ORIGIN)


def make_video(folder: Path, name: str, seconds: float, sound: float | None = None) -> Path:
    """A video at 10 fps, with clicks in a sound file beside it."""
    folder.mkdir(exist_ok=True)
    path = write_video(folder / f"{name}.mp4", Picture(steady(round(seconds * 10), 10), last=0.1))
    write_wav(path.with_suffix(".wav"), clicks(round((sound or seconds) * RATE), RATE), RATE)
    return path


def test_arrays_have_the_contract_s_shapes(system: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "clips", "one", 10.0)
    events = [{"time": 0.25, "end": 0.0, "strength": 0.5}, {"time": 3.0, "end": 4.0, "strength": 1.0}]
    video.with_suffix(".json").write_text(json.dumps({"events": events}))
    assert prepare.main([str(tmp_path / "clips"), str(system), str(tmp_path / "out")]) == 0
    config = system_config(folder.load_components(system))
    with np.load(tmp_path / "out" / "one.npz") as arrays:
        assert arrays["codes"].shape == (9, 862) and arrays["codes"].dtype == np.uint16 and arrays["codes"].max() < 16
        assert arrays["frame_features"].shape == (80, config.frame_dim) == (config.n_frames(862), config.frame_dim)
        assert arrays["sync_features"].shape == (config.n_sync(862), config.sync_dim)
        assert arrays["audio_features"].shape[1:] == (8, config.audio_dim)
        assert {arrays[n].dtype for n in ("frame_features", "sync_features", "audio_features")} == {
            np.dtype(np.float16)
        }
        assert arrays["events"].tolist() == [[0.25, 0.0, 0.5], [3.0, 4.0, 1.0]]
        assert "frames" not in arrays


def test_config_is_what_the_components_are(system: Path) -> None:
    parts = folder.load_components(system)
    config = system_config(parts, design="seq2seq", hidden_size=64, n_heads=2, codec_latent=999)
    assert (config.design, config.hidden_size, config.codec_latent) == ("seq2seq", 64, 16)
    assert (config.frame_resize, config.frame_size, config.frame_dim) == (40, 32, parts["frame_encoder"].dim)
    assert (config.sync_size, config.sync_stride, config.sync_offset, config.sync_fps) == (32, 4, 0, 25)
    assert (config.audio_dim, config.codebook_size, config.codec_context) == (16, 16, parts["codec"].context)
    assert system_config({}) == ModelConfig()


def test_long_videos_become_windows(system: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "clips", "long", 21.0)
    video.with_suffix(".json").write_text(json.dumps({"events": [{"time": 10.25, "end": 10.5, "strength": 1.0}]}))
    assert prepare.main([str(tmp_path / "clips"), str(system), str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["long-w1.npz", "long.npz"]  # 1 s is left out
    with np.load(tmp_path / "out" / "long-w1.npz") as second, np.load(tmp_path / "out" / "long.npz") as first:
        assert second["events"].tolist() == [[0.25, 0.5, 1.0]] and not len(first["events"])
        assert second["codes"].shape == first["codes"].shape


def test_windows_take_the_right_frames(tmp_path: Path) -> None:
    config = ModelConfig(frame_resize=16, frame_size=16, sync_resize=16, sync_size=16, frame_fps=10)
    with folder.Video(make_video(tmp_path, "a", 20.0)) as video:
        windows = list(folder.video_windows(video, config))
    assert [(len(c), len(s)) for c, s in windows] == [(100, 256), (100, 256)]
    frames, sync_frames = windows[1]
    assert number(frames[0]) == 100 % 50 and number(sync_frames[0]) == 100 % 50
    assert number(sync_frames[249]) == number(sync_frames[255]) == 199 % 50  # the last picture stays
    assert number(windows[0][1][255]) == 102 % 50  # and the first window looks on


def test_short_video_is_filled_and_too_short_one_skipped(system: Path, tmp_path: Path, capsys) -> None:
    make_video(tmp_path / "clips", "short", 2.0)
    make_video(tmp_path / "clips", "tiny", 0.5)
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"not a video")
    write_video(tmp_path / "clips" / "mute.mp4", Picture(steady(20, 10), last=0.1))
    assert prepare.main([str(tmp_path / "clips"), str(system), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert all(f"skipped {name}.mp4" in printed.err for name in ("tiny", "broken", "mute")) and "1 of 4" in printed.out
    with np.load(tmp_path / "out" / "short.npz") as arrays:
        assert arrays["codes"].shape == (9, 862) and arrays["frame_features"].shape[0] == 80


def test_bad_and_foreign_files_are_named_skipped_and_counted(tmp_path: Path, capsys) -> None:
    save_parts(tmp_path / "system", "frame_encoder")
    folder = tmp_path / "clips"
    make_video(folder, "good", 1.5)
    whole = make_video(folder, "cut", 1.5)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    (folder / "good.txt").write_text("notes")
    write_wav(folder / "orphan.wav", clicks(RATE, RATE), RATE)
    (folder / "folder.mp4").mkdir()
    for name, label in (("list", "[1, 2]"), ("text", '{"events": ["x"]}'), ("half", '{"events": [{"ti')):
        make_video(folder, name, 1.5).with_suffix(".json").write_text(label)
    make_video(folder, "nan", 1.5).with_suffix(".json").write_text('{"events": [{"time": NaN}]}')
    for flags in ([], ["--frames"]):
        assert prepare.main([str(folder), str(tmp_path / "system"), str(tmp_path / "out"), *flags]) == 0
        printed = capsys.readouterr()
        skipped = {line.split()[1].rstrip(":") for line in printed.err.splitlines() if line.startswith("skipped")}
        bad = {"cut.mp4", "folder.mp4", "list.mp4", "text.mp4", "half.mp4", "nan.mp4"}
        assert skipped == bad | {"good.txt", "orphan.wav"} and "1 of 7 videos ready" in printed.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.frames.npy", "good.npz"]


def test_nothing_usable_is_an_error(tmp_path: Path, capsys) -> None:
    save_parts(tmp_path / "system", "frame_encoder")
    (tmp_path / "clips").mkdir()
    command = [str(tmp_path / "clips"), str(tmp_path / "system"), str(tmp_path / "out")]
    assert prepare.main(command) == 1
    assert "error: " in (printed := capsys.readouterr().err) and "holds no videos (.mp4" in printed
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"not a video")
    assert prepare.main(command) == 1
    assert "error: none of the 1 videos" in (printed := capsys.readouterr().err) and "first broken.mp4: " in printed


def test_absent_component_leaves_its_array_out(tmp_path: Path, capsys) -> None:
    save_parts(tmp_path / "system", "frame_encoder")
    make_video(tmp_path / "clips", "one", 1.5)
    assert prepare.main([str(tmp_path / "clips"), str(tmp_path / "system"), str(tmp_path / "out")]) == 0
    assert "no codec" in capsys.readouterr().err
    with np.load(tmp_path / "out" / "one.npz") as arrays:
        assert set(arrays) == {"frame_features", "events", "made_by"}
    assert prepare.main([str(tmp_path / "clips"), str(tmp_path / "none"), str(tmp_path / "out")]) == 1


def test_resumes_and_makes_again_only_what_other_weights_make(tmp_path: Path, monkeypatch) -> None:
    system, out = tmp_path / "system", tmp_path / "out" / "one.npz"
    save_parts(system, "frame_encoder")
    make_video(tmp_path / "clips", "one", 1.5)
    made: list[list[str]] = []
    encode = folder.encode_window

    def encode_and_record(components, *rest):  # which arrays are made
        made.append([PREPARED_ARRAYS[name] for name in components])
        return encode(components, *rest)

    monkeypatch.setattr(folder, "encode_window", encode_and_record)

    def again() -> dict[str, np.ndarray]:
        made.clear()
        assert prepare.main([str(tmp_path / "clips"), str(system), str(out.parent)]) == 0
        with np.load(out) as arrays:
            return dict(arrays)

    first = again()
    assert made == [["frame_features"]]
    again()
    assert made == []
    save_parts(system, "codec")
    second = again()
    assert made == [["codes"]] and np.array_equal(first["frame_features"], second["frame_features"])
    codec = checkpoint.load(system, "codec")
    with torch.no_grad():
        codec.head.weight.add_(1)  # a decoder that is trained further gives the same codes
    checkpoint.save(system, "codec", codec, "framecodec", ORIGIN)
    again()
    assert made == []
    torch.manual_seed(5)
    checkpoint.save(system, "frame_encoder", MobileNetV2(PARTS["frame_encoder"][2]), "mobilenet_v2", ORIGIN)
    third = again()
    assert made == [["frame_features"]] and np.array_equal(second["codes"], third["codes"])
    assert not np.array_equal(second["frame_features"], third["frame_features"])
    out.write_bytes(out.read_bytes()[:99])
    again()
    assert made == [["codes", "frame_features"]]


def test_sound_inside_the_video_starts_with_the_picture(tmp_path: Path) -> None:
    """A sound track that starts 0.2 s after the picture is shifted by 0.2 s."""
    audio = clicks(2 * RATE, RATE)
    picture = Picture(steady(20, 10), last=0.1)
    late = write_video(tmp_path / "late.mkv", picture, Sound(audio[None], RATE, "flac", start=0.2))
    found = video_sound(late, 0.0, RATE)
    assert abs(int(np.argmax(np.abs(found) > 0.1)) - int(np.argmax(np.abs(audio) > 0.1)) - 0.2 * RATE) < 0.003 * RATE
    early = video_sound(late, 0.3, RATE)
    assert len(early) == pytest.approx(len(found) - 0.3 * RATE, abs=100)


def test_frames_for_sync_training(tmp_path: Path, capsys) -> None:
    video = make_video(tmp_path / "clips", "one", 2.0)
    events = [{"time": 1.0, "end": 0.0, "strength": 0.5}, {"time": 1.2, "end": 1.9, "strength": 1.0}]
    video.with_suffix(".json").write_text(json.dumps({"events": events}))
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"not a video")
    command = [str(tmp_path / "clips"), str(tmp_path / "no-system"), str(tmp_path / "out"), "--frames"]
    assert prepare.main(command) == 0
    frames = np.load(tmp_path / "out" / "one.frames.npy", mmap_mode="r")
    assert frames.shape == (50, 112, 112, 3) and frames.dtype == np.uint8 and number(frames[25]) == 10
    assert "skipped broken.mp4" in capsys.readouterr().err
    assert prepare.main(command) == 0 and "one\n" not in capsys.readouterr().out
    assert folder.sync_frames(video, FrameGrid(25, 32, 32), seconds=3.0).shape == (75, 32, 32, 3)


def test_clips_that_share_a_picture_encode_it_once(system: Path, tmp_path: Path, monkeypatch) -> None:
    """Variants are hard links to one video. Those that show concepts keep them in place of frame features."""
    first = make_video(tmp_path / "clips", "a", 12.0)
    shown = [[0.0, 4.0, {"dog": 1.0}], [4.0, 12.0, {}]]
    for name, concepts in (("b", shown), ("c", []), ("d", shown)):
        (tmp_path / "clips" / f"{name}.mp4").hardlink_to(first)
        write_wav(tmp_path / "clips" / f"{name}.wav", clicks(12 * RATE, RATE) / 2, RATE)
        (tmp_path / "clips" / f"{name}.json").write_text(json.dumps({"events": [], "concepts": concepts}))
    first.with_suffix(".json").write_text(json.dumps({"events": [], "concepts": shown}))
    made: list[list[str]] = []
    encode, decode = folder.encode_window, folder.video_windows

    def encode_and_record(components, *rest):
        made.append(sorted(components))
        return encode(components, *rest)

    def decode_and_record(*arguments):
        made.append(["decoded"])
        return decode(*arguments)

    monkeypatch.setattr(folder, "encode_window", encode_and_record)
    monkeypatch.setattr(folder, "video_windows", decode_and_record)
    command = [str(tmp_path / "clips"), str(system), str(tmp_path / "out")]
    assert prepare.main(command) == 0
    sound = ["audio_encoder", "codec"]
    frames = sorted([*sound, "frame_encoder"])
    assert made == [["decoded"], sorted([*sound, "sync_encoder"]), sound, ["decoded"], frames, sound]
    arrays = {name: dict(np.load(tmp_path / "out" / f"{name}.npz")) for name in "abcd"}
    for name, found in arrays.items():
        assert ("concepts" in found) == ("frame_features" not in found) == (name != "c")
        assert np.array_equal(found["sync_features"], arrays["a"]["sync_features"])
        assert np.array_equal(found["codes"], arrays["a" if name == "a" else "b"]["codes"])
    assert json.loads(str(arrays["d"]["concepts"])) == [[0.0, 4.0, {"dog": 1.0}], [4.0, 10.0, {}]]
    made.clear()
    (tmp_path / "out" / "d.npz").unlink()
    assert prepare.main(command) == 0 and made == [sound]  # a second run takes the picture from the first one's files


def test_concepts_that_are_damaged_are_named(system: Path, tmp_path: Path, capsys) -> None:
    make_video(tmp_path / "clips", "good", 1.5)
    make_video(tmp_path / "clips", "bad", 1.5).with_suffix(".json").write_text('{"events": [], "concepts": [[0, 1]]}')
    assert prepare.main([str(tmp_path / "clips"), str(system), str(tmp_path / "out")]) == 0
    assert "skipped bad.mp4: bad.json does not say which concepts are seen" in capsys.readouterr().err
