"""The graph: typed, pure, frozen. Knows no op; an op is a record that says what its nodes mean.

There is no default graph and no registration: a `Graph` is what its outputs reach. `build.make`
makes one node, after the op's type rule has accepted the operands; `rewriting.rewrite` maps a graph
to a new one. Nothing here recurses, so depth is bounded by memory alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from graphc import lazy
from graphc.context import Scope, Where
from graphc.dims import Shape
from graphc.dtypes import DType
from graphc.symbolic import Symbolic
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.typing import Operators
else:
    Operators = object

networkx = lazy.Module("networkx")
Attrs: TypeAlias = dict[str, Any]
_serials = itertools.count()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Op:
    """One operation: everything that graphc knows about it, in one record.

    `dtype(check, *types, **attrs)` and `shape(check, *types, **attrs)` are its type rule; `shape`
    is asked only where every rank is known. `oracle(*arrays, **attrs)` is its meaning, in NumPy.
    `vjp(g, y, *xs, **attrs)` gives the cotangents of its inputs (None: none flows), where `y` is
    its own output; both are tuples where it has several outputs. `element` is the formula of one
    output element, `expand(*xs, **attrs)` its composition of simpler ops; where elements need
    each other, `loop(y, *xs, **attrs)` is the loop in order that fills `y`. `build` turns tensors
    and attributes into canonical nodes (broadcast, promoted, axes counted from the front); it is
    run again when more is known of the types. `cuts` says why no gradient passes.
    """

    name: str
    family: str
    params: tuple[str, ...]
    dtype: Callable[..., Any]
    shape: Callable[..., Any]
    oracle: Callable[..., Any]
    build: Callable[..., Any] | None = None
    vjp: Callable[..., Any] | None = None
    element: Callable[..., Any] | None = None
    expand: Callable[..., Any] | None = None
    loop: Callable[..., Any] | None = None
    domain: Any = None
    cuts: str = ""
    outputs: Callable[..., int] | int | None = None  # None: one tensor, not a tuple
    rankless: Callable[..., Any] | None = None  # (**attrs) -> the shape, where no rank is needed

    def __repr__(self) -> str:
        return f"<op {self.name}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Node:
    """One application of an op. Frozen, compared by identity.

    `settled` is False where the types left a question open (an unknown rank, two sizes that may or
    may not be equal); `specialise` builds such a node again once the answer is known. `typed` is
    True where the op's rule has given the types; `verify` asks it for the others.
    """

    op: Op
    inputs: tuple[Tensor, ...]
    attrs: Attrs
    types: tuple[TensorType, ...]
    name: str | None
    scope: Scope | None
    where: Where
    settled: bool
    typed: bool = False
    serial: int = field(default_factory=_serials.__next__)

    def __repr__(self) -> str:
        return f"<node {self.label} at {self.where}>"

    @property
    def label(self) -> str:
        """Its name in its scope, `encoder/layer/matmul`; the op's name where it has none."""
        name = self.name or self.op.name
        return name if self.scope is None else self.scope.label(name)

    def with_inputs(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs of this node over other inputs of the same types."""
        typed = self.typed
        for new, old in zip(inputs, self.inputs, strict=True):
            if new.type is not old.type and new.type != old.type:
                typed = False
        node = Node(
            self.op, inputs, self.attrs, self.types, self.name, self.scope, self.where,
            self.settled, typed,
        )  # fmt: skip
        return outputs_of(node)


class Tensor(Symbolic, Operators):
    """One output of a node: a symbolic array. Hashed and compared by identity."""

    __slots__ = ("__dict__", "__weakref__", "index", "node", "type")

    def __init__(self, node: Node, index: int, type: TensorType) -> None:
        self.node = node
        self.index = index
        self.type = type

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def shape(self) -> Shape | None:
        """The dimensions, ints or symbols; None where the rank is unknown."""
        return self.type.shape

    @property
    def ndim(self) -> int | None:
        """The rank, or None where it is unknown."""
        return None if self.type.shape is None else len(self.type.shape)

    @property
    def name(self) -> str:
        """The label, with its scopes; made unique only when shown."""
        return self.node.label if self.index == 0 else f"{self.node.label}:{self.index}"

    def __repr__(self) -> str:
        return f"<{self.node.op.name} {self.name!r}: {self.type} at {self.node.where}>"


def outputs_of(node: Node) -> tuple[Tensor, ...]:
    """Fresh tensors for all outputs of a new node."""
    types = node.types
    if len(types) == 1:
        return (Tensor(node, 0, types[0]),)
    return tuple([Tensor(node, index, type) for index, type in enumerate(types)])


@dataclass(frozen=True, eq=False)
class Graph:
    """What some outputs and updates reach, down to `inputs`: tensors that a run feeds.

    `updates` pairs variables with the values that a run will write to them. `order`, where a pass
    has given one, lists all nodes as they are to be run.
    """

    outputs: tuple[Tensor, ...]
    updates: tuple[tuple[Tensor, Tensor], ...] = ()
    inputs: tuple[Tensor, ...] = ()
    order: tuple[Node, ...] = ()

    @property
    def roots(self) -> tuple[Tensor, ...]:
        """Outputs, then the values of the updates."""
        return self.outputs + tuple(value for _, value in self.updates)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, each after the nodes that it reads."""
        return self.order or tuple(topological(self.roots, frozenset(self.inputs)))

    def with_roots(self, roots: Sequence[Tensor], inputs: Sequence[Tensor] | None = None) -> Graph:
        """The graph with other outputs and update values, in the order of `roots`."""
        count = len(self.outputs)
        updates = zip((v for v, _ in self.updates), roots[count:], strict=True)
        kept = self.inputs if inputs is None else tuple(inputs)
        return Graph(tuple(roots[:count]), tuple(updates), kept)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that is read or fetched, once."""
        read = itertools.chain.from_iterable(node.inputs for node in self.nodes)
        yield from dict.fromkeys(itertools.chain(read, self.roots))

    def to_networkx(self) -> Any:
        """Nodes as vertices, tensors as edges (with `tensor`, and `operand`, its place)."""
        graph = networkx.MultiDiGraph()
        graph.add_nodes_from(self.nodes)
        members = set(self.nodes)
        for node in self.nodes:
            for operand, tensor in enumerate(node.inputs):
                if tensor.node in members:
                    graph.add_edge(tensor.node, node, tensor=tensor, operand=operand)
        return graph


@dataclass(frozen=True, eq=False)
class Body:
    """A graph inside of a control node, one of its attributes: what a loop or a branch does.

    The graph's inputs are parameters; it reads nothing else. Compared by identity.
    """

    graph: Graph

    def __repr__(self) -> str:
        return f"<body of {len(self.graph.nodes)} nodes>"


def bodies(node: Node) -> dict[str, Body]:
    """The graphs inside of a node, by the names of their attributes."""
    if node.op.family != "control":
        return {}
    return {name: value for name, value in node.attrs.items() if isinstance(value, Body)}


def nested(graph: Graph) -> Iterator[Node]:
    """All nodes, and those of the graphs inside of them."""
    for node in graph.nodes:
        yield node
        for body in bodies(node).values():
            yield from nested(body.graph)


def topological(
    roots: Iterable[Tensor], stops: frozenset[Tensor] | set[Tensor] = frozenset()
) -> list[Node]:
    """The nodes that `roots` reach without passing through `stops`, inputs first."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        if root.node in seen or root in stops:
            continue
        seen.add(root.node)
        path, waiting = [root.node], [iter(root.node.inputs)]
        while path:
            for tensor in waiting[-1]:
                node = tensor.node
                if node not in seen and tensor not in stops:
                    seen.add(node)
                    path.append(node)
                    waiting.append(iter(node.inputs))
                    break
            else:
                order.append(path.pop())
                waiting.pop()
    return order
