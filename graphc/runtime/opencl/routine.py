"""What one launch on an OpenCL device is: code, what it takes, and how many work-items run it.

Enters: a generator's OpenCL C 1.2. Leaves: a `Routine`, which a program builds, binds and enqueues.
`code` is what stands behind `kernel void name`: the list of arguments and the body. The arguments
are, in this order,

    for each of `buffers`   `global T* x` and `long x0`, the number of its first element in x
    for each of `sizes`     `long n`, the value of that dimension
    if there are `faults`   `global int* cell, int launch`

T is the C type of the dtype as it lies in memory: uchar for bool, half for float16 (to be read and
written by `vload_half` and `vstore_half` where there is no cl_khr_fp16). Nothing is aligned to more
than its element: a buffer may be a row of another one. Two buffers may be the same memory where
`sharing.shareable` says so of the routine's kernel.

A routine that meets an index out of range calls `graphc_fault(cell, launch, number, index)` with
the number of the fault in `faults`, and reads or writes nothing there. It must not return before a
barrier that others wait at. The text names no buffer and no kernel, so equal kernels are one text.

Work-items are `items` along one to three axes, rounded up to whole work-groups of the size `group`,
which the generator has chosen and no size of a run decides (drivers compile code anew for another
one); the code leaves out the items beyond. `reqd_work_group_size` is written by the program.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.dims import Dimension
from graphc.dtypes import DType
from graphc.kernel import Buffer, Kernel
from graphc.runtime.faults import Fault, Needed

MEMORY = {
    "bool": "uchar", "int8": "char", "int16": "short", "int32": "int", "int64": "long",
    "uint8": "uchar", "uint16": "ushort", "uint32": "uint", "uint64": "ulong",
    "float16": "half", "float32": "float", "float64": "double",
}  # fmt: skip

FAULT_HELPER = """\
void graphc_fault(global int* cell, int launch, int number, long index) {
  if (atomic_cmpxchg(cell, 0, 1) == 0) {
    cell[1] = launch; cell[2] = number;
    cell[3] = (int)(uint)((ulong)index & 0xffffffffUL); cell[4] = (int)(uint)((ulong)index >> 32);
  }
}
"""
CELL = 5  # ints


def memory(dtype: DType) -> str:
    """The C type of an element in memory."""
    return MEMORY[dtype.name]


@dataclass(frozen=True, slots=True, eq=False)
class Routine:
    """One launch; see the module. What it reads and writes are `buffers`."""

    kernel: Kernel  # for its lines, and for what may share memory
    code: str
    buffers: tuple[Buffer, ...]
    sizes: tuple[Dimension, ...]
    writes: frozenset[Buffer]
    items: tuple[Dimension, ...]
    group: tuple[int, ...]  # as long as `items`
    helpers: tuple[str, ...] = ()  # functions that the code calls, each before what uses it
    faults: tuple[Fault, ...] = ()
    needs: tuple[Needed, ...] = ()
    wanted: Dimension = 1  # 0: nobody needs what it computes

    @property
    def reads(self) -> tuple[Buffer, ...]:
        """The buffers whose values it needs."""
        own = set(self.kernel.reads())
        return tuple([b for b in self.buffers if b not in self.writes or b in own])
