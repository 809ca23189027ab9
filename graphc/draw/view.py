"""What one picture shows: which groups of a tree are open, and the edges between what is visible.

Enters: a tree of boxes, and how deep to look. Leaves: a `View` and its edges. Between boxes there
is one edge a use. At a folded box, the uses of one tensor are one edge, with their number, and many
tensors are one edge that says so.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from graphc.draw.boxes import Box, Group, Wire
from graphc.draw.fold import Meeting, Tree
from graphc.draw.segments import CROWD, MOST, Member
from graphc.draw.text import clean, counted

FEW = 12  # below this many boxes, a picture opens groups further
BUNDLE = 4  # more tensors than these between two folded boxes are one edge


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


def opened_to(tree: Tree, depth: int | None) -> frozenset[Group]:
    """The groups that are open where level `depth` is folded (None: as deep as is legible)."""
    if depth is None:
        return opened_to_fit(tree)
    meeting = Meeting()
    return frozenset(group for group in tree.groups() if meeting.depth(group) < depth)


def _legible(tree: Tree, opened: frozenset[Group]) -> bool:
    """Whether few enough boxes, and few enough pairs of boxes with edges between, are visible."""
    shown = sum(len(group.members) for group in opened) - len(opened) + 1
    if shown > MOST:
        return False
    visible = view_of(tree, opened).visible
    return len({(visible[w.tail], visible[w.head]) for w in tree.wires}) <= 2 * CROWD


def opened_to_fit(tree: Tree) -> frozenset[Group]:
    """As many whole levels as are legible; some more groups where that is nearly nothing."""
    levels: dict[int, list[Group]] = defaultdict(list)
    meeting = Meeting()
    for group in tree.groups():
        levels[meeting.depth(group)].append(group)
    opened = frozenset(levels[0])
    for depth in range(1, len(levels)):
        further = opened.union(levels[depth])
        if not _legible(tree, further):
            break
        opened = further
    for group in (group for depth in range(1, len(levels)) for group in levels[depth]):
        shown = sum(len(group.members) for group in opened) - len(opened) + 1
        if shown >= FEW:
            break
        further = opened | {group}
        if group.parent in opened and _legible(tree, further):
            opened = further
    return opened


def view_of(tree: Tree, opened: frozenset[Group]) -> View:
    """The picture of a tree in which some groups are open, with the root, and all others folded."""
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
    many = len(edges) + sum(min(BUNDLE, len(tensors)) for tensors in merged.values()) > CROWD
    for (tail, head), tensors in merged.items():
        edges += _merged_edges(tail, head, list(tensors.values()), 1 if many else BUNDLE)
    return edges


def _merged_edges(tail: Member, head: Member, tensors: list[list[Wire]], bundle: int) -> list[Edge]:
    if len(tensors) <= bundle:
        return [
            Edge(tail, head, uses[0].label + _uses(len(uses)), clean(uses[0].tail.title))
            for uses in tensors
        ]
    names = ", ".join(clean(uses[0].tail.title, 24) for uses in tensors[:8])
    types = counted((uses[0].type for uses in tensors), 3)
    more = "" if len(tensors) <= 8 else f", {len(tensors) - 8} more"
    return [Edge(tail, head, f"{len(tensors)} tensors: {types}", names + more)]
