"""The shipped bundle: complete, small enough, verified, and with every licence stated."""

from engines.contract import graphs
from engines.manifest import MINI, Manifest
from runtime.bundle import Bundle

FREE = ("Apache-2.0", "BSD-3-Clause", "MIT", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0")


def test_files_are_whole_and_small() -> None:
    manifest = Manifest.load(MINI)  # verifies every file
    sizes = [f.bytes for f in manifest.files.values()]
    assert sum(sizes) <= 60e6 and max(sizes) <= 30e6
    others = {name for name, f in manifest.files.items() if not f.graph}
    assert manifest.vocabulary == "vocabulary.npz" and others == {"vocabulary.npz", "step.weights"}
    assert {f.graph for f in manifest.files.values()} - {""} == set(graphs(manifest.config))
    assert {f.precision for f in manifest.files.values() if f.graph == "step"} == {"fp16", "int8"}


def test_parity_was_measured_and_is_within_the_limits() -> None:
    manifest = Manifest.load(MINI)
    step = manifest.parity["step"]["fp16"]
    assert step["tokens_equal"] >= 0.99 and step["max_abs"] <= 2e-2
    assert set(manifest.parity) == set(graphs(manifest.config))


def test_it_is_the_papers_codegram() -> None:
    config = Manifest.load(MINI).config
    assert (config.window_tokens, config.n_codebooks, config.codebook_size) == (862, 9, 1024)
    assert (config.sample_rate, config.hop_length, config.design) == (44100, 512, "adaln_b")


def test_every_weight_states_origin_and_free_licences() -> None:
    weights = Manifest.load(MINI).weights
    assert {w.role for w in weights} == {"maskvat", "codec", "frame_encoder", "sync_encoder", "audio_encoder", "scav"}
    for w in weights:
        assert w.origin and w.data_licence and any(name in w.licence for name in FREE), w
        assert not any(word in (w.licence + w.data_licence).upper() for word in ("-NC", "NON-COMMERCIAL")), w


def test_it_opens() -> None:
    bundle = Bundle(backend="cpu")
    assert bundle["step"].graph.name == "step" and not bundle.warnings
