"""Whether this machine's processor is fast at int8."""

import platform
from functools import cache
from itertools import takewhile
from pathlib import Path

INFO = Path("/proc/cpuinfo")  # Linux
# Extensions that add four int8 products to an int32 at once, as Linux spells them. An int8 step takes 0.6 of a float32
# step's time with AVX-512 VNNI, and 0.85 to 0.9 with AVX2 alone (docs/log.md, 2026-11-25). Others are not measured.
FAST_INT8 = ("avx512_vnni", "avx_vnni", "asimddp", "i8mm")


def cpuinfo_field(*names: str) -> str:
    """The first of these fields of /proc/cpuinfo, for the first processor; "" if there is none, or on other systems."""
    if not INFO.exists():
        return ""
    with INFO.open(encoding="utf-8") as lines:  # reads the first processor only: hundreds take long
        first = (line.partition(":") for line in takewhile(str.strip, lines))
        return next((value.strip() for name, _, value in first if name.strip() in names), "")


@cache
def extensions() -> frozenset[str]:
    """The processor's instruction set extensions; empty if the system does not say."""
    return frozenset(cpuinfo_field("flags", "Features").split())


def fast_int8() -> bool:
    """Whether int8 is fast enough to accept its different tokens. If the system does not say: only on 64-bit Arm."""
    known = extensions()
    return not known.isdisjoint(FAST_INT8) if known else platform.machine().lower() in ("arm64", "aarch64")
