"""Which nodes become one kernel: clusters of a graph, found by looking at what formulas read.

Enters: an optimised graph without composites. Leaves: `Clusters`: groups of nodes that share a loop
nest, the nodes whose values are stored, and all others, which their readers compute themselves.
Fusion itself is substitution of formulas, in `lower`.

- Views, numbers and what is made of numbers alone are not computed apart: readers look through.
- A pointwise node joins the group of what it reads, if it reads it at its own place: it is the
  epilogue of a product, or one more value of a map.
- A sum over the last axes joins a map over what it sums, and makes a row group of it; what reads
  the sum at every place of the row joins too. So softmax, layer norm and cross entropy are one.
- A map that only one group reads is computed by that group: the prologue of a reduction.
- What a group would store beside the array that it is made of, readers make again from that.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from graphc.clustering import (
    CHEAP,
    MOST_COST,
    MOST_MEMBERS,
    MOST_READS,
    MOST_VIEWS,
    Clustering,
    Group,
)
from graphc.dims import product
from graphc.facts import Facts, Read, goes, in_order, significant
from graphc.graph import Graph, Node
from graphc.scalar import walk

FREE = 2  # element operations that any number of readers rather do than read what is stored
AGAIN = 24  # and those to make a value again from the one array that others are made of too
FEW = 4  # elements to each that is looked at, from which on the others are not stored for it
Use: TypeAlias = "tuple[Node, Read]"  # who reads, and how


@dataclass(frozen=True, slots=True)
class Clusters:
    """The groups in an order in which they can run, and the nodes that have buffers."""

    groups: tuple[Group, ...]
    stored: frozenset[Node]
    facts: dict[Node, Facts]


class Dissolving:
    """Gives groups up whose readers had better compute them themselves."""

    def __init__(self, fusion: Clustering) -> None:
        self.fusion = fusion
        self.facts = fusion.facts
        self.owners: dict[Node, list[Group]] = {}  # of nodes that are computed where they are read
        self.uses: dict[Node, list[Use]] = {}
        for group in fusion.groups:
            for member in group.members:
                for read in self.reads(member):
                    if fusion.group_of.get(read.tensor.node, group) is not group:
                        self.uses.setdefault(read.tensor.node, []).append((member, read))

    def reads(self, node: Node) -> Sequence[Read]:
        """What a node reads, through views."""
        facts = self.facts.get(node)
        return facts.reads if facts else [Read(t, None, ()) for t in node.inputs]

    def users(self, uses: Iterable[Use]) -> list[Group]:
        """The groups that read something, each once."""
        group_of = self.fusion.group_of
        found = (self.owners.get(node) or [group_of[node]] for node, _ in uses)
        return list(dict.fromkeys(group for groups in found for group in groups))

    def run(self) -> None:
        """Readers come first, so that a chain goes up into its last reader."""
        if not self.fusion.fused:
            return
        for group in sorted(self.fusion.groups, key=lambda g: g.level, reverse=True):
            if group.kind not in ("map", "row") or group.heavy:
                continue
            needed = not self.fusion.needed.isdisjoint(group.members)
            uses = [use for member in group.members for use in self.uses.get(member, [])]
            users = self.users(u for u in uses if self.fusion.group_of.get(u[0]) is not group)
            if len(users) == 1 and self.absorb(group, users[0], uses, needed):
                continue
            if users and not needed and group.kind == "map" and self.is_free(group, uses):
                self.inline(group, users)

    def absorb(self, group: Group, user: Group, uses: Sequence[Use], needed: bool) -> bool:
        """Move a group into the only one that reads it; what is `needed` stays stored there."""
        small = user.cost + group.cost <= MOST_COST and len(user.reads | group.reads) <= MOST_READS
        if user.kind == "host" or not small or self.is_operand(uses):
            return False
        if len(user.members) + len(group.members) <= MOST_MEMBERS and all(
            self.is_aligned(use, group, user) for use in uses
        ):
            self.move(group, user)
            return True
        if (
            not needed
            and group.kind == "map"
            and (group.cost <= CHEAP or self.computes_once(group, uses))
        ):
            self.inline(group, [user])
            return True
        return False

    def is_operand(self, uses: Iterable[Use]) -> bool:
        """Whether a product reads it again and again, or something looks into it."""
        kinds = {self.facts[node].kind if node in self.facts else "host" for node, _ in uses}
        return not kinds.isdisjoint(("product", "opaque", "host"))

    def is_sparse(self, node: Node, read: Read) -> bool:
        """Whether an op looks at few of the elements only: at one for each of its own points."""
        facts = self.facts.get(node)
        if facts is None or facts.kind != "opaque" or read.tensor.shape is None:
            return False
        moving = {part.value for part in walk(*read.index) if part.primitive == "position"}
        rest, points = list(significant(read.tensor.shape)), significant(facts.space)
        if not moving <= set(facts.axes) or any(rest.count(n) < points.count(n) for n in points):
            return False
        for size in points:
            rest.remove(size)
        left = product(rest)
        return not isinstance(left, int) or left >= FEW

    def is_aligned(self, use: Use, group: Group, user: Group) -> bool:
        """Whether the reader's loops pass the group's values one by one."""
        node, read = use
        facts = self.facts[node]
        if node in self.owners or facts.kind == "reduce":
            return False
        axes = [a for a in facts.axes if significant((a.extent,))]
        if user.kind != "row":
            same = group.kind == "map" and product(group.space) == product(user.space)
            return same and goes(read, in_order(axes))
        whole = significant(facts.space) == significant(user.space)
        role = group.roles[read.tensor.node]
        if significant(group.space) == significant(user.space):
            if group.kind == "row" and group.inner != user.inner:
                return False
        elif group.kind == "row" or significant(group.space) != user.outer:
            return False
        else:
            role = "row"
        if role == "full":
            return whole and goes(read, in_order(axes))
        return goes(read, in_order(axes[: len(axes) - user.inner] if whole else axes))

    def move(self, group: Group, user: Group) -> None:
        """Make the members those of its reader."""
        whole = user.kind != "row" or significant(group.space) == significant(user.space)
        user.roles |= group.roles if whole else dict.fromkeys(group.members, "row")
        user.members += group.members
        for member in group.members:
            self.fusion.group_of[member] = user
        self.give_up(group, [user])

    def computes_once(self, group: Group, uses: Sequence[Use]) -> bool:
        """Whether inlining computes nothing twice."""
        if len(uses) != 1 or len(group.members) > MOST_VIEWS:
            return False
        node, read = uses[0]
        facts = self.facts[node]
        if facts.kind == "reduce" or read.place is None:
            return facts.kind in ("reduce", "map")  # with no place: concatenation, padding
        moving = {a for a in read.place.steps if significant((a.extent,))}
        return facts.kind != "row" and moving == {a for a in facts.axes if significant((a.extent,))}

    def is_free(self, group: Group, uses: Sequence[Use]) -> bool:
        """Whether any number of readers may compute it."""
        if len(group.members) > 1 or group.cost > FREE or len(self.reads(group.members[0])) > 1:
            return False
        return not self.is_operand(uses)

    def inline(self, group: Group, users: Sequence[Group]) -> None:
        """Have the members computed wherever they are read."""
        for member in group.members:
            del self.fusion.group_of[member]
            self.owners[member] = list(users)
        self.give_up(group, users)

    def give_up(self, group: Group, users: Sequence[Group]) -> None:
        """What it read and costs goes to its readers."""
        group.given_up = True
        for user in users:
            user.reads |= group.reads
            user.cost += group.cost

    def stored(self) -> set[Node]:
        """The nodes that another group reads, or that somebody wants."""
        group_of, found = self.fusion.group_of, set(self.fusion.needed)
        for node, uses in self.uses.items():
            if node in group_of and any(u is not group_of[node] for u in self.users(uses)):
                found.add(node)
        for group in self.fusion.groups:
            if not group.given_up and group.kind != "host":
                self.slim(group, found)
        return found

    def slim(self, group: Group, stored: set[Node]) -> None:
        """Have readers compute again what a group would store beside what it is made of."""
        may_go = {
            node
            for node in group.members
            if node in stored
            and node not in self.fusion.needed
            and not self.is_operand(u for u in self.uses[node] if not self.is_sparse(*u))
        }
        kept = {node for node in group.roles if node in stored and node not in may_go}
        made_of = {}
        for node in group.members:
            if node in may_go and (found := self.sources(node, group, kept)):
                made_of[node] = found
        for base in dict.fromkeys(whole for whole, _ in made_of.values()):
            if base not in group.members and base not in stored and base in self.fusion.group_of:
                continue  # it is made again itself: a chain of these would be made from its start
            dropped = [node for node, (whole, _) in made_of.items() if whole is base]
            is_new = base in group.members and base not in stored
            if len(dropped) > is_new:
                rows = {row for node in dropped for row in made_of[node][1]}
                stored -= set(dropped)
                stored |= rows | ({base} if is_new else set())

    def sources(
        self, node: Node, group: Group, stored: AbstractSet[Node]
    ) -> tuple[Node, set[Node]] | None:
        """The one whole array that a member is cheaply made of, and the values a row beside it.

        `stored` are those of the group that are.
        """
        cost, whole, rows = 0, set[Node](), set[Node]()
        looked_into = any(self.is_sparse(*use) for use in self.uses[node])
        stack, seen = [node], {node}
        while stack:
            current = stack.pop()
            facts = self.facts[current]
            cost += facts.cost
            if facts.kind != "map" or cost > AGAIN:
                return None
            if looked_into and not self.is_in_place(facts, group):
                return None
            for other in dict.fromkeys(r.tensor.node for r in facts.reads):
                if other in seen:
                    continue
                seen.add(other)
                if group.roles.get(other) == "row":
                    rows.add(other)
                elif (
                    other in group.roles and other not in stored and self.facts[other].kind == "map"
                ):
                    stack.append(other)
                elif product(other.types[0].shape or ()) == product(group.space):
                    whole.add(other)
        return (whole.pop(), rows) if len(whole) == 1 else None

    def is_in_place(self, facts: Facts, group: Group) -> bool:
        """Whether whole arrays are read at the reader's index, so that they have its bounds."""
        steps = in_order(facts.axes)
        for read in facts.reads:
            shape = read.tensor.shape or ()
            if group.roles.get(read.tensor.node) == "row" or product(shape) != product(group.space):
                continue
            if significant(shape) != significant(facts.space) or not goes(read, steps):
                return False
        return True


def _ordered(
    groups: Sequence[Group], reads: Mapping[Group, set[Group]], last: Mapping[Group, int]
) -> tuple[Group, ...]:
    """The groups, each after those that it reads, otherwise as late as its last node stands."""
    readers: dict[Group, list[Group]] = {}
    for group, read in reads.items():
        for producer in read:
            readers.setdefault(producer, []).append(group)
    waiting = {group: len(reads[group]) for group in groups}
    ready = [(last[group], n, group) for n, group in enumerate(groups) if not waiting[group]]
    numbers = {group: n for n, group in enumerate(groups)}
    heapq.heapify(ready)
    order: list[Group] = []
    while ready:
        group = heapq.heappop(ready)[2]
        order.append(group)
        for reader in readers.get(group, []):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, (last[reader], numbers[reader], reader))
    assert len(order) == len(groups), "groups that wait for each other"
    return tuple(order)


def clusters(graph: Graph, fused: bool = True) -> Clusters:
    """The groups of a graph's nodes; each in one of its own, unless `fused`."""
    fusion = Clustering(graph, fused)
    dissolving = Dissolving(fusion)
    dissolving.run()
    stored = dissolving.stored()
    groups = [group for group in fusion.groups if not group.given_up]
    place = {node: number for number, node in enumerate(fusion.nodes)}
    for group in groups:
        group.members.sort(key=place.__getitem__)
    reads: dict[Group, set[Group]] = {group: set() for group in groups}
    for node, uses in dissolving.uses.items():
        if (producer := fusion.group_of.get(node)) is not None:
            for user in dissolving.users(uses):
                if user is not producer:
                    reads[user].add(producer)
    last = {group: place[group.members[-1]] for group in groups}
    ordered = _ordered(groups, reads, last)
    kept = [g for g in ordered if g.kind == "host" or not stored.isdisjoint(g.members)]
    return Clusters(tuple(kept), frozenset(stored), fusion.facts)
