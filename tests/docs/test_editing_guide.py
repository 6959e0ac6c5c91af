"""Each command of the table in docs/EDITING.md, as it stands there, on a real video."""

import json
import re
import shlex
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime import Loudness, Words
from runtime.commands.stdio.requests import args_of
from runtime.commands.words import read_words
from runtime.infer import main
from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Sound, write_timed
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "EDITING.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| ([^|]+) \| `maskvat (shot\.mov.*?)` \|$", GUIDE, re.MULTILINE))
WRITTEN = {  # what an editor does -> the files that the command adds
    "open all takes on a timeline": ["shot.otio", "shot.take2.wav", "shot.take3.wav", "shot.take4.wav", "shot.wav"],
    "keep the facts beside the file": ["shot.json", "shot.wav"],
    "silence where nothing should sound": ["shot.json", "shot.wav"],
    "save space without loss": ["shot.flac"],
    "hear it under the production sound": ["shot.sound.mov", "shot.wav"],
    "feed another program": [],
    "hear a part in its place in the video": ["shot.sound.mov", "shot.wav"],
    "save a take, to change it later": ["shot.wav", "take.npz"],
    "try again on half a second, keep the rest": ["shot.wav", "take2.npz"],
    "choose among several new versions of it": ["shot.take2.wav", "shot.take3.wav", "shot.take4.wav", "shot.wav"],
}
SECONDS = {  # of the sound, if it is not for the whole video
    "continue a take to the end of the video": 1.6,
    "continue a take, but not to the end": 1.4,
}
FORMATS = {  # of the sound file: codec, rate, channels
    "deliver 24 bit at 48 kHz": ("pcm_s24le", 48000, 1),
    "keep full precision for a mix": ("pcm_f32le", 44100, 1),
    "fill a stereo track": ("pcm_s16le", 44100, 2),
    "save space without loss": ("flac", 44100, 1),
    "deliver a saved take in another format": ("pcm_s24le", 48000, 1),
}
pytestmark = NEEDS_ORT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with shot.mov: two seconds with timecode and sound."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(96000) / 48000)
    sound = Sound(tone[None].astype(np.float32), 48000, "pcm_s16le")
    write_timed(tmp_path / "shot.mov", Fraction(25), "10:00:00:00", 50, sound=sound)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_is_read() -> None:
    assert len(ROWS) == GUIDE.count("| `maskvat ") > 10 and set(WRITTEN) | set(FORMATS) <= set(ROWS)


@pytest.mark.parametrize("deed", ROWS)
def test_the_command_does_it(
    bundles: Callable[..., Path], folder: Path, capfdbinary: pytest.CaptureFixture[bytes], deed: str
) -> None:
    arguments, _, reader = ROWS[deed].partition(r"\|")
    options = ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1", "--report", "report"]
    steps, given = ["--steps", "2"], {"shot.mov", "report"}
    if "--from take.npz" in arguments:
        assert main([*shlex.split(ROWS["save a take, to change it later"]), *options, *steps]) == 0
        (folder / "shot.wav").unlink()
        (folder / "report").unlink()
        given, steps = given | {"take.npz"}, []
    assert main([*shlex.split(arguments), *options, *steps]) == 0
    written = sorted(p.name for p in folder.iterdir() if p.name not in given)
    assert written == WRITTEN.get(deed, ["shot.wav"])
    assert (capfdbinary.readouterr().out[:4] == b"RIFF") == bool(reader)
    for name in written:
        if name.endswith((".wav", ".flac")):
            with av.open(name) as container:
                stream = container.streams.audio[0]
                part = 1.2 if "--range" in arguments or "--from" in arguments else 2
                assert float(stream.duration * stream.time_base) == pytest.approx(SECONDS.get(deed, part), abs=1e-4)
                found = (stream.codec_context.name, stream.rate, stream.channels)
                assert ("time_reference" in container.metadata) == ("--bwf" in arguments)
            assert found == FORMATS.get(deed, ("pcm_s16le", 44100, 1))


def test_the_fields_of_the_report_are_documented() -> None:
    table = GUIDE.partition("## Loudness in the report")[2].partition("\n## ")[0]
    for field in (*Loudness.__dataclass_fields__, "rate", "bits", "channels", "samples", "gain", "loudness"):
        assert f"`{field}`" in table


def run_example(guide: str, bundle: Path) -> dict[str, Any]:
    """Run the Python example of a guide. Returns its names."""
    import runtime

    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    with runtime.load(bundle, "cpu", 1) as pipeline:
        names: dict[str, Any] = {"runtime": runtime, "pipeline": pipeline}
        exec(code, names)
    return names


def test_the_python_example_of_words_works(bundles: Callable[..., Path], folder: Path) -> None:
    guide = (ROOT / "docs" / "WORDS.md").read_text(encoding="utf-8")
    names = run_example(guide, bundles())
    assert [p["prompt"] for p in names["again"].report.words["prompts"]] == ["dog:2, street", "door", "door"]
    assert names["sound"].gate.facts()["set"] == "auto"
    (options,) = re.findall(r"`options` has the flags: `(.*?)`", guide)
    args = args_of({"video": "shot.mov", "options": json.loads(options)})
    assert read_words(args) == Words("dog", avoid="car", at=[("0.4-0.8", "door")]) and args.silence == "-50"


def test_the_python_example_works(bundles: Callable[..., Path], folder: Path) -> None:
    import runtime

    names = run_example(GUIDE, bundles())
    take = names["take"]
    assert (folder / "shot.wav").is_file() and json.loads(json.dumps(names["facts"]))["samples"] == 1.2 * 48000
    assert take.report.loudness[0] == runtime.deliver_take(take, runtime.DeliveryConfig(fade=0)).loudness
