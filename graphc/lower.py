"""From an optimised graph to kernels and a plan, by families, without knowing any op.

Enters: an optimised graph. Leaves: a `Plan` with a kernel for every cluster of nodes (`fuse`), and
a host call for every node whose op has no formula of one element, nor a loop in order (which is a
kernel of its own). Composite ops are expanded first.

A value that is stored is read from its buffer, any other is computed by its readers: its formula
is put in place of the read. Within a kernel, readers of one place share one formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import config
from graphc.build import assuming
from graphc.clustering import Group
from graphc.context import Where
from graphc.demands import counts, reaches, unconditional, with_demands
from graphc.dims import Shape
from graphc.dtypes import Array
from graphc.facts import canonical, element, is_one, loop, significant
from graphc.fuse import Clusters, clusters
from graphc.graph import Graph, Node, Tensor
from graphc.kernel import (
    Axis,
    Buffer,
    Index,
    Kernel,
    Number,
    Source,
    Store,
    axes_over,
    inlined,
    lift,
    read,
    typed,
)
from graphc.lowering import control_step
from graphc.ops.random import ENTROPY
from graphc.ops.source import CONSTANT, VARIABLE
from graphc.passes import LOWERING, optimise, without_collection
from graphc.passes.inside import inside
from graphc.places import reshaped
from graphc.plan import Call, Host, Plan, Step
from graphc.rewriting import rewrite
from graphc.scalar import Kind, Scalar
from graphc.show import Naming
from graphc.types import TensorType

MOST_NAMES = 5  # of ops in the name of a kernel


def expanded(graph: Graph) -> Graph:
    """The graph without composites: each is the composition that it stands for.

    Then, the forms that kernels are made of, shared parts once: `passes.LOWERING`.
    """

    def rule(node: Node) -> Any:
        if node.op.expand is None:
            return None
        return node.op.expand(*node.inputs, **node.attrs)

    def expand(part: Graph) -> Graph:
        while any(node.op.expand is not None for node in part.nodes):
            part = rewrite(part, rule)
        return inside(part, expand)

    with assuming(None):
        graph = expand(graph)
        return optimise(graph, pipeline=LOWERING)


def literal(tensor: Tensor) -> Number | None:
    """The value of a constant with a single element."""
    if tensor.node.op is not CONSTANT:
        return None
    array: Array = tensor.node.attrs["value"].array
    return array.item() if array.size == 1 else None  # type: ignore[no-any-return]


class _Buffers:
    """The buffers of one graph, one for each tensor that has one; `around` are those outside."""

    def __init__(self, graph: Graph, around: _Buffers | None = None) -> None:
        self.naming: Naming = Naming() if around is None else around.naming
        self.known: dict[tuple[Node, int], Buffer] = {}
        self.fed = {(t.node, t.index) for t in graph.inputs}
        self.constants: dict[Buffer, Array] = {} if around is None else around.constants

    def inside(self, graph: Graph) -> _Buffers:
        """The buffers of a body."""
        return _Buffers(graph, self)

    def bind(self, tensor: Tensor, buffer: Buffer) -> None:
        """Let a tensor have a buffer that exists."""
        self.known[tensor.node, tensor.index] = buffer

    def fresh(self, type: TensorType, name: str) -> Buffer:
        """A buffer that no tensor has."""
        return Buffer(type, self.naming.unique(name))

    def buffer(self, node: Node, index: int, type: TensorType) -> Buffer:
        """The buffer of an output."""
        key = (node, index)
        if key not in self.known:
            name = self.naming.node(node) + (f".{index}" if len(node.types) > 1 else "")
            buffer = self.known[key] = Buffer(type, name)
            if node.op is CONSTANT and key not in self.fed:
                self.constants[buffer] = node.attrs["value"].array
        return self.known[key]

    def of(self, tensor: Tensor) -> Buffer:
        """The buffer of a tensor."""
        return self.buffer(tensor.node, tensor.index, tensor.type)


class _KernelMaker:
    """The formulas of one group."""

    def __init__(self, group: Group, found: Clusters, buffers: _Buffers) -> None:
        self.group = group
        self.stored = found.stored
        self.buffers = buffers
        self.axes = tuple(Axis(size) for size in significant(group.space))
        self.members = set(group.members)
        self.kinds: dict[Scalar, Kind] = {}
        self.sources: dict[tuple[Node, int], Source] = {}
        self.indices: dict[Any, Index] = {}  # one for all members of a shape: they share formulas

    def kernel(self) -> Kernel:
        """The kernel that fills the buffers of the group's stored nodes."""
        if self.group.kind == "ordered":
            return self.in_order(self.group.members[0])
        stores: list[Store] = []
        made_of = self.made_of()
        for node in self.group.members:
            if node not in made_of:
                continue
            index = self.index(node)
            values = [self.source_of(node, i)(*index) for i in range(len(node.types))]
            if node in self.stored:
                for i, value in enumerate(values):
                    buffer = self.buffers.buffer(node, i, node.types[i])
                    stores.append(Store(buffer, index, value))
        used = {axis for store in stores for axis in store.axes()}
        axes = tuple(axis for axis in self.axes if axis in used)
        members = [node for node in self.group.members if node in made_of]
        return Kernel(_name(members), axes, tuple(stores), self.lines(made_of))

    def lines(self, made_of: Iterable[Node]) -> tuple[Where, ...]:
        """The user's lines of some nodes."""
        nodes = sorted(made_of, key=lambda node: node.serial)
        return tuple(dict.fromkeys(node.where for node in nodes if node.where is not None))

    def in_order(self, node: Node) -> Kernel:
        """The kernel of a loop in order."""
        type, result = node.types[0], self.buffers.buffer(node, 0, node.types[0])
        found = loop(node, _settled(read(result)), [self.source(t) for t in node.inputs])
        stores, axes = [], found.axes
        if found.first is not None:
            assert type.shape is not None
            cells, index = axes_over(type.shape)
            stores.append(Store(result, index, typed(found.first(index), type.dtype, self.kinds)))
            axes = (*cells, *axes)
        value = typed(found.value, type.dtype, self.kinds)
        stores.append(Store(result, canonical(found.index), value, ordered=True))
        lines = self.lines(self.made_of())
        return Kernel(_name([node]), axes, tuple(stores), lines, found.order)

    def made_of(self) -> set[Node]:
        """The nodes whose formulas the stored ones are made of, views and all."""
        stack = [node for node in self.group.members if node in self.stored]
        found: set[Node] = set()
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += [
                    t.node
                    for t in node.inputs
                    if not self.is_buffer(t.node, (t.node, t.index)) and literal(t) is None
                ]
        return found

    def index(self, node: Node) -> Index:
        """Where the group's loops stand in what a member computes."""
        key = node.types[0].shape, self.group.roles[node]
        if key not in self.indices:
            self.indices[key] = self.made_index(*key)
        return self.indices[key]

    def made_index(self, shape: Shape | None, role: str) -> Index:
        """The index of what has a shape, and one value for each point, or for each row."""
        assert shape is not None
        axes = self.axes[: len(self.axes) - (self.group.inner if role == "row" else 0)]
        positions = [axis.position for axis in axes]
        if significant(shape) == tuple(axis.extent for axis in axes):
            left = iter(positions)
            return tuple([lift(0) if is_one(size) else next(left) for size in shape])
        return canonical(reshaped(tuple(positions), significant(self.group.space), shape))

    def source(self, tensor: Tensor) -> Source:
        """A tensor as an operand of a formula."""
        node = tensor.node
        key = (node, tensor.index)
        if key not in self.sources:
            number = None if key in self.buffers.fed else literal(tensor)
            if number is not None:
                self.sources[key] = inlined(tensor.type, lambda _: lift(number), self.kinds)
            elif self.is_buffer(node, key):
                self.sources[key] = _settled(read(self.buffers.of(tensor)))
            else:
                return self.source_of(node, tensor.index)
        return self.sources[key]

    def operand(self, node: Node, tensor: Tensor) -> Source:
        """An operand of a node; what it may look into at data is memory, also a single number."""
        if node.op.family == "opaque" and literal(tensor) is not None:
            return _settled(read(self.buffers.of(tensor)))
        return self.source(tensor)

    def is_buffer(self, node: Node, key: tuple[Node, int]) -> bool:
        """Whether an operand is read from memory."""
        if key in self.buffers.fed or node.op.element is None:
            return True
        return node in self.stored and node not in self.members

    def source_of(self, node: Node, i: int) -> Source:
        """What a node of this kernel computes, as an operand."""
        key = (node, i)
        if key not in self.sources:
            operands = [self.operand(node, t) for t in node.inputs]
            self.sources[key] = _settled(
                inlined(node.types[i], lambda at: element(node, operands, at)[i], self.kinds)
            )
        return self.sources[key]


def _settled(source: Source) -> Source:
    """The source, asked with indices in their simplest form."""
    return Source(
        source.type,
        lambda index: source.at(canonical(index)),
        lambda index, outside: source.inside(canonical(index), outside),
    )


def _name(nodes: Sequence[Node]) -> str:
    """The ops that compute something, in their order."""
    ops = dict.fromkeys(n.op.name for n in nodes if n.op.family != "view" and n.inputs)
    names = list(ops) or [nodes[-1].op.name]
    more = "..." if len(names) > MOST_NAMES else ""
    return "+".join(names[:MOST_NAMES]) + more


@dataclass(frozen=True, slots=True)
class Inside:
    """A body of a loop, or a side of a branch, as its steps were made of it."""

    graph: Graph
    parts: tuple[Parts, ...]
    buffers: Mapping[tuple[Node, int], Buffer]


@dataclass(frozen=True, slots=True)
class Parts:
    """What one step is made of: the nodes that it computes, views and all, and its bodies."""

    nodes: frozenset[Node]
    inside: tuple[Inside, ...] = ()


@dataclass(frozen=True, slots=True)
class Lowered:
    """A plan, and where it comes from: for those who show it."""

    graph: Graph  # without composites
    plan: Plan
    parts: tuple[Parts, ...]  # of each step
    buffers: Mapping[tuple[Node, int], Buffer]  # of the outputs that have one
    naming: Naming  # that has named the buffers
    device: str = ""  # where it runs, for those who say so


def _step(group: Group, found: Clusters, buffers: _Buffers, fused: bool) -> tuple[Step, Parts]:
    members = frozenset(group.members)
    if group.kind != "host":
        maker = _KernelMaker(group, found, buffers)
        return Call(maker.kernel()), Parts(frozenset(maker.made_of()))
    [node] = group.members
    if node.op.family == "control":
        bodies: list[Inside] = []

        def inner_steps(graph: Graph, inner: _Buffers) -> tuple[Step, ...]:
            steps, parts = _steps(graph, inner, fused)
            bodies.append(Inside(graph, parts, inner.known))
            return steps

        made = control_step(node, buffers, inner_steps)
        return made, Parts(members, tuple(bodies))
    outputs = [buffers.buffer(node, i, type) for i, type in enumerate(node.types)]
    return Host(node, tuple(map(buffers.of, node.inputs)), tuple(outputs)), Parts(members)


def _steps(
    graph: Graph, buffers: _Buffers, fused: bool
) -> tuple[tuple[Step, ...], tuple[Parts, ...]]:
    """The steps of a graph, and what each is made of."""
    found = clusters(graph, fused)
    made = [_step(group, found, buffers, fused) for group in found.groups]
    return tuple(step for step, _ in made), tuple(parts for _, parts in made)


@without_collection()
def lowered(graph: Graph, fused: bool = True) -> Lowered:
    """The plan of a graph; without fusion (or with GRAPHC_SKIP=fuse) each node has a kernel."""
    plain, graph = list(unconditional(graph)), expanded(with_demands(graph))
    fused = fused and "fuse" not in config.skipped_passes()
    buffers = _Buffers(graph)
    inputs = tuple(map(buffers.of, graph.inputs))
    fed = {t.node for t in graph.inputs}
    nodes = [node for node in graph.nodes if node not in fed]
    variables = [(n, buffers.buffer(n, 0, n.types[0])) for n in nodes if n.op is VARIABLE]
    entropy = [buffers.buffer(n, 0, n.types[0]) for n in nodes if n.op is ENTROPY]
    steps, parts = _steps(graph, buffers, fused)
    roots = tuple(map(buffers.of, graph.roots))
    constants = tuple(buffers.constants.items())
    plan = Plan(
        inputs, tuple(variables), tuple(entropy), steps, roots,
        constants=constants,
        demands=(*reaches(n for n in plain if n not in fed), *counts(unconditional(graph))),
    )  # fmt: skip
    return Lowered(graph, plan, parts, buffers.known, buffers.naming)


def lower(graph: Graph, fused: bool = True) -> Plan:
    """The plan of a graph, as `lowered` makes it."""
    return lowered(graph, fused).plan
