"""Which OpenCL devices there are, and which one a name means.

In goes a name such as "opencl:1", "opencl:gpu" or "opencl:nvidia"; out comes a `Found`: the
driver's handle with its `Capabilities`. Looking opens and allocates nothing: no context, no queue.
Devices are numbered over all platforms, in the order of the system's loader.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.errors import DeviceError
from graphc.runtime.opencl.capabilities import TYPES, Capabilities, capabilities

PREFERRED = ("gpu", "accelerator", "cpu", "custom")  # by "opencl" alone
NO_DRIVER = "no OpenCL driver is found"


@dataclass(frozen=True, slots=True)
class Found:
    """A device that some driver offers; `handle` is pyopencl's."""

    index: int
    handle: Any
    capabilities: Capabilities

    @property
    def name(self) -> str:
        """As `Session(device=name)` takes it."""
        return f"opencl:{self.index}"

    def __str__(self) -> str:
        known = self.capabilities
        return f'"{self.name}" ({known.name}, {known.type}, {known.platform})'


@dataclass(frozen=True, slots=True)
class Listing:
    """What the drivers of this machine offer, and what they said where they offer nothing."""

    devices: tuple[Found, ...]
    faults: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why there is no device."""
        return "; ".join(self.faults) or NO_DRIVER


def pyopencl() -> Any:
    """pyopencl, or the reason (a string) why there is none.

    It is loaded here and not at the top: loading it starts the system's OpenCL loader, which looks
    for drivers, and `import graphc` must stay quick and touch none.
    """
    try:
        return importlib.import_module("pyopencl")
    except Exception as error:  # a broken loader raises whatever it likes
        return f"pyopencl cannot be loaded ({error}): pip install pyopencl"


def look(load: Callable[[], Any] = pyopencl) -> Listing:
    """All devices of all platforms. A driver that fails hides none of the others."""
    module = load()
    if isinstance(module, str):
        return Listing((), (module,))
    try:
        platforms = module.get_platforms()
    except Exception:  # so the loader says that it knows no driver
        return Listing(())
    found: list[Found] = []
    faults = []
    for platform in platforms:
        try:
            handles = list(platform.get_devices())
            found += [Found(len(found) + i, h, capabilities(h)) for i, h in enumerate(handles)]
        except Exception as error:  # drivers fail in ways of their own
            faults.append(f"{_name(platform)} offers no device ({error})")
            continue
        if not handles:
            faults.append(f"{_name(platform)} offers no device")
    return Listing(tuple(found), tuple(faults))


def _name(platform: Any) -> str:
    try:
        return str(platform.name).strip()
    except Exception:
        return "a platform without a name"


def choose(name: str, listing: Listing | None = None) -> Found:
    """The device that a name means; a `DeviceError` where there is none, or it is not usable.

    "opencl" is the first usable device, a GPU before others; "opencl:1" is number 1; "opencl:cpu"
    is the first usable one of a type; any other word is the first whose name, or whose platform's,
    contains it.
    """
    kind, _, word = name.partition(":")
    if kind != "opencl":
        raise DeviceError(f'"{name}" is no OpenCL device; these start with "opencl"')
    listing = look() if listing is None else listing
    if not listing.devices:
        raise DeviceError(
            f'device="{name}": {listing.reason}; `graphc doctor` says what to install'
        )
    fitting = _fitting(word.strip(), listing.devices)
    if not fitting:
        there = ", ".join(map(str, listing.devices))
        raise DeviceError(f'there is no OpenCL device "{word.strip()}"; there is {there}')
    usable = [found for found in fitting if found.capabilities.refusal() is None]
    if not usable:
        first = fitting[0]
        raise DeviceError(f"{first} cannot be used: {first.capabilities.refusal()}")
    return usable[0]


def _fitting(word: str, devices: Sequence[Found]) -> list[Found]:
    """What a word means, the most wanted first."""
    if not word:
        return sorted(devices, key=lambda found: PREFERRED.index(found.capabilities.type))
    if word.isdecimal():
        return [found for found in devices if found.index == int(word)]
    low = word.lower()
    if low in TYPES.values():
        return [found for found in devices if found.capabilities.type == low]
    return [
        found
        for found in devices
        if low in found.capabilities.name.lower() or low in found.capabilities.platform.lower()
    ]
