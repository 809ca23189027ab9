"""A node for all steps of a loop at once: what was made of one row is made of a stack of them.

Enters: a node of a body, and for each operand a tensor: a stack with the steps in front, or one
that is the same in each step. Leaves: the output for all steps, in front too; None where no rule
says how. A product with one matrix for all steps becomes one product of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from graphc.build import make
from graphc.dims import Dimension, product
from graphc.dtypes import int64
from graphc.graph import Node, Tensor
from graphc.ops.broadcast import broadcast_to
from graphc.ops.contraction import MATMUL
from graphc.ops.gather import GATHER
from graphc.ops.shape import reshape, transpose
from graphc.ops.slicing import slice_build, unslice_build
from graphc.ops.source import ARANGE

Operands: TypeAlias = Sequence[Tensor]
Flags: TypeAlias = Sequence[bool]
Rule: TypeAlias = Callable[[Node, Operands, Flags, Dimension], "Tensor | None"]


def _shape(tensor: Tensor) -> tuple[Dimension, ...]:
    assert tensor.shape is not None
    return tensor.shape


def spread(tensor: Tensor, steps: Dimension) -> Tensor:
    """A stack of one value, the same in each step."""
    shape = _shape(tensor)
    return broadcast_to(reshape(tensor, (1, *shape)), (steps, *shape))


def _all(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> list[Tensor]:
    pairs = zip(xs, flags, strict=True)
    return [x if stacked else spread(x, steps) for x, stacked in pairs]


def _pointwise(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    return make(node.op, _all(node, xs, flags, steps), node.attrs)


def _broadcast(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    (x,), target = xs, _shape(Tensor(node, 0, node.types[0]))
    inner = _shape(x)[1:]
    wide = reshape(x, (steps, *(1,) * (len(target) - len(inner)), *inner))
    return broadcast_to(wide, (steps, *target))


def _reshape(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    return reshape(xs[0], (steps, *_shape(Tensor(node, 0, node.types[0]))))


def _transpose(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    return transpose(xs[0], (0, *(axis + 1 for axis in node.attrs["axes"])))


def _slice(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    attrs = node.attrs
    return slice_build(
        xs[0], (0, *attrs["starts"]), (steps, *attrs["lengths"]), (1, *attrs["steps"])
    )


def _unslice(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    attrs, shape = node.attrs, (steps, *node.attrs["shape"])
    return unslice_build(xs[0], (0, *attrs["starts"]), (1, *attrs["steps"]), shape, attrs["value"])


def _reduction(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor | None:
    axis = node.attrs["axis"]
    if isinstance(axis, tuple):
        moved: Any = tuple(a + 1 for a in axis)
    elif isinstance(axis, int) and axis >= 0:
        moved = axis + 1
    else:
        return None
    return make(node.op, xs, {**node.attrs, "axis": moved})


def _matmul(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    a, b = xs
    if flags == [True, False] and len(_shape(b)) == 2:
        *rows, depth = _shape(a)
        result = make(MATMUL, (reshape(a, (product(tuple(rows)), depth)), b))
        return reshape(result, (*rows, _shape(b)[1]))
    return make(MATMUL, _all(node, xs, flags, steps))


def _conv2d(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor | None:
    """A convolution with one set of filters: steps are more images."""
    x, filters = xs
    if flags != [True, False]:
        return None
    count, *rest = _shape(x)[1:]
    result = make(node.op, (reshape(x, (steps * count, *rest)), filters), node.attrs)
    return reshape(result, (steps, count, *_shape(result)[1:]))


def _gather(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor:
    (x, *indices), axes, position = xs, node.attrs["axes"], node.attrs["position"]
    if not flags[0]:
        points = _all(node, indices, flags[1:], steps)
        return _to_front(make(GATHER, (x, *points), {"axes": axes, "position": position}), position)
    if not any(flags[1:]):
        moved = tuple(axis + 1 for axis in axes)
        return make(GATHER, (x, *indices), {"axes": moved, "position": position + 1})
    points = _all(node, indices, flags[1:], steps)
    shape = _shape(points[0])
    count = make(ARANGE, (), {"start": 0, "step": 1, "count": steps, "dtype": int64})
    row = broadcast_to(reshape(count, (steps, *(1,) * (len(shape) - 1))), shape)
    moved = (0, *(axis + 1 for axis in axes))
    return _to_front(
        make(GATHER, (x, row, *points), {"axes": moved, "position": position}), position
    )


def _along_axis(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor | None:
    axis = node.attrs["axis"]
    if axis < 0:
        return None
    return make(node.op, _all(node, xs, flags, steps), {**node.attrs, "axis": axis + 1})


def _to_front(x: Tensor, axis: int) -> Tensor:
    if axis == 0:
        return x
    return transpose(x, (axis, *(a for a in range(len(_shape(x))) if a != axis)))


RULES: Mapping[str, Rule] = {
    "broadcast_to": _broadcast, "reshape": _reshape, "transpose": _transpose, "slice": _slice,
    "unslice": _unslice, "matmul": _matmul, "conv2d": _conv2d,
    "conv2d_input_gradient": _conv2d, "gather": _gather, "gelu": _pointwise,
    **dict.fromkeys(("take_along_axis", "concatenate"), _along_axis),
    **dict.fromkeys(
        (
            "sum", "mean", "max", "min", "prod", "any", "all", "argmax", "argmin", "softmax",
            "log_softmax", "logsumexp", "var", "std",
        ),
        _reduction,
    ),
}  # fmt: skip


def batched(node: Node, xs: Operands, flags: Flags, steps: Dimension) -> Tensor | None:
    """The node for all steps; `flags` tell the operands that are stacks."""
    if len(node.types) != 1 or any(x.shape is None for x in xs) or node.types[0].shape is None:
        return None
    rule = RULES.get(node.op.name)
    if rule is None and node.op.family == "pointwise":
        rule = _pointwise
    if rule is None:
        return None
    found = rule(node, xs, list(flags), steps)
    if found is None or found.dtype is not node.types[0].dtype:
        return None
    shape = (steps, *node.types[0].shape)
    return found if found.shape == shape else None


class Steps:
    """Values in a body, for all steps at once.

    `stacked` holds those that differ from step to step, `same` those that do not.
    """

    def __init__(self, steps: Dimension) -> None:
        self._steps = steps
        self.stacked: dict[tuple[Node, int], Tensor] = {}
        self.same: dict[tuple[Node, int], Tensor] = {}

    def add(self, node: Node) -> bool:
        """Compute a node of what is there; False where that cannot be done."""
        keys = [(t.node, t.index) for t in node.inputs]
        flags = [key in self.stacked for key in keys]
        if not all(f or key in self.same for f, key in zip(flags, keys, strict=True)):
            return False
        xs = [(self.stacked if f else self.same)[k] for f, k in zip(flags, keys, strict=True)]
        if not any(flags):
            moved = all(new is old for new, old in zip(xs, node.inputs, strict=True))
            outputs = (
                [Tensor(node, i, type) for i, type in enumerate(node.types)]
                if moved
                else node.with_inputs(tuple(xs))
            )
            self.same |= {(node, i): tensor for i, tensor in enumerate(outputs)}
            return True
        found = batched(node, xs, flags, self._steps)
        if found is not None:
            self.stacked[node, 0] = found
        return found is not None

    def value(self, tensor: Tensor) -> Tensor | None:
        """A stack of a value."""
        key = (tensor.node, tensor.index)
        if key in self.same:
            return spread(self.same[key], self._steps)
        return self.stacked.get(key)
