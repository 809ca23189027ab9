"""Reductions as loops of one work-item.

Enters: a `reduce` formula and the scope that wants its value. Leaves: loops, and the value behind
them. Long sums of floats are taken in blocks whose sums are added with their rounding errors, so
the error of a sum does not grow with its length (A. Neumaier, 1974; blocks, N. Higham, 1993).
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.dims import Dim, product
from graphc.dtypes import DType, bool_, float16, float32, int64
from graphc.kernel import ARGUMENTS, Axis
from graphc.runtime.opencl import primitives
from graphc.runtime.opencl.elements import cast, number, register
from graphc.runtime.opencl.facts import is_empty
from graphc.runtime.opencl.formula import Scope
from graphc.scalar import Scalar, met

BLOCK = 64  # terms of a sum that are added up plainly
COMBINED = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}


def fold_dtype(scope: Scope, part: Scalar) -> DType:
    """The dtype in which a reduction is computed."""
    if part.value[0] in ("any", "all"):
        return bool_
    dtype = met([scope.facts.kinds[part.operands[0]]])
    return float32 if dtype is float16 else dtype


def identity(kind: str, dtype: DType) -> str:
    """What a reduction begins with; a sum of floats with -0, which changes nothing."""
    if kind == "sum":
        return number(-0.0 if dtype.is_float else 0, dtype)
    if kind in ("prod", "all", "any"):
        return number(kind != "any", dtype)
    largest = kind in ("min", "argmin")
    if dtype.is_float:
        return number(float("inf") if largest else -float("inf"), dtype)
    if dtype is bool_:
        return number(largest, dtype)
    low, high = (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1)
    if dtype.kind == "u":
        low, high = 0, (1 << dtype.bits) - 1
    return number(high if largest else low, dtype)


def reduced(scope: Scope, part: Scalar) -> str:
    """The name of the value of a reduction, in the dtype that `kinds_of` gives it."""
    kind, _, initial = part.value
    dtype = fold_dtype(scope, part)
    if kind in ARGUMENTS:
        return _argument(scope, part, dtype)
    if is_empty(part):
        start = number(0, dtype) if kind == "sum" else identity(kind, dtype)
        total = scope.variable(dtype, number(initial, dtype) if initial is not None else start)
    elif kind == "sum" and dtype.is_float:
        total = _sum(scope, part, dtype)
    else:
        start = identity(kind, dtype) if initial is None else number(initial, dtype)
        total = scope.code.name("a")
        scope.line(f"{register(dtype)} {total} = {start};")
        _nest(scope, part, list(part.value[1]), lambda inner: _add(inner, part, kind, dtype, total))
    result = scope.facts.kinds[part]
    assert isinstance(result, DType)
    if result is dtype:
        return total
    return scope.variable(result, cast(total, dtype, result, scope.code.helpers))


def _nest(scope: Scope, part: Scalar, axes: list[Axis], body: Callable[[Scope], None]) -> None:
    """Loops over axes, each left free of what does not change in it."""
    order = list(scope.facts.inside(part.operands[0]))
    scopes = [scope]
    for axis in axes:
        scopes[-1].prepare(order)
        scopes.append(scopes[-1].open(axis))
    body(scopes[-1])
    while len(scopes) > 1:
        inner = scopes.pop()
        scopes[-1].close(inner)


def _combined(scope: Scope, kind: str, dtype: DType, a: str, b: str) -> str:
    if kind in ("any", "all"):
        return f"({a} {'|' if kind == 'any' else '&'} {b})"
    return primitives.emit(COMBINED[kind], dtype, (a, b), scope.code.helpers)


def _add(scope: Scope, part: Scalar, kind: str, dtype: DType, total: str) -> None:
    if kind == "sum" and (fused := _product(scope, part.operands[0], dtype)) is not None:
        scope.line(f"{total} = fma({fused[0]}, {fused[1]}, {total});")
    else:
        value = scope.typed(part.operands[0], dtype)
        scope.line(f"{total} = {_combined(scope, kind, dtype, total, value)};")


def _product(scope: Scope, body: Scalar, dtype: DType) -> tuple[str, str] | None:
    """The factors of a term that is a product of floats: it is added without a rounding between."""
    if body.primitive != "multiply" or not dtype.is_float or not scope.code.fused:
        return None
    if scope.facts.kinds[body] is not dtype:
        return None
    x, y = (scope.typed(operand, dtype) for operand in body.operands)
    return x, y


# ---------------------------------------------------------------------------- sums of floats


def _sum(scope: Scope, part: Scalar, dtype: DType) -> str:
    name, code, axes = register(dtype), scope.code, list(part.value[1])
    points = product(axis.extent for axis in axes)
    total = code.name("a")
    start = identity("sum", dtype) if part.value[2] is None else number(part.value[2], dtype)
    scope.line(f"{name} {total} = {start};")
    if isinstance(points, int) and points <= BLOCK:
        _nest(scope, part, axes, lambda inner: _add(inner, part, "sum", dtype, total))
    else:
        lost = code.name("e")
        scope.line(f"{name} {lost} = 0;")
        _nest(scope, part, axes[:-1], lambda inner: _blocks(inner, part, dtype, total, lost))
        scope.line(f"{total} = {lost} == {lost} && {lost} != 0 ? {total} + {lost} : {total};")
    if part.value[2] is None:
        sizes = dict.fromkeys(a.extent for a in axes if isinstance(a.extent, Dim))
        for size in sizes:
            scope.line(f"{total} = {code.size(size)} == 0 ? 0 : {total};")
    return total


def _blocks(scope: Scope, part: Scalar, dtype: DType, total: str, lost: str) -> None:
    """The loop over the last axis in blocks; what each addition of a block rounds off is kept."""
    code, axis, name = scope.code, part.value[1][-1], register(dtype)
    scope.prepare(list(scope.facts.inside(part.operands[0])))
    here, near, back = code.name("p"), code.name("t"), code.name("u")
    short = isinstance(axis.extent, int) and axis.extent <= BLOCK
    at, end, first = code.name("r"), code.size(axis.extent), code.name("k")
    if short:
        scope.line("{")
    else:
        scope.line(f"for (long {first} = 0; {first} < {end}; {first} += {BLOCK}) {{")
    block = scope.inner({})
    block.line(f"{name} {here} = {identity('sum', dtype)};")
    stop, start = (end, "0") if short else (code.name("s"), first)
    if not short:
        block.line(f"const long {stop} = min({end}, {first} + {BLOCK});")
    block.line(f"for (long {at} = {start}; {at} < {stop}; {at}++) {{")
    inner = block.inner({axis: at})
    _add(inner, part, "sum", dtype, here)
    block.close(inner)
    block.line(f"const {name} {near} = {total} + {here}, {back} = {near} - {total};")
    block.line(f"{lost} += ({total} - ({near} - {back})) + ({here} - {back});")
    block.line(f"{total} = {near};")
    scope.close(block)


# ---------------------------------------------------------------------------- places of extrema


def _argument(scope: Scope, part: Scalar, dtype: DType) -> str:
    """The first of the largest or smallest; a NaN is more than all others."""
    kind, axes, _ = part.value
    best, found = scope.code.name("a"), scope.code.name("k")
    scope.line(f"{register(dtype)} {best} = {number(0, dtype)}; long {found} = 0;")
    sign = ">" if kind == "argmax" else "<"

    def compare(inner: Scope) -> None:
        value = inner.typed(part.operands[0], dtype)
        at = inner.where(axes[0])
        better = f"{value} {sign} {best}"
        if dtype.is_float:
            better += f" || ({value} != {value} && {best} == {best})"
        inner.line(f"if ({at} == 0 || {better}) {{ {best} = {value}; {found} = {at}; }}")

    if not is_empty(part):
        _nest(scope, part, list(axes), compare)
    return scope.variable(int64, found)
