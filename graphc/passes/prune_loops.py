"""Loops without what nobody uses, and with one stack where there were several.

| before | after |
|---|---|
| an output that nothing reads | none |
| a state, a sequence, a capture that no used output depends on | none |
| a stack of which only the last row is read, a state's next value | the last state |
| a stack of a state's values beside its history, or of the same values | a slice, or one stack |
| a sequence that is a slice of rows | the rows read where they lie |
| two captures of one tensor | one |

Enters: any graph. Leaves: the same values. The last state is read through a slice of as many rows
as there are steps, all of them it, so that no step at all is still an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.context import on_behalf
from graphc.dims import Dim, Dimension
from graphc.graph import Graph, Node, Tensor, outputs_of
from graphc.ops.broadcast import broadcast_to
from graphc.ops.loop import LOOP, Walk
from graphc.ops.slicing import SLICE, along, slice_build
from graphc.passes.loops import (
    Capture,
    Key,
    Loop,
    Rows,
    Stack,
    after,
    each_loop,
    key_of,
    loops_of,
    readers_of,
)  # fmt: skip
from graphc.passes.sweep import protected
from graphc.rewriting import Rewriter


def _rest_whole(node: Node) -> bool:
    """Whether a slice takes all but the first axis as it is."""
    attrs, shape = node.attrs, node.inputs[0].shape
    return (
        shape is not None
        and all(s == 0 for s in attrs["starts"][1:])
        and all(s == 1 for s in attrs["steps"][1:])
        and tuple(attrs["lengths"][1:]) == tuple(shape[1:])
    )


# ---------------------------------------------------------------------------- the last row


class _LastRows:
    """Which slices read the last row of a stack, of a state's next value."""

    def __init__(self, graph: Graph, loops: Sequence[Node]) -> None:
        self._readers = readers_of(graph)
        apart = protected(graph)
        self.found: dict[Node, Tensor] = {}  # the slice at a stack, to the last value of the state
        for node in loops:
            if node not in apart:
                self._look(node)

    def _look(self, node: Node) -> None:
        loop = Loop.of(node)
        outputs = outputs_of(node)
        made = loop.split(outputs)
        numbers = {key_of(s.following): k for k, s in reversed(list(enumerate(loop.states)))}
        for stack, tensor in zip(loop.stacks, made.stacks, strict=True):
            number = numbers.get(key_of(stack.row))
            readers = self._readers.get(key_of(tensor), [])
            if number is None or not readers:
                continue
            if all(r is not None and self._reads_last(r, loop, stack) for r in readers):
                self.found |= {r: made.last[number] for r in readers if r is not None}

    def _reads_last(self, node: Node, loop: Loop, stack: Stack) -> bool:
        if node.op is not SLICE:
            return False
        attrs, (start, step) = node.attrs, stack.walk
        if not loop.guarded:
            return bool(
                attrs["lengths"][0] == 1 and attrs["starts"][0] == start + step * (loop.length - 1)
            )
        count = attrs["lengths"][0]
        if stack.walk != (0, 1) or attrs["starts"][0] != 0 or not _counts(count, loop):
            return False
        return all(
            r is not None
            and r.op is SLICE
            and r.attrs["lengths"][0] == 1
            and r.attrs["starts"][0] == count - 1
            for r in self._readers.get((node, 0), [None])
        )


def _counts(count: Dimension, loop: Loop) -> bool:
    """Whether a size is the number of the loop's steps."""
    symbol = count.as_symbol() if isinstance(count, Dim) else None
    if symbol is None or symbol.source is None:
        return False
    tensor, _ = symbol.source
    node = tensor.node
    if node.op is not LOOP or tensor.index != len(node.types) - 1 or not node.attrs["guarded"]:
        return False
    frames = [n.attrs["body"].graph.inputs[0].node.attrs.get("frame") for n in (node, loop.node)]
    return frames[0] is not None and frames[0] is frames[1]


def _last_rows(graph: Graph, loops: Sequence[Node]) -> Graph:
    found = _LastRows(graph, loops).found
    if not found:
        return graph
    rewriter = Rewriter()
    for node in graph.nodes:
        current = rewriter.visit(node)
        if node in found:
            last, stack = rewriter.resolve(found[node]), current.inputs[0]
            with on_behalf(node.where, node.scope):
                rewriter.replace(node, _read_of(current, last, stack))
    return graph.with_roots([rewriter.resolve(t) for t in graph.roots])


def _read_of(node: Node, last: Tensor, stack: Tensor) -> Tensor:
    """A slice of the last row of a stack, as one of the last state."""
    attrs = node.attrs
    assert last.shape is not None and stack.shape is not None
    one = last.reshape((1, *last.shape))
    if isinstance(stack.shape[0], int) and stack.shape[0] > 0 and attrs["lengths"][0] == 1:
        return slice_build(
            one, (0, *attrs["starts"][1:]), attrs["lengths"], (1, *attrs["steps"][1:])
        )
    return node.with_inputs((broadcast_to(one, stack.shape),))[0]


# ---------------------------------------------------------------------------- what is used


def _needed(loop: Loop, used: set[int]) -> tuple[set[int], set[Node]]:
    """The states that used outputs depend on, and the parameters that are read for them."""
    states: set[int] = {0} if loop.guarded else set()
    roots: list[Tensor] = []
    for index in used:
        kind, number = loop.place(index)
        if kind in ("last", "past"):
            states.add(number)
        elif kind == "stacks":
            roots.append(loop.stacks[number].row)
    numbers = {s.parameter.node: k for k, s in enumerate(loop.states)}
    stack = [t.node for t in roots] + [loop.states[k].following.node for k in states]
    seen = set(stack)
    while stack:
        node = stack.pop()
        more = [t.node for t in node.inputs]
        if (k := numbers.get(node)) is not None and k not in states:
            states.add(k)
            more.append(loop.states[k].following.node)
        stack += [n for n in dict.fromkeys(more) if n not in seen]
        seen.update(more)
    return states, seen


class _Use:
    """Which outputs of each loop are used, by whatever is used itself."""

    def __init__(self, graph: Graph) -> None:
        self.outputs: dict[Node, set[int]] = {}
        self.kept: dict[Node, tuple[set[int], set[Node]]] = {}
        self.apart, loops = protected(graph), set(loops_of(graph))
        for root in graph.roots:
            self._mark(root)
        for node in reversed(graph.nodes):
            self._visit(node, node in loops)

    def _mark(self, tensor: Tensor) -> None:
        if tensor.node.op is LOOP:
            self.outputs.setdefault(tensor.node, set()).add(tensor.index)

    def _visit(self, node: Node, may_change: bool) -> None:
        operands: Sequence[Tensor] = node.inputs
        if may_change:
            loop = Loop.of(node)
            states, seen = self.kept[node] = _needed(loop, self.outputs.get(node, set()))
            operands = [r.operand for r in loop.rows if r.parameter.node in seen]
            operands += [c.operand for c in loop.captures if c.parameter.node in seen]
            operands += [s.operand for k, s in enumerate(loop.states) if k in states]
        for tensor in operands:
            self._mark(tensor)


def _pruned(old: Node, loop: Loop, use: _Use) -> Sequence[Tensor] | None:
    """The outputs of a loop that keeps what is used; None where that is all."""
    used = use.outputs.get(old, set())
    numbered, seen = use.kept[old]
    before = _size(loop)
    places = [loop.place(i) for i in range(len(old.types))]
    live = [place for i, place in enumerate(places) if i in used]
    past = sorted({k for kind, k in live if kind == "past"})
    stacked = {n for kind, n in live if kind == "stacks"}
    aliases = {} if old in use.apart else _aliases(loop, past, stacked)
    states, walks = sorted(numbered), [stack.walk for stack in loop.stacks]
    kept = [n for n in range(len(loop.stacks)) if ("stacks", n) in live and n not in aliases]
    read = [r for r in loop.rows if r.parameter.node in seen]
    loop.rows = [r if use.apart else _where_it_lies(r) for r in read]
    folded = any(a is not b for a, b in zip(loop.rows, read, strict=True))
    loop.captures = [c for c in loop.captures if c.parameter.node in seen]
    _join_captures(loop)
    loop.states = [loop.states[k] for k in states]
    loop.stacks = [loop.stacks[n] for n in kept]
    loop.histories = [states.index(k) for k in past]
    if _size(loop) == before and not folded:
        return None
    made = loop.make()
    found: list[Tensor] = []
    for i, (kind, n) in enumerate(places):
        if i not in used:
            found.append(Tensor(old, i, old.types[i]))
        elif kind == "last":
            found.append(made.last[states.index(n)])
        elif kind == "past":
            found.append(made.past[states.index(n)])
        elif kind == "stacks":
            found.append(_stack_of(n, kept, aliases, made, states, walks, loop))
        else:
            assert made.count is not None
            found.append(made.count)
    return found


def _size(loop: Loop) -> tuple[int, ...]:
    parts: list[list[Any]] = [loop.rows, loop.states, loop.captures, loop.stacks, loop.histories]
    return tuple(map(len, parts))


def _aliases(loop: Loop, past: Sequence[int], used: set[int]) -> dict[int, tuple[str, int]]:
    """Stacks that another output holds: a state's history, or an earlier stack."""
    following = {key_of(loop.states[k].following): k for k in reversed(past)}
    before = {key_of(loop.states[k].parameter): k for k in past} if not loop.guarded else {}
    walks = {(0, 1), (loop.length - 1, -1)}
    first: dict[tuple[Key, Any], int] = {}
    found: dict[int, tuple[str, int]] = {}
    for n, stack in enumerate(loop.stacks):
        key = key_of(stack.row)
        if n not in used:
            continue
        if stack.walk in walks and key in following:
            found[n] = ("following", following[key])
        elif stack.walk in walks and key in before:
            found[n] = ("before", before[key])
        elif (earlier := first.setdefault((key, stack.walk), n)) != n:
            found[n] = ("stack", earlier)
    return found


def _stack_of(
    number: int, kept: Sequence[int], aliases: dict[int, tuple[str, int]], made: Any,
    states: Sequence[int], walks: Sequence[Walk], loop: Loop,
) -> Tensor:  # fmt: skip
    if number not in aliases:
        tensor: Tensor = made.stacks[kept.index(number)]
        return tensor
    kind, which = aliases[number]
    if kind == "stack":
        return _stack_of(which, kept, aliases, made, states, walks, loop)
    start, step = walks[number]
    first = int(kind == "following") + start
    return along(made.past[states.index(which)], 0, first, loop.length, step)


def _where_it_lies(rows: Rows) -> Rows:
    """Read a slice's rows in what it is a slice of."""
    while rows.operand.node.op is SLICE and _rest_whole(rows.operand.node):
        attrs = rows.operand.node.attrs
        walk = after((attrs["starts"][0], attrs["steps"][0]), *rows.walk)
        rows = Rows(rows.operand.node.inputs[0], rows.parameter, walk)
    return rows


def _join_captures(loop: Loop) -> None:
    """One parameter for each tensor that is captured."""
    first: dict[Key, Capture] = {}
    rewriter, joined = Rewriter(), False
    for capture in loop.captures:
        found = first.setdefault(key_of(capture.operand), capture)
        if found is not capture:
            rewriter.replace(capture.parameter.node, found.parameter)
            joined = True
    if joined:
        loop.captures = list(first.values())
        for node in loop.nodes:
            rewriter.visit(node)
        loop.rewritten(rewriter)


def prune_loops(graph: Graph) -> Graph:
    """Leave out what is not used."""
    if not (loops := loops_of(graph)):
        return graph
    graph = _last_rows(graph, loops)
    use = _Use(graph)
    return each_loop(graph, lambda old, loop: _pruned(old, loop, use))
