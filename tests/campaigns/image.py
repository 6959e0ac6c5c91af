"""The image as an operator runs it: a root that is read-only, no capabilities, no network, user 10001.

`deploy/image/build.sh FOLDER` makes it; then `--image FOLDER`. Needs root, podman and runc.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.campaigns import report
from tests.support.paths import EXAMPLE, ROOT
from tests.support.serve_process import ServeProcess, wait_for

USER = 10001
QUICK = ("--steps", "8", "--threads", "1")
LIMIT = 600  # seconds
# What a machine of one's own needs not: limits that a sandbox allows, and no timer of systemd for the health check
SANDBOX = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=2048:2048", "--no-healthcheck"]
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
NAME = "maskvat-campaign"
LOOK = """import json, os, pathlib, shutil
def writes(path):
    try:
        pathlib.Path(path, "x").touch()
        return True
    except OSError:
        return False
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({"user": os.getuid(), "capabilities": status["CapEff"].strip(), "no_new": status["NoNewPrivs"].strip(),
    "writes": [p for p in ("/", "/opt/maskvat", "/etc", "/tmp", "/var/lib/maskvat") if writes(p)],
    "curl": shutil.which("curl"), "lists": sorted(p.name for p in pathlib.Path("/opt/maskvat/share").iterdir())}))
"""
Check = tuple[str, bool, object]  # what should be true, whether it is, and what was seen


def podman(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["podman", "--runtime", "runc", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)


def run_line(image: str, folder: Path, *options: str) -> list[str]:
    """`podman run` with `folder` as the folder that may be written."""
    volume = f"{folder}:/var/lib/maskvat"
    return ["run", "--rm", "--name", NAME, *SANDBOX, *HARDENED, "--volume", volume, *options, image]


@contextmanager
def loaded(folder: Path) -> Iterator[str]:
    """The image from its file; its name. Afterwards it is gone."""
    done = podman("load", "--input", str(folder / "maskvat.tar"))
    found = re.search(r"localhost/maskvat:[\w.]+", done.stdout)
    if found is None:
        raise SystemExit(f"error: {folder / 'maskvat.tar'} cannot be loaded: {done.stderr.strip()}")
    try:
        yield found[0]
    finally:
        podman("rm", "--force", NAME)
        podman("rmi", "--force", found[0])


# ---------------------------------------------------------------- what is tried
def inside(image: str, folder: Path) -> Iterator[Check]:
    """Who runs there, and what may be written."""
    done = podman(*run_line(image, folder, "--network", "none", "--entrypoint", "python"), "-c", LOOK)
    if done.returncode:
        yield "a container starts", False, done.stderr[-300:]
        return
    seen = json.loads(done.stdout)
    yield "its user is 10001", seen["user"] == USER, seen["user"]
    yield "it has no capability", int(seen["capabilities"], 16) == 0, seen["capabilities"]
    yield "it can get no privileges", seen["no_new"] == "1", seen["no_new"]
    yield "only state and /tmp can be written", seen["writes"] == ["/tmp", "/var/lib/maskvat"], seen["writes"]
    yield "it has no curl", seen["curl"] is None, seen["curl"]
    yield "the lists are in it", {"LICENCES.md", "sbom.json"} <= set(seen["lists"]), seen["lists"]


def a_sound(image: str, folder: Path) -> Iterator[Check]:
    """A sound without a network; it has the bytes that the program makes here."""
    shutil.copy(EXAMPLE, folder / "bounce.mp4")
    words = ["make", "/var/lib/maskvat/bounce.mp4", "-o", "/var/lib/maskvat/bounce.wav", *QUICK]
    done = podman(*run_line(image, folder, "--network", "none"), *words)
    yield "it makes a sound without a network", done.returncode == 0, done.stderr[-200:]
    wanted = folder.parent / "here.wav"
    line = [sys.executable, "-m", "runtime.commands", str(EXAMPLE), "-o", str(wanted), *QUICK]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    made = folder / "bounce.wav"
    yield "the same bytes as here", made.exists() and made.read_bytes() == wanted.read_bytes(), wanted.stat().st_size


def served(image: str, folder: Path) -> Iterator[Check]:
    """The server, its health check, a job, and its end."""
    flags = ["serve", "--host", "0.0.0.0", "--allow-host", "localhost", "--threads", "1"]
    line = ["podman", "--runtime", "runc", *run_line(image, folder, "--network", "host"), *flags]
    with ServeProcess(folder / "state", program=line, inside="/var/lib/maskvat/state") as server:
        port = server.url.rpartition(":")[2]
        check = ["exec", NAME, "python", "/opt/maskvat/share/healthy.py"]
        good, bad = (podman(*check, f"http://127.0.0.1:{p}/health") for p in (port, "1"))
        yield "the health check passes", good.returncode == 0, good.stderr.strip()
        yield "it fails without a server", bad.returncode == 1 and "does not answer" in bad.stderr, bad.stderr.strip()
        job = server.wait(server.ask(file_id=server.upload(EXAMPLE), options={"steps": 8}), seconds=LIMIT)
        yield "a job succeeds", job["status"] == "succeeded", job.get("error")
        sound = server.bytes(f"/v1/jobs/{job['id']}/results/sound.wav")
        yield "its sound is the same", sound == (folder / "bounce.wav").read_bytes(), len(sound)
        yield "it ends when it is told", server.stop() == 0, ""
        wait_for(lambda: podman("container", "exists", NAME).returncode != 0)


def facts(folder: Path, image: str) -> dict[str, Any]:
    components = json.loads((folder / "sbom.json").read_text(encoding="utf-8"))["components"]
    kinds = Counter(re.sub(r"^pkg:(\w+)/.*", r"\1", c["purl"]) if c.get("purl") else c["type"] for c in components)
    versions = {name: podman_version(name) for name in ("podman", "buildah", "runc")}
    return {
        "image": image,
        "saved_mb": round((folder / "maskvat.tar").stat().st_size / 1e6, 1),
        "components": dict(kinds),
        "versions": versions,
    }


def podman_version(name: str) -> str:
    said = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d[\w.+-]*", said)
    return found[0] if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.image", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--image", type=Path, required=True, help="folder that deploy/image/build.sh made")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as temporary, loaded(args.image) as image:
        folder = Path(temporary) / "data"
        folder.mkdir(mode=0o700)
        os.chown(folder, USER, USER)
        Path(temporary).chmod(0o755)
        for part in (inside, a_sound, served):
            for check in part(image, folder):
                checks.append(check)
                print("ok" if check[1] else "FAULT", *check[::2], file=sys.stderr, flush=True)
        measured = facts(args.image, image)
    faults = [what for what, good, _ in checks if not good]
    table = [{"what": what, "ok": good, "seen": seen} for what, good, seen in checks]
    report.finish("image", measured | {"faults": faults, "checks": table}, args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
