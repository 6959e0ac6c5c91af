"""Figures of benchmarks.latency: products counted by hand, floors, shares, profiles, and comparison of results."""

import json
from pathlib import Path

import pytest

from benchmarks.latency import __main__ as latency
from benchmarks.latency.compare import compare, comparison_document
from benchmarks.latency.roofline import Row, bandwidth, measure, rate, step_seconds, video_floor, weights_seconds
from benchmarks.latency.step_flops import (
    Product,
    block_products,
    condition_products,
    masked_shares,
    step_products,
    total,
)
from benchmarks.latency.tables import markdown
from benchmarks.latency.utilisation import stage_shares
from engines.contract import ModelConfig


# ---------------------------------------------------------------- what a step needs
def test_products_of_a_step_counted_by_hand() -> None:
    config = ModelConfig(design="seq2seq", hidden_size=4, n_heads=2, n_blocks=3, codec_latent=4, clip_fps=1, sync_fps=1,
                         n_codebooks=2, codebook_size=8, sample_rate=512, window_seconds=10)  # fmt: skip
    assert config.n_clip(10) == 10
    one = 2 * 10  # multiply and add, 10 tokens
    attention = 2 * one * 4 * 10  # scores and values: over heads, their widths add up to 4
    block = one * 4 * (4 + 8 + 4) + attention + one * (4 * 16 + 16 * 4) + one * 4 * (4 + 4) + attention
    assert total(step_products(config, 10, rows=1, masked=0.5)) == 3 * block + one / 2 * 4 * 16
    two = total(step_products(config, 10, rows=2))
    assert two == 2 * 3 * block + one * 4 * 16  # guidance comes before the head


@pytest.mark.torch
@pytest.mark.parametrize("design", ["adaln_a", "adaln_b", "seq2seq", "hybrid"])
def test_products_are_those_that_pytorch_counts(design: str) -> None:
    pytest.importorskip("torch")
    from train.models.flops import forward_flops

    config = ModelConfig(design=design, hidden_size=32, n_heads=2, n_blocks=2, codec_latent=48)  # type: ignore[arg-type]
    tokens = 100
    counted = total(step_products(config, tokens, 1)) + total(condition_products(config, tokens, 1))
    assert counted == forward_flops(config, tokens)


def test_all_frames_of_null_share_one_row_of_the_modulation() -> None:
    config = ModelConfig(design="hybrid", hidden_size=8, n_heads=2, n_blocks=3)
    one, two = (
        sum(p.flops for p in condition_products(config, 100, rows) if "modulation" in p.name) for rows in (1, 2)
    )
    assert two - one == 2 * 8 * (3 * 6 * 8 + 2 * 8)


def test_masked_shares_follow_the_schedule() -> None:
    shares = masked_shares(4, 1000)
    assert shares[0] == 1 and shares == sorted(shares, reverse=True) and len(shares) == 4
    assert shares[2] == pytest.approx(0.707, abs=1e-3)  # cos(pi / 4)
    assert masked_shares(8, 3) == [1, 2 / 3, 1 / 3]  # one at least is revealed every step


def row(name: str, count: int, gflops: float) -> Row:
    return {"name": name, "m": 1000, "k": 1000, "n": 500, "batch": 1, "count": count, "gflops": gflops}  # 1 GFLOP each


def test_floor_and_shares() -> None:
    rows = [row("q, out", 4, 10.0), row("head", 1, 5.0)]
    assert step_seconds(rows) == pytest.approx(0.4 + 0.2) and step_seconds(rows, 0.5) == pytest.approx(0.4 + 0.1)
    assert rate(rows) == pytest.approx(5 / 0.6)
    config = ModelConfig(n_codebooks=1)
    floor = video_floor(rows, config, 2)
    share = masked_shares(2, config.window_tokens)[1]
    assert floor["seconds"] == pytest.approx(0.6 + 0.4 + 0.2 * share)
    point = {"stages": {"step": 2.0, "codec": 0.5, "video": 1.0}, "windows": 3, "steps": 2, "backend": "cpu"}
    shares = stage_shares(point, config, rows, {"codec": 2.0, "sync_encoder": 1.0}, peak=40.0)
    assert shares == pytest.approx({"step": floor["seconds"] * 3 / 2, "codec": 2.0 * 3 / 40 / 0.5})


def test_weights_are_read_once() -> None:
    rows = [row("q, out", 4, 10.0) | {"weight": True, "precision": "int8"},
            row("head", 1, 5.0) | {"weight": True, "precision": "fp32"},
            row("self-attention scores", 9, 5.0) | {"weight": False, "precision": "fp32"}]  # fmt: skip
    assert weights_seconds(rows, 2.0) == pytest.approx((4 + 4) * 1000 * 500 / 2e9)


def test_products_count_in_the_stage_that_computes_them() -> None:
    """MaskVAT computes `blocks` once, in `condition`; PyTorch computes it in every step."""
    config, gflop = ModelConfig(n_codebooks=1), {"condition": 5.0, "blocks": 4.0}
    point = {"stages": {"step": 2.0, "condition": 0.5}, "windows": 1, "steps": 8}
    rows = [row("q, out", 1, 10.0)]
    ours = stage_shares(point | {"backend": "cpu"}, config, rows, gflop, peak=100.0)
    theirs = stage_shares(point | {"backend": "torch cpu eager"}, config, rows, gflop, peak=100.0)
    assert ours == pytest.approx({"step": 0.8 / 2, "condition": 0.05 / 0.5})
    assert theirs == pytest.approx({"step": (0.8 + 8 * 0.04) / 2, "condition": 0.01 / 0.5})
    assert stage_shares(point | {"backend": "torch cuda eager"}, config, rows, gflop, None) == pytest.approx(
        {"step": 0.4}
    )


@pytest.mark.torch
@pytest.mark.parametrize("design", ["adaln_b", "hybrid"])
def test_pytorch_computes_the_blocks_products_in_its_step(design: str) -> None:
    """Count the operations of both calls of the baseline network."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from engines.length_adapter import condition_indices
    from train.models.maskvat import MaskVAT

    config = ModelConfig(design=design, hidden_size=32, n_heads=2, n_blocks=2, codec_latent=48)  # type: ignore[arg-type]
    n, s = config.n_clip(100), config.n_sync(100)
    with torch.device("meta"), torch.no_grad():
        lengths = {k: len(v) for k, v in condition_indices(config, 100, n, s).items()}
        gathers = {k: torch.empty(length, dtype=torch.long) for k, length in lengths.items()}
        model, codes = MaskVAT(config), torch.empty(1, config.n_codebooks, 100, dtype=torch.long)
        with FlopCounterMode(display=False) as once:
            condition = model.condition(torch.empty(1, n, config.clip_dim), torch.empty(1, s, config.sync_dim), gathers)
        with FlopCounterMode(display=False) as step:
            model.logits(model.hidden(codes, condition))
    blocks = total(block_products(config, 100, 1))
    assert once.get_total_flops() == total(condition_products(config, 100, 1)) - blocks
    assert step.get_total_flops() == total(step_products(config, 100, 1)) + blocks


def test_rates_are_measured_in_the_precision_of_each_product() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    products = [Product("mlp in", 8, 16, 32, count=2), Product("self-attention scores", 8, 4, 8, batch=2, weight=False)]
    found = measure(products, "int8")
    assert [r["precision"] for r in found] == ["int8", "fp32"] and all(r["gflops"] > 0 for r in found)
    assert found[0]["library"] == "onnxruntime"
    assert bandwidth(2, 2**16) > 0


# ---------------------------------------------------------------- two results
def result(*points: dict) -> dict:
    facts = {"cpu": "one", "cores": 2, "system": "s", "python": "3", "packages": {}}
    return {"benchmark": "latency", "machine": facts, "date": "2026-01-01", "results": list(points), "baselines": []}


def made_point(seconds: float, **changes: object) -> dict:
    what = {"size": "mini", "backend": "cpu", "precision": "fp32", "steps": 8, "candidates": 1, "clip_seconds": 10}
    return what | {"seconds": seconds, "p95": seconds, "peak_mb": 100.0} | changes


def test_compare_flags_changes_over_ten_per_cent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = result(made_point(2.0), made_point(4.0, steps=16), made_point(1.0, steps=4))
    after = result(made_point(2.1), made_point(3.0, steps=16, peak_mb=112.0), made_point(9.0, steps=64))
    found = compare(before, after)
    assert [p["ratios"]["seconds"] for p in found["points"]] == pytest.approx([1.05, 0.75])
    assert [p["changed"] for p in found["points"]] == [[], ["seconds", "p95", "peak_mb"]]
    assert (len(found["only_before"]), len(found["only_after"])) == (1, 1) and found["same_machine"]
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, values in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(values))
    assert latency.main(["--compare", *map(str, paths)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed.splitlines()[-1]) == found and "seconds, p95, peak_mb" in printed


@pytest.mark.parametrize("text", ['{"benchmark": "sync"}', "no JSON", "[1]", '{"benchmark": "latency", "results": []}',
    '{"benchmark": "latency", "results": [], "machine": 3}', '{"benchmark": "latency", "results": [3], "machine": {}}',
    '{"benchmark": "latency", "results": [], "baselines": [{}], "machine": {}}'])  # fmt: skip
def test_compare_refuses_other_files(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert latency.main(["--compare", str(path), str(path)]) == 1
    printed = capsys.readouterr()
    assert (
        printed.out == ""
        and printed.err.startswith(f"error: {path} cannot be compared")
        and printed.err.count("\n") == 1
    )


def test_compare_warns_of_other_work() -> None:
    def side(revision: str | None, threads: int, digest: str) -> dict:
        bundles = {n: {"manifest_sha256": digest, "trained": n != "other"} for n in ("mini", "other")}
        return result(made_point(1.0)) | {"revision": revision, "settings": {"threads": threads}, "bundles": bundles}

    same = compare(side("a", 2, "x"), side("b", 2, "x"))
    assert same["revisions"] == ["a", "b"] and same["settings"] == same["bundles"] == {}
    assert "a, then b" in comparison_document(same) and "WARNING" not in comparison_document(same)
    other = compare(side(None, 1, "x"), side("b", 2, "y"))
    assert other["settings"] == {"threads": [1, 2]} and list(other["bundles"]) == ["mini"]  # no point of the other
    printed = comparison_document(other)
    assert printed.count("WARNING") == 2 and "not recorded, then b" in printed and "threads: 1, then 2" in printed
    assert "clip" in compare(side("a", 2, "x"), side("a", 2, "x") | {"settings": {"clip": "c"}})["settings"]


def test_markdown() -> None:
    assert markdown(["a", "b"], [["x", "1.0"], ["y", "-"]]) == "| a | b |\n| --- | --: |\n| x | 1.0 |\n| y | - |"


def test_a_profile_leaves_out_the_first_run() -> None:
    from benchmarks.latency.op_profile import by_operator

    def event(name: str, microseconds: int) -> dict:
        return {"cat": "Node", "name": f"{name}_1_kernel_time", "dur": microseconds, "args": {"op_name": name}}

    run = [event("MatMul", 3000), event("Add", 1000), event("MatMul", 4000)]
    other = [{"cat": "Session", "name": "model_run", "dur": 9}]
    found = by_operator([event("MatMul", 9000), event("Add", 9000), event("MatMul", 9000), *other, *run, *run], 2)
    assert found == [
        {"operator": "MatMul", "milliseconds": 7.0, "share": 7 / 8, "calls": 2},
        {"operator": "Add", "milliseconds": 1.0, "share": 1 / 8, "calls": 1},
    ]
