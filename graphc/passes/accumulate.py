"""States that are only ever added to become one operation after the loop, over all steps.

| before, in each step | after the loop |
|---|---|
| `s' = s + a @ b` | one product of the stacks of a and b, over steps and rows |
| `s' = s + scatter(zeros, u, i)` | one scatter of the stacked updates at the stacked indices |
| `s' = s + filter_gradient(x, g)` | one such gradient, over steps and images |
| `s' = s + sum(u)`, `s' = s + u`, where u is stacked in any case | one sum |

These are the gradients of what a loop reads in each step: weights, tables, biases. Several terms
are taken one by one; those that are none of these stay in the loop. Stacks may not take much more
room than the state that they replace. The order of the sum changes, and thereby its rounding.

Enters: any graph. Leaves: the same values, in the tolerance of a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.build import make
from graphc.dims import Dimension
from graphc.graph import Graph, Node, Tensor
from graphc.ops.broadcast import SUM
from graphc.ops.contraction import MATMUL
from graphc.ops.convolution import CONV2D_FILTER_GRADIENT
from graphc.ops.gather import SCATTER, scatter_build
from graphc.ops.shape import reshape, transpose
from graphc.passes.batching import Steps
from graphc.passes.loops import (
    Loop,
    Made,
    Stack,
    State,
    each_loop,
    key_of,
    orientation,
    readers_of,
    rows_read,
    whole,
)  # fmt: skip
from graphc.passes.recompute import bytes_of
from graphc.passes.sweep import uniform

ROOM = 4  # how many times the bytes of a state the stacks that replace it may take each step
VIEWS = frozenset({"reshape", "transpose"})


@dataclass(frozen=True, slots=True)
class _Term:
    """Something that is added in each step: what must be stacked for it, and the sum of all."""

    leaves: Sequence[Tensor]
    total: Callable[[Callable[[Tensor], Tensor], Dimension], Tensor]
    heavy: bool  # whether it is worth stacks of its own


def _shape(tensor: Tensor) -> tuple[Dimension, ...]:
    assert tensor.shape is not None
    return tensor.shape


def _product(node: Node) -> _Term:
    a, b = node.inputs

    def total(stacked: Callable[[Tensor], Tensor], steps: Dimension) -> Tensor:
        *batch, rows, depth = _shape(a)
        columns, count = _shape(b)[-1], len(batch)
        right = transpose(stacked(b), (*range(1, count + 1), 0, count + 1, count + 2))
        right = reshape(right, (*batch, steps * depth, columns))
        if not batch and a.node.op.name == "transpose" and a.node.attrs["axes"] == (1, 0):
            inner = reshape(stacked(a.node.inputs[0]), (steps * depth, rows))
            return make(MATMUL, (transpose(inner, (1, 0)), right))
        if not batch and depth == 1:
            return make(MATMUL, (transpose(reshape(stacked(a), (steps, rows)), (1, 0)), right))
        left = transpose(stacked(a), (*range(1, count + 2), 0, count + 2))
        return make(MATMUL, (reshape(left, (*batch, rows, steps * depth)), right))

    return _Term((a, b), total, True)


def _scatter(node: Node) -> _Term | None:
    base, updates, *indices = node.inputs
    attrs = node.attrs
    if attrs["mode"] != "add" or uniform(base) != 0:
        return None

    def total(stacked: Callable[[Tensor], Tensor], steps: Dimension) -> Tensor:
        position, written = attrs["position"], stacked(updates)
        order = (*range(1, position + 1), 0, *range(position + 1, len(_shape(written))))
        return scatter_build(base, transpose(written, order), *map(stacked, indices), **attrs)

    return _Term((updates, *indices), total, True)


def _filters(node: Node) -> _Term:
    def total(stacked: Callable[[Tensor], Tensor], steps: Dimension) -> Tensor:
        images = []
        for operand in node.inputs:
            count, *rest = _shape(operand)
            images.append(reshape(stacked(operand), (steps * count, *rest)))
        return make(node.op, images, node.attrs)

    return _Term(node.inputs, total, True)


def _sum(node: Node) -> _Term:
    (u,) = node.inputs

    def total(stacked: Callable[[Tensor], Tensor], steps: Dimension) -> Tensor:
        axes = (0, *(axis + 1 for axis in node.attrs["axis"]))
        return make(SUM, (stacked(u),), {**node.attrs, "axis": axes, "keepdims": False})

    return _Term((u,), total, False)


def _plain(u: Tensor) -> _Term:
    def total(stacked: Callable[[Tensor], Tensor], steps: Dimension) -> Tensor:
        return make(SUM, (stacked(u),), {"axis": (0,), "keepdims": False})

    return _Term((u,), total, False)


def _term(tensor: Tensor) -> _Term:
    """The rule for one term; views of a product are taken of its sum."""
    inner = tensor
    while inner.node.op.name in VIEWS:
        inner = inner.node.inputs[0]
    node, found = inner.node, None
    if node.op is MATMUL:
        found = _product(node)
    elif node.op is SCATTER:
        found = _scatter(node)
    elif node.op is CONV2D_FILTER_GRADIENT:
        found = _filters(node)
    elif node.op is SUM:
        found = _sum(node)
    return _plain(tensor) if found is None else found


def _viewed(tensor: Tensor, total: Tensor) -> Tensor:
    """The views through which a term is seen, of its sum."""
    chain = []
    inner = tensor
    while inner.node.op.name in VIEWS:
        chain.append(inner)
        inner = inner.node.inputs[0]
    total = reshape(total, _shape(inner))
    for view in reversed(chain):
        if view.node.op.name == "reshape":
            total = reshape(total, _shape(view))
        else:
            total = transpose(total, view.node.attrs["axes"])
    return total


class _Sums:
    """The sums of one loop, and the stacks that they need."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        body: Graph = loop.node.attrs["body"].graph
        self._readers = readers_of(body)
        self._order = {node: i for i, node in enumerate(loop.nodes)}
        walks = [r.walk for r in loop.rows] or [s.walk for s in loop.stacks]
        self.order = orientation(walks)
        self._rows = {key_of(r.parameter): r for r in loop.rows}
        self._stacks = {key_of(s.row): n for n, s in reversed(list(enumerate(loop.stacks)))}
        steady = {key_of(c.parameter) for c in loop.captures}
        for node in loop.nodes:
            if all(key_of(t) in steady for t in node.inputs):
                steady.update((node, i) for i in range(len(node.types)))
        self._steady = steady
        self.totals: dict[int, list[tuple[Tensor, _Term]]] = {}
        self.rest: dict[int, list[Tensor]] = {}

    def terms(self, number: int) -> list[Tensor] | None:
        """What is added to a state in each step, and nothing else is done with it."""
        state = self.loop.states[number]
        if number in self.loop.histories or not state.parameter.dtype.is_float:
            return None
        if len(self._readers.get(key_of(state.parameter), ())) != 1:
            return None
        found, met, stack = list[Tensor](), 0, [state.following]
        while stack:
            tensor = stack.pop()
            if key_of(tensor) == key_of(state.parameter):
                met += 1
            elif tensor.node.op.name == "add" and len(self._readers[key_of(tensor)]) == 1:
                stack += tensor.node.inputs
            else:
                found.append(tensor)
        return found if met == 1 and found else None

    def base(self, tensor: Tensor) -> Tensor:
        """What a value is a view of."""
        while key_of(tensor) not in self._rows and tensor.node.op.name in VIEWS:
            tensor = tensor.node.inputs[0]
        return tensor

    def room(self, term: _Term) -> int | None:
        """The bytes a step that must be stacked for a term; None where that is not possible."""
        new = {}
        for leaf in map(self.base, term.leaves):
            key = key_of(leaf)
            if key in self._steady:
                return None
            if key not in self._rows and key not in self._stacks:
                new[key] = bytes_of(leaf)
        return sum(new.values())

    def choose(self, heavy: bool) -> None:
        """Take the terms of one kind out of all states."""
        for k, state in enumerate(self.loop.states):
            terms = self.rest[k] if k in self.rest else self.terms(k)
            if terms is None:
                continue
            left = self.rest[k] = list[Tensor]()
            limit = ROOM * bytes_of(state.parameter) if heavy else 0
            for tensor in terms:
                term = _term(tensor)
                room = self.room(term) if term.heavy is heavy else None
                if room is None or room > limit:
                    left.append(tensor)
                    continue
                self.totals.setdefault(k, []).append((tensor, term))
                self._stack(term)

    def _stack(self, term: _Term) -> None:
        for leaf in map(self.base, term.leaves):
            key = key_of(leaf)
            if key not in self._rows and key not in self._stacks:
                self._stacks[key] = len(self.loop.stacks)
                self.loop.stacks.append(Stack(leaf, whole(self.loop.length, self.order)))

    def stacked(self, made: Made) -> Callable[[Tensor], Tensor]:
        """All steps of a value, in one order."""
        loop, steps = self.loop, Steps(self.loop.length)

        def value(tensor: Tensor) -> Tensor:
            base = self.base(tensor)
            key = key_of(base)
            if key not in steps.stacked:
                rows, n = self._rows.get(key), self._stacks.get(key, 0)
                source = made.stacks[n] if rows is None else rows.operand
                walk = loop.stacks[n].walk if rows is None else rows.walk
                steps.stacked[key] = rows_read(source, walk, loop.length, self.order)
            chain = []
            while key_of(tensor) not in steps.stacked:
                chain.append(tensor.node)
                tensor = tensor.node.inputs[0]
            found = steps.stacked[key_of(tensor)]
            for node in reversed(chain):
                steps.add(node)
                found = steps.stacked[node, 0]
            return found

        return value


def _accumulated(loop: Loop) -> Sequence[Tensor] | None:
    """The outputs of a loop whose sums are taken after it."""
    sums = _Sums(loop)
    sums.choose(heavy=True)
    sums.choose(heavy=False)
    if not sums.totals:
        return None
    outputs, states = len(loop.node.attrs["writes"]), loop.states
    kept = [k for k in range(len(states)) if k not in sums.totals or sums.rest[k]]
    loop.histories = [kept.index(k) for k in loop.histories]
    loop.states = [
        _lighter(states[k], sums.rest[k]) if k in sums.totals else states[k] for k in kept
    ]
    made = loop.make()
    stacked = sums.stacked(made)
    last = []
    for k, state in enumerate(states):
        value = made.last[kept.index(k)] if k in kept else state.operand
        for tensor, term in sums.totals.get(k, ()):
            total = _viewed(tensor, term.total(stacked, loop.length))
            value = total if uniform(value) == 0 else value + total
        last.append(value)
    return [*last, *made.past.values(), *made.stacks[:outputs]]


def _lighter(state: State, rest: Sequence[Tensor]) -> State:
    following = state.parameter
    for term in rest:
        following = following + term
    return State(state.operand, state.parameter, following)


def accumulate(graph: Graph) -> Graph:
    """Take sums over steps out of loops."""

    def change(old: Node, loop: Loop) -> Sequence[Tensor] | None:
        return None if loop.guarded or loop.sparing else _accumulated(loop)

    return each_loop(graph, change)
