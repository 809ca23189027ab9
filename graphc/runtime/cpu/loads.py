"""Reads and stores of formulas: whole vectors where the place of a lane moves by one, else lanes.

Enters: a scope of `Formulas` and a read or store. Leaves: its instructions. The address of a read
grows from scope to scope: each loop adds what its own axes say to the address outside of it.

Booleans are bytes in memory, float16 is moved as 16 bits. No address is assumed to be aligned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.dims import Dimension
from graphc.dtypes import DType, int64
from graphc.kernel import Axis, Store
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.bounds import check, condition_of, needed, size_of
from graphc.runtime.cpu.elements import (
    count_of,
    kept,
    loaded,
    memory,
    raw_constant,
)
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, Value, integer, loop
from graphc.runtime.cpu.math.lanes import Lanes, any_lane, intrinsic
from graphc.runtime.cpu.record import NOWHERE
from graphc.runtime.formulas import Place
from graphc.scalar import Scalar

if TYPE_CHECKING:
    from graphc.runtime.cpu.formula import Formulas

INT32 = ir.IntType(32)
MOST_APART = 4  # steps between lanes that are read in whole vectors


# ---------------------------------------------------------------------------- addresses


def _depends(scope: Formulas, formula: Scalar) -> bool:
    """Whether a formula differs from lane to lane."""
    return scope.lane is not None and scope.vector_axis in scope.facts.free[formula]


def pointer(scope: Formulas, part: Scalar) -> Value:
    """The address of a read as far as the axes of this scope say it; of lane 0, of a vector."""
    found: Formulas | None = scope
    while found is not None and part not in found.pointers:
        found = found.parent
    if found is not scope:
        place = scope.facts.places[part]
        start = found.pointers[part] if found is not None else None
        bound = found.axes if found is not None else frozenset()
        buffer = part.value[0]
        if start is None:
            start = scope.record.pointer(buffer)
            start = advanced(scope, start, size_of(scope, place.offset.constant), buffer.type.dtype)
        scope.pointers[part] = _moved(scope, start, place, bound, found is None, buffer.type.dtype)
    return scope.pointers[part]


def advanced(scope: Formulas, start: Value, offset: Value, dtype: DType) -> Value:
    """An address some elements further."""
    if isinstance(offset, ir.Constant) and offset.constant == 0:
        return start
    return scope.builder.gep(start, [offset], source_etype=memory(dtype))


def _moved(
    scope: Formulas, start: Value, place: Place, bound: frozenset[Axis], first: bool, dtype: DType
) -> Value:
    """The address with what the axes say that are bound here and were not yet."""
    for axis, step in place.offset.steps.items():
        if axis in scope.axes and axis not in bound:
            where = scope.where(axis)
            base = where.base if hasattr(where, "base") else where
            start = advanced(scope, start, times(scope, base, step), dtype)
    for formula, step in place.terms:
        free = scope.facts.free[formula]
        if free <= scope.axes and (first or not free <= bound) and not _depends(scope, formula):
            index = scope.typed(formula, int64)
            start = advanced(scope, start, times(scope, index, step), dtype)
    return start


def times(scope: Formulas, value: Value, step: Dimension) -> Value:
    """A position times a step."""
    if isinstance(step, int) and step == 1:
        return value
    if isinstance(step, int) and isinstance(value, ir.Constant):
        return integer(value.constant * step)
    return scope.builder.mul(value, size_of(scope, step))


def _lane_offsets(scope: Formulas, place: Place) -> Value:
    """How many elements each lane lies behind the address of the scope."""
    assert scope.lane is not None and scope.vector_axis is not None
    builder, count = scope.builder, scope.lane.count
    step = place.offset.step(scope.vector_axis)
    lanes = ir.Constant(ir.VectorType(INTEGER, count), [integer(i) for i in range(count)])
    total = builder.mul(lanes, scope.spread(size_of(scope, step), count))
    for formula, stride in place.terms:
        if _depends(scope, formula):
            index = scope.typed(formula, int64)
            total = builder.add(
                total, builder.mul(index, scope.spread(size_of(scope, stride), count))
            )
    return total


# ---------------------------------------------------------------------------- reads


def read(scope: Formulas, part: Scalar) -> Value:
    """The value of a read."""
    buffer, outside = part.value
    dtype = buffer.type.dtype
    if outside is None:
        check(scope, part)
        condition = None
    else:
        condition = condition_of(scope, part)
    if not _depends(scope, part):
        return _read_one(scope, part, condition)
    raw = _read_lanes(scope, part, condition)
    return loaded(scope.builder, raw, dtype)


def _outside(scope: Formulas, part: Scalar) -> Value:
    """What lies around a buffer, as it would lie in memory."""
    buffer, outside = part.value
    dtype = buffer.type.dtype
    return raw_constant(0 if outside is None else outside, dtype)


def _read_one(scope: Formulas, part: Scalar, condition: Value | None) -> Value:
    builder, dtype = scope.builder, part.value[0].type.dtype
    place = pointer(scope, part)
    safe = condition if part.value[1] is not None else needed(scope, part)
    if safe is not None:
        place = builder.select(safe, place, scope.record.nowhere())
    value = loaded(builder, builder.load(place, typ=memory(dtype), align=1), dtype)
    if condition is None:
        return value
    return builder.select(condition, value, loaded(builder, _outside(scope, part), dtype))


def _read_lanes(scope: Formulas, part: Scalar, condition: Value | None) -> Value:
    """A vector as it lies in memory."""
    assert scope.lane is not None and scope.vector_axis is not None
    builder, dtype, lane = scope.builder, part.value[0].type.dtype, scope.lane
    step = scope.facts.step(part, scope.vector_axis)
    start, mask = pointer(scope, part), lane.mask
    if part.value[1] is None and (happens := needed(scope, part)) is not None:
        assert lane.count * dtype.itemsize <= NOWHERE
        if isinstance(step, int) and step in (0, 1):
            start = builder.select(happens, start, scope.record.nowhere())
        else:
            mask = _masked(scope, mask, happens)
    if condition is not None:
        mask = _masked(scope, mask, condition)
    around = scope.spread(_outside(scope, part), lane.count)
    if isinstance(step, int) and step == 0:  # only its being outside differs
        if mask is not None:
            some = any_lane(Lanes(builder, mask))
            start = builder.select(some, start, scope.record.nowhere())
        one = scope.spread(builder.load(start, typ=memory(dtype), align=1), lane.count)
        return one if mask is None else builder.select(mask, one, around)
    if isinstance(step, int) and step == 1:
        return _contiguous(scope, start, mask, around, dtype)
    if isinstance(step, int) and step == -1:
        return _backwards(scope, start, mask, around, dtype)
    if isinstance(step, int) and 1 < step <= MOST_APART and mask is None:
        return _apart(scope, start, step, around.type, dtype)
    return _gathered(scope, part, start, mask, around)


def _masked(scope: Formulas, mask: Value | None, condition: Value) -> Value:
    assert scope.lane is not None
    condition = scope.spread(condition, scope.lane.count)
    return condition if mask is None else scope.builder.and_(mask, condition)


def _label(vector: Any) -> str:
    element = vector.element
    if isinstance(element, ir.IntType):
        return f"v{vector.count}i{element.width}"
    return f"v{vector.count}f{32 if isinstance(element, ir.FloatType) else 64}"


def _contiguous(
    scope: Formulas, start: Value, mask: Value | None, around: Value, dtype: DType
) -> Value:
    builder, kind = scope.builder, around.type
    if mask is None:
        return builder.load(start, typ=kind, align=1)
    if not scope.facts.has_masks(dtype.bits):
        return _each(scope, start, scope.spread(integer(1), kind.count), mask, around, dtype)
    load = intrinsic(
        builder.module, f"llvm.masked.load.{_label(kind)}.p0", kind, [POINTER, mask.type, kind]
    )
    return builder.call(load, [start, mask, around])


def _backwards(
    scope: Formulas, start: Value, mask: Value | None, around: Value, dtype: DType
) -> Value:
    """Lanes that run towards the front: a vector from its far end, turned round."""
    builder, count = scope.builder, around.type.count
    if mask is not None and not scope.facts.has_masks(dtype.bits):
        return _each(scope, start, scope.spread(integer(-1), count), mask, around, dtype)
    turned = None if mask is None else reverse(builder, mask)
    far = advanced(scope, start, integer(1 - count), dtype)
    return reverse(builder, _contiguous(scope, far, turned, around, dtype))


def _apart(scope: Formulas, start: Value, step: int, kind: Any, dtype: DType) -> Value:
    """Every so manieth element: of vectors, the last of which ends with the last element."""
    builder, count = scope.builder, kind.count
    places = [min(k * count, (count - 1) * step + 1 - count) for k in range(step)]
    result, held = None, range(0)
    for k, place in enumerate(places):
        here = builder.load(advanced(scope, start, integer(place), dtype), typ=kind, align=1)
        lanes = range(-(-k * count // step), -(-(k + 1) * count // step))
        order = [n if n in held else 0 for n in range(count)]
        offset = 0 if result is None else count
        for n in lanes:
            order[n] = offset + n * step - place
        mask = ir.Constant(ir.VectorType(INT32, count), order)
        result = builder.shuffle_vector(here if result is None else result, here, mask)
        held = range(lanes.stop)
    return result


def reverse(builder: ir.IRBuilder, value: Value) -> Value:
    """The lanes in the other order."""
    count = value.type.count
    order = ir.Constant(ir.VectorType(INT32, count), list(range(count))[::-1])
    return builder.shuffle_vector(value, value, order)


def _gathered(
    scope: Formulas, part: Scalar, start: Value, mask: Value | None, around: Value
) -> Value:
    dtype = part.value[0].type.dtype
    offsets = _lane_offsets(scope, scope.facts.places[part])
    if scope.facts.target.vector_bits < 256 or dtype.bits < 32:
        unit = scope.spread(integer(1), offsets.type.count)
        return _each(scope, start, offsets, mask, around, dtype, unit)
    builder, kind = scope.builder, around.type
    places = _addresses(scope, start, offsets, dtype)
    if mask is None:
        mask = ir.Constant(ir.VectorType(ir.IntType(1), kind.count), [1] * kind.count)
    gather = intrinsic(
        builder.module, f"llvm.masked.gather.{_label(kind)}.v{kind.count}p0", kind,
        [places.type, mask.type, kind],
    )  # fmt: skip
    return builder.call(gather, [places, mask, around])


def _addresses(scope: Formulas, start: Value, offsets: Value, dtype: DType) -> Value:
    """A vector of addresses, from offsets in elements."""
    places = scope.builder.gep(start, [offsets], source_etype=memory(dtype))
    places.type = ir.VectorType(POINTER, offsets.type.count)
    return places


def _each(
    scope: Formulas, start: Value, offsets: Value, mask: Value | None, around: Value,
    dtype: DType, unit: Value | None = None,
) -> Value:  # fmt: skip
    """Lane by lane: what is masked out reads a place that is never missing."""
    builder, count = scope.builder, around.type.count
    if unit is None:  # offsets are a step between lanes
        lanes = ir.Constant(ir.VectorType(INTEGER, count), [integer(i) for i in range(count)])
        offsets = builder.mul(offsets, lanes)
    result = around
    for lane in range(count):
        number = ir.Constant(INT32, lane)
        place = builder.gep(
            start, [builder.extract_element(offsets, number)], source_etype=memory(dtype)
        )
        if mask is not None:
            counts = builder.extract_element(mask, number)
            place = builder.select(counts, place, scope.record.nowhere())
        one = builder.load(place, typ=memory(dtype), align=1)
        result = builder.insert_element(result, one, number)
    return result if mask is None else builder.select(mask, result, around)


# ---------------------------------------------------------------------------- stores


def store(scope: Formulas, target: Store, value: Value) -> None:
    """Write a value, or its lanes that count, where a store says."""
    builder, dtype = scope.builder, target.buffer.type.dtype
    written = scope.facts.place_written(target)
    start, value = pointer(scope, written), kept(builder, value, dtype)
    if count_of(value) is None:
        builder.store(value, start, align=1)
        return
    assert scope.lane is not None and scope.vector_axis is not None
    if scope.facts.step(written, scope.vector_axis) != 1:
        _scatter(scope, written, start, value, dtype)
    elif scope.lane.mask is None:
        builder.store(value, start, align=1)
    elif scope.facts.has_masks(dtype.bits):
        name = f"llvm.masked.store.{_label(value.type)}.p0"
        kinds = [value.type, POINTER, scope.lane.mask.type]
        builder.call(intrinsic(builder.module, name, VOID, kinds), [value, start, scope.lane.mask])
    else:
        _scatter(scope, written, start, value, dtype)


def _scatter(scope: Formulas, written: Scalar, start: Value, value: Value, dtype: DType) -> None:
    """Lane by lane."""
    assert scope.lane is not None
    builder, mask = scope.builder, scope.lane.mask
    offsets = _lane_offsets(scope, scope.facts.places[written])
    with loop(builder, integer(0), integer(value.type.count)) as i:
        lane = builder.trunc(i, INT32)
        place = builder.gep(
            start, [builder.extract_element(offsets, lane)], source_etype=memory(dtype)
        )
        one = builder.extract_element(value, lane)
        if mask is None:
            builder.store(one, place, align=1)
        else:
            with builder.if_then(builder.extract_element(mask, lane)):
                builder.store(one, place, align=1)
