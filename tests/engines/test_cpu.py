"""Whether the processor is fast at int8, and which step file it therefore gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.common import machine
from engines import cpu
from engines.backends import cpu_precisions


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """processor(text, machine) fakes the machine: its /proc/cpuinfo, if any, and its architecture."""

    def make(text: str | None, kind: str = "x86_64") -> None:
        info = tmp_path / "cpuinfo"
        info.unlink(missing_ok=True)
        if text is not None:
            info.write_text(text)
        monkeypatch.setattr(cpu, "INFO", info)
        monkeypatch.setattr(cpu.platform, "machine", lambda: kind)
        cpu.extensions.cache_clear()

    yield make
    cpu.extensions.cache_clear()


X86 = "processor\t: 0\nmodel name\t: A Processor: Two\nflags\t\t: fpu sse avx2 {}\n\nprocessor\t: 1\nflags\t\t: fpu\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("text", "kind", "first"),
    [
        (X86.format("avx512f avx512_vnni"), "x86_64", "int8"),
        (X86.format("avx_vnni"), "x86_64", "int8"),
        (X86.format(""), "x86_64", "fp16"),
        (X86.format("avx512f"), "x86_64", "fp16"),
        (ARM.format("asimddp"), "aarch64", "int8"),
        (ARM.format(""), "aarch64", "fp16"),
        (None, "arm64", "int8"),  # macOS
        (None, "AMD64", "fp16"),  # Windows
    ],
)
def test_int8_is_preferred_where_it_is_fast(processor, text: str | None, kind: str, first: str) -> None:
    processor(text, kind)
    precisions = cpu_precisions()
    assert precisions[0] == first and sorted(precisions) == ["fp16", "fp32", "int8"]


@pytest.mark.parametrize(("fast", "first"), [(True, "int8"), (False, "fp16")])
def test_the_backend_asks_the_processor(fast: bool, first: str) -> None:
    """In a separate process, because the tests fix the preference."""
    code = f"from engines import cpu; cpu.fast_int8 = lambda: {fast}; from engines.backends import BACKENDS; "
    result = subprocess.run([sys.executable, "-c", code + "print(BACKENDS['cpu'].precisions[0])"], capture_output=True)
    assert result.stdout.decode().strip() == first


def test_benchmarks_name_the_processor_and_what_it_is_good_at(processor) -> None:
    processor(X86.format("avx512_vnni"))
    facts = machine.facts()
    assert (facts["cpu"], facts["extensions"]) == ("A Processor: Two", ["avx2", "avx512_vnni"])
    processor(None, "AMD64")
    assert machine.facts()["extensions"] == [] and machine.facts()["cpu"]
