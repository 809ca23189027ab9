"""An order of the nodes in which little is alive at a time.

Enters: any graph. Leaves: the same graph with its `order`, found in about linear time, in two
steps. First depth first from what is fetched, where of a node's operands (and of the fetches) come
first those that read shared values, the shallowest before the deeper ones, then those that nothing
else has a part in, the deepest first: a weight's gradient is taken when the backward pass comes by,
a mask or a cast weight is made just before it is read. Then each node whose operands are there, and
which frees at least as many bytes as it takes, runs at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.graph import Graph, Node, Tensor
from graphc.passes.recompute import bytes_of

DEEPEST = 1 << 60


def is_view(node: Node) -> bool:
    """Whether a node's value is its operand's memory, read in another way."""
    return node.op.family == "view" and len(node.inputs) == 1


class _Numbered:
    """A graph as numbers: each node is its place in an order, inputs first."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes
        numbers = {node: number for number, node in enumerate(self.nodes)}
        fed = frozenset(graph.inputs)
        self.inputs: list[list[int]] = []  # each once; what is fed is none of the graph's
        for node in self.nodes:
            read = [t.node for t in node.inputs if t not in fed] if fed else [
                t.node for t in node.inputs
            ]  # fmt: skip
            self.inputs.append([numbers[n] for n in (dict.fromkeys(read) if read[1:] else read)])
        self.roots = list(dict.fromkeys(numbers[t.node] for t in graph.roots if t not in fed))

    def ranks(self) -> list[int]:
        """For each node, its place among the operands of one reader: small ones come first."""
        readers = [0] * len(self.nodes)
        for inputs in self.inputs:
            for read in inputs:
                readers[read] += 1
        ranks: list[int] = []
        for inputs in self.inputs:
            level, shared = 0, False
            for read in inputs:
                rank = ranks[read]
                alone = rank > DEEPEST // 2
                level = max(level, 1 + (DEEPEST - rank if alone else rank))
                shared = shared or not alone or (readers[read] > 1 and bool(self.inputs[read]))
            ranks.append(level if shared else DEEPEST - level)
        return ranks

    def depth_first(self) -> list[int]:
        """All nodes, in the order of the first step."""
        order: list[int] = []
        seen = bytearray(len(self.nodes))
        rank = self.ranks().__getitem__
        path: list[int] = []
        waiting = [sorted(self.roots, key=rank)[::-1]]
        while waiting:
            if not waiting[-1]:
                waiting.pop()
                if path:
                    order.append(path.pop())
                continue
            node = waiting[-1].pop()
            if not seen[node]:
                seen[node] = True
                path.append(node)
                left = self.inputs[node]
                waiting.append(sorted(left, key=rank)[::-1] if len(left) > 1 else left[:])
        return order


class _Eager:
    """The second step. Views are no nodes here: each comes with the first of its readers."""

    def __init__(self, graph: _Numbered) -> None:
        nodes = self._nodes = graph.nodes
        self._inputs = graph.inputs
        self.is_view = bytearray(map(is_view, nodes))
        self._done = bytearray(len(nodes))
        self._bases = list(range(len(nodes)))  # whose memory a node's value is in
        self._sizes = _sizes(nodes)
        self._frees: list[list[int]] = []  # the memory that a node reads
        self._readers: list[list[int]] = [[] for _ in nodes]
        self._missing: list[int] = []  # how many nodes a node waits for
        self._left = [0] * len(nodes)  # how many have yet to read a node's memory,
        self._sums = [0] * len(nodes)  # and the sum of their numbers: that of the last one
        viewed = list(range(len(nodes)))
        for number, inputs in enumerate(graph.inputs):
            if self.is_view[number] and inputs:
                viewed[number] = viewed[inputs[0]]
            if inputs and (self.is_view[number] or nodes[number].op.family == "barrier"):
                self._bases[number] = self._bases[inputs[0]]
            self._add(number, [] if self.is_view[number] else [viewed[i] for i in inputs])
        for root in graph.roots:
            self._sizes[self._bases[root]] = 0  # it stays in any case
        self.order: list[int] = []

    def _add(self, number: int, waits: list[int]) -> None:
        """A node that reads some others, through views."""
        waits = list(dict.fromkeys(waits)) if waits[1:] else waits
        frees = [self._bases[i] for i in waits]
        frees = list(dict.fromkeys(frees)) if frees[1:] else frees
        for other in waits:
            self._readers[other].append(number)
        for base in frees:
            self._left[base] += 1
            self._sums[base] += number
        self._missing.append(len(waits))
        self._frees.append(frees)

    def run(self, order: Sequence[int]) -> list[int]:
        """The nodes in a better order than the given one."""
        for number in order:
            if not self._done[number] and not self.is_view[number]:
                self._run(number)
        for number in order:
            if not self._done[number]:
                self._emit(number)  # a view that is fetched, and that nothing reads
        return self.order

    def _pays(self, number: int) -> bool:
        """Whether running a node now leaves no more alive than before."""
        if self._bases[number] != number:
            return True  # a barrier
        freed = 0
        for base in self._frees[number]:
            if self._left[base] == 1:
                freed += self._sizes[base]
        return freed > 0 and freed >= self._sizes[number]

    def _run(self, number: int) -> None:
        """A node, and then all that frees memory."""
        left, sums, missing = self._left, self._sums, self._missing
        stack = [number]
        while stack:
            current = stack.pop()
            if self._done[current] or missing[current]:
                continue
            if current != number and not self._pays(current):
                continue
            self._emit(current)
            for base in self._frees[current]:
                left[base] -= 1
                sums[base] -= current
                if left[base] == 1:
                    stack.append(sums[base])
            for reader in self._readers[current]:
                missing[reader] -= 1
                if not missing[reader]:
                    stack.append(reader)

    def _emit(self, number: int) -> None:
        """A node, after the views that it reads through."""
        path = [number]
        while path:
            current = path[-1]
            before = len(path)
            for read in self._inputs[current]:
                if self.is_view[read] and not self._done[read]:
                    path.append(read)
            if len(path) == before:
                path.pop()
                if not self._done[current]:
                    self._done[current] = True
                    self.order.append(current)


def _sizes(nodes: Sequence[Node]) -> list[int]:
    """The bytes of each node's outputs; what a run brings takes none."""
    known: dict[int, int] = {}  # by the identity of types: most are shared
    sizes = []
    for node in nodes:
        total = 0
        if node.op.family != "source":
            for index, type in enumerate(node.types):
                if (size := known.get(id(type))) is None:
                    size = known[id(type)] = bytes_of(Tensor(node, index, type))
                total += size
        sizes.append(total)
    return sizes


def depth_first(graph: Graph) -> tuple[Node, ...]:
    """The nodes after the first step alone."""
    numbered = _Numbered(graph)
    return tuple(map(numbered.nodes.__getitem__, numbered.depth_first()))


def schedule(graph: Graph) -> Graph:
    """Order the nodes; the same graph where that changes nothing."""
    numbered = _Numbered(graph)
    found = _Eager(numbered).run(numbered.depth_first())
    order = tuple(map(numbered.nodes.__getitem__, found))
    return graph if order == graph.nodes else replace(graph, order=order)
