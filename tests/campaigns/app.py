"""The app on a Linux that has the C library and nothing else: no Python, no shell, no network, nobody's rights.

`python -m deploy.app --out APP` makes the app; then `--app APP`. Needs root, Linux and mmdebstrap with a Debian mirror.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.app.build import call, facts
from tests.campaigns import report
from tests.support.paths import EXAMPLE, ROOT
from tests.support.serve_process import ServeProcess

DEBIAN, PACKAGES = "bookworm", ("libc6",)
USER = "10001:10001"
QUICK = ("--steps", "8", "--threads", "1")
LIMIT = 600  # seconds
# A root that is read-only but for /clips, seen by this process alone; then somebody without rights, in that root
ENTER = """set -e
mount --bind "$0" "$0" && mount --bind "$0/clips" "$0/clips" && mount -o remount,bind,ro "$0"
mount -t proc proc "$0/proc"
exec chroot --userspec={user} "$0" /maskvat/maskvat "$@"
"""
Check = tuple[str, bool, object]  # what should be true, whether it is, and what was seen


class Bare:
    """A root folder with the C library and the app."""

    def __init__(self, root: Path, app: Path) -> None:
        self.root, self.work = root, root / "clips"
        call("mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}", DEBIAN, root)
        shutil.copytree(app, root / "maskvat", symlinks=True)
        for name in ("clips", "proc"):
            (root / name).mkdir(exist_ok=True)
        shutil.copy(EXAMPLE, self.work / "bounce.mp4")
        os.chown(self.work, 10001, 10001)
        self.work.chmod(0o700)

    def line(self, *words: str, network: bool = False) -> list[str]:
        """The command line that runs the app in there."""
        apart = ["unshare", "--mount", *([] if network else ["--net"])]
        enter = ENTER.format(user=USER)
        return ["env", "-i", f"PATH={os.environ['PATH']}", *apart, "sh", "-c", enter, str(self.root), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.line(*words), capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL
        )

    def others(self) -> list[str]:
        """Programs and scripts besides the app and the C library's loader."""
        files = [p for p in self.root.rglob("*") if p.is_file() and not p.is_relative_to(self.root / "maskvat")]
        begun = {p.relative_to(self.root).as_posix(): p.read_bytes()[:4] for p in files if os.access(p, os.X_OK)}
        return [name for name, head in begun.items() if head.startswith((b"\x7fELF", b"#!")) and ".so" not in name]


# ---------------------------------------------------------------- what is tried
def commands(bare: Bare) -> Iterator[Check]:
    """The commands that need no server."""
    version = bare.run("--version")
    yield "--version", version.stdout.startswith("maskvat ") and version.returncode == 0, version.stdout.strip()
    doctor = bare.run("doctor")
    yield "doctor passes", doctor.returncode == 0 and "self-test passed" in doctor.stdout, doctor.stdout[-60:]
    made = bare.run("/clips/bounce.mp4", "-o", "/clips/bounce.wav", "--mux", *QUICK)
    sound = bare.work / "bounce.wav"
    yield "it makes a sound", made.returncode == 0 and sound.exists(), made.stderr[-200:]
    unknown = bare.run("/clips/bounce.mp4", "-o", "/clips/none.wav", "--prompt", "zzzz")
    yield "a message names its own command", "`maskvat info --words`" in unknown.stderr, unknown.stderr.strip()
    wrong = bare.run("/clips/none.mp4")
    yield "an error is one line", wrong.returncode == 1 and wrong.stderr.startswith("error: "), wrong.stderr.strip()
    shell = bare.run("completion", "bash")
    yield "completion", shell.returncode == 0 and "maskvat" in shell.stdout, len(shell.stdout)


def same_sound(bare: Bare) -> Iterator[Check]:
    """The sound has the bytes that the program makes in Python here."""
    target = bare.root.parent / "python.wav"
    call(sys.executable, "-m", "runtime.commands", EXAMPLE, "-o", target, *QUICK)
    made, wanted = (bare.work / "bounce.wav").read_bytes(), target.read_bytes()
    yield "the same bytes as in Python", made == wanted, len(made)


def served(bare: Bare, seconds: dict[str, float]) -> Iterator[Check]:
    """The server, its page, and a job. Notes how long the start took."""
    state = bare.work / "state"
    begun = time.perf_counter()
    with ServeProcess(
        state, program=bare.line("serve", "--threads", "1", network=True), inside="/clips/state"
    ) as server:
        ready = 0.0
        while not ready and time.perf_counter() - begun < LIMIT:
            try:
                server.get("/ready")
                ready = time.perf_counter() - begun
            except OSError as error:  # 503 until a worker has opened the bundle
                why = error
                time.sleep(0.1)
        if not ready:
            yield "the server is ready", False, str(why)
            return
        seconds["ready_seconds"] = round(ready, 2)
        with server.open("GET", "/") as page:
            kind, text = page.headers["Content-Type"], page.read().decode()
        yield "there is a page", kind.startswith("text/html"), kind
        parts = [*re.findall(r'="(/page/[^"]+)"', text), "/page/vendor/wavesurfer.esm.js"]
        yield "with its parts", all(server.bytes(part) for part in parts), parts
        job = server.wait(server.ask(file_id=server.upload(EXAMPLE), options={"steps": 8}), seconds=LIMIT)
        yield "a job succeeds", job["status"] == "succeeded", job.get("error")
        sound = server.bytes(f"/v1/jobs/{job['id']}/results/sound.wav")
        yield "its sound is the same", sound == (bare.work / "bounce.wav").read_bytes(), len(sound)
        yield "it ends when it is told", server.stop() == 0, ""


def opened(app: Path, folder: Path) -> Iterator[Check]:
    """`--open` starts the user's browser, without the app's libraries. A script stands for the browser."""
    if "--open" not in call(app / "maskvat", "serve", "--help"):
        return  # a version without the page
    browser, seen = folder / "browser", folder / "seen"
    browser.write_text(f'#!/bin/sh\necho "$1 [$LD_LIBRARY_PATH]" > {seen}.part && mv {seen}.part {seen}\n')
    browser.chmod(0o755)
    program = ["env", f"BROWSER={browser}", str(app / "maskvat"), "serve", "--open"]
    with ServeProcess(folder / "opened", program=program) as server:
        end = time.monotonic() + 30
        while not seen.exists() and time.monotonic() < end:
            time.sleep(0.1)
        said = seen.read_text() if seen.exists() else ""
        yield "--open opens the page", said.startswith(f"{server.url}/") and "[]" in said, said.partition("#")[0]


def newest_glibc(app: Path) -> str:
    """The newest version of the C library that a file of the app asks for."""
    found = set()
    for path in app.rglob("*"):
        if path.is_file() and (".so" in path.name or path.name == "maskvat"):
            data = path.read_bytes()
            found |= {word.split(b"\0")[0] for word in data.split(b"GLIBC_")[1:]}
    versions = [tuple(map(int, v.split(b"."))) for v in found if v[:8].replace(b".", b"").isdigit()]
    return ".".join(map(str, max(versions)))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.app", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--app", type=Path, help="folder that `python -m deploy.app` made (default: make one)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    checks: list[Check] = []
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        app = args.app or folder / "app"
        if args.app is None:
            call(sys.executable, "-m", "deploy.app", "--out", app)
        bare = Bare(folder / "root", app)
        checks.append(("no program but the app", bare.others() == [], bare.others()))
        for part in (commands(bare), same_sound(bare), served(bare, seconds), opened(app, folder)):
            for check in part:
                checks.append(check)
                print("ok" if check[1] else "FAULT", *check[::2], file=sys.stderr, flush=True)
        measured = facts(app) | seconds | {"glibc": newest_glibc(app)}
    faults = [what for what, good, _ in checks if not good]
    found: dict[str, Any] = {"root": f"Debian {DEBIAN}: {', '.join(PACKAGES)}", "user": USER, "faults": faults}
    found |= {"checks": [{"what": w, "ok": ok, "seen": s} for w, ok, s in checks], "app": measured}
    report.finish("app", json.loads(json.dumps(found).replace(str(ROOT), "")), args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
