"""Folding: boxes into a tree of groups, and the part of that tree that one picture shows.

Enters: the boxes and wires of a graph. Leaves: `Tree`, in which scopes are groups (by identity, so
two scopes of one name stay two), and every group with more than `MOST` members is cut along its
topological order into segments; and `View`, the boxes, folded groups and edges of one picture.
Cuts fall where few tensors are alive, so that the layers of a network are not torn apart. Nothing
is merged because names look alike, and a folded box says how many boxes of which kind are inside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

from graphc import lazy
from graphc.context import Scope
from graphc.draw.boxes import Box, Boxes, Group, Wire
from graphc.draw.text import Unique, clean, counted

networkx = lazy.Module("networkx")
MOST = 60  # boxes in a picture that folds itself
PARTS = 40  # segments of one group
SHORT = 16  # members of a segment, where that makes no more than PARTS of them
FEW = 12  # below this, a picture opens groups further
BUNDLE = 4  # more tensors than these between two folded boxes are one edge

Member: TypeAlias = Box | Group
Pairs: TypeAlias = dict[tuple[Member, Member], int]


def ancestors(member: Member) -> Iterator[Group]:
    """The groups around a member, from the inside out."""
    parent = member.parent
    while parent is not None:
        yield parent
        parent = parent.parent


class Meeting:
    """Finds the innermost group that holds two boxes, and its two members that they are in."""

    def __init__(self) -> None:
        self._depth: dict[Group, int] = {}

    def depth(self, member: Member) -> int:
        """How many groups are around a member."""
        parent = member.parent
        if parent is None:
            return 0
        known = self._depth.get(parent)
        if known is None:
            known = self._depth[parent] = 1 + sum(1 for _ in ancestors(parent))
        return known

    def __call__(self, a: Box, b: Box) -> tuple[Member, Member]:
        """The two members; the same one twice where `a` is `b`."""
        first: Member = a
        second: Member = b
        above, below = self.depth(a), self.depth(b)
        while first.parent is not second.parent:
            if above >= below and first.parent is not None:
                first, above = first.parent, above - 1
            elif second.parent is not None:
                second, below = second.parent, below - 1
        return first, second


@dataclass(slots=True)
class Tree:
    """The groups of a graph, below one root."""

    root: Group
    wires: list[Wire]

    def groups(self) -> Iterator[Group]:
        """Every group, outer ones first, in order."""
        stack = [self.root]
        while stack:
            group = stack.pop()
            yield group
            stack += [m for m in reversed(group.members) if isinstance(m, Group)]


class _Scopes:
    """One group a scope, made when its first box comes."""

    def __init__(self) -> None:
        self.root = Group("graph", "root", False, None)
        self._groups: dict[Scope | None, Group] = {None: self.root}
        self._unique: dict[Group, Unique] = defaultdict(Unique)

    def place(self, box: Box) -> None:
        group = self._group(box.scope)
        if box.subtitle[:1] != "%" and box.kind != "update":  # it has a name of its own
            box.title = self._unique[group](box.title)
        box.parent = group
        group.members.append(box)

    def _group(self, scope: Scope | None) -> Group:
        missing = []
        while scope not in self._groups:
            assert scope is not None
            missing.append(scope)
            scope = scope.parent
        group = self._groups[scope]
        for inner in reversed(missing):
            title = self._unique[group](clean(inner.name))
            made = Group(title, "scope", inner.gradient, group)
            group.members.append(made)
            group = self._groups[inner] = made
        return group


def in_order(members: Sequence[Member], pairs: Pairs) -> list[Member]:
    """Members so that edges lead forward; only members that form a cycle are in mere order."""
    position = {member: i for i, member in enumerate(members)}
    if all(position[a] < position[b] for a, b in pairs):
        return list(members)
    graph: Any = networkx.DiGraph()
    graph.add_nodes_from(range(len(members)))
    graph.add_edges_from((position[a], position[b]) for a, b in pairs)
    condensed = networkx.condensation(graph)
    first = {c: min(data["members"]) for c, data in condensed.nodes(data=True)}
    order = networkx.lexicographical_topological_sort(condensed, key=first.__getitem__)
    return [members[i] for c in order for i in sorted(condensed.nodes[c]["members"])]


def _alive(members: Sequence[Member], pairs: Pairs) -> list[int]:
    """For each gap before a member: how many members behind it are read beyond it."""
    position = {member: i for i, member in enumerate(members)}
    last: dict[int, int] = {}
    for a, b in pairs:
        start = position.get(a)
        if start is not None and b in position:
            last[start] = max(last.get(start, 0), position[b])
    change = [0] * (len(members) + 1)
    for start, end in last.items():
        if end > start:
            change[start + 1] += 1
            change[end + 1] -= 1
    return list(accumulate(change))


def _cuts(count: int, alive: Sequence[int]) -> list[int]:
    """Where to cut: near even spacing, at the narrowest gap of each neighbourhood."""
    parts = min(PARTS, max(2, -(-count // SHORT)))
    size = count / parts
    cuts = [0]
    for part in range(1, parts):
        ideal = round(part * size)
        low = max(cuts[-1] + 1, ideal - int(size * 0.4))
        high = min(count - (parts - part), ideal + int(size * 0.4))
        window = range(low, max(low, high) + 1)
        cuts.append(min(window, key=lambda gap: (alive[gap], abs(gap - ideal), gap)))
    return [*cuts, count]


def _stretch(members: Sequence[Member], first: int, parent: Group) -> Group:
    """A segment of consecutive members."""
    gradient = all(m.gradient for m in members)
    ends = f"{members[0].title} … {members[-1].title}"
    kinds = {m.kind for m in members}
    what = "scopes" if kinds == {"scope"} else f"{first + 1}–{first + len(members)}"
    group = Group(clean(f"{what}: {ends}", 40), "segment", gradient, parent, list(members))
    for member in members:
        member.parent = group
    return group


def _segment(group: Group, pairs: Pairs) -> None:
    """Cut a group with too many members into segments, and those again."""
    group.members = in_order(group.members, pairs)
    work = [(group, 0)]
    while work:
        current, offset = work.pop()
        count = len(current.members)
        if count <= MOST:
            continue
        cuts = _cuts(count, _alive(current.members, pairs))
        parts = [(a, current.members[a:b]) for a, b in pairwise(cuts)]
        current.members = []
        for start, members in parts:
            part = _stretch(members, offset + start, current)
            current.members.append(part)
            work.append((part, offset + start))


def level_pairs(wires: Sequence[Wire]) -> dict[Group, Pairs]:
    """For each group: which of its members feed which, and by how many wires."""
    meeting = Meeting()
    found: dict[Group, Pairs] = defaultdict(dict)
    for wire in wires:
        a, b = meeting(wire.tail, wire.head)
        if a is not b and a.parent is not None:
            pairs = found[a.parent]
            pairs[a, b] = pairs.get((a, b), 0) + 1
    return found


def _summarise(root: Group, groups: Sequence[Group]) -> None:
    """Count what is inside every group: groups come outer ones first."""
    inside: dict[Group, dict[str, int]] = {}
    for group in reversed(groups):
        counts: dict[str, int] = defaultdict(int)
        for member in group.members:
            if isinstance(member, Box):
                counts[member.operation] += 1
            else:
                for operation, n in inside.pop(member).items():
                    counts[operation] += n
        inside[group] = counts
        group.count = sum(counts.values())
        words = [operation for operation, n in counts.items() for _ in range(n)]
        noun = "node" if group.count == 1 else "nodes"
        group.summary = f"{group.count} {noun}: {clean(counted(words), 90)}"


def tree_of(boxes: Boxes, segments: bool = True) -> Tree:
    """The groups of all boxes; with `segments`, none has more than `MOST` members."""
    scopes = _Scopes()
    for box in boxes.boxes:
        scopes.place(box)
    tree = Tree(scopes.root, boxes.wires)
    if segments and any(len(group.members) > MOST for group in tree.groups()):
        pairs = level_pairs(boxes.wires)
        for group in list(tree.groups()):
            if len(group.members) > MOST:
                _segment(group, pairs.get(group, {}))
    _summarise(tree.root, list(tree.groups()))
    return tree


# ---------------------------------------------------------------------------- views


@dataclass(eq=False, slots=True)
class Edge:
    """An arrow between two visible boxes: one use, or, where one of them is folded, all uses."""

    tail: Member
    head: Member
    label: str
    tooltip: str


@dataclass(slots=True)
class View:
    """One picture: which groups are open, what is visible, and the edges between."""

    root: Group
    opened: frozenset[Group]
    visible: dict[Box, Member] = field(default_factory=dict)  # each box: itself, or what hides it

    def members(self) -> list[Member]:
        """Everything that is drawn as a box."""
        return list(dict.fromkeys(self.visible.values()))


def opened_to(tree: Tree, depth: int) -> frozenset[Group]:
    """The groups that are open where everything at level `depth` is folded."""
    meeting = Meeting()
    return frozenset(group for group in tree.groups() if meeting.depth(group) < depth)


def opened_to_fit(tree: Tree, most: int = MOST) -> frozenset[Group]:
    """As many whole levels as fit into `most` boxes; more of a picture that stays nearly empty."""
    levels: dict[int, list[Group]] = defaultdict(list)
    meeting = Meeting()
    for group in tree.groups():
        levels[meeting.depth(group)].append(group)
    opened, shown = {tree.root}, len(tree.root.members)
    for depth in range(1, len(levels)):
        more = sum(len(group.members) - 1 for group in levels[depth])
        if shown + more > most:
            break
        opened.update(levels[depth])
        shown += more
    for depth in range(1, len(levels)):
        for group in levels[depth]:
            fits = shown + len(group.members) - 1 <= most
            if shown < FEW and fits and group not in opened and group.parent in opened:
                opened.add(group)
                shown += len(group.members) - 1
    return frozenset(opened)


def view_of(tree: Tree, depth: int | None) -> View:
    """The picture of a tree, folded at `depth`, or (None) until at most `MOST` boxes are left."""
    opened = opened_to_fit(tree) if depth is None else opened_to(tree, depth)
    view = View(tree.root, opened)
    stack: list[tuple[Member, Member | None]] = [(tree.root, None)]
    while stack:
        member, hidden_by = stack.pop()
        if isinstance(member, Box):
            view.visible[member] = hidden_by or member
            continue
        hides = hidden_by or (None if member in opened else member)
        stack += [(inner, hides) for inner in reversed(member.members)]
    return view


def _uses(count: int) -> str:
    return "" if count == 1 else f" ×{count}"


def edges_of(tree: Tree, view: View) -> list[Edge]:
    """The edges of a picture: one a use; at a folded box, one a tensor or a bundle of them."""
    merged: dict[tuple[Member, Member], dict[tuple[Box, int], list[Wire]]] = {}
    edges = []
    for wire in tree.wires:
        tail, head = view.visible[wire.tail], view.visible[wire.head]
        if tail is head and isinstance(tail, Group):
            continue
        if isinstance(tail, Box) and isinstance(head, Box):
            edges.append(Edge(tail, head, wire.label, f"{wire.tail.title} → {wire.operand}"))
        else:
            tensors = merged.setdefault((tail, head), {})
            tensors.setdefault((wire.tail, wire.output), []).append(wire)
    for (tail, head), tensors in merged.items():
        edges += _merged_edges(tail, head, list(tensors.values()))
    return edges


def _merged_edges(tail: Member, head: Member, tensors: list[list[Wire]]) -> list[Edge]:
    names = ", ".join(clean(uses[0].tail.title, 24) for uses in tensors[:8])
    if len(tensors) <= BUNDLE:
        return [
            Edge(tail, head, uses[0].label + _uses(len(uses)), clean(uses[0].tail.title))
            for uses in tensors
        ]
    types = counted((uses[0].type for uses in tensors), 3)
    more = "" if len(tensors) <= 8 else f", {len(tensors) - 8} more"
    return [Edge(tail, head, f"{len(tensors)} tensors: {types}", names + more)]
