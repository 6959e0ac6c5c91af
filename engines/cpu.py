"""What this machine's processor is good at."""

import platform
from functools import cache
from itertools import takewhile
from pathlib import Path

INFO = Path("/proc/cpuinfo")  # Linux
# extensions that add four products of int8 to an int32 at once, as Linux spells them. With AVX-512's VNNI an int8 step
# takes 0.6 of a float32 step's time, with AVX2 alone 0.85 to 0.9 (docs/log.md, 2026-11-25); the others are not measured
FAST_INT8 = ("avx512_vnni", "avx_vnni", "asimddp", "i8mm")


def cpuinfo_field(*names: str) -> str:
    """What Linux says of the first processor under the first of these names that it knows; elsewhere nothing."""
    if not INFO.exists():
        return ""
    with INFO.open(encoding="utf-8") as lines:  # no further than the first processor: hundreds take long to read
        first = (line.partition(":") for line in takewhile(str.strip, lines))
        return next((value.strip() for name, _, value in first if name.strip() in names), "")


@cache
def extensions() -> frozenset[str]:
    """Extensions of the instruction set; empty where the system does not tell."""
    return frozenset(cpuinfo_field("flags", "Features").split())


def fast_int8() -> bool:
    """Whether int8 is worth its other tokens. Where the system does not tell: on 64-bit Arm alone."""
    known = extensions()
    return not known.isdisjoint(FAST_INT8) if known else platform.machine().lower() in ("arm64", "aarch64")
