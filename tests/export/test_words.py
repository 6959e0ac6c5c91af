"""The words of exported bundles, the text encoder's graph, class features, and the other side of guidance."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import nn

from engines.base import Feeds
from engines.contract import DESIGNS, Graph, ModelConfig, graphs
from engines.feeds import conditional_only, positions, replace_null, step_conditions
from engines.ort import OrtEngine
from engines.profiles import ranges
from engines.words import tokeniser
from engines.words.tokeniser import Tokeniser
from engines.words.vocabulary import FILE, NULL_WORD, Vocabulary
from export import ExportError
from export import bundle as builder
from export.graphs import check_agreement, graph_modules
from export.onnx_export import export_graph, save
from export.verify import LIMITS, Trial, axis_sizes, graph_parity, random_inputs, run_torch
from export.words import TEMPLATE, read_words
from tests.support.bpe import clip_merges
from tests.support.tiny_system import tiny_components, tiny_config, tiny_model, tiny_text_encoder
from train.synthetic.concepts.table import membership, read_table

pytestmark = pytest.mark.torch
TOKENS = 87  # one window


# ---------------------------------------------------------------- the other side of guidance
class Window:
    """A tiny network, its graphs in PyTorch, and random features of one window."""

    def __init__(self, design: str) -> None:
        self.config = tiny_config(design)
        self.model = tiny_model(self.config)
        self.graphs, self.modules = graphs(self.config), graph_modules({"maskvat": self.model})
        self.rng = np.random.default_rng(0)

    def features(self) -> Feeds:
        c = self.config
        made = {"frame_features": self.rng.standard_normal((1, c.n_frames(TOKENS), c.frame_dim)).astype(np.float32)}
        if c.uses_sync:
            made["sync_features"] = self.rng.standard_normal((1, c.n_sync(TOKENS), c.sync_dim)).astype(np.float32)
        return made

    def null(self) -> Feeds:
        """[NULL] on every frame, as a host would write it."""
        vectors = {"frame_features": self.model.null_frame, "sync_features": getattr(self.model, "null_sync", None)}
        return {
            name: np.ascontiguousarray(np.broadcast_to(vectors[name].detach().numpy(), value.shape))
            for name, value in self.features().items()
        }

    def conditions(self, features: Feeds) -> Feeds:
        def run(feeds: Feeds) -> Feeds:
            return run_torch(self.modules["condition"], self.graphs["condition"], feeds)

        return step_conditions(self.config, TOKENS, features, run)

    def step(self, conditions: Feeds, guidance: float) -> Feeds:
        c = self.config
        codes = np.random.default_rng(1).integers(0, c.codebook_size + 1, (2, c.n_codebooks, TOKENS)).astype(np.int32)
        index = positions(np.ones(codes.shape, bool))
        u = np.random.default_rng(2).random(index.shape, dtype=np.float32)
        feeds = {"codes": codes, "index": index, "u": u, "guidance": np.array(guidance, np.float32)}
        return run_torch(self.modules["step"], self.graphs["step"], feeds | conditions)


def agree(a: Feeds, b: Feeds) -> bool:
    same = a["tokens"] == b["tokens"]
    return bool(same.mean() > 0.999) and np.allclose(a["logp"][same], b["logp"][same], atol=1e-4)


@pytest.mark.parametrize("design", DESIGNS)
def test_the_null_vectors_are_the_plain_null_side(design: str) -> None:
    window = Window(design)
    plain = window.conditions(window.features())
    joined = replace_null(plain, window.conditions(window.null()))
    assert set(joined) == set(plain) and {k: v.dtype for k, v in joined.items()} == {
        k: v.dtype for k, v in plain.items()
    }
    if "modulation" in plain:
        null_row, rows = plain["modulation"][:, -1], joined["modulation"][:, joined["frame_index"][1]]
        assert np.allclose(rows, null_row[:, None], atol=1e-5)
    assert agree(window.step(joined, 3.0), window.step(plain, 3.0))


@pytest.mark.parametrize("design", DESIGNS)
def test_equal_sides_cancel_and_other_sides_do_not(design: str) -> None:
    window = Window(design)
    features = window.features()
    plain = window.conditions(features)
    unguided = window.step(conditional_only(plain), 0.0)
    assert agree(window.step(replace_null(plain, plain), 5.0), unguided)
    other = features | {"frame_features": window.features()["frame_features"]}
    guided = window.step(replace_null(plain, window.conditions(other)), 5.0)
    assert not agree(guided, unguided) and not agree(guided, window.step(plain, 5.0))


@pytest.mark.parametrize("design", DESIGNS)
def test_profiles_allow_the_longer_modulation(design: str) -> None:
    window = Window(design)
    plain = window.conditions(window.features())
    if "modulation" in plain:
        rows = replace_null(plain, plain)["modulation"].shape[1]
        allowed = ranges(window.config, window.graphs["step"])["F"]
        assert plain["modulation"].shape[1] < rows <= allowed[2]


# ---------------------------------------------------------------- graphs
def exported(module: nn.Module, name: str, config: ModelConfig, folder: Path) -> OrtEngine:
    graph = graphs(config)[name]
    save(export_graph(module, graph), folder / f"{name}.onnx")
    return OrtEngine(folder / f"{name}.onnx", graph, "cpu", threads=1)


class Moved:
    """An engine that runs a PyTorch module, and whose outputs are wrong by a constant."""

    def __init__(self, module: nn.Module, graph: Graph, by: float) -> None:
        self.module, self.graph, self.by = module, graph, np.float32(by)

    def run(self, feeds: Feeds) -> Feeds:
        return {name: value + self.by for name, value in run_torch(self.module, self.graph, feeds).items()}


def test_the_text_encoders_graph_is_the_network(tmp_path: Path) -> None:
    components = tiny_components()
    encoder = components["text_encoder"] = tiny_text_encoder(components["frame_encoder"].dim)
    check_agreement(components)
    config = builder.bundle_config(components)
    assert config.text_context == 12 and "text_encoder" not in graphs(components["maskvat"].config)
    engine = exported(graph_modules(components)["text_encoder"], "text_encoder", config, tmp_path)
    tokens = np.random.default_rng(0).integers(0, 600, (3, 12)).astype(np.int32)
    got = engine.run({"tokens": tokens})["embedding"]
    assert np.abs(got - encoder(torch.from_numpy(tokens)).numpy()).max() < 1e-5
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_only_tokens_before_the_end_count() -> None:
    encoder = tiny_text_encoder(8)
    tokens = torch.tensor([[598, 5, 6, 599, *[0] * 8], [598, 5, 6, 599, *[7] * 8], [598, 6, 5, 599, *[0] * 8]])
    a, b, c = encoder(tokens)
    assert torch.allclose(a, b, atol=1e-6) and not torch.allclose(a, c, atol=1e-3)


def test_class_features_are_roots_of_probabilities(tmp_path: Path) -> None:
    components = tiny_components("classes")
    check_agreement(components)
    encoder, config = components["frame_encoder"], builder.bundle_config(components)
    assert config.frame_dim == 1000
    engine = exported(graph_modules(components, fold=True)["frame_encoder"], "frame_encoder", config, tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    with torch.no_grad():
        pooled = nn.functional.normalize(encoder.pooled(torch.from_numpy(frames)), dim=-1)
        wanted = encoder.classifier[1](28 * pooled).softmax(dim=-1).sqrt().numpy()
    got = engine.run({"frames": frames})["features"]
    assert np.abs(got - wanted).max() < 1e-5 and np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_class_features_may_round_more() -> None:
    """The last layer is multiplied by 28, and so is what rounding does to it. Other features keep their limit."""
    trials = (Trial(1, TOKENS),)
    for features, within in (("classes", True), ("pooled", False)):
        components = tiny_components(features)
        config = builder.bundle_config(components)
        module = graph_modules(components)["frame_encoder"]
        graph = graphs(config)["frame_encoder"]
        frames = random_inputs(config, graph, axis_sizes(config, "frame_encoder", trials[0]))
        scale = float(run_torch(module, graph, frames)["features"].max())
        assert not graph_parity(module, Moved(module, graph, 0.0), config, trials, LIMITS["fp32"]).failures
        moved = Moved(module, graph, 0.02 * scale)
        assert (not graph_parity(module, moved, config, trials, LIMITS["fp16"]).failures) == within
        assert graph_parity(module, moved, config, trials, LIMITS["fp32"]).failures


# ---------------------------------------------------------------- files
def words(folder: Path, components: dict[str, nn.Module], **options: object) -> Vocabulary:
    made = builder.write_words(builder.Options(folder, folder, "fp32", **options), components, folder)
    assert set(made) == {FILE} | ({tokeniser.FILE} if "text_encoder" in components else set())
    return Vocabulary.load(folder / FILE, builder.bundle_config(components))


def test_class_features_know_the_concepts(tmp_path: Path) -> None:
    components, table = tiny_components("classes"), read_table()
    vocabulary = words(tmp_path, components)
    assert len(vocabulary.words) == len(table) > 100 and "big cat" in vocabulary.words
    spread = vocabulary.vector("cat") ** 2
    row = membership(table)[[c.name for c in table].index("cat")]
    assert np.allclose(spread, row / row.sum(), atol=1e-6)
    assert np.array_equal(vocabulary.vector(NULL_WORD), components["maskvat"].null_frame.detach().numpy())


def test_pooled_features_know_no_words(tmp_path: Path) -> None:
    assert words(tmp_path, tiny_components()).words == ()
    (tmp_path / "list.txt").write_text("dog\n")
    with pytest.raises(ExportError, match="needs a text encoder"):
        words(tmp_path, tiny_components(), words=tmp_path / "list.txt")


def test_a_text_encoder_knows_any_words(tmp_path: Path) -> None:
    merges = clip_merges()
    components = tiny_components()
    encoder = components["text_encoder"] = tiny_text_encoder(components["frame_encoder"].dim)
    (tmp_path / "list.txt").write_text("# sounds\ndog\n\na slamming door\n", encoding="utf-8")
    vocabulary = words(tmp_path, components, words=tmp_path / "list.txt")
    assert vocabulary.words == ("dog", "a slamming door")
    tokenise = Tokeniser.load(tmp_path / tokeniser.FILE, builder.bundle_config(components))
    assert tokenise.size == 600 and tokenise("dog").shape == (1, 12)
    wanted = encoder(torch.from_numpy(tokenise(TEMPLATE.format("dog"))))[0].numpy()
    assert np.abs(vocabulary.vector("dog") - wanted).max() < 1e-6
    table = json.loads((tmp_path / tokeniser.FILE).read_text(encoding="utf-8"))
    assert table["merges"] == [" ".join(pair) for pair in merges[:86]]
    assert "MIT" in table["licence"] and "CLIP" in table["origin"]
    assert len(words(tmp_path, components).words) == len(read_table())  # the concepts, if no file is given


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no words"),
        (b"# dog\n", "no words"),
        (b"dog\nDOG\n", "remove 'DOG' from .*: it is listed twice"),
        (b"[null]\n", r"remove '\[null\]' from .*: every vocabulary has \[NULL\]"),
        (b"\xff", "UTF-8"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ExportError, match=problem):
        read_words(tmp_path / "list.txt")
    with pytest.raises(ExportError):
        read_words(tmp_path / "missing.txt")
