"""What a picture is made of: boxes (nodes and updates, what goes in and out of loops) and wires.

A wire is one use of one tensor, so `x * x` has two. Boxes carry only text and references to other
boxes: what draws them needs to know nothing of graphs. `%3` and `?0` are those of `show`. What a
graph's and a plan's picture are made of comes from `graphs` and `kernels`.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass, field

from graphc.context import Scope, Where
from graphc.draw.text import clean
from graphc.graph import Node, Tensor
from graphc.show import Naming, node_line

KINDS = {"placeholder": "placeholder", "variable": "variable"}
LEGEND = {
    "placeholder": "placeholder: fed",
    "variable": "variable: kept by a session",
    "constant": "constant, or made of nothing",
    "op": "operation",
    "gradient": "operation of a gradient",
    "update": "update: written to a variable",
    "view": "read through: takes no memory",
    "host": "host call: NumPy, between kernels",
    "parameter": "goes into a body",
    "result": "comes out of a body",
    "kernel": "folded kernel",
    "loop": "folded loop",
    "branch": "folded branch",
    "folded": "folded scope",
    "segment": "folded stretch of nodes",
}


@dataclass(eq=False, slots=True)
class Box:
    """One vertex: a node of the graph, or an update."""

    kind: str  # a key of LEGEND
    title: str
    subtitle: str
    where: str
    source: str  # the text of the user's line, where it can be read
    detail: str  # the line of the listing
    operation: str
    types: str
    gradient: bool
    scope: Scope | None
    named: bool = False  # whether its title is a name of its own, which no other may have
    fetched: bool = False
    writes: Box | None = None
    parent: Group | None = None


@dataclass(eq=False, slots=True)
class Group:
    """Boxes and groups folded into one box: a scope, a kernel, or a stretch of the order."""

    title: str
    kind: str  # "root", "scope", "kernel", "loop", "branch", "side" or "segment"
    gradient: bool
    parent: Group | None
    members: list[Box | Group] = field(default_factory=list)
    summary: str = ""
    count: int = 0  # the boxes inside, at any depth
    fetched: bool = False  # whether one of them is
    loops: str = ""  # of a kernel or a loop
    where: str = ""
    detail: str = ""


@dataclass(eq=False, slots=True)
class Wire:
    """One use of one tensor."""

    tail: Box
    output: int
    head: Box
    operand: str
    type: str
    label: str  # the type; with the output's number, where the tail has several


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a kernel, a loop or a branch, beside its name."""

    kind: str  # of the group
    loops: str
    where: str  # the lines that it was made from
    detail: str  # its listing


@dataclass(slots=True)
class Boxes:
    """All boxes of a picture, in topological order, and its wires; which scopes are what else."""

    boxes: list[Box]
    wires: list[Wire]
    about: dict[Scope, About] = field(default_factory=dict)


def kind_of_node(node: Node, fed: bool) -> str:
    """Its row in the legend."""
    if fed:
        return "placeholder"
    if node.op.name in KINDS:
        return KINDS[node.op.name]
    if node.scope is not None and node.scope.gradient:
        return "gradient"
    if node.op.family == "gradient":
        return "gradient"
    return "constant" if node.op.family == "source" and not node.inputs else "op"


def operand_name(node: Node, position: int) -> str:
    """What the op calls the operand."""
    params = node.op.params
    if not params:
        return str(position)
    if len(params) == 1 and len(node.inputs) > 1:
        return f"{params[0]}[{position}]"
    if position < len(params):
        return params[position]
    return f"{params[-1]}[{position - len(params) + 1}]"


def source_line(where: Where) -> str:
    """The text of a user's line, where it can be read."""
    text = linecache.getline(where.file, where.line).strip()
    return clean(text, 160) if text else ""


def box_of(node: Node, naming: Naming, fed: bool) -> Box:
    """The box of a node of a graph."""
    line = node_line(node, naming)  # names the node and its sizes in the order of the listing
    name, attrs = naming.node(node), naming.attrs(node)
    operation = "fed" if fed else node.op.name
    title = operation if node.name is None else node.name
    subtitle = f"%{name}" if node.name is None else operation
    if attrs and node.op.family != "gradient":
        subtitle += f"  {attrs}"
    return Box(
        kind_of_node(node, fed), clean(title), clean(subtitle), clean(str(node.where)),
        source_line(node.where), clean(line, 400), operation, types_text(node, naming),
        node.scope is not None and node.scope.gradient, node.scope, node.name is not None,
    )  # fmt: skip


def types_text(node: Node, naming: Naming) -> str:
    """The types of its outputs."""
    return clean(", ".join(map(naming.type, node.types)), 200)


def update_box(variable: Tensor, value: Tensor, target: Box, naming: Naming) -> Box:
    """The box of a value that is written to a variable."""
    node = value.node
    name = naming.tensor(variable)
    title = name if variable.node.name is None else name[1:]
    detail = f"update {name} = {naming.tensor(value)}"
    gradient = node.scope is not None and node.scope.gradient
    scope = variable.node.scope if gradient else node.scope
    return Box(
        "update", clean(title), "update", clean(str(node.where)), source_line(node.where),
        clean(detail, 400), "update", naming.type(variable.type), False, scope, writes=target,
    )  # fmt: skip


def wire_of(tail: Box, tensor: Tensor, head: Box, operand: str, naming: Naming) -> Wire:
    """One use of a tensor that `tail` computes."""
    type = naming.type(tensor.type)
    several = len(tensor.node.types) > 1 and tail.kind != "result"
    label = f"output {tensor.index}: {type}" if several else type
    return Wire(tail, tensor.index, head, operand, type, clean(label, 80))
