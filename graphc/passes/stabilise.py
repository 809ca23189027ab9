"""Formulas that lose their digits, or overflow, in the form that does neither.

Enters: a graph, before it is differentiated (so that gradients are those of the stable form) and
once more after. Leaves: the same function of the reals, computed better: this pass may change
values, always towards the exact one. `RULES` is the table, with the accuracy of each rule, which
`docs/stabilise.md` repeats.

No rule looks through a tensor that gradients are taken for. Views, indexing and casts between a
logarithm and what it is taken of are no obstacle: a logarithm commutes with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from graphc.build import replay
from graphc.context import Where
from graphc.dtypes import promote
from graphc.graph import Graph, Node, Tensor
from graphc.ops import OPS
from graphc.ops.broadcast import cast
from graphc.passes.sweep import protected, sweep
from graphc.passes.term import Term, same

Formula: TypeAlias = Callable[[Term], "Tensor | None"]

COMMUTING = frozenset(  # ops that only move elements, or round them
    {"broadcast_to", "reshape", "transpose", "slice", "gather", "cast", "identity"}
)
MOST_VIEWS = 16


class Fired(NamedTuple):
    """One use of a rule: its name, and the user's line."""

    rule: str
    where: Where


@dataclass(frozen=True, slots=True)
class Stabilisation:
    """One row of the table; `roots` are the ops at which it may start."""

    name: str
    roots: tuple[str, ...]
    before: str
    after: str
    accuracy: str
    formula: Formula


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


def _log_softmax(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("softmax", x):
            return call("log_softmax", wide(x.tensor), **core.attrs)
    return None


def _logsumexp(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("sum", Term("exp", x)):
            return call("logsumexp", wide(x.tensor), **core.attrs)
    return None


def _log_exp(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("exp", x):
            return wide(x.tensor)
    return None


def _log_sigmoid(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("sigmoid", x):
            return -call("softplus", wide(minus(x)))
    return None


def _softplus(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("add", Term(value=1), Term("exp", x)) | Term(
            "add", Term("exp", x), Term(value=1)
        ):
            return call("softplus", wide(x.tensor))
    return None


def _softplus_log1p(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("exp", x):
            return call("softplus", wide(x.tensor))
    return None


def _log1p(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("add", Term(value=1), x) | Term("add", x, Term(value=1)):
            return call("log1p", wide(x.tensor))
        case Term("subtract", Term(value=1), x):
            return call("log1p", wide(minus(x)))
    return None


def _log1p_sigmoid(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("negative", Term("sigmoid", x)):
            return -call("softplus", wide(x.tensor))
    return None


def _exp_log_softmax(core: Term, wide: Callable[[Tensor], Tensor]) -> Tensor | None:
    match core:
        case Term("log_softmax", x):
            return call("softmax", wide(x.tensor), **core.attrs)
    return None


# ---------------------------------------------------------------------------- quotients


def _softmax(t: Term) -> Tensor | None:
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


def _sigmoid(t: Term) -> Tensor | None:
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


def _one_minus_sigmoid(t: Term) -> Tensor | None:
    match t:
        case Term("subtract", Term(value=1), Term("sigmoid", x)):
            return call("sigmoid", minus(x))
    return None


def _exp_quotient(t: Term) -> Tensor | None:
    match t:
        case Term("divide", Term("exp", x), Term("exp", y)):
            return call("exp", x.tensor - y.tensor)
    return None


def _tanh(t: Term) -> Tensor | None:
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


def _expm1(t: Term) -> Tensor | None:
    match t:
        case (
            Term("subtract", Term("exp", x), Term(value=1))
            | Term("add", Term("exp", x), Term(value=-1))
            | Term("add", Term(value=-1), Term("exp", x))
        ):
            return call("expm1", x.tensor)
    return None


def _minus_softplus(t: Term) -> Tensor | None:
    match t:
        case Term("subtract", x, Term("softplus", y)) if same(x.tensor, y.tensor):
            return -call("softplus", minus(x))
    return None


def _minus_logsumexp(t: Term) -> Tensor | None:
    match t:
        case Term("subtract", x, divisor):
            total = reduced_along(divisor, "logsumexp", t.tensor.shape)
            if total is not None and same(total.a.tensor, x.tensor):
                return call("log_softmax", x.tensor, axis=total.attrs["axis"][0])
    return None


def _absolute(t: Term) -> Tensor | None:
    match t:
        case Term("sqrt", Term("power", x, Term(value=2))) | Term("sqrt", Term("square", x)):
            return call("absolute", x.tensor)
        case Term("sqrt", Term("multiply", x, y)) if same(x.tensor, y.tensor):
            return call("absolute", x.tensor)
    return None


# ---------------------------------------------------------------------------- the table

RULES: tuple[Stabilisation, ...] = (
    Stabilisation(
        "log_softmax", ("log",), "log(softmax(x))", "log_softmax(x)",
        "1e-6 relative (1.2e-7 absolute near 0) for logits up to 1e4; the first form is -inf there",
        through_views(_log_softmax),
    ),
    Stabilisation(
        "logsumexp", ("log",), "log(sum(exp(x)))", "logsumexp(x)",
        "1e-6 relative; the first form is inf above 88",
        through_views(_logsumexp),
    ),
    Stabilisation(
        "log_exp", ("log",), "log(exp(x))", "x", "exact", through_views(_log_exp),
    ),
    Stabilisation(
        "log_sigmoid", ("log",), "log(sigmoid(x))", "-softplus(-x)",
        "4 ulp; the first form is -inf below -104", through_views(_log_sigmoid),
    ),
    Stabilisation(
        "softplus", ("log",), "log(1 + exp(x))", "softplus(x)",
        "4 ulp; the first form is 0 below -17 and inf above 88", through_views(_softplus),
    ),
    Stabilisation(
        "log1p", ("log",), "log(1 + x), log(1 - x)", "log1p(x), log1p(-x)",
        "4 ulp; the first form loses all digits near 0", through_views(_log1p),
    ),
    Stabilisation(
        "softplus_log1p", ("log1p",), "log1p(exp(x))", "softplus(x)",
        "4 ulp; the first form is inf above 88", through_views(_softplus_log1p),
    ),
    Stabilisation(
        "log1p_sigmoid", ("log1p",), "log1p(-sigmoid(x))", "-softplus(x)",
        "4 ulp; the first form is -inf above 17", through_views(_log1p_sigmoid),
    ),
    Stabilisation(
        "exp_log_softmax", ("exp",), "exp(log_softmax(x))", "softmax(x)",
        "(4 + d) ulp, d the distance to the largest logit", through_views(_exp_log_softmax),
    ),
    Stabilisation(
        "softmax", ("divide",),
        "exp(x) / sum(exp(x), axis, keepdims=True), also with x - max(x) for x", "softmax(x)",
        "(4 + d) ulp, d the distance to the largest logit; the first form is nan above 88",
        _softmax,
    ),
    Stabilisation(
        "sigmoid", ("divide", "reciprocal"),
        "1 / (1 + exp(-x)), exp(x) / (1 + exp(x))", "sigmoid(x)",
        "4 ulp; the second form is nan above 88", _sigmoid,
    ),
    Stabilisation(
        "tanh", ("divide",),
        "(exp(x) - exp(-x)) / (exp(x) + exp(-x)), (exp(x) - 1) / (exp(x) + 1)",
        "tanh(x), tanh(x / 2)", "4 ulp; the first form is nan above 88", _tanh,
    ),
    Stabilisation(
        "exp_quotient", ("divide",), "exp(x) / exp(y), so exp(x) / exp(x) too",
        "exp(x - y), exp(x - x)",
        "(2 + d / 2) ulp, d the distance of x and y; the first form is nan above 88", _exp_quotient,
    ),
    Stabilisation(
        "one_minus_sigmoid", ("subtract",), "1 - sigmoid(x)", "sigmoid(-x)",
        "4 ulp; the first form is 0 above 17", _one_minus_sigmoid,
    ),
    Stabilisation(
        "expm1", ("subtract", "add"), "exp(x) - 1", "expm1(x)",
        "4 ulp; the first form loses all digits near 0", _expm1,
    ),
    Stabilisation(
        "minus_softplus", ("subtract",), "x - softplus(x)", "-softplus(-x)",
        "4 ulp; the first form cancels for large x", _minus_softplus,
    ),
    Stabilisation(
        "minus_logsumexp", ("subtract",), "x - logsumexp(x, axis, keepdims=True)",
        "log_softmax(x)", "1e-6 relative (1.2e-7 absolute near 0) for logits up to 1e4",
        _minus_logsumexp,
    ),
    Stabilisation(
        "absolute", ("sqrt",), "sqrt(x * x), sqrt(x ** 2)", "abs(x)",
        "exact; the first form overflows above 1.8e19, and its gradient is nan at 0", _absolute,
    ),
)  # fmt: skip

CONSEQUENCES = (
    (
        "-(t * log(p) + (1 - t) * log(1 - p)), p = sigmoid(x)",
        "t * softplus(-x) + (1 - t) * softplus(x)",
    ),
    ("-sum(t * log(p), axis), p = softmax(x)", "-sum(t * log_softmax(x), axis)"),
    ("-log(take(p, label)), p = softmax(x)", "-take(log_softmax(x), label)"),
)  # fmt: skip


def stabilised(graph: Graph) -> tuple[Graph, tuple[Fired, ...]]:
    """The stabilised graph, and which rules have fired where."""
    apart = set(protected(graph))
    fired: list[Fired] = []

    def rule(node: Node) -> Tensor | None:
        if not node.types[0].dtype.is_float:
            return None
        term = Term(Tensor(node, 0, node.types[0]), apart, outermost=True)
        for row in BY_ROOT[node.op.name]:
            new = row.formula(term)
            if new is not None:
                fired.append(Fired(row.name, node.where))
                return new
        return None

    result = sweep(graph, dict.fromkeys(BY_ROOT, rule), apart)
    return result, tuple(fired)


def _by_root() -> dict[str, tuple[Stabilisation, ...]]:
    roots = dict.fromkeys(root for row in RULES for root in row.roots)
    return {root: tuple(row for row in RULES if root in row.roots) for root in roots}


BY_ROOT = _by_root()


def stabilise(graph: Graph) -> Graph:
    """Apply the table."""
    return stabilised(graph)[0]
