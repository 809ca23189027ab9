"""Compile a contraction and run it on NumPy arrays, on one thread or on tile ranges."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from graphc.runtime.cpu.contraction import Contraction, matmul_sizes
from graphc.runtime.cpu.driver import emit
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import Target, host

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64


class Compiled:
    """The three functions of a contraction."""

    def __init__(self, contraction: Contraction, target: Target | None = None) -> None:
        self.contraction, target = contraction, target or host()
        module = ir.Module()
        emit(contraction, module, target)
        library = compile_module(module, target)
        name = contraction.name
        self.compute = library.function(name, None, POINTER, POINTER, POINTER, INTEGER, INTEGER)
        self.tiles = library.function(f"{name}_tiles", INTEGER, POINTER)
        self.workspace = library.function(f"{name}_workspace", INTEGER, POINTER)

    def bind(self, values: Mapping[str, int], pointers: Sequence[int]) -> Bound:
        """With sizes and buffers."""
        return Bound(self, self.contraction.sizes(values), np.array(pointers, np.uint64))


class Bound:
    """One call, ready."""

    GUARD = 4096

    def __init__(self, compiled: Compiled, sizes: Any, pointers: Any) -> None:
        self.compiled, self.sizes, self.pointers = compiled, sizes, pointers
        self.tiles = compiled.tiles(sizes.ctypes.data)

    def space(self) -> Any:
        """A workspace of just the size asked for, with a guard behind it."""
        length = self.compiled.workspace(self.sizes.ctypes.data)
        raw = np.full(length + 64 + self.GUARD, 0xA5, np.uint8)
        start = -raw.ctypes.data % 64
        return raw[start : start + length + self.GUARD]

    def part(self, space: Any, begin: int, end: int) -> None:
        """Compute some tiles."""
        self.compiled.compute(
            self.sizes.ctypes.data, self.pointers.ctypes.data, space.ctypes.data, begin, end
        )

    def run(self, threads: int = 1) -> None:
        """Compute all, in as many parts as there are threads; check the guards."""
        cuts = [self.tiles * i // threads for i in range(threads + 1)]
        spaces = [self.space() for _ in range(threads)]
        work = [
            threading.Thread(target=self.part, args=(spaces[i], cuts[i], cuts[i + 1]))
            for i in range(threads)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        for space in spaces:
            assert (space[-self.GUARD :] == 0xA5).all(), "written behind the workspace"


def strides(array: Any) -> tuple[int, ...]:
    """In elements."""
    return tuple(step // array.itemsize for step in array.strides)


def matmul(compiled: Compiled, a: Any, b: Any, c: Any, *more: Any, threads: int = 1) -> None:
    """c = a @ b, whatever the strides."""
    sizes = matmul_sizes(*a.shape, b.shape[1], strides(a), strides(b), strides(c))
    compiled.bind(sizes, [x.ctypes.data for x in (a, b, c, *more)]).run(threads)
