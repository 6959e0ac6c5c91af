"""benchmarks.latency.peers with fakes: the clock, stand-ins, tables, refused options, and a peer's process.

No test depends on a measured time: clocks are made up, or only sums are compared.
"""

import importlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from benchmarks.latency.peers import __main__ as peers
from benchmarks.latency.peers import clock, process, stand_ins, systems, tables, v_aura
from benchmarks.latency.peers.clock import Clock, fastest
from benchmarks.latency.points import WorkerError
from runtime.errors import OptionError

pytestmark = pytest.mark.torch


# ---------------------------------------------------------------- the clock
class Time:
    """A clock that only moves when a fake works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Fake:
    """Encodes rows at 2 s each, and makes steps of `length` seconds and 1 s each."""

    def __init__(self, time: Time) -> None:
        self.time, self.encoded, self.stepped = time, [], []

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        self.time.now += 2.0 * len(rows)
        self.encoded.append(len(rows))
        return rows[:, :1] * 10

    def features(self, rows: torch.Tensor) -> torch.Tensor:
        self.time.now += 1.0
        return torch.cat([self.encode(part) for part in rows.split(5)])

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        self.time.now += 1.0 + tokens.shape[-1]
        self.stepped.append(tokens.shape[-1])
        return tokens[:, :1]

    def generate(self) -> None:
        assert self.features(torch.ones(8, 3)).shape == (8, 1)
        for length in range(1, 11):
            answer = self.step(torch.ones(1, length))
            assert answer.item() == 1
            answer.zero_()  # as V-AURA changes what it gets
        self.time.now += 0.5


@pytest.fixture
def fake(monkeypatch) -> Fake:
    time = Time()
    monkeypatch.setattr(clock, "time", time)
    return Fake(time)


def measured(fake: Fake, whole: bool) -> dict:
    with Clock(whole) as watch:
        watch.rows("features: CLIP", fake, "encode", 3, "frames")
        watch.stage("features: CLIP", fake, "features")
        watch.calls("generation", fake, "step", lambda tokens: tokens.shape[-1], "steps", 4)
        return watch.measure(fake.generate, "generation")


def test_what_is_left_out_is_charged(fake: Fake) -> None:
    """Rows cost the same and steps grow linearly, so the charge is exact; what warms up does not count."""
    whole = measured(fake, whole=True)
    assert whole["seconds"] == 1 + 16 + sum(range(2, 12)) + 0.5 == whole["computed_seconds"] and not whole["in_part"]
    assert fake.encoded == [5, 3] and fake.stepped == list(range(1, 11))
    fake.encoded.clear(), fake.stepped.clear()
    part = measured(fake, whole=False)
    assert part["stages"] == pytest.approx(whole["stages"]) == {"features: CLIP": 17.0, "generation": 65.5}
    assert part["seconds"] == whole["seconds"] > part["computed_seconds"]
    assert part["in_part"] == {"features: CLIP": "3 of 8 frames", "generation": "3 of 10 steps"}
    assert fake.encoded == [1, 3] and fake.stepped == [1, 1, 5, 9]  # the first of each does not count


def test_the_system_is_put_back(fake: Fake) -> None:
    module = torch.nn.Linear(2, 2)
    before = fake.encode, dict(module.__dict__)
    with Clock() as watch:
        watch.rows("features", module, "forward", 1, "rows")
        watch.stage("features", fake, "encode")
        assert module(torch.ones(3, 2)).shape == (3, 2) and fake.encode is not before[0]
    assert fake.encode == before[0] and module.__dict__ == before[1]


def test_equal_calls_are_made_once(fake: Fake) -> None:
    made = SimpleNamespace(decode=lambda size: (size, [size]))
    with Clock() as watch:
        watch.calls("codec", made, "decode", lambda size: size, "sounds")
        answers = [made.decode(size) for size in (7, 7, 8, 7)]
    assert answers == [(7, [7]), (7, [7]), (8, [8]), (7, [7])] and answers[0][1] is not answers[1][1]
    assert watch.parts[0].note() == "2 of 4 sounds"


def test_the_fastest_run() -> None:
    assert fastest([{"seconds": 3.0, "a": 1}, {"seconds": 2.0, "a": 2}]) == {
        "seconds": 2.0, "a": 2, "all": [3.0, 2.0], "median": 2.5
    }  # fmt: skip


# ---------------------------------------------------------------- stand-ins
@pytest.fixture
def package(tmp_path: Path, monkeypatch):
    """A package with a function and a broken module; imports are undone."""
    (tmp_path / "halfway").mkdir()
    (tmp_path / "halfway" / "__init__.py").write_text("def real(): return 1\n")
    (tmp_path / "halfway" / "broken.py").write_text("raise OSError('another build')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_stand_ins(package) -> None:
    values = {"absent_a.ml.Base": torch.nn.Module, "absent_a.bind": lambda function: function}
    finder = stand_ins.install(["absent_a", "absent_b", "json", "halfway.broken", "halfway.gone"], values)
    from absent_a.deep import Thing
    from halfway import gone, real
    from halfway.broken import lost

    made = importlib.import_module("absent_a")
    assert made.ml.Base is torch.nn.Module and made.bind(3) == 3 and real() == 1 and gone is not None
    assert importlib.import_module("json") is json  # what can be imported is not replaced
    assert finder.used == {"absent_a", "halfway.broken", "halfway.gone"}
    for name in (Thing, lost, made.anything):
        with pytest.raises(stand_ins.StandInUsed, match="install its package"):
            name(1)
    assert issubclass(type("Sub", (Thing,), {}), Thing)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("halfway.other")


def test_lengths_of_v_aura() -> None:
    assert [v_aura.whole_units(s) for s in (8, 2.56, 10, 0.64, 8.32)] == [8.32, 2.56, 10.24, 0.64, 8.32]


# ---------------------------------------------------------------- a peer's process
class FakePeer:
    """The interface of mmaudio.Peer and v_aura.Peer."""

    def __init__(self, order: dict) -> None:
        self.seconds, self.finder = order["seconds"], SimpleNamespace(used={"b", "a"})

    @property
    def facts(self) -> dict:
        sound = {"sound_seconds": self.seconds, "sample_rate": 16000}
        return sound | {"name": "Fake", "steps": 3, "precision": "fp32", "method": "steps"}

    def watch(self, watch: Clock) -> None:
        watch.calls("features", self, "encode", len, "chunks")
        watch.stage("features", self, "encode")

    def encode(self, chunk: str) -> int:
        return len(chunk)

    def generate(self) -> None:
        assert [self.encode(chunk) for chunk in ("aa", "bb", "c")] == [2, 2, 1]


def test_a_peers_process(monkeypatch, capsys) -> None:
    """Its answer has all that the table needs; an error is an answer, too."""
    module = SimpleNamespace(Peer=FakePeer, PACKAGES=("torch", "nothing-of-this-name"))
    monkeypatch.setattr(process, "import_module", {"benchmarks.latency.peers.fake": module}.__getitem__)
    threads = torch.get_num_threads()
    order = {"peer": "fake", "threads": threads, "seconds": 4.0, "repeat": 2, "whole": False}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(order) + "\n"))
    assert process.main() == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["in_part"] == {"features": "2 of 3 chunks"} and answer["stand_ins"] == ["a", "b"]
    assert len(answer["all"]) == 2 and answer["packages"]["nothing-of-this-name"] == "absent"
    assert "| Fake | 4 s, 16 kHz | 3 |" in tables.table([answer]) and "2 of 3 chunks" in tables.details(answer)

    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(order | {"seconds": "x", "peer": "fake"}) + "\n"))
    monkeypatch.setattr(FakePeer, "generate", lambda _: importlib.import_module("timmm"))
    assert process.main() == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "error": "timmm is not installed; docs/PEERS.md says what to install"
    }


class Options(dict):
    """As OmegaConf's: items are attributes, too."""

    def __getattr__(self, name: str):
        return self[name]


OPTIONS = Options(vfps=25, stride=0.64, model_max_duration=2.56, use_sampling=True, temperature=1.0)
OPTIONS |= {"top_k": 128, "top_p": 0.0, "cfg_scale": 6.0}


class FakeVAURA:
    """Makes token frames that count up, so that the joined sound shows which were made twice or left out."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[int], int, int]] = []
        self.audio_encoder = SimpleNamespace(decode=lambda parts: parts[0][0])

    def generate(self, frames: torch.Tensor, known: torch.Tensor | None, max_new_tokens: int, **_) -> dict:
        start = 0 if known is None else int(known[0, 0, 0])
        prompt = 0 if known is None else known.shape[-1]
        self.calls.append((frames[0].tolist(), prompt, max_new_tokens))
        return {"sampled_indices": torch.arange(start, start + max_new_tokens).expand(1, 9, -1)}


@pytest.mark.parametrize(("seconds", "chunks"), [(8.32, 10), (2.56, 1), (3.2, 2), (0.64, 1)])
def test_chunks_of_v_aura(monkeypatch, seconds: float, chunks: int) -> None:
    monkeypatch.setitem(sys.modules, "scripts.generate", SimpleNamespace(COMPRESSION_MODEL_FRAME_RATE=86))
    peer = v_aura.Peer.__new__(v_aura.Peer)
    peer.seconds, peer.model = seconds, FakeVAURA()
    monkeypatch.setattr(peer, "frames", lambda: torch.arange(round(seconds / 0.64))[None])
    peer.options = OPTIONS
    codes = peer.generate()
    assert codes.tolist() == [[list(range(codes.shape[-1]))] * 9]  # every token frame once
    assert codes.shape[-1] in (int(seconds * 86), int(seconds * 86) + 1) and len(peer.model.calls) == chunks
    for number, (segments, prompt, length) in enumerate(peer.model.calls):
        assert segments == [number + i for i in range(min(4, round(seconds / 0.64)))]
        assert (prompt, length) == ((166 if number else 0), min(221, codes.shape[-1]))


# ---------------------------------------------------------------- tables
SYSTEM = {
    "name": "A", "precision": "fp32", "method": "steps", "steps": 25, "sound_seconds": 8.0, "sample_rate": 44100,
    "seconds": 250.0, "stages": {"video": 1.0, "features: CLIP": 200.0, "features: text": 9.0, "generation": 40.0},
    "in_part": {"features: CLIP": "16 of 64 frames"}, "commit": "0123456789abcdef", "packages": {"timm": "1.0"},
    "stand_ins": ["librosa"],
}  # fmt: skip
MACHINE = {"cpu": "C", "cores": 2, "extensions": ["avx2"], "system": "Linux", "python": "3", "packages": {"torch": "2"}}
RESULT = {"benchmark": "peers", "date": "2026-01-02", "machine": MACHINE, "settings": {"threads": 2}, "missing": []}


def write(path: Path, *rows: dict, **changes) -> Path:
    path.write_text(json.dumps(RESULT | {"systems": rows} | changes))
    return path


def test_table_of_two_results_in_a_guide(tmp_path: Path, capsys) -> None:
    whole = SYSTEM | {"name": "ours", "seconds": 4.0, "in_part": {}, "stand_ins": [], "commit": None}
    files = [write(tmp_path / "a.json", whole), write(tmp_path / "b.json", SYSTEM, date="2026-01-03")]
    guide = tmp_path / "guide.md"
    guide.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    for _ in range(2):  # writing again changes nothing
        assert peers.main(["--table", *map(str, files), "--docs", str(guide)]) == 0
        text = guide.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        assert text.count("| A | 8 s, 44.1 kHz | 25 | 1.0 | 209 * | 40.0 | 0.0 | 250 * | 31.25 |") == 1
    assert "| ours | 8 s, 44.1 kHz | 25 | 1.0 | 209 | 40.0 | 0.0 | 4.0 | 0.50 |" in text
    assert "Measured on 2026-01-02 and 2026-01-03." in text and "commit 0123456789." in text
    assert (
        "Computed in part: CLIP 16 of 64 frames. timm 1.0." in text.replace("\n ", "") and "needed to generate" in text
    )
    assert max(map(len, text.splitlines())) <= 150 and text.splitlines()[2] in capsys.readouterr().out


def test_what_a_table_refuses(tmp_path: Path, capsys) -> None:
    good = write(tmp_path / "a.json", SYSTEM)
    other = write(tmp_path / "b.json", SYSTEM, machine=MACHINE | {"cpu": "D"})
    (tmp_path / "c.json").write_text("[]")
    (tmp_path / "guide.md").write_text("no marks\n")
    refused = {
        "different machines": [str(good), str(other)],
        "not a result": [str(tmp_path / "c.json")],
        "cannot be read": [str(tmp_path / "none.json")],
        "lacks the lines": [str(good), "--docs", str(tmp_path / "guide.md")],
    }
    for message, arguments in refused.items():
        assert peers.main(["--table", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "guide.md").read_text() == "no marks\n"


def test_the_guide_has_the_marks() -> None:
    text = (systems.ROOT / "docs" / "PEERS.md").read_text(encoding="utf-8")
    assert text.index(tables.BEGIN) < text.index(tables.END)


# ---------------------------------------------------------------- the command
@pytest.mark.parametrize(
    "bad",
    ["--repeat 0", "--threads -1", "--seconds 0.5", "--seconds nan", "--steps 2000", "--mmaudio {folder}",
     "--v-aura {folder}", "--bigvgan {folder}", "--out nowhere/a.json"],
)  # fmt: skip
def test_bad_options(bad: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(peers, "measure", lambda *_: pytest.fail("measured"))
    assert peers.main(bad.format(folder=tmp_path).split()) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and printed.out == ""


def test_our_stages() -> None:
    stages = {"video": 1.0, "frame_encoder": 2.0, "sync_encoder": 3.0, "condition": 1.0, "step": 4.0, "codec": 5.0}
    found = systems.by_stage({"seconds": 20.0, "sound_seconds": 8.0, "stages": stages})
    assert found["stages"] == {"video": 1, "features: frames": 2, "features: motion": 3, "generation": 9, "codec": 5}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "mmaudio").mkdir()
    (tmp_path / "mmaudio" / "__init__.py").touch()
    (tmp_path / "mmaudio" / "eval_utils.py").touch()
    return tmp_path


def test_a_peer_that_fails(checkout: Path, capsys, monkeypatch) -> None:
    """The reason is told, what was measured is kept, and the exit status is not 0."""
    monkeypatch.setattr(peers, "write_video", lambda *_: None)
    monkeypatch.setattr(peers, "our_rows", lambda *_: [SYSTEM])
    monkeypatch.setattr(
        systems, "measure_peer", lambda *_: (_ for _ in ()).throw(WorkerError("MMAudio cannot be measured: why"))
    )
    out = checkout / "a.json"
    assert peers.main(["--ours", "mini", "--mmaudio", str(checkout), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    kept = json.loads(out.read_text())
    assert kept == json.loads(printed.out.splitlines()[-1]) and [s["name"] for s in kept["systems"]] == ["A"]
    assert kept["missing"] == ["MMAudio cannot be measured: why"] and "1 of the systems" in printed.err
    assert peers.main(["--mmaudio", str(checkout)]) == 1 and "nothing could be measured" in capsys.readouterr().err


def test_a_process_that_ends_early(checkout: Path, monkeypatch) -> None:
    done = SimpleNamespace(stdout="noise\n", returncode=-9)
    monkeypatch.setattr(systems.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(WorkerError, match="MMAudio cannot be measured: its process ended with status -9"):
        systems.measure_peer("mmaudio", {"folder": str(checkout)})
    done.stdout, done.returncode = 'noise\n{"error": "x is not installed"}\n', 1
    with pytest.raises(WorkerError, match="x is not installed"):
        systems.measure_peer("mmaudio", {"folder": str(checkout)})


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--v-aura .* lacks models/vaura_model.py; give .* checkout of V-AURA"):
        systems.check_folder("v_aura", tmp_path)
    assert systems.commit(tmp_path) is None
