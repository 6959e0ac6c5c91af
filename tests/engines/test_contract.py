"""The arithmetic of the contract: known sizes, length adapter, condition indices, interpolation, graphs."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines import contract
from engines.contract import DESIGNS, LENGTH_ADAPTERS, SIZES, Grid, ModelConfig
from engines.feeds import all_positions, conditional_only, positions, step_conditions, window_indices
from engines.length_adapter import adapter_index, condition_indices, interpolation_matrix
from tests.support.fake_engines import small_config

C = ModelConfig()


# ---------------------------------------------------------------- sizes
def test_the_papers_sizes() -> None:
    assert (C.sample_rate, C.hop_length, C.n_codebooks, C.codebook_size) == (44100, 512, 9, 1024)
    assert C.mask_token == 1024
    assert C.window_tokens == 862  # 10 s
    assert C.n_tokens(C.overlap_seconds * C.sample_rate) == 173  # 2 s
    assert (C.n_frames(862), C.n_sync(862), C.n_sync_frames(862)) == (80, 32, 256)
    assert replace(C, sync_stride=4).n_sync(862) == 63
    assert (C.sync_stride, C.frame_fps, C.sync_fps) == (8, 8, 25)


@pytest.mark.parametrize(("samples", "tokens"), [(1, 1), (512, 1), (513, 2), (441000, 862), (44100, 87)])
def test_tokens_cover_the_samples(samples: int, tokens: int) -> None:
    assert C.n_tokens(samples) == tokens


@given(st.integers(1, 2000))
def test_every_length_has_at_least_one_frame_of_each_kind(n_tokens: int) -> None:
    assert C.n_frames(n_tokens) >= 1
    assert C.n_sync(n_tokens) >= 1
    assert C.n_sync_frames(n_tokens) == C.n_sync(n_tokens) * C.sync_stride


def test_exact_division_leaves_no_rest() -> None:
    assert contract.exact_div(12, 4) == 3
    with pytest.raises(ValueError, match="13 is not a multiple of 4"):
        contract.exact_div(13, 4)


def test_named_sizes_are_valid_in_every_design() -> None:
    for size in SIZES.values():
        for design in DESIGNS:
            config = ModelConfig.from_dict(size | {"design": design})
            assert config.hidden_size % config.n_heads == 0


def test_config_round_trip_and_errors() -> None:
    assert ModelConfig.from_dict(C.to_dict()) == C
    with pytest.raises(ValueError, match="unknown configuration keys: depth"):
        ModelConfig.from_dict({"depth": 3})
    with pytest.raises(ValueError, match="unknown design 'big'; choose from adaln_a, adaln_b, seq2seq, hybrid"):
        ModelConfig.from_dict({"design": "big"})
    with pytest.raises(ValueError, match="unknown length adapter 'x'; choose from repeat, centre"):
        replace(C, length_adapter="x")
    with pytest.raises(ValueError, match="10 is not a multiple of 8"):
        replace(C, sync_context=10)
    old = C.to_dict()
    del old["sync_context"]  # as bundles before it have it
    assert ModelConfig.from_dict(old).sync_context == 0


# ---------------------------------------------------------------- length adapter
def closed_floor(n_in: int, n_out: int) -> np.ndarray:
    """The paper's out[i] = in[floor(i * N_in / N_out)]."""
    return np.array([i * n_in // n_out for i in range(n_out)])


@pytest.mark.parametrize("repeat", [1, 2, 7, 32])
@pytest.mark.parametrize("n_in", [1, 5, 80])
def test_repeat_is_the_papers_formula_where_the_counts_divide(n_in: int, repeat: int) -> None:
    source, target = Grid(1, 1, 0), Grid(repeat, 1, 0)  # the target has `repeat` elements for each of the source
    index = adapter_index(source, target, n_in, n_in * repeat, "repeat")
    assert np.array_equal(index, closed_floor(n_in, n_in * repeat))
    assert index.dtype == np.int32


def test_repeat_is_the_papers_formula_within_a_token_at_ten_seconds() -> None:
    """862 is not a multiple of 80. The rates decide, and differ from the plain index by one frame at borders."""
    index = adapter_index(C.frame_grid, C.token_grid, 80, 862, "repeat")
    paper = closed_floor(80, 862)
    assert np.abs(index - paper).max() <= 1
    assert (index != paper).mean() < 0.1
    shifted = [adapter_index(C.frame_grid, C.token_grid, 80, n, "repeat") for n in (862, 500)]
    assert np.array_equal(shifted[0][:500], shifted[1])  # does not depend on the clip's length


@given(
    st.builds(Grid, st.integers(1, 50), st.integers(1, 16), st.integers(0, 20)),
    st.builds(Grid, st.integers(1, 50000), st.integers(1, 600), st.integers(0, 300)),
    st.integers(1, 60),
    st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_centre_takes_the_nearest_feature(source: Grid, target: Grid, n_source: int, n_target: int) -> None:
    def time(grid: Grid, i: int) -> Fraction:
        return Fraction(grid.offset + grid.stride * i, grid.rate)

    index = adapter_index(source, target, n_source, n_target, "centre")
    for i, j in enumerate(index):
        distances = [abs(time(source, s) - time(target, i)) for s in range(n_source)]
        assert distances[j] == min(distances)


@pytest.mark.parametrize("mode", LENGTH_ADAPTERS)
def test_adapter_is_monotone_and_inside(mode: str) -> None:
    index = adapter_index(C.sync_grid, C.token_grid, 32, 862, mode)
    assert np.all(np.diff(index) >= 0)
    assert (index[0], index[-1]) == (0, 31)
    with pytest.raises(ValueError, match="unknown length adapter 'nearest'; choose from repeat, centre"):
        adapter_index(C.sync_grid, C.token_grid, 32, 862, "nearest")


# ---------------------------------------------------------------- condition indices
@given(st.integers(1, 900), st.sampled_from(LENGTH_ADAPTERS), st.sampled_from([4, 8]))
@settings(max_examples=40, deadline=None)
def test_adaln_b_gather_of_pairs_is_both_gathers(n_tokens: int, mode: str, stride: int) -> None:
    config = ModelConfig(design="adaln_b", length_adapter=mode, sync_stride=stride)
    n_frames, n_sync = config.n_frames(n_tokens), config.n_sync(n_tokens)
    index = condition_indices(config, n_tokens, n_frames, n_sync)
    frame, sync, pair = (index[k] for k in ("frame_features_index", "sync_features_index", "frame_index"))
    want_frame = adapter_index(config.frame_grid, config.token_grid, n_frames, n_tokens, mode)
    want_sync = adapter_index(config.sync_grid, config.token_grid, n_sync, n_tokens, mode)
    assert np.array_equal(frame[pair], want_frame)
    assert np.array_equal(sync[pair], want_sync)
    assert len({*zip(frame, sync, strict=True)}) == len(frame) <= n_frames + n_sync  # distinct, and few
    assert all(value.dtype == np.int32 for value in index.values())


@pytest.mark.parametrize("design", DESIGNS)
def test_each_design_gets_the_indices_that_its_graphs_name(design: str) -> None:
    config = small_config(design)
    graphs = contract.graphs(config)
    named = {s.name for g in ("condition", "step") for s in graphs[g].inputs if s.name.endswith("_index")}
    index = condition_indices(config, 173, 16, 7)
    assert set(index) == named
    if "memory_index" in index:
        want = adapter_index(config.sync_grid, config.frame_grid, 7, 16, config.length_adapter)
        assert np.array_equal(index["memory_index"], want)


# ---------------------------------------------------------------- interpolation
@given(st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_interpolation_is_linear_between_centres(n_out: int, n_in: int) -> None:
    matrix = interpolation_matrix(n_out, n_in)
    assert matrix.shape == (n_out, n_in) and matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    values = np.random.Generator(np.random.Philox(n_in)).standard_normal(n_in)
    centres_in, centres_out = (np.arange(n_in) + 0.5) / n_in, (np.arange(n_out) + 0.5) / n_out
    np.testing.assert_allclose(matrix @ values, np.interp(centres_out, centres_in, values), atol=1e-5)


# ---------------------------------------------------------------- graphs
EVERY = {"frame_encoder", "sync_encoder", "condition", "step", "codec_decoder", "codec_encoder"} | {
    "audio_encoder",
    "scav_video",
    "scav_audio",
}
CONDITIONS = {
    "adaln_a": {"modulation"},
    "adaln_b": {"modulation"},
    "seq2seq": {"keys", "values"},
    "hybrid": {"modulation", "keys", "values"},
}


@pytest.mark.parametrize("design", DESIGNS)
def test_step_takes_what_condition_gives(design: str) -> None:
    graphs = contract.graphs(ModelConfig(design=design))
    assert set(graphs) == EVERY
    given_out = {s.name: s for s in graphs["condition"].outputs}
    assert set(given_out) == CONDITIONS[design]
    taken = {s.name: s for s in graphs["step"].inputs}
    for name, spec in given_out.items():
        assert taken[name].dtype == spec.dtype
        assert taken[name].axes[1:] == spec.axes[1:]
        assert taken[name].axes[0] == (74 if name == "modulation" else "G")
    assert str(taken["codes"]) == "codes int32 [B, 9, T]"
    assert [str(s) for s in graphs["step"].outputs] == ["tokens int32 [B, 9, P]", "logp float32 [B, 9, P]"]


@pytest.mark.parametrize("design", DESIGNS)
def test_the_inputs_of_step_and_condition_for_a_window(design: str) -> None:
    """`condition` gets the indices that it takes; `step` gets its outputs, and frames of [NULL] in the last row."""
    config = ModelConfig(design=design)
    n_frames, n_sync = config.n_frames(173), config.n_sync(173)
    names = {"frame_features": n_frames} | ({"sync_features": n_sync} if config.uses_sync else {})
    features = {name: np.zeros((1, n, 512), np.float32) for name, n in names.items()}
    given: list[dict[str, np.ndarray]] = []

    def run_condition(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given.append(feeds)
        return {"keys": np.zeros(1)}

    feeds = step_conditions(config, 173, features, run_condition)
    plain = condition_indices(config, 173, n_frames, n_sync)
    assert set(given[0]) == {s.name for s in contract.graphs(config)["condition"].inputs}
    assert all(np.array_equal(given[0][name], index) for name, index in plain.items() if name != "frame_index")
    assert set(feeds) == {"keys"} | ({"frame_index"} & set(plain))
    if design != "seq2seq":
        rows = {"adaln_a": n_frames, "adaln_b": len(plain.get("frame_features_index", ())), "hybrid": n_sync}[design]
        assert feeds["frame_index"].dtype == np.int32 and feeds["frame_index"].shape == (2, 173)
        assert np.array_equal(feeds["frame_index"][0], plain["frame_index"])
        assert (feeds["frame_index"][1] == rows).all() and plain["frame_index"].max() < rows
        assert np.array_equal(feeds["frame_index"], window_indices(config, 173, n_frames, n_sync)["frame_index"])


def test_without_null_leaves_the_clip_alone() -> None:
    feeds = {name: np.zeros((2, 3)) for name in ("keys", "values", "frame_index", "modulation", "codes")}
    left = conditional_only(feeds)
    assert {name: len(value) for name, value in left.items()} == dict.fromkeys(feeds, 2) | dict.fromkeys(
        ("keys", "values", "frame_index"), 1
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 20), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_positions_are_the_masked_ones_first(seed: int, batch: int, n_tokens: int, share: float) -> None:
    masked = np.random.default_rng(seed).random((batch, 9, n_tokens)) < share
    index = positions(masked)
    assert index.dtype == np.int32
    assert index.shape == (batch, 9, max(1, masked.sum(axis=-1).max()))
    for row, chosen in zip(masked.reshape(-1, n_tokens), index.reshape(-1, index.shape[-1]), strict=True):
        assert np.array_equal(chosen[: row.sum()], np.flatnonzero(row))
        assert len(set(chosen)) == len(chosen)


def test_all_positions_are_every_frame_in_order() -> None:
    index = all_positions((2, 9, 5))
    assert index.dtype == np.int32 and index.shape == (2, 9, 5) and (index == np.arange(5)).all()


def test_cls_in_memory_adds_a_row() -> None:
    graphs = contract.graphs(ModelConfig(cls_in_memory=True))
    assert graphs["condition"].outputs[0].axes == (2, 12, 16, "M", 64)


def test_mask_ratio_falls_from_all_to_nothing() -> None:
    assert contract.mask_ratio(0) == 1
    assert contract.mask_ratio(0.5) == pytest.approx(0.5**0.5)
    assert contract.mask_ratio(1) == pytest.approx(0, abs=1e-12)
