"""`maskvat stdio`: each message of real sessions against the schema; cancel, crashes, bad lines, the end."""

import itertools
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.commands.stdio.channel import encode, read_lines
from runtime.commands.stdio.requests import args_of, read_request_line
from runtime.errors import MaskVATError, OptionError
from runtime.take import Take
from tests.support.fake_engines import NEEDS_ORT
from tests.support.stdio_host import SCHEMA, Host, matches

pytestmark = [NEEDS_ORT, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")]
LONG = {"steps": 1024, "candidates": 16}  # takes long enough to cancel it


@pytest.fixture
def folder(tmp_path: Path, make_video: Callable[..., Path]) -> Path:
    shutil.copy(make_video(20), tmp_path / "a.mp4")
    return tmp_path


@pytest.fixture
def flags(bundles: Callable[..., Path]) -> list[str]:
    return ["--engines", str(bundles()), "--backend", "cpu", "--threads", "1"]


@pytest.fixture
def start(folder: Path, flags: list[str]) -> Iterator[Callable[..., Host]]:
    """start(code=None) -> a host with a process that has said hello."""
    hosts: list[Host] = []

    def call(code: str | None = None) -> Host:
        hosts.append(Host(folder, *flags, code=code))
        return hosts[-1]

    yield call
    for host in hosts:
        host.__exit__()


# ---------------------------------------------------------------- a session
def test_a_session(start: Callable[..., Host], folder: Path, flags: list[str]) -> None:
    """Load, generate twice with the same bytes as the command, info, close."""
    from runtime.infer import main

    host = start()
    assert (host.hello["protocol"], host.hello["bundle"]) == (1, {"name": "fake", "contract": 3})
    assert host.hello["methods"] == ["load", "generate", "redo", "cancel", "info", "close"]
    host.send(id="first", method="load")
    loaded = host.answer("first")["result"]
    assert (loaded["backend"], loaded["bundle"]["name"]) == ("cpu", "fake")
    options = {"steps": 2, "seed": 3, "bits": "24", "overwrite": True, "guidance_from": 0.5, "mux": True}
    options["save"] = "t.npz"
    for number in (1, 2):
        host.send(id=number, method="generate", video="a.mp4", output='ä "b".wav', options=options)
        result = host.answer(number)["result"]
    assert result["outputs"] == ['ä "b".wav', "a.sound.mp4", "t.npz"] and result["takes"][0]["bits"] == "24"
    assert main([*flags, str(folder / "a.mp4"), "-o", str(folder / "c.wav"), "--steps", "2", "--seed", "3", "--bits",
                 "24", "--guidance-from", "0.5"]) == 0  # fmt: skip
    assert (folder / 'ä "b".wav').read_bytes() == (folder / "c.wav").read_bytes()
    fractions = [e["fraction"] for e in host.events if e["event"] == "progress" and e["id"] == 2]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    redo = {"video": "a.mp4", "name": "/films/ä.mov", "take": "t.npz", "range": "0.1-0.2", "options": {"save": "n.npz"}}
    host.send(id="again", method="redo", output="redone.wav", **redo)
    redone = host.answer("again")["result"]
    assert (redone["edit"]["kind"], redone["clip"]) == ("redo", "/films/ä.mov")
    take = Take.load(folder / "n.npz")
    assert take.report.clip == "/films/ä.mov" and take.fingerprint is not None and take.fingerprint.name == "ä.mov"
    assert (folder / "redone.wav").stat().st_size == 44 + 2 * 35280  # 0.8 s
    host.send(id=3, method="info")
    info = host.answer(3)["result"]
    assert (info["loaded"], info["running"], info["queued"]) == (True, None, [])
    host.send(id=4, method="close")
    assert host.answer(4)["result"] == {}
    assert host.end() == (0, b"", b"")


def test_errors_do_not_end_the_session(start: Callable[..., Host], folder: Path) -> None:
    host = start()
    cases = {
        b"garbage": (None, "bad_request", "not JSON"),
        b"\xff": (None, "bad_request", "not JSON"),
        b"[1]": (None, "bad_request", "not a JSON object"),
        b"[" * 100000: (None, "bad_request", "not JSON"),
        b'{"method": "info"}': (None, "bad_request", "id is null"),
        b'{"id": true, "method": "info"}': (None, "bad_request", "id is true"),
        b'{"id": 1}': (1, "bad_request", "method is null; choose from load, generate"),
        b'{"id": 1, "method": "info", "x": 1}': (1, "bad_request", "info has no field 'x'; it has none"),
        b'{"id": 1, "method": "generate"}': (1, "bad_request", "generate needs the field video"),
        b'{"id": 1, "method": "generate", "video": 3}': (1, "bad_request", "video is 3, which has the wrong type"),
        b'{"id": 1, "method": "load", "threads": true}': (1, "bad_request", "threads is true"),
        b'{"id": 1, "method": "redo", "video": "a.mp4", "take": "t.npz", "range": "0-1"}': (
            1,
            "media_error",
            "t.npz is not a file; give a take that --save wrote",
        ),
        b'{"id": 1, "method": "generate", "video": "no.mp4"}': (1, "media_error", "no.mp4: no such file"),
        b'{"id": 1, "method": "generate", "video": "a.mp4", "output": "-"}': (
            1,
            "option_error",
            "carries the protocol",
        ),
        b'{"id": 1, "method": "generate", "video": "a.mp4", "options": {"steps": 0}}': (
            1,
            "option_error",
            "steps is 0",
        ),
        b'{"id": 1, "method": "generate", "video": "a.mp4", "options": {"prompt": "music"}}': (
            1,
            "option_error",
            "does not know the word 'music'",
        ),
        b'{"id": 1, "method": "load", "engines": "nowhere"}': (1, "manifest_error", "no bundle in nowhere"),
        b'{"id": 1, "method": "load", "backend": "tpu"}': (1, "backend_unavailable", "unknown backend"),
        b'{"id": "' + b"x" * (1 << 20) + b'"}': (None, "line_too_long", "1048576 bytes"),
    }
    for line, (request_id, code, words) in cases.items():
        host.send_line(line)
        event = host.until(lambda e: e["event"] == "error")
        assert (event["id"], event["code"]) == (request_id, code) and words in event["message"], event
    before = sorted(folder.iterdir())
    host.send_line(b"  ")  # an empty line is nothing
    host.send(id=1, method="generate", video="a.mp4", options={"steps": 1})
    assert host.answer(1)["event"] == "done" and len(list(folder.iterdir())) == len(before) + 1


def test_cancel_queue_and_info_while_it_generates(start: Callable[..., Host], folder: Path) -> None:
    host = start()
    for number in (1, 2, 3):
        host.send(id=number, method="generate", video="a.mp4", output=f"{number}.wav", options=LONG)
    host.until(lambda e: e["event"] == "progress" and e["stage"] == "sample")
    host.send(id=2, method="info")
    assert host.until(lambda e: e["event"] == "error")["message"].startswith("id 2 is in use")
    host.send(id="i", method="info")
    info = host.answer("i")["result"]
    assert (info["running"], info["queued"]) == (1, [2, 3])
    for target, found in ((2, True), (1, True), (7, False)):
        host.send(id=f"c{target}", method="cancel", target=target)
        assert host.until(lambda e, t=target: e.get("id") == f"c{t}")["result"] == {"cancelled": found}
    codes = {e["id"]: e["code"] for e in host.events if e["event"] == "error"}
    while 1 not in codes or 2 not in codes:
        event = host.until(lambda e: e["event"] == "error")
        codes[event["id"]] = event["code"]
    assert codes[1] == codes[2] == "cancelled" and not [
        e for e in host.events if e["event"] == "started" and e["id"] == 2
    ]
    host.until(lambda e: e["event"] == "progress" and e["id"] == 3)
    host.send(id=9, method="close")
    assert host.answer(3)["code"] == "cancelled" and host.answer(9)["event"] == "done"
    assert host.end() == (0, b"", b"") and [p.name for p in folder.iterdir()] == ["a.mp4"]


def test_a_cancel_while_the_copy_is_written(start: Callable[..., Host], folder: Path) -> None:
    code = """
        def mux(*a, check_cancelled, **k):
            while True: time.sleep(0.01); check_cancelled()
        outputs.mux = mux"""
    host = start(code.strip())
    host.send(id=1, method="generate", video="a.mp4", options={"steps": 1, "mux": True})
    host.until(lambda e: e["event"] == "progress" and e["fraction"] == 1)
    host.send(id=2, method="cancel", target=1)
    assert host.answer(1)["code"] == "cancelled"
    assert host.end()[0] == 0 and [p.name for p in folder.iterdir()] == ["a.mp4"]


# ---------------------------------------------------------------- the end
def test_the_end_of_input_ends_it_after_what_is_queued(start: Callable[..., Host], folder: Path) -> None:
    host = start()
    host.send_line(b'{"id": 1, "method": "generate", "video": "a.mp4", "options": {"steps": 1}}')
    host.send_line(b'{"id": 2, "method": "info"}')
    status, out, err = host.end()
    events = [json.loads(line) for line in out.splitlines()]
    assert (status, err) == (0, b"") and {e["id"] for e in events if e["event"] == "done"} == {1, 2}
    assert (folder / "a.wav").exists()


def test_a_host_that_is_gone_stops_the_work(start: Callable[..., Host], folder: Path) -> None:
    host = start()
    host.send(id=1, method="generate", video="a.mp4", options=LONG)
    host.until(lambda e: e["event"] == "progress" and e["stage"] == "sample")
    assert host.process.stdout is not None
    host.process.stdout.close()
    assert host.process.wait(60) == 1 and [p.name for p in folder.iterdir()] == ["a.mp4"]


def test_sigterm(start: Callable[..., Host], folder: Path) -> None:
    host = start()
    host.send(id=1, method="generate", video="a.mp4", options=LONG)
    host.until(lambda e: e["event"] == "progress" and e["stage"] == "sample")
    host.process.send_signal(signal.SIGTERM)
    assert host.answer(1)["code"] == "cancelled"
    assert host.end() == (143, b"", b"") and [p.name for p in folder.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the child process of Linux")
def test_a_crash_is_the_last_event(start: Callable[..., Host], folder: Path) -> None:
    host = start("outputs.mux = lambda *a, **k: ctypes.string_at(0)")
    host.send(id=1, method="generate", video="a.mp4", output="b.wav", options={"steps": 1})
    assert host.answer(1)["event"] == "done"
    host.send(id="two", method="generate", video="a.mp4", options={"steps": 1, "mux": True})
    last = host.answer("two")
    assert (last["code"], last["fatal"]) == ("crashed", True) and "copied a.mp4 (SIGSEGV)" in last["message"]
    assert "published" not in last
    status, out, err = host.end()
    assert (status, out, err.count(b"\n")) == (1, b"", 1)
    assert sorted(p.name for p in folder.iterdir()) == ["a.mp4", "b.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the child process of Linux")
@pytest.mark.parametrize(("number", "code"), [("SIGSEGV", "crashed"), ("SIGTERM", "stopped")])
def test_an_end_after_the_files_were_published_says_so(
    start: Callable[..., Host], folder: Path, number: str, code: str
) -> None:
    host = start(f"""from runtime.commands.staging import Staging
        real_publish = Staging.publish
        def publish(*a, **k):
            real_publish(*a, **k)
            signal.signal(signal.{number}, signal.SIG_DFL)
            os.kill(os.getpid(), signal.{number})
            time.sleep(60)
        Staging.publish = publish""")
    host.send(id=1, method="generate", video="a.mp4", output="b.wav", options={"steps": 1})
    last = host.answer(1)
    assert (last["code"], last["fatal"], last["published"]) == (code, True, True)
    assert "the files were written before" in last["message"] and "nothing was written" not in last["message"]
    assert b"the files were written before" in host.end()[2]
    assert sorted(p.name for p in folder.iterdir()) == ["a.mp4", "b.wav"]


def test_stdout_carries_only_the_protocol(start: Callable[..., Host]) -> None:
    """Text that libraries and Python print goes to stderr."""
    host = start("""real = Pipeline.generate
        def generate(*a, **k):
            print("from python"); os.write(1, b"from C\\n")
            return real(*a, **k)
        Pipeline.generate = generate""")
    host.send(id=1, method="generate", video="a.mp4", options={"steps": 1})
    assert host.answer(1)["event"] == "done"
    assert b"from python" in host.end()[2]


# ---------------------------------------------------------------- parts
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_lines_of_any_pieces(size: int) -> None:
    data = b"one\n\n" + b"x" * 20 + b"\ntwo\r\n" + b"y" * 9 + b"\n" + b"z" * 50 + b"\nlast"
    pieces = iter([data[i : i + size] for i in range(0, len(data), size)])
    lines = list(read_lines(lambda n: next(pieces, b""), limit=10))
    assert lines == [b"one", b"", None, b"two\r", b"y" * 9, None, b"last"]


def test_the_schema_refuses_what_is_no_message() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = {"id": 1, "method": "generate", "video": "a"}
    matches(good, "request")
    progress = {"event": "progress", "id": 1, "stage": "codec", "window": 0, "step": 1, "steps": 2, "fraction": 1}
    matches(progress, "event")
    bad = [good | {"video": 1}, good | {"x": 1}, good | {"method": "fly"}, {"id": None, "method": "info"}]
    events = [
        progress | {"fraction": 2},
        progress | {"stage": "x"},
        {"event": "error", "id": 1, "code": "x", "message": ""},
    ]
    for message, kind in [*zip(bad, itertools.repeat("request")), *zip(events, itertools.repeat("event"))]:
        with pytest.raises(jsonschema.ValidationError):
            matches(message, kind)


def test_every_code_is_in_the_schema() -> None:
    codes = set(SCHEMA["$defs"]["error_event"]["properties"]["code"]["enum"])
    kinds: list[type[MaskVATError]] = [MaskVATError]
    found = {"line_too_long", "system_error", "out_of_memory", "internal_error", "crashed", "stopped"}
    while kinds:
        kind = kinds.pop()
        found.add(kind.code)
        kinds += [k for k in kind.__subclasses__() if k.__module__.split(".")[0] in ("engines", "runtime")]
    assert found - {"container_refused"} == codes  # the copy turns it into a media_error with advice


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engines": "x"}, "give it to `load`"),
        ({"output": "x.wav"}, "give it beside `video`"),
        ({"progress": "json"}, "events say everything"),
        ({"colour": "red"}, "unrecognized arguments: --colour=red"),
        ({"step": 3}, "unrecognized arguments"),
        ({"steps": [3]}, "give a text, a number, or true"),
        ({"steps": "many"}, "--steps"),
        ({"at": "0-1 door"}, "give pairs of texts"),
        ({"at": [["0-1", 3]]}, "give pairs of texts"),
        ({"-o x": 1}, "is not an option"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        args_of({"video": "a.mp4", "options": options})


def test_options_become_flags() -> None:
    args = args_of({"video": "-a.mp4", "output": "-x.wav", "options": {"mux": True, "overwrite": False, "gain": -3.5}})
    assert (str(args.video), str(args.output), args.mux, args.overwrite, args.gain) == (
        "-a.mp4",
        "-x.wav",
        Path(),
        False,
        -3.5,
    )
    assert read_request_line(b'{"id": 1, "method": "info"}').method == "info"


def test_names_that_are_not_utf8() -> None:
    assert encode({"file": "ä"}) == '{"file": "ä"}\n'.encode()
    assert json.loads(encode({"file": "\udce4"})) == {"file": "\udce4"}
