"""The page in a real browser, with a real server and real sounds: `pytest -m host tests/runtime/serve`.

MASKVAT_PICTURES names a folder for the pictures of docs/PAGE.md.
"""

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support.fake_engines import NEEDS_ORT
from tests.support.media import Picture, Sound, clicks, steady, write_video
from tests.support.paths import EXAMPLE
from tests.support.serve_process import ServeProcess, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("starlette", reason="the extra `serve` is not installed")
expect = playwright.expect
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(3600),  # a busy machine is no fault
    NEEDS_ORT,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is installed"),
]
PICTURES = os.environ.get("MASKVAT_PICTURES")
LARGEST = 200_000  # bytes of a picture
SIZE = {"width": 1280, "height": 720}
SLOW = 300_000  # ms until a sound must be there, also on a machine that does much else
expect.set_options(timeout=60_000)


# ---------------------------------------------------------------- a browser and a server
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--mute-audio"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Any) -> Iterator[Any]:
    """A browser without cookies. No script may fail, and none may do what the page's policy forbids."""
    context = chromium.new_context(viewport=SIZE, accept_downloads=True)
    faults: list[str] = []
    context.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    yield context
    context.close()
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []  # an answer such as 401


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServeProcess]]:
    """serve(*flags) -> a server of its own. It has the shipped bundle unless a flag names another."""
    with ExitStack() as stack:
        yield lambda *flags: stack.enter_context(ServeProcess(tmp_path / "state", "--threads", "2", *flags))


@pytest.fixture
def fake(serve: Callable[..., ServeProcess], bundles: Callable[..., Path]) -> ServeProcess:
    """A server with a tiny bundle that has six words, for tests in which it does not matter how the sound is."""
    return serve("--engines", str(bundles()), "--backend", "cpu")


@pytest.fixture
def short(make_video: Callable[..., Path]) -> Path:
    """A video of 2 s: its sounds are soon made."""
    return make_video(50)


@pytest.fixture
def long(make_video: Callable[..., Path]) -> Path:
    """A video of 20 s: with 1024 steps, its sounds take longer than any test."""
    return make_video(500)


def code_of(server: ServeProcess) -> str:
    with server.open("POST", "/v1/session/code", b"") as answer:
        return str(json.loads(answer.read())["code"])


def signed_in(context: Any, server: ServeProcess) -> Any:
    """A page that is signed in with a code."""
    page = context.new_page()
    page.goto(f"{server.url}/#code={code_of(server)}")
    expect(page.locator("#main")).to_be_visible()
    return page


def drop(page: Any, name: str, data: bytes) -> None:
    """Drop a file, as a file manager does."""
    make = """([name, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(bytes)], name, { type: "video/mp4" }));
        return transfer;
    }"""
    transfer = page.evaluate_handle(make, [name, list(data)])
    page.dispatch_event("#stage", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#stage", "drop", {"dataTransfer": transfer})


def choose(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    expect(page.locator("#status")).to_contain_text("is ready")


def ask(page: Any, takes: int = 1, steps: int = 4) -> None:
    """Fill in the form for new sounds, and send it."""
    form = page.locator("#make")
    form.get_by_label("Takes").fill(str(takes))
    if not form.get_by_label("Steps").is_visible():
        form.get_by_text("More").click()
    form.get_by_label("Steps").fill(str(steps))
    form.get_by_role("button", name="Make sounds").click()


def job(page: Any, status: str) -> Any:
    """The newest job with a status."""
    return page.locator(f"#queue li[data-status={status}]").first


def heard(page: Any) -> Any:
    return page.locator(".take:has(:checked)")


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true. (Playwright's own wait would need `eval`, which the page's policy forbids.)"""
    wait_for(lambda: bool(page.evaluate(condition)), SLOW / 1000)


def until_true(page: Any, found: Callable[[], object]) -> None:
    """Wait for what a handler of the page's events notes."""
    for _ in range(600):
        if found():
            return
        page.wait_for_timeout(100)  # handlers run meanwhile
    raise AssertionError("it did not happen")


def loudest(page: Any, seconds: float) -> float:
    """Play from the start; the highest level (dB) that the meter shows."""
    page.evaluate("document.getElementById('video').currentTime = 0")
    page.evaluate("""() => {
        window.highest = -60;
        window.watching = setInterval(() => (window.highest = Math.max(window.highest, level.value)), 10);
    }""")
    page.get_by_role("button", name="Play").click()
    until(page, f"document.getElementById('video').currentTime >= {seconds}")
    page.get_by_role("button", name="Pause").click()
    return float(page.evaluate("clearInterval(window.watching), window.highest"))


def picture(page: Any, name: str) -> None:
    """Take a picture for the guide, in 256 colours."""
    data = page.screenshot()
    if PICTURES:
        image = pytest.importorskip("PIL.Image").open(io.BytesIO(data)).convert("RGB").quantize(256)
        path = Path(PICTURES) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, optimize=True)
        assert path.stat().st_size < LARGEST


def download(page: Any, name: str) -> bytes:
    with page.expect_download() as found:
        page.locator("#files").get_by_role("link", name=name).first.click()
    return Path(found.value.path()).read_bytes()


# ---------------------------------------------------------------- the whole path
def test_from_a_dropped_video_to_downloaded_files(
    context: Any, serve: Any, record_testsuite_property: Callable[[str, object], None]
) -> None:
    record_testsuite_property("browser", f"Chromium {context.browser.version}")
    server = serve()
    page = signed_in(context, server)
    drop(page, "bounce.mp4", EXAMPLE.read_bytes())
    expect(page.locator("#status")).to_have_text("bounce.mp4 is ready: make sounds for it.")
    expect(page.locator("#wave-text")).to_have_text("The video has no sound that this browser can read.")
    ask(page, takes=2)
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)
    expect(page.locator("#wave-text")).to_have_text(re.compile(r"Take 1: [1-9]\d* onsets"))
    expect(page.locator(".take")).to_have_count(3)
    expect(page.locator(".take").nth(2)).to_contain_text("LUFS")
    assert loudest(page, 3.0) > -40  # it is heard

    first = page.locator("#wave-text").text_content()
    page.keyboard.press("2")
    expect(heard(page)).to_contain_text("Take 2")
    page.keyboard.press("b")
    expect(page.locator("#wave-text")).to_have_text(first)
    page.keyboard.press("0")
    expect(heard(page)).to_contain_text("Original")
    assert loudest(page, 1.0) == -60  # this video is silent
    page.keyboard.press("1")
    _redo(page)
    picture(page, "page")
    page.emulate_media(color_scheme="dark")
    picture(page, "page-dark")
    _deliver(page, server)


def select(page: Any, begin: float, end: float, seconds: float) -> tuple[float, float]:
    """Drag over the waveform of a video that lasts `seconds`; the range that the page shows then."""
    box = page.locator("#wave").bounding_box()
    x, y, second = box["x"], box["y"] + 40, box["width"] / seconds
    page.mouse.move(x + begin * second, y)
    page.mouse.down()
    page.mouse.move(x + end * second, y, steps=5)
    page.mouse.up()
    shown = [page.get_by_label(name, exact=True).input_value() for name in ("In (s)", "Out (s)")]
    return float(shown[0] or -1), float(shown[1] or -1)


def _redo(page: Any) -> None:
    """Select a range with the mouse and make it anew; the rest of the sound stays."""
    begin, end = select(page, 2.0, 3.0, 7)
    assert (begin, end) == pytest.approx((2.0, 3.0), abs=0.05)
    page.get_by_role("button", name="Redo the range").click()
    expect(heard(page)).to_contain_text("Take 3", timeout=SLOW)
    expect(heard(page)).to_contain_text(f"redo {begin:.3f}-{end:.3f}")


def _deliver(page: Any, server: ServeProcess) -> None:
    """Ask for all kinds of files of the heard take, and download them."""
    page.locator("#deliver-task > summary").click()
    form = page.locator("#deliver")
    form.get_by_label("Broadcast WAV").check()
    form.get_by_label("Video with the sound").check()
    form.locator("[name='deliver.timeline']").select_option("otio")
    form.get_by_label("Folder of the files").fill("/films")
    form.get_by_label("Loudness (LUFS)").fill("-23")
    form.get_by_label("True peak (dBTP)").fill("-1")
    form.get_by_role("button", name="Make files").click()
    expect(job(page, "succeeded")).to_contain_text("Files: wav, video, otio", timeout=SLOW)  # the newest is first
    expect(page.locator("#files li").first).to_contain_text("LUFS")
    sound, video = download(page, "bounce.wav"), download(page, "bounce.sound.mp4")
    assert sound[:4] == b"RIFF" and b"bext" in sound and b"iXML" in sound
    newest = server.get("/v1/jobs")["data"][0]
    assert sound == server.bytes(f"/v1/jobs/{newest['id']}/results/sound.wav")
    with av.open(io.BytesIO(sound)) as found:
        stream = found.streams.audio[0]
        assert (stream.rate, stream.codec_context.name) == (48000, "pcm_s24le")
    with av.open(io.BytesIO(video)) as found:
        assert [stream.type for stream in found.streams] == ["video", "audio"]
    timeline = json.loads(download(page, "bounce.otio"))
    assert "/films/bounce.wav" in json.dumps(timeline) and "/films/bounce.mp4" in json.dumps(timeline)


def test_back_and_forth_between_a_take_and_the_original_sound(context: Any, serve: Any, tmp_path: Path) -> None:
    sound = np.zeros((1, 4 * 44100), np.float32)
    sound[0] = clicks(sound.shape[1], 44100)
    silent = Picture(steady(100, 25), last=1 / 25)
    video = write_video(tmp_path / "clicks.mp4", silent, Sound(sound, 44100, "aac"))
    page = signed_in(context, serve())
    choose(page, video)
    expect(page.locator("#wave-text")).to_have_text("The original sound: 8 onsets")
    places = page.evaluate("""() => {
        const root = document.querySelector("#wave > div").shadowRoot;
        return [...root.querySelectorAll("[part~=marker]")].map((mark) => parseFloat(mark.style.left) / 100);
    }""")
    # an onset is where the flux is highest: at most 64 ms from the click, whose sound the spectrum of 64 ms has
    assert sorted(4 * place for place in places) == pytest.approx(np.arange(0.25, 4, 0.5), abs=0.064)
    mark = 4 * sorted(places)[2]  # a range may begin on a mark: that is where a sound begins
    assert select(page, mark, mark + 1, 4) == pytest.approx((mark, mark + 1), abs=0.05)
    assert loudest(page, 1.0) > -6  # clicks of 0.8
    ask(page)
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)
    assert loudest(page, 1.0) < -6  # the clicks are no longer heard
    page.keyboard.press("b")
    expect(heard(page)).to_contain_text("Original")
    assert loudest(page, 1.0) > -6
    page.keyboard.press("b")
    expect(heard(page)).to_contain_text("Take 1")


# ---------------------------------------------------------------- what goes wrong
def test_cancel_and_delete(context: Any, fake: ServeProcess, long: Path) -> None:
    page = signed_in(context, fake)
    choose(page, long)
    ask(page, takes=9, steps=1024)
    ask(page, steps=1)
    expect(job(page, "queued")).to_contain_text(re.compile("is next|waits for 1 more"))  # the first may run already
    expect(job(page, "running")).to_contain_text("makes the sound", timeout=SLOW)
    expect(job(page, "running").get_by_role("progressbar")).to_have_js_property("max", 1)
    job(page, "running").get_by_role("button", name="Cancel").click()
    expect(job(page, "cancelled")).to_be_visible(timeout=SLOW)
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)  # the next job is done
    expect(page.locator(".take")).to_have_count(2)
    job(page, "cancelled").get_by_role("button", name="Delete").click()
    expect(page.locator("#queue li")).to_have_count(1)
    expect(page.locator("#queue-title")).to_be_focused()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete the video").click()
    expect(page.locator("#status")).to_contain_text("are deleted")
    assert fake.get("/v1/files")["data"] == fake.get("/v1/jobs")["data"] == []
    assert not [path for name in ("files", "jobs") for path in (fake.state / name).iterdir()]


def test_files_that_are_refused_or_no_videos(context: Any, serve: Any) -> None:
    page = signed_in(context, serve("--max-upload", "0.05"))
    drop(page, "large.mp4", bytes(60_000))
    alert = page.locator("#alert")
    expect(alert).to_contain_text("an upload may have 50000 bytes")
    expect(page.locator("#status")).to_have_text("The upload did not finish.")  # before, no other is taken
    page.get_by_role("button", name="Dismiss").click()
    expect(alert).to_be_hidden()
    drop(page, "empty.mp4", b"")
    expect(alert).to_be_visible()
    expect(page.locator("#status")).to_have_text("The upload did not finish.")
    drop(page, "text.mp4", b"this is not a video")
    expect(page.locator("#status")).to_contain_text("This browser cannot show the video")
    ask(page)
    expect(job(page, "failed")).to_contain_text("text.mp4", timeout=SLOW)
    expect(job(page, "failed").locator(".failed")).to_contain_text("failed: ")
    expect(page.locator("#status")).to_contain_text("failed: ")
    page.locator("#redo-task > summary").click()
    for name, value in (("In (s)", "1"), ("Out (s)", "0.5")):
        page.get_by_label(name, exact=True).fill(value)
        page.get_by_label(name, exact=True).press("Tab")
    page.get_by_role("button", name="Redo the range").click()
    assert page.evaluate("document.getElementById('range-out').validationMessage").startswith("The range is empty")


def test_words(context: Any, fake: ServeProcess, short: Path) -> None:
    page = signed_in(context, fake)
    choose(page, short)
    words = page.locator("#words option").evaluate_all("options => options.map((option) => option.value)")
    assert words == ["dog", "big cat", "door", "car", "street", "drum"]
    ask(page, steps=2)
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)
    page.locator("#redo-task > summary").click()
    form = page.locator("#redo")
    form.get_by_label("In (s)").fill("0.2")
    form.get_by_label("Out (s)").fill("0.8")
    form.get_by_label("What is heard").fill("dooor")
    form.get_by_role("button", name="Redo the range").click()
    expect(page.locator("#alert")).to_contain_text("the bundle does not know the word 'dooor'; similar words: door")
    form.get_by_label("What is heard").fill("door")
    form.get_by_label("What is not heard").fill("street")
    form.get_by_role("button", name="Redo the range").click()
    expect(heard(page)).to_contain_text("door, not street", timeout=SLOW)
    expect(page.locator("#alert")).to_be_hidden()
    options = fake.get("/v1/jobs")["data"][0]["options"]
    assert {"redo": "0.200-0.800", "prompt": "door", "avoid": "street"}.items() <= options.items()


# ---------------------------------------------------------------- reload, tabs, sessions
def test_a_reload_in_the_middle_finds_the_job_and_the_take(context: Any, fake: ServeProcess, long: Path) -> None:
    page = signed_in(context, fake)
    choose(page, long)
    ask(page, takes=9, steps=1024)
    ask(page, takes=2, steps=1)
    expect(job(page, "running")).to_contain_text("makes the sound", timeout=SLOW)
    page.reload()
    expect(job(page, "running")).to_contain_text("makes the sound")
    before = job(page, "running").get_by_role("progressbar").evaluate("bar => bar.value")
    until(page, f"document.querySelector('#queue [data-status=running] progress').value > {before}")
    job(page, "running").get_by_role("button", name="Cancel").click()
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)  # the next job is done
    page.keyboard.press("2")
    page.reload()
    expect(heard(page)).to_contain_text("Take 2")
    expect(page.locator("#wave-text")).to_contain_text("Take 2")


def test_two_tabs_show_the_same_jobs(context: Any, fake: ServeProcess, long: Path) -> None:
    first = signed_in(context, fake)
    choose(first, long)
    second = context.new_page()  # the session is that of the browser
    second.goto(fake.url)
    expect(second.locator("#clip option")).to_have_text([long.name])
    ask(first, takes=9, steps=1024)
    expect(job(second, "running")).to_be_visible(timeout=SLOW)
    expect(job(second, "running")).to_contain_text("makes the sound", timeout=SLOW)
    job(second, "running").get_by_role("button", name="Cancel").click()
    for page in (first, second):
        expect(job(page, "cancelled")).to_be_visible(timeout=SLOW)
    ask(second, steps=1)
    for page in (first, second):
        expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)


def test_ways_to_sign_in(context: Any, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = tmp_path / "opened"
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    script.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(script))
    server = serve("--open")
    address = wait_for_line(opened, 0)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#main")).to_be_visible()
    assert "code" not in page.url and page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    page.goto("about:blank")
    page.goto(address)  # the code was used
    expect(page.locator("#sign-in-problem")).to_contain_text("the code was used")
    secret = page.get_by_label("Code or token")
    for given, good in (("wrong", False), (server.headers["Authorization"].split()[1], True)):
        secret.fill(given)
        secret.press("Enter")
        expect(page.locator("#main")).to_be_visible(visible=good)
    again = subprocess.run(server.line, env=server.environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "the server runs already" in again.stderr
    other = context.browser.new_page()
    other.goto(wait_for_line(opened, 1))
    expect(other.locator("#main")).to_be_visible()
    told = (server.state.parent / "state.stderr").read_text() + (server.state / "audit.jsonl").read_text()
    assert not [line for line in opened.read_text().split() if line.partition("=")[2] in told]


def wait_for_line(path: Path, number: int) -> str:
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) > number)
    return path.read_text().splitlines()[number]


# ---------------------------------------------------------------- keyboard, colours, size
def focused(page: Any) -> dict[str, Any]:
    """What has the focus, and whether one sees it."""
    return dict(
        page.evaluate("""() => {
        const element = document.activeElement, around = element.closest(".take") ?? element;
        const { outlineStyle: outline, outlineWidth: width } = getComputedStyle(around);
        const name = element.labels?.[0]?.textContent ?? element.getAttribute("aria-label") ?? element.textContent;
        return { name: name.trim(), id: element.id, outline, width: parseFloat(width) };
    }""")
    )


def tab_to(page: Any, name: str, key: str = "Tab") -> None:
    """Press Tab until something is reached. Everything on the way shows that it has the focus."""
    for _ in range(80):
        page.keyboard.press(key)
        found = focused(page)
        if found["name"].startswith(name):
            return
        assert found["id"] == "video" or (found["outline"] != "none" and found["width"] >= 2), found
    raise AssertionError(f"Tab does not reach {name}")


def test_the_keyboard_alone(context: Any, fake: ServeProcess, short: Path) -> None:
    page = signed_in(context, fake)
    choosers: list[Any] = []
    page.on(
        "filechooser", lambda chooser: choosers.append(chooser)
    )  # `expect_file_chooser` would look only after the key
    tab_to(page, "Drop a video")
    page.keyboard.press("Enter")
    until_true(page, lambda: choosers)
    choosers[0].set_files(short)
    expect(page.locator("#status")).to_contain_text("is ready")
    tab_to(page, "More")
    page.keyboard.press("Enter")
    tab_to(page, "Steps")
    page.keyboard.type("4")
    tab_to(page, "Make sounds")
    page.keyboard.press("Enter")
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)
    page.keyboard.press("2")
    expect(heard(page)).to_contain_text("Take 2")
    tab_to(page, "Redo a range")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")  # on a summary, arrows are the browser's
    assert page.evaluate("document.getElementById('video').currentTime") == 0
    page.keyboard.press("i")
    tab_to(page, "Take 2", "Shift+Tab")
    page.keyboard.press("ArrowLeft")  # in a group of radio buttons, arrows choose
    expect(heard(page)).to_contain_text("Take 1")
    tab_to(page, "Position", "Shift+Tab")
    for _ in range(50):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("o")
    assert page.get_by_label("Out (s)").input_value() == "0.5"
    tab_to(page, "Redo the range")
    page.keyboard.press("Enter")
    expect(heard(page)).to_contain_text("Take 3", timeout=SLOW)
    tab_to(page, "Play", "Shift+Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_focused()
    tab_to(page, "Download")
    page.keyboard.press("Enter")
    tab_to(page, short.with_suffix(".wav").name)
    with page.expect_download() as found:
        page.keyboard.press("Enter")
    assert Path(found.value.path()).read_bytes()[:4] == b"RIFF"


def test_keys_can_be_turned_off_and_do_not_disturb_typing(context: Any, fake: ServeProcess, short: Path) -> None:
    page = signed_in(context, fake)
    choose(page, short)
    ask(page, takes=2)
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)
    page.locator("#make").get_by_label("Seed").press("2")
    expect(heard(page)).to_contain_text("Take 1")
    page.locator("#help > summary").click()
    page.get_by_label("Use these keys").uncheck()
    page.keyboard.press("2")
    expect(heard(page)).to_contain_text("Take 1")
    page.reload()
    expect(heard(page)).to_contain_text("Take 1")
    page.locator("#help > summary").click()
    page.get_by_label("Use these keys").check()
    page.keyboard.press("2")
    expect(heard(page)).to_contain_text("Take 2")


def contrast(a: str, b: str) -> float:
    """WCAG's contrast of two colours such as rgb(1, 2, 3)."""

    def light(colour: str) -> float:
        parts = np.array([float(x) for x in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def test_dark_and_light_at_1280_x_720(context: Any, fake: ServeProcess, short: Path) -> None:
    page = signed_in(context, fake)
    choose(page, short)
    ask(page, takes=2)
    expect(heard(page)).to_contain_text("Take 1", timeout=SLOW)
    expect(page.locator(".take").nth(2)).to_contain_text("LUFS")
    colours = {}
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        style = "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor]; }"
        text, back = page.locator("body").evaluate(style)
        panel = page.locator("header").evaluate(style)[1]
        button = page.locator("#play").evaluate(style)
        quiet = page.locator(".take small").nth(1).evaluate(style)[0]
        failed = page.locator("#alert").evaluate(style)[0]
        pairs = [(text, back), (text, panel), (quiet, panel), (quiet, back), (failed, panel), tuple(button)]
        assert min(contrast(*pair) for pair in pairs) >= 4.5, pairs
        colours[scheme] = back
        size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert size == [1280, 720]
    assert colours["dark"] != colours["light"]
