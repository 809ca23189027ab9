"""What the generators must know of a processor: its vectors, registers, caches and cores.

Everything that chooses a tile, a vector width or a block size asks a `Target`, never the machine,
so that a test can generate (and run) the code of a narrower processor on this one.
"""

from __future__ import annotations

import functools
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path

import llvmlite.binding as llvm

from graphc.runtime.cpu.cores import thread_count

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
FULL_512 = ("avx512f", "avx512vl", "avx512bw", "avx512dq")
FULL_256 = ("avx2", "fma")
# What has no meaning without 512-bit registers, and without 256-bit ones.
NEEDS_512 = re.compile(r"avx512|avx10")
NEEDS_256 = re.compile(r"avx|fma|f16c|xop|vaes|vpclmulqdq")


@dataclass(frozen=True)
class Target:
    """A processor. `features` is LLVM's list ("+avx2,-sse4a"); `l1` and `l2` are bytes."""

    cpu: str
    features: str
    vector_bits: int
    registers: int
    l1: int
    l2: int
    cores: int

    def lanes(self, dtype_bits: int) -> int:
        """How many elements of so many bits one vector register holds."""
        return max(1, self.vector_bits // dtype_bits)

    def narrowed(self, bits: int) -> Target:
        """This processor without its wider vectors: for tests, which run the result.

        >>> host().narrowed(128).lanes(32)
        4
        """
        if bits not in (128, 256, 512):
            raise ValueError(f"narrowed: bits must be 128, 256 or 512, got {bits}")
        if bits >= self.vector_bits:
            return self
        dropped = NEEDS_512 if bits == 256 else NEEDS_256
        features = [
            f"-{name[1:]}" if dropped.match(name[1:]) else name for name in self.features.split(",")
        ]
        return replace(self, features=",".join(features), vector_bits=bits, registers=16)


@functools.cache
def host() -> Target:
    """The processor that this process runs on."""
    features = llvm.get_host_cpu_features()
    bits, registers = _vectors(features)
    l1, l2 = _cache_sizes()
    return Target(
        llvm.get_host_cpu_name(), features.flatten(), bits, registers, l1, l2, thread_count()
    )


def _vectors(features: dict[str, bool]) -> tuple[int, int]:
    """Bits of the vector registers, and how many there are."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return 128, 32  # NEON, AltiVec, RISC-V's smallest
    if all(features.get(name) for name in FULL_512):
        return 512, 32
    return (256, 16) if all(features.get(name) for name in FULL_256) else (128, 16)


def _cache_sizes(folder: Path = CACHES) -> tuple[int, int]:
    """Bytes of one core's first and second data cache; common sizes where the system is silent."""
    sizes = {1: 32 * 1024, 2: 512 * 1024}
    for index in folder.glob("index*"):
        try:
            level, kind, size = ((index / n).read_text().strip() for n in ("level", "type", "size"))
            if kind != "Instruction":
                sizes[int(level)] = _bytes(size)
        except (OSError, ValueError):
            continue
    return sizes[1], sizes[2]


def _bytes(size: str) -> int:
    """`48K`, `2M` or `512` as a number."""
    scale = {"K": 2**10, "M": 2**20}.get(size[-1:], 1)
    return int(size.rstrip("KM")) * scale
