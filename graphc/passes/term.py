"""Tensors as Python's `match` sees them: `Term("log", Term("add", Term(value=1), x))`.

A term looks into the graph only as far as a pattern asks. It is opaque where a gradient is taken
for the tensor inside, since a rule that reached through would leave that tensor out of the way. The
outermost one is what a rule replaces, so it is always open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from graphc.graph import Node, Tensor
from graphc.ops.random import is_unkeyed
from graphc.ops.source import CONSTANT, FULL
from graphc.passes.sweep import uniform


class Term:
    """One tensor in a pattern: its op's name and its operands `a`, `b`, `c`."""

    __match_args__ = ("name", "a", "b", "c")
    __slots__ = ("apart", "name", "tensor")

    def __init__(
        self, tensor: Tensor, apart: Collection[Node] = (), outermost: bool = False
    ) -> None:
        self.tensor = tensor
        self.apart = apart
        node = tensor.node
        hidden = node in apart and not outermost
        opaque = hidden or node.op.outputs is not None or not node.settled
        self.name = "" if opaque else node.op.name

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes of its node."""
        return self.tensor.node.attrs

    @property
    def value(self) -> Any:
        """The number that every element is, or None."""
        return uniform(self.tensor)

    def operand(self, position: int) -> Term:
        """An operand; a pattern that asks for one that is not there does not match."""
        inputs = self.tensor.node.inputs
        if not self.name or position >= len(inputs):
            raise AttributeError(position)
        return Term(inputs[position], self.apart)

    @property
    def a(self) -> Term:
        """The first operand."""
        return self.operand(0)

    @property
    def b(self) -> Term:
        """The second operand."""
        return self.operand(1)

    @property
    def c(self) -> Term:
        """The third operand."""
        return self.operand(2)


def same(a: Tensor, b: Tensor, budget: int = 16) -> bool:
    """Whether two tensors are one, or are built alike from the same few nodes up."""
    pairs = [(a, b)]
    while pairs:
        a, b = pairs.pop()
        if a is b:
            continue
        budget -= 1
        first, second = a.node, b.node
        if (
            budget < 0 or first.op is not second.op or a.index != b.index or is_unkeyed(first)
            or (first.op.family in ("source", "host") and first.op not in (FULL, CONSTANT))
            or len(first.inputs) != len(second.inputs) or first.attrs != second.attrs
        ):  # fmt: skip
            return False
        pairs.extend(zip(first.inputs, second.inputs, strict=True))
    return True
