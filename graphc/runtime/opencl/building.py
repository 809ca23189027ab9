"""From routines to functions on a device: built once for a text, several at a time, cached on disk.

Enters: routines. Leaves: `Function`s, each a program and a name in it, of which any number of
kernels with arguments of their own can be made. Equal texts are one function. Starting a compiler
costs more than a kernel does (PoCL 3.1: 90 ms and 1; Intel 2026.2: 25 and 20), and these two do one
after the other anyway: the texts of a plan are one program, and many are a few, built in threads.

The binary of each program is kept on disk by device, driver and source, and a key for each of its
texts says where it is. Drivers that keep what they compile themselves are left to that: PoCL
compiles code for a work-group when it first runs, so its binaries would hold it half done.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from graphc import config, lazy
from graphc.errors import CompileError
from graphc.runtime.cache import DiskCache, content_key
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.drivers import hush
from graphc.runtime.opencl.routine import Routine

opencl = lazy.Module("pyopencl")
OWN_CACHE = ("Portable Computing Language",)
EXTENSIONS = ("cl_khr_fp64", "cl_khr_int64_base_atomics")
TEXTS = 16  # of a program, at most
LEVEL = 4  # of GRAPHC_DEBUG, from which on code is printed
FORMAT = "graphc opencl 1"


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function on the device."""

    program: Any
    name: str

    def kernel(self) -> Any:
        """A kernel object, with arguments of its own."""
        return opencl.Kernel(self.program, self.name)


class Builder:
    """Builds for one context; it keeps what it has built."""

    def __init__(self, context: Any, device: Any, capabilities: Capabilities) -> None:
        self._context, self._device, self._capabilities = context, device, capabilities
        self._functions: dict[str, Function] = {}
        self._lock = threading.Lock()
        self._options = options(capabilities)
        self.built = 0  # programs that a compiler has made

    def functions(self, routines: Sequence[Routine]) -> list[Function]:
        """The function of each routine; those that are new are built."""
        keys = [self._key(routine) for routine in routines]
        with self._lock:
            new = {k: r for k, r in zip(keys, routines, strict=True) if k not in self._functions}
            self._load(new)
            left = [(k, r) for k, r in new.items() if k not in self._functions]
            if left:
                self._build(left)
            return [self._functions[key] for key in keys]

    def _key(self, routine: Routine) -> str:
        return content_key(
            FORMAT, self._capabilities.driver, *self._options, preamble(self._capabilities),
            *routine.helpers, repr(routine.group), routine.code,
        )  # fmt: skip

    # ------------------------------------------------------------------ from disk

    def _disk(self) -> DiskCache | None:
        folder = config.cache_folder()
        if folder is None or self._capabilities.platform in OWN_CACHE:
            return None
        return DiskCache(folder)

    def _load(self, wanted: dict[str, Routine]) -> None:
        """Take what earlier processes have built."""
        disk = self._disk()
        programs: dict[str, Any] = {}
        for key in wanted if disk is not None else ():
            assert disk is not None
            where = disk.get(key)
            if where is None:
                continue
            group = where.decode()
            if group not in programs:
                programs[group] = self._from_binary(disk.get(group))
            if programs[group] is not None:
                self._functions[key] = Function(programs[group], _name(key))

    def _from_binary(self, binary: bytes | None) -> Any:
        """A program of a binary; None where the driver does not take it."""
        if binary is None:
            return None
        try:
            hush()
            return opencl.Program(self._context, [self._device], [binary]).build()
        except opencl.Error:
            return None

    def _keep(self, program: Any, keys: Sequence[str]) -> None:
        disk = self._disk()
        if disk is None:
            return
        group = content_key("program", *keys)
        disk.put(group, bytes(program.get_info(opencl.program_info.BINARIES)[0]))
        for key in keys:
            disk.put(key, group.encode())

    # ------------------------------------------------------------------ from text

    def _build(self, texts: Sequence[tuple[str, Routine]]) -> None:
        """Build new texts, in programs that are long enough to be worth a start each."""
        count = -(-len(texts) // TEXTS)
        parts = [texts[i::count] for i in range(count)]
        if count == 1:
            programs = [self._built(parts[0])]
        else:
            with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
                programs = list(pool.map(self._built, parts))
        for part, program in zip(parts, programs, strict=True):
            keys = [key for key, _ in part]
            self._functions.update({key: Function(program, _name(key)) for key in keys})
            self._keep(program, keys)
            self.built += 1

    def _built(self, texts: Sequence[tuple[str, Routine]]) -> Any:
        source = source_of(texts, self._capabilities)
        dump(source, texts[0][0])
        try:
            program = opencl.Program(self._context, source)
            hush()
            return program.build(options=list(self._options), cache_dir=False)
        except opencl.Error as error:
            names = ", ".join(routine.kernel.name for _, routine in texts[:3])
            raise CompileError(
                f"the driver of {self._capabilities.name} does not build {names}: {error}\n"
                'set GRAPHC_DUMP=folder for the source; device="cpu" runs the same program'
            ) from error


def dump(source: str, key: str) -> None:
    """Write or print generated code, where the user asked for it."""
    if config.debug() >= LEVEL:
        print(source, file=sys.stderr)
    folder = config.dump_folder()
    if folder is None:
        return
    with suppress(OSError):  # a program must not fail for its own dumps
        (folder / "code").mkdir(parents=True, exist_ok=True)
        (folder / "code" / f"{_name(key)}.cl").write_text(source, encoding="utf-8")


def options(capabilities: Capabilities) -> tuple[str, ...]:
    """The options of a build: IEEE 754 as far as the device has it."""
    found = ["-cl-std=CL1.2", "-w"]  # warnings are of no use to those who wrote no C
    if capabilities.exact_division:
        found.append("-cl-fp32-correctly-rounded-divide-sqrt")
    return tuple(found)


def preamble(capabilities: Capabilities) -> str:
    """What a source begins with. Products and sums are fused where the code says so, only."""
    lines = ["#pragma OPENCL FP_CONTRACT OFF"]
    used = [name for name in EXTENSIONS if capabilities.has(name)]
    lines += [f"#pragma OPENCL EXTENSION {name} : enable" for name in used]
    return "\n".join(lines) + "\n"


def source_of(texts: Sequence[tuple[str, Routine]], capabilities: Capabilities) -> str:
    """One source of several routines."""
    helpers = dict.fromkeys(helper for _, routine in texts for helper in routine.helpers)
    functions = []
    for key, routine in texts:
        group = ", ".join(str(n) for n in (*routine.group, 1, 1)[:3])
        attribute = f"__attribute__((reqd_work_group_size({group})))"
        functions.append(f"{attribute}\nkernel void {_name(key)}{routine.code}")
    return preamble(capabilities) + "".join(helpers) + "\n".join(functions)


def _name(key: str) -> str:
    return f"graphc_{key[:24]}"
