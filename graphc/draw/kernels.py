"""The boxes of a plan: every kernel is a scope that holds what it computes, views and all.

Enters: a lowered graph. Leaves: boxes and wires, with one scope a kernel. Edges between kernels are
what is stored; what several kernels compute for themselves is drawn in each of them. Numbers are
words on the box that reads them. Host calls, and what is given to a run, stand outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from graphc.context import Scope
from graphc.draw.boxes import (
    About,
    Box,
    Boxes,
    Wire,
    box_of,
    kind_of_node,
    operand_name,
    source_line,
    types_text,
    update_box,
    wire_of,
)
from graphc.draw.text import clean
from graphc.graph import Node, Tensor
from graphc.kernel import Kernel
from graphc.kernel_text import lines_text, show_kernel
from graphc.lower import Lowered, literal
from graphc.ops.source import FULL
from graphc.plan import Call, Step
from graphc.show import Naming, node_line


def number_text(tensor: Tensor, naming: Naming) -> str | None:
    """The text of a number, or of a view of a number; None for anything else."""
    node = tensor.node
    while node.op.family == "view" and len(node.inputs) == 1:
        tensor = node.inputs[0]
        node = tensor.node
    if node.op is FULL:
        return naming.value(node.attrs["value"])
    value = literal(tensor)
    return None if value is None else repr(value)


def loops_text(kernel: Kernel, naming: Naming) -> str:
    """The loop nest, without the names of its axes: `for batch, 512`."""
    nest = ", ".join(naming.value(axis.extent) for axis in kernel.axes)
    order = ", ".join(naming.value(axis.extent) for axis in kernel.order)
    words = [f"for {nest}"] * bool(nest) + [f"in order {order}"] * bool(order)
    return ", ".join(words) or "one value"


class _Reader:
    """The boxes of a plan, as they are made."""

    def __init__(self, lowered: Lowered) -> None:
        self.graph, self.naming = lowered.graph, lowered.naming
        self.fed = {(t.node, t.index) for t in self.graph.inputs}
        self.place = {node: i for i, node in enumerate(self.graph.nodes)}
        self.owners = {buffer: node for (node, _), buffer in lowered.buffers.items()}
        self.boxes: list[Box] = []
        self.wires: list[Wire] = []
        self.kernels: dict[Scope, About] = {}
        self.made: dict[Node, Box] = {}  # what holds a buffer
        self.updates: dict[Node, list[tuple[Tensor, Tensor]]] = {}
        for variable, value in self.graph.updates:
            self.updates.setdefault(value.node, []).append((variable, value))
        for step, parts in zip(lowered.plan.steps, lowered.parts, strict=True):
            self.add(step, parts)
        for tensor in self.graph.outputs:
            self.holder(tensor).fetched = True
        for node in list(self.updates):
            self.add_updates(node)  # of what is given

    def holder(self, tensor: Tensor) -> Box:
        """What holds a tensor: a box of an earlier step, or one of what is given to a run."""
        node = tensor.node
        if node not in self.made:
            box = self.made[node] = box_of(node, self.naming, (node, tensor.index) in self.fed)
            box.scope, box.named, box.gradient = None, False, False
            box.title = clean(self.naming.node(node))
            self.boxes.append(box)
        return self.made[node]

    def add_updates(self, node: Node) -> None:
        """The boxes of what is written to variables of a node's values."""
        for variable, value in self.updates.pop(node, ()):
            box = update_box(variable, value, self.holder(variable), self.naming)
            box.scope, box.title = None, self.holder(variable).title
            self.wires.append(wire_of(self.holder(value), value, box, "value", self.naming))
            self.boxes.append(box)

    def add(self, step: Step, parts: AbstractSet[Node]) -> None:
        """The boxes of one step."""
        stored = set(parts)
        if isinstance(step, Call):
            stored = {self.owners[store.buffer] for store in step.kernel.stores}
            self.add_kernel(step.kernel, stored, parts)
        else:
            self.connect({node: self.part(node, None, "host") for node in parts}, stored)
        for node in sorted(stored, key=self.place.__getitem__):
            self.add_updates(node)

    def add_kernel(
        self, kernel: Kernel, stored: AbstractSet[Node], parts: AbstractSet[Node]
    ) -> None:
        """The boxes of one kernel."""
        needed = self.needed(stored, parts)
        gradient = all(node.scope is not None and node.scope.gradient for node in stored)
        scope = Scope(kernel.name, None, gradient)
        where = clean(lines_text(kernel), 60) if kernel.lines else ""
        text = "\n".join(clean(t, 400) for t in show_kernel(kernel, self.naming).splitlines())
        self.kernels[scope] = About(loops_text(kernel, self.naming), where, text)
        inside = {
            node: self.part(node, scope, _kind(node, node in stored), node in stored)
            for node in needed
        }
        self.connect(inside, stored)

    def needed(self, stored: AbstractSet[Node], parts: AbstractSet[Node]) -> list[Node]:
        """The nodes that a kernel computes, those aside that only make numbers."""
        stack, found = list(stored), set(stored)
        while stack:
            for tensor in stack.pop().inputs:
                node = tensor.node
                if node in parts and node not in found and number_text(tensor, self.naming) is None:
                    found.add(node)
                    stack.append(node)
        return sorted(found, key=self.place.__getitem__)

    def part(self, node: Node, scope: Scope | None, kind: str, stored: bool = True) -> Box:
        """The box of a node that a step computes."""
        line = node_line(node, self.naming)
        title = node.op.name if node.name is None else self.naming.node(node)
        number = [f"%{self.naming.node(node)}"] if stored else []
        words = number if node.name is None else [node.op.name]
        words = [*words, self.naming.attrs(node), *self.numbers(node)]
        subtitle = "  ".join(clean(word) for word in words if word)
        box = Box(
            kind, clean(title), subtitle, clean(str(node.where)), source_line(node.where),
            clean(line, 400), node.op.name, types_text(node, self.naming), kind == "gradient",
            scope,
        )  # fmt: skip
        self.boxes.append(box)
        return box

    def numbers(self, node: Node) -> Iterator[str]:
        """The operands that are numbers, in words."""
        for position, tensor in enumerate(node.inputs):
            if (text := self.number(tensor)) is not None:
                yield f"{operand_name(node, position)}={text}"

    def number(self, tensor: Tensor) -> str | None:
        """The text of an operand that is a number; None where it is something else."""
        return None if tensor.node in self.made else number_text(tensor, self.naming)

    def connect(self, inside: Mapping[Node, Box], stored: AbstractSet[Node]) -> None:
        """The wires into the boxes of a step, and what it has made."""
        for node, head in inside.items():
            for position, tensor in enumerate(node.inputs):
                if self.number(tensor) is None:
                    tail = inside.get(tensor.node) or self.holder(tensor)
                    operand = operand_name(node, position)
                    self.wires.append(wire_of(tail, tensor, head, operand, self.naming))
        self.made |= {node: inside[node] for node in inside if node in stored}


def _kind(node: Node, stored: bool) -> str:
    kind = kind_of_node(node, False)
    return "view" if node.op.family == "view" and not stored else kind


def boxes_of_plan(lowered: Lowered) -> Boxes:
    """All boxes of a plan, and its wires; every kernel is a scope."""
    reader = _Reader(lowered)
    return Boxes(reader.boxes, reader.wires, reader.kernels)
