"""What the emission of formulas must know of them beforehand: dtypes, axes, places, guards.

Enters: the formulas of a kernel. Leaves: `FormulaFacts`, which say of each formula its dtype and
the axes that it depends on, of a read where in its buffer it stands and which sizes must not be 0
for it to happen, and what must be evaluated for it. A device adds what only its code asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphc.affine import Affine, affine, is_inside, place, strides
from graphc.dims import Dim, Dimension, Shape
from graphc.kernel import Axis, Buffer, Index, kinds_of
from graphc.scalar import Kind, Scalar, walk

NONE: frozenset[Axis] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a read stands: an affine offset in elements, and terms that are not affine."""

    offset: Affine
    terms: tuple[tuple[Scalar, Dimension], ...]  # index formulas with the steps between them


def place_of(index: Index, shape: Shape) -> Place:
    """Where an index stands in a row-major array."""
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


class FormulaFacts:
    """What is known of some formulas, and of `bounds`, which say over what an axis runs.

    `own` are buffers that are written at each point of `order`: a read of one holds there only.
    """

    def __init__(
        self,
        formulas: Iterable[Scalar],
        own: Iterable[Buffer] = (),
        order: Iterable[Axis] = (),
        bounds: Sequence[Scalar] = (),
    ) -> None:
        roots = tuple(formulas)
        self._own, self._order = frozenset(own), frozenset(order)
        self.kinds: Mapping[Scalar, Kind] = kinds_of(*roots, *bounds)
        self.free: dict[Scalar, frozenset[Axis]] = {}
        self.places: dict[Scalar, Place] = {}
        self.data: set[Scalar] = set()  # what depends on what buffers hold
        for part in walk(*bounds, *roots):
            self.free[part] = self._free(part)
            if part.primitive == "read":
                self.places[part] = place_of(part.operands, part.value[0].type.shape)
            if part.primitive == "read" or any(x in self.data for x in part.operands):
                self.data.add(part)
        self.guards = self._guards(roots)

    def _free(self, part: Scalar) -> frozenset[Axis]:
        found = NONE.union(*(self.free[x] for x in part.operands))
        if part.primitive == "position":
            return frozenset((part.value,))
        if part.primitive == "reduce":
            return found - frozenset(part.value[1])
        return found | self._order if self.is_own(part) else found

    def _guards(self, roots: Sequence[Scalar]) -> dict[Scalar, frozenset[Dimension]]:
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
                sizes |= {a.extent for a in part.value[1] if isinstance(a.extent, Dim)}
            for operand in part.operands:
                note(operand, sizes)
        return found

    def is_own(self, part: Scalar) -> bool:
        """Whether a formula reads what the kernel writes in its order."""
        return part.primitive == "read" and part.value[0] in self._own

    def is_doubtful(self, index: Scalar, size: Dimension) -> bool:
        """Whether an index is data, or a number that a size may not reach."""
        if index in self.data:
            return True
        return not self.free[index] and not is_inside(index, size)

    def needs(self, part: Scalar) -> tuple[Scalar, ...]:
        """What must have a value where this formula is evaluated, in the same scope."""
        if part.primitive == "reduce":
            return ()
        if part.primitive != "read":
            return part.operands
        terms = tuple(formula for formula, _ in self.places[part].terms)
        return terms if part.value[1] is None else tuple(dict.fromkeys((*part.operands, *terms)))

    def summed(self, part: Scalar) -> tuple[Scalar, ...]:
        """What is evaluated inside of the loops of a reduction."""
        return part.operands

    def inside(self, *formulas: Scalar) -> Iterator[Scalar]:
        """Every formula that is evaluated for these, also inside of reductions, operands first."""
        return walk(
            *formulas, into=lambda part: self.summed(part) if part.primitive == "reduce"
            else self.needs(part),
        )  # fmt: skip
