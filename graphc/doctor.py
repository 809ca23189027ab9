"""`graphc doctor`: what this machine has of what graphc uses, a line each, and what to install."""

from __future__ import annotations

import ctypes
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
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host
from graphc.runtime.devices import opencl_devices, processor
from graphc.runtime.opencl.drivers import advice
from graphc.runtime.opencl.platforms import look

ANSWER = 42
PROGRAM = f"define i64 @answer() {{ ret i64 {ANSWER} }}"


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
    version = ".".join(map(str, llvm.llvm_version_info))
    return Finding("LLVM", True, f"llvmlite {llvmlite.__version__} (LLVM {version})", True)


def _native() -> Finding:
    """Whether this process may compile and run code: some systems forbid it."""
    try:
        target = host()
        answer = compile_module(PROGRAM, target).function("answer", ctypes.c_int64)
        if answer() != ANSWER:
            raise RuntimeError("it computes something else")
    except Exception as error:  # whatever LLVM or the system has against it
        return Finding("cpu", False, f'code cannot be run ({error}); device="reference" can', True)
    width, threads = target.vector_bits, target.cores
    text = f"{processor()} ({target.cpu}), vectors of {width} bits, threads: {threads}"
    return Finding("cpu", True, text, True)


def _opencl() -> Finding:
    listing = look()
    missing = advice(listing)
    if not listing.devices:
        return Finding("OpenCL", False, f"{listing.reason}; {missing}")
    listed = opencl_devices(listing)
    names = ", ".join(f"{d.name} {d.model}" if d.usable else str(d) for d in listed)
    usable = any(device.usable for device in listed)
    return Finding("OpenCL", usable, f"{names}; {missing}" if missing else names)


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
            return Finding("cache", True, f"{folder} can be written: compiled code is kept there")
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror})"
        return Finding("cache", False, f"{why}: every process compiles anew; set GRAPHC_CACHE")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _numpy, _llvm, _native, _opencl, _dot, _cache,
)  # fmt: skip


def examine() -> list[Finding]:
    """Run every check."""
    return [check() for check in CHECKS]
