"""`gradients(ys, xs)`: one node that stands for the cotangents of `xs` until all types are known.

The `differentiate` pass expands it by the reverse walk; its types are those of `xs`, so graphs of
unknown shapes can be differentiated. What cuts a path is found here, when `gradients` is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphc.build import describe, make_all
from graphc.errors import DTypeError, GradientError, trimmed
from graphc.graph import Node, Op, Tensor, topological
from graphc.ops.broadcast import broadcast_to
from graphc.ops.composition import replaced
from graphc.ops.domain import Domain
from graphc.ops.source import as_tensor, full_of

GRADIENT = Op(
    "gradient", "gradient", ("y", "x"),
    dtype=lambda check, *types, ys, xs, budget=None: tuple(t.dtype for t in types[-xs:]),
    shape=lambda check, *types, ys, xs, budget=None: tuple(t.shape for t in types[-xs:]),
    oracle=replaced,
    outputs=lambda ys, xs, budget=None: xs,
    domain=Domain(()),
)  # fmt: skip


def parts(node: Node) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """The outputs, their seeds and the inputs of a gradient node."""
    ys, xs = node.attrs["ys"], node.attrs["xs"]
    return node.inputs[:ys], node.inputs[ys:-xs], node.inputs[-xs:]


def flows(node: Node, operand: int) -> bool:
    """Whether a cotangent of the node's outputs may reach this input."""
    return (node.op.vjp is not None or node.op is GRADIENT) and node.inputs[operand].dtype.is_float


def reached_from(xs: Iterable[Tensor], nodes: Sequence[Node]) -> tuple[set[Tensor], set[Node]]:
    """The tensors `xs` themselves, and the nodes through which gradients flow to them."""
    sources, reached = set(xs), set[Node]()
    for node in nodes:
        for operand, tensor in enumerate(node.inputs):
            if (tensor in sources or tensor.node in reached) and flows(node, operand):
                reached.add(node)
                break
    return sources, reached


def _cuts(ys: Sequence[Tensor], x: Tensor, nodes: Sequence[Node]) -> str:
    """Why no gradient of `ys` reaches `x`: the first ops on the way that let none through."""
    _, reached = reached_from([x], nodes)
    dependent: set[Node] = set()
    cutting = []
    for node in nodes:
        inputs = [t for t in node.inputs if t is x or t.node in dependent]
        if not inputs:
            continue
        dependent.add(node)
        if node not in reached and any(t is x or t.node in reached for t in inputs):
            cutting.append(node)
    if not any(y.node in dependent for y in ys):
        return "they do not depend on it" if len(ys) > 1 else "it does not depend on it"
    return "the way is cut by " + ", ".join(
        f"{node.op.name} ({node.where}), for {_why(node)}" for node in cutting[:3]
    )


def _why(node: Node) -> str:
    """Why a node lets no gradient through."""
    if node.op.vjp is None and node.op.cuts:
        return node.op.cuts
    return "it reads " + ", ".join(str(t.type) for t in node.inputs if not t.dtype.is_float)


def as_list(value: Any) -> list[Any]:
    """One or several, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _seeds(ys: Sequence[Tensor], grad_ys: Any) -> list[Tensor]:
    """One cotangent an output: ones where none is given."""
    given = [None] * len(ys) if grad_ys is None else as_list(grad_ys)
    if len(given) != len(ys):
        rule = f"grad_ys must be one for each of {len(ys)} ys"
        raise GradientError(f"gradients: {rule}, got {len(given)}")
    return [
        as_tensor(1.0, y.dtype) if seed is None else broadcast_to_like(seed, y)
        for y, seed in zip(ys, given, strict=True)
    ]


def broadcast_to_like(value: Any, y: Tensor) -> Tensor:
    """A cotangent of the type of `y`."""
    seed = as_tensor(value, y.dtype).astype(y.dtype)
    return seed if y.shape is None else broadcast_to(seed, y.shape)


@trimmed
def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    *,
    unconnected: str = "error",
    memory_budget: float | None = None,
    name: str | None = None,
) -> list[Tensor]:
    """The gradients of the sum of `ys` with respect to each of `xs`: a list, shaped like `xs`.

    `grad_ys` weights the `ys` (the vector of the vector-Jacobian product). Where no gradient flows
    from `ys` to an x, a GradientError says what cuts it; `unconnected="zero"` gives zeros.

    `memory_budget` is the most that the backward pass may keep of the forward pass: bytes (an int),
    or a fraction of what it would keep (a float up to 1.0). Other values are computed again when
    they are needed (`passes/budget.py` says which), the same bit for bit. Sizes that are not known
    are those of the run that is compiled first. A budget that cannot be met is a GradientError of
    that run, with figures.

    >>> x = as_tensor(3.0)
    >>> gradients(x * x, [x])[0].eval()
    array(6., dtype=float32)
    """
    outputs, inputs = [as_tensor(y) for y in as_list(ys)], as_list(xs)
    if unconnected not in ("error", "zero"):
        raise GradientError(
            f'gradients: unconnected must be "error" or "zero", got {unconnected!r}'
        )
    _check_budget(memory_budget)
    if not inputs:
        return []
    for role, tensor in [("y", y) for y in outputs] + [("x", x) for x in inputs]:
        if not isinstance(tensor, Tensor):
            raise GradientError(f"gradients: xs must be tensors, got {type(tensor).__name__}")
        if not tensor.dtype.is_float:
            raise DTypeError(
                f"gradients: only floats have gradients, got {role}: {tensor.type}\n"
                f"  {role} is {describe(tensor)}"
            )
    nodes = topological(outputs)
    live = connected(outputs, inputs, nodes)
    missing = [x for x in inputs if x not in live]
    if missing and unconnected == "error":
        lines = [f"  {describe(x)}: {_cuts(outputs, x, nodes)}" for x in missing[:5]]
        of = ", ".join(describe(y) for y in outputs[:3])
        raise GradientError(f"gradients: {of} gives no gradient for\n" + "\n".join(lines))
    seeds = _seeds(outputs, grad_ys)
    attrs: dict[str, Any] = {"ys": len(outputs), "xs": len(inputs)}
    if memory_budget is not None:
        attrs["budget"] = memory_budget
    return list(make_all(GRADIENT, (*outputs, *seeds, *inputs), attrs, name))


def connected(
    ys: Sequence[Tensor], xs: Iterable[Tensor], nodes: Sequence[Node] | None = None
) -> set[Tensor]:
    """Those of `xs` that gradients of `ys` get to; `nodes` are all that `ys` reach."""
    nodes = topological(ys) if nodes is None else nodes
    sources, reached = reached_from(xs, nodes)
    flowing = {t for t in ys if t.node in reached or t in sources}
    return _upstream(flowing, nodes, reached, sources)


def _check_budget(budget: Any) -> None:
    if budget is None:
        return
    number = isinstance(budget, (int, float)) and not isinstance(budget, bool)
    if not number or not budget > 0 or (isinstance(budget, float) and budget > 1):
        raise GradientError(
            "gradients: memory_budget must be bytes (an int above 0) or a fraction (a float above "
            f"0.0, up to 1.0), got {budget!r}"
        )


def _upstream(
    ys: set[Tensor], nodes: Sequence[Node], reached: set[Node], sources: set[Tensor]
) -> set[Tensor]:
    """Those of `sources` that gradients of `ys` get to."""
    live = {y.node for y in ys if y.node in reached}
    found = ys & sources
    for node in reversed(nodes):
        if node not in live:
            continue
        for operand, tensor in enumerate(node.inputs):
            if flows(node, operand):
                if tensor in sources:
                    found.add(tensor)
                if tensor.node in reached:
                    live.add(tensor.node)
    return found


@trimmed
def grad(cost: Any, wrt: Any) -> Any:
    """Theano's form: the gradient of one scalar, for one tensor or a list of them.

    >>> x = as_tensor(3.0)
    >>> grad(x * x, x).eval()
    array(6., dtype=float32)
    """
    cost = as_tensor(cost)
    if cost.shape is not None and cost.shape != ():
        raise GradientError(
            f"grad: the cost must be a scalar, got {cost.type}\n  cost is {describe(cost)}; "
            "use gradients(ys, xs) for the gradient of its sum"
        )
    found = gradients(cost, wrt)
    return found if isinstance(wrt, (list, tuple)) else found[0]


def zeros_like_type(x: Tensor) -> Tensor:
    """Zeros of a tensor's type, without reading it."""
    assert x.shape is not None
    return full_of(0.0, x.shape, x.dtype)
