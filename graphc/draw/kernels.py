"""The boxes of a plan: every kernel is a scope that holds what it computes, views and all.

Enters: a lowered graph. Leaves: boxes and wires, with one scope a kernel, and one around the steps
of a loop, or of a side of a branch. Edges between kernels are what is stored; what several kernels
compute for themselves is drawn in each of them. Numbers are words on the box that reads them. Host
calls, and what is given to a run, stand outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from graphc.context import Scope
from graphc.control import entries, is_used, output
from graphc.draw.boxes import (
    About,
    Box,
    Boxes,
    box_of,
    kind_of_node,
    operand_name,
    source_line,
    types_text,
    update_box,
)
from graphc.draw.control import Drawn, Place
from graphc.draw.levels import Level, Picture
from graphc.draw.text import clean
from graphc.graph import Graph, Node, Tensor
from graphc.kernel import Buffer, Kernel
from graphc.kernel_text import lines_text, show_kernel
from graphc.lower import Inside, Lowered, Parts, literal
from graphc.ops.source import FULL
from graphc.plan import Branch, Call, Host, Loop, Step
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


class _Level(Level):
    """The boxes of a plan's steps, or of those in a loop or in one side of a branch."""

    def __init__(
        self, picture: Picture, graph: Graph, buffers: Mapping[tuple[Node, int], Buffer],
        where: Place, around: _Level | None = None,
    ) -> None:  # fmt: skip
        super().__init__(picture, graph, where)
        self.buffers, self.around = buffers, around
        self.fed = {(t.node, t.index) for t in graph.inputs}
        self.place = {node: i for i, node in enumerate(graph.nodes)}
        self.owners = {buffer: node for (node, _), buffer in buffers.items()}
        self.taken: dict[Node, Tensor] = {}  # parameters: what they are outside
        self.updates: dict[Node, list[tuple[Tensor, Tensor]]] = {}

    def add_all(self, steps: Sequence[Step], parts: Sequence[Parts]) -> None:
        """The boxes of some steps."""
        for step, made_of in zip(steps, parts, strict=True):
            self.add(step, made_of)

    def text(self, tensor: Tensor) -> str:
        """What the listing calls a tensor of this level, or of one around it."""
        level: _Level | None = self
        while level is not None:
            if (found := level.buffers.get((tensor.node, tensor.index))) is not None:
                return f"%{found.name}"
            level = level.around
        return self.naming.tensor(tensor)

    def holder(self, tensor: Tensor) -> Box:
        """What holds a tensor: a box of an earlier step, or one of what is given to a run."""
        node, key = tensor.node, (tensor.node, tensor.index)
        if node in self.taken:
            assert self.around is not None
            return self.around.holder(self.taken[node])
        if key not in self.made:
            box = box_of(node, self.naming, self.around is None and key in self.fed)
            box.scope, box.named, box.gradient = self.where.scope, False, False
            box.title = clean(self.naming.node(node))
            self.keep(box, node)
        return self.made[key]

    def add_updates(self, node: Node) -> None:
        """The boxes of what is written to variables of a node's values."""
        for variable, value in self.updates.pop(node, ()):
            box = update_box(variable, value, self.holder(variable), self.naming)
            box.scope, box.title = None, self.holder(variable).title
            self.wire(value, box, "value")
            self.picture.boxes.append(box)

    def add(self, step: Step, parts: Parts) -> None:
        """The boxes of one step."""
        stored = set(parts.nodes)
        if isinstance(step, Call):
            stored = {self.owners[store.buffer] for store in step.kernel.stores}
            self.add_kernel(step.kernel, stored, parts.nodes)
        elif isinstance(step, Host):
            scope = self.where.scope
            self.connect({node: self.part(node, scope, "host") for node in stored}, stored)
        else:
            self.add_control(step, parts.inside)
        for node in sorted(stored, key=self.place.__getitem__):
            self.add_updates(node)

    # ------------------------------------------------------------------ loops and branches

    def add_control(self, step: Loop | Branch, inside: Sequence[Inside]) -> None:
        """The group of a loop or a branch."""
        drawn = Drawn(step.node, self.where, self.naming, self.text)
        if isinstance(step, Loop):
            self.add_exits(drawn, self.enter(drawn, "body", inside[0], step.steps))
        else:
            self.add_condition(drawn)
            bodies = zip(("then", "otherwise"), inside, (step.then, step.otherwise), strict=True)
            sides = {name: self.enter(drawn, name, body, steps) for name, body, steps in bodies}
            self.add_results(drawn, sides)
        self.picture.about |= drawn.groups

    def enter(self, drawn: Drawn, name: str, inside: Inside, steps: Sequence[Step]) -> _Level:
        """A body and its steps; what it captures is read where it is, outside."""
        node = drawn.node
        inner = _Level(self.picture, inside.graph, inside.buffers, drawn.place(name), self)
        drawn.name = inner.text
        for entry in entries(node, name):
            if entry.role == "take" and entry.outside is not None:
                inner.taken[entry.parameter.node] = entry.outside
            elif entry.outside is not None or is_used(entry, node, name):
                box = drawn.entry(entry, inner.where)
                inner.keep(box, entry.parameter.node)
                if entry.outside is not None:
                    self.wire(entry.outside, box, entry.role)
        inner.add_all(steps, inside.parts)
        return inner

    # ------------------------------------------------------------------ kernels

    def add_kernel(
        self, kernel: Kernel, stored: AbstractSet[Node], parts: AbstractSet[Node]
    ) -> None:
        """The boxes of one kernel."""
        needed = self.needed(stored, parts)
        gradient = all(node.scope is not None and node.scope.gradient for node in stored)
        scope = Scope(kernel.name, self.where.scope, gradient)
        where = clean(lines_text(kernel), 60) if kernel.lines else ""
        text = "\n".join(clean(t, 400) for t in show_kernel(kernel, self.naming).splitlines())
        self.picture.about[scope] = About("kernel", loops_text(kernel, self.naming), where, text)
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
        number = [self.held(node)] if stored else []
        words = number if node.name is None else [node.op.name]
        words = [*words, self.naming.attrs(node), *self.numbers(node)]
        subtitle = "  ".join(clean(word) for word in words if word)
        box = Box(
            kind, clean(title), subtitle, clean(str(node.where)), source_line(node.where),
            clean(line, 400), node.op.name, types_text(node, self.naming), kind == "gradient",
            scope,
        )  # fmt: skip
        self.picture.boxes.append(box)
        return box

    def held(self, node: Node) -> str:
        """What the listing calls the result of a node."""
        several = len(node.types) > 1
        return f"%{self.naming.node(node)}" if several else self.text(output(node, 0))

    def numbers(self, node: Node) -> Iterator[str]:
        """The operands that are numbers, in words."""
        for position, tensor in enumerate(node.inputs):
            if (text := self.number(tensor)) is not None:
                yield f"{operand_name(node, position)}={text}"

    def number(self, tensor: Tensor) -> str | None:
        """The text of an operand that is a number; None where it is something else."""
        held = (tensor.node, tensor.index) in self.made
        return None if held else number_text(tensor, self.naming)

    def connect(self, inside: Mapping[Node, Box], stored: AbstractSet[Node]) -> None:
        """The wires into the boxes of a step, and what it has made."""
        for node, head in inside.items():
            for position, tensor in enumerate(node.inputs):
                if self.number(tensor) is None:
                    tail = inside.get(tensor.node)
                    self.wire(tensor, head, operand_name(node, position), tail)
        for node, box in inside.items():
            if node in stored:
                for index in range(len(node.types)):
                    self.made[node, index] = box


def _kind(node: Node, stored: bool) -> str:
    kind = kind_of_node(node, False)
    return "view" if node.op.family == "view" and not stored else kind


def boxes_of_plan(lowered: Lowered) -> Boxes:
    """All boxes of a plan, and its wires; every kernel is a scope."""
    picture, graph = Picture(lowered.naming), lowered.graph
    level = _Level(picture, graph, lowered.buffers, Place(flat=True))
    for variable, value in graph.updates:
        level.updates.setdefault(value.node, []).append((variable, value))
    level.add_all(lowered.plan.steps, lowered.parts)
    for tensor in graph.outputs:
        level.holder(tensor).fetched = True
    for node in list(level.updates):
        level.add_updates(node)  # of what is given
    return picture.finished()
