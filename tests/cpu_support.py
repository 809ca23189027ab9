"""A generator whose routines call the interpreter: programs without any generated kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.dims import Dim, Symbol, evaluate
from graphc.errors import ShapeError
from graphc.graph import Graph, Tensor
from graphc.kernel import Buffer, Kernel
from graphc.lower import lower
from graphc.passes import optimise
from graphc.plan import Plan
from graphc.runtime.cpu.program import CpuProgram
from graphc.runtime.cpu.routine import FAULT, FIRST, TABLE, Routine
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.threads import BODY
from graphc.runtime.faults import Fault
from graphc.runtime.interp.evaluate import run_kernel
from graphc.runtime.sizes import symbols_of

CODE = """
declare void @interpret(ptr, i64, i64)
define void @routine(ptr %record, i64 %begin, i64 %end) {
  call void @interpret(ptr %record, i64 %begin, i64 %end)
  ret void
}
"""
WORD = ctypes.sizeof(ctypes.c_int64)


def graph_of(*outputs: Tensor, inputs: tuple[Tensor, ...]) -> Graph:
    """The optimised graph of some outputs."""
    return optimise(Graph(outputs, (), inputs))


def array_at(address: int, buffer: Buffer, sizes: Mapping[Symbol, int]) -> Any:
    """A buffer's memory as an array."""
    shape = [evaluate(d, sizes) for d in buffer.type.shape or ()]
    count = buffer.type.dtype.itemsize * int(np.prod(shape))
    memory = (ctypes.c_char * count).from_address(address)
    return np.ndarray(shape, buffer.type.dtype.numpy, memory)


def interpreted(kernel: Kernel, _: Target) -> list[Routine]:
    """A routine of one unit that interprets the kernel; any error is its one fault."""
    writes = dict.fromkeys(store.buffer for store in kernel.stores)
    buffers = tuple(dict.fromkeys([*kernel.reads(), *writes]))
    symbols = symbols_of(
        [d for b in buffers for d in b.type.shape or ()]
        + [axis.extent for axis in kernel.axes]
        + [f.value for f in kernel.formulas() if f.primitive == "extent"]
        + [a.extent for f in kernel.formulas() if f.primitive == "reduce" for a in f.value[1]]
    )
    total = FIRST + len(buffers) + len(symbols)

    def run(record: int, begin: int, end: int) -> None:
        assert (begin, end) == (0, 1)
        words = (ctypes.c_int64 * total).from_address(record)
        slots, values = words[FIRST : FIRST + len(buffers)], words[FIRST + len(buffers) :]
        sizes = dict(zip(symbols, values, strict=True))
        table = words[TABLE]
        arrays = {
            buffer: array_at(ctypes.c_int64.from_address(table + WORD * slot).value, buffer, sizes)
            for buffer, slot in zip(buffers, slots, strict=True)
        }
        try:
            with np.errstate(all="ignore"):
                run_kernel(kernel, arrays, sizes)
        except (ValueError, IndexError, ShapeError):
            (ctypes.c_int64 * 2).from_address(words[FAULT])[:] = [1, 7]

    body = BODY(run)
    address = ctypes.cast(body, ctypes.c_void_p).value
    assert address is not None
    return [
        Routine(
            kernel, CODE, buffers, tuple(Dim(((((s,)), 1),)) for s in symbols), frozenset(writes),
            1, 1, (Fault("index {} is out of range"),), (), {"interpret": address}, (body,),
        )
    ]  # fmt: skip


def program_of(graph: Graph | Plan, **more: Any) -> CpuProgram:
    """A program whose kernels are interpreted."""
    plan = lower(graph) if isinstance(graph, Graph) else graph
    return CpuProgram(plan, interpreted, host(), **more)
