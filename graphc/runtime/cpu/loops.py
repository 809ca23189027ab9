"""Loops that carry values, tested at their end, and the vectors that they cut an axis into."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.emission import INTEGER, Value, first_lanes, integer


class Loop:
    """`for counter in range(start, stop, step)` with values that one turn hands to the next.

    Open from its making to `close`, which takes what the last turn made of the carried values, and
    gives what they are behind the loop.
    """

    def __init__(
        self, builder: ir.IRBuilder, start: Value, stop: Value, step: int, carried: Sequence[Value]
    ) -> None:
        self.builder, self._stop, self._step = builder, stop, step
        self._before, self._initial = builder.block, list(carried)
        self._body = builder.append_basic_block("body")
        self._after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", start, stop), self._body, self._after)
        builder.position_at_end(self._body)
        self.counter = builder.phi(INTEGER)
        self.counter.add_incoming(start, self._before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, self._before)

    def close(self, values: Sequence[Value] = ()) -> list[Value]:
        """End the body; the builder stands behind the loop."""
        builder, block = self.builder, self.builder.block
        following = builder.add(self.counter, integer(self._step))
        self.counter.add_incoming(following, block)
        for phi, value in zip(self.carried, values, strict=True):
            phi.add_incoming(value, block)
        builder.cbranch(builder.icmp_signed("<", following, self._stop), self._body, self._after)
        builder.position_at_end(self._after)
        results = []
        for initial, value in zip(self._initial, values, strict=True):
            phi = builder.phi(value.type)
            phi.add_incoming(initial, self._before)
            phi.add_incoming(value, block)
            results.append(phi)
        return results


def whole(builder: ir.IRBuilder, start: Value, stop: Value, width: int) -> Value:
    """Where the last whole vector from `start` on ends; the width is a power of two."""
    length = builder.sub(stop, start)
    return builder.add(start, builder.and_(length, integer(-width)))


def first(builder: ir.IRBuilder, left: Value, width: int) -> Value:
    """The mask of as many lanes as are left."""
    return first_lanes(builder, left, width)
