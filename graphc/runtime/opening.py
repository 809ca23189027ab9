"""Devices by name."""

from __future__ import annotations

from graphc.errors import DeviceError
from graphc.runtime.device import Device
from graphc.runtime.interp.device import InterpDevice
from graphc.runtime.reference.device import ReferenceDevice


def open_device(name: str) -> Device:
    """The device of a name. Until the native compiler exists, "cpu" is NumPy on the CPU."""
    if name in ("cpu", "reference"):
        return ReferenceDevice()
    if name == "interp":
        return InterpDevice()
    kind = str(name).partition(":")[0]
    if kind == "opencl":
        raise DeviceError('the device "opencl" is not part of this version; use device="cpu"')
    raise DeviceError(f'there is no device {name!r}; there are "cpu", "interp" and "reference"')
