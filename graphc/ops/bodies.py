"""Bodies of loops and branches: parameters, and closing what a user's function has built.

Enters: the tensors that a function made of parameters. Leaves: a `Body`, a graph over parameters
alone, and the tensors outside of it that it reads, one parameter each. What does not depend on a
parameter stays outside, computed once; numbers and ranges that need no operand are made inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from graphc.build import Check, describe, make
from graphc.context import on_behalf
from graphc.errors import ShapeError
from graphc.graph import Body, Graph, Node, Op, Tensor, outputs_of, topological
from graphc.ops.broadcast import BROADCAST_TO
from graphc.ops.domain import Domain
from graphc.ops.follow import elements_of
from graphc.ops.source import CONSTANT, no_oracle
from graphc.rewriting import Rewriter
from graphc.types import TensorType

ENTROPY_OF_STEP: ContextVar[Tensor | None] = ContextVar("graphc.entropy", default=None)


class Frame:
    """One construction of a loop: whose parameters are whose.

    `node` is the control node, once it exists; its body makes `outputs` of `parameters`, where both
    are as the user's function has seen and built them, and reads parameters for what is `written`.
    `around` is the construction, if any, whose function has begun this one.
    """

    __slots__ = ("around", "name", "node", "outputs", "parameters", "written")

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.outputs: tuple[Tensor, ...] = ()
        self.parameters: tuple[Tensor, ...] = ()
        self.written: dict[Tensor, Tensor] = {}
        self.around: Frame | None = None
        if (entropy := ENTROPY_OF_STEP.get()) is not None:  # which is made of the step's number
            steps = [n for n in topological([entropy]) if n.op is PARAMETER]
            self.around = steps[-1].attrs["frame"] if steps else None

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _parameter_shape(check: Check, *, shape: Any, **_: Any) -> Any:
    return shape


PARAMETER = Op(
    "parameter", "source", (),
    dtype=lambda check, dtype, **_: dtype,
    shape=_parameter_shape,
    oracle=no_oracle,
    domain=Domain(()),
    cuts="it is an input",
)  # fmt: skip


def parameter(type: TensorType, name: str | None = None, frame: Frame | None = None) -> Tensor:
    """A tensor that stands for what a body is run with."""
    attrs = {"dtype": type.dtype, "shape": type.shape, "frame": frame}
    return make(PARAMETER, (), attrs, name)


def alike(tensor: Tensor) -> Tensor:
    """A parameter of a tensor's type and name."""
    with on_behalf(tensor.node.where, None):
        return parameter(tensor.type, tensor.node.name)


def _is_free(node: Node) -> bool:
    """Whether a node is as well made inside: it takes no operand and little memory."""
    if node.inputs or node.op.family != "source" or node.op.element is None:
        return node.op is CONSTANT and node.attrs["value"].array.size <= 1
    return True


def inner_nodes(
    outputs: Iterable[Tensor], parameters: Sequence[Tensor], written: Iterable[Tensor] = ()
) -> list[Node]:
    """The nodes that `outputs` are made of and that depend on parameters, inputs first.

    So do those that read what is `written` inside, unless they are older than the parameters.
    """
    known, changing = frozenset(parameters), frozenset(written)
    first = parameters[0].node.serial if parameters else 0
    inner: dict[Node, None] = {}
    for node in topological(outputs, known):
        inside = known | changing if node.serial > first else known
        if any(t in inside or t.node in inner for t in node.inputs):
            inner[node] = None
    return list(inner)


def close(
    outputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    frame: Frame | None = None,
    written: Mapping[Tensor, Tensor] | None = None,
) -> tuple[Body, list[Tensor]]:
    """The body that makes `outputs` of `parameters`, and what else it reads: its captures.

    A parameter for each capture stands behind the others. What the body reads of a variable among
    `written` is the parameter that stands for it. Raises ShapeError where a size is computed of
    what changes from step to step, or where a step reads what is inside of a loop of its own.
    """
    _check_sizes(outputs, parameters)
    if frame is not None:
        _check_inside(outputs, parameters, frame)
    inner = _spread_inside(inner_nodes(outputs, parameters, written or ()))
    body, captured = enclose(outputs, inner, parameters, written)
    if frame is not None:
        frame.outputs, frame.parameters = tuple(outputs), tuple(parameters)
        frame.written = dict(written or {})
    return body, captured


def _spread_inside(inner: Sequence[Node]) -> list[Node]:
    """With the broadcasts that are read inside: what is captured is what they broadcast."""
    members = frozenset(inner)
    read = (t.node for node in inner for t in node.inputs if t.node not in members)
    return [*dict.fromkeys(node for node in read if node.op is BROADCAST_TO), *inner]


def enclose(
    outputs: Sequence[Tensor],
    inner: Sequence[Node],
    parameters: Sequence[Tensor] = (),
    replaced: Mapping[Tensor, Tensor] | None = None,
) -> tuple[Body, list[Tensor]]:
    """`close`, where the nodes that come inside are given, inputs first."""
    rewriter = Rewriter(replaced)
    known, members = frozenset((*parameters, *(replaced or ()))), frozenset(inner)
    captured: dict[Tensor, Tensor] = {}
    for tensor in (*(t for node in inner for t in node.inputs), *outputs):
        outside = tensor.node not in members and tensor not in known
        if outside and tensor not in captured and not _is_free(tensor.node):
            captured[tensor] = alike(tensor)
            rewriter.redirect(tensor, captured[tensor])
    for node in inner:
        rewriter.visit(node)
    results = tuple(rewriter.resolve(t) for t in outputs)
    graph = Graph(results, (), (*parameters, *captured.values()))
    return Body(graph), list(captured)


def _check_sizes(outputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    """Raise where a size is computed of what changes from step to step."""
    inside = {t.node for t in parameters}
    first = parameters[0].node.serial if parameters else 0
    for node in topological(outputs, frozenset(parameters)):
        for symbol in elements_of(node) if node.serial > first else ():
            if symbol.source is None:
                continue
            tensor = symbol.source[0]
            if not inside.isdisjoint(topological([tensor])):
                raise ShapeError(
                    "a size inside of a loop must not depend on what the loop computes, got one "
                    f"of {node.op.name} ({node.where}) that is made of {describe(tensor)}"
                )


def _check_inside(outputs: Sequence[Tensor], parameters: Sequence[Tensor], frame: Frame) -> None:
    """Raise where a step reads what a loop of its own has inside: a value for each step of that."""
    for node in topological(outputs, frozenset(parameters)):
        inner = node.attrs["frame"] if node.op is PARAMETER else None
        around = inner.around if inner is not None else None
        while around is not None and around is not frame:
            around = around.around
        if around is not None:
            raise ShapeError(
                "what is inside of a loop must be an output of it to be used in the loop around "
                f"it, got what is made of {describe(outputs_of(node)[0])}"
            )


def settle(check: Check, *inside: Body) -> None:
    """A control node is open while a node in its bodies is."""
    if any(not node.settled for body in inside for node in body.graph.nodes):
        check.settled = False


@contextmanager
def drawing(entropy: Tensor) -> Iterator[None]:
    """Random numbers that are built inside come from `entropy`, those of one step of a loop."""
    token = ENTROPY_OF_STEP.set(entropy)
    try:
        yield
    finally:
        ENTROPY_OF_STEP.reset(token)
