"""The boxes of a graph, one for each node and update; loops and branches are groups around bodies.

Enters: a graph. Leaves: boxes and wires. What a body gets and leaves are boxes at the edge of the
group, so that each wire that crosses it says what it carries: a whole sequence outside, a row of it
inside.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.control import entries, is_loop, is_used
from graphc.draw.boxes import Box, Boxes, box_of, operand_name, update_box
from graphc.draw.control import Drawn, Place
from graphc.draw.levels import Level, Picture
from graphc.graph import Body, Graph, Node, bodies
from graphc.show import Naming


class _Level(Level):
    """The boxes of a graph, or of a body: one for each node."""

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
        box = box_of(node, self.naming, fed)
        box.scope = self.where.of(box.scope)
        self.keep(box, node)
        return box

    def add_control(self, node: Node, inside: Mapping[str, Body]) -> None:
        """The group of a loop or a branch."""
        drawn = Drawn(node, self.where, self.naming, self.naming.tensor)
        if is_loop(node):
            self.add_exits(drawn, self.enter(drawn, node, "body"))
        else:
            self.add_condition(drawn)
            self.add_results(drawn, {name: self.enter(drawn, node, name) for name in inside})
        self.picture.about |= drawn.groups

    def enter(self, drawn: Drawn, node: Node, name: str) -> _Level:
        """A body, with what it gets; its results are not wired yet."""
        graph: Graph = node.attrs[name].graph
        inner = _Level(self.picture, graph, drawn.place(name))
        for entry in entries(node, name):
            if entry.outside is None and not is_used(entry, node, name):
                continue
            box = drawn.entry(entry, inner.where)
            inner.keep(box, entry.parameter.node)
            if entry.outside is not None:
                self.wire(entry.outside, box, entry.role)
        inner.add({t.node for t in graph.inputs})
        return inner


def boxes_of(graph: Graph) -> Boxes:
    """All boxes of a graph, and its wires."""
    picture = Picture(Naming())
    level = _Level(picture, graph, Place())
    fed = list(dict.fromkeys(t.node for t in graph.inputs))
    for node in fed:
        level.add_box(node, True)
    level.add(set(fed))
    for tensor in graph.outputs:
        level.holder(tensor).fetched = True
    for variable, value in graph.updates:
        if (variable.node, 0) not in level.made:  # written without being read
            level.add_box(variable.node, False)
        box = update_box(variable, value, level.made[variable.node, 0], picture.naming)
        picture.boxes.append(box)
        level.wire(value, box, "value")
    return picture.finished()
