"""train.listen: making a test, taking it over HTTP and in a browser, and scoring it."""

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from runtime.audio import read_audio
from runtime.errors import OptionError
from tests.support.eval_corpus import NAMES, RATE, hits, write_reference, write_system
from tests.support.media import Picture, Sound, steady, write_video
from train.evaluate.page import Clip
from train.listen import __main__ as listen
from train.listen.items import SECTIONS, ListeningTest, usable
from train.listen.ratings import Rating, Ratings, as_markdown, scores
from train.listen.server import ListeningServer
from train.metrics import Sound as MeasuredSound

pytestmark = pytest.mark.torch
SECONDS = 1.6
SYSTEMS = ("reference", "noise", "same")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("listen")
    write_reference(root / "reference", SECONDS)
    rng = np.random.default_rng(0)
    write_system(root / "same", {name: hits(seed, SECONDS) for seed, name in enumerate(NAMES)})
    noise = {name: (0.1 * rng.standard_normal(round(SECONDS * RATE))).astype(np.float32) for name in NAMES[:2]}
    write_system(root / "noise", noise)
    (root / "sparse.txt").write_text("bee\n")
    return root


def make(corpus: Path, test: Path, *options: str) -> int:
    systems = [str(corpus / "noise"), str(corpus / "same")]
    lists = ["--reference", str(corpus / "reference"), "--sparse", str(corpus / "sparse.txt")]
    return listen.main(["make", str(test), *systems, *lists, *options])


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    test = tmp_path_factory.mktemp("made") / "test"
    assert make(corpus, test) == 0
    return test


@pytest.fixture
def untaken(made: Path, tmp_path: Path) -> Path:
    """A test without ratings."""
    return Path(shutil.copytree(made, tmp_path / "test"))


@contextmanager
def serving(folder: Path) -> Iterator[ListeningServer]:
    with ListeningServer(folder, port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


# ---------------------------------------------------------------- making
def test_a_test_has_the_papers_sections(made: Path) -> None:
    test = ListeningTest.load(made)
    found = {(i.section, i.rate, i.clip, i.system) for i in test.items}
    assert len(found) == len(test.items)
    clips = {"quality": NAMES[:2], "alignment": ("bee",), "overall": NAMES[:2]}  # noise lacks the third clip
    assert found == {
        (name, rate, clip, system)
        for name, section in SECTIONS.items()
        for rate in section.rates
        for clip in clips[name]
        for system in SYSTEMS
    }
    assert {p.stem for p in (made / "media").iterdir()} == {i.id for i in test.items}  # the name betrays nothing


def power_above(path: Path, frequency: float) -> float:
    audio = read_audio(path, RATE)
    power = np.square(np.abs(np.fft.rfft(audio)))
    return float(power[np.fft.rfftfreq(len(audio), 1 / RATE) > frequency].sum() / power.sum())


def test_16_khz_means_nothing_above_8_khz(made: Path) -> None:
    noise = {i.rate: made / "media" / f"{i.id}.mp4" for i in ListeningTest.load(made).items if i.system == "noise"}
    assert power_above(noise[16000], 8300) < 1e-3 < 0.1 < power_above(noise[44100], 8300)


def test_order_is_the_listeners_own(made: Path) -> None:
    test = ListeningTest.load(made)
    ann, bob = test.order("ann"), test.order("bob")
    assert ann != bob and ann == test.order("ann") and set(ann) == set(bob) == set(test.items)
    sections = [item.section for item in ann]
    assert sections == sorted(sections, key=list(SECTIONS).index)


def test_unusable_clips_are_reported(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = Path(shutil.copytree(corpus / "reference", tmp_path / "reference"))
    track = Sound(hits(0, SECONDS)[None], RATE, "pcm_s16le")
    write_video(reference / "ape.mov", Picture(steady(40, 25), codec="mpeg4", tick=Fraction(1, 1000)), track)
    (reference / "cat.mov").write_bytes(b"no video")
    systems = [str(corpus / "noise"), "--reference", str(reference), "--sparse", str(corpus / "sparse.txt")]
    assert listen.main(["make", str(tmp_path / "test"), *systems, "--clips", "3"]) == 0
    printed = capsys.readouterr().out
    assert "skipped ape: browsers do not play its picture (mpeg4)" in printed
    assert "skipped cat: " in printed and "not a video" in printed
    assert {item.clip for item in ListeningTest.load(tmp_path / "test").items} == {"bee"}
    truth = MeasuredSound(hits(0), RATE)
    (tmp_path / "film.mp4").write_bytes(b"no film")
    assert "no picture" in str(usable(Clip("x", truth, None, {}), []))
    assert "not a video" in str(usable(Clip("x", truth, tmp_path / "film.mp4", {}), []))


def test_errors_are_one_line(corpus: Path, untaken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "foreign.txt").write_text("gnu")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "test.json").write_text("[]")
    foreign = ["--reference", str(corpus / "reference"), "--sparse", str(tmp_path / "foreign.txt")]
    assert make(corpus, untaken) == 1
    assert "holds a test already" in capsys.readouterr().err
    assert make(corpus, tmp_path / "new", "--clips", "0") == 1
    assert "--clips is 0" in capsys.readouterr().err
    for arguments, words in (
        (["make", str(tmp_path / "new"), str(corpus / "same"), *foreign], "none of the 1 names"),
        (["serve", str(tmp_path)], "has no listening test"),
        (["serve", str(tmp_path / "bad")], "cannot be read"),
        (["serve", str(untaken), "--port", "99999"], "port"),
        (["score", str(untaken)], "no ratings yet"),
    ):
        assert listen.main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1


# ---------------------------------------------------------------- taking it
def get(url: str, **headers: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20)


def post(url: str, values: Any) -> tuple[int, dict[str, Any]]:
    body = values if isinstance(values, bytes) else json.dumps(values).encode()
    try:
        with urllib.request.urlopen(url + "rate", body, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_listener_goes_through_all_items_and_can_come_back(untaken: Path) -> None:
    test = ListeningTest.load(untaken)
    heard = []
    for part in range(2):  # the server is started again in between
        with serving(untaken) as server:
            while True:
                state = json.load(get(server.url + "next?listener=ann%20b"))
                assert state["done"] == len(heard) and state["total"] == len(test.items)
                if state["item"] is None or (part == 0 and len(heard) == 5):
                    break
                heard.append(state["item"]["id"])
                ratings = dict.fromkeys(state["item"]["questions"], 4)
                rating = {"listener": "ann b", "expert": True, "item": heard[-1], "ratings": ratings}
                assert post(server.url, rating) == (200, {"ok": True})
                assert post(server.url, rating | {"ratings": dict.fromkeys(ratings, 1)})[0] == 200  # a second click
    assert heard == [item.id for item in test.order("ann b")]
    lines = [json.loads(line) for line in (untaken / "ratings.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == heard and all(set(line["ratings"].values()) == {4} for line in lines)


def test_server_refuses_invalid_ratings_and_serves_only_the_test(untaken: Path) -> None:
    item = next(i for i in ListeningTest.load(untaken).items if i.section == "overall")
    good = {"listener": "ann", "expert": False, "item": item.id, "ratings": {"overall": 5}}
    with serving(untaken) as server:
        for change, words in (
            ({"ratings": {"overall": 6}}, "1 to 5"),
            ({"ratings": {"overall": True}}, "1 to 5"),
            ({"ratings": {"overall": 4.5}}, "1 to 5"),
            ({"ratings": {}}, "must be of overall"),
            ({"ratings": {"quality": 3}}, "must be of overall"),
            ({"item": "nothing"}, "no item 'nothing'"),
            ({"item": ["x"]}, "no item"),
            ({"listener": " "}, "enter a name"),
            ({"listener": "x" * 99}, "enter a name"),
            ({"expert": "yes"}, "true or false"),
            ({"more": 1}, "a rating must have"),
        ):
            status, answer = post(server.url, good | change)
            assert status == 400 and words in answer["error"], change
        assert post(server.url, b"{")[0] == 400
        assert post(server.url, b" " * 20_000)[0] == 400
        for path in ("test.json", "ratings.jsonl", "media/../test.json", "media/none.mp4", "next?listener="):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(server.url + path)
            assert refused.value.code in (400, 404)
    assert not (untaken / "ratings.jsonl").exists()


def test_media_come_whole_and_in_parts(untaken: Path) -> None:
    name = f"media/{ListeningTest.load(untaken).items[0].id}.mp4"
    whole = (untaken / name).read_bytes()
    with serving(untaken) as server:
        with get(server.url + name) as answer:
            assert answer.status == 200 and answer.read() == whole and answer.headers["Accept-Ranges"] == "bytes"
        for asked, part in (("bytes=0-9", whole[:10]), ("bytes=100-", whole[100:]), ("bytes=-7", whole[-7:])):
            with get(server.url + name, Range=asked) as answer:
                assert answer.status == 206 and answer.read() == part
                assert answer.headers["Content-Range"].endswith(f"/{len(whole)}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(server.url + name, Range=f"bytes={len(whole)}-")
        assert refused.value.code == 416


# ---------------------------------------------------------------- scores
def test_damaged_lines_are_counted_and_the_next_rating_is_whole(untaken: Path) -> None:
    test = ListeningTest.load(untaken)
    item = next(i for i in test.items if i.section == "overall")
    path = untaken / "ratings.jsonl"
    path.write_text('{"listener": "ann", "exp')  # the power went off
    ratings = Ratings(untaken, test)
    assert ratings.damaged == 1
    ratings.add(Rating("bob", False, item.id, {"overall": 3}))
    again = Ratings(untaken, test)
    assert again.damaged == 1 and list(again.known) == [("bob", item.id)]


def test_mean_opinion_scores(untaken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = ListeningTest.load(untaken)
    ratings = Ratings(untaken, test)
    worth = {"reference": 5, "same": 4, "noise": 1}
    for listener, expert in (("ann", True), ("bob", False), ("cem", False)):
        for item in test.items:
            value = max(1, worth[item.system] - (not expert))
            ratings.add(Rating(listener, expert, item.id, dict.fromkeys(SECTIONS[item.section].questions, value)))
    found = scores(ratings)
    assert [found[g]["listeners"] for g in ("all listeners", "experts", "others")] == [3, 1, 2]
    assert found["experts"]["systems"]["same"]["Overall"] == {"mean": 4.0, "interval": [4.0, 4.0], "n": 2}
    everybody = found["all listeners"]["systems"]["same"]["Quality 16 kHz"]
    assert everybody["n"] == 6 and everybody["mean"] == pytest.approx((2 * 4 + 4 * 3) / 6)
    assert 3.0 <= everybody["interval"][0] < everybody["mean"] < everybody["interval"][1] <= 4.0
    assert found["all listeners"]["systems"]["noise"]["Alignment 16 kHz"]["n"] == 3  # one sparse clip
    assert listen.main(["score", str(untaken)]) == 0
    text = (untaken / "mos.md").read_text()
    assert text == as_markdown(found) and text in capsys.readouterr().out
    heads = (
        "| | Quality 16 kHz | Quality 44.1 kHz | Relevance 16 kHz | Relevance 44.1 kHz | Alignment 16 kHz | Overall |"
    )
    assert heads in text and "## experts: 1 listeners" in text
    assert json.loads((untaken / "mos.json").read_text()) == found


def test_a_bad_name_is_refused_early() -> None:
    from train.listen.ratings import check_listener

    assert check_listener(" ann ") == "ann"
    for name in ("", "a\nb", None, 3):
        with pytest.raises(OptionError):
            check_listener(name)


# ---------------------------------------------------------------- browser
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.mark.slow
def test_in_a_real_browser(untaken: Path) -> None:
    """A listener uses the page: name, play to the end, rate, next. After a reload, the test continues."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    test = ListeningTest.load(untaken)
    order = test.order("ann")
    quiet = ["--no-sandbox", "--mute-audio"]
    with serving(untaken) as server, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path, args=quiet)
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        for count, item in enumerate(order):
            if count in (0, 4):
                page.goto(server.url)
                page.get_by_label("Your name or code").fill("ann")
                page.get_by_label("I work with sound").check()
                page.get_by_role("button", name="Start").click()
            section = SECTIONS[item.section]
            page.get_by_role("heading", name=f"{section.title} ({count + 1} of {len(order)})").wait_for()
            save = page.get_by_role("button", name="Next")
            for number, words in enumerate(section.questions.values()):
                page.get_by_role("group", name=words).get_by_role("radio").nth(2 + number).check()
            assert save.is_disabled()  # rated, but not yet heard
            page.evaluate("document.getElementById('video').play()")
            page.locator("#save:enabled").wait_for(timeout=20_000)
            assert page.evaluate("document.getElementById('video').duration") == pytest.approx(SECONDS, abs=0.1)
            save.click()
        page.get_by_text("You have rated all samples").wait_for()
        assert page.locator("#error").is_hidden() and errors == []
        browser.close()
    lines = [json.loads(line) for line in (untaken / "ratings.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == [item.id for item in order]
    assert all(line["expert"] and line["listener"] == "ann" for line in lines)
    assert lines[0]["ratings"] == {"quality": 3, "relevance": 4} and lines[-1]["ratings"] == {"overall": 3}
