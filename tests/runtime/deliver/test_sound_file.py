"""Sound files: bytes and samples of WAV, RF64 and FLAC, and broadcast WAV as independent readers see it."""

import io
import json
import shutil
import struct
import subprocess
import wave
from datetime import datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime import MediaError, OptionError
from runtime.audio import write_wav
from runtime.deliver.broadcast import Origin, broadcast_chunks, time_reference
from runtime.deliver.loudness import Loudness, measure_loudness
from runtime.deliver.sound_file import check_sound_file, write_sound, write_wav_to
from runtime.edit.timecode import Timecode
from runtime.media.wav import Bits, WavFormat, wav_header

RATE = 48000
NTSC = Fraction(30000, 1001)
LOUDNESS = Loudness(-23.04, 4.5, -18.2, -20.1, -1.23, True)


def sound(seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(0)
    audio = rng.uniform(-0.7, 0.7, round(seconds * rate)).astype(np.float32)
    audio[:4] = (1.5, -1.5, -1.0, 0.6 / 2**23)
    return audio


def origin(start: Timecode | None = None, **changes: object) -> Origin:
    facts = {
        "description": "Tür & <Tor>.mov",
        "identifier": "0123456789abcdef0123456789abcdef",
        "version": "1.2.3",
        "settings": {"bundle": "mini", "seed": "7, or so"},
        "take": 2,
        "made": datetime(2026, 11, 29, 13, 14, 15),
        "offset": Fraction(0),
        "start": start,
    }
    return Origin(**(facts | changes))


def decoded(path: Path) -> tuple[str, int, int, np.ndarray]:
    """(sample format, rate, channels, samples [L, channels]) by FFmpeg."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [f.to_ndarray() for f in container.decode(stream)]
        channels = stream.codec_context.layout.nb_channels
        planes = [f if len(f) == channels and channels > 1 else f.reshape(-1, channels).T for f in frames]
        return stream.codec_context.format.name, stream.rate, channels, np.concatenate(planes, axis=1).T


# ---------------------------------------------------------------- samples
def test_the_plain_format_has_the_same_bytes_as_ever(tmp_path: Path) -> None:
    for length in (0, 1, 70001):
        audio = np.resize(sound(), length)
        write_wav(tmp_path / "a.wav", audio, 44100)
        write_sound(tmp_path / "b.wav", audio, WavFormat(44100))
        size = 2 * length
        fields = (b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, 44100, 88200, 2, 16, b"data", size)
        header = struct.pack("<4sI4s4sIHHIIHH4sI", *fields)
        integers = np.clip(np.rint(audio * 32768.0), -32768, 32767).astype("<i2")
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes() == header + integers.tobytes()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("bits", ["16", "24", "float"])
@pytest.mark.parametrize("length", [1, 4801])
def test_wav_reads_back_exactly(tmp_path: Path, bits: Bits, channels: int, length: int) -> None:
    audio = np.resize(sound(), length)
    write_sound(tmp_path / "a.wav", audio, WavFormat(RATE, bits, channels))
    name, rate, found, samples = decoded(tmp_path / "a.wav")
    assert (name, rate, found) == ({"16": "s16", "24": "s32", "float": "flt"}[bits], RATE, channels)
    if bits == "float":
        expected = audio
    else:
        scale = 2.0 ** (int(bits) - 1)
        expected = np.clip(np.rint(audio.astype(np.float64) * scale), -scale, scale - 1).astype(np.int64)
        samples = samples.astype(np.int64) >> (8 if bits == "24" else 0)
    assert np.array_equal(samples, np.tile(expected[:, None], channels))
    size = (tmp_path / "a.wav").stat().st_size
    assert size % 2 == 0 and struct.unpack("<I", (tmp_path / "a.wav").read_bytes()[4:8])[0] == size - 8


def test_python_reads_24_bits(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", sound(), WavFormat(RATE, "24", 2))
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (2, 3, RATE, len(sound()))
        first = [int.from_bytes(file.readframes(1)[:3], "little", signed=True) for _ in range(4)]
    assert first == [2**23 - 1, -(2**23), -(2**23), 1]


def test_a_pipe_gets_the_same_bytes(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """Takes bytes from front to back."""

        def __init__(self) -> None:
            self.data = b""

        def write(self, data: bytes) -> int:
            self.data += data
            return len(data)

    pipe, form = Pipe(), WavFormat(RATE, "24")
    write_wav_to(pipe, sound(), form)
    write_sound(tmp_path / "a.wav", sound(), form)
    assert pipe.data == (tmp_path / "a.wav").read_bytes()


def test_above_4_gb_the_file_is_rf64(tmp_path: Path) -> None:
    form, samples = WavFormat(RATE, "24", 2), 2**32 // 6
    assert wav_header(form, samples - 100)[:4] == b"RIFF"
    header = wav_header(form, samples)
    assert (header[:4], header[8:16], header[4:8]) == (b"RF64", b"WAVEds64", b"\xff" * 4)
    assert struct.unpack("<QQQI", header[20:48]) == (len(header) + 6 * samples - 8, 6 * samples, samples, 0)
    audio = sound()
    with open(tmp_path / "a.wav", "wb") as file:  # a small one, which FFmpeg must read like a large one
        file.write(wav_header(form, len(audio), [(b"bext", b"x" * 602)], limit=1000))
        write_wav_to(body := io.BytesIO(), audio, form)
        file.write(body.getvalue()[44:])
    _, rate, channels, read = decoded(tmp_path / "a.wav")
    write_sound(tmp_path / "b.wav", audio, form)
    assert (rate, channels) == (RATE, 2) and np.array_equal(read, decoded(tmp_path / "b.wav")[3])


# ---------------------------------------------------------------- FLAC
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("bits", ["16", "24"])
def test_flac_has_the_samples_of_the_wav_and_tags(tmp_path: Path, bits: Bits, channels: int) -> None:
    form, tags = WavFormat(44100, bits, channels), {"TITLE": "Tür & <Tor>", "COMMENT": "seed 7"}
    write_sound(tmp_path / "a.wav", sound(3), form)
    write_sound(tmp_path / "a.FLAC", sound(3), form, tags=tags)
    assert (tmp_path / "a.FLAC").read_bytes()[:4] == b"fLaC"
    found, wanted = decoded(tmp_path / "a.FLAC"), decoded(tmp_path / "a.wav")
    assert found[1:3] == wanted[1:3] == (44100, channels)
    assert np.array_equal(found[3], wanted[3])
    with av.open(str(tmp_path / "a.FLAC")) as container:
        read = {key.upper(): value for key, value in container.metadata.items()}
        assert container.streams.audio[0].codec_context.codec.name == "flac"
    assert tags.items() <= read.items()
    rerun = tmp_path / "again.flac"
    write_sound(rerun, sound(3), form, tags=tags)
    assert rerun.read_bytes() == (tmp_path / "a.FLAC").read_bytes()


@pytest.mark.parametrize(
    ("name", "form", "broadcast", "message"),
    [
        ("a.mp3", WavFormat(RATE), False, "a.mp3 is not a .wav or .flac file; for a video with sound use --mux"),
        ("a", WavFormat(RATE), False, "a is not a .wav or .flac file"),
        ("a.flac", WavFormat(RATE, "float"), False, "FLAC holds 16 or 24 bits, and no float samples; use --bits 24"),
        ("a.flac", WavFormat(RATE), True, "a broadcast WAV (--bwf) is a WAV file; name a .wav file"),
        ("a.flac", WavFormat(768_000), False, "FLAC holds up to 655350 Hz, not 768000"),
    ],
)
def test_formats_that_a_file_cannot_have(name: str, form: WavFormat, broadcast: bool, message: str) -> None:
    with pytest.raises(OptionError) as error:
        check_sound_file(name, form, broadcast)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["no/a.wav", "no/a.flac"])
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="does not exist; create it"):
        write_sound(tmp_path / name, sound(), WavFormat(RATE))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- broadcast WAV
@pytest.mark.parametrize(
    ("code", "rate", "reference"),
    [
        ("10:00:00:00", Fraction(25), 1728000000),
        ("01:00:00;00", NTSC, 172799827),
        ("01:00:00:00", NTSC, 172972800),
        ("01:00:00:00", Fraction(24000, 1001), 172972800),
    ],
)
def test_time_reference(code: str, rate: Fraction, reference: int) -> None:
    start = Timecode.parse(code, rate)
    assert time_reference(origin(start), RATE) == reference
    assert time_reference(origin(start, offset=Fraction(3, 2)), RATE) == pytest.approx(reference + 72000, abs=1)
    assert time_reference(origin(None, offset=Fraction(3, 2)), RATE) == 72000
    late = Timecode.parse("23:59:59:00", Fraction(25))
    assert time_reference(origin(late, offset=Fraction(3)), RATE) == 2 * RATE  # past midnight
    long = Timecode.parse("23:59:59:00", NTSC)  # a day of this timecode lasts 86486.4 s
    assert time_reference(origin(long), RATE) == long.samples(RATE) > 86400 * RATE


@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_wavinfo_reads_every_field(tmp_path: Path, bits: Bits) -> None:
    wavinfo = pytest.importorskip("wavinfo", reason="needs wavinfo: pip install '.[test]'")
    form, start = WavFormat(RATE, bits, 2), Timecode.parse("10:00:00:00", Fraction(25))
    path = tmp_path / "a.wav"
    write_sound(path, sound(), form, broadcast_chunks(form, origin(start), LOUDNESS))
    info = wavinfo.WavInfoReader(str(path))
    assert info.data.frame_count == len(sound())
    assert (info.fmt.sample_rate, info.fmt.channel_count) == (RATE, 2)
    bext = info.bext
    assert (bext.version, bext.time_reference) == (2, 1728000000)
    assert bext.description == "T?r & <Tor>.mov" and bext.originator == "MaskVAT"
    assert bext.originator_ref == "0123456789abcdef0123456789abcdef"
    assert (bext.originator_date, bext.originator_time) == ("2026-11-29", "13:14:15")
    assert bext.loudness_value == pytest.approx(-23.04) and bext.loudness_range == pytest.approx(4.5)
    assert bext.max_true_peak == pytest.approx(-1.23) and bext.max_momentary_loudness == pytest.approx(-18.2)
    assert bext.max_shortterm_loudness == pytest.approx(-20.1)
    width = {"16": 16, "24": 24, "float": 32}[bits]
    history = f"A=PCM,F=48000,W={width},M=dual-mono,T=MaskVAT 1.2.3;bundle=mini;seed=7  or so\r\n"
    assert bext.coding_history == history
    assert (info.ixml.project, info.ixml.scene, info.ixml.take) == ("MaskVAT", "Tür & <Tor>.mov", "2")
    assert [track.name for track in info.ixml.track_list] == ["MaskVAT take 2"] * 2
    speed = {e.tag: e.text for e in info.ixml.parsed.find("SPEED")}
    assert (speed["TIMECODE_RATE"], speed["TIMECODE_FLAG"], speed["FILE_SAMPLE_RATE"]) == ("25/1", "NDF", "48000")
    high, low = (int(speed[f"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_{end}"]) for end in ("HI", "LO"))
    assert (high << 32) + low == bext.time_reference


def test_ixml_leaves_speed_out_without_timecode_and_marks_drop_frame() -> None:
    form = WavFormat(RATE, "24")
    chunks = dict(broadcast_chunks(form, origin(None), LOUDNESS))
    assert b"SPEED" not in chunks[b"iXML"] and b"TIMECODE" not in chunks[b"iXML"]
    dropped = dict(broadcast_chunks(form, origin(Timecode.parse("01:00:00;00", NTSC)), LOUDNESS))[b"iXML"]
    assert b"<TIMECODE_RATE>30000/1001<" in dropped and b"<TIMECODE_FLAG>DF<" in dropped


def test_loudness_that_was_not_measured(tmp_path: Path) -> None:
    form = WavFormat(RATE)
    silent = measure_loudness(np.zeros(RATE, np.float32), RATE)
    content = dict(broadcast_chunks(form, origin(), silent))[b"bext"]
    assert struct.unpack("<5h", content[412:422]) == (0x7FFF,) * 5
    assert len(content) == 602 + len(content[602:]) and content[602:].endswith(b"\r\n")


def test_ffmpeg_reads_the_time_reference_and_samples(tmp_path: Path) -> None:
    form, start = WavFormat(RATE, "24"), Timecode.parse("01:00:00;00", NTSC)
    write_sound(tmp_path / "a.wav", sound(), form, broadcast_chunks(form, origin(start), LOUDNESS))
    write_sound(tmp_path / "plain.wav", sound(), form)
    with av.open(str(tmp_path / "a.wav")) as container:
        assert container.metadata["time_reference"] == "172799827"
        assert container.metadata["coding_history"].startswith("A=PCM,F=48000,W=24,M=mono,T=MaskVAT")
    assert np.array_equal(decoded(tmp_path / "a.wav")[3], decoded(tmp_path / "plain.wav")[3])


@pytest.mark.host
def test_mediainfo_and_ffprobe_read_the_time_stamp(tmp_path: Path) -> None:
    form, start = WavFormat(RATE, "24", 2), Timecode.parse("10:00:00:00", Fraction(25))
    path = tmp_path / "a.wav"
    write_sound(path, sound(), form, broadcast_chunks(form, origin(start), LOUDNESS))
    tools = {"ffprobe": ["-v", "error", "-of", "json", "-show_format", "-show_streams"], "mediainfo": ["--Output=JSON"]}
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    read = {}
    for tool, options in tools.items():
        result = subprocess.run([tool, *options, str(path)], capture_output=True, text=True, check=True)
        read[tool] = json.loads(result.stdout)
    probe, stream = read["ffprobe"]["format"]["tags"], read["ffprobe"]["streams"][0]
    assert probe["time_reference"] == "1728000000" and probe["encoded_by"] == "MaskVAT"
    assert (stream["bits_per_sample"], stream["sample_rate"], stream["channels"]) == (24, "48000", 2)
    tracks = {track["@type"]: track for track in read["mediainfo"]["media"]["track"]}
    assert float(tracks["Audio"]["Delay"]) == 36000 and "bext" in tracks["Audio"]["Delay_Source"]
    assert tracks["Audio"]["BitDepth"] == "24" and tracks["General"]["Producer"] == "MaskVAT"
