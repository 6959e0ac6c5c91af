"""FFmpeg's own copy (`ffmpeg -map 0 -c copy`) is the reference: what it keeps, ours keeps, reports, or refuses."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.deliver.mux import CONTAINERS, mux
from runtime.errors import MediaError

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="needs ffmpeg and ffprobe"),
]
RATE = 44100
# codec: (how to make it, kinds of file to make)
SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "h264": ("libx264 -preset veryfast -pix_fmt yuv420p", ("mp4", "mov", "mkv", "ts", "flv")),
    "h264-no-b": ("libx264 -preset veryfast -pix_fmt yuv420p -bf 0", ("mp4", "avi", "ts")),
    "hevc-hdr": (
        "libx265 -preset ultrafast -pix_fmt yuv420p10le -x265-params log-level=error -tag:v hvc1 "
        "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc",
        ("mp4", "mov", "mkv"),
    ),
    "mpeg4": ("mpeg4 -bf 2", ("avi", "mp4", "mkv")),
    "mpeg2": ("mpeg2video -bf 2", ("mpg", "ts", "mkv", "mov")),
    "vp8-alpha": ("libvpx -auto-alt-ref 0 -pix_fmt yuva420p", ("webm", "mkv")),
    "vp9": ("libvpx-vp9 -cpu-used 8", ("webm", "mp4", "mkv")),
    "mjpeg": ("mjpeg -pix_fmt yuvj422p", ("avi", "mov", "mkv")),
    "png": ("png", ("mov", "avi")),
    "prores-alpha": ("prores_ks -profile:v 4 -pix_fmt yuva444p10le", ("mov", "mkv")),
    "prores-lt": ("prores_ks -profile:v 1 -pix_fmt yuv422p10le", ("mov", "mkv")),
    "dnxhr": ("dnxhd -profile:v dnxhr_lb -pix_fmt yuv422p", ("mov", "mkv")),
    "ffv1": ("ffv1 -pix_fmt yuv422p10le", ("mkv", "avi")),
    "utvideo": ("utvideo -pix_fmt yuv422p", ("avi", "mov")),
    "huffyuv": ("huffyuv", ("avi", "mkv")),
    "raw-420": ("rawvideo -pix_fmt yuv420p", ("avi", "mov")),
    "raw-yuyv": ("rawvideo -pix_fmt yuyv422", ("avi", "mov")),
    "raw-bgr": ("rawvideo -pix_fmt bgr24", ("avi",)),
    "v210": ("v210 -pix_fmt yuv422p10le", ("mov", "avi")),
    "qtrle-alpha": ("qtrle -pix_fmt argb", ("mov",)),
    "dv": ("dvvideo -pix_fmt yuv420p -s 720x576", ("avi", "mov")),
    "cinepak": ("cinepak", ("avi",)),
    "h263": ("h263 -s 352x288", ("mp4", "mov", "avi")),
    "magicyuv": ("magicyuv", ("avi", "mkv")),
}
KEPT = ("codec_name", "pix_fmt", "sample_aspect_ratio", "color_space", "color_transfer", "color_primaries")
WORDS = {
    "sample_aspect_ratio": "shape",
    "color_space": "colour matrix",
    "color_transfer": "colour trc",
    "color_primaries": "colour primaries",
}


def ffmpeg(*words: Any) -> "subprocess.CompletedProcess[str]":
    command = ["ffmpeg", "-nostdin", "-y", "-hide_banner", "-v", "error", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def picture(path: Path) -> str:
    """A digest of the decoded picture, or why there is none."""
    done = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "md5", "-")
    return done.stdout.strip() or "undecodable"


def probed(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_streams", "-of", "json", str(path)]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["streams"][0])


@pytest.mark.parametrize(("codec", "kind"), [(codec, kind) for codec, (_, kinds) in SOURCES.items() for kind in kinds])
def test_as_ffmpeg_copies(tmp_path: Path, codec: str, kind: str) -> None:
    source = tmp_path / f"source.{kind}"
    made = ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=256x128:rate=25", "-t", "0.4"),
        *("-c:v", *SOURCES[codec][0].split(), "-strict", "-2", source),
    )
    if made.returncode:
        pytest.skip(f"this ffmpeg cannot make it: {made.stderr[:100]}")
    shown, before = picture(source), probed(source)
    for suffix in dict.fromkeys(CONTAINERS):
        out, reference = tmp_path / f"out{suffix}", tmp_path / f"reference{suffix}"
        try:
            warnings = " ".join(mux(source, np.zeros(RATE), RATE, out))
        except MediaError:
            assert not out.exists()
            continue
        assert picture(out) == shown
        copied = ffmpeg("-i", source, "-map", "0", "-c", "copy", "-strict", "unofficial", reference).returncode == 0
        kept, after = probed(reference) if copied and picture(reference) == shown else {}, probed(out)
        for key in KEPT:
            if before.get(key) not in (None, "unknown", "1:1") and kept.get(key) == before[key]:
                assert after.get(key) == before[key] or WORDS.get(key, key) in warnings, (suffix, key)


TAGS = ("title", "artist", "comment", "date", "creation_time", "com.apple.quicktime.make", "com.android.version")


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_tags_and_tracks_as_ffmpeg_copies(tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"source.{kind}"
    (tmp_path / "a.srt").write_text("1\n00:00:00,200 --> 00:00:00,700\nHello\n\n")
    words = [
        w for tag in TAGS for w in ("-metadata", f"{tag}={'2024-05-01T10:00:00Z' if tag == 'creation_time' else tag}")
    ]
    done = ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "sine", "-i", tmp_path / "a.srt"),
        *("-map", "0", "-map", "1", "-map", "2", "-t", "1", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"),
        *("-c:s", "srt" if kind == "mkv" else "mov_text", "-movflags", "use_metadata_tags", *words),
        *("-metadata:s:v:0", "language=jpn", "-metadata:s:a:0", "language=fra", "-disposition:s:0", "forced", source),
    )
    assert done.returncode == 0, done.stderr
    for suffix in (".mp4", ".mov", ".mkv"):
        out, reference = tmp_path / f"out{suffix}", tmp_path / f"reference{suffix}"
        warnings = " ".join(mux(source, np.zeros(RATE), RATE, out, existing="keep"))
        flags = ("-movflags", "use_metadata_tags")
        if ffmpeg("-i", source, "-map", "0", "-c", "copy", *flags, reference).returncode:
            assert "left out 1 x subtitle" in warnings
            continue
        ours, theirs = everything(out), everything(reference)
        for tag, value in theirs["format"].get("tags", {}).items():
            if tag.lower() in TAGS:
                assert {k.lower(): v for k, v in ours["format"]["tags"].items()}.get(
                    tag.lower()
                ) == value or tag in warnings
        types = [s["codec_type"] for s in ours["streams"]]
        assert sorted(types) == sorted([*(s["codec_type"] for s in theirs["streams"]), "audio"])


def everything(path: Path) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True).stdout))
