"""A graph as it is being drawn: its boxes, and those of the bodies inside of it.

Enters: boxes of nodes, and control nodes. Leaves: what holds each tensor, wires, and the results of
loops and branches at the edges of their groups. `graphs.py` and `kernels.py` differ in what a box
is: a node, or what a kernel computes and stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graphc.context import Scope
from graphc.control import counted, exits
from graphc.draw.boxes import About, Box, Boxes, Wire, wire_of
from graphc.draw.control import Drawn, Place
from graphc.graph import Graph, Node, Tensor
from graphc.show import Naming


@dataclass
class Picture:
    """All boxes and wires, as they are made."""

    naming: Naming
    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    about: dict[Scope, About] = field(default_factory=dict)

    def finished(self) -> Boxes:
        """What is drawn."""
        return Boxes(self.boxes, self.wires, self.about)


class Level:
    """The boxes of a graph, or of a body; `where` they stand."""

    def __init__(self, picture: Picture, graph: Graph, where: Place) -> None:
        self.picture, self.naming, self.graph, self.where = picture, picture.naming, graph, where
        self.read = {(t.node, t.index) for t in graph.tensors()}
        self.made: dict[tuple[Node, int], Box] = {}  # what holds a tensor

    def holder(self, tensor: Tensor) -> Box:
        """What holds a tensor of this graph."""
        return self.made[tensor.node, tensor.index]

    def keep(self, box: Box, node: Node, index: int | None = None) -> None:
        """A box that holds an output of a node, or all."""
        for place in range(len(node.types)) if index is None else (index,):
            self.made[node, place] = box
        self.picture.boxes.append(box)

    def wire(self, tensor: Tensor, head: Box, operand: str, tail: Box | None = None) -> None:
        """One use of a tensor of this graph."""
        held = tail or self.holder(tensor)
        self.picture.wires.append(wire_of(held, tensor, head, operand, self.naming))

    def add_exits(self, drawn: Drawn, inner: Level) -> None:
        """What the steps of a loop leave, each of which is `inner`."""
        node = drawn.node
        for found in exits(node, "body", inner.graph):
            state = found.entry
            if state is None and (node, found.output) not in self.read:
                continue
            entering = None if state is None else inner.holder(state.parameter)
            box = drawn.exit(found, entering, inner.where)
            self.keep(box, node, found.output)
            if state is not None and state.kept is not None:
                self.made[node, state.kept] = box
            inner.wire(found.value, box, found.role)
        count = counted(node)
        if count is not None and (node, count) in self.read:
            self.keep(drawn.count(count), node, count)

    def add_condition(self, drawn: Drawn) -> None:
        """What a branch asks."""
        condition = drawn.condition()
        self.picture.boxes.append(condition)
        self.wire(drawn.node.inputs[0], condition, "condition")

    def add_results(self, drawn: Drawn, sides: Mapping[str, Level]) -> None:
        """What a branch gives: the results of one side."""
        for index in range(len(drawn.node.types)):
            box = drawn.result(index)
            self.keep(box, drawn.node, index)
            for name, side in sides.items():
                side.wire(side.graph.outputs[index], box, name)
