"""An incomplete or altered bundle never runs: each error names the file and the command that repairs it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines import manifest as module
from engines.contract import CONTRACT_VERSION
from engines.manifest import MINI, Manifest, ManifestError, repair_hint, write_atomically
from tests.support.fake_engines import FakeBundle, entry_of, rewrite_manifest, small_config, write_bundle

REPAIR = "python -m export CHECKPOINT"


def refused(folder: Path, *words: str) -> str:
    """Check that the bundle is refused with a message that contains all of `words`."""
    with pytest.raises(ManifestError) as info:
        Manifest.load(folder)
    message = str(info.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    return message


def test_a_bundle_comes_back_as_it_was_written(bundles: Callable[..., Path]) -> None:
    manifest = Manifest.load(bundles("adaln_b"))
    assert manifest.config == small_config("adaln_b")
    assert manifest.files["step.onnx"].graph == "step" and manifest.files["step.onnx"].precision == "fp32"
    assert {w.role for w in manifest.weights if w.trained} >= {"maskvat", "codec"}
    assert manifest.self_test and manifest.built_with and manifest.parity


def test_distilled_guidance_is_a_fact_of_the_weights(own_bundle: Path) -> None:
    path = own_bundle / "manifest.json"
    manifest = Manifest.load(own_bundle)
    assert manifest.distilled_guidance == 0 and "distilled_guidance" not in path.read_text()
    weights = tuple(replace(w, distilled_guidance=3.0 if w.role == "maskvat" else 0.0) for w in manifest.weights)
    replace(manifest, weights=weights).save(own_bundle)
    assert path.read_text().count("distilled_guidance") == 1
    assert Manifest.load(own_bundle).distilled_guidance == 3.0
    for wrong in (-1, 101, float("nan"), 10**400):
        rewrite_manifest(own_bundle, lambda m, wrong=wrong: m["weights"][0].update(distilled_guidance=wrong))
        refused(own_bundle, "allowed are 0 to 100")


def test_a_text_encoder_needs_its_tokeniser(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", FakeBundle(replace(small_config(), text_context=9)))
    refused(folder, "has no tokeniser", "it names none", REPAIR)
    (folder / "tokeniser.json").write_text("{}")
    rewrite_manifest(folder, lambda m: m["files"].update({"tokeniser.json": entry_of(folder / "tokeniser.json")}))
    rewrite_manifest(folder, lambda m: m.update(tokeniser="tokeniser.json"))
    assert Manifest.load(folder).tokeniser == "tokeniser.json"
    rewrite_manifest(folder, lambda m: m["files"].pop("text_encoder.onnx"))
    refused(folder, "lists no file for text_encoder")


# ---------------------------------------------------------------- files
def test_altered_file(own_bundle: Path) -> None:
    path = own_bundle / "step.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(own_bundle, str(path), "altered", REPAIR)


def test_truncated_file(own_bundle: Path) -> None:
    path = own_bundle / "codec_decoder.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    refused(own_bundle, str(path), "truncated", REPAIR)


def test_missing_file(own_bundle: Path) -> None:
    (own_bundle / "condition.onnx").unlink()
    refused(own_bundle, str(own_bundle / "condition.onnx"), "missing", REPAIR)


def test_missing_graph(own_bundle: Path) -> None:
    rewrite_manifest(own_bundle, lambda m: m["files"].pop("scav_audio.onnx"))
    refused(own_bundle, "manifest.json", "scav_audio", REPAIR)


def test_external_data_is_verified_too(own_bundle: Path) -> None:
    data = own_bundle / "step.weights"
    data.write_bytes(b"weights")
    rewrite_manifest(own_bundle, lambda m: m["files"].update({data.name: entry_of(data)}))
    assert Manifest.load(own_bundle).files[data.name].graph == ""
    data.write_bytes(b"WEIGHTS")
    refused(own_bundle, str(data), "altered", REPAIR)


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "folder link"])
def test_file_outside_the_bundle(own_bundle: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "step.onnx"
    target.write_bytes((own_bundle / "step.onnx").read_bytes())
    name = {"parent": "../outside/step.onnx", "absolute": str(target), "link": "linked.onnx"}.get(kind, "sub/step.onnx")
    if kind == "link":
        (own_bundle / name).symlink_to(target)
    if kind == "folder link":
        (own_bundle / "sub").symlink_to(outside)
    rewrite_manifest(own_bundle, lambda m: m["files"].update({name: m["files"].pop("step.onnx")}))
    refused(own_bundle, name, "outside", REPAIR)


def test_a_bundle_behind_a_link_is_fine(own_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(own_bundle)
    assert Manifest.load(link).name == "fake"


# ---------------------------------------------------------------- the manifest itself
def test_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere", "manifest.json", REPAIR)
    refused(tmp_path, "manifest.json is missing", REPAIR)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "{}", '{"contract_version": 1}', "\x00\xff"])
def test_garbage(own_bundle: Path, text: str) -> None:
    (own_bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    refused(own_bundle, str(own_bundle / "manifest.json"), REPAIR)


def set_config(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda m: m["config"].update({key: value})


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown key": lambda m: m.update(colour="red"),
    "unknown option": set_config("colour", "red"),
    "unknown design": set_config("design", "huge"),
    "no heads": set_config("n_heads", 0),
    "text for a number": set_config("hidden_size", "wide"),
    "a list for a number": set_config("n_blocks", [[]]),
    "a huge number": set_config("window_seconds", 2**63),
    "a negative number": set_config("frame_size", -1),
    "true for a number": set_config("frame_size", True),
    "precision is a number": lambda m: m["files"]["step.onnx"].update(precision=-1),
    "graph is a list": lambda m: m["files"]["step.onnx"].update(graph=[]),
    "parity is a list": lambda m: m.update(parity=[]),
    "trained is text": lambda m: m["weights"][0].update(trained="yes"),
    "no name": lambda m: m.pop("name"),
    "files is a list": lambda m: m.update(files=["step.onnx"]),
    "file without size": lambda m: m["files"]["step.onnx"].pop("bytes"),
    "no vocabulary": lambda m: m.pop("vocabulary"),
    "the vocabulary is not listed": lambda m: m.update(vocabulary="other.npz"),
    "the vocabulary is a graph": lambda m: m.update(vocabulary="step.onnx"),
    "a tokeniser that is not listed": lambda m: m.update(tokeniser="tokeniser.json"),
    "config is text": lambda m: m.update(config="hybrid"),
    "weights of unknown kind": lambda m: m.update(weights=[{"role": "codec"}]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_manifest(own_bundle: Path, what: str) -> None:
    rewrite_manifest(own_bundle, BROKEN[what])
    refused(own_bundle, str(own_bundle / "manifest.json"), REPAIR)


def test_newer_and_older_contract(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONTRACT_VERSION", 9)
    path = str(own_bundle / "manifest.json")
    older = refused(own_bundle, path, f"contract version {CONTRACT_VERSION}", "runs 9", REPAIR)
    rewrite_manifest(own_bundle, lambda m: m.update(contract_version=10, something_new=True))
    newer = refused(own_bundle, path, "contract version 10", "runs 9", "update this program", "pip install")
    assert REPAIR not in newer and "update" not in older
    rewrite_manifest(own_bundle, lambda m: m.update(contract_version="nine"))
    refused(own_bundle, path, "contract version nine", REPAIR)


def test_the_shipped_bundle_is_repaired_by_git() -> None:
    assert "git checkout -- engines/mini" in repair_hint(MINI)
    assert "git" not in repair_hint(MINI.parent)


# ---------------------------------------------------------------- writing
def test_write_atomically_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_same_bundle_same_manifest(tmp_path: Path) -> None:
    fake = FakeBundle(small_config("seq2seq"))
    first, second = (write_bundle(tmp_path / name, fake) / "manifest.json" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(first.read_text())["contract_version"] == CONTRACT_VERSION


def test_manifest_needs_no_backend() -> None:
    code = "import sys, engines.manifest, engines.selftest; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
