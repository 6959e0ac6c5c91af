"""What messages tell the user to do: in the app without Python, nothing that needs Python."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import ort, plan_build
from engines.advice import own_command
from engines.base import BackendUnavailable, OptionError
from engines.manifest import MANIFEST, MINI, Manifest, ManifestError, repair_hint
from engines.words.vocabulary import Vocabulary
from runtime.commands.crash_guard import explain
from runtime.commands.subcommands import show_overview
from tests.support.paths import ROOT

FOR_PYTHON = re.compile(r"python|\bpip install '|\bgit\b")
SOURCES = [p for folder in ("engines", "runtime") for p in (ROOT / folder).rglob("*.py")]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the app, as far as the program can see."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def engine_messages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Messages that name commands: about crashes, backends, a newer bundle, a damaged one, unknown words."""
    yield explain("SIGSEGV", 'Current thread 0x1\n  File "/x/engines/ort.py"', "video.mp4")
    yield explain("SIGSEGV", "", "")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    yield from (reason for reason in ort.available().values() if reason)
    for refuse in (lambda: plan_build.library("trt"), plan_build.card):
        with pytest.raises(BackendUnavailable) as refused:
            refuse()
        yield str(refused.value)
    yield repair_hint(MINI)
    text = (MINI / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(re.sub(r'("contract_version": )\d+', r"\g<1>999", text), encoding="utf-8")
    with pytest.raises(ManifestError) as newer:
        Manifest.load(folder)
    yield str(newer.value)
    with pytest.raises(OptionError) as unknown:
        Vocabulary.load(MINI / "vocabulary.npz", Manifest.load(MINI).config).vector("zzzz")
    yield str(unknown.value)


def test_in_the_app_no_message_needs_python(app: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = list(engine_messages(tmp_path, monkeypatch))
    assert not [text for text in messages if FOR_PYTHON.search(text.replace("MaskVAT with pip", ""))]
    assert sum("`maskvat doctor`" in text for text in messages) == 2
    assert "`maskvat info --words`" in messages[-1]


def test_elsewhere_each_of_them_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = list(engine_messages(tmp_path, monkeypatch))
    assert not [text for text in messages if not FOR_PYTHON.search(text)]
    assert own_command("doctor") == "`python -m runtime.doctor`" and own_command("doctor") in messages[0]


def test_the_overview_of_the_app(app: None, capsys: pytest.CaptureFixture[str]) -> None:
    show_overview()
    assert "python -m" not in capsys.readouterr().out


def messages_in(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings of a file, without docstrings."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            is_doc = isinstance(node, ast.Expr)
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and not is_doc:
                yield child


def test_messages_ask_for_the_name_of_a_command() -> None:
    """No message has `python -m runtime.X` in it: the app has no such command."""
    found = {
        (path.relative_to(ROOT).as_posix(), text.lineno)
        for path in SOURCES
        for text in messages_in(ast.parse(path.read_text(encoding="utf-8")))
        if "`python -m runtime" in text.value
    }
    assert {name for name, _ in found} == {"engines/advice.py"}, found
