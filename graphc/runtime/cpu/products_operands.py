"""Operands of products that are stored in half precision: copied once, in the precision of the sum.

Enters: a kernel whose sum is over casts of reads. Leaves: kernels that fill the copies, and the
kernel that reads these, which may be a product. An element is read once for each column or row of
the result, so the copies cost little beside the sum.
"""

from __future__ import annotations

from graphc.kernel import Axis, Buffer, Kernel, Store, cast, read
from graphc.scalar import Scalar
from graphc.types import TensorType


def with_copies(kernel: Kernel) -> tuple[list[Kernel], Kernel]:
    """The kernels that copy, and the kernel that reads the copies; no copies where none help."""
    copies: dict[Buffer, Buffer] = {}
    made: dict[Scalar, Scalar] = {}
    for formula in kernel.formulas():
        if formula.primitive == "reduce":
            for factor in formula.operands[0].operands:
                if _is_cast_read(factor):
                    (element,) = factor.operands
                    copy = _copy(copies, element.value[0], factor)
                    made[factor] = read(copy)(*element.operands)
    if not made:
        return [], kernel
    for formula in kernel.formulas():
        if formula not in made:
            operands = tuple([made[part] for part in formula.operands])
            same = all(a is b for a, b in zip(operands, formula.operands, strict=True))
            made[formula] = formula if same else Scalar(formula.primitive, operands, formula.value)
    stores = tuple(
        Store(s.buffer, tuple(made[i] for i in s.index), made[s.value]) for s in kernel.stores
    )
    changed = Kernel(kernel.name, kernel.axes, stores, kernel.lines)
    return [_copying(kernel, *pair) for pair in copies.items()], changed


def _is_cast_read(formula: Scalar) -> bool:
    if formula.primitive != "cast":
        return False
    (element,) = formula.operands
    return element.primitive == "read" and element.value[1] is None


def _copy(copies: dict[Buffer, Buffer], buffer: Buffer, factor: Scalar) -> Buffer:
    """The copy of a buffer in the dtype of a cast."""
    if buffer not in copies:
        type_ = TensorType(factor.value, buffer.type.shape)
        copies[buffer] = Buffer(type_, f"{buffer.name}.{factor.value.short}")
    return copies[buffer]


def _copying(kernel: Kernel, source: Buffer, copy: Buffer) -> Kernel:
    """The kernel that fills a copy."""
    axes = tuple(map(Axis, source.type.shape or ()))
    index = tuple(axis.position for axis in axes)
    value = cast(read(source)(*index), copy.type.dtype)
    return Kernel(kernel.name, axes, (Store(copy, index, value),), kernel.lines)
