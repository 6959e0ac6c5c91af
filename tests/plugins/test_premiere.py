"""The panel for Premiere: checked by TypeScript against Adobe's types, run in Node against fakes and a real server."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT

SOURCE = ROOT / "plugins" / "premiere"
PATIENCE = 300


def npm(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run npm. Returns what it printed; fails the test with it otherwise."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(
        ["npm", *arguments], cwd=folder, env=os.environ | (environment or {}), timeout=PATIENCE, text=True, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the plug-in with the packages that it is built with."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("premiere") / "panel"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "build", "main.js"))
    npm(folder, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock")
    return folder


@pytest.mark.host
def test_it_fits_the_types_of_adobe(panel: Path) -> None:
    npm(panel, "run", "check")
    wrong = panel / "src" / "wrong.ts"
    wrong.write_text(
        'import type { Project } from "@adobe/premierepro";\nexport const f = (p: Project) => p.nothing();\n'
    )
    try:
        with pytest.raises(AssertionError, match="Property 'nothing' does not exist on type 'Project'"):
            npm(panel, "run", "check")
    finally:
        wrong.unlink()


@pytest.mark.host
def test_it_is_built(panel: Path) -> None:
    npm(panel, "run", "build")
    built = (panel / "main.js").read_text(encoding="utf-8")
    assert 'require("premierepro")' in built and 'require("uxp")' in built


@pytest.mark.host
def test_the_way_to_the_timeline(panel: Path) -> None:
    out = npm(panel, "test")
    assert "fail 0" in out and "skipped 1" in out, out


@pytest.fixture
def server(tmp_path: Path, bundles: Callable[..., Path], make_video: Callable[..., Path]) -> Iterator[dict[str, str]]:
    """A running `maskvat serve`, as the environment variables that the test in Node reads."""
    pytest.importorskip("runtime.serve", reason="this version has no maskvat serve")
    pytest.importorskip("starlette", reason="needs starlette: pip install '.[serve]'")
    video = make_video(60, 25)
    code = "import sys; from runtime.commands.subcommands import process; sys.exit(process())"
    options = ["--port", "0", "--state", str(tmp_path / "state"), "--allow-folder", str(video.parent)]
    options += ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen([sys.executable, "-c", code, "serve", *options], env=os.environ | {"PYTHONPATH": path})
    try:
        found = tmp_path / "state" / "server.json"
        for _ in range(PATIENCE):
            if found.exists() or process.poll() is not None:
                break
            time.sleep(0.2)
        url = json.loads(found.read_text())["url"]
        lines = (tmp_path / "state" / "tokens").read_text().splitlines()
        token = next(line.split()[1] for line in lines if line.startswith("local "))
        yield {"SERVE_URL": url, "SERVE_TOKEN": token, "SERVE_VIDEO": str(video)}
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.host
@NEEDS_ORT
def test_the_client_with_a_real_server(panel: Path, server: dict[str, str]) -> None:
    out = npm(panel, "test", environment=server)
    assert "fail 0" in out and "skipped 0" in out, out


def test_the_manifest_allows_the_address_that_is_used() -> None:
    manifest = json.loads((SOURCE / "manifest.json").read_text(encoding="utf-8"))
    package = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
    client = (SOURCE / "src" / "client.ts").read_text(encoding="utf-8")
    (domain,) = manifest["requiredPermissions"]["network"]["domains"]  # exact, and no "all"
    assert f'ADDRESS = "{domain}"' in client and domain.startswith("http://127.0.0.1:")
    assert manifest["version"] == package["version"]
    assert all(version[0].isdigit() for version in package["devDependencies"].values())  # no ranges
