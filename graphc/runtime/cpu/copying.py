"""The code of kernels that copy an array as it is: what a scatter begins with.

Enters: a kernel. Leaves: its routine, or None where it is no such copy. A memory planner may give
both arrays one storage, if the old one is not needed any more: then there is nothing to do.
"""

from __future__ import annotations

from graphc.dims import product
from graphc.kernel import Kernel
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, advance, integer
from graphc.runtime.cpu.math.lanes import intrinsic
from graphc.runtime.cpu.record import Record
from graphc.runtime.cpu.routine import Routine

FLAG = ir.IntType(1)


def compile_copy(kernel: Kernel) -> Routine | None:
    """The routine of a copy; a unit is an element."""
    if not _is_copy(kernel):
        return None
    [store] = kernel.stores
    written, read = store.buffer, store.value.value[0]
    assert written.type.shape is not None
    record = Record((read, written))
    builder = record.builder
    source, target = record.pointer(read), record.pointer(written)
    size = integer(written.type.dtype.itemsize)
    offset = builder.mul(record.begin, size)
    count = builder.mul(builder.sub(record.end, record.begin), size)
    kinds = [POINTER, POINTER, INTEGER, FLAG]
    copy = intrinsic(builder.module, "llvm.memcpy.p0.p0.i64", VOID, kinds)
    with builder.if_then(builder.icmp_unsigned("!=", source, target)):
        from_, to = advance(builder, source, offset), advance(builder, target, offset)
        builder.call(copy, [to, from_, count, ir.Constant(FLAG, 0)])
    return Routine(
        kernel, record.finish(), record.buffers, tuple(record.sizes), frozenset((written,)),
        product(written.type.shape), 1,
    )  # fmt: skip


def _is_copy(kernel: Kernel) -> bool:
    """Whether each element is stored at the place that it is read from."""
    if len(kernel.stores) != 1:
        return False
    [store] = kernel.stores
    value = store.value
    if value.primitive != "read" or value.value[1] is not None:
        return False
    return bool(value.value[0].type == store.buffer.type) and all(
        a.primitive == "position" and b.primitive == "position" and a.value is b.value
        for a, b in zip(store.index, value.operands, strict=True)
    )
