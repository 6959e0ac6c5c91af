"""The units of deploy/systemd: systemd takes them, rates them as hardened, and their command starts the server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.serve.command import get_serve_parser
from tests.support.paths import ROOT

UNITS = ROOT / "deploy" / "systemd"
NAMES = ("maskvat@.service", "maskvat-inbox@.service", "maskvat-inbox@.path")
NEEDS_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
MOST = 3.0  # exposure


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as instances 0, with programs that exist."""
    program = tmp_path / "maskvat"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NAMES:
        text = (UNITS / name).read_text().replace("/srv/maskvat/current/bin/maskvat", str(program))
        (tmp_path / name.replace("@", "@0")).write_text(text)
    return tmp_path


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True)


@NEEDS_SYSTEMD
def test_systemd_knows_every_key(units: Path) -> None:
    """An unknown key is a warning with exit status 0."""
    done = analyze("verify", *(str(units / name.replace("@", "@0")) for name in NAMES))
    complaints = [line for line in done.stderr.splitlines() if "maskvat" in line]
    assert not complaints and done.returncode == 0, done.stderr


@NEEDS_SYSTEMD
def test_a_misspelt_key_is_found(units: Path) -> None:
    unit = units / "maskvat@0.service"
    unit.write_text(unit.read_text().replace("ProtectHome", "ProtektHome"))
    assert "ProtektHome" in analyze("verify", str(unit)).stderr


def exposure(unit: Path) -> float:
    done = analyze("security", "--offline=yes", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


@NEEDS_SYSTEMD
@pytest.mark.parametrize("name", ["maskvat@0.service", "maskvat-inbox@0.service"])
@pytest.mark.parametrize("gpu", [False, True], ids=["", "gpu"])
def test_the_exposure(name: str, gpu: bool, units: Path) -> None:
    if gpu:
        with (units / name).open("a") as unit:
            unit.write((UNITS / "gpu.conf").read_text())
    assert exposure(units / name) <= MOST


@NEEDS_SYSTEMD
def test_an_open_unit_is_found(units: Path) -> None:
    unit = units / "maskvat@0.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(unit) > MOST


# ---------------------------------------------------------------- what it runs
def test_the_command_and_its_flags() -> None:
    text = (UNITS / "maskvat@.service").read_text()
    program, *words = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0].replace("%i", "1").split()
    guide = (ROOT / "docs" / "APPLIANCE.md").read_text(encoding="utf-8")
    (flags,) = re.findall(r"'MASKVAT_FLAGS=(.*?)'", guide)
    assert program == "/srv/maskvat/current/bin/maskvat" and words[0] == "serve" and words[-1] == "$MASKVAT_FLAGS"
    args = get_serve_parser().parse_args([*words[1:-1], *flags.split()])
    assert (args.port, args.state, args.workers) == (8441, Path("/var/lib/maskvat/1"), 2)


def test_systemd_waits_longer_than_the_server() -> None:
    """Running jobs get --grace seconds, workers end within 20 s more."""
    text = (UNITS / "maskvat@.service").read_text()
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > get_serve_parser().parse_args([]).grace + 20


def test_both_services_are_hardened_alike() -> None:
    server, inbox = ((UNITS / name).read_text() for name in NAMES[:2])
    common = {line for line in server[server.index("NoNewPrivileges") :].splitlines() if re.match(r"\w+=", line)}
    assert common - set(inbox.splitlines()) == {"WantedBy=multi-user.target"}
