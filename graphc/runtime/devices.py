"""Which devices there are, usable or not, and why. Listing opens none of them."""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_BUILT = "the OpenCL device is not built yet"
NO_DRIVER = "no OpenCL driver is installed (Debian: apt install pocl-opencl-icd)"


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device, as `Session(device=name)` would take it."""

    name: str
    model: str
    usable: bool
    reason: str  # why it is not usable, or how it runs

    def __str__(self) -> str:
        usable = "usable" if self.usable else "not usable"
        return f"{self.name}: {self.model} ({usable}: {self.reason})"


def processor() -> str:
    """The model of the CPU, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def opencl_module() -> Any:
    """pyopencl, or the reason (a string) why there is none.

    It is loaded here and not at the top: loading it starts the system's OpenCL loader, which looks
    for drivers, and `import graphc` must stay quick and touch none.
    """
    try:
        return importlib.import_module("pyopencl")
    except Exception as error:  # a broken loader raises whatever it likes
        return f"pyopencl cannot be loaded: {error}"


def opencl_devices() -> list[Any] | str:
    """The devices of all platforms, or the reason why there are none."""
    module = opencl_module()
    if isinstance(module, str):
        return module
    try:
        found = [device for platform in module.get_platforms() for device in platform.get_devices()]
    except module.Error:
        return NO_DRIVER
    return found or NO_DRIVER


def _described(device: Any) -> str:
    kinds = {2: "CPU", 4: "GPU", 8: "accelerator"}
    kind = next((name for bit, name in kinds.items() if device.type & bit), "device")
    return (
        f"{device.name.strip()}, {kind} on {device.platform.name.strip()}, "
        f"{device.max_compute_units} units at {device.max_clock_frequency} MHz, "
        f"{device.global_mem_size / 2**30:.1f} GiB"
    )


def devices() -> list[DeviceInfo]:
    """Every device of this machine, whether a `Session` can use it, and why not.

    >>> devices()[0].name, devices()[0].usable
    ('reference', True)
    """
    listed = [
        DeviceInfo("reference", processor(), True, "NumPy, node by node"),
        DeviceInfo("interp", processor(), True, "kernels, interpreted in NumPy: slow, for tests"),
        DeviceInfo("cpu", processor(), True, "native code, through LLVM"),
    ]
    found = opencl_devices()
    if isinstance(found, str):
        return [*listed, DeviceInfo("opencl", "none", False, found)]
    return listed + [
        DeviceInfo(f"opencl:{i}", _described(device), False, NOT_BUILT)
        for i, device in enumerate(found)
    ]
