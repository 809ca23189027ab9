"""What the generators may use of an OpenCL device: its limits, its floats, its memories.

In goes a device as its driver describes it; out comes a `Capabilities`, a plain value. Everything
that chooses a tile, a work-group size or an extension reads that and never asks the driver, so that
a test can generate code for a device that is not there. Making one opens and allocates nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from graphc.dtypes import DType
from graphc.errors import DeviceError

# Bits that the specification fixes (CL_DEVICE_TYPE_*, CL_FP_*, CL_LOCAL).
TYPES = {2: "cpu", 4: "gpu", 8: "accelerator", 16: "custom"}
DENORMAL, INFINITE, FUSED, EXACT_DIVISION = 1 << 0, 1 << 1, 1 << 5, 1 << 7
OWN_LOCAL_MEMORY = 1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A device. Sizes of memory are bytes, sizes of work-groups are items.

    `driver` tells apart whatever compiles or runs code differently: caches on disk are kept by it.
    """

    name: str
    type: str  # "cpu", "gpu", "accelerator" or "custom"
    platform: str
    version: str  # "OpenCL 3.0 ...", as the device reports it
    language: str  # "OpenCL C 1.2 ..."
    driver: str
    clock: int  # MHz; 0 where the driver does not say
    compute_units: int
    vector_width: int  # float32 elements of one vector instruction
    group_multiple: int  # work-groups are best multiples of this (a warp, a wave)
    work_group: int  # items of a work-group at most, all axes together
    work_items: tuple[int, ...]  # the same, along each axis
    local_memory: int
    local_is_fast: bool  # memory of its own, not a part of the global one (CPUs)
    constant_memory: int
    global_memory: int
    allocation_limit: int  # of one buffer
    cache: int  # of the global memory
    cache_line: int
    alignment: int  # of sub-buffers
    parameters: int  # bytes of a kernel's arguments, together
    address_bits: int
    unified: bool  # device and host share their memory: mapping is free
    fp16: bool
    fp64: bool
    denormals: bool  # of float32
    infinities: bool  # infinities and NaN of float32
    fused: bool  # float32 `fma` is one instruction
    exact_division: bool  # float32 divisions and roots can be correctly rounded
    extensions: frozenset[str]
    compiles: bool = True  # there is a compiler for kernels from text
    embedded: bool = False  # the smaller profile
    driver_version: str = ""

    def has(self, extension: str) -> bool:
        """Whether the device has an extension."""
        return extension in self.extensions

    def lanes(self, bits: int) -> int:
        """Elements of so many bits in one vector instruction."""
        return max(1, self.vector_width * 32 // bits)

    def demand(self, dtype: DType) -> None:
        """A `DeviceError` where the device cannot compute in a dtype: it is never replaced."""
        if dtype.name == "float64" and not self.fp64:
            raise DeviceError(
                f"{self.name} has no float64 (cl_khr_fp64), and graphc does not replace it by "
                'float32: cast to float32, or use device="cpu"'
            )

    def demand_allocation(self, size: int, what: str) -> None:
        """A `DeviceError` with both numbers where one buffer would be too large."""
        if size > self.allocation_limit:
            raise DeviceError(
                f"{what} needs {size} bytes in one buffer, and {self.name} allows "
                f"{self.allocation_limit}"
            )

    def demand_group(self, shape: tuple[int, ...], local: int, what: str) -> None:
        """A `DeviceError` with both numbers where a work-group has too many items or bytes."""
        items = 1
        for axis, extent in enumerate(shape):
            items *= extent
            allowed = self.work_items[axis] if axis < len(self.work_items) else 1
            if extent > allowed:
                raise DeviceError(
                    f"{what} needs {extent} items along axis {axis} of a work-group, and "
                    f"{self.name} allows {allowed}"
                )
        if items > self.work_group:
            raise DeviceError(
                f"{what} needs work-groups of {items} items, and {self.name} allows "
                f"{self.work_group}"
            )
        if local > self.local_memory:
            raise DeviceError(
                f"{what} needs {local} bytes of local memory, and {self.name} has "
                f"{self.local_memory}"
            )

    def without(self, **changed: Any) -> Capabilities:
        """The same device with less, for tests: `without(fp64=False, local_memory=16384)`."""
        return replace(self, **changed)

    def refusal(self) -> str | None:
        """Why no session can use this device, as far as its description tells."""
        if not self.compiles:
            return "its driver compiles no kernels from text"
        if self.embedded:
            return "it has the embedded profile, whose arithmetic is not IEEE 754's"
        if not self.infinities:
            return "it has no infinities and NaN"
        if language(self.language) < (1, 2):
            return f"it speaks {self.language.strip()}, and OpenCL C 1.2 is needed"
        return None


def language(text: str) -> tuple[int, int]:
    """The version in a text of the specification's form.

    >>> language("OpenCL C 1.2 PoCL")
    (1, 2)
    """
    number = next((word for word in text.split() if word[:1].isdigit()), "0.0")
    major, _, minor = number.partition(".")
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def capabilities(device: Any) -> Capabilities:
    """What a device (pyopencl's) reports; what it does not answer counts as the least."""
    single = _ask(device, "single_fp_config", 0)
    extensions = frozenset(str(_ask(device, "extensions", "")).split())
    platform = device.platform
    return Capabilities(
        name=_text(device, "name"),
        type=device_type(_ask(device, "type", 0)),
        platform=_text(platform, "name"),
        version=_text(device, "version"),
        language=_text(device, "opencl_c_version"),
        driver=_driver(device),
        clock=_ask(device, "max_clock_frequency", 0),
        compute_units=max(1, _ask(device, "max_compute_units", 1)),
        vector_width=max(1, _ask(device, "native_vector_width_float", 1)),
        group_multiple=_group_multiple(device),
        work_group=max(1, _ask(device, "max_work_group_size", 1)),
        work_items=tuple(_ask(device, "max_work_item_sizes", (1, 1, 1))),
        local_memory=_ask(device, "local_mem_size", 0),
        local_is_fast=_ask(device, "local_mem_type", 0) == OWN_LOCAL_MEMORY,
        constant_memory=_ask(device, "max_constant_buffer_size", 0),
        global_memory=_ask(device, "global_mem_size", 0),
        allocation_limit=_ask(device, "max_mem_alloc_size", 0),
        cache=_ask(device, "global_mem_cache_size", 0),
        cache_line=_ask(device, "global_mem_cacheline_size", 0) or 64,
        alignment=max(1, _ask(device, "mem_base_addr_align", 1024) // 8),
        parameters=_ask(device, "max_parameter_size", 1024),
        address_bits=_ask(device, "address_bits", 64),
        unified=bool(_ask(device, "host_unified_memory", False)),
        fp16="cl_khr_fp16" in extensions,
        fp64="cl_khr_fp64" in extensions or bool(_ask(device, "double_fp_config", 0)),
        denormals=bool(single & DENORMAL),
        infinities=bool(single & INFINITE),
        fused=bool(single & FUSED),
        exact_division=bool(single & EXACT_DIVISION),
        extensions=extensions,
        compiles=bool(_ask(device, "available", True) and _ask(device, "compiler_available", True)),
        embedded=_text(device, "profile") == "EMBEDDED_PROFILE",
        driver_version=_text(device, "driver_version"),
    )


def device_type(bits: int) -> str:
    """A device's type in a word.

    >>> device_type(4)
    'gpu'
    """
    return next((name for bit, name in TYPES.items() if bits & bit), "custom")


def _driver(device: Any) -> str:
    parts = (
        (device.platform, ("name", "version")),
        (device, ("name", "vendor", "version", "driver_version")),
    )
    return "; ".join(_text(thing, name) for thing, names in parts for name in names)


def _group_multiple(device: Any) -> int:
    for name in ("preferred_work_group_size_multiple", "warp_size_nv", "wavefront_width_amd"):
        value = _ask(device, name, 0)
        if value:
            return int(value)
    return 1


def _text(thing: Any, name: str) -> str:
    return str(_ask(thing, name, "")).strip("\0 \n")


def _ask(thing: Any, name: str, default: Any) -> Any:
    """One property; drivers refuse what they do not know, each with an error of its own."""
    try:
        value = getattr(thing, name)
    except Exception:
        return default
    return default if value is None else value
