"""MaskVAT for DaVinci Resolve: makes a sound for the clip under the playhead and puts it on a new audio track.

For Studio, and for the free edition up to 21.0.4 (later ones run no Python). README.md says how to install and use it.
Python 3.8 or newer, standard library only. The engine runs as a child process: `maskvat --progress json`.
"""

import configparser
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

SETTINGS = Path.home() / "maskvat-resolve.ini"
LOG = Path.home() / "maskvat-resolve.log"
BIN = "MaskVAT"  # bin of the media pool for the sounds
POOL = ("GetCurrentFolder", "GetRootFolder", "AddSubFolder", "SetCurrentFolder", "ImportMedia", "AppendToTimeline")
TRACKS = ("AddTrack", "GetTrackCount", "SetTrackName", "GetItemListInTrack", "DeleteClips")
NTSC = (24, 30, 48, 60, 120)  # whole rates that have a version slower by 1000/1001
TOLERANCE = 2  # frames by which the source frames that Resolve gives may be off


class Problem(Exception):
    """Something the user can do something about. The text says what."""


def say(text):
    """Tell the user: in Resolve's Console and in the log."""
    print(f"MaskVAT: {text}")
    sys.stdout.flush()
    try:
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    except OSError:
        pass  # the Console has it


def check(target, *names):
    """Raise Problem if a function is missing. Any name looks as if it existed there; what can be called counts."""
    for name in names:
        if not callable(getattr(target, name, None)):
            raise Problem(f"this version of Resolve has no {name}; use a timeline file instead (README.md)")


def ask(target, name, *arguments):
    """Call a function of Resolve."""
    check(target, name)
    return getattr(target, name)(*arguments)


# ---------------------------------------------------------------- what Resolve says
def exact_rate(value):
    """A frame rate as Resolve gives it ("23.976", 29.97, "29.97 DF", 50.0), as an exact fraction."""
    try:
        number = float(str(value).split()[0])
    except (ValueError, IndexError):
        raise Problem(f"Resolve gives {value!r} as frame rate; only numbers are understood") from None
    for whole in NTSC:
        if abs(number - whole * 1000 / 1001) < 0.005:
            return Fraction(whole * 1000, 1001)
    if number < 1 or abs(number - round(number)) > 0.001:
        raise Problem(f"the frame rate {value!r} is not a standard one; use a timeline file instead (README.md)")
    return Fraction(round(number))


class Clip:
    """The used part of the clip under the playhead, in frames."""

    def __init__(self, timeline):
        self.item = ask(timeline, "GetCurrentVideoItem")
        if not self.item:
            raise Problem("no clip under the playhead; move the playhead onto a clip of a video track")
        media = ask(self.item, "GetMediaPoolItem")
        self.path = (ask(media, "GetClipProperty", "File Path") if media else None) or ""
        if not self.path:
            raise Problem("the clip under the playhead has no video file (a title, generator or compound clip)")
        if not os.path.isfile(self.path):
            raise Problem(f"{self.path}: no such file; relink the clip")
        self.rate = exact_rate(ask(timeline, "GetSetting", "timelineFrameRate"))
        self.start = int(ask(self.item, "GetStart"))  # counts from midnight, not from the timeline's start
        self.frames = int(ask(self.item, "GetDuration"))
        self.first = int(ask(self.item, "GetLeftOffset"))  # of the source
        self._refuse_other_speeds(ask(media, "GetClipProperty", "FPS"))

    def _refuse_other_speeds(self, source_rate):
        if source_rate and exact_rate(source_rate) != self.rate:
            raise Problem(
                f"the clip has {source_rate} frames per second and the timeline {float(self.rate):.3f}: Resolve's "
                "numbers are not exact then. Use a timeline of the clip's rate, or a timeline file (README.md)"
            )
        first, end = ask(self.item, "GetSourceStartFrame"), ask(self.item, "GetSourceEndFrame")
        if first is None or end is None:
            return
        span = abs(int(end) - int(first))
        if abs(span - self.frames) > TOLERANCE or int(end) < int(first):
            raise Problem(
                f"the clip shows {span} frames of its video in {self.frames} frames of the timeline: its speed was "
                "changed. Render it in place, then use the new clip"
            )


# ---------------------------------------------------------------- the engine
def read_settings(path=None):
    """(program, options) as lists of arguments, from the settings file if there is one."""
    path = SETTINGS if path is None else path
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
        section = parser["maskvat"] if parser.has_section("maskvat") else {}
        posix = os.name != "nt"  # a Windows path has backslashes
        program = [word.strip('"') for word in shlex.split(section.get("program", ""), posix=posix)]
        options = shlex.split(section.get("options", ""), posix=posix)
    except (configparser.Error, ValueError, OSError) as error:
        raise Problem(f"cannot read {path}: {error}") from None
    if not program:
        found = shutil.which("maskvat")
        if not found:
            raise Problem(f"the program maskvat was not found; write its path into {path} (README.md)")
        program = [found]
    return program, options


def new_output(clip):
    """(name of a sound file that does not exist yet, number of this try). It is beside the video if possible."""
    video = Path(clip.path)
    for folder in (video.parent / BIN, Path.home() / BIN):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            break
    else:
        raise Problem(f"cannot write beside {video} or in {Path.home() / BIN}; make one of them writable")
    number = 1
    name = f"{video.stem} {clip.first}-{clip.first + clip.frames}"
    while any(folder.glob(f"{_literal(name)} {number}.*")):
        number += 1
    return folder / f"{name} {number}.wav", number


def _literal(name):
    return "".join(f"[{letter}]" if letter in "[]*?" else letter for letter in name)


def make_sounds(clip, program, options, show=say):
    """Run the engine on the used part of the clip. Returns the sound files, the best take first."""
    output, number = new_output(clip)
    command = [*program, clip.path, "-o", str(output), "--range", f"{clip.first}f-{clip.first + clip.frames}f"]
    command += ["--seed", str(number), "--rate", "48000", *options, "--progress", "json"]  # the last of a flag counts
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}  # they are Resolve's
    try:
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0), encoding="utf-8", errors="replace",
            )  # fmt: skip
    except OSError as error:
        raise Problem(f"cannot start {command[0]}: {error.strerror or error}; check {SETTINGS}") from None
    report, error = None, None
    with process:
        for line in process.stdout:
            report, error = _read_event(line, show, report, error)
    if error or process.returncode or report is None:
        raise Problem(error or f"maskvat ended with status {process.returncode}; {LOG} says more")
    for warning in report.get("warnings", ()):
        show(warning)
    return [name for name in report["outputs"] if name.lower().endswith((".wav", ".flac"))]


def _read_event(line, show, report, error):
    try:
        event = json.loads(line)
    except ValueError:
        return report, error  # not ours
    if event.get("event") == "progress":
        show(f"{event['stage']} {100 * event['fraction']:.0f} %")
    elif event.get("event") == "done":
        report = event["report"]
    elif event.get("event") == "error":
        error = event["message"]
    return report, error


# ---------------------------------------------------------------- onto the timeline
def import_sounds(pool, paths):
    """Import files into a bin of their own. The user's bin is current again afterwards."""
    before, root = ask(pool, "GetCurrentFolder"), ask(pool, "GetRootFolder")
    bins = [folder for folder in ask(root, "GetSubFolderList") or [] if ask(folder, "GetName") == BIN]
    target = bins[0] if bins else ask(pool, "AddSubFolder", root, BIN)
    if target:
        ask(pool, "SetCurrentFolder", target)
    try:
        found = ask(pool, "ImportMedia", [str(path) for path in paths]) or []
    finally:
        if before:
            ask(pool, "SetCurrentFolder", before)
    by_path = {os.path.normcase(ask(media, "GetClipProperty", "File Path") or ""): media for media in found if media}
    missing = [path for path in paths if os.path.normcase(str(path)) not in by_path]
    if missing:
        raise Problem(f"Resolve did not import {', '.join(map(str, missing))}; drag them onto the timeline yourself")
    return [by_path[os.path.normcase(str(path))] for path in paths]


def place(pool, timeline, media, clip, name):
    """Put one sound on a new track, at the clip's start. Returns (track, frames that it has there by a new reading)."""
    if not ask(timeline, "AddTrack", "audio", "mono"):
        raise Problem("Resolve added no audio track; unlock the timeline and try again")
    track = int(ask(timeline, "GetTrackCount", "audio"))
    ask(timeline, "SetTrackName", "audio", track, name)
    own_rate = ask(media, "GetClipProperty", "FPS")  # a sound gets the project's rate when it is imported
    length = round(clip.frames / clip.rate * (exact_rate(own_rate) if own_rate else clip.rate))
    tried = {}
    for end in (length, length - 1, length + 1):  # whether the end frame belongs to it differs between versions
        tried[end] = _try_end(pool, timeline, media, clip, track, end)
        if tried[end] == clip.frames:
            return track, clip.frames
        _remove(timeline, track)
    end = min(tried, key=lambda end: abs(tried[end] - clip.frames))
    frames = _try_end(pool, timeline, media, clip, track, end) if tried[end] else 0
    if abs(frames - clip.frames) > 1:
        _remove(timeline, track)
        _if_there(timeline, "DeleteTrack", "audio", track)
        raise Problem(f"Resolve placed {frames} of {clip.frames} frames; drag the sound from the bin {BIN} yourself")
    say(f"Resolve shows {name} with {frames} frames instead of {clip.frames}")
    return track, frames


def _try_end(pool, timeline, media, clip, track, end):
    """Append up to this end frame. Returns the frames found at the clip's start afterwards; 0 if there are none."""
    wish = {"mediaPoolItem": media, "startFrame": 0, "endFrame": end, "mediaType": 2, "trackIndex": track}
    try:
        answer = ask(pool, "AppendToTimeline", [{**wish, "recordFrame": clip.start}])
    except RuntimeError:
        answer = None
    if not answer:
        return 0  # what an unsuccessful call left on the track would vanish later
    items = ask(timeline, "GetItemListInTrack", "audio", track) or []  # the answer alone proves nothing
    found = [item for item in items if int(ask(item, "GetStart")) == clip.start]
    return int(ask(found[0], "GetDuration")) if found else 0


def _remove(timeline, track):
    items = ask(timeline, "GetItemListInTrack", "audio", track)
    return bool(items) and ask(timeline, "DeleteClips", items, False)


def _if_there(target, name, *arguments):
    """Call a function that only newer versions have."""
    return callable(getattr(target, name, None)) and getattr(target, name)(*arguments)


# ---------------------------------------------------------------- the whole
def run(resolve):
    """Make and place the sounds of the clip under the playhead. Raises Problem. Returns the sound files."""
    product = ask(resolve, "GetProductName") or "DaVinci Resolve"  # first: free editions refuse some calls for good
    manager = ask(resolve, "GetProjectManager")
    project = ask(manager, "GetCurrentProject") if manager else None
    timeline = ask(project, "GetCurrentTimeline") if project else None
    if not timeline:
        raise Problem(f"{product} has no timeline open; open one")
    pool = ask(project, "GetMediaPool")
    check(pool, *POOL)
    check(timeline, *TRACKS)
    clip = Clip(timeline)
    program, options = read_settings()
    say(f"{Path(clip.path).name}, frames {clip.first} to {clip.first + clip.frames}")
    paths = make_sounds(clip, program, options)
    media = import_sounds(pool, paths)
    for number, path in enumerate(paths, 1):
        track, _ = place(pool, timeline, media[number - 1], clip, f"MaskVAT take {number}")
        if number > 1:  # or all takes would sound at once
            _if_there(timeline, "SetTrackEnable", "audio", track, False)
        say(f"placed {path}")
    return paths


def main(resolve):
    """Run, and tell what went wrong. Returns whether it worked."""
    try:
        if not resolve:
            raise Problem("Resolve gives no access to scripts; the free edition from 21.1 on has none (README.md)")
        run(resolve)
    except Problem as problem:
        say(f"error: {problem}")
    except Exception as error:  # a menu script that fails shows nothing at all otherwise
        say(f"error: {type(error).__name__}: {error}; please report it")
    else:
        return True
    return False


if __name__ == "__main__":
    main(globals().get("resolve"))  # Resolve puts it there
