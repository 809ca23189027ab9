"""OpenCL devices that are not there: what a driver would say of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

GPU, CPU, ACCELERATOR = 4, 2, 8


class Refuses:
    """A property that the driver does not know."""

    def __init__(self, text: str = "clGetDeviceInfo failed: INVALID_VALUE") -> None:
        self.text = text

    def __get__(self, instance: Any, owner: Any) -> Any:
        raise RuntimeError(self.text)


def device(name: str = "Card", type: int = GPU, **more: Any) -> Any:
    """A device, as pyopencl shows it; its platform is set by `platform`."""
    known: dict[str, Any] = {
        "name": name + " ", "type": type, "vendor": "Maker",
        "version": "OpenCL 3.0 CUDA", "opencl_c_version": "OpenCL C 1.2 ",
        "driver_version": "555.42", "profile": "FULL_PROFILE", "available": 1,
        "compiler_available": 1, "max_compute_units": 8, "max_clock_frequency": 1980,
        "native_vector_width_float": 1, "preferred_work_group_size_multiple": 32,
        "max_work_group_size": 1024, "max_work_item_sizes": [1024, 1024, 64],
        "local_mem_size": 48 * 1024, "local_mem_type": 1, "max_constant_buffer_size": 65536,
        "global_mem_size": 3 * 2**30, "max_mem_alloc_size": 3 * 2**28,
        "global_mem_cache_size": 2**20, "global_mem_cacheline_size": 128,
        "mem_base_addr_align": 4096, "max_parameter_size": 4352, "address_bits": 64,
        "host_unified_memory": 0, "single_fp_config": 191, "double_fp_config": 63,
        "extensions": "cl_khr_fp64 cl_khr_byte_addressable_store",
    }  # fmt: skip
    known |= more
    return SimpleNamespace(**{key: value for key, value in known.items() if value is not None})


def platform(name: str, devices: Sequence[Any], fault: Exception | None = None) -> Any:
    """A platform with its devices, or with a driver that fails."""
    made = SimpleNamespace(name=name + " ", version="OpenCL 3.0")
    for item in devices:
        item.platform = made

    def get_devices() -> list[Any]:
        if fault is not None:
            raise fault
        return list(devices)

    made.get_devices = get_devices
    return made


def module(*platforms: Any) -> Any:
    """What stands for pyopencl; without platforms, its loader says that there are none."""

    def get_platforms() -> list[Any]:
        if not platforms:
            raise RuntimeError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR")
        return list(platforms)

    return SimpleNamespace(get_platforms=get_platforms)
