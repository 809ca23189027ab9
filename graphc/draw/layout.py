"""Rows and orders for the HTML page, which needs no program to be laid out.

Enters: a tree of boxes. Leaves: for each group, its vertices in rows, by the layered method
(Sugiyama, Tagawa and Toda 1981): ranks by longest path, pulled towards their readers; one vertex
for each label and each row that an edge crosses; orders by barycentres. Vertices of a group are its
members, and ports: where a tensor comes in from outside, or leaves. So the rows of a group depend
on nothing outside it, and the page can fold and unfold it with no more than new coordinates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from graphc.draw.boxes import Box, Group, Wire
from graphc.draw.fold import Meeting, Tree
from graphc.draw.segments import Member, Pairs, in_order

PORTS = 8  # more tensors than these through one side of a group share one port
SWEEPS = 6

End: TypeAlias = tuple[str, int, int]  # ("m", member, port), ("i", port in, 0), ("o", port out, 0)


@dataclass(slots=True)
class Line:
    """One edge inside a group, between two ends, for one or more wires."""

    tail: End
    head: End
    wires: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Level:
    """The inside of one group: its lines, and its vertices in rows.

    A vertex is ("m", member), ("i", port), ("o", port), or ("b", line): a bend of a line, which
    carries the label where the number is complemented (~line).
    """

    inside: int = 0  # ports in
    outside: int = 0  # ports out
    lines: list[Line] = field(default_factory=list)
    rows: list[list[tuple[str, int]]] = field(default_factory=list)
    backward: list[int] = field(default_factory=list)  # lines that lead up


class _Ports:
    """Which port of a group a tensor goes through."""

    def __init__(self) -> None:
        self._tensors: dict[Group, dict[tuple[Box, int], int]] = defaultdict(dict)

    def note(self, group: Group, tensor: tuple[Box, int]) -> None:
        self._tensors[group].setdefault(tensor, len(self._tensors[group]))

    def count(self, group: Group) -> int:
        found = len(self._tensors.get(group, ()))
        return 1 if found > PORTS else found

    def of(self, group: Group, tensor: tuple[Box, int]) -> int:
        found = self._tensors[group]
        return 0 if len(found) > PORTS else found[tensor]


def _chain(box: Box, member: Member) -> list[Member]:
    """From a box out to the member of a group that it is in."""
    chain: list[Member] = [box]
    while chain[-1] is not member:
        parent = chain[-1].parent
        assert parent is not None
        chain.append(parent)
    return chain


class _Routes:
    """Every wire as lines: out of the groups around its tail, across, into those of its head."""

    def __init__(self, tree: Tree) -> None:
        meeting = Meeting()
        self._into, self._outof = _Ports(), _Ports()
        self._paths: list[tuple[Wire, list[Member], list[Member]]] = []
        self._index = {m: i for g in tree.groups() for i, m in enumerate(g.members)}
        self._lines: dict[Group, dict[tuple[End, End], Line]] = defaultdict(dict)
        for wire in tree.wires:
            tail, head = meeting(wire.tail, wire.head)
            tails, heads = _chain(wire.tail, tail), _chain(wire.head, head)
            self._paths.append((wire, tails, heads))
            for group in tails[1:]:
                self._outof.note(group, (wire.tail, wire.output))  # type: ignore[arg-type]  # all but the innermost are groups
            for group in heads[1:]:
                self._into.note(group, (wire.tail, wire.output))  # type: ignore[arg-type]  # all but the innermost are groups
        operands: dict[Box, int] = defaultdict(int)
        for number, (wire, tails, heads) in enumerate(self._paths):
            self._route(number, wire, tails, heads, operands[wire.head])
            operands[wire.head] += 1

    def _source(self, member: Member, wire: Wire) -> End:
        if isinstance(member, Box):
            return ("m", self._index[member], wire.output)
        return ("m", self._index[member], self._outof.of(member, (wire.tail, wire.output)))

    def _target(self, member: Member, wire: Wire, operand: int) -> End:
        if isinstance(member, Box):
            return ("m", self._index[member], operand)
        return ("m", self._index[member], self._into.of(member, (wire.tail, wire.output)))

    def _route(
        self,
        number: int,
        wire: Wire,
        tails: Sequence[Member],
        heads: Sequence[Member],
        operand: int,
    ) -> None:
        tensor = (wire.tail, wire.output)
        for member in tails[:-1]:
            group = member.parent
            assert group is not None
            port = ("o", self._outof.of(group, tensor), 0)
            self._add(group, self._source(member, wire), port, number)
        across = tails[-1].parent
        assert across is not None
        source, target = self._source(tails[-1], wire), self._target(heads[-1], wire, operand)
        self._add(across, source, target, number)
        for member in heads[:-1]:
            group = member.parent
            assert group is not None
            port = ("i", self._into.of(group, tensor), 0)
            self._add(group, port, self._target(member, wire, operand), number)

    def _add(self, group: Group, tail: End, head: End, number: int) -> None:
        lines = self._lines[group]
        lines.setdefault((tail, head), Line(tail, head)).wires.append(number)

    def level(self, group: Group) -> Level:
        """The lines inside a group, with no rows yet."""
        lines = list(self._lines.get(group, {}).values())
        return Level(self._into.count(group), self._outof.count(group), lines)


def _ranks(group: Group, level: Level) -> list[int]:
    """The rank of each member, from 0: below what it reads, as near as can be to what reads it."""
    members: list[Member] = list(group.members)
    index = {member: i for i, member in enumerate(members)}
    pairs: Pairs = {}
    for line in level.lines:
        if line.tail[0] == line.head[0] == "m" and line.tail[1] != line.head[1]:
            pairs[members[line.tail[1]], members[line.head[1]]] = 1
    place = {index[member]: i for i, member in enumerate(in_order(members, pairs))}
    readers: dict[int, set[int]] = defaultdict(set)
    for a, b in pairs:
        first, second = sorted((index[a], index[b]), key=place.__getitem__)
        readers[first].add(second)
    order = sorted(range(len(members)), key=place.__getitem__)
    ranks = [0] * len(members)
    for i in order:
        for reader in readers[i]:
            ranks[reader] = max(ranks[reader], ranks[i] + 1)
    for i in reversed(order):
        if readers[i]:
            ranks[i] = min(ranks[reader] for reader in readers[i]) - 1
    return ranks


def _row_of(end: End, ranks: Sequence[int], last: int) -> int:
    if end[0] == "m":
        return 2 * ranks[end[1]] + 2
    return 0 if end[0] == "i" else last


Vertex: TypeAlias = tuple[str, int, int]  # kind, number, row


def _place(
    group: Group, level: Level, ranks: Sequence[int]
) -> tuple[list[list[Vertex]], list[tuple[Vertex, Vertex]]]:
    """Vertices in rows, and the links between neighbouring rows."""
    last = 2 * (max(ranks) if ranks else 0) + 4
    rows: list[list[Vertex]] = [[] for _ in range(last + 1)]
    rows[0] = [("i", port, 0) for port in range(level.inside)]
    rows[last] = [("o", port, last) for port in range(level.outside)]
    for i, rank in enumerate(ranks):
        rows[2 * rank + 2].append(("m", i, 2 * rank + 2))
    links = []
    for number, line in enumerate(level.lines):
        start, end = _row_of(line.tail, ranks, last), _row_of(line.head, ranks, last)
        tail, head = (*line.tail[:2], start), (*line.head[:2], end)
        if start >= end:
            level.backward.append(number)
            start, end, tail, head = end, start, head, tail
        above = tail
        for row in range(start + 1, end):
            bend = ("b", ~number if row == end - 1 else number, row)
            rows[row].append(bend)
            links.append((above, bend))
            above = bend
        if start < end:
            links.append((above, head))
    return rows, links


def _sort(rows: list[list[Vertex]], links: Iterable[tuple[Vertex, Vertex]]) -> None:
    """Order every row by the barycentres of its neighbours, down and up in turn."""
    above: dict[Vertex, list[Vertex]] = defaultdict(list)
    below: dict[Vertex, list[Vertex]] = defaultdict(list)
    for a, b in links:
        below[a].append(b)
        above[b].append(a)
    position: dict[Vertex, float] = {v: float(i) for row in rows for i, v in enumerate(row)}
    for sweep in range(SWEEPS):
        neighbours, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in order:
            centre = {
                v: sum(position[n] for n in neighbours[v]) / len(neighbours[v])
                if neighbours[v]
                else position[v]
                for v in row
            }
            row.sort(key=centre.__getitem__)
            shift = (len(row) - 1) / 2  # rows are centred on each other
            for i, vertex in enumerate(row):
                position[vertex] = i - shift


def lay_out(tree: Tree, groups: Iterable[Group] | None = None) -> dict[Group, Level]:
    """The lines and rows of some groups (None: of all)."""
    routes = _Routes(tree)
    levels = {}
    for group in tree.groups() if groups is None else groups:
        level = levels[group] = routes.level(group)
        rows, links = _place(group, level, _ranks(group, level))
        _sort(rows, links)
        level.rows = [[vertex[:2] for vertex in row] for row in rows]
    return levels
