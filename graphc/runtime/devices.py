"""Which devices there are, usable or not, and why. Listing opens none of them."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from graphc.errors import DeviceError
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.platforms import Listing, choose, look
from graphc.runtime.opencl.selftest import remembered

PLAIN = {
    "reference": "NumPy, node by node",
    "interp": "kernels, interpreted in NumPy: slow, for tests",
    "cpu": "native code, through LLVM",
}
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device, as `Session(device=name)` would take it."""

    name: str
    model: str
    usable: bool
    reason: str  # why it is not usable, or how it runs
    capabilities: Capabilities | None = None  # of an OpenCL device: what its driver reports

    def __str__(self) -> str:
        usable = "usable" if self.usable else "not usable"
        return f"{self.name}: {self.model} ({usable}: {self.reason})"

    def details(self) -> list[str]:
        """What is known beyond the name, a line each: limits, then versions."""
        known = self.capabilities
        if known is None:
            return []
        floats = ["fp64" if known.fp64 else "no fp64", "fp16" if known.fp16 else "no fp16"]
        memory = (
            ("local", known.local_memory),
            ("constant", known.constant_memory),
            ("global", known.global_memory),
            ("one buffer", known.allocation_limit),
        )
        clock = f"{known.clock} MHz" if known.clock else "clock unknown"
        return [
            f"{known.type}, {clock}, {known.compute_units} compute units, work-groups up to "
            f"{known.work_group} items, {', '.join(floats)}",
            "memory: " + ", ".join(f"{what} {size_text(size)}" for what, size in memory),
            f"{known.platform}: {known.version}, {known.language}, driver {known.driver_version}",
        ]


def size_text(size: int) -> str:
    """Bytes, as people read them.

    >>> size_text(65536), size_text(7610773504)
    ('64 KiB', '7.1 GiB')
    """
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{round(value, 1):g} {UNITS[unit]}"


def processor() -> str:
    """The model of the CPU, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def opencl_devices(listing: Listing) -> list[DeviceInfo]:
    """The devices that drivers offer, and a line for each driver that offers none."""
    listed = [
        DeviceInfo(found.name, found.capabilities.name, *_usable(found.capabilities),
                   found.capabilities)
        for found in listing.devices
    ]  # fmt: skip
    if not listed:
        return [DeviceInfo("opencl", "none", False, listing.reason)]
    return listed + [DeviceInfo("opencl", "none", False, fault) for fault in listing.faults]


def _usable(known: Capabilities) -> tuple[bool, str]:
    """Whether a session takes this device, and why not or how."""
    refusal = known.refusal()
    if refusal:
        return False, refusal
    wrong = remembered(known)
    if wrong:
        return False, wrong
    tested = "its first use tests it" if wrong is None else "it passed its test"
    return True, f"kernels in OpenCL C; {tested}"


def described(name: str) -> str:
    """A device's name with its model; DeviceError where there is none of that name.

    >>> described("cpu").startswith("cpu (")
    True
    """
    if name.partition(":")[0] == "opencl":
        found = choose(name)
        return f"{found.name} ({found.capabilities.name}, {found.capabilities.platform})"
    if name not in PLAIN:
        raise DeviceError(f"there is no device {name!r}; there are {', '.join(PLAIN)} and opencl")
    return f"{name} ({processor()})"


def devices() -> list[DeviceInfo]:
    """Every device of this machine, whether a `Session` can use it, and why not.

    >>> devices()[0].name, devices()[0].usable
    ('reference', True)
    """
    plain = [DeviceInfo(name, processor(), True, how) for name, how in PLAIN.items()]
    return [*plain, *opencl_devices(look())]
