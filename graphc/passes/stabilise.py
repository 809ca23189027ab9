"""Formulas that lose their digits, or overflow, in the form that does neither.

Enters: a graph, before it is differentiated (so that gradients are those of the stable form) and
once more after. Leaves: the same function of the reals, computed better: this pass may change
values, always towards the exact one. `RULES` is the table, with the accuracy of each rule, which
`docs/stabilise.md` repeats.

No rule looks through a tensor that gradients are taken for. Views, indexing and casts between a
logarithm and what it is taken of are no obstacle: a logarithm commutes with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from graphc.context import Where
from graphc.graph import Graph, Node, Tensor
from graphc.passes import formulas
from graphc.passes.formulas import Formula
from graphc.passes.sweep import protected, sweep
from graphc.passes.term import Term


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


RULES: tuple[Stabilisation, ...] = (
    Stabilisation(
        "log_softmax", ("log",), "log(softmax(x))", "log_softmax(x)",
        "1e-6 relative (1.2e-7 absolute near 0) for logits up to 1e4; the first form is -inf there",
        formulas.log_softmax,
    ),
    Stabilisation(
        "logsumexp", ("log",), "log(sum(exp(x)))", "logsumexp(x)",
        "1e-6 relative; the first form is inf above 88",
        formulas.logsumexp,
    ),
    Stabilisation(
        "log_exp", ("log",), "log(exp(x))", "x", "exact", formulas.log_exp,
    ),
    Stabilisation(
        "log_sigmoid", ("log",), "log(sigmoid(x))", "-softplus(-x)",
        "4 ulp; the first form is -inf below -104", formulas.log_sigmoid,
    ),
    Stabilisation(
        "softplus", ("log",), "log(1 + exp(x))", "softplus(x)",
        "4 ulp; the first form is 0 below -17 and inf above 88", formulas.softplus,
    ),
    Stabilisation(
        "log1p", ("log",), "log(1 + x), log(1 - x)", "log1p(x), log1p(-x)",
        "4 ulp; the first form loses all digits near 0", formulas.log1p,
    ),
    Stabilisation(
        "softplus_log1p", ("log1p",), "log1p(exp(x))", "softplus(x)",
        "4 ulp; the first form is inf above 88", formulas.softplus_log1p,
    ),
    Stabilisation(
        "log1p_sigmoid", ("log1p",), "log1p(-sigmoid(x))", "-softplus(x)",
        "4 ulp; the first form is -inf above 17", formulas.log1p_sigmoid,
    ),
    Stabilisation(
        "exp_log_softmax", ("exp",), "exp(log_softmax(x))", "softmax(x)",
        "(4 + d) ulp, d the distance to the largest logit", formulas.exp_log_softmax,
    ),
    Stabilisation(
        "softmax", ("divide",),
        "exp(x) / sum(exp(x), axis, keepdims=True), also with x - max(x) for x", "softmax(x)",
        "(4 + d) ulp, d the distance to the largest logit; the first form is nan above 88",
        formulas.softmax,
    ),
    Stabilisation(
        "sigmoid", ("divide", "reciprocal"),
        "1 / (1 + exp(-x)), exp(x) / (1 + exp(x))", "sigmoid(x)",
        "4 ulp; the second form is nan above 88", formulas.sigmoid,
    ),
    Stabilisation(
        "tanh", ("divide",),
        "(exp(x) - exp(-x)) / (exp(x) + exp(-x)), (exp(x) - 1) / (exp(x) + 1)",
        "tanh(x), tanh(x / 2)", "4 ulp; the first form is nan above 88", formulas.tanh,
    ),
    Stabilisation(
        "exp_quotient", ("divide",), "exp(x) / exp(y), so exp(x) / exp(x) too",
        "exp(x - y), exp(x - x)",
        "(2 + d / 2) ulp, d the distance of x and y; the first form is nan above 88",
        formulas.exp_quotient,
    ),
    Stabilisation(
        "one_minus_sigmoid", ("subtract",), "1 - sigmoid(x)", "sigmoid(-x)",
        "4 ulp; the first form is 0 above 17", formulas.one_minus_sigmoid,
    ),
    Stabilisation(
        "expm1", ("subtract", "add"), "exp(x) - 1", "expm1(x)",
        "4 ulp; the first form loses all digits near 0", formulas.expm1,
    ),
    Stabilisation(
        "minus_softplus", ("subtract",), "x - softplus(x)", "-softplus(-x)",
        "4 ulp; the first form cancels for large x", formulas.minus_softplus,
    ),
    Stabilisation(
        "minus_logsumexp", ("subtract",), "x - logsumexp(x, axis, keepdims=True)",
        "log_softmax(x)", "1e-6 relative (1.2e-7 absolute near 0) for logits up to 1e4",
        formulas.minus_logsumexp,
    ),
    Stabilisation(
        "absolute", ("sqrt",), "sqrt(x * x), sqrt(x ** 2)", "abs(x)",
        "exact; the first form overflows above 1.8e19, and its gradient is nan at 0",
        formulas.absolute,
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
