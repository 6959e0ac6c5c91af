"""From a fresh clone to a broadcast WAV from the page and a sound on Blender's timeline: the seconds of each step.

It does what README.md, docs/PAGE.md and plugins/blender/README.md say, with everything as it is at first; a script is
the user's hand. Needs git, a package index, Chromium, playwright, and a Python that has `bpy` in place of Blender.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.campaigns import blender, report
from tests.support.paths import ROOT
from tests.support.serve_process import wait_for

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 300  # seconds for one sound
GUEST = blender.GUEST
Step = dict[str, Any]


class Walk:
    """One walk through the guides. `steps` has what was done, and the seconds that it took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clone = folder, folder / "maskvat"
        self.steps: list[Step] = []
        ours = ("PYTHONPATH", "VIRTUAL_ENV")  # of whoever runs this
        self.environment = {name: value for name, value in os.environ.items() if name not in ours}
        self.environment |= {"PIP_NO_CACHE_DIR": "1", "XDG_STATE_HOME": str(folder / "state")}  # as on a new machine

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.steps.append({"step": what, "seconds": round(time.monotonic() - begin, 1)})

    def guide(self, name: str, pattern: str) -> str:
        """The command of a guide that a pattern finds."""
        found = re.search(pattern, (self.clone / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert found, f"{name} has no command like {pattern}"
        return found[1].strip()

    def shell(self, line: str) -> None:
        """Run a command of a guide in the root of the clone, in its environment once that is there."""
        inside = f". .venv/bin/activate && {line}" if (self.clone / ".venv").exists() else line
        done = subprocess.run(
            ["sh", "-c", inside], cwd=self.clone, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"


# ---------------------------------------------------------------- install
def install(walk: Walk) -> None:
    with walk.step("git clone"):
        blender.call(["git", "clone", "--quiet", f"file://{ROOT}", walk.clone], check=True)
    with walk.step("python3 -m venv .venv"):
        walk.shell(walk.guide("README.md", r"\(`(python3 -m venv \.venv) "))
    line = walk.guide("docs/PAGE.md", r"^(pip install .*)$")
    with walk.step(line):
        walk.shell(line)


# ---------------------------------------------------------------- the page
def browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def served(walk: Walk) -> Iterator[str]:
    """The server of docs/PAGE.md, stopped at the end; the address that it opens."""
    opened, script = walk.folder / "opened", walk.folder / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > "{opened}.part" && mv "{opened}.part" "{opened}"\n')
    script.chmod(0o755)
    line = walk.guide("docs/PAGE.md", r"^(maskvat serve .*)$")
    environment = walk.environment | {"BROWSER": str(script)}
    with open(walk.folder / "told", "wb") as told, walk.step(line):
        process = subprocess.Popen(
            ["sh", "-c", f". .venv/bin/activate && exec {line}"], cwd=walk.clone, env=environment, stderr=told
        )
        wait_for(lambda: opened.exists() or process.poll() is not None)
    try:
        assert opened.exists(), (walk.folder / "told").read_text()
        yield opened.read_text().strip()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def use_page(walk: Walk, address: str) -> Path:
    """Drop the example, make sounds, and download the best one as a broadcast WAV."""
    from playwright.sync_api import expect, sync_playwright

    program = browser()
    assert program, f"no browser: none of {', '.join(BROWSERS)} is installed"
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as driver, driver.chromium.launch(executable_path=program, args=["--no-sandbox"]) as opened:
        page = opened.new_page(viewport={"width": 1280, "height": 720})
        with walk.step("page: open it, choose examples/bounce.mp4"):
            page.goto(address)
            page.set_input_files("#file", walk.clone / "examples" / "bounce.mp4")
            expect(page.locator("#status")).to_contain_text("is ready")
        with walk.step("page: Make sounds (2 takes, 32 steps)"):
            page.get_by_role("button", name="Make sounds").click()
            expect(page.locator(".take:has(:checked)")).to_contain_text("Take 1")
        with walk.step("page: Download, Broadcast WAV, Make files, and its link"):
            page.locator("#deliver-task > summary").click()
            page.get_by_label("Broadcast WAV").check()
            page.get_by_role("button", name="Make files").click()
            expect(page.locator("#files li").first).to_contain_text("LUFS")
            with page.expect_download() as download:
                page.locator("#files").get_by_role("link", name="bounce.wav").first.click()
            sound = walk.folder / download.value.suggested_filename
            download.value.save_as(sound)
    return sound


# ---------------------------------------------------------------- Blender
def use_blender(walk: Walk, python: Path) -> dict[str, Any]:
    """Build the extension, install it, and put a sound on the timeline. Returns what Blender shows."""
    with walk.step("Blender: build the zip"):
        walk.shell(walk.guide("plugins/blender/README.md", r"`python (-m zipfile .*?)`").join(("python ", "")))
    answer, names = walk.folder / "answer.json", walk.folder / "names.json"
    given = {"folder": str(walk.folder), "zip": str(walk.clone / "maskvat-blender.zip"), "answer": str(answer)}
    given |= {"program": str(walk.clone / ".venv" / "bin" / "maskvat"), "parts": ["first"]}
    names.write_text(json.dumps(given | {"clip30": str(walk.clone / "examples" / "bounce.mp4")}))
    environment = walk.environment | {"BLENDER_USER_RESOURCES": str(walk.folder / "resources")}
    with walk.step("Blender: start and end"):
        done = blender.call([python, GUEST, names], cwd=walk.folder, env=environment)
    assert answer.exists(), done.stderr[-2000:]
    found = dict(json.loads(answer.read_text(encoding="utf-8")))
    assert "fault" not in found["first"], found["first"]
    for step in found["first"]["steps"]:
        walk.steps[-1]["seconds"] = round(walk.steps[-1]["seconds"] - step["seconds"], 1)
    walk.steps += found["first"]["steps"]
    return found


# ---------------------------------------------------------------- judge
def run(python: Path, folder: Path) -> dict[str, Any]:
    """Everything once; the steps, the sum of their seconds, and what is wrong as `faults`."""
    walk = Walk(folder)
    install(walk)
    with served(walk) as address:
        sound = use_page(walk, address).read_bytes()
    found = use_blender(walk, python)
    total = round(sum(step["seconds"] for step in walk.steps), 1)
    checks: list[blender.Check] = [
        ("the page's file is a broadcast WAV", b"bext" in sound and b"iXML" in sound, len(sound))
    ]
    checks += blender.placed("Blender", found["first"], 1)
    faults = [blender.clean(check, folder) for check in checks if not check[1]]
    return {"blender": found["blender"], "steps": walk.steps, "seconds": total, "faults": faults}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.first_sound", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--python", type=Path, required=True, help="a Python that has bpy")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        found = run(args.python.absolute(), Path(temporary))
    for step in found["steps"]:
        print(f"{step['seconds']:7.1f} s  {step['step']}")
    print(f"{found['seconds']:7.1f} s  together")
    report.finish("first_sound", found, args.out)
    return int(bool(found["faults"]))


if __name__ == "__main__":
    sys.exit(main())
