"""The kernel language: a loop nest over axes, and the formula of what is stored at each point.

Enters: formulas of one element, which ops give (`Op.element`). Leaves: `Kernel`s, which a device
compiles without knowing any op. The language is closed: a formula is a `Scalar` of one of the kinds

    number      a Python number, weak beside typed operands, as in NumPy
    position    where the loop of an axis stands, an int64
    extent      the value of a size, an int64
    read        the element of a buffer at an index; `outside`, a number, is what lies around it
    cast        another dtype
    reduce      a sum, a maximum ... over axes of its own
    (primitive) a row of `scalar.PRIMITIVES`

Every read lies inside its buffer, or has an `outside`, also where a select drops what it gives. The
one exception is an index that is data (`gather`, `scatter`): a device raises where it is out of
range, in a store too.

A kernel whose later values need earlier ones (running sums, writes at indices that are data) has
axes that are walked in `order`, inside of the others:

    y[i, k] = y[i, k - 1; 0] + x[i, k]                             in order k: the running sum
    y[i, j] = x[i, j], then y[at[k], j] = y[at[k], j] + u[k, j]    in order k: scatter

The stores that are not `ordered` are done first. Then, at each point of the order, its first axis
outermost, the others: their values at all points of `axes`, then the writes. So a store may read
what was stored before. Points of `axes` that ordered stores mention touch no element in common.

Fusion is substitution: a `Source` gives the formula at an index, and whether that is a read of a
buffer or the formula of the op that would have filled it, its reader cannot tell. A reduction that
does not depend on an inner axis may be computed once outside of it: softmax is a single formula.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphc.dims import Dim, Dimension, Shape
from graphc.dtypes import DType, bool_, float16, float32, int64
from graphc.scalar import Kind, Like, Scalar, apply, result_dtype, select, walk
from graphc.types import TensorType

ARGUMENTS = ("argmax", "argmin")  # the place of an extremum; over one axis, the first of equals
REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", *ARGUMENTS)
Index: TypeAlias = tuple[Scalar, ...]
Number: TypeAlias = bool | int | float
_serials = itertools.count()


class Axis:
    """A loop variable from 0 up to its extent; compared by identity."""

    __slots__ = ("extent", "serial")

    def __init__(self, extent: Dimension) -> None:
        self.extent = extent
        self.serial = next(_serials)

    def __repr__(self) -> str:
        return f"i{self.serial}"

    @property
    def position(self) -> Scalar:
        """The formula of where it stands."""
        return Scalar("position", (), self)


class Buffer:
    """An array that kernels read and write; its type says its dtype and sizes."""

    __slots__ = ("name", "type")

    def __init__(self, type: TensorType, name: str) -> None:
        self.type = type
        self.name = name

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Source:
    """An operand of an op inside a formula: `x(i, j)` is its element there."""

    type: TensorType
    at: Callable[[Index], Scalar]
    inside: Callable[[Index, Number], Scalar]

    def __call__(self, *index: Like) -> Scalar:
        """The element at an index that lies inside."""
        return self.at(tuple(map(lift, index)))

    def within(self, index: Sequence[Like], outside: Number) -> Scalar:
        """The element, or `outside` where the index lies beyond the array."""
        return self.inside(tuple(map(lift, index)), outside)

    @property
    def shape(self) -> Shape:
        """Its dimensions."""
        assert self.type.shape is not None
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Its element type."""
        return self.type.dtype


# ---------------------------------------------------------------------------- formulas


def lift(value: Like | Dim) -> Scalar:
    """A formula of a formula, a number or a size."""
    if isinstance(value, Scalar):
        return value
    if isinstance(value, Dim):
        return Scalar("extent", (), value)
    return Scalar("number", (), value)


def cast(x: Like | Dim, dtype: DType) -> Scalar:
    """A formula in another dtype."""
    return Scalar("cast", (lift(x),), dtype)


def wide(x: Scalar, dtype: DType) -> Scalar:
    """An operand of a sum: float16 as float32, so that only the result is rounded."""
    return cast(x, float32) if dtype is float16 else x


def reduce(
    kind: str,
    extents: Sequence[Dimension],
    body: Callable[..., Like],
    initial: Number | None = None,
) -> Scalar:
    """A reduction over fresh axes: `reduce("sum", (k,), lambda i: a(m, i) * b(i, n))`.

    It keeps the body's dtype (any and all: bool; argmax and argmin: int64). A maximum or minimum
    over no points is `initial`, and an error where there is none.
    """
    if kind not in REDUCTIONS:
        raise KeyError(f"{kind} is no reduction")
    if kind in ARGUMENTS and len(extents) != 1:
        raise ValueError(f"{kind} reduces one axis, got {len(extents)}")
    axes = tuple(map(Axis, extents))
    inner = lift(body(*(axis.position for axis in axes)))
    return Scalar("reduce", (inner,), (kind, axes, initial))


def along(
    kind: str,
    index: Index,
    x: Source,
    axis: Sequence[int],
    keepdims: bool,
    body: Callable[[Scalar], Like] = lambda element: element,
    initial: Number | None = None,
) -> Scalar:
    """The reduction of `body(element)` along axes of `x`, at an index of what is left of them."""
    kept = iter([i for k, i in enumerate(index) if not (keepdims and k in axis)])
    outer = [None if k in axis else next(kept) for k in range(len(x.shape))]

    def element(*positions: Scalar) -> Like:
        inner = iter(positions)
        return body(x(*(next(inner) if i is None else i for i in outer)))

    return reduce(kind, [x.shape[k] for k in axis], element, initial)


def conjunction(conditions: Sequence[Scalar]) -> Scalar | None:
    """All of them; None of none."""
    result: Scalar | None = None
    for condition in conditions:
        result = condition if result is None else result & condition
    return result


def where(condition: Scalar | None, x: Like, y: Like) -> Scalar:
    """`x` where the condition holds (None: always), else `y`."""
    return lift(x) if condition is None else select(condition, x, y)


def is_within(index: Sequence[Scalar], shape: Shape) -> Scalar | None:
    """Whether an index lies inside a shape; None for a scalar, whose only index does."""
    bounds = [b for i, n in zip(index, shape, strict=True) for b in (i >= 0, i < lift(n))]
    return conjunction(bounds)


def quotient(x: Scalar, step: Dimension) -> tuple[Scalar, Scalar | None]:
    """`x // step`, and whether it divides (None: always)."""
    if step == 1:
        return x, None
    return x // lift(step), apply("equal", x % lift(step), 0)


# ---------------------------------------------------------------------------- sources


def read(buffer: Buffer) -> Source:
    """A buffer as an operand."""

    def at(index: Index) -> Scalar:
        return Scalar("read", index, (buffer, None))

    def inside(index: Index, outside: Number) -> Scalar:
        return Scalar("read", index, (buffer, outside))

    return Source(buffer.type, at, inside)


def inlined(
    type: TensorType,
    formula: Callable[[Index], Scalar],
    known: dict[Scalar, Kind] | None = None,
) -> Source:
    """A formula as an operand: nothing is stored, its reader computes it, in the type's dtype.

    Readers of one element share its formula, so a reduction inside is one, and computed once.
    `known` are the kinds of formulas met before; those found here are added.
    """
    made: dict[tuple[Any, ...], Scalar] = {}
    kinds = {} if known is None else known

    def at(index: Index) -> Scalar:
        key = tuple([i if i.operands else (i.primitive, i.value) for i in index])
        if key not in made:
            made[key] = typed(formula(index), type.dtype, kinds)
        return made[key]

    def inside(index: Index, outside: Number) -> Scalar:
        assert type.shape is not None
        element = guarded(at(index))
        return where(is_within(index, type.shape), element, cast(outside, type.dtype))

    return Source(type, at, inside)


def guarded(formula: Scalar) -> Scalar:
    """The formula at points that may lie outside of its array: every read is given an outside."""
    made: dict[Scalar, Scalar] = {}
    for part in walk(formula):
        operands, value = tuple([made[x] for x in part.operands]), part.value
        if part.primitive == "read" and value[1] is None:
            value = (value[0], 0)
        elif all(a is b for a, b in zip(operands, part.operands, strict=True)):
            made[part] = part
            continue
        made[part] = Scalar(part.primitive, operands, value)
    return made[formula]


# ---------------------------------------------------------------------------- types


def kinds_of(*formulas: Scalar, known: dict[Scalar, Kind] | None = None) -> dict[Scalar, Kind]:
    """The dtypes of formulas and of all inside; of a number, its Python type: it is weak.

    They are added to those `known`, which are not looked into again.
    """
    found: dict[Scalar, Kind] = {} if known is None else known
    for part in walk(*formulas, known=found):
        found[part] = _kind(part, [found[x] for x in part.operands])
    return found


def _kind(formula: Scalar, operands: Sequence[Kind]) -> Kind:
    match formula.primitive:
        case "number":
            return type(formula.value)
        case "position" | "extent":
            return int64
        case "read":
            dtype: DType = formula.value[0].type.dtype
            return dtype
        case "cast":
            target: DType = formula.value
            return target
        case "reduce":
            kind = formula.value[0]
            if kind in ("any", "all"):
                return bool_
            return int64 if kind in ARGUMENTS else result_dtype("add", operands)
    return result_dtype(formula.primitive, operands)


def dtype_of(formula: Scalar) -> DType | None:
    """The dtype that a formula is computed in; None for a number, which takes that beside it."""
    kind = kinds_of(formula)[formula]
    return kind if isinstance(kind, DType) else None


def typed(formula: Scalar, dtype: DType, known: dict[Scalar, Kind] | None = None) -> Scalar:
    """The formula in a dtype: cast, where it is not of it already."""
    return formula if kinds_of(formula, known=known)[formula] is dtype else cast(formula, dtype)


# ---------------------------------------------------------------------------- kernels


@dataclass(frozen=True, slots=True)
class Loop:
    """What fills an op's result where its elements need each other: `Op.loop` gives it.

    At each point of the order, and of the axes, `value` is written at `index`. `first` fills the
    result before, as an op's `element` does; None where the order reaches it all.
    """

    axes: tuple[Axis, ...]
    order: tuple[Axis, ...]
    index: Index
    value: Scalar
    first: Callable[[Index], Scalar] | None = None


def axes_over(shape: Shape) -> tuple[tuple[Axis, ...], Index]:
    """Fresh axes over the elements of a shape, and where they stand."""
    axes = tuple(map(Axis, shape))
    return axes, tuple([axis.position for axis in axes])


@dataclass(frozen=True, slots=True)
class Store:
    """What is written where: the value of a formula, at an index of a buffer.

    An `ordered` one is done at each point of its kernel's order.
    """

    buffer: Buffer
    index: Index
    value: Scalar
    ordered: bool = False

    @property
    def formulas(self) -> tuple[Scalar, ...]:
        """The value, then the index."""
        return (self.value, *self.index)

    def axes(self) -> set[Axis]:
        """The axes that the index mentions: the store is done at each of their points."""
        return {part.value for part in walk(*self.index) if part.primitive == "position"}


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Stores at every point of the axes; points are independent of each other.

    A store is done once for each point of the axes that its index mentions; its value depends on
    no other. So a kernel over rows can store one value a row. The points of `order` come one after
    the other (see the module).
    """

    name: str
    axes: tuple[Axis, ...]
    stores: tuple[Store, ...]
    lines: tuple[Any, ...] = ()  # the user's lines that it was made from
    order: tuple[Axis, ...] = ()

    @property
    def first(self) -> tuple[Store, ...]:
        """The stores that are done before those in order."""
        return tuple([store for store in self.stores if not store.ordered])

    @property
    def before(self) -> Kernel:
        """The kernel of the stores that are done before those in order."""
        mentioned = {axis for store in self.first for axis in store.axes()}
        axes = tuple([axis for axis in self.axes if axis in mentioned])
        return Kernel(self.name, axes, self.first, self.lines)

    @property
    def ordered(self) -> tuple[Store, ...]:
        """The stores that are done at each point of the order."""
        return tuple([store for store in self.stores if store.ordered])

    def formulas(self) -> Iterator[Scalar]:
        """Every formula inside, each once, operands before what uses them."""
        return walk(*(formula for store in self.stores for formula in store.formulas))

    def failure(self, rule: str) -> str:
        """The text of an error in it: the rule, and the user's lines."""
        lines = "".join(f"\n  {self.name} was called at {where}" for where in self.lines)
        return f"{self.name}: {rule}{lines}"

    def reads(self) -> list[Buffer]:
        """The buffers that it reads, once each, in order of first use; none that it fills."""
        read = dict.fromkeys(f.value[0] for f in self.formulas() if f.primitive == "read")
        written = {store.buffer for store in self.ordered}
        return [buffer for buffer in read if buffer not in written]
