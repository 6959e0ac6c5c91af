"""The app, the proxies, the units and the image, with the real programs: see the campaigns of these names."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NEEDED = {
    "app": ("mmdebstrap", "chroot", "unshare"),
    "proxies": ("nginx", "caddy", "openssl"),
    "units": ("mmdebstrap", "systemd-nspawn", "nsenter"),
    "image": ("mmdebstrap", "buildah", "podman", "runc"),
}
pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]


def campaign(name: str, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.campaigns.{name}", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def require(name: str, *modules: str) -> None:
    """Skip where a program or a module is missing."""
    missing = [program for program in NEEDED[name] if shutil.which(program) is None]
    missing += [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if name != "proxies" and os.getuid() != 0:
        pytest.skip("needs root: it makes root folders of Debian")


def test_the_proxies() -> None:
    require("proxies", "starlette")
    campaign("proxies")


def test_the_app_in_a_root_without_python() -> None:
    require("app", "cyclonedx_py", "license_expression")
    campaign("app")


def test_the_units_under_systemd() -> None:
    require("units")
    campaign("units")


def test_compose_takes_the_file() -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("needs docker-compose")
    line = ["docker-compose", "-f", str(ROOT / "deploy" / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_image(tmp_path: Path) -> None:
    require("image", "cyclonedx_py", "license_expression")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {
        "BUILDAH": "--runtime=runc"
    }  # buildah prefers crun where it is, which refuses cgroups of both versions
    build = [str(ROOT / "deploy" / "image" / "build.sh"), str(tmp_path)]
    made = subprocess.run(build, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    campaign("image", "--image", str(tmp_path))
