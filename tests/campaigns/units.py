"""The server's unit under a real systemd, in a container: set up as docs/APPLIANCE.md says, killed, restarted, stopped.

Needs root, Linux, mmdebstrap with a Debian mirror, a package index and systemd-nspawn (Debian: systemd-container).
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.app.build import SOURCES, call
from tests.campaigns import report
from tests.support.paths import EXAMPLE, ROOT

DEBIAN, PACKAGES = "bookworm", ("systemd", "systemd-sysv", "python3", "python3-venv")
GUIDE = (ROOT / "docs" / "APPLIANCE.md").read_text(encoding="utf-8")
PATIENCE = 900  # seconds
UNIT = "maskvat@0"
STATE = "/var/lib/maskvat/0"
Check = tuple[str, bool, object]  # what should be true, whether it is, and what was seen
# A client inside of the container: METHOD ADDRESS [BODY]. It prints the answer, or "" if there is none
ASK = f"""
import sys, urllib.request
token = open("{STATE}/tokens").read().split()[-1]
body = sys.argv[3] if len(sys.argv) > 3 else None
data = open(body[1:], "rb").read() if body and body[0] == "@" else body and body.encode()
kind = "video/mp4" if body and body[0] == "@" else "application/json"
headers = {{"Authorization": "Bearer " + token, "Content-Type": kind}}
request = urllib.request.Request("http://127.0.0.1:8440" + sys.argv[2], data, headers, method=sys.argv[1])
try:
    print(urllib.request.urlopen(request, timeout=30).read().decode())
except OSError:
    pass
"""


def blocks(title: str) -> list[str]:
    """The commands of one section of the guide."""
    section = GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def make_root(root: Path) -> None:
    """A Debian with systemd and Python, and in /srv what the guide copies to the appliance. Raises MediaError."""
    if not root.exists():
        call("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", DEBIAN, root)
    with tempfile.TemporaryDirectory() as temporary:
        sources = Path(temporary) / "sources"  # a build in the checkout would leave folders there
        sources.mkdir()
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, sources / name)
        call(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", root / "srv" / "wheels",
             f"{sources}[cpu,serve]")  # fmt: skip
    shutil.copytree(ROOT / "deploy", root / "srv" / "deploy")
    shutil.copy(EXAMPLE, root / "srv" / "bounce.mp4")
    (root / "srv" / "ask.py").write_text(ASK)
    (root / "srv" / "maskvat").mkdir(exist_ok=True)


class Container:
    """A booted root without a network of its own. Use it as a context manager."""

    def __init__(self, root: Path, log: Path) -> None:
        self.root, self.log = root, log

    def __enter__(self) -> "Container":
        line = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe",
                "--boot", f"--directory={self.root}"]  # fmt: skip
        with open(self.log, "wb") as log:
            self.host = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: self.leader is not None or self.host.poll() is not None, 60)
        if self.leader is None:
            raise RuntimeError(f"systemd-nspawn ended: {self.log.read_text(errors='replace')[-2000:]}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.leader is not None:
            os.kill(self.leader, signal.SIGRTMIN + 4)  # systemd: power off
        try:
            self.host.wait(120)
        except subprocess.TimeoutExpired:
            self.host.kill()

    @property
    def leader(self) -> int | None:
        """The container's first process, seen from here."""
        children = Path(f"/proc/{self.host.pid}/task/{self.host.pid}/children")
        found = children.read_text().split() if children.exists() else []
        return int(found[0]) if found else None

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run shell commands in there, in /srv."""
        enter = ["nsenter", f"--target={self.leader}", "--all"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-ec", f"cd /srv\n{command}"]
        return subprocess.run([*enter, "--", *clean], capture_output=True, text=True, timeout=PATIENCE)

    def say(self, command: str) -> str:
        return self.run(command).stdout.strip()

    def ask(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        """Ask the server; {} if it does not answer."""
        said = self.say(f"python3 ask.py {method} {path} {body}")
        return dict(json.loads(said)) if said else {}


def wait_for(found: Callable[[], object], seconds: float = PATIENCE) -> bool:
    end = time.monotonic() + seconds
    while not (there := found()) and time.monotonic() < end:
        time.sleep(1.0)
    return bool(there)


# ---------------------------------------------------------------- what is tried
def installed(box: Container) -> Iterator[Check]:
    """The guide's commands, in a machine without a network."""
    up = wait_for(lambda: box.say("systemctl is-system-running || true") in ("running", "degraded"), 300)
    yield "systemd runs", up, box.say("systemctl --version | head -1")
    for title in ("Install", "The server"):
        done = box.run(blocks(title)[0])
        yield f"the commands of {title!r}", done.returncode == 0, (done.stdout + done.stderr).strip()[-200:]


def started(box: Container) -> Iterator[Check]:
    """The unit runs, as the user and with the rights that it names."""
    healthy = wait_for(lambda: box.ask("GET", "/health").get("status") == "ok", 300)
    yield "the server answers", healthy, box.say(f"systemctl is-active {UNIT}")
    pid = box.say(f"systemctl show -P MainPID {UNIT}")
    user = box.say(f"stat -c %U /proc/{pid}")
    yield "as its own user", user == "maskvat", user
    rights = box.say(f"grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/{pid}/status | tr -s '\\n\\t' ' '")
    yield "without rights", rights.split() == "CapEff: 0000000000000000 NoNewPrivs: 1 Seccomp: 2".split(), rights
    mode = box.say(f"stat -c '%a %U' {STATE}")
    yield "its state is its own", mode == "700 maskvat", mode
    written = box.run(f"nsenter --target={pid} --mount touch /usr/x")
    yield "the system is read-only for it", "Read-only" in written.stderr, written.stderr.strip()
    ready = wait_for(lambda: box.ask("GET", "/ready").get("status") == "ready")
    yield "a worker has opened the bundle", ready, box.ask("GET", "/v1/models")["data"][0].get("backend")


def worked(box: Container) -> Iterator[Check]:
    """A job; one that is accepted just before a restart; the server killed; stopped."""
    file_id = box.ask("POST", "'/v1/files?name=bounce.mp4'", "@bounce.mp4")["id"]
    order = json.dumps({"file_id": file_id, "options": {"steps": 2}})

    def ends(job: str) -> str:
        wait_for(lambda: box.ask("GET", f"/v1/jobs/{job}").get("status") not in ("queued", "running", None))
        return str(box.ask("GET", f"/v1/jobs/{job}").get("status"))

    status = ends(box.ask("POST", "/v1/jobs", f"'{order}'")["id"])
    yield "a job succeeds", status == "succeeded", status
    job = box.ask("POST", "/v1/jobs", f"'{order}'")["id"]
    restarted = box.run(f"systemctl restart {UNIT}")
    yield "systemctl restart", restarted.returncode == 0, restarted.stderr.strip()
    status = ends(job)
    yield "the job that was accepted before is done after", status == "succeeded", status
    box.run(f"kill -9 $(systemctl show -P MainPID {UNIT})")
    again = wait_for(lambda: box.say(f"systemctl show -P NRestarts {UNIT}") == "1", 60)
    back = again and wait_for(lambda: box.ask("GET", "/health").get("status") == "ok", 300)
    yield "after kill -9 systemd starts it again", back, box.say(f"systemctl show -P NRestarts {UNIT}")
    box.run(f"systemctl stop {UNIT}")
    end = [box.say(f"systemctl show -P {name} {UNIT}") for name in ("ActiveState", "Result", "ExecMainStatus")]
    yield "systemctl stop ends it with 0", end == ["inactive", "success", "0"], " ".join(end)
    users = box.say("stat -c %U /proc/[0-9]* 2>/dev/null || true").split()
    yield "nothing of it is left", bool(users) and "maskvat" not in users, users.count("maskvat")


def main(argv: Sequence[str] | None = None) -> int:
    text = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.units", description=text)
    parser.add_argument("--root", type=Path, help="such a Debian, made before; it is changed (default: make one)")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    args = parser.parse_args(argv)
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = args.root or Path(temporary) / "root"
        make_root(root)
        with Container(root, Path(temporary) / "console") as box:
            for part in (installed(box), started(box), worked(box)):
                for check in part:
                    checks.append(check)
                    print("ok" if check[1] else "FAULT", *check[::2], file=sys.stderr, flush=True)
                if not all(good for _, good, _ in checks):
                    break  # what follows would wait in vain
    faults = [what for what, good, _ in checks if not good]
    found: dict[str, Any] = {"root": f"Debian {DEBIAN}: {', '.join(PACKAGES)}", "faults": faults}
    found |= {"checks": [{"what": w, "ok": ok, "seen": s} for w, ok, s in checks]}
    report.finish("units", json.loads(json.dumps(found).replace(str(ROOT), "")), args.out)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
