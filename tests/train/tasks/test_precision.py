"""bfloat16 is used only where it is faster, and the run says which it used."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from train.tasks import precision
from train.tasks.precision import cpu_has_bfloat16, uses_bfloat16

pytestmark = pytest.mark.torch
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_f": True, "amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({"avx512_f": True, "avx512_vnni": True}, False),
        ({}, False),
    ],
)
def test_a_cpu_has_bfloat16_if_it_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu_has_bfloat16() is expected


def test_this_cpu_is_understood() -> None:
    flags = Path("/proc/cpuinfo")
    if torch.cpu.get_capabilities().get("architecture") != "x86_64" or not flags.exists():
        pytest.skip("compares with what Linux says of an x86 CPU")
    words = flags.read_text().split()
    assert cpu_has_bfloat16() == ("avx512_bf16" in words or "amx_bf16" in words)


def test_only_a_slow_cpu_loses_the_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    assert uses_bfloat16(True, CPU) and not uses_bfloat16(False, CPU)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    assert uses_bfloat16(True, CUDA) and not uses_bfloat16(False, CUDA) and not uses_bfloat16(False, CPU)
    assert capsys.readouterr().err == ""
    assert not uses_bfloat16(True, CPU)
    error = capsys.readouterr().err
    assert error.startswith("task.bfloat16 is not used: this CPU has no bfloat16") and error.count("\n") == 1
