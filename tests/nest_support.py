"""Runs kernels by generated code over NumPy arrays, one routine after the other."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.dims import Symbol, evaluate
from graphc.kernel import Buffer, Kernel
from graphc.runtime.cpu import generate, nest
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.linking import addresses
from graphc.runtime.cpu.routine import FIRST, NAME, Routine
from graphc.runtime.cpu.target import Target, host

Array = Any


class Compiled:
    """A kernel's routines, loaded."""

    def __init__(self, kernel: Kernel, target: Target | None = None) -> None:
        self.target = target or host()
        compile_kernel = generate.compile_kernel if kernel.ordered else nest.compile_kernel
        self.routines = compile_kernel(kernel, self.target)
        self.libraries: list[Library] = [
            compile_module(routine.code, self.target, symbols=addresses(routine, self.target))
            for routine in self.routines
        ]

    def run(
        self, arrays: Mapping[Buffer, Array], sizes: Mapping[Symbol, int], grains: Sequence[int]
    ) -> str | None:
        """Do the kernel, its units cut into chunks of these sizes in turn; the fault, if any."""
        held = dict(arrays)
        for routine, library in zip(self.routines, self.libraries, strict=True):
            for buffer in routine.buffers:
                if buffer not in held:
                    held[buffer] = empty(buffer, sizes)
            for needed in routine.needs:
                if 0 in [evaluate(n, sizes) for n in needed.extents]:
                    return needed.rule
            fault = _run(routine, library, held, sizes, grains)
            if fault is not None:
                return fault
        return None


def empty(buffer: Buffer, sizes: Mapping[Symbol, int]) -> Array:
    """An array of a buffer's type, full of what a byte of ones means."""
    shape = [evaluate(d, sizes) for d in buffer.type.shape or ()]
    count = int(np.prod(shape)) * buffer.type.dtype.itemsize
    return np.full(count, 1, np.uint8).view(buffer.type.dtype.numpy).reshape(shape)


def _run(
    routine: Routine, library: Library, arrays: Mapping[Buffer, Array],
    sizes: Mapping[Symbol, int], grains: Sequence[int],
) -> str | None:  # fmt: skip
    table = np.array([arrays[buffer].ctypes.data for buffer in routine.buffers][::-1], np.int64)
    fault = np.zeros(2, np.int64)
    count = evaluate(routine.count, sizes)
    assert evaluate(routine.work, sizes) >= 0
    last = len(routine.buffers) - 1
    words = [table.ctypes.data, fault.ctypes.data, 0, 0, 1]
    assert len(words) == FIRST
    words += [last - slot for slot in range(last + 1)]
    words += [evaluate(size, sizes) for size in routine.sizes]
    record = np.array(words, np.int64)
    function = library.function(NAME, None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    begin, turn = 0, 0
    while begin < count:
        end = min(count, begin + grains[turn % len(grains)])
        if routine.space is not None:
            share = evaluate(routine.space.bytes, sizes)
            space = np.zeros(share * (count + 1) + 64, np.uint8)
            record[2], record[3] = space.ctypes.data, share
        function(record.ctypes.data, begin, end)
        begin, turn = end, turn + 1
    if fault[0]:
        return routine.faults[fault[0] - 1].rule.format(fault[1], "n")
    return None
