"""Run the contraction driver on NumPy arrays, on one thread or with units spread over threads."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.runtime.cpu.contraction import matmul_sizes, plain_closure, size_array
from graphc.runtime.cpu.driver_library import contraction_library
from graphc.runtime.cpu.target import Target, host

POINTER, INTEGER = ctypes.c_void_p, ctypes.c_int64
STORE = ctypes.CFUNCTYPE(None, POINTER, POINTER, *[INTEGER] * 5)


class Compiled:
    """The functions of a driver."""

    def __init__(self, dtype: str = "float32", target: Target | None = None) -> None:
        library = contraction_library(dtype, target or host())
        self.compute = library.function(
            "contract", None, POINTER, POINTER, POINTER, INTEGER, INTEGER, POINTER, POINTER
        )
        self.tiles, self.workspace, self.parts = (
            library.function(name, INTEGER, POINTER) for name in ("tiles", "workspace", "parts")
        )
        self.plain = library.address("store_plain")

    def bind(self, values: Mapping[str, int], pointers: Sequence[int]) -> Bound:
        """With sizes, and the addresses of A, B and C."""
        return Bound(self, values, pointers)


class Bound:
    """One call, ready."""

    GUARD = 4096

    def __init__(
        self, compiled: Compiled, values: Mapping[str, int], pointers: Sequence[int]
    ) -> None:
        self.compiled, self.sizes = compiled, size_array(values)
        self.operands = np.array(pointers[:2], np.uint64)
        self.closure = plain_closure(values, pointers[2], self.sizes.ctypes.data)
        self.store, self.context = compiled.plain, self.closure.ctypes.data
        self.tiles = compiled.tiles(self.sizes.ctypes.data)
        self.parts = compiled.parts(self.sizes.ctypes.data)
        self.share = compiled.workspace(self.sizes.ctypes.data)

    def space(self, count: int = 1) -> Any:
        """Workspaces of just the size asked for, with a guard behind them."""
        length = count * self.share
        raw = np.full(length + 64 + self.GUARD, 0xA5, np.uint8)
        start = -raw.ctypes.data % 64
        found = raw[start : start + length + self.GUARD]
        found[:8] = 0
        return found

    def part(self, address: int, begin: int, end: int) -> None:
        """Compute some units."""
        self.compiled.compute(
            self.sizes.ctypes.data, self.operands.ctypes.data, address, begin, end,
            self.store, self.context,
        )  # fmt: skip

    def run(self, threads: int = 1, order: int = 1) -> None:
        """Compute all, in as many calls as there are threads, or parts of k; check the guards."""
        count = self.parts if self.parts > 1 else threads
        cuts = [self.tiles * i // count for i in range(count + 1)]
        space = self.space(count)
        calls = [
            functools.partial(self.part, space.ctypes.data + i * self.share, *cuts[i : i + 2])
            for i in range(count)
        ][::order]
        work = [
            threading.Thread(target=lambda i=i: [call() for call in calls[i::threads]])
            for i in range(threads)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert (space[-self.GUARD :] == 0xA5).all(), "written behind the workspace"


def strides(array: Any) -> tuple[int, ...]:
    """In elements."""
    return tuple(step // array.itemsize for step in array.strides)


def matmul_bound(compiled: Compiled, a: Any, b: Any, c: Any) -> Bound:
    """c = a @ b, ready to run, whatever the strides."""
    sizes = matmul_sizes(*a.shape, b.shape[1], strides(a), strides(b), strides(c))
    return compiled.bind(sizes, [x.ctypes.data for x in (a, b, c)])


def matmul(compiled: Compiled, a: Any, b: Any, c: Any, threads: int = 1) -> None:
    """c = a @ b."""
    matmul_bound(compiled, a, b, c).run(threads)
