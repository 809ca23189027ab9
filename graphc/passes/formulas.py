"""What the rules of `stabilise` look for, and what they make of it: one function a rule.

Enters: a `Term`, a tensor seen for Python's `match`. Leaves: the tensor that stands for it, or None
where the formula is another one. The table in `stabilise.py` names, orders and documents them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from graphc.build import replay
from graphc.dtypes import promote
from graphc.graph import Node, Tensor
from graphc.ops import OPS
from graphc.ops.broadcast import cast
from graphc.passes.term import Term, same

Formula: TypeAlias = Callable[[Term], "Tensor | None"]

COMMUTING = frozenset(  # ops that only move elements, or round them
    {"broadcast_to", "reshape", "transpose", "slice", "gather", "cast", "identity"}
)
MOST_VIEWS = 16


def call(name: str, *xs: Tensor, **attrs: Any) -> Tensor:
    """An op by its name."""
    tensor: Tensor = replay(OPS[name], xs, attrs, None)
    return tensor


def minus(x: Term) -> Tensor:
    """`-x`; where x is itself a negation, what it negates."""
    match x:
        case Term("negative", inner):
            found: Tensor = inner.tensor
            return found
    return -x.tensor


def through_views(formula: Callable[[Term, Callable[[Tensor], Tensor]], Tensor | None]) -> Formula:
    """Let a formula of `f(x)` also apply to `f(view(x))`, giving the view of its result.

    The formula gets x, and a function that widens an operand to the dtype of the whole.
    """

    def apply(t: Term) -> Tensor | None:
        core, passed = t.a, list[Node]()
        while core.name in COMMUTING and len(passed) < MOST_VIEWS:
            if not core.a.tensor.dtype.is_float:
                break
            passed.append(core.tensor.node)
            core = core.a
        dtype = promote(core.tensor.dtype, t.tensor.dtype)
        new = formula(core, lambda x: cast(x, dtype))
        if new is None:
            return None
        for node in reversed(passed):
            new = replay(node.op, (new, *node.inputs[1:]), node.attrs, None)
        return cast(new, t.tensor.dtype)

    return apply


def reduced_along(t: Term, name: str, shape: Any) -> Term | None:
    """The reduction called `name`, over one axis, of which `t` is the broadcast back to `shape`."""
    match t:
        case Term("broadcast_to", Term("reshape", Term() as inner) as row):
            reshaped = row.tensor.shape
        case Term("broadcast_to", Term() as inner):
            reshaped = inner.tensor.shape
        case _:
            inner, reshaped = t, t.tensor.shape
    if inner.name == "stop_gradient" and name == "max":
        inner = inner.a
    if inner.name != name or len(inner.attrs["axis"] or ()) != 1:
        return None
    axis = inner.attrs["axis"][0]
    kept = (*shape[:axis], 1, *shape[axis + 1 :])
    leading = axis == 0 and reshaped == shape[1:]
    return inner if inner.a.tensor.shape == shape and (reshaped == kept or leading) else None


# ---------------------------------------------------------------------------- logarithms


@through_views
def log_softmax(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log(softmax(x))`."""
    match core:
        case Term("softmax", x):
            return call("log_softmax", wide(x.tensor), **core.attrs)
    return None


@through_views
def logsumexp(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log(sum(exp(x)))`."""
    match core:
        case Term("sum", Term("exp", x)):
            return call("logsumexp", wide(x.tensor), **core.attrs)
    return None


@through_views
def log_exp(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log(exp(x))`."""
    match core:
        case Term("exp", x):
            return wide(x.tensor)
    return None


@through_views
def log_sigmoid(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log(sigmoid(x))`."""
    match core:
        case Term("sigmoid", x):
            return -call("softplus", wide(minus(x)))
    return None


@through_views
def softplus(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log(1 + exp(x))`."""
    match core:
        case Term("add", Term(value=1), Term("exp", x)) | Term(
            "add", Term("exp", x), Term(value=1)
        ):
            return call("softplus", wide(x.tensor))
    return None


@through_views
def softplus_log1p(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log1p(exp(x))`."""
    match core:
        case Term("exp", x):
            return call("softplus", wide(x.tensor))
    return None


@through_views
def log1p(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log(1 + x), log(1 - x)`."""
    match core:
        case Term("add", Term(value=1), x) | Term("add", x, Term(value=1)):
            return call("log1p", wide(x.tensor))
        case Term("subtract", Term(value=1), x):
            return call("log1p", wide(minus(x)))
    return None


@through_views
def log1p_sigmoid(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`log1p(-sigmoid(x))`."""
    match core:
        case Term("negative", Term("sigmoid", x)):
            return -call("softplus", wide(x.tensor))
    return None


@through_views
def exp_log_softmax(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    """`exp(log_softmax(x))`."""
    match core:
        case Term("log_softmax", x):
            return call("softmax", wide(x.tensor), **core.attrs)
    return None


# ---------------------------------------------------------------------------- quotients


def softmax(t: Term) -> Tensor | None:
    """`exp(x) / sum(exp(x), axis, keepdims=True), also with x - max(x) for x`."""
    match t:
        case Term("divide", Term("exp", z), divisor):
            shape = t.tensor.shape
            total = reduced_along(divisor, "sum", shape)
            if total is None or total.a.name != "exp" or not same(total.a.a.tensor, z.tensor):
                return None
            axis = total.attrs["axis"]
            match z:
                case Term("subtract", x, shift):
                    largest = reduced_along(shift, "max", shape)
                    if largest is not None and same(largest.a.tensor, x.tensor):
                        z = x if largest.attrs["axis"] == axis else z
            return call("softmax", z.tensor, axis=axis[0])
    return None


def sigmoid(t: Term) -> Tensor | None:
    """`1 / (1 + exp(-x)), exp(x) / (1 + exp(x))`."""
    match t:
        case (
            Term("divide", Term(value=1), Term("add", Term(value=1), Term("exp", z)))
            | Term("divide", Term(value=1), Term("add", Term("exp", z), Term(value=1)))
            | Term("reciprocal", Term("add", Term(value=1), Term("exp", z)))
            | Term("reciprocal", Term("add", Term("exp", z), Term(value=1)))
        ):
            return call("sigmoid", minus(z))
        case Term("divide", Term("exp", x), Term("add", Term(value=1), Term("exp", z))) | Term(
            "divide", Term("exp", x), Term("add", Term("exp", z), Term(value=1))
        ) if same(x.tensor, z.tensor):
            return call("sigmoid", x.tensor)
    return None


def one_minus_sigmoid(t: Term) -> Tensor | None:
    """`1 - sigmoid(x)`."""
    match t:
        case Term("subtract", Term(value=1), Term("sigmoid", x)):
            return call("sigmoid", minus(x))
    return None


def exp_quotient(t: Term) -> Tensor | None:
    """`exp(x) / exp(y), so exp(x) / exp(x) too`."""
    match t:
        case Term("divide", Term("exp", x), Term("exp", y)):
            return call("exp", x.tensor - y.tensor)
    return None


def tanh(t: Term) -> Tensor | None:
    """`(exp(x) - exp(-x)) / (exp(x) + exp(-x)), (exp(x) - 1) / (exp(x) + 1)`."""
    match t:
        case Term("divide", Term("subtract", p, m), Term("add", q, n)):
            match p, m, q, n:
                case Term("exp", x), Term("exp", Term("negative", y)), Term("exp"), Term("exp"):
                    alike = same(p.tensor, q.tensor) and same(m.tensor, n.tensor)
                    return call("tanh", x.tensor) if alike and same(x.tensor, y.tensor) else None
        case Term("divide", Term("expm1", x), Term("add", Term("exp", y), Term(value=1))) | Term(
            "divide", Term("expm1", x), Term("add", Term(value=1), Term("exp", y))
        ) if same(x.tensor, y.tensor):
            return call("tanh", x.tensor * 0.5)
    return None


# ---------------------------------------------------------------------------- differences, roots


def expm1(t: Term) -> Tensor | None:
    """`exp(x) - 1`."""
    match t:
        case (
            Term("subtract", Term("exp", x), Term(value=1))
            | Term("add", Term("exp", x), Term(value=-1))
            | Term("add", Term(value=-1), Term("exp", x))
        ):
            return call("expm1", x.tensor)
    return None


def minus_softplus(t: Term) -> Tensor | None:
    """`x - softplus(x)`."""
    match t:
        case Term("subtract", x, Term("softplus", y)) if same(x.tensor, y.tensor):
            return -call("softplus", minus(x))
    return None


def minus_logsumexp(t: Term) -> Tensor | None:
    """`x - logsumexp(x, axis, keepdims=True)`."""
    match t:
        case Term("subtract", x, divisor):
            total = reduced_along(divisor, "logsumexp", t.tensor.shape)
            if total is not None and same(total.a.tensor, x.tensor):
                return call("log_softmax", x.tensor, axis=total.attrs["axis"][0])
    return None


def absolute(t: Term) -> Tensor | None:
    """`sqrt(x * x), sqrt(x ** 2)`."""
    match t:
        case Term("sqrt", Term("power", x, Term(value=2))) | Term("sqrt", Term("square", x)):
            return call("absolute", x.tensor)
        case Term("sqrt", Term("multiply", x, y)) if same(x.tensor, y.tensor):
            return call("absolute", x.tensor)
    return None


# ---------------------------------------------------------------------------- the table
