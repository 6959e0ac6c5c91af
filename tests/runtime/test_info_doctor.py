"""`runtime.info` and `runtime.doctor`: what a bundle contains, and whether it works here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from engines.contract import CONTRACT_VERSION, Graph, ModelConfig, graphs
from runtime import doctor, info
from tests.support.fake_engines import (
    NEEDS_ORT,
    Builder,
    FakeBundle,
    entry_of,
    model,
    rewrite_manifest,
    small_config,
    write_bundle,
)
from tests.support.paths import ROOT

Capture = pytest.CaptureFixture[str]


def refused(code: int, capsys: Capture) -> str:
    err = capsys.readouterr().err
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1
    return err


# ---------------------------------------------------------------- info
def test_info_for_people(own_bundle: Path, capsys: Capture) -> None:
    rewrite_manifest(own_bundle, lambda m: m["weights"][0].update(trained=False))
    assert info.main([str(own_bundle)]) == 0
    out = capsys.readouterr().out
    for words in (
        "MaskVAT hybrid",
        "44100 Hz, hop 512, 9 codebooks of 1024",
        f"contract {CONTRACT_VERSION}",
        "windows of 2 s",
    ):
        assert words in out
    for name in graphs(small_config()):
        assert f"{name}.onnx" in out
    assert "maskvat: fake (UNTRAINED); Apache-2.0; data: none; tests" in out
    assert "codec: fake; Apache-2.0" in out


def test_info_lists_the_words(own_bundle: Path, capsys: Capture) -> None:
    assert info.main([str(own_bundle), "--words"]) == 0
    assert capsys.readouterr().out == "dog\nbig cat\ndoor\ncar\nstreet\ndrum\n"
    assert info.main(["--words"]) == 0  # of the shipped bundle
    assert capsys.readouterr().out.strip()


def test_info_refuses_a_damaged_vocabulary(own_bundle: Path, capsys: Capture) -> None:
    (own_bundle / "vocabulary.npz").write_bytes(b"x")
    rewrite_manifest(
        own_bundle, lambda m: m["files"].update({"vocabulary.npz": entry_of(own_bundle / "vocabulary.npz")})
    )
    assert info.main([str(own_bundle)]) == 1
    assert "vocabulary.npz is not a vocabulary" in capsys.readouterr().err


def test_info_as_json(own_bundle: Path, capsys: Capture) -> None:
    assert info.main([str(own_bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((own_bundle / "manifest.json").read_text())


def test_info_refuses_a_folder_that_is_not_a_bundle(tmp_path: Path, capsys: Capture) -> None:
    assert "no bundle in" in refused(info.main([str(tmp_path)]), capsys)


# ---------------------------------------------------------------- doctor
@NEEDS_ORT
@pytest.mark.parametrize("design", ["adaln_b", "hybrid"])
def test_doctor_passes_a_good_bundle(bundles: Callable[..., Path], design: str, capsys: Capture) -> None:
    assert doctor.main(["--engines", str(bundles(design)), "--backend", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("self-test passed")
    for words in ("python ", "numpy ", "onnxruntime ", "cuda ", "every file is what the manifest says"):
        assert words in out
    for name in graphs(small_config(design)):
        assert f"  {name + '.onnx':20} onnxruntime/CPUExecutionProvider" in out


@NEEDS_ORT
def test_doctor_finds_a_graph_that_computes_something_else(own_bundle: Path, capsys: Capture) -> None:
    """The file matches the manifest's sha256, but not its self-test."""

    def louder(op: Builder, config: ModelConfig, graph: Graph) -> dict[str, str]:
        return {"embedding": op.widen(op("Add", op.slice("audio_features", 3, 0, 1), 0.5), 3, config.scav_dim)}

    path = own_bundle / "scav_audio.onnx"
    onnx.save(model(graphs(small_config())["scav_audio"], small_config(), louder), path)
    rewrite_manifest(own_bundle, lambda m: m["files"].update({path.name: entry_of(path, "scav_audio")}))
    message = refused(doctor.main(["--engines", str(own_bundle)]), capsys)
    assert "the self-test failed for scav_audio" in message


@NEEDS_ORT
def test_doctor_wants_a_self_test(tmp_path: Path, capsys: Capture) -> None:
    folder = write_bundle(tmp_path / "b", FakeBundle(small_config()))
    assert "holds no self-test" in refused(doctor.main(["--engines", str(folder)]), capsys)


@NEEDS_ORT
def test_doctor_notes_what_is_untrained(tmp_path: Path, capsys: Capture) -> None:
    folder = write_bundle(tmp_path / "b", FakeBundle(small_config(), untrained=("scav",), self_test=True))
    assert doctor.main(["--engines", str(folder)]) == 0
    assert "note: scav is untrained" in capsys.readouterr().out


@NEEDS_ORT
def test_doctor_says_what_is_wrong(
    own_bundle: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no bundle in" in refused(doctor.main(["--engines", str(tmp_path)]), capsys)
    assert "unknown backend 'tpu'" in refused(doctor.main(["--engines", str(own_bundle), "--backend", "tpu"]), capsys)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "'cuda' is not available" in refused(
        doctor.main(["--engines", str(own_bundle), "--backend", "cuda"]), capsys
    )
    (own_bundle / "step.onnx").write_bytes(b"")
    assert "step.onnx has 0 bytes" in refused(doctor.main(["--engines", str(own_bundle)]), capsys)


# ---------------------------------------------------------------- as processes
CRASH = """
import ctypes, runpy, sys
from runtime.commands import status
status.run_command = lambda *a, **k: ctypes.string_at(0)
sys.argv = [sys.argv[1]]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs a child process")
@pytest.mark.parametrize("module", ["runtime.info", "runtime.doctor"])
def test_a_crash_in_a_library_is_one_line(module: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", CRASH, module], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the program crashed (SIGSEGV)")


def test_info_as_a_process() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for options, status in (([], 0), (["--unknown"], 2), (["gone"], 1)):
        line = [sys.executable, "-m", "runtime.info", *options]
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        assert done.returncode == status and bool(done.stdout) == (status == 0), done.stderr
