"""Runs a scalar primitive's generated code over arrays: a loop of vectors around one `emit`."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.dtypes import BY_NUMPY, DType
from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import INTEGER, POINTER, VOID, declare, integer, loop
from graphc.runtime.cpu.helpers import helpers
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.vector_math import Instructions, cast, element_of, emit

Array = Any
WIDEST = 64


def shaped(element: Any, lanes: int | None) -> Any:
    return element if lanes is None else ir.VectorType(element, lanes)


def _load(builder: ir.IRBuilder, array: Any, i: Any, dtype: DType, lanes: int | None) -> Any:
    memory = ir.IntType(8) if dtype.kind == "b" else element_of(dtype)
    place = builder.gep(array, [i], source_etype=memory)
    value = builder.load(place, typ=shaped(memory, lanes), align=dtype.itemsize)
    return builder.trunc(value, shaped(ir.IntType(1), lanes)) if dtype.kind == "b" else value


def _store(builder: ir.IRBuilder, value: Any, array: Any, i: Any, dtype: DType) -> None:
    memory = ir.IntType(8) if dtype.kind == "b" else element_of(dtype)
    if dtype.kind == "b":
        lanes = value.type.count if isinstance(value.type, ir.VectorType) else None
        value = builder.zext(value, shaped(memory, lanes))
    builder.store(value, builder.gep(array, [i], source_etype=memory), align=dtype.itemsize)


def looped(
    formula: Callable[..., Any], operands: tuple[DType, ...], result: DType, lanes: int | None
) -> ir.Module:
    """A module with `run(result, operands ..., count)`; the count is a multiple of the lanes."""
    module = ir.Module("math")
    labels = [(f"x{i}", POINTER) for i in range(len(operands))]
    _, builder, arguments = declare(
        module, "run", VOID, [("to", POINTER), *labels, ("count", INTEGER)], True
    )
    to, *arrays, count = arguments
    with loop(builder, integer(0), count, lanes or 1) as i:
        values = [
            _load(builder, array, i, dtype, lanes)
            for array, dtype in zip(arrays, operands, strict=True)
        ]
        _store(builder, formula(builder, *values), to, i, result)
    builder.ret_void()
    return module


@functools.cache
def library(
    primitive: str,
    dtypes: tuple[DType, ...],
    result: DType,
    lanes: int | None,
    target: Target,
    instructions: Instructions | None = None,
) -> Library:
    known = instructions or Instructions.of(target)

    def formula(builder: ir.IRBuilder, *values: Any) -> Any:
        if primitive == "cast":
            return cast(builder, values[0], dtypes[0], result, known)
        return emit(builder, primitive, values, dtypes[-1], known)

    code = str(looped(formula, dtypes, result, lanes))
    symbols = {name: found.address(name) for name, found in helpers(code, target).items()}
    return compile_module(code, target, symbols=symbols)


def call(code: Library, to: Array, *arrays: Array) -> None:
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (to, *arrays)]
    kinds = [ctypes.c_void_p] * len(pointers)
    code.function("run", None, *kinds, ctypes.c_int64)(*pointers, to.size)


def run(
    primitive: str,
    *operands: Array,
    result: Any = None,
    lanes: int | None = 16,
    target: Target | None = None,
    instructions: Instructions | None = None,
) -> Array:
    """The primitive of arrays of one size, by generated code."""
    dtypes = tuple(BY_NUMPY[x.dtype] for x in operands)
    if result is None:
        result = bool if primitive in ("less", "less_equal", "equal") else dtypes[-1].numpy
    size = operands[0].size
    padded = [np.resize(x, -(-size // WIDEST) * WIDEST) for x in operands]
    to = np.empty(padded[0].size, result)
    kind = BY_NUMPY[to.dtype]
    code = library(primitive, dtypes, kind, lanes, target or host(), instructions)
    call(code, to, *padded)
    return to[:size]
