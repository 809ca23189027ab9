"""Fetching what is inside of loops: stacked over the steps.

Enters: a graph, some of whose outputs are made of the parameters of a loop's body (a function that
was given to `scan` or `while_loop` has let them out). Leaves: the same, where each of those is an
output of its loop, one row a step; in nested loops, a row of rows. The loop with more outputs takes
the place of the one that was built, so nothing runs twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphc.build import describe, make_all
from graphc.context import on_behalf
from graphc.errors import FetchError
from graphc.graph import Graph, Node, Tensor, outputs_of, topological
from graphc.ops.bodies import PARAMETER, Frame, close
from graphc.ops.follow import as_dimension
from graphc.ops.loop import ENDLESS, LOOP
from graphc.ops.slicing import along
from graphc.rewriting import Rewriter


def lifted(graph: Graph) -> Graph:
    """The graph whose outputs are stacked where they are inside of loops.

    Of a loop that ends by a condition, there are as many rows as steps; where it is itself inside
    of another one, as many as it may have at most, zeros behind those that it has.

    Raises FetchError for what is inside of a loop that was never built, or of two loops at once.
    """
    if not any(node.op is PARAMETER for node in graph.nodes):
        return graph
    world = _World(graph)
    while (frame := world.innermost()) is not None:
        world.lift(frame)
    return graph.with_roots(world.roots)


@dataclass
class _Loop:
    """A loop whose parameters were met: its node, and what its body makes, as they are now."""

    outputs: Sequence[Tensor]  # of the node
    results: Sequence[Tensor]  # of the body, as the user's function built them

    @property
    def node(self) -> Node:
        """The control node."""
        return self.outputs[0].node


class _World:
    """The fetches, and the loops that they are inside of, while they are rewritten together."""

    def __init__(self, graph: Graph) -> None:
        self._fed = frozenset(graph.inputs)
        self._count = len(graph.outputs)
        self.roots = list(graph.roots)
        self._loops: dict[Frame, _Loop] = {}

    def _frames(self, roots: Iterable[Tensor]) -> dict[Frame, Tensor]:
        """The loops that some tensors are inside of, each with a parameter."""
        found = {}
        for node in topological(roots, self._fed):
            if node.op is PARAMETER:
                tensor = outputs_of(node)[0]
                found[self._known(tensor)] = tensor
        return found

    def _known(self, parameter: Tensor) -> Frame:
        frame = parameter.node.attrs["frame"]
        if frame is None or frame.node is None:
            raise FetchError(
                "run: what is inside of a loop is fetched as an output of that loop, and this one "
                f"was not completed: {describe(parameter)}"
            )
        if parameter.node not in {t.node for t in frame.parameters}:
            raise FetchError(
                f"run: {frame} has called its function again, for another dtype of a state: fetch "
                f"what the last call made, not what is made of {describe(parameter)}"
            )
        if frame not in self._loops:
            self._loops[frame] = _Loop(outputs_of(frame.node), frame.outputs)
        assert isinstance(frame, Frame)
        return frame

    def innermost(self) -> Frame | None:
        """A loop that fetches are inside of, but no other one of their loops; None at the end."""
        inside = self._frames(self.roots[: self._count])
        if self._frames(self.roots[self._count :]):
            raise FetchError("run: an update must not read what is inside of a loop")
        for frame in inside:
            if all(frame not in around(other) for other in inside if other is not frame):
                return frame
        return None

    def lift(self, frame: Frame) -> None:
        """Make what is inside of a loop outputs of it."""
        numbers = []
        for i, root in enumerate(self.roots[: self._count]):
            frames = self._frames([root])
            if frame in frames:
                self._check(root, frame, frames)
                numbers.append(i)
        loop = self._loops.pop(frame)
        wanted = list(dict.fromkeys(self.roots[i] for i in numbers))
        nested = bool(self._frames(loop.outputs))
        made = _with_rows(frame, loop, wanted, nested)
        stacks = dict(zip(wanted, _stacks(loop.node, made, wanted, nested), strict=True))
        for i in numbers:
            self.roots[i] = stacks[self.roots[i]]
        self._replace(loop.node, made)

    def _check(self, root: Tensor, frame: Frame, frames: Iterable[Frame]) -> None:
        for other in frames:
            if other is not frame and other not in around(frame):
                raise FetchError(
                    f"run: a fetch must not be made of what is inside of two loops, neither of "
                    f"which is inside of the other, got {describe(root)}: {frame}, {other}"
                )

    def _replace(self, node: Node, made: Sequence[Tensor]) -> None:
        """Let the loop with more outputs stand for the one before, in all that is kept here."""
        if node in topological(made[0].node.inputs, self._fed):
            return  # a fetch beside its own loop's results: both run
        old = len(node.types) - node.attrs["guarded"]
        stands = [*made[:old], *([made[-1]] if node.attrs["guarded"] else [])]
        kept = [t for loop in self._loops.values() for t in (*loop.outputs, *loop.results)]
        rewriter = Rewriter({t: t for t in self._fed})
        for each in topological([*self.roots, *kept], self._fed):
            if each is node:
                rewriter.replace(node, stands)
            else:
                rewriter.visit(each)
        self.roots = [rewriter.resolve(t) for t in self.roots]
        for loop in self._loops.values():
            loop.outputs = [rewriter.resolve(t) for t in loop.outputs]
            loop.results = [rewriter.resolve(t) for t in loop.results]


def around(frame: Frame) -> set[Frame]:
    """The loops that a loop is inside of."""
    found: set[Frame] = set()
    outer = frame.around
    while outer is not None:
        found.add(outer)
        outer = outer.around
    return found


def _with_rows(
    frame: Frame, loop: _Loop, wanted: Sequence[Tensor], nested: bool
) -> tuple[Tensor, ...]:
    """The outputs of the loop that stacks what is wanted, behind its other stacks."""
    node = loop.node
    attrs = node.attrs
    length = attrs["length"]
    if length == ENDLESS:
        if nested:
            raise FetchError(
                f"run: a while_loop inside of another loop must have max_steps to fetch what is "
                f"inside of it, got none: {describe(loop.outputs[0])}"
            )
        length = as_dimension(loop.outputs[-1])
    with on_behalf(node.where, node.scope):
        body, captured = close([*loop.results, *wanted], frame.parameters, None, frame.written)
        own = node.inputs[: len(attrs["reads"]) + attrs["states"]]
        writes = (*attrs["writes"], *(((0, 1),) * len(wanted)))
        attrs = {**attrs, "body": body, "length": length, "writes": writes}
        return make_all(LOOP, (*own, *captured), attrs, node.name)


def _stacks(
    node: Node, made: Sequence[Tensor], wanted: Sequence[Tensor], nested: bool
) -> list[Tensor]:
    """What is wanted, a row for each step that was made."""
    guarded = node.attrs["guarded"]
    last = len(made) - guarded
    stacks = list(made[last - len(wanted) : last])
    if not guarded or nested:
        return stacks
    count = as_dimension(outputs_of(node)[-1])
    with on_behalf(node.where, node.scope):
        return [along(stack, 0, 0, count) for stack in stacks]
