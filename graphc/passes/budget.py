"""What to compute again so that the backward pass keeps no more than a budget of the forward pass.

Enters: the forward nodes of a gradient, in order, and which forward tensors the rule of each node
reads. Leaves: the segments of nodes to compute again. The heuristic, in the order that is tried:

1. nothing is computed again, if all that is read fits;
2. what is cheap: pointwise values, views, reductions, softmax and the like, random bits; what
   products and convolutions make is kept;
3. anything, as in T. Chen et al., "Training deep nets with sublinear memory cost" (2016).

In 2 and 3 the nodes are cut into n segments along their order, for n around the square root of the
number of values that are read; each cut is moved to where the least is alive, and the n that keeps
least is taken. Then segments are kept again, the last first, as long as the budget holds.

What is kept is estimated: the bytes of what is read as it was, or, while a segment is computed
again, of what was computed up to its end (the backward pass has let go of the rest) and of its
copies, whichever is most. Values that a run brings, constants and views of other values count
nothing. A size that is not known counts as in the run that is compiled, or as `recompute.NOMINAL`.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from graphc.errors import GradientError
from graphc.graph import Node, Tensor
from graphc.ops.random import RANDOM_BITS
from graphc.passes.recompute import (
    BROUGHT,
    Constants,
    Homes,
    Segment,
    bytes_of,
    is_computed,
)

CHEAP = frozenset({"pointwise", "view", "reduction", "composite", "barrier"})
STEPS = (0.25, 0.5, 1.0, 2.0, 4.0)  # numbers of segments, in square roots
Reads: TypeAlias = Mapping[Node, Sequence[Tensor]]
Value: TypeAlias = tuple[Node, int]


def is_cheap(node: Node) -> bool:
    """Whether computing a node again costs about as much as reading its inputs."""
    return node.op.family in CHEAP or node.op is RANDOM_BITS


class Budget:
    """The forward pass of one gradient, seen as what its backward pass keeps alive."""

    def __init__(self, nodes: Sequence[Node], reads: Reads, homes: Homes) -> None:
        self._nodes = nodes
        self._reads = reads
        self._homes = homes  # of checkpoints: these stay
        self._constant = Constants()
        self._bases: dict[Value, Value] = {}
        self._sizes: dict[Value, int] = {}
        self._place = {node: place for place, node in enumerate(nodes)}
        self._free = [n for n in nodes if n not in homes and is_computed(n)]
        self._weights = self._weighed()

    def homes(self, budget: float) -> Homes:
        """The cheapest segments within a budget; raises a GradientError where there are none."""
        plain = self.kept(self._homes)
        limit = int(budget * plain) if isinstance(budget, float) else budget
        if plain <= limit:
            return self._homes
        least = plain
        for allowed in ([n for n in self._free if is_cheap(n)], self._free):
            segments = min(map(self._assigned, self._cuts(), [allowed] * len(STEPS)), key=self.kept)
            kept = self.kept(segments)
            if kept <= limit:
                return self._trimmed(segments, limit)
            least = min(least, kept)
        raise GradientError(
            f"gradients: memory_budget={budget!r} must hold what the backward pass cannot do "
            f"without: it would keep {plain:,} bytes of the forward pass, at least {least:,} bytes "
            f"where the rest is computed again, and the budget is {limit:,} bytes"
        )

    def kept(self, homes: Homes) -> int:
        """The most bytes that are alive for the backward pass at a time."""
        kept: set[Value] = set()
        copied: dict[Segment, set[Value]] = defaultdict(set)
        again: set[Node] = set()
        for node, tensors in self._reads.items():
            home = homes.get(node)
            for tensor in tensors:
                if home is not None and homes.get(tensor.node) is home:
                    again.add(tensor.node)
                    copied[home].add(self._base(tensor))
                else:
                    kept.add(self._base(tensor))
        for node in reversed(self._nodes):
            if node in again:
                home = homes[node]
                for tensor in node.inputs:
                    if homes.get(tensor.node) is home:
                        again.add(tensor.node)
                    else:
                        kept.add(self._base(tensor))
        ends = {home: self._place[node] for node, home in homes.items()}  # the last one stays
        return self._most(kept, {ends[home]: values for home, values in copied.items()})

    def _most(self, kept: set[Value], copied: Mapping[int, set[Value]]) -> int:
        """The most that is alive, where copies are made up to some places."""
        made = [0] * len(self._nodes)
        for value in kept:
            made[self._place[value[0]]] += self._sizes[value]
        before = list(itertools.accumulate(made))
        copies = (
            before[end] + sum(map(self._sizes.__getitem__, values))
            for end, values in copied.items()
        )
        return max(sum(made), 0, *copies)

    def _base(self, tensor: Tensor) -> Value:
        """The value that a view is a view of."""
        key = (tensor.node, tensor.index)
        if key not in self._bases:
            base = tensor
            while base.node.op.family == "view" and len(base.node.inputs) == 1:
                base = base.node.inputs[0]
            self._bases[key] = found = (base.node, base.index)
            if found not in self._sizes:
                free = base.node.op in BROUGHT or self._constant(base.node)
                self._sizes[found] = 0 if free else bytes_of(base)
        return self._bases[key]

    def _weighed(self) -> list[int]:
        """For each place in the order, the bytes that are read of what is computed there."""
        weights = [0] * len(self._nodes)
        for value in {self._base(t) for tensors in self._reads.values() for t in tensors}:
            weights[self._place[value[0]]] += self._sizes[value]
        return weights

    def _crossing(self) -> list[int]:
        """For each place, the bytes that are computed before it and read by nodes from there on."""
        last: dict[Value, int] = {}
        for place, node in enumerate(self._nodes):
            for tensor in node.inputs:
                last[self._base(tensor)] = place
        change = [0] * (len(self._nodes) + 1)
        for value, place in last.items():
            change[self._place[value[0]] + 1] += self._sizes[value]
            change[place + 1] -= self._sizes[value]
        crossing, alive = [], 0
        for step in change:
            alive += step
            crossing.append(alive)
        return crossing

    def _cuts(self) -> list[list[int]]:
        """Where to cut, for each number of segments that is tried."""
        crossing = self._crossing()
        root = math.sqrt(sum(map(bool, self._weights)))
        counts = [max(2, round(step * root)) for step in STEPS]
        return [self._cut(count, crossing) for count in counts]

    def _cut(self, count: int, crossing: Sequence[int]) -> list[int]:
        """Cuts into segments of about equal weight, each moved to where the least is alive."""
        total, passed = sum(self._weights), 0
        cuts: list[int] = []
        best: tuple[float, int] | None = None
        for place, weight in enumerate(self._weights):
            middle = (len(cuts) + 1) * total / count
            reach = total / count / 2
            if passed > middle + reach and best is not None:
                cuts.append(best[1])
                best = None
            elif passed >= middle - reach:
                best = min(best or (math.inf, 0), (crossing[place], place))
            passed += weight
        return cuts

    def _assigned(self, cuts: Sequence[int], allowed: Sequence[Node]) -> Homes:
        """The allowed nodes in the segments between the cuts, in order."""
        homes = dict(self._homes)
        segments = [Segment() for _ in range(len(cuts) + 1)]
        number = 0
        for node in allowed:
            while number < len(cuts) and self._place[node] >= cuts[number]:
                number += 1
            homes[node] = segments[number]
        return homes

    def _trimmed(self, homes: Homes, limit: int) -> Homes:
        """The segments that are needed, the first ones: their values would be kept longest."""
        order = list(dict.fromkeys(h for n, h in homes.items() if n not in self._homes))
        low, high = 0, len(order)

        def first(count: int) -> Homes:
            chosen = set(order[:count])
            return {n: h for n, h in homes.items() if n in self._homes or h in chosen}

        while low < high:
            middle = (low + high) // 2
            if self.kept(first(middle)) <= limit:
                high = middle
            else:
                low = middle + 1
        return first(low) if self.kept(first(low)) <= limit else homes
