"""What the emission of formulas must know of them beforehand: dtypes, axes, places, costs.

Enters: the formulas of a kernel. Leaves: `Facts`, which say of each formula its dtype, the axes
that it depends on, of a read where in its buffer it stands, and what must be evaluated for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from graphc.affine import Affine, affine, place, strides
from graphc.dims import Dim, Dimension
from graphc.dtypes import DType, float64, floating
from graphc.kernel import Axis, Index, Store, kinds_of, walk
from graphc.runtime.cpu.target import Target
from graphc.runtime.cpu.vector_math import Instructions
from graphc.scalar import IN_FLOATS, Kind, Scalar, met

Span: TypeAlias = tuple[Scalar, Scalar]
NONE: frozenset[Axis] = frozenset()
COSTS = {
    "divide": 3, "sqrt": 4, "floor_divide": 6, "remainder": 6, "power": 20, "exp": 8, "expm1": 12,
    "log": 10, "log1p": 14, "sin": 14, "cos": 14, "tan": 20, "arcsin": 14, "arccos": 14,
    "arctan": 12, "arctan2": 20, "tanh": 12, "erf": 14,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a read stands: an affine offset in elements, and terms that are not affine."""

    offset: Affine
    terms: tuple[tuple[Scalar, Dimension], ...]  # index formulas with the steps between them


def operand_dtype(primitive: str, kinds: list[Kind]) -> DType:
    """The dtype that a primitive computes in; of a select, that of what it picks."""
    dtype = met(kinds[1:] if primitive == "select" else kinds)
    if primitive in IN_FLOATS:
        return floating(dtype)
    if primitive in ("divide", "erf") and not dtype.is_float:
        return float64
    return dtype


class Facts:
    """What is known of some formulas, for one target.

    `spans` are the axes that run over a part of their extent: from a first to before a last.
    `assured` are sizes that are not zero where any of these formulas is evaluated.
    """

    def __init__(
        self,
        formulas: Iterable[Scalar],
        target: Target,
        spans: Mapping[Axis, Span] | None = None,
        assured: frozenset[Dimension] = frozenset(),
    ) -> None:
        self.assured = assured
        roots = tuple(formulas)
        self.target = target
        self.instructions = Instructions.of(target)
        self.spans = dict(spans or {})
        bounds = [formula for span in self.spans.values() for formula in span]
        self.kinds = kinds_of(*roots, *bounds)
        self.free: dict[Scalar, frozenset[Axis]] = {}
        self.written: dict[Store, Scalar] = {}
        self.places: dict[Scalar, Place] = {}
        for part in walk(*bounds, *roots):
            self.free[part] = self._free(part)
            if part.primitive == "read":
                self.places[part] = place_of(part.operands, part)
        self.data = self._with_data(roots)
        self.guards = self._guards(roots)

    def _free(self, part: Scalar) -> frozenset[Axis]:
        found = NONE.union(*(self.free[x] for x in part.operands))
        if part.primitive == "position":
            return frozenset((part.value,))
        if part.primitive == "reduce":
            axes = part.value[1]
            bounds = [x for axis in axes for x in self.spans.get(axis, ())]
            return found.union(*(self.free[x] for x in bounds)) - frozenset(axes)
        return found

    def _with_data(self, roots: tuple[Scalar, ...]) -> frozenset[Scalar]:
        """The formulas that depend on what buffers hold."""
        found: set[Scalar] = set()
        for part in walk(*roots):
            if part.primitive == "read" or any(x in found for x in part.operands):
                found.add(part)
        return frozenset(found)

    def _guards(self, roots: tuple[Scalar, ...]) -> dict[Scalar, frozenset[Dimension]]:
        """Of each formula, sizes that are not zero wherever its value is needed.

        What stands inside a loop over no points is not needed, and may read beyond a buffer.
        """
        found: dict[Scalar, frozenset[Dimension]] = {}

        def note(part: Scalar, sizes: frozenset[Dimension]) -> None:
            found[part] = found[part] & sizes if part in found else sizes

        for root in roots:
            note(root, frozenset(a.extent for a in self.free[root] if isinstance(a.extent, Dim)))
        for part in reversed(list(walk(*roots))):
            sizes = found[part]
            if part.primitive == "reduce":
                axes = part.value[1]
                sizes |= {a.extent for a in axes if isinstance(a.extent, Dim)}
            for operand in part.operands:
                note(operand, sizes)
        return found

    # ------------------------------------------------------------------ order of evaluation

    def needs(self, part: Scalar) -> tuple[Scalar, ...]:
        """What must have a value where this formula is evaluated, in the same scope."""
        if part.primitive == "reduce":
            return ()
        if part.primitive != "read":
            return part.operands
        terms = tuple(formula for formula, _ in self.places[part].terms)
        return terms if part.value[1] is None else tuple(dict.fromkeys((*part.operands, *terms)))

    def inside(self, *formulas: Scalar) -> Iterator[Scalar]:
        """Every formula that is evaluated for these, also inside of reductions, operands first."""
        seen: set[Scalar] = set()
        stack = [(formula, False) for formula in reversed(formulas)]
        while stack:
            current, ready = stack.pop()
            if ready:
                yield current
            elif current not in seen:
                seen.add(current)
                stack.append((current, True))
                inner = current.operands if current.primitive == "reduce" else self.needs(current)
                stack += [(part, False) for part in reversed(inner)]

    # ------------------------------------------------------------------ vectors

    def step(self, part: Scalar, axis: Axis) -> Dimension | None:
        """How far apart neighbours along an axis are for a read; None where that is not fixed."""
        found = self.places[part]
        if any(axis in self.free[formula] for formula, _ in found.terms):
            return None
        return found.offset.step(axis)

    def place_written(self, store: Store) -> Scalar:
        """A read of what a store writes, whose address is that of the store."""
        if store not in self.written:
            found = Scalar("read", store.index, (store.buffer, None))
            self.places[found] = place_of(store.index, found)
            self.free[found] = NONE.union(*(self.free[x] for x in store.index))
            self.written[store] = found
        return self.written[store]

    def strided(self, axis: Axis, *formulas: Scalar) -> int:
        """How many reads do not load whole vectors if this axis is the vector's."""
        reads = [part for part in self.inside(*formulas) if part.primitive == "read"]
        return sum(self.step(part, axis) not in (0, 1) for part in reads)

    def lanes(self, *formulas: Scalar, axis: Axis | None = None) -> int:
        """Elements of a vector: as many as a register has of the widest dtype.

        Of an axis, what does not depend on it is no vector. Integers that are neither read nor
        stored are positions, which may take several registers.
        """
        bits = 8
        for part in self.inside(*formulas):
            kind = self.kinds[part]
            if not isinstance(kind, DType) or (axis is not None and axis not in self.free[part]):
                continue
            narrow = kind.is_float or part.primitive == "read" or part in formulas
            bits = max(
                bits, 32 if kind.is_float else 8, kind.bits if narrow else min(32, kind.bits)
            )
        return max(2, self.target.lanes(bits))

    def has_masks(self, bits: int) -> bool:
        """Whether the target loads and stores some lanes of a vector in one instruction."""
        width = self.target.vector_bits
        return width >= 512 or (width >= 256 and bits in (32, 64))

    # ------------------------------------------------------------------ costs

    def work(
        self, *formulas: Scalar, bound: frozenset[Axis] = NONE, only: Axis | None = None
    ) -> Dimension:
        """Element operations of evaluating formulas at all points of the axes that are not bound.

        A formula is evaluated once for all that it does not depend on; `only` leaves out what does
        not depend on that axis.
        """
        total: Dimension = 0
        for part in self.inside(*formulas):
            axes = self.free[part]
            if part.primitive == "reduce":
                axes |= frozenset(part.value[1])
            if only is None or only in axes:
                cost: Dimension = _cost(part)
                for axis in axes - bound:
                    cost = cost * self.length(axis)
                total = total + cost
        return total

    def length(self, axis: Axis) -> Dimension:
        """How many points an axis runs over; of a part of one, the step between the parts."""
        if axis not in self.spans:
            return axis.extent
        first = affine(self.spans[axis][0])
        assert first is not None
        return next(iter(first.steps.values()), axis.extent)


def _cost(part: Scalar) -> int:
    if part.primitive in ("number", "position", "extent"):
        return 0
    return COSTS.get(part.primitive, 1)


def place_of(index: Index, part: Scalar) -> Place:
    """Where the read of a buffer at an index stands."""
    shape = part.value[0].type.shape
    assert shape is not None
    whole = place(index, shape)
    if whole is not None:
        return Place(whole, ())
    constant: Dimension = 0
    steps: dict[Axis, Dimension] = {}
    terms: list[tuple[Scalar, Dimension]] = []
    for formula, stride in zip(index, strides(shape), strict=True):
        found = affine(formula)
        if found is None:
            terms.append((formula, stride))
            continue
        constant = constant + found.constant * stride
        for axis, step in found.steps.items():
            steps[axis] = steps.get(axis, 0) + step * stride
    return Place(Affine(constant, {a: s for a, s in steps.items() if s != 0}), tuple(terms))
