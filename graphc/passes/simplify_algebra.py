"""Identities that never change a value: NaN, infinities and signed zeros included.

| before | after | why it is exact |
|---|---|---|
| `x * 1`, `x / 1`, `x ** 1` | `x` | IEEE 754 rounds the exact product, which is x |
| `x ** 0` | `1` | pow(x, 0) is 1, even of NaN |
| `x ** 2` | `x * x` | both round the exact square (integers wrap alike) |
| `x * -1` | `-x` | the sign alone changes, of zeros too |
| `x * 0` | `0` | integers and booleans only |
| `x + -0.0`, `x - 0.0` | `x` | for every x (`x + 0.0` stays: it turns -0.0 into 0.0) |
| `x + 0`, `x - 0` | `x` | integers and booleans |
| `-(-x)`, `not not x` | `x` | only signs or bits change |
| `abs(abs(x))`, `abs(-x)` | `abs(x)` | only signs change |
| `x + -y`, `-x + y`, `x - -y`, `-x * -y` | `x - y`, `y - x`, `x + y`, `x * y` | negation is exact |
| `masked_divide(c, x)` | `c / x` | a number c other than 0 is not masked |
| `minimum(x, x)`, `maximum(x, x)` | `x` | |
| `where(c, x, x)`, `where(constant, x, y)` | `x`, the one that is chosen | |
| transpose of transpose | one transpose, or none | indices compose |
| reshape of reshape | one reshape, or none | the order of elements is kept |
| broadcast of broadcast | one broadcast | |
| reshape, transpose, broadcast, cast to what it is | `x` | |
| cast of a lossless cast | one cast | the value in between is the value |
| prod, max, min over axes of size 1 | a reshape | |
| sum, mean over axes of size 1 | a reshape, `+ 0.0` | a sum starts at 0, so it has no -0.0 |
| sum of an unslice over axes where it has one element among zeros | likewise | zeros add nothing |
| `identity(x)`, `stop_gradient(x)` | `x` | once no gradient is left to be taken |

Enters: any graph. Leaves: the same values, bit for bit, from fewer nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graphc.build import replay
from graphc.dtypes import DType
from graphc.graph import Graph, Node, Tensor
from graphc.ops import OPS
from graphc.ops.broadcast import broadcast_to, cast
from graphc.ops.gradient import GRADIENT
from graphc.ops.shape import reshape, transpose
from graphc.ops.slicing import UNSLICE
from graphc.ops.source import CONSTANT, full_of
from graphc.passes.sweep import Rule, sweep, uniform
from graphc.passes.term import Term

MANTISSA = {"float16": 11, "float32": 24, "float64": 53}


def _is(value: Any, number: int) -> bool:
    return value is not None and value == number


def _neutral(value: Any, dtype: DType, sign: float) -> bool:
    """Whether adding `value` changes nothing: 0, and for floats the zero of that sign."""
    return _is(value, 0) and (not dtype.is_float or math.copysign(1.0, value) == sign)


def _add(node: Node) -> Tensor | None:
    a, b = node.inputs
    if _neutral(uniform(b), b.dtype, -1.0):
        return a
    if _neutral(uniform(a), a.dtype, -1.0):
        return b
    if a.node.op.name == "negative":
        return b - a.node.inputs[0]
    if b.node.op.name == "negative":
        return a - b.node.inputs[0]
    return None


def _subtract(node: Node) -> Tensor | None:
    a, b = node.inputs
    if _neutral(uniform(b), b.dtype, 1.0):
        return a
    if b.node.op.name == "negative":
        return a + b.node.inputs[0]
    if not a.dtype.is_float and _is(uniform(a), 0):
        return -b
    return None


def _multiply(node: Node) -> Tensor | None:
    a, b = node.inputs
    for x, other in ((a, b), (b, a)):
        value = uniform(other)
        if value is None:
            continue
        if value == 1:
            return x
        if value == 0 and not x.dtype.is_float:
            return full_of(0, x.shape or (), x.dtype)
        if value == -1 and x.dtype.kind in "if":
            return -x
    if a.node.op.name == b.node.op.name == "negative":
        return a.node.inputs[0] * b.node.inputs[0]
    return None


def _divide(node: Node) -> Tensor | None:
    return node.inputs[0] if _is(uniform(node.inputs[1]), 1) else None


def _masked(node: Node) -> Tensor | None:
    a, b = node.inputs
    return a / b if uniform(a) else None


def _power(node: Node) -> Tensor | None:
    x, exponent = node.inputs[0], uniform(node.inputs[1])
    match exponent:
        case 0:
            return full_of(1, x.shape or (), x.dtype)
        case 1:
            return x
        case 2:
            return x * x
    return None


def _unary(node: Node) -> Tensor | None:
    """Signs and bits that cancel."""
    match Term(Tensor(node, 0, node.types[0])):
        case (
            Term("negative", Term("negative", x))
            | Term("logical_not", Term("logical_not", x))
            | Term("invert", Term("invert", x))
        ):
            found: Tensor = x.tensor
            return found
        case Term("absolute", Term("absolute", _) as x):
            return x.tensor
        case Term("absolute", Term("negative", x)):
            return replay(OPS["absolute"], (x.tensor,), {}, None)  # type: ignore[no-any-return]  # absolute has one output
    return None


def _extremum(node: Node) -> Tensor | None:
    a, b = node.inputs
    return a if a is b else None


def _where(node: Node) -> Tensor | None:
    condition, x, y = node.inputs
    if x is y:
        return x
    chosen = uniform(condition)
    if chosen is None and condition.node.op is CONSTANT:
        array = condition.node.attrs["value"].array
        chosen = True if array.all() else False if not array.any() else None
    return None if chosen is None else x if chosen else y


def _transpose(node: Node) -> Tensor | None:
    x, axes = node.inputs[0], node.attrs["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if x.node.op is not node.op:
        return None
    inner = x.node.attrs["axes"]
    return transpose(x.node.inputs[0], tuple(inner[a] for a in axes))


def _reshape(node: Node) -> Tensor | None:
    x, target = node.inputs[0], node.types[0].shape
    if x.shape == target:
        return x
    if x.node.op is not node.op:
        return None
    inner = x.node.inputs[0]
    return inner if inner.shape == target else reshape(inner, target)


def _broadcast(node: Node) -> Tensor | None:
    x, target = node.inputs[0], node.types[0].shape
    if x.shape == target:
        return x
    return broadcast_to(x.node.inputs[0], target) if x.node.op is node.op else None


def _precision(dtype: DType) -> int:
    """How many bits of a whole number a type holds exactly."""
    if dtype.kind == "f":
        return MANTISSA[dtype.name]
    return 1 if dtype.kind == "b" else dtype.bits - (dtype.kind == "i")


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether each value of `narrow` is one of `wide`."""
    if narrow.kind == "f":
        return wide.kind == "f" and wide.bits >= narrow.bits
    if narrow.kind == "i" and wide.kind in "bu":
        return False
    if wide is not narrow and wide.kind == "b":
        return False
    return _precision(wide) >= _precision(narrow)


def _cast(node: Node) -> Tensor | None:
    x, last = node.inputs[0], node.types[0].dtype
    if x.dtype is last:
        return x
    if x.node.op is not node.op:
        return None
    first = x.node.inputs[0]
    if not _holds(x.dtype, first.dtype):
        return None
    if x.dtype.is_float and not first.dtype.is_float and last.kind in "iu":
        if not _holds(last, first.dtype):
            return None  # a float saturates where an integer wraps
    return cast(first, last)


def _reduction(node: Node) -> Tensor | None:
    """A reduction over nothing but axes of size 1."""
    x, axes = node.inputs[0], node.attrs["axis"]
    if x.shape is None or not isinstance(axes, tuple) or node.attrs.get("initial") is not None:
        return None
    if node.op.name == "sum":
        x = _without_zeros(x, axes)
    shape = x.shape or ()
    if not all(isinstance(shape[a], int) and shape[a] == 1 for a in axes):
        return None
    kept = reshape(cast(x, node.types[0].dtype), node.types[0].shape)
    return kept + 0.0 if kept.dtype.is_float and node.op.name in ("sum", "mean") else kept


def _without_zeros(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """What an unslice has put among zeros, where all of these lie along the axes."""
    if x.node.op is not UNSLICE or x.node.attrs["value"] != 0:
        return x
    inner = x.node.inputs[0]
    assert inner.shape is not None and x.shape is not None
    steps = x.node.attrs["steps"]
    sizes = zip(inner.shape, x.shape, steps, strict=True)
    moved = {a for a, (size, whole, step) in enumerate(sizes) if size != whole or step != 1}
    return inner if moved <= set(axes) else x


def _pass_through(node: Node) -> Tensor | None:
    return node.inputs[0]


RULES: Mapping[str, Rule] = {
    "add": _add, "subtract": _subtract, "multiply": _multiply, "divide": _divide,
    "masked_divide": _masked,
    "power": _power, "negative": _unary, "absolute": _unary, "logical_not": _unary,
    "invert": _unary, "minimum": _extremum, "maximum": _extremum, "where": _where,
    "transpose": _transpose, "reshape": _reshape, "broadcast_to": _broadcast, "cast": _cast,
    "sum": _reduction, "prod": _reduction, "max": _reduction, "min": _reduction,
    "mean": _reduction, "identity": _pass_through, "stop_gradient": _pass_through,
    "stand_in": lambda node: node.inputs[1],
}  # fmt: skip


def simplify_algebra(graph: Graph) -> Graph:
    """Apply the table above, once no gradient is open: until then each tensor may matter."""
    pending = any(node.op is GRADIENT for node in graph.nodes)
    return graph if pending else sweep(graph, RULES)
