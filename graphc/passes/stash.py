"""The loop of a gradient reads what the forward loop has computed, instead of computing it again.

A loop that runs back computes each step again from the states before it. Values of the forward step
that cost something (contractions, reductions, elementary functions, gathers, loops inside) and that
the step back reads are stacked by the forward loop and read as a sequence. Between such a value and
its reader, the tensor is kept that is smallest; one that is a state's next value, or is stacked in
any case, costs nothing; what is cheap from there is computed again.

Enters: any graph, where a later loop repeats what an earlier one did: the same ops over the same
captures and rows. Leaves: the same values. Loops that asked for checkpoints, or for truncation,
stay as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from graphc.dims import Dimension
from graphc.graph import Graph, Node, Tensor
from graphc.ops.bodies import alike
from graphc.ops.loop import ENDLESS, LOOP, Walk
from graphc.ops.random import is_unkeyed
from graphc.passes.loops import (
    Key,
    Loop,
    Rows,
    Stack,
    after,
    body_rewritten,
    each_loop,
    key_of,
    loops_of,
)  # fmt: skip
from graphc.passes.merge_common import PLAIN, exact
from graphc.passes.merge_loops import merge_key
from graphc.passes.recompute import bytes_of

COSTLY = frozenset({"contraction", "reduction", "composite", "opaque", "host", "control"})
ELEMENTARY = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "erf", "erfc", "sigmoid",
    "softplus", "power", "cbrt", "hypot", "sin", "cos", "tan", "arcsin", "arccos", "arctan",
    "arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh",
})  # fmt: skip


def _is_costly(node: Node) -> bool:
    return node.op.family in COSTLY or node.op.name in ELEMENTARY


def _signature(node: Node, inputs: Sequence[Key]) -> Hashable:
    """What two nodes have in common that compute the same."""
    if node.op is LOOP:
        return merge_key(node, inputs)
    if is_unkeyed(node):
        return node
    attrs = tuple(v if type(v) in PLAIN else exact(v) for v in node.attrs.values())
    return node.op, tuple(inputs), attrs


def _alignment(forward: Loop, backward: Loop) -> tuple[Dimension, int] | None:
    """`(first, step)`: at its step t, `backward` is where `forward` was at first + step * t."""
    start, stride = forward.node.attrs["index"]
    begin, pace = backward.node.attrs["index"]
    if abs(stride) != 1 or abs(pace) != 1:
        return None
    first, step = (begin - start) * stride, pace * stride
    last = backward.length - 1
    if first == (0 if step > 0 else last) and (
        forward.guarded or forward.length == backward.length
    ):
        return first, step
    return None


@dataclass
class _Match:
    """Which tensors of the body of a later loop are which of an earlier one."""

    forward: Loop
    backward: Loop
    first: Dimension
    step: int
    same: dict[Key, Tensor] = field(default_factory=dict)
    steady: set[Key] = field(default_factory=set)  # what is the same in each step
    costly: set[Key] = field(default_factory=set)  # what is made of something that costs
    linked: bool = False  # whether the later loop reads what the earlier one has left

    def parameters(self) -> None:
        """Those of the later loop that get what the earlier one had."""
        forward, backward = self.forward, self.backward
        self.same[key_of(backward.index)] = forward.index
        captured = {key_of(c.operand): c.parameter for c in forward.captures}
        for capture in backward.captures:
            if (found := captured.get(key_of(capture.operand))) is not None:
                self.same[key_of(capture.parameter)] = found
                self.steady.add(key_of(capture.parameter))
        sources = self._sources()
        for rows in backward.rows:
            for value, walk in sources.get(key_of(rows.operand), ()):
                if after(walk, self.first, self.step) == rows.walk:
                    self.same[key_of(rows.parameter)] = value
                    self.linked |= rows.operand.node is forward.node

    def _sources(self) -> dict[Key, list[tuple[Tensor, Walk]]]:
        """What lies in stacks that both loops may read: values of the earlier loop's steps."""
        forward, found = self.forward, dict[Key, list[tuple[Tensor, Walk]]]()
        for rows in forward.rows:
            found.setdefault(key_of(rows.operand), []).append((rows.parameter, rows.walk))
        node = forward.node
        for place, k in enumerate(forward.histories):
            state = forward.states[k]
            key = (node, len(forward.states) + place)
            found[key] = [(state.parameter, (0, 1)), (state.following, (1, 1))]
        behind = len(forward.states) + len(forward.histories)
        for n, stack in enumerate(forward.stacks):
            found[node, behind + n] = [(stack.row, stack.walk)]
        return found

    def nodes(self) -> None:
        """Nodes of the later loop that compute what the earlier one did."""
        known: dict[Hashable, Node] = {}
        for node in self.forward.nodes:
            known.setdefault(_signature(node, [key_of(t) for t in node.inputs]), node)
        for node in self.backward.nodes:
            if any(key_of(t) not in self.same for t in node.inputs):
                continue
            inputs = [self.same[key_of(t)] for t in node.inputs]
            found = known.get(_signature(node, [key_of(t) for t in inputs]))
            if found is not None and (node.op is not LOOP or found.types == node.types):
                same: Sequence[Tensor] = [Tensor(found, i, t) for i, t in enumerate(node.types)]
            elif node.op is LOOP and found is not None:
                same = node.with_inputs(tuple(inputs))  # it leaves more; merge_loops joins them
            else:
                continue
            self._note(node, same)

    def _note(self, node: Node, same: Sequence[Tensor]) -> None:
        keys = [(node, i) for i in range(len(node.types))]
        self.same |= dict(zip(keys, same, strict=True))
        if all(key_of(t) in self.steady for t in node.inputs):
            self.steady.update(keys)
        elif _is_costly(node) or any(key_of(t) in self.costly for t in node.inputs):
            self.costly.update(keys)

    def wanted(self) -> list[Tensor]:
        """What the step back reads of the step forward and cannot have for little."""
        read: dict[Key, Tensor] = {}
        for node in self.backward.nodes:
            if (node, 0) not in self.same:
                read |= {key_of(t): t for t in node.inputs if key_of(t) in self.costly}
        read |= {key_of(t): t for t in self.backward.results if key_of(t) in self.costly}
        order = {node: i for i, node in enumerate(self.backward.nodes)}
        choice = _Choice(self)
        for tensor in sorted(read.values(), key=lambda t: order[t.node]):
            choice.take(tensor)
        return list(choice.taken.values())


class _Choice:
    """Which tensors are kept, where several would do."""

    def __init__(self, match: _Match) -> None:
        self._match = match
        self.taken: dict[Key, Tensor] = {}
        forward = match.forward
        self._free = {key_of(s.row) for s in forward.stacks}
        self._free |= {key_of(forward.states[k].following) for k in forward.histories}
        self._costs: dict[Key, int] = {}
        for node in match.backward.nodes:
            for i, type in enumerate(node.types):
                if (node, i) in match.costly:
                    self._costs[node, i] = self._cost(Tensor(node, i, type))

    def _is_free(self, tensor: Tensor) -> bool:
        key = key_of(tensor)
        return key in self.taken or key_of(self._match.same[key]) in self._free

    def _inputs(self, tensor: Tensor) -> list[Tensor]:
        found = {key_of(t): t for t in tensor.node.inputs if key_of(t) in self._match.costly}
        return list(found.values())

    def _cost(self, tensor: Tensor) -> int:
        """The bytes a step that must be kept to have a tensor."""
        if self._is_free(tensor):
            return 0
        if _is_costly(tensor.node):
            return bytes_of(tensor)
        return min(bytes_of(tensor), sum(self._costs[key_of(t)] for t in self._inputs(tensor)))

    def take(self, tensor: Tensor) -> None:
        """Keep what is needed to have a tensor."""
        stack = [tensor]
        while stack:
            current = stack.pop()
            if key_of(current) in self.taken:
                continue
            inputs = self._inputs(current)
            below = sum(0 if self._is_free(t) else self._costs[key_of(t)] for t in inputs)
            through = not _is_costly(current.node) and below < bytes_of(current)
            if through and not self._is_free(current):
                stack += inputs
            else:
                self.taken[key_of(current)] = current


def _stashed(match: _Match) -> tuple[Loop, dict[Key, tuple[str, int]]] | None:
    """The forward loop with the stacks that are wanted, and where each wanted tensor lies."""
    wanted = match.wanted()
    if not wanted:
        return None
    forward = match.forward
    places: dict[Key, tuple[str, int]] = {}
    following = {key_of(forward.states[k].following): k for k in forward.histories}
    rows = {key_of(stack.row): n for n, stack in enumerate(forward.stacks)}
    for tensor in wanted:
        value = match.same[key_of(tensor)]
        key = key_of(value)
        if key in following:
            places[key_of(tensor)] = "past", following[key]
            continue
        if key not in rows:
            rows[key] = len(forward.stacks)
            forward.stacks.append(Stack(value, (0, 1)))
        places[key_of(tensor)] = "stacks", rows[key]
    return forward, places


def _pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Loops of which the later may do again what the earlier did."""
    loops, found = loops_of(graph), []
    for i, earlier in enumerate(loops):
        if earlier.attrs["checkpoint"] is not None or earlier.attrs["truncate"] is not None:
            continue
        if earlier.attrs["length"] == ENDLESS:
            continue
        given = {key_of(t) for t in earlier.inputs}
        for later in loops[i + 1 :]:
            if any(t.node is earlier or key_of(t) in given for t in later.inputs):
                found.append((earlier, later))
    return found


def _matched(earlier: Node, later: Node) -> _Match | None:
    forward, backward = Loop.of(earlier), Loop.of(later)
    alignment = _alignment(forward, backward)
    if alignment is None:
        return None
    match = _Match(forward, backward, *alignment)
    match.parameters()
    if forward.guarded and not match.linked:
        return None
    match.nodes()
    return match


def _applied(graph: Graph, match: _Match) -> Graph | None:
    """The graph with both loops changed; None where nothing is to be kept."""
    stashed = _stashed(match)
    if stashed is None:
        return None
    forward, places = stashed
    old, later = forward.node, match.backward.node
    outputs: list[Tensor] = []

    def change(node: Node, loop: Loop) -> Sequence[Tensor] | None:
        if node is old:
            made = forward.make()
            stacks = made.stacks
            old_stacks = len(old.attrs["writes"])
            outputs[:] = [_found(made, place) for place in places.values()]
            count = [] if made.count is None else [made.count]
            return [*made.last, *made.past.values(), *stacks[:old_stacks], *count]
        if node is later:
            return _reading(loop, match, forward, places, outputs)
        return None

    return each_loop(graph, change)


def _found(made, place: tuple[str, int]) -> Tensor:  # type: ignore[no-untyped-def]  # any outputs
    kind, number = place
    tensor: Tensor = getattr(made, kind)[number]
    return tensor


def _reading(
    backward: Loop, match: _Match, forward: Loop, places: dict[Key, tuple[str, int]],
    outputs: Sequence[Tensor],
) -> Sequence[Tensor]:  # fmt: skip
    """The later loop, where rows stand for what it computed."""
    replaced: dict[Key, Tensor] = {}
    for (key, (kind, number)), operand in zip(places.items(), outputs, strict=True):
        node, index = key
        parameter = replaced[key] = alike(Tensor(node, index, node.types[index]))
        written = (1, 1) if kind == "past" else forward.stacks[number].walk
        walk = after(written, match.first, match.step)
        backward.rows.append(Rows(operand, parameter, walk))
    body_rewritten(backward, replaced)
    made = backward.make()
    count = [] if made.count is None else [made.count]
    return [*made.last, *made.past.values(), *made.stacks, *count]


def stash(graph: Graph) -> Graph:
    """Keep what loops that run back would compute again."""
    done: set[tuple[int, int]] = set()
    while True:
        for earlier, later in _pairs(graph):
            if (earlier.serial, later.serial) in done:
                continue
            done.add((earlier.serial, later.serial))
            match = _matched(earlier, later)
            changed = None if match is None else _applied(graph, match)
            if changed is not None:
                graph = changed
                break
        else:
            return graph
