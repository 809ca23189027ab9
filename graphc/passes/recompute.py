"""Computing forward values again: what gradient rules read in the place of values that are kept.

Enters: the forward nodes of one gradient, each with its `Segment` (or none: its values are kept).
Leaves: for a tensor and the segment that reads it, the tensor to read: a copy of its node where it
is of that segment, else the tensor itself. Copies begin behind a `recompute` barrier, which waits
for the cotangent that reached the segment first: they can run only once the backward pass is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphc.build import ASSUMPTIONS
from graphc.context import Scope
from graphc.dims import Dim, Symbol, evaluate, product
from graphc.graph import Node, Tensor, outputs_of
from graphc.ops.random import ENTROPY
from graphc.ops.recompute import barrier
from graphc.ops.source import PLACEHOLDER, VARIABLE
from graphc.passes.merge_common import repeats

NOMINAL = 64  # what an unknown size counts as
BROUGHT = frozenset({PLACEHOLDER, VARIABLE, ENTROPY})  # sources whose values a run brings


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Nodes that are computed again together; `outer` holds it, where checkpoints nest."""

    outer: Segment | None = None


Homes: TypeAlias = Mapping[Node, Segment]


def bytes_of(tensor: Tensor) -> int:
    """The size of a value: in the run that is compiled, as far as that is known."""
    assumptions = ASSUMPTIONS.get()
    sizes: Mapping[Symbol, int] = {} if assumptions is None else assumptions.sizes
    count = product(tensor.shape or ())
    if isinstance(count, Dim):
        known = {symbol: sizes.get(symbol, NOMINAL) for symbol in count.symbols()}
        count = max(0, evaluate(count, known))
    return count * tensor.dtype.itemsize


def is_computed(node: Node) -> bool:
    """Whether a node may be computed twice: sources need not, prints and users' code must not."""
    return bool(node.inputs) and node.op.family != "source" and repeats(node.op)


def checkpoints(nodes: Iterable[Node]) -> dict[Node, Segment]:
    """The segments that `checkpoint` has marked: one for each region that it opened."""
    segments: dict[Scope, Segment] = {}
    homes: dict[Node, Segment] = {}
    for node in nodes:
        region = None if node.scope is None else node.scope.region
        if region is not None and is_computed(node):
            homes[node] = _segment(region, segments)
    return homes


def _segment(region: Scope, segments: dict[Scope, Segment]) -> Segment:
    """The segment of a region, and of those around it, from the outside in."""
    missing = []
    around: Scope | None = region
    while around is not None and around not in segments:
        missing.append(around)
        around = None if around.parent is None else around.parent.region
    segment = None if around is None else segments[around]
    for inner in reversed(missing):
        segment = segments[inner] = Segment(segment)
    assert segment is not None
    return segment


class Constants:
    """Which nodes hold what is known before a run: nothing would be gained by waiting for them."""

    def __init__(self) -> None:
        self._known: dict[Node, bool] = {}

    def __call__(self, node: Node) -> bool:
        """Whether no run changes the values of a node."""
        known, stack = self._known, [node]
        while stack:
            current = stack[-1]
            if current in known:
                stack.pop()
                continue
            waiting = [t.node for t in current.inputs if t.node not in known]
            if waiting:
                stack += waiting
                continue
            known[current] = current.op not in BROUGHT and all(
                known[t.node] for t in current.inputs
            )
            stack.pop()
        return known[node]


class Recomputation:
    """The copies that one gradient reads.

    `ends` are what is differentiated: no copy is made before they are. `scope_of` gives the scope
    of the copy of a node.
    """

    def __init__(
        self,
        homes: Homes,
        ends: Sequence[Tensor],
        scope_of: Callable[[Scope | None], Scope],
    ) -> None:
        self.homes = homes
        self._ends = ends
        self._scope_of = scope_of
        self._constant = Constants()
        self._after: dict[Segment, tuple[Tensor, ...]] = {}
        self._copies: dict[tuple[Segment, Node], Sequence[Tensor]] = {}
        self._held: dict[tuple[Segment, Node, int], Tensor] = {}

    def start(self, segment: Segment, cotangents: Iterable[Tensor | None]) -> None:
        """The backward pass has got to a node of a segment, with these cotangents."""
        if segment in self._after:
            return
        found = [t for t in (*cotangents, *self._ends) if t is not None]
        after = tuple(t for t in dict.fromkeys(found) if not self._constant(t.node))
        around: Segment | None = segment
        while around is not None:
            self._after.setdefault(around, after)
            around = around.outer

    def value(self, tensor: Tensor, segment: Segment) -> Tensor:
        """What a gradient rule of a segment's node reads for a forward tensor."""
        if not self._inside(tensor.node, segment):
            return self._outside(tensor, segment)
        stack = [tensor.node]
        while stack:
            node = stack[-1]
            if (segment, node) in self._copies:
                stack.pop()
                continue
            waiting = [
                t.node
                for t in node.inputs
                if (segment, t.node) not in self._copies and self._inside(t.node, segment)
            ]
            if waiting:
                stack += waiting
                continue
            stack.pop()
            self._copies[segment, node] = self._copy(node, segment)
        return self._copies[segment, tensor.node][tensor.index]

    def _inside(self, node: Node, segment: Segment) -> bool:
        home = self.homes.get(node)
        while home is not None and home is not segment:
            home = home.outer
        return home is not None

    def _outside(self, tensor: Tensor, segment: Segment) -> Tensor:
        """A tensor from outside of a segment: it is kept, or a copy of the segment around."""
        return tensor if segment.outer is None else self.value(tensor, segment.outer)

    def _behind(self, tensor: Tensor, segment: Segment) -> Tensor:
        """A tensor from outside of a segment, behind a barrier."""
        key = (segment, tensor.node, tensor.index)
        if key not in self._held:
            source = self._outside(tensor, segment)
            self._held[key] = barrier(source, self._after[segment])
        return self._held[key]

    def _copy(self, node: Node, segment: Segment) -> Sequence[Tensor]:
        """A node again, over copies; itself where it is made of constants alone.

        Where none of its inputs is a copy, the smallest goes behind a barrier: that is enough.
        """
        inputs, copied = [], False
        for tensor in node.inputs:
            copies = self._copies.get((segment, tensor.node))
            inputs.append(
                self._outside(tensor, segment) if copies is None else copies[tensor.index]
            )
            copied = copied or (copies is not None and copies[tensor.index].node is not tensor.node)
        if not copied:
            brought = [i for i, t in enumerate(node.inputs) if not self._constant(t.node)]
            if not brought:
                return outputs_of(node)
            smallest = min(brought, key=lambda i: bytes_of(node.inputs[i]))
            inputs[smallest] = self._behind(node.inputs[smallest], segment)
        scope = self._scope_of(node.scope)
        copy = Node(
            node.op, tuple(inputs), node.attrs, node.types, node.name, scope, node.where,
            node.settled, node.typed,
        )  # fmt: skip
        return outputs_of(copy)
