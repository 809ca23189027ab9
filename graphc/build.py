"""Building nodes: the type rule's view of an application, its errors, and `make`.

Enters: an op, tensors and attributes. Leaves: a node, typed by its op's rule, or an error that
states the rule, the operands with their types, and the user's line. `Check` also answers questions
about sizes; those that cannot be answered yet leave the node unsettled, and those that a
compilation answers are noted in the assumptions in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import numpy as np

from graphc.context import Where, origin
from graphc.dims import Dim, Dimension, Shape, derived, evaluate
from graphc.dtypes import DType
from graphc.errors import GraphcError, ShapeError
from graphc.graph import Attrs, Node, Op, Tensor, outputs_of
from graphc.types import Assumptions, TensorType

ASSUMPTIONS: ContextVar[Assumptions | None] = ContextVar("graphc.assumptions", default=None)


class Check:
    """The type rule's view of one application: it states rules, and fails with the operands."""

    __slots__ = ("attrs", "inputs", "op", "settled")

    def __init__(self, op: Op, inputs: Sequence[Tensor], attrs: Attrs) -> None:
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.settled = True

    def fail(self, rule: str, error: type[GraphcError] = ShapeError) -> NoReturn:
        """Raise: the rule, the operands with their types, the user's lines."""
        raise error(failure(self.op, rule, self.inputs))

    def ask(self, a: Dimension, b: Dimension) -> bool | None:
        """Whether two sizes are equal; None (and not settled) where this cannot be known yet."""
        if a is b or a == b:
            return True
        if isinstance(a, int) and isinstance(b, int):
            return False
        if isinstance(a - b, int):
            return False
        assumptions = ASSUMPTIONS.get()
        answer = None if assumptions is None else assumptions.equal(a, b)
        if answer is None:
            self.settled = False
        return answer

    def equal(self, a: Dimension, b: Dimension, rule: str) -> Dimension:
        """The one size that `a` and `b` both are, or fail with the rule."""
        if self.ask(a, b) is False:
            self.fail(rule)
        return a if isinstance(a, int) else b if isinstance(b, int) else a

    def broadcast(self, shapes: Sequence[Shape], rule: str = "shapes must broadcast") -> Shape:
        """NumPy's broadcasting of the shapes to one."""
        first = shapes[0]
        for shape in shapes:
            if shape != first:
                break
        else:
            return first
        rank = max(map(len, shapes))
        padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        result = []
        for dimensions in zip(*padded, strict=True):
            size: Dimension = 1
            for other in dimensions:
                size = self._broadcast(size, other, rule)
            result.append(size)
        return tuple(result)

    def _broadcast(self, a: Dimension, b: Dimension, rule: str) -> Dimension:
        if isinstance(a, int) and a == 1:
            return b
        if (isinstance(b, int) and b == 1) or a == b:
            return a
        same = self.ask(a, b)
        if same:
            return a if isinstance(a, int) else b
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Dim) and same is False and self.ask(one, 1):
                return other
        if same is False:
            self.fail(rule)
        if isinstance(a, int) or isinstance(b, int):
            return a if isinstance(a, int) else b
        return derived("broadcast", a, b)

    def axis(self, axis: Any, rank: int) -> int:
        """An axis counted from the front, or fail."""
        if isinstance(axis, bool) or not hasattr(axis, "__index__"):
            self.fail(f"an axis must be an int, axis={axis!r}")
        number = int(axis.__index__())
        if not -rank <= number < rank:
            self.fail(f"axis {number} is out of range for rank {rank}")
        return number + rank if number < 0 else number

    def axes(self, axes: Any, rank: int) -> tuple[int, ...]:
        """Axes counted from the front and sorted; None is all of them."""
        if axes is None:
            return tuple(range(rank))
        listed = axes if isinstance(axes, (tuple, list)) else (axes,)
        counted = sorted(self.axis(axis, rank) for axis in listed)
        if len(set(counted)) != len(counted):
            self.fail(f"an axis must not be repeated, axis={axes!r}")
        return tuple(counted)


def describe(tensor: Tensor) -> str:
    """What a tensor is, for errors: `variable "w2" (mnist.py:14)`."""
    node = tensor.node
    kind = "tensor" if node.op.family == "source" and node.op.name == "constant" else node.op.name
    name = f' "{node.label}"' if node.name else ""
    return f"{kind}{name} ({node.where})"


def _listed(parts: Sequence[str]) -> str:
    if len(parts) > 6:
        parts = [*parts[:5], f"{len(parts) - 5} more"]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def bound(type: TensorType) -> str:
    """A type for errors: in a run, with the values of its sizes (`f32[batch=32,784]`)."""
    assumptions = ASSUMPTIONS.get()
    if assumptions is None or type.shape is None or type.is_static:
        return str(type)
    sizes = []
    for dimension in type.shape:
        try:
            value = evaluate(dimension, assumptions.sizes)
        except KeyError:
            sizes.append(str(dimension))
            continue
        text = str(dimension)
        sizes.append(str(value) if text == str(value) or "?" in text else f"{text}={value}")
    return f"{type.dtype.short}[{','.join(sizes)}]"


def failure(op: Op, rule: str, inputs: Sequence[Tensor], where: Where | None = None) -> str:
    """The text of an error about one application of an op."""
    if len(op.params) == 1 and len(inputs) > 1:
        names = [f"{op.params[0]}[{k}]" for k in range(len(inputs))]
    else:
        names = list(op.params[: len(inputs)])
        names += [
            f"{op.params[-1] if op.params else 'x'}[{k}]" for k in range(len(inputs) - len(names))
        ]
    text = f"{op.name}: {rule}"
    if inputs:
        text += ", got " + _listed(
            [f"{n}: {bound(t.type)}" for n, t in zip(names, inputs, strict=True)]
        )
    notes = [
        f"{n} is {describe(t)}"
        for n, t in zip(names, inputs, strict=True)
        if t.node.op.name not in ("constant", "full")
    ][:4]
    notes.append(f"{op.name} was called at {where or origin()[0]}")
    return text + "\n  " + "; ".join(notes)


def node_of(op: Op, inputs: Sequence[Tensor], attrs: Attrs, name: str | None) -> Node:
    """One node, typed by its op's rule."""
    inputs = tuple(inputs)
    check = Check(op, inputs, attrs)
    types = infer(op, check, [t.type for t in inputs], attrs)
    where, scope = origin()
    settled = check.settled and op.family != "deferred"
    return Node(op, inputs, attrs, types, name, scope, where, settled, True)


def make(
    op: Op, inputs: Sequence[Tensor], attrs: Attrs | None = None, name: str | None = None
) -> Tensor:
    """A node of an op with one output: its tensor."""
    node = node_of(op, inputs, {} if attrs is None else attrs, name)
    tensor = Tensor(node, 0, node.types[0])
    if not node.settled and node.types[0].shape is not None:
        _own(tensor)
    return tensor


def _own(tensor: Tensor) -> None:
    """Let sizes that the type rule has made up, for want of a rank, know whose they are."""
    node = tensor.node
    given = [d for t in node.inputs for d in t.shape or ()] + list(node.attrs.get("shape", ()))
    known = {symbol for d in given if isinstance(d, Dim) for symbol in d.symbols()}
    for axis, dimension in enumerate(tensor.shape or ()):
        symbol = dimension.as_symbol() if isinstance(dimension, Dim) else None
        if symbol is None or symbol.name is not None or symbol in known:
            continue
        if symbol.source is None and symbol.owner is None:
            symbol.owner = (tensor, axis)


def make_all(
    op: Op, inputs: Sequence[Tensor], attrs: Attrs | None = None, name: str | None = None
) -> tuple[Tensor, ...]:
    """A node of an op with several outputs: its tensors."""
    return outputs_of(node_of(op, inputs, {} if attrs is None else attrs, name))


def apply(op: Op, inputs: Sequence[Tensor], attrs: Attrs, name: str | None) -> Any:
    """A node of any op: its tensor, or a tuple where it has several outputs."""
    return (make if op.outputs is None else make_all)(op, inputs, attrs, name)


def infer(
    op: Op, check: Check, types: Sequence[TensorType], attrs: Attrs
) -> tuple[TensorType, ...]:
    """The types of all outputs, by the op's rule."""
    dtype = op.dtype(check, *types, **attrs)
    known = True
    for type in types:
        if type.shape is None:
            known = check.settled = False
    if op.outputs is None:
        if known:
            shape = op.shape(check, *types, **attrs)
            if types and shape is types[0].shape and dtype is types[0].dtype:
                return (types[0],)
            return (TensorType(dtype, shape),)
        return (TensorType(dtype, None if op.rankless is None else op.rankless(**attrs)),)
    count = op.outputs if isinstance(op.outputs, int) else op.outputs(**attrs)
    dtypes = dtype if isinstance(dtype, tuple) else (dtype,) * count
    shapes = op.shape(check, *types, **attrs) if known else (None,) * count
    return tuple(TensorType(d, s) for d, s in zip(dtypes, shapes, strict=True))


def replay(op: Op, inputs: Sequence[Tensor], attrs: Attrs, name: str | None) -> Any:
    """What the op's builder makes of these inputs: what it has made once, built again."""
    if op.build is not None:
        return op.build(*inputs, name=name, **attrs)
    return apply(op, inputs, attrs, name)


@contextmanager
def assuming(assumptions: Assumptions | None) -> Iterator[None]:
    """Builders run inside may ask about sizes."""
    token = ASSUMPTIONS.set(assumptions)
    try:
        yield
    finally:
        ASSUMPTIONS.reset(token)


def frozen_array(value: Any, dtype: DType | None = None) -> np.ndarray[Any, Any]:
    """A read-only copy of an array, for attributes."""
    array = np.array(value, dtype=None if dtype is None else dtype.numpy)
    array.flags.writeable = False
    return array
