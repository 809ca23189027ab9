"""Groups of nodes that share a loop nest, as they grow along a graph.

Enters: a graph without composites. Leaves: `Clustering`: each node with a formula in a group, or
looked through by its readers (views, numbers). Groups are joined going through the nodes in order.
Levels keep them free of cycles: a group stands above all groups that it reads. So what stands no
higher than a group cannot read it, and the group may rise above that, with all that read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.dims import Shape, product
from graphc.facts import (
    Facts,
    KnownFacts,
    Read,
    canonical,
    element,
    facts_in_order,
    facts_of,
    goes,
    in_order,
    significant,
    unseen,
)
from graphc.graph import Graph, Node, Tensor
from graphc.kernel import Index, Number, Source, guarded, typed
from graphc.scalar import Scalar

MOST_MEMBERS = 48  # of a group: what LLVM compiles quickly
MOST_READS = 32  # different tensors that a group reads
MOST_VIEWS = 16  # through which an operand is read
CHEAP = 4  # element operations: less are rather done twice than stored
TRIVIAL = 16  # for what is made of numbers alone
MOST_COST = 400  # of all formulas of a group
MOST_RAISED = 64  # groups that rise when one does
PREFERRED = {"product": 2, "row": 1}  # to join, of groups of one level


@dataclass(slots=True, eq=False)
class Group:
    """Nodes that one kernel computes. `roles` are "full", or "row": one value for each row."""

    kind: str  # map, row, reduce, product, ordered, host
    space: Shape
    inner: int
    level: int
    members: list[Node] = field(default_factory=list)
    roles: dict[Node, str] = field(default_factory=dict)
    reads: set[Tensor] = field(default_factory=set)
    cost: int = 0
    readers: dict[Group, None] = field(default_factory=dict)  # the groups that read it
    heavy: bool = False  # too costly to be computed in several passes over a row
    given_up: bool = False  # its readers compute it

    @property
    def outer(self) -> Shape:
        """The sizes of what a row group stores once a row."""
        significant_space = significant(self.space)
        return significant_space[: len(significant_space) - self.inner]


def _is_trivial(facts: Facts) -> bool:
    """Whether a value is a number, or made of numbers alone, and costs next to nothing."""
    return (
        facts.kind == "map"
        and facts.cost <= TRIVIAL
        and all(not significant(r.tensor.shape or ()) for r in facts.reads)
    )


class Clustering:
    """The groups as they grow."""

    def __init__(self, graph: Graph, fused: bool) -> None:
        self.graph = graph
        self.fed = {t.node for t in graph.inputs}
        self.nodes = [n for n in graph.nodes if n not in self.fed]
        self.facts: dict[Node, Facts] = {}
        self.views: dict[Node, int] = {}  # how many views lie behind
        self.fused = fused
        self.needed = {t.node for t in graph.roots} if fused else set(self.nodes)
        self._need()
        self.known = KnownFacts()
        self.group_of: dict[Node, Group] = {}
        self.groups: list[Group] = []
        for node in self.nodes:
            self.add(node)

    def _need(self) -> None:
        """Note what host calls read, and what is looked into at indices that are data."""
        numbers: set[Node] = set()  # and what is made of them alone
        for node in self.nodes:
            if node.op.element is None and node.op.loop is None:
                self.needed |= {t.node for t in node.inputs}
            elif node.op.element is not None and all(t.node in numbers for t in node.inputs):
                numbers.add(node)
            self.needed |= {n for n in unseen(node, numbers) if n not in self.fed}

    # ------------------------------------------------------------------ reading through views

    def trace(self, tensor: Tensor) -> Source:
        """A tensor as an operand: a read of the node that really computes it."""
        node = tensor.node

        def at(index: Index) -> Scalar:
            index = canonical(index)
            if node not in self.views:
                return Scalar("read", index, (tensor, None))
            value = element(node, [self.trace(t) for t in node.inputs], index)[0]
            return value if value.primitive == "read" else typed(value, tensor.dtype)

        def inside(index: Index, outside: Number) -> Scalar:
            if node in self.views:
                return guarded(at(index))  # what it reads is all that counts here
            return Scalar("read", index, (tensor, outside))

        return Source(tensor.type, at, inside)

    def is_given(self, tensor: Tensor) -> bool:
        """Whether no kernel computes it."""
        return tensor.node not in self.group_of

    # ------------------------------------------------------------------ growing groups

    def add(self, node: Node) -> None:
        """Put a node into a group, or make it a view that is read through."""
        if node.op.loop is not None:
            facts = self.facts[node] = facts_in_order(node, self.trace)
            self._start(node, "ordered", (), facts.reads)
            return
        if node.op.element is None:
            if node.inputs or node.op.family != "source":
                self._start(node, "host", (), [Read(t, None, ()) for t in node.inputs])
            return
        facts = self.facts[node] = self.known.of(node, self.views, self.trace)
        if node not in self.needed and (facts.kind == "view" or _is_trivial(facts)):
            depth = 1 + max((self.views.get(t.node, 0) for t in node.inputs), default=0)
            if depth < MOST_VIEWS:
                self.views[node] = depth
                return
        if facts.kind == "product" and (computed := self._computed_operands(node)):
            for other in computed:
                del self.views[other]
                self._begin(other, self.facts[other])
            facts = self.facts[node] = facts_of(node, self.trace)
        if self.fused and facts.kind in ("map", "view", "row"):
            for group in self._candidates(facts):
                if (role := self._role(node, facts, group)) and self._fits(facts, group):
                    self._join(node, facts, group, role)
                    return
        self._begin(node, facts)

    def _begin(self, node: Node, facts: Facts) -> None:
        """A group for a node with a formula."""
        kind = {"opaque": "map", "view": "map"}.get(facts.kind, facts.kind)
        group = self._start(node, kind, facts.space, facts.reads)
        group.inner = facts.inner if kind == "row" else 0
        group.roles[node] = "row" if kind == "row" else "full"
        group.cost, group.heavy = facts.cost, facts.kind == "opaque" and facts.cost > CHEAP

    def _computed_operands(self, node: Node) -> list[Node]:
        """What a product would compute again and again: it must read memory."""
        found: list[Node] = []
        stack = [t.node for t in node.inputs]
        while stack:
            other = stack.pop()
            if other in self.views and self.facts[other].kind == "view":
                stack += [t.node for t in other.inputs]
            elif other in self.views and other not in found:
                found.append(other)
        return found

    def _start(self, node: Node, kind: str, space: Shape, reads: Sequence[Read]) -> Group:
        producers = self._producers(reads)
        level = 1 + max((g.level for g in producers), default=0)
        group = Group(
            kind, space, 0, level, [node], {node: "full"}, reads={r.tensor for r in reads}
        )
        self._consume(producers, group)
        self.groups.append(group)
        self.group_of[node] = group
        return group

    def _producers(self, reads: Iterable[Read]) -> list[Group]:
        """The groups that compute what is read, each once."""
        found = (self.group_of[r.tensor.node] for r in reads if not self.is_given(r.tensor))
        return list(dict.fromkeys(found))

    def _consume(self, producers: Iterable[Group], by: Group) -> None:
        for group in producers:
            if group is not by:
                group.readers[by] = None

    def _candidates(self, facts: Facts) -> list[Group]:
        """The groups that may take a node without making a cycle, the highest first."""
        producers = self._producers(facts.reads)
        ranked = sorted(producers, key=lambda g: (g.level, PREFERRED.get(g.kind, 0)), reverse=True)
        return [
            group
            for group in ranked
            if not group.readers or self._raised(group, producers) is not None
        ]

    def _raised(self, group: Group, below: Iterable[Group]) -> dict[Group, int] | None:
        """The new levels of a group that is to stand above others, and of those that rise with it.

        None where one of the others may read the group, or where too many would rise.
        """
        others = [other for other in below if other is not group]
        top = max((other.level for other in others), default=0)
        if group.readers and top > group.level:
            return None
        levels = {group: max(group.level, top + 1)} if top >= group.level else {}
        waiting = list(levels)
        while waiting:
            current = waiting.pop()
            for reader in current.readers:
                if levels.get(reader, reader.level) <= levels[current]:
                    levels[reader] = levels[current] + 1
                    waiting.append(reader)
            if len(levels) > MOST_RAISED:
                return None
        return levels

    def _fits(self, facts: Facts, group: Group) -> bool:
        """Whether a group stays small enough to compile quickly."""
        read = {r.tensor for r in facts.reads if self.is_given(r.tensor)}
        return (
            len(group.members) < MOST_MEMBERS
            and group.cost + facts.cost <= MOST_COST
            and len(group.reads | read) <= MOST_READS
        )

    def _join(self, node: Node, facts: Facts, group: Group, role: str) -> None:
        producers = self._producers(facts.reads)
        for raised, level in (self._raised(group, producers) or {}).items():
            raised.level = level
        if facts.kind == "row":
            group.kind, group.inner = "row", facts.inner
        group.members.append(node)
        group.roles[node] = role
        group.reads |= {r.tensor for r in facts.reads}
        group.cost += facts.cost
        self.group_of[node] = group
        self._consume(producers, group)

    # ------------------------------------------------------------------ who fits where

    def _role(self, node: Node, facts: Facts, group: Group) -> str | None:
        """What a node would be in a group; None if it cannot share the group's loops."""
        inside = [r for r in facts.reads if self.group_of.get(r.tensor.node) is group]
        return self._role_of_reads(facts, inside, group)

    def _role_of_reads(self, facts: Facts, inside: Sequence[Read], group: Group) -> str | None:
        if group.kind in ("ordered", "host"):
            return None
        if facts.kind == "row":
            return self._reduced_role(facts, inside, group)
        if group.kind == "row":
            return self._row_role(facts, inside, group)
        steps = in_order(facts.axes)
        same = product(facts.space) == product(group.space)
        return "full" if same and all(goes(r, steps) for r in inside) else None

    def _reduced_role(self, facts: Facts, inside: Sequence[Read], group: Group) -> str | None:
        """A reduction over the last axes of what a map or a row group computes."""
        if group.heavy or significant(facts.space) != significant(group.space):
            return None
        if group.kind == "map":
            steps = in_order(facts.axes)
            return "row" if all(goes(r, steps) for r in inside) else None
        if group.kind != "row" or facts.inner != group.inner:
            return None
        return "row" if self._aligned(facts, inside, group) else None

    def _row_role(self, facts: Facts, inside: Sequence[Read], group: Group) -> str | None:
        """A pointwise node over whole rows, or over one value a row."""
        shape = significant(facts.space)
        if shape == significant(group.space):
            return "full" if self._aligned(facts, inside, group) else None
        steps = in_order(facts.axes)
        if shape == group.outer and all(
            group.roles[r.tensor.node] == "row" and goes(r, steps) for r in inside
        ):
            return "row"
        return None

    def _aligned(self, facts: Facts, inside: Sequence[Read], group: Group) -> bool:
        """Whether full values are read at the node's place and row values at its row."""
        axes = [a for a in facts.axes if significant((a.extent,))]
        full, row = in_order(axes), in_order(axes[: len(axes) - group.inner])
        return all(goes(r, row if group.roles[r.tensor.node] == "row" else full) for r in inside)
