"""`maskvat` for people: subcommands, help in groups, completion in real shells, and the remaining time."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.commands import show_progress
from runtime.commands.option_groups import FIRST
from runtime.commands.show_progress import Bar, RemainingTime, clock
from runtime.commands.subcommands import SUBCOMMANDS, choose, misspelt
from runtime.sampling import Progress
from tests.support.fake_engines import NEEDS_ORT
from tests.support.paths import ROOT


@pytest.fixture
def maskvat(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """maskvat(*arguments) runs the console script in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"}

    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "runtime.commands", *arguments]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return call


# ---------------------------------------------------------------- which subcommand
def test_the_console_script_is_this_function() -> None:
    assert 'maskvat = "runtime.commands.subcommands:process"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        ("video.mp4 --steps 2", ("make", ["video.mp4", "--steps", "2"])),
        ("--steps 2 video.mp4", ("make", ["--steps", "2", "video.mp4"])),
        ("make batch", ("make", ["batch"])),
        ("./batch", ("make", ["./batch"])),
        ("batch a b", ("batch", ["a", "b"])),
        ("--stdio --threads 2", ("stdio", ["--threads", "2"])),
        ("--version", ("version", [])),
        ("-h", ("help", ["-h"])),
        ("", ("help", [])),
    ],
)
def test_choose(line: str, chosen: tuple[str, list[str]]) -> None:
    assert choose(line.split()) == chosen


def test_a_misspelt_subcommand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "do you mean `maskvat batch`?" in (misspelt(["bacth"]) or "")
    Path("bacth").touch()
    assert [misspelt([word]) for word in ("bacth", "video", "./bacht", "--stepz", "doctor.mp4")] == [None] * 5


def test_the_overview(maskvat: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    """Each subcommand, and the five flags that most people need first."""
    done = maskvat("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in SUBCOMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)
    assert set(re.findall(r"(--[a-z-]+)(?: \[?[A-Z]+\]?)?  ", done.stdout)) <= set(FIRST) and len(FIRST) == 5
    assert all(flag in done.stdout for flag in FIRST) and "--guidance" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_short_answers(maskvat: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    version = maskvat("--version")
    assert version.returncode == 0 and re.fullmatch(r"maskvat \S+\n", version.stdout)
    nothing = maskvat()
    assert (nothing.returncode, nothing.stdout) == (2, "") and nothing.stderr.startswith("usage: maskvat VIDEO")
    several = maskvat("a.mp4", "b c.mp4")
    assert several.returncode == 2 and "for several: `maskvat batch a.mp4 'b c.mp4'`" in several.stderr


@NEEDS_ORT
def test_a_video_named_like_a_subcommand(
    maskvat: Callable[..., "subprocess.CompletedProcess[str]"],
    bundles: Callable[..., Path],
    make_video: Callable[..., Path],
    tmp_path: Path,
) -> None:
    shutil.copy(make_video(20), tmp_path / "batch")
    done = maskvat("./batch", "--engines", str(bundles()), "--backend", "cpu", "--steps", "1")
    assert done.returncode == 0 and (tmp_path / "batch.wav").exists(), done.stderr


@pytest.mark.parametrize("name", ["make", "batch", "info", "doctor", "stdio", "completion"])
def test_each_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from runtime.commands.completion import get_whole_parser

    with pytest.raises(SystemExit):
        get_whole_parser().parse_args([name, "--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: maskvat {name}")
    if name in ("make", "batch"):
        assert out.index("what most people need first") < out.index("how the sound is made")
        assert "(default: False)" not in out and "files to write" in out and "what runs it" in out


# ---------------------------------------------------------------- completion
BASH = """
source ./script
words=({words})
COMP_WORDS=("${{words[@]}}"); COMP_CWORD=$((${{#words[@]}} - 1)); COMPREPLY=()
_shtab_maskvat
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
CASES = {
    "maskvat ba": "batch",
    "maskvat batch --skip": "--skip-existing",
    "maskvat batch --summary li": "list.json",
    "maskvat make --backend cu": "cuda",
    "maskvat film.mp4 --guidance-f": "--guidance-from",
}


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """script(shell) writes the script of a shell to the current folder, which has film.mp4 and list.json."""
    pytest.importorskip("shtab")
    from runtime.commands.completion import completion_script

    monkeypatch.chdir(tmp_path)
    for name in ("film.mp4", "list.json"):
        (tmp_path / name).touch()

    def write(shell: str) -> str:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        (tmp_path / "script").write_text(completion_script(shell))
        return (tmp_path / "script").read_text()

    return write


def test_completion_in_bash(script: Callable[[str], str]) -> None:
    assert "complete -o default -o bashdefault -F _shtab_maskvat maskvat" in script("bash")
    for words, expected in CASES.items():
        done = subprocess.run(["bash", "-c", BASH.format(words=words)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], done.stderr


def test_completion_in_fish(script: Callable[[str], str]) -> None:
    script("fish")
    for words, expected in (CASES | {"maskvat fi": "film.mp4"}).items():
        line = f"source script; complete -C '{words}'"
        done = subprocess.run(["fish", "-c", line], capture_output=True, text=True, check=True)
        assert [row.split("\t")[0] for row in done.stdout.splitlines()] == [expected], done.stderr


ZSH = """
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PS1=; fpath=('$PWD'/zsh $fpath); autoload -U compinit; compinit -u -D; bindkey "^I" complete-word'
zpty -w z "print rea''dy"
zpty -r -m z out '*ready*'
zpty -w -n z "$1"$'\\t'
zpty -r -m z out "*$2*" && print found
zpty -d z
"""


@pytest.mark.slow
def test_completion_in_zsh(script: Callable[[str], str], tmp_path: Path) -> None:
    """In a terminal of its own, as zsh has no way to ask for completions."""
    text = script("zsh")
    (tmp_path / "zsh").mkdir()
    (tmp_path / "zsh" / "_maskvat").write_text(text)
    for words, expected in (CASES | {"maskvat fi": "film.mp4"}).items():
        line = ["zsh", "-f", "-c", ZSH, "zsh", words, expected]
        done = subprocess.run(line, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        assert done.stdout.endswith("found\n"), done.stderr


def test_completion_without_its_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from runtime.commands.completion import main

    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["bash"]) == 1
    assert "pip install 'maskvat[completion]'" in capsys.readouterr().err


# ---------------------------------------------------------------- progress
def test_the_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(show_progress.time, "monotonic", lambda: now)
    remaining = RemainingTime()
    assert remaining.text(0.0) == ""
    now = 100.5
    assert remaining.text(0.5) == ""  # too early to know
    now = 110.0
    assert remaining.text(0.01) == "" and remaining.text(1.0) == ""
    assert remaining.text(0.25) == "0:30 left"
    continued = RemainingTime()
    assert continued.text(0.5) == ""
    now = 120.0
    assert continued.text(0.75) == "0:10 left"
    assert [clock(s) for s in (0.4, 65, 7210)] == ["0:00", "1:05", "2:00:10"]


def test_the_bar_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    Bar().update(Progress("sample", 0, 12, 32, 0.5))
    Bar().update(Progress("codec", 11, 32, 32, 0.999))
    first, second = capsys.readouterr().err.split("\r")[1:]
    assert first == "[###############...............]  50% making the sound 12/3\x1b[K"
    assert "] 99% decoding sound" in second.replace("  ", " ")
    assert all(len(line.removesuffix("\x1b[K")) < 60 for line in (first, second))
