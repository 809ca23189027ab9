"""Devices by name."""

from __future__ import annotations

from graphc import lazy
from graphc.errors import DeviceError
from graphc.runtime.device import Device
from graphc.runtime.interp.device import InterpDevice
from graphc.runtime.reference.device import ReferenceDevice

cpu = lazy.Module("graphc.runtime.cpu.device")  # with llvmlite
opencl = lazy.Module("graphc.runtime.opencl.device")  # with pyopencl


def open_device(name: str, threads: int | None = None) -> Device:
    """The device of a name; `threads` is the most that it may use."""
    if name == "cpu":
        device: Device = cpu.CpuDevice(threads)
        return device
    if name == "reference":
        return ReferenceDevice()
    if name == "interp":
        return InterpDevice()
    kind = str(name).partition(":")[0]
    if kind == "opencl":
        opened: Device = opencl.open_opencl(str(name))
        return opened
    raise DeviceError(
        f'there is no device {name!r}; there are "cpu", "opencl", "interp" and "reference"'
    )
