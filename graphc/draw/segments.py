"""Segments: a group with too many members, cut along its topological order into groups of its own.

Enters: a group, and which of its members feed which. Leaves: the same group with a few members,
each a segment of consecutive old ones, and those cut again. Cuts fall where few members are read
from behind, so that the layers of a network are not torn apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

from graphc import lazy
from graphc.draw.boxes import Box, Group
from graphc.draw.text import clean

networkx = lazy.Module("networkx")
MOST = 60  # boxes in a picture that folds itself
CROWD = 200  # pairs of segments that feed each other; beyond it there are fewer segments
PARTS = 40  # segments of one group
SHORT = 16  # members of a segment, where that makes no more than PARTS of them

Member: TypeAlias = Box | Group
Pairs: TypeAlias = dict[tuple[Member, Member], int]
Links: TypeAlias = list[tuple[int, int]]  # pairs, by position


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


def _alive(count: int, links: Links) -> list[int]:
    """For each gap before a member: how many members behind it are read beyond it."""
    last: dict[int, int] = {}
    for start, end in links:
        last[start] = max(last.get(start, 0), end)
    change = [0] * (count + 1)
    for start, end in last.items():
        if end > start:
            change[start + 1] += 1
            change[end + 1 if end < count else count] -= 1
    return list(accumulate(change))


def _cuts(count: int, parts: int, alive: Sequence[int]) -> list[int]:
    """Where to cut: near even spacing, at the narrowest gap of each neighbourhood."""
    size = count / parts
    cuts = [0]
    for part in range(1, parts):
        ideal = round(part * size)
        low = max(cuts[-1] + 1, ideal - int(size * 0.4))
        high = min(count - (parts - part), ideal + int(size * 0.4))
        window = range(low, max(low, high) + 1)
        cuts.append(min(window, key=lambda gap: (alive[gap], abs(gap - ideal), gap)))
    return [*cuts, count]


def _part_of(cuts: Sequence[int]) -> list[int]:
    """The part that each position is in."""
    return [part for part, (a, b) in enumerate(pairwise(cuts)) for _ in range(a, b)]


def _division(count: int, links: Links) -> list[int]:
    """The cuts, with so few parts that what feeds what can be drawn."""
    alive = _alive(count, links)
    parts = min(PARTS, max(2, -(-count // SHORT)))
    while True:
        cuts = _cuts(count, parts, alive)
        part = _part_of(cuts)
        if parts <= 4 or len({(part[a], part[b]) for a, b in links}) <= CROWD:
            return cuts
        parts = max(4, parts * 2 // 3)


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


def crowded(group: Group, pairs: Pairs) -> bool:
    """Whether a group is too much for one picture."""
    return len(group.members) > MOST or len(pairs) > 2 * CROWD


def segment(group: Group, pairs: Pairs) -> None:
    """Cut a crowded group into segments, and those again."""
    group.members = in_order(group.members, pairs)
    position = {member: i for i, member in enumerate(group.members)}
    links = [(position[a], position[b]) for a, b in pairs]
    work = [(group, 0, links)]
    while work:
        current, offset, links = work.pop()
        count = len(current.members)
        if count <= MOST and len(links) <= 2 * CROWD:
            continue
        cuts = _division(count, links)
        part = _part_of(cuts)
        inner: list[Links] = [[] for _ in cuts[1:]]
        for a, b in links:
            if part[a] == part[b]:
                inner[part[a]].append((a - cuts[part[a]], b - cuts[part[a]]))
        members, current.members = current.members, []
        for (start, end), kept in zip(pairwise(cuts), inner, strict=True):
            made = _stretch(members[start:end], offset + start, current)
            current.members.append(made)
            work.append((made, offset + start, kept))
