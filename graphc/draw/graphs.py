"""The boxes of a graph, one for each node and update; loops and branches are groups around bodies.

Enters: a graph. Leaves: boxes and wires. What a body gets and leaves are boxes at the edge of the
group, so that each wire that crosses it says what it carries: a whole sequence outside, a row of it
inside.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.context import Scope
from graphc.control import counted, entries, exits, is_loop, is_used
from graphc.draw.boxes import About, Box, Boxes, Wire, box_of, operand_name, update_box, wire_of
from graphc.draw.control import Drawn, Place
from graphc.graph import Body, Graph, Node, Tensor, bodies
from graphc.show import Naming


class _Level:
    """The boxes of a graph, or of a body, as they are made."""

    def __init__(self, reader: _Reader, graph: Graph, place: Place) -> None:
        self.reader, self.graph, self.place = reader, graph, place
        self.of: dict[tuple[Node, int], Box] = {}
        self.read = {(t.node, t.index) for t in graph.tensors()}

    def add(self, fed: set[Node]) -> None:
        """The boxes of all nodes, and the wires between them."""
        for node in self.graph.nodes:
            if node in fed:
                continue
            if inside := bodies(node):
                self.add_control(node, inside)
            else:
                head = self.add_box(node, False)
                for position, tensor in enumerate(node.inputs):
                    self.wire(tensor, head, operand_name(node, position))

    def add_box(self, node: Node, fed: bool) -> Box:
        """The box of a plain node."""
        box = box_of(node, self.reader.naming, fed)
        box.scope = self.place.of(box.scope)
        for index in range(len(node.types)):
            self.of[node, index] = box
        self.reader.boxes.append(box)
        return box

    def wire(self, tensor: Tensor, head: Box, operand: str) -> None:
        """One use of a tensor of this graph."""
        tail = self.of[tensor.node, tensor.index]
        self.reader.wires.append(wire_of(tail, tensor, head, operand, self.reader.naming))

    def keep(self, box: Box, node: Node, index: int) -> None:
        """The box of a result of a control node."""
        self.of[node, index] = box
        self.reader.boxes.append(box)

    def add_control(self, node: Node, inside: Mapping[str, Body]) -> None:
        """The group of a loop or a branch."""
        naming = self.reader.naming
        drawn = Drawn(node, self.place, naming, naming.tensor)
        if is_loop(node):
            self.add_loop(drawn, node)
        else:
            self.add_branch(drawn, node, inside)
        self.reader.about |= drawn.groups

    def enter(self, drawn: Drawn, node: Node, name: str) -> _Level:
        """A body, with what it gets; its results are not wired yet."""
        graph: Graph = node.attrs[name].graph
        inner = _Level(self.reader, graph, drawn.place(name))
        for entry in entries(node, name):
            if entry.outside is None and not is_used(entry, node, name):
                continue
            box = drawn.entry(entry, inner.place)
            inner.keep(box, entry.parameter.node, entry.parameter.index)
            if entry.outside is not None:
                self.wire(entry.outside, box, entry.role)
        inner.add({t.node for t in graph.inputs})
        return inner

    def add_loop(self, drawn: Drawn, node: Node) -> None:
        """A loop: what a step gets, does and leaves."""
        inner = self.enter(drawn, node, "body")
        for found in exits(node, "body"):
            state = found.entry
            if state is None and (node, found.output) not in self.read:
                continue
            entering = None if state is None else inner.of[state.parameter.node, 0]
            box = drawn.exit(found, entering, inner.place)
            self.keep(box, node, found.output)
            if state is not None and state.kept is not None:
                self.of[node, state.kept] = box
            inner.wire(found.value, box, found.role)
        count = counted(node)
        if count is not None and (node, count) in self.read:
            self.keep(drawn.count(count), node, count)

    def add_branch(self, drawn: Drawn, node: Node, inside: Mapping[str, Body]) -> None:
        """A branch: its condition, both sides, and its results."""
        condition = drawn.condition()
        self.reader.boxes.append(condition)
        self.wire(node.inputs[0], condition, "condition")
        sides = {name: self.enter(drawn, node, name) for name in inside}
        for index in range(len(node.types)):
            box = drawn.result(index)
            self.keep(box, node, index)
            for name, side in sides.items():
                side.wire(side.graph.outputs[index], box, name)


class _Reader:
    """The boxes of a graph and of all bodies in it."""

    def __init__(self, graph: Graph) -> None:
        self.naming = Naming()
        self.boxes: list[Box] = []
        self.wires: list[Wire] = []
        self.about: dict[Scope, About] = {}
        level = _Level(self, graph, Place())
        fed = list(dict.fromkeys(t.node for t in graph.inputs))
        for node in fed:
            level.add_box(node, True)
        level.add(set(fed))
        for tensor in graph.outputs:
            level.of[tensor.node, tensor.index].fetched = True
        for variable, value in graph.updates:
            if (variable.node, 0) not in level.of:  # written without being read
                level.add_box(variable.node, False)
            box = update_box(variable, value, level.of[variable.node, 0], self.naming)
            self.boxes.append(box)
            level.wire(value, box, "value")


def boxes_of(graph: Graph) -> Boxes:
    """All boxes of a graph, and its wires."""
    reader = _Reader(graph)
    return Boxes(reader.boxes, reader.wires, reader.about)
