"""The branch: one record behind ifelse. Its bodies are graphs, of which a run computes one.

`ifelse` makes a branch between tensors; the pass `sink_branches` moves into each side what only
that side needs, wherever it was created. So a side that is not taken costs nothing, and its errors
never surface; gradients flow through the side that is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.build import Check, describe, make_all
from graphc.dims import Shape
from graphc.dtypes import Array, DType, promote
from graphc.errors import DTypeError, ShapeError, trimmed
from graphc.graph import Attrs, Body, Graph, Op, Tensor
from graphc.ops.bodies import alike, settle
from graphc.ops.compare import not_equal
from graphc.ops.domain import Domain
from graphc.ops.gradient import connected, gradients, zeros_like_type
from graphc.ops.nesting import flatten, matched
from graphc.ops.source import as_tensor, as_tensors
from graphc.types import TensorType


def _dtype(check: Check, *types: TensorType, then: Body, **_: Any) -> tuple[DType, ...]:
    return tuple(t.dtype for t in then.graph.outputs)


def _shape(
    check: Check, *types: TensorType, then: Body, otherwise: Body, split: int, **_: Any
) -> tuple[Shape | None, ...]:
    if types[0].shape != ():
        check.fail("the condition must be a scalar")
    settle(check, then, otherwise)
    pairs = zip(then.graph.outputs, otherwise.graph.outputs, strict=True)
    return tuple(_common(check, a, b) for a, b in pairs)


def _common(check: Check, a: Tensor, b: Tensor) -> Shape | None:
    if a.dtype is not b.dtype:
        check.fail(f"both sides must have one type, they are {a.type} and {b.type}", DTypeError)
    if a.shape is None or b.shape is None:
        check.settled = False
        return None
    rule = f"both sides must have one shape, they are {a.type} and {b.type}"
    if len(a.shape) != len(b.shape):
        check.fail(rule)
    return tuple(check.equal(x, y, rule) for x, y in zip(a.shape, b.shape, strict=True))


def _oracle(
    condition: Array, *arrays: Array, then: Callable[..., Sequence[Array]],
    otherwise: Callable[..., Sequence[Array]], split: int, **_: Any,
) -> tuple[Array, ...]:  # fmt: skip
    if condition:
        return tuple(then(*arrays[:split]))
    return tuple(otherwise(*arrays[split:]))


def _gradient_body(body: Body, gs: Sequence[Tensor], others: Sequence[Tensor], first: bool) -> Body:
    """The cotangents of a side's operands; zeros for those of the other side."""
    own = body.graph.inputs
    ys = [(y, alike(g)) for y, g in zip(body.graph.outputs, gs, strict=True)]
    seeded = [(y, g) for y, g in ys if y.dtype.is_float]
    sources = [t for t in own if t.dtype.is_float]
    reached = connected([y for y, _ in seeded], sources) if seeded else set()
    xs = [t for t in sources if t in reached]
    given = gradients([y for y, _ in seeded], xs, [g for _, g in seeded]) if xs else []
    found = dict(zip(xs, given, strict=True))
    mine = [found[t] if t in found else zeros_like_type(t) for t in sources]
    theirs = [zeros_like_type(t) for t in others if t.dtype.is_float]
    results = (*mine, *theirs) if first else (*theirs, *mine)
    return Body(Graph(results, (), (*(g for _, g in ys), *own)))


def _vjp(
    gs: Sequence[Tensor], ys: Sequence[Tensor], condition: Tensor, *xs: Tensor, then: Body,
    otherwise: Body, split: int,
) -> list[Tensor | None]:  # fmt: skip
    bodies = {
        "then": _gradient_body(then, gs, otherwise.graph.inputs, True),
        "otherwise": _gradient_body(otherwise, gs, then.graph.inputs, False),
    }
    floats = [x for x in xs if x.dtype.is_float]
    if not floats:
        return [None] * (1 + len(xs))
    inputs = (condition, *gs, *xs[:split], *gs, *xs[split:])
    out = iter(make_all(BRANCH, inputs, {**bodies, "split": len(gs) + split}))
    return [None, *(next(out) if x.dtype.is_float else None for x in xs)]


def branch_entering(types: Sequence[TensorType], attrs: Attrs) -> dict[str, Sequence[TensorType]]:
    """The types of the parameters of each body, from those of the operands."""
    split = 1 + attrs["split"]
    return {"then": types[1:split], "otherwise": types[split:]}


BRANCH = Op(
    "branch", "control", ("condition",), _dtype, _shape,
    oracle=_oracle,
    vjp=_vjp,
    outputs=lambda then, **_: len(then.graph.outputs),
    domain=Domain(()),
)  # fmt: skip


def _condition(value: Any) -> Tensor:
    condition = as_tensor(value)
    if condition.shape not in ((), None):
        raise ShapeError(
            f"ifelse: the condition must be a scalar, got {condition.type}\n  condition is "
            f"{describe(condition)}; g.where(condition, x, y) chooses elements"
        )
    return condition if condition.dtype.kind == "b" else not_equal(condition, 0)


@trimmed
def ifelse(condition: Any, then: Any, otherwise: Any, *, name: str | None = None) -> Any:
    """`then` where the scalar `condition` holds, else `otherwise`: only one of them is computed.

    Both are tensors or what makes tensors, functions that return them, or lists, tuples and dicts
    of these, of the same form; the result has that form. A node that only the side not taken needs
    does not run, wherever it was created. Shapes and dtypes of both sides must agree (dtypes are
    promoted, as by `where`). Gradients flow through the side that is taken.

    Errors: DTypeError, ShapeError.

    >>> x = as_tensor(3.0)
    >>> ifelse(x > 2.0, x * 10.0, lambda: x / 0.0).eval()
    array(30., dtype=float32)
    """
    sides = [value() if callable(value) else value for value in (then, otherwise)]
    first, rebuild = flatten(sides[0])
    second = matched(sides[0], sides[1], "ifelse: both sides must have one form, that of `then`")
    pairs = [_promoted(a, b) for a, b in zip(first, second, strict=True)]
    operands = [[pair[side] for pair in pairs] for side in (0, 1)]
    parameters = [[alike(t) for t in side] for side in operands]
    then_body, otherwise_body = (Body(Graph(tuple(p), (), tuple(p))) for p in parameters)
    attrs = {"then": then_body, "otherwise": otherwise_body, "split": len(pairs)}
    inputs = (_condition(condition), *operands[0], *operands[1])
    return rebuild(iter(make_all(BRANCH, inputs, attrs, name)))


def _promoted(a: Any, b: Any) -> Sequence[Tensor]:
    tensors = as_tensors([a, b])
    if tensors[0].dtype is tensors[1].dtype:
        return tensors
    dtype = promote(tensors[0].dtype, tensors[1].dtype)
    return [t if t.dtype is dtype else t.astype(dtype) for t in tensors]
