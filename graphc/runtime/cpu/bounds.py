"""Whether reads lie inside of their buffers: faults of indices that are data, and what is outside.

Enters: a scope of `Formulas` and a read. Leaves: conditions, and a return where one is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.affine import is_inside
from graphc.dims import Dim, Dimension, Shape
from graphc.dtypes import int64
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.elements import count_of
from graphc.runtime.cpu.emission import Value, integer
from graphc.runtime.cpu.math.lanes import Lanes, any_lane, intrinsic
from graphc.runtime.faults import Fault
from graphc.scalar import Scalar

if TYPE_CHECKING:
    from graphc.runtime.cpu.formula import Formulas

INT32 = ir.IntType(32)


def size_of(scope: Formulas, dimension: Dimension) -> Value:
    """The value of a size."""
    return scope.record.size(dimension)


def check(scope: Formulas, part: Scalar) -> None:
    """Leave the routine where an index that is known in this scope is out of range.

    It may be data, or a number that a size does not reach.
    """
    place = scope.facts.places[part]
    for axis, (index, size) in enumerate(zip(part.operands, _shape(part), strict=True)):
        doubtful = index in scope.facts.data or not scope.facts.free[index]
        if not doubtful or not any(index is term for term, _ in place.terms):
            continue
        if scope.facts.free[index] <= scope.axes and not scope.is_checked((part, axis)):
            scope.checked.add((part, axis))
            fault = Fault(f"index {{}} is out of range for axis {axis} of size {{}}", size)
            _check_index(scope, part, index, fault)


def _check_index(scope: Formulas, part: Scalar, index: Scalar, fault: Fault) -> None:
    builder, size = scope.builder, fault.size
    value = scope.typed(index, int64)
    limit = size_of(scope, size)
    if (count := count_of(value)) is not None:
        limit = scope.spread(limit, count)
    bad = _where_needed(scope, part, builder.icmp_unsigned(">=", value, limit))
    with builder.if_then(any_lane(Lanes(builder, bad)), likely=False):
        offending = value if count is None else _first(builder, value, bad)
        given = as_given(builder, index, offending, size_of(scope, size))
        scope.record.fail(builder, fault, given)


def as_given(builder: ir.IRBuilder, index: Scalar, value: Value, size: Value) -> Value:
    """An index as the user gave it: one that is negative still was counted from the end."""
    if index.primitive != "select":
        return value
    low = builder.icmp_signed("<", value, ir.Constant(value.type, 0))
    return builder.select(low, builder.sub(value, size), value)


def _shape(part: Scalar) -> Shape:
    shape: Shape = part.value[0].type.shape
    return shape


def _where_needed(scope: Formulas, part: Scalar, bad: Value) -> Value:
    builder, count = scope.builder, count_of(bad)
    happens = needed(scope, part)
    if happens is not None:
        bad = builder.and_(bad, happens if count is None else scope.spread(happens, count))
    if count is not None and scope.lane is not None and scope.lane.mask is not None:
        bad = builder.and_(bad, scope.lane.mask)
    return bad


def _first(builder: ir.IRBuilder, value: Value, mask: Value) -> Value:
    """The value in the first lane of a mask that is not empty."""
    bits = ir.IntType(mask.type.count)
    flags = builder.bitcast(mask, bits)
    trailing = intrinsic(builder.module, f"llvm.cttz.i{bits.width}", bits, [bits, ir.IntType(1)])
    lane = builder.call(trailing, [flags, ir.Constant(ir.IntType(1), 1)])
    narrow = lane if bits.width == 32 else (
        builder.zext(lane, INT32) if bits.width < 32 else builder.trunc(lane, INT32)
    )  # fmt: skip
    return builder.extract_element(value, narrow)


def needed(scope: Formulas, part: Scalar) -> Value | None:
    """Whether the read happens at all, where an inner loop may have no points; None: it does."""
    bound = {axis.extent for axis in scope.axes if isinstance(axis.extent, Dim)}
    open_ = scope.facts.guards.get(part, frozenset()) - bound - scope.facts.assured
    result: Value | None = None
    for size in sorted(open_, key=repr):
        holds = scope.builder.icmp_signed(">", size_of(scope, size), integer(0))
        result = holds if result is None else scope.builder.and_(result, holds)
    return result


def condition_of(scope: Formulas, part: Scalar) -> Value | None:
    """Whether an index lies inside of a buffer; None where it always does."""
    result: Value | None = None
    builder = scope.builder
    for index, size in zip(part.operands, _shape(part), strict=True):
        if is_inside(index, size):
            continue
        value = scope.typed(index, int64)
        limit = size_of(scope, size)
        if (count := count_of(value)) is not None:
            limit = scope.spread(limit, count)
        holds = builder.icmp_unsigned("<", value, limit)
        result = holds if result is None else _both(scope, result, holds)
    return result


def _both(scope: Formulas, a: Value, b: Value) -> Value:
    count = count_of(a) or count_of(b)
    if count is not None:
        a, b = scope.spread(a, count), scope.spread(b, count)
    return scope.builder.and_(a, b)
