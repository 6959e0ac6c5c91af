"""The Blender add-on inside of Blender: install, generate, redo, cancel, and whether each sound is at its sample.

Needs a Python that has `bpy`, in an environment of its own, for example
`python3.11 -m venv V && V/bin/pip install bpy==4.5.15`; then `--python V/bin/python`. The engine is the real one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from runtime.audio import read_audio
from runtime.take import Take
from tests.campaigns import report
from tests.support.media import Picture, steady, write_video
from tests.support.paths import EXAMPLE, ROOT

ADDON = ROOT / "plugins" / "blender"
GUEST = Path(__file__).with_name("in_blender.py")
RATE = 48000
SAME, NEAR = 0.999, 2  # correlation of a sound with its place in the mix; samples (Blender rounds times to floats)
LIMIT = 600  # seconds
WORD = "dog"  # of the shipped bundle
TOOL = "scripts/addons_core/bl_pkg/cli/blender_ext.py"  # in Blender's own folder
WHERE = "import bpy, os; print(bpy.utils.resource_path('LOCAL'), flush=True); os._exit(0)"
REFUSALS = {  # what -> a part of the text that the user reads
    "nothing selected": "Select one movie strip; 0 are selected",
    "no take selected": "Select one sound strip that MaskVAT made; 0 are selected",
    "other rate": "The clip has 25 frames per second and the scene 30",
    "backwards": "plays backwards",
    "relative and unsaved": "relative, but this file was never saved",
    "missing": "absent.mp4 is missing",
    "no program": "/absent/maskvat was not found",
    "no model": "manifest.json",
    "unknown word": "the bundle does not know the word 'dooor'",
    "speed effect": "A Speed effect changes this strip",
    "strips left": "2",
}
PARTS = ("install", "trimmed", "reopened", "unsaved", "own_rate", "refused", "cancelled", "disabled")
Check = tuple[str, bool, object]  # what should be true, whether it is, and what was seen


# ---------------------------------------------------------------- the package
def call(command: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=LIMIT, **options)


def build(python: Path, folder: Path) -> tuple[Path, list[Check]]:
    """Validate and build the extension with Blender's own tool, and also with Python's zipfile."""
    tool = Path(call([python, "-c", WHERE]).stdout.strip().splitlines()[-1], TOOL)
    target, plain = folder / "maskvat.zip", folder / "plain.zip"
    done = [call([python, tool, "validate", ADDON])]
    done += [call([python, tool, "build", "--source-dir", ADDON, "--output-filepath", target])]
    done += [call([sys.executable, "-m", "zipfile", "-c", plain, ADDON])]
    done += [call([python, tool, "validate", path]) for path in (target, plain)]
    steps = ("validate", "build", "zipfile", "validate the zip", "validate zipfile's")
    checks: list[Check] = [
        (f"{what} succeeds", d.returncode == 0, d.stderr[-300:]) for what, d in zip(steps, done, strict=True)
    ]
    names = sorted(zipfile.ZipFile(target).namelist())
    wanted = sorted(p.name for p in ADDON.iterdir() if p.suffix in (".py", ".toml", ".md") or p.name == "LICENSE")
    return target, [*checks, ("the zip has the add-on's files alone", names == wanted, names)]


# ---------------------------------------------------------------- where a sound is
def place_of(sound: np.ndarray, mix: np.ndarray, near: int) -> tuple[int, float]:
    """Sample of the mix where a sound begins, within 3000 of `near`, and its correlation there."""
    low = max(0, near - 3000)
    window = mix[low : near + 3000 + len(sound)].astype(np.float64)
    sound = sound[: len(window)].astype(np.float64)
    size = len(window) + len(sound)
    product = np.fft.irfft(np.fft.rfft(window, size) * np.conj(np.fft.rfft(sound, size)), size)
    lag = int(np.argmax(product[: len(window) - len(sound) + 1]))
    part = window[lag : lag + len(sound)]
    norm = float(np.linalg.norm(part) * np.linalg.norm(sound))
    return low + lag, float(part @ sound) / norm if norm else 0.0


def placed(name: str, found: dict[str, Any], frame: int, late: float = 0.0) -> Iterator[Check]:
    """The audible sound begins where `frame` is shown, and the mix has nothing else."""
    sounds = [strip for strip in found["strips"] if strip["type"] == "SOUND"]
    audible = [strip for strip in sounds if not strip["mute"]]
    yield f"{name}: one sound is audible", len(audible) == 1, [s["name"] for s in audible]
    strip, mix = audible[0], read_audio(found["mix"], RATE)
    shown = round((strip["frames"][1] - strip["frames"][0]) * RATE / found["rate"])  # the rest is behind the picture
    sound = read_audio(strip["file"], RATE)[: shown - RATE // 10]
    expected = float((frame - 1) * RATE / Fraction(found["rate"]).limit_denominator(1001) + late * RATE)
    sample, correlation = place_of(sound, mix, round(expected))
    facts = {"frame": frame, "expected": round(expected, 1), "sample": sample, "correlation": round(correlation, 6)}
    yield f"{name}: the strip begins at the frame", strip["frames"][0] == frame, strip["frames"]
    yield f"{name}: the sound begins at the sample", abs(sample - expected) <= NEAR, facts
    yield f"{name}: the sound is whole", correlation > SAME, facts


# ---------------------------------------------------------------- what was seen
def judge(answer: dict[str, Any], folder: Path) -> Iterator[Check]:
    for part in PARTS:
        found = answer.get(part, {"fault": "Blender crashed"})
        if isinstance(found, dict) and "fault" in found:
            yield f"{part} ends well", False, found["fault"]
            return
    check = answer["install"]["check"]
    yield "the check button names the model", "model mini (contract 3), runs on cpu" in check, check
    yield "all icons are known", answer["install"]["unknown icons"] == [], answer["install"]["unknown icons"]
    yield from judge_trimmed(answer["trimmed"])
    moved = [s for s in answer["reopened"]["strips"] if s["type"] == "SOUND"]
    yield "a moved project is redone", len(moved) == 4 and "/moved/" in moved[-1]["file"], moved[-1]
    unsaved = answer["unsaved"]["strips"]
    beside = [Path(strip["stored"]).parent for strip in unsaved[1:]]
    yield "an unsaved file's sounds are beside the clip", beside == [folder / "clips" / "maskvat"] * 2, str(beside)
    yield "a clip of 100 frames has a sound of as many", unsaved[1]["frames"] == [37, 137], unsaved[1]["frames"]
    yield from placed("29.97", answer["unsaved"], 37)
    if answer["own_rate"] is not None:  # 7 frames of 60 are 2.9 frames of 25; the sound begins with frame 3
        yield from placed("25 in 60", answer["own_rate"], 107, 3 / 25 - 7 / 60)
    for what, text in REFUSALS.items():
        said = answer["refused"].get(what, "")
        yield f"refused: {what}", text in said, said
    stopped = answer["cancelled"]
    yield "cancel", stopped["code"] == "cancelled" and stopped["busy"] and not stopped["written"], stopped
    off = answer["disabled"]
    yield "the engine ends with the add-on", off["running"] and off["status"] is not None and not off["left"], off
    yield "the add-on can be enabled again", off["again"], off


def judge_trimmed(found: dict[str, Any]) -> Iterator[Check]:
    """60 frames at 30 a second from frame 47; then frames 62 to 76, both included, are made anew."""
    first, redone = found["generate"]["strips"], found["redo"]["strips"]
    yield "two takes on channels 2 and 3", [s["channel"] for s in first] == [1, 2, 3], [s["channel"] for s in first]
    yield "the second is muted", [s["mute"] for s in first] == [False, False, True], [s["mute"] for s in first]
    yield "frames of the takes", {tuple(s["frames"]) for s in first} == {(47, 107)}, [s["frames"] for s in first]
    yield "paths are relative", first[1]["stored"] == "//maskvat/bounce.001.wav", first[1]["stored"]
    yield from placed("30", found["generate"], 47)
    new, old = redone[-1], redone[1]
    yield "the old take is muted, the new one is above", (old["mute"], new["channel"]) == (True, 4), new
    yield from placed("redo", found["redo"], 47)
    takes = [Take.load(strip["take"]) for strip in (old, new)]
    frames = takes[0].codes.shape[1]
    changed = np.flatnonzero((takes[0].codes != takes[1].codes).any(axis=0)) * (2 / frames)
    inside = len(changed) > 0 and changed.min() >= 0.5 - 2 / frames and changed.max() <= 1.0
    words = [None if take.report.words is None else dict(take.report.words) for take in takes]
    yield "the new take has the word", words[0] is None and WORD in str(words[1]), words
    yield "only the marked range has new tokens", inside, [round(float(t), 3) for t in (changed[0], changed[-1])]


# ---------------------------------------------------------------- one Blender
def moving(count: int) -> list[np.ndarray]:
    """A bright square that jumps."""
    images = []
    for n in range(count):
        image = np.full((96, 128, 3), 40, np.uint8)
        x, y = 16 * (n // 5 % 6), 8 * (n // 7 % 7)
        image[y : y + 32, x : x + 32] = 220
        images.append(image)
    return images


def make_clips(folder: Path) -> dict[str, str]:
    folder.mkdir()
    (folder / "bounce.mp4").write_bytes(EXAMPLE.read_bytes())
    for name, rate in (("clip25", Fraction(25)), ("clip29", Fraction(30000, 1001))):
        picture = Picture(steady(100, rate), 1 / rate, (128, 96), images=moving(100))
        write_video(folder / f"{name}.mp4", picture)
    return {"clip30": str(folder / "bounce.mp4")} | {n: str(folder / f"{n}.mp4") for n in ("clip25", "clip29")}


def run(python: Path, folder: Path) -> dict[str, Any]:
    """Everything in one Blender: its version, the checks, and those that failed as `faults`."""
    program, names = folder / "maskvat", folder / "names.json"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m runtime.commands "$@"\n')
    program.chmod(0o755)
    (folder / "project").mkdir()
    target, checks = build(python, folder)
    given = {"folder": str(folder), "zip": str(target), "program": str(program), "parts": PARTS}
    given |= {"answer": str(folder / "answer.json"), "word": WORD}
    names.write_text(json.dumps(given | make_clips(folder / "clips")))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"BLENDER_USER_RESOURCES": str(folder / "resources"), "PYTHONWARNINGS": "always"}
    done = call([python, GUEST, names], cwd=folder, env=environment)
    warned = [line for line in (done.stdout + done.stderr).splitlines() if "maskvat" in line and "Deprecat" in line]
    checks.append(("Blender ends well", done.returncode == 0, done.stderr[-900:]))
    checks.append(("the add-on uses no name that will be removed", not warned, warned[:3]))
    text = (folder / "answer.json").read_text(encoding="utf-8")
    answer = json.loads(text.replace(f"{folder}/project", f"{folder}/moved"))  # the project was moved on the way
    checks += judge(answer, folder)
    rows = [{"check": what, "good": bool(good), "seen": clean(seen, folder)} for what, good, seen in checks]
    return {"blender": answer["blender"], "checks": rows, "faults": [row for row in rows if not row["good"]]}


def clean(seen: object, folder: Path) -> Any:
    """What was seen, without the names of this machine's folders."""
    return json.loads(json.dumps(seen, default=str).replace(str(folder), "FOLDER").replace(str(ROOT), "ROOT"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.blender", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--python", type=Path, nargs="+", required=True, help="Pythons that have bpy")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    found: dict[str, Any] = {}
    for python in args.python:
        with tempfile.TemporaryDirectory() as temporary:
            result = run(python.absolute(), Path(temporary))
        found[result["blender"]] = result
        for row in result["faults"]:
            print(f"fault in {result['blender']}: {row['check']}: {row['seen']}", file=sys.stderr)
        print(f"Blender {result['blender']}: {len(result['faults'])} faults in {len(result['checks'])} checks")
    report.finish("blender", found, args.out)
    return int(any(result["faults"] for result in found.values()))


if __name__ == "__main__":
    sys.exit(main())
