"""The page without a browser: what is served, under which rules, and whether its files agree with each other."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.serve import browser
from runtime.serve.api.openapi import OPERATIONS, openapi_document
from runtime.serve.api.page import FOLDER, TYPES
from runtime.serve.config import ServerConfig
from tests.support.media import clicks
from tests.support.paths import ROOT
from tests.support.serving import Serving

VENDOR = FOLDER / "vendor"
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js"))}
HTML = (FOLDER / "index.html").read_text(encoding="utf-8")
RECORD = json.loads((VENDOR / "vendor.json").read_text(encoding="utf-8"))
FORM_CONTROLS = ("input", "select", "textarea", "meter", "progress")


class Elements(HTMLParser):
    """All elements of a document: (tag, attributes, tags around it)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, tuple(self._open)))
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


ELEMENTS = Elements(HTML).found
IDS = [attributes["id"] for _, attributes, _ in ELEMENTS if "id" in attributes]


# ---------------------------------------------------------------- what is served
def test_the_page_allows_nothing_but_its_own_files(idle: Serving) -> None:
    answers = [idle.plain.get("/") for _ in range(2)]
    nonces = set()
    for answer in answers:
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        nonce = policy["style-src"].removeprefix("'self' 'nonce-").removesuffix("'")
        assert f'content="{nonce}"' in answer.text
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": f"'self' 'nonce-{nonce}'",
            "img-src": "'self'", "media-src": "'self'", "connect-src": "'self'", "base-uri": "'none'",
            "form-action": "'none'", "frame-ancestors": "'none'",
        }  # fmt: skip
        nonces.add(nonce)
    assert len(nonces) == 2 and min(map(len, nonces)) >= 22  # 128 random bits, new each time


def test_its_files_are_served_and_no_others(idle: Serving) -> None:
    for path in [p for p in FOLDER.rglob("*") if p.is_file() and p.name != "index.html"]:
        answer = idle.plain.get(f"/page/{path.relative_to(FOLDER).as_posix()}")
        assert answer.status_code == 200 and answer.content == path.read_bytes(), path
        assert answer.headers["content-type"].partition(";")[0] == TYPES[path.suffix]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for name in ("index.html", "vendor", "..%2fapp.py", "vendor/..%2fmain.js", "%2e%2e/app.py", "x.js", "vendor/x.js"):
        assert idle.plain.get(f"/page/{name}").status_code == 404, name


# ---------------------------------------------------------------- what others wrote
def test_files_of_others_are_those_of_the_record() -> None:
    files = [path for path in VENDOR.iterdir() if path.name != "vendor.json"]
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in files}
    assert found == {name: entry["sha256"] for name, entry in RECORD["files"].items()}
    assert len(base64.b64decode(RECORD["integrity"].removeprefix("sha512-"))) == 64  # of the package, as npm states it
    credits = (ROOT / "CREDITS.md").read_text(encoding="utf-8")
    assert f"{RECORD['package']} {RECORD['version']}" in credits and RECORD["licence"] in credits
    licence = (VENDOR / "LICENSE").read_text(encoding="utf-8")
    assert "katspaugh" in credits and "BSD 3-Clause License" in licence


# ---------------------------------------------------------------- the files agree
def calls(script: str) -> list[tuple[str, str]]:
    """(method, address) of the requests in a script; parts that change are written {}."""
    found = re.findall(r'(?:ask|send|open)\("(\w+)", ["`](/[^"`?]*)', script)
    found += [("GET", path) for path in re.findall(r"(?:EventSource\(|=> )`(/[^`?]*)", script)]
    return [(method, re.sub(r"\$\{[^}]*\}", "{}", path)) for method, path in found]


def test_every_request_is_in_the_openapi_document() -> None:
    known = {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in OPERATIONS}
    made = calls(SCRIPTS["api.js"])
    assert len(made) == len(re.findall(r'["`]/v1', SCRIPTS["api.js"])) >= 16  # each was seen
    report = ("GET", "/v1/jobs/{}/results/report.json")  # the name that every job's report has
    assert set(made) - {report} <= known and report in made
    ends = ("session", "models", "files", "files/{}", "jobs", "jobs/{}", "jobs/{}/cancel", "jobs/{}/events")
    assert {path for _, path in made} >= {f"/v1/{end}" for end in (*ends, "jobs/{}/results/{}")}
    others = "".join(text for name, text in SCRIPTS.items() if name != "api.js")
    for word in ("fetch(", "XMLHttpRequest", "EventSource(", "sendBeacon", "WebSocket", '"/v1', "`/v1"):
        assert word not in others


def test_names_of_controls_are_options_of_a_job() -> None:
    schemas = openapi_document()["components"]["schemas"]
    names = [attributes["name"] for _, attributes, _ in ELEMENTS if "." in attributes.get("name", "")]
    assert len(names) > 20
    for name in names:
        group, option = name.split(".")
        assert option in schemas[{"options": "Options", "deliver": "Deliver"}[group]]["properties"], name


def test_there_is_nothing_inline_and_nothing_from_elsewhere() -> None:
    for tag, attributes, _ in ELEMENTS:
        assert tag not in ("style", "iframe", "object", "embed", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "script" or attributes["src"].startswith("/page/")
    for text in (HTML, (FOLDER / "page.css").read_text(encoding="utf-8"), *SCRIPTS.values()):
        assert not re.search(r"(?:https?:)?//[\w.-]+\.\w{2,}/|@import|innerHTML|eval\(", text)


def test_scripts_find_their_elements_and_each_other() -> None:
    assert len(IDS) == len(set(IDS))
    for name, text in SCRIPTS.items():
        assert len(text.splitlines()) <= 300
        assert set(re.findall(r'\$\("([\w-]+)"\)', text)) <= set(IDS), name
        for names, file in re.findall(r'^import (.*) from "\./([\w./]+)";$', text, re.MULTILINE):
            assert (FOLDER / file).is_file(), (name, file)
            for wanted in re.findall(r"\w+", names) if names.startswith("{") else ():
                assert re.search(rf"^export .*\b{wanted}\b", SCRIPTS[file], re.MULTILINE), (name, file, wanted)


def test_every_control_has_a_name_for_people() -> None:
    labelled = {attributes["for"] for tag, attributes, _ in ELEMENTS if tag == "label" and "for" in attributes}
    for tag, attributes, around in ELEMENTS:
        if tag in FORM_CONTROLS:
            assert "label" in around or attributes.get("id") in labelled or "aria-label" in attributes, attributes
    roles = [attributes.get("role") for _, attributes, _ in ELEMENTS]
    assert "status" in roles and "alert" in roles


# ---------------------------------------------------------------- onsets
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_marks_are_the_onsets_of_the_projects_measure() -> None:
    onsets = pytest.importorskip("train.metrics.onsets")
    rng = np.random.default_rng(3)
    noise = (rng.normal(size=48_123) * np.exp(-(np.arange(48_123) % 12_000) / 1500) * 0.3).astype(np.float32)
    sounds = [clicks(40_000, 16000), noise, np.zeros(16000, np.float32), clicks(30_000, 16000) * np.float32(0.01)]
    program = f"""
        import {{ onsets, peaks }} from {json.dumps((FOLDER / "onsets.js").as_uri())};
        const sounds = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
        console.log(JSON.stringify(sounds.map((s) => [onsets(Float32Array.from(s)), [...peaks(s, 100)]])));
    """
    line = ["node", "--no-warnings", "--input-type=module", "-e", program]
    given = json.dumps([sound.tolist() for sound in sounds])
    found = json.loads(subprocess.run(line, input=given, capture_output=True, text=True, check=True).stdout)
    for sound, (marks, drawn) in zip(sounds, found, strict=True):
        assert marks == pytest.approx(onsets.pick_onsets(onsets.onset_strength(sound)).tolist())
        assert len(drawn) == 100 and max(np.abs(drawn)) == pytest.approx(float(np.abs(sound).max()))
    assert len(found[0][0]) == 5 and len(found[1][0]) >= 4 and found[2][0] == []


# ---------------------------------------------------------------- the way in
def test_the_address_has_a_code_that_works_once_and_no_token(idle: Serving) -> None:
    address = browser.page_address(idle.services, "http://127.0.0.1:8440")
    place, _, code = address.partition("#code=")
    assert place == "http://127.0.0.1:8440/" and idle.token not in address
    assert idle.plain.post("/v1/session", json={"code": code}).json()["client"] == "local"
    idle.plain.cookies.clear()
    assert idle.plain.post("/v1/session", json={"code": code}).status_code == 401


def test_addresses_without_tokens_and_of_all_interfaces(start: Callable[..., Serving]) -> None:
    server = start(workers=0, token=False)
    assert browser.page_address(server.services, "http://127.0.0.1:1") == "http://127.0.0.1:1/"
    server = start(workers=0, host="0.0.0.0", allow_hosts=("sounds.example",))
    assert browser.page_address(server.services, "http://0.0.0.0:8440").startswith("http://sounds.example:8440/#code=")


@pytest.mark.parametrize(("flag", "terminal"), [(True, False), (False, True), (False, False)])
def test_a_code_goes_to_a_browser_or_a_terminal_and_never_to_a_log(
    start: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    flag: bool, terminal: bool,
) -> None:  # fmt: skip
    opened: list[str] = []
    monkeypatch.setattr(browser, "open_browser", opened.append)
    monkeypatch.setattr(browser.sys.stderr, "isatty", lambda: terminal, raising=False)
    with caplog.at_level("INFO"):
        browser.show_page(start(workers=0, open=flag).services, "http://127.0.0.1:8440")
    assert [("#code=" in address) for address in opened] == [True] * flag
    assert ("#code=" in caplog.text) == terminal


def test_without_a_browser_it_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(browser.webbrowser, "open", lambda address: False)
    monkeypatch.setattr(browser.threading.Thread, "start", lambda thread: thread.run())
    browser.open_browser("http://127.0.0.1:8440/#code=secret")
    assert "http://127.0.0.1:8440/" in caplog.text and "secret" not in caplog.text


def test_no_running_server_is_opened_if_none_answers(tmp_path: Path) -> None:
    config = ServerConfig(tmp_path, open=True)
    assert not browser.open_running(config)
    (tmp_path / "server.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": 1}))
    assert not browser.open_running(config)
