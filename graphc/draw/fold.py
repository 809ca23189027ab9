"""Folding: boxes into a tree of groups.

Enters: boxes and wires. Leaves: a `Tree`, in which scopes, kernels and loops are groups (by
identity, so two of one name stay two), and crowded groups are cut into segments. Nothing is merged
because names look alike, and every group says how many boxes of which kind are inside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphc.context import Scope
from graphc.draw.boxes import About, Box, Boxes, Group, Wire
from graphc.draw.segments import Member, Pairs, crowded, segment
from graphc.draw.text import Unique, clean, counted

EDGES = ("parameter", "result")  # boxes that are no nodes: where a body begins and ends


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

    def __init__(self, about: Mapping[Scope, About]) -> None:
        self._about = about
        self.root = Group("graph", "root", False, None)
        self._groups: dict[Scope | None, Group] = {None: self.root}
        self._unique: dict[Group, Unique] = defaultdict(Unique)

    def place(self, box: Box) -> None:
        group = self._group(box.scope)
        if box.named:
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
            made = self._made(inner, group)
            group.members.append(made)
            group = self._groups[inner] = made
        return group

    def _made(self, scope: Scope, parent: Group) -> Group:
        title, about = clean(scope.name), self._about.get(scope)
        if about is None:
            return Group(self._unique[parent](title), "scope", scope.gradient, parent)
        made = Group(title, about.kind, scope.gradient, parent)
        made.loops, made.where, made.detail = about.loops, about.where, about.detail
        return made


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
                counts[member.operation] += member.kind not in EDGES
            else:
                for operation, n in inside.pop(member).items():
                    counts[operation] += n
        inside[group] = counts
        group.count = sum(counts.values())
        group.fetched = any(member.fetched for member in group.members)
        words = [operation for operation, n in counts.items() for _ in range(n)]
        noun = "node" if group.count == 1 else "nodes"
        group.summary = f"{group.count} {noun}" + (
            f": {clean(counted(words), 90)}" if words else ""
        )


def tree_of(boxes: Boxes, segments: bool = True) -> Tree:
    """The groups of all boxes; with `segments`, none is crowded."""
    scopes = _Scopes(boxes.about)
    for box in boxes.boxes:
        scopes.place(box)
    tree = Tree(scopes.root, boxes.wires)
    if segments:
        pairs = level_pairs(boxes.wires)
        for group in list(tree.groups()):
            if crowded(group, pairs.get(group, {})):
                segment(group, pairs.get(group, {}))
    _summarise(tree.root, list(tree.groups()))
    return tree
