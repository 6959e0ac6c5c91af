"""benchmarks.latency with PyTorch: the baseline, counted operations, and pairs from export to result."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MakeVideo
from tests.support.fake_engines import NEEDS_ORT

pytest.importorskip("torch", reason="PyTorch is not installed")

import torch

from benchmarks.common import machine, random_system
from benchmarks.latency import __main__ as latency
from benchmarks.latency import op_profile, roofline, subjects, torch_baseline
from benchmarks.latency.encoder_flops import count_flops
from benchmarks.latency.step_flops import Product
from benchmarks.latency.torch_baseline import Mode, TorchSystem
from runtime import SamplingConfig
from runtime.decode import guide
from runtime.decode import sample as reference_sample

MACHINE = {"gflops": {"fp32": 1.0}, "bandwidth_gb_per_second": 1.0}
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


def test_sampling_is_that_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((2, 3, 50, 257))).astype(np.float32)
    u = rng.random((2, 3, 50), dtype=np.float32)
    u[0, 0, :2] = 0, np.float32(1 - 2**-24)
    tokens, logp = (x.numpy() for x in torch_baseline.sample(torch.from_numpy(logits), torch.from_numpy(u)))
    want, want_logp = reference_sample(logits, u)
    same = tokens == want
    assert same.mean() > 0.99 and tokens.min() >= 0 and tokens.max() < 257
    np.testing.assert_allclose(logp[same], want_logp[same], atol=1e-4)


def test_the_baseline_is_the_reference_on_the_same_network(system: Path, make_video: MakeVideo, monkeypatch) -> None:
    made = TorchSystem(system, Mode()).generate(make_video(), SamplingConfig(steps=3, seed=5))
    assert made.codes.min() >= 0 and made.codes.max() < 1024 and made.windows == 3  # 2.4 s in windows of 1 s
    assert len(made.audio) == round(2.4 * 44100) and np.abs(made.audio).max() <= 1
    assert {"video", "frame_encoder", "sync_encoder", "condition", "step", "host", "codec"} <= set(made.seconds)
    other = TorchSystem(system, Mode())

    def slow(codes: np.ndarray, condition: object) -> torch.Tensor:
        """Run the two rows with guidance in NumPy, and return the result in the layout of the fast path."""
        logits = other.model.logits(other.model.hidden(codes, condition)).numpy()
        guided = guide(logits[:1], logits[1:], SamplingConfig().guidance)
        return torch.from_numpy(np.concatenate([guided, guided]))  # guidance of equal rows changes nothing

    def exact(logits: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, logp = reference_sample(logits.numpy(), u.numpy())
        return torch.from_numpy(tokens), torch.from_numpy(logp)

    other.network = slow
    monkeypatch.setattr(torch_baseline, "sample", exact)
    again = other.generate(make_video(), SamplingConfig(steps=3, seed=5))
    assert (again.codes == made.codes).mean() > 0.99


def test_guidance_zero_has_one_row(system: Path, make_video: MakeVideo) -> None:
    made, rows = TorchSystem(system, Mode()), []
    network = made.network
    made.network = lambda codes, condition: rows.append(len(codes)) or network(codes, condition)
    made.generate(make_video(), SamplingConfig(steps=1, guidance=0))
    assert rows == [1, 1, 1]


def test_operations_of_a_component(system: Path) -> None:
    """The frame encoder needs twice the operations for twice the frames."""
    one, two = (
        count_flops(
            system, "frame_encoder", "forward", lambda n=n: torch.empty(n, 32, 32, 3, dtype=torch.uint8, device="meta")
        )
        for n in (1, 2)
    )
    assert two == 2 * one > 1e5


def test_random_systems_agree_with_their_components(monkeypatch, tmp_path: Path) -> None:
    """The configuration follows the components. A second call uses the existing folder."""
    monkeypatch.setitem(random_system.SIZES, "small", random_system.SIZES["tiny"])
    folder = subjects.cached_folder(tmp_path / "s", lambda part: random_system.write_random("small", part))
    from export.bundle import load_components
    from export.graphs import check_agreement

    components = load_components(folder)
    check_agreement(components)
    assert components["maskvat"].config.design == "hybrid"
    modulation = components["maskvat"].norm_modulation.weight.detach()
    assert float(modulation.std()) == pytest.approx(random_system.SPREAD, rel=0.1)
    assert subjects.cached_folder(folder, lambda part: pytest.fail("made again")) == folder
    assert subjects.cache_key("a") != subjects.cache_key("b")


def test_cached_bundles_depend_on_the_code_that_makes_them() -> None:
    names = {path.relative_to(machine.ROOT).as_posix() for path in subjects.source_files()}
    assert {"engines/contract.py", "export/int8.py", "export/step.py", "train/models/codec.py"} <= names
    assert {"benchmarks/common/random_system.py", "benchmarks/latency/subjects.py"} <= names


def test_a_folder_that_is_no_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main(["--system", f"x={tmp_path}", "--cache", str(tmp_path / "cache"), "--backend", "cpu"]) == 1
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1 and printed[0].startswith("error: the system") and "meta.json" in printed[0]


@pytest.mark.slow
@NEEDS_ORT
def test_pairs_in_the_command(
    system: Path, own_bundle: Path, make_video: MakeVideo, tmp_path: Path, monkeypatch, capsys
) -> None:
    """A fake bundle with two equal steps stands for the export. Checks the processes and the pairs."""
    values = json.loads((own_bundle / "manifest.json").read_text())
    (own_bundle / "step.int8.onnx").write_bytes((own_bundle / "step.onnx").read_bytes())
    values["files"]["step.int8.onnx"] = values["files"]["step.onnx"] | {"precision": "int8"}
    (own_bundle / "manifest.json").write_text(json.dumps(values))
    monkeypatch.setattr(latency, "cached_export", lambda *_: own_bundle)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("benchmarks.latency.roofline.machine_floor", lambda *_: MACHINE)
    monkeypatch.setattr(latency, "document", lambda _: "tables")
    command = ["--system", f"tiny={system}", "--backend", "cpu", "--clip", str(make_video(25)), "--steps", "2"]
    rest = ["--repeat", "2", "--baselines", "eager", "--pair-steps", "2"]
    assert latency.main([*command, *rest, "--cache", str(tmp_path / "c")]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    kinds = [(b["backend"], b["precision"], b["repeats"]) for b in values["baselines"]]
    assert kinds == [("cpu", "int8", 2), ("cpu", "fp32", 2), ("torch cpu eager", "fp32", 2)]
    assert {b["threads"] for b in values["baselines"]} == {machine.physical_cores()}  # whatever OMP_NUM_THREADS says
    assert [b["tokens_equal"] for b in values["baselines"][:2]] == [1, 1]
    assert [p["ours"]["precision"] for p in values["pairs"]] == ["int8", "fp32"]
    assert all(p["pairs"] == 2 and p["lowest"] <= p["ratio"] <= p["highest"] for p in values["pairs"])
    agreement = {p["precision"]: p.get("agreement") for p in values["results"]}
    assert agreement["fp32"] is None and agreement["int8"]["tokens_equal_given"] == 1
    assert {(f["device"], f["precision"]) for f in values["floors"]} == {("cpu", "int8"), ("cpu", "fp32")}


@NEEDS_ORT
@pytest.mark.slow
def test_pairs_of_a_system(
    system: Path, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Export a system and measure it with eager PyTorch: equal weights give equal tokens."""
    pytest.importorskip("onnxscript")
    command = [
        "--system",
        f"tiny={system}",
        "--backend",
        "cpu",
        "--clip",
        str(make_video()),
        "--steps",
        "2",
        "--repeat",
        "2",
    ]
    command += ["--baselines", "eager", "--pair-steps", "2", "--cache", str(tmp_path)]
    assert latency.main([*command, "--plots", str(tmp_path / "plots")]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(p["backend"], p["precision"]) for p in values["results"]] == [("cpu", "int8"), ("cpu", "fp32")]
    assert {(f["device"], f["precision"]) for f in values["floors"]} == {("cpu", "int8"), ("cpu", "fp32")}
    by_name = {(b["backend"], b["precision"]): b for b in values["baselines"]}
    assert set(by_name) == {("cpu", "int8"), ("cpu", "fp32"), ("torch cpu eager", "fp32")}
    assert by_name["cpu", "fp32"]["tokens_equal"] == 1 and by_name["torch cpu eager", "fp32"]["tokens_equal"] > 0.98
    for pair in values["pairs"]:
        assert pair["pairs"] == 2 and pair["lowest"] <= pair["ratio"] <= pair["highest"]
        assert pair["theirs"]["backend"] == "torch cpu eager"
    agreement = {p["precision"]: p.get("agreement") for p in values["results"]}
    assert agreement["fp32"] is None and 0.5 < agreement["int8"]["tokens_equal_given"] <= 1
    assert agreement["int8"]["trained"] is False
    assert all(0 < share for p in values["results"] for share in p["shares"].values())
    assert {p.name for p in (tmp_path / "plots").iterdir()} >= {"latency-pairs.png", "latency-stages.png"}


# ---------------------------------------------------------------- kernels, max-autotune, a card's rates
def test_a_worker_can_profile_a_sound() -> None:
    """Without a GPU the names are those of PyTorch's operators."""
    size = 64

    def make(request: dict) -> dict:
        return {"seconds": float((torch.ones(size, size) @ torch.ones(size, size)).sum())}

    answer = op_profile.with_kernels(make, {})
    assert answer["seconds"] == size**3
    rows = {row["operator"]: row for row in answer["kernels"]}
    assert rows["aten::mm"]["calls"] == 1 and sum(row["share"] for row in rows.values()) == pytest.approx(1)


def test_short_kernels_are_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_profile, "KERNELS", 2)
    rows = op_profile.by_kernel([("a", 3000.0), ("b", 1000.0), ("a", 3000.0), ("c", 500.0), ("d", 500.0)])
    assert [(r["operator"], r["milliseconds"], r["calls"]) for r in rows] == [
        ("a", 6.0, 2), ("b", 1.0, 1), ("2 others", 1.0, 2)
    ]  # fmt: skip
    assert op_profile.by_kernel([]) == []


def test_max_autotune_is_for_the_transformer(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str | None] = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic, mode: modes.append(mode) or function)
    TorchSystem(system, Mode(compiled=True, tuned=True))
    TorchSystem(system, Mode(compiled=True))
    assert modes == [None, None, None, "max-autotune", None, None, None, None]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cards_rates_are_measured() -> None:
    rates = {p: roofline.square_rate(p, card=True) for p in ("fp32", "fp16", "bf16")}
    assert rates["fp16"] > rates["fp32"] > 1000 and rates["bf16"] > rates["fp32"]  # GFLOP/s
    assert roofline.card_bandwidth() > 50
    small = Product("scores", 64, 32, 64, batch=2, weight=False)
    assert 0 < small.flops / roofline.card_seconds(small, "fp16") / 1e9 <= 1.2 * rates["fp16"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_max_autotune_with_cuda_graphs_gives_eager_tokens(system: Path, make_video: MakeVideo) -> None:
    sampling = SamplingConfig(steps=3)
    eager = TorchSystem(system, Mode(device="cuda")).generate(make_video(), sampling)
    tuned = TorchSystem(system, Mode(True, "cuda", sample_on_host=False, tuned=True))
    for _ in range(2):  # the second run replays
        assert (tuned.generate(make_video(), sampling).codes == eager.codes).mean() > 0.95


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_of_a_card_are_named() -> None:
    def make(request: dict) -> dict:
        return {"seconds": float((torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")).sum())}

    assert op_profile.with_kernels(make, {})["kernels"][0]["milliseconds"] > 0
