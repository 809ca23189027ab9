"""Elements as they lie in memory: booleans are bytes, float16 is moved as 16 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dtypes import Array, DType
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import Value


def as_array(number: Any) -> Array:
    """A Python number as an array without axes; of large integers, unsigned."""
    large = isinstance(number, int) and number > np.iinfo(np.int64).max
    return np.asarray(number, np.uint64) if large else np.asarray(number)


def memory(dtype: DType) -> Any:
    """The LLVM type of an element in memory."""
    return {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bits] if (
        dtype.is_float and dtype.bits > 16
    ) else ir.IntType(dtype.bits)  # fmt: skip


def vector_of(dtype: DType, count: int) -> Any:
    """The LLVM type of elements in memory."""
    return ir.VectorType(memory(dtype), count)


def shaped(element: Any, count: int | None) -> Any:
    """The type of so many lanes."""
    return element if count is None else ir.VectorType(element, count)


def count_of(value: Value) -> int | None:
    """The lanes of a vector; None of a scalar."""
    return value.type.count if isinstance(value.type, ir.VectorType) else None


def loaded(builder: ir.IRBuilder, value: Value, dtype: DType) -> Value:
    """What lies in memory as a value of registers."""
    count = count_of(value)
    if dtype.kind == "b":
        return builder.icmp_unsigned("!=", value, ir.Constant(value.type, _zeros(count)))
    if dtype.is_float and dtype.bits == 16:
        return builder.bitcast(value, shaped(ir.HalfType(), count))
    return value


def _zeros(count: int | None) -> Any:
    return 0 if count is None else [0] * count


def kept(builder: ir.IRBuilder, value: Value, dtype: DType) -> Value:
    """A value of registers as what lies in memory."""
    count = count_of(value)
    if dtype.kind == "b":
        return builder.zext(value, shaped(ir.IntType(8), count))
    if dtype.is_float and dtype.bits == 16:
        return builder.bitcast(value, shaped(ir.IntType(16), count))
    return value


def raw_constant(number: Any, dtype: DType) -> Value:
    """A number as it lies in memory."""
    array = as_array(number).astype(dtype.numpy)
    if dtype.is_float and dtype.bits > 16:
        return ir.Constant(memory(dtype), array.item())
    return ir.Constant(memory(dtype), int(array.view(f"int{dtype.bits}")))
