"""`graphc doctor`: what this machine has of what graphc uses, a line each, and what to install."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from graphc.config import cache_folder
from graphc.draw.render import INSTALL
from graphc.runtime.devices import opencl_devices, processor

WIDTHS = (("avx512f", 512), ("avx", 256), ("sve", 128), ("neon", 128), ("sse2", 128))


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is there, and what to do if not.

    `needed`: without it graphc does not run; else something optional is missing.
    """

    what: str
    good: bool
    text: str
    needed: bool = False


def _python() -> Finding:
    version = platform.python_version()
    good = tuple(map(int, platform.python_version_tuple()[:2])) >= (3, 11)
    return Finding("Python", good, version if good else f"{version}: 3.11 is needed", True)


def _numpy() -> Finding:
    good = int(np.__version__.partition(".")[0]) >= 2
    return Finding(
        "NumPy", good, np.__version__ if good else f"{np.__version__}: 2.0 is needed", True
    )


def _llvm() -> Finding:
    features = llvm.get_host_cpu_features()
    width = next((bits for name, bits in WIDTHS if features.get(name)), 64)
    version = ".".join(map(str, llvm.llvm_version_info))
    text = (
        f"llvmlite {llvmlite.__version__} (LLVM {version}), {processor()}: "
        f"{llvm.get_host_cpu_name()}, vectors of {width} bits"
    )
    return Finding("LLVM", True, text)


def _opencl() -> Finding:
    found = opencl_devices()
    if isinstance(found, str):
        return Finding("OpenCL", False, f"{found}; everything runs on the CPU without it")
    names = ", ".join(device.name.strip() for device in found)
    return Finding("OpenCL", True, f"{len(found)} device{'s' * (len(found) > 1)}: {names}")


def _dot() -> Finding:
    program = shutil.which("dot")
    if program is None:
        return Finding("dot", False, INSTALL)
    return Finding("dot", True, f"{program}: .svg, .png and .pdf pictures work")


def _cache() -> Finding:
    folder = cache_folder()
    if folder is None:
        return Finding("cache", True, "switched off: every process compiles anew")
    try:
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        with tempfile.TemporaryFile(dir=existing):
            return Finding("cache", True, f"{folder} can be written")
    except OSError as error:
        return Finding("cache", False, f"{folder} cannot be written ({error.strerror})")


CHECKS: tuple[Callable[[], Finding], ...] = (_python, _numpy, _llvm, _opencl, _dot, _cache)


def examine() -> list[Finding]:
    """Run every check."""
    return [check() for check in CHECKS]
