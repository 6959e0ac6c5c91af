"""Adopted weights state their origin and licence; missing values are reported. Loaders are replaced by fakes."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from train import adopt
from train.checkpoint import read_meta
from train.models.clip_text import CLIPText, ClipTextConfig
from train.models.loading import WeightsError
from train.models.mobilenet import MobileNetV2, MobileNetV2Config

pytestmark = pytest.mark.torch


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of the loaders; each returns a tiny network."""
    asked: list[tuple[str, ...]] = []

    def load(*arguments: object) -> MobileNetV2:
        asked.append(tuple(map(str, arguments)))
        return MobileNetV2(MobileNetV2Config(width=0.1))

    text = CLIPText(ClipTextConfig(context=8, vocabulary=520, width=8, heads=1, layers=1))
    monkeypatch.setattr(adopt, "load_towers", lambda *given: (load(*given), text))
    monkeypatch.setattr(adopt.DAC, "load", load)
    monkeypatch.setattr(MobileNetV2, "load_imagenet", lambda self, path: asked.append((str(path),)))
    return asked


def adopted(system: Path, role: str, *arguments: str, kind: str = "") -> dict[str, object]:
    assert adopt.main([str(system), *arguments]) == 0
    entry = read_meta(system)["components"][role]
    assert entry["kind"] == (kind or arguments[0]) and entry["provenance"]["trained"] is True
    return entry["provenance"]


def test_openais_clip_is_mit(tmp_path: Path, loaded: list[tuple[str, ...]]) -> None:
    facts = adopted(tmp_path, "frame_encoder", "clip", "openai", "--model", "ViT-B-16-quickgelu")
    assert loaded == [("ViT-B-16-quickgelu", "openai")]
    assert facts["name"] == "CLIP ViT-B-16-quickgelu, tag openai" and "tag openai" in str(facts["origin"])
    assert facts["code_licence"] == "MIT (open_clip), weights MIT (OpenAI CLIP)"


def test_clip_brings_its_text_encoder_which_belongs_to_it(
    tmp_path: Path, loaded: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    text = adopted(tmp_path, "text_encoder", "clip", "openai", kind="clip_text")
    assert text == read_meta(tmp_path)["components"]["frame_encoder"]["provenance"]
    assert (tmp_path / "text_encoder.safetensors").exists()
    adopted(tmp_path, "codec", "dac", "w.pth")
    assert "text_encoder" in read_meta(tmp_path)["components"]
    adopted(tmp_path, "frame_encoder", "mobilenet_v2")
    assert "text_encoder" not in read_meta(tmp_path)["components"]
    assert not (tmp_path / "text_encoder.safetensors").exists()
    assert "it belonged to another frame encoder" in capsys.readouterr().out


def test_a_text_encoder_of_another_build_is_left_out(
    tmp_path: Path, loaded: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = adopt.load_towers("m", "openai")[0]
    monkeypatch.setattr(adopt, "load_towers", lambda *_: (picture, None))
    monkeypatch.setattr(adopt, "unsupported_text", lambda model: f"{model} is odd")
    adopted(tmp_path, "frame_encoder", "clip", "openai", "--model", "ViT-X")
    assert list(read_meta(tmp_path)["components"]) == ["frame_encoder"]
    assert "no text encoder: ViT-X is odd; bundles will know no words" in capsys.readouterr().err


def test_mobilenet_keeps_its_classifier_if_asked(tmp_path: Path, loaded: list[tuple[str, ...]]) -> None:
    facts = adopted(tmp_path, "frame_encoder", "mobilenet_v2", "--features", "classes")
    entry = read_meta(tmp_path)["components"]["frame_encoder"]
    assert entry["config"]["features"] == "classes" and "classifier" in str(facts["name"])
    with pytest.raises(SystemExit):
        adopt.main([str(tmp_path), "dac", "w.pth", "--features", "classes"])


@pytest.mark.parametrize("source", ["laion2b_s34b_b79k", "mine.pt", "openai"])
def test_other_clip_weights_need_a_licence(
    tmp_path: Path, loaded: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, source: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if source != "laion2b_s34b_b79k":
        Path(source).write_bytes(b"x")  # a file named openai is not OpenAI's tag
    assert adopt.main(["system", "clip", source]) == 1
    error = capsys.readouterr().err
    assert source in error and "--licence TEXT" in error and not loaded and not Path("system").exists()
    path = source if source.startswith("laion") else str(tmp_path / source)
    facts = adopted(Path("system"), "frame_encoder", "clip", path, "--licence", "CC-BY-4.0")
    assert facts["code_licence"] == "MIT (open_clip), weights CC-BY-4.0"
    assert source in str(facts["name"]) and source in str(facts["origin"])
    assert str(tmp_path) not in json.dumps(facts)  # names only, no path of this machine


def test_dac_and_mobilenet(tmp_path: Path, loaded: list[tuple[str, ...]]) -> None:
    assert adopted(tmp_path, "codec", "dac", "w.pth")["code_licence"] == "MIT (descript-audio-codec)"
    assert "BSD-3-Clause" in str(adopted(tmp_path, "frame_encoder", "mobilenet_v2")["code_licence"])
    assert loaded == [("w.pth",), ("None",)]
    with pytest.raises(SystemExit):
        adopt.main([str(tmp_path), "dac", "w.pth", "--licence", "MIT"])


@pytest.mark.parametrize("error", [WeightsError("it is broken"), ImportError("it is broken"), OSError("it is broken")])
def test_what_goes_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(adopt.DAC, "load", fail)
    assert adopt.main([str(tmp_path), "dac", "w.pth"]) == 1
    assert capsys.readouterr().err == "error: it is broken\n"
    assert adopt.main([str(tmp_path), "clip"]) == 1
    assert "needs FILE" in capsys.readouterr().err


def test_s3d_and_beats_from_official_files(tmp_path: Path) -> None:
    """Files in the official layouts become components that the rest of the system can load."""
    from tests.golden.make_golden import read
    from tests.golden.make_metrics_golden import torch_state
    from train.checkpoint import load

    facts = read("sparsesync")[0]
    torch.save({"model": torch_state(facts["shapes"]), "args": tmp_path}, tmp_path / "sync.pt")
    assert (
        adopted(tmp_path / "system", "sync_encoder", "s3d", str(tmp_path / "sync.pt"))["origin"]
        == "SparseSync, sync.pt"
    )
    facts = read("beats")[0]
    torch.save({"cfg": facts["cfg"], "model": torch_state(facts["shapes"])}, tmp_path / "beats.pt")
    adopted(tmp_path / "system", "audio_encoder", "beats", str(tmp_path / "beats.pt"))
    assert load(tmp_path / "system", "sync_encoder").dim == 512
    assert load(tmp_path / "system", "audio_encoder").config.layers == 2
