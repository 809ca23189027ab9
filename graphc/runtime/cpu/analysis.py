"""What the emission of formulas as LLVM's code must know of them beforehand: lanes, steps, costs.

Enters: the formulas of a kernel, and a target. Leaves: `Facts`, which add to what every device asks
for how many elements make a vector, how far apart neighbours are, and how much work it all is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from graphc.affine import affine
from graphc.dims import Dimension
from graphc.dtypes import DType
from graphc.kernel import Axis, Buffer, Store
from graphc.runtime.cpu.target import Target
from graphc.runtime.cpu.vector_math import Instructions
from graphc.runtime.formulas import NONE, FormulaFacts, place_of
from graphc.scalar import Scalar

Span: TypeAlias = tuple[Scalar, Scalar]
COSTS = {
    "divide": 3, "sqrt": 4, "floor_divide": 6, "remainder": 6, "power": 20, "exp": 8, "expm1": 12,
    "log": 10, "log1p": 14, "sin": 14, "cos": 14, "tan": 20, "arcsin": 14, "arccos": 14,
    "arctan": 12, "arctan2": 20, "tanh": 12, "erf": 14,
}  # fmt: skip


class Facts(FormulaFacts):
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
        own: Iterable[Buffer] = (),
        order: Iterable[Axis] = (),
    ) -> None:
        self.assured = assured
        self.target = target
        self.instructions = Instructions.of(target)
        self.spans = dict(spans or {})
        self.written: dict[Store, Scalar] = {}
        bounds = [formula for span in self.spans.values() for formula in span]
        super().__init__(formulas, own, order, bounds)

    def _free(self, part: Scalar) -> frozenset[Axis]:
        found = super()._free(part)
        if part.primitive != "reduce":
            return found
        axes = part.value[1]
        bounds = [x for axis in axes for x in self.spans.get(axis, ())]
        return found | NONE.union(*(self.free[x] for x in bounds)) - frozenset(axes)

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
            self.places[found] = place_of(store.index, store.buffer.type.shape or ())
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
