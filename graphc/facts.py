"""What fusion must know of a node: its loop nest, what it reads there, and what it costs.

Enters: a node with a formula of one element. Leaves: `Facts`, found by looking at the formula
alone, so that no op is named: views are formulas that only read elsewhere, a row reduction is one
whose reduced axes are the last of what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.affine import Affine, affine, place, strides
from graphc.dims import Dim, Dimension, Shape
from graphc.graph import Node, Tensor
from graphc.kernel import Axis, Buffer, Index, Loop, Source, axes_over, lift, read
from graphc.scalar import IN_FLOATS, Scalar, walk

COSTLY = IN_FLOATS - {"sqrt", "rint", "copysign"} | {"erf", "power", "remainder", "floor_divide"}
NUMBERS = ("number", "extent")


def element(node: Node, sources: Sequence[Source], index: Index) -> tuple[Scalar, ...]:
    """What each of a node's outputs holds at an index, of what its inputs hold."""
    assert node.op.element is not None
    if node.op.family == "pointwise":
        result = node.op.element(*(source(*index) for source in sources), **node.attrs)
    else:
        result = node.op.element(index, *sources, **node.attrs)
    return tuple(map(lift, result if isinstance(result, tuple) else (result,)))


def loop(node: Node, result: Source, sources: Sequence[Source]) -> Loop:
    """The loop in order that fills a node's result, of what its inputs hold."""
    assert node.op.loop is not None
    found: Loop = node.op.loop(result, *sources, **node.attrs)
    return found


def canonical(index: Index) -> Index:
    """An index in which what is only an axis, after all, is its position."""
    return tuple([_axis_alone(i) if i.operands else i for i in index])


def _axis_alone(formula: Scalar) -> Scalar:
    found = affine(formula)
    if found is None or len(found.steps) > 1 or isinstance(found.constant, Dim):
        return formula
    if not found.steps:
        return lift(found.constant)
    [(axis, step)] = found.steps.items()
    alone = isinstance(step, int) and step == 1 and found.constant == 0
    return axis.position if alone else formula


@dataclass(frozen=True, slots=True)
class Read:
    """One read of a node: which tensor, and the place in it as a function of the node's axes."""

    tensor: Tensor
    place: Affine | None  # None where it is not affine, or may lie outside
    index: Index


@dataclass(frozen=True, slots=True)
class Facts:
    """A node's loops. `kind`: map, row, reduce, product, opaque, view."""

    kind: str
    axes: tuple[Axis, ...]  # of the iteration space: for a row those of the operand
    inner: int  # how many of the last axes a row reduces
    reads: tuple[Read, ...]
    cost: int

    @property
    def space(self) -> Shape:
        """The extents of the axes."""
        return tuple(axis.extent for axis in self.axes)


Trace = Callable[[Tensor], Source]


def facts_of(node: Node, trace: Trace) -> Facts:
    """The facts of a node whose operands are read as `trace` has them."""
    axes, index = axes_over(_shape(node))
    values = element(node, [trace(t) for t in node.inputs], index)
    parts = list(walk(*values))
    reads = tuple(_read(part) for part in parts if part.primitive == "read")
    if node.op.family == "barrier":  # it waits for the others, and is not looked through
        waits = tuple(Read(t, None, ()) for t in node.inputs[1:])
        return Facts("opaque", axes, 0, reads + waits, 0)
    cost = sum(map(_cost, parts))
    reductions = [part for part in parts if part.primitive == "reduce"]
    kind, inner = _kind(node, values, reductions), 0
    if kind == "reduction":
        kind, axes, inner = _reduction(axes, reductions[0])
    return Facts(kind, axes, inner, reads, cost)


class KnownFacts:
    """Facts of nodes that look alike are found once: networks repeat themselves.

    Nodes look alike that apply one op, of equal attributes and types, to tensors that are read
    through views that look alike.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Facts, list[int]]] = {}

    def of(self, node: Node, views: Container[Node], trace: Trace) -> Facts:
        """The facts of a node, over the tensors that it really reads."""
        leaves: dict[Tensor, int] = {}
        key = _look(node, views, leaves)
        known = self._found.get(key)
        if known is not None:
            facts, places = known
            tensors = list(leaves)
            reads = [
                replace(read, tensor=tensors[place])
                for read, place in zip(facts.reads, places, strict=True)
            ]
            return replace(facts, reads=tuple(reads))
        facts = facts_of(node, trace)
        if all(read.tensor in leaves for read in facts.reads):
            self._found[key] = facts, [leaves[read.tensor] for read in facts.reads]
        return facts


def _look(node: Node, views: Container[Node], leaves: dict[Tensor, int]) -> Hashable:
    """All that the facts of a node depend on, and the tensors at the ends, numbered."""
    operands: list[Hashable] = []
    for tensor in node.inputs:
        if tensor.node in views:
            operands.append(_look(tensor.node, views, leaves))
        else:
            number = leaves.setdefault(tensor, len(leaves))
            operands.append((number, tensor.dtype, tensor.shape))
    types = tuple([(type.dtype, type.shape) for type in node.types])
    return node.op, tuple(node.attrs.items()), types, tuple(operands)


def facts_in_order(node: Node, trace: Trace) -> Facts:
    """The facts of a node that is filled in order: it reads memory, and is a group of its own."""
    result = Buffer(node.types[0], "result")
    found = loop(node, read(result), [trace(t) for t in node.inputs])
    formulas = [found.value, *found.index]
    if found.first is not None:
        formulas.append(found.first(axes_over(_shape(node))[1]))
    reads = [p for p in walk(*formulas) if p.primitive == "read" and p.value[0] is not result]
    return Facts("opaque", found.axes, 0, tuple(_read(part) for part in reads), 0)


def unseen(node: Node, numbers: Container[Node]) -> list[Node]:
    """The operands that an op looks into at data, and whose bounds its reads would not show.

    Devices find an index out of range where they read. Through a slice or another shape they would
    read elsewhere, and of what is made of `numbers` alone nothing at all: such operands are stored.
    """
    if node.op.family != "opaque" or node.op.element is None:
        return []
    values = element(node, [_plain(t) for t in node.inputs], axes_over(_shape(node))[1])
    found = []
    for part in walk(*values):
        if part.primitive == "read" and (data := [i for i in part.operands if _is_data(i)]):
            tensor = part.value[0]
            if not _shows(tensor, part.operands, data, numbers):
                found.append(tensor.node)
    return found


def _plain(tensor: Tensor) -> Source:
    """A tensor that is read where it is."""
    return Source(
        tensor.type,
        lambda index: Scalar("read", index, (tensor, None)),
        lambda index, outside: Scalar("read", index, (tensor, outside)),
    )


def _is_data(index: Scalar) -> bool:
    return any(part.primitive == "read" for part in walk(index))


def _shows(tensor: Tensor, index: Index, data: Sequence[Scalar], numbers: Container[Node]) -> bool:
    """Whether what is read behind views has the data for indices, along axes of equal sizes."""
    sizes = [(i, n) for i, n in zip(index, tensor.shape or (), strict=True) if i in data]
    while tensor.node.op.family == "view" and tensor.node.op.element is not None:
        value = element(tensor.node, [_plain(t) for t in tensor.node.inputs], canonical(index))[0]
        if value.primitive != "read" or value.value[1] is not None:
            break  # no mere view: it is stored
        tensor, index = value.value[0], value.operands
    if tensor.node in numbers:
        return False
    shown = list(zip(index, tensor.shape or (), strict=True))
    return all(any(i is j and bool(n == size) for j, n in shown) for i, size in sizes)


def _shape(node: Node) -> Shape:
    shape = node.types[0].shape
    assert shape is not None
    return shape


def _cost(part: Scalar) -> int:
    """Element operations of one formula; what is made of numbers alone costs nothing."""
    if part.primitive == "read" or all(p.primitive in NUMBERS for p in part.operands):
        return 0
    if part.primitive == "cast" and part.operands[0].primitive in NUMBERS:
        return 0
    return 8 if part.primitive in COSTLY else 1


def _read(part: Scalar) -> Read:
    tensor, outside = part.value
    found = None if outside is not None else place(part.operands, tensor.shape)
    return Read(tensor, found, part.operands)


def _kind(node: Node, values: Sequence[Scalar], reductions: Sequence[Scalar]) -> str:
    if len(node.types) > 1:
        return "opaque"
    if node.op.family == "contraction":
        return "product"
    if node.op.family == "reduction" and len(reductions) == 1:
        return "reduction"
    if reductions or node.op.family in ("opaque", "reduction"):
        return "opaque"
    plain = values[0].primitive == "read" and values[0].value[1] is None
    return "view" if plain and node.op.family == "view" else "map"


def _reduction(outer: tuple[Axis, ...], formula: Scalar) -> tuple[str, tuple[Axis, ...], int]:
    """Whether a reduction's own axes are the last of what it reads: then its whole nest."""
    inner = tuple(axis for axis in formula.value[1] if not is_one(axis.extent))
    body = formula.operands[0]
    indices = [part.operands for part in walk(body) if part.primitive == "read"]
    kept = tuple(axis for axis in outer if not is_one(axis.extent))
    for index in indices:
        order = [i.value for i in canonical(index) if i.primitive == "position"]
        listed = [axis for axis in order if not is_one(axis.extent)]
        if listed != [*kept, *inner] or any(i.operands for i in canonical(index)):
            return "reduce", outer, 0
    if not (indices and kept and inner):
        return "reduce", outer, 0
    return "row", (*kept, *inner), len(inner)


def is_one(size: Dimension) -> bool:
    """Whether a size is known to be 1."""
    return isinstance(size, int) and size == 1


def significant(shape: Shape) -> Shape:
    """The sizes that are not known to be 1."""
    return tuple(size for size in shape if not is_one(size))


def in_order(axes: Sequence[Axis]) -> dict[Axis, Dimension]:
    """The steps of a read that goes through memory as the loops go."""
    steps = strides(tuple(axis.extent for axis in axes))
    return {a: s for a, s in zip(axes, steps, strict=True) if not is_one(a.extent)}


def goes(read: Read, steps: dict[Axis, Dimension]) -> bool:
    """Whether a read moves by these steps, from the start."""
    found: Any = read.place
    if found is None or found.constant != 0:
        return False
    moved = {axis: step for axis, step in found.steps.items() if not is_one(axis.extent)}
    return moved == steps
