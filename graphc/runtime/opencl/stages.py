"""What a kernel is cut into before code is written: kernels whose work-items compute nothing twice.

Enters: a kernel without order. Leaves: `Stage`s, kernels of which each is one launch: all stores of
one are done at the same points, and each reduction in it differs from point to point. A reduction
that several points share is stored once, by a stage of its own, into a temporary buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphc.collapse import collapse
from graphc.dims import Dimension, product
from graphc.dtypes import DType
from graphc.kernel import Axis, Buffer, Kernel, Store, kinds_of, read, walk
from graphc.scalar import Kind, Scalar
from graphc.types import TensorType

SHORT = 4  # points of a reduction that is computed again rather than stored


@dataclass(frozen=True, slots=True)
class Stage:
    """A kernel, and 0 where nobody needs it."""

    kernel: Kernel
    wanted: Dimension = 1


def stages(kernel: Kernel) -> list[Stage]:
    """The stages of a kernel, in order."""
    found: list[Stage] = []
    shared: dict[Scalar, Scalar] = {}
    for axes, stores in _alike(kernel):
        maker = _Stages(kernel, axes, shared)
        changed = maker.stores(stores)
        found += maker.found
        found.append(Stage(collapse(Kernel(kernel.name, axes, changed, kernel.lines))))
    return found


def _alike(kernel: Kernel) -> list[tuple[tuple[Axis, ...], list[Store]]]:
    """The stores that are done at the same points, with the axes of these."""
    groups: dict[tuple[Axis, ...], list[Store]] = {}
    for store in kernel.stores:
        mentioned = store.axes()
        axes = tuple([axis for axis in kernel.axes if axis in mentioned])
        groups.setdefault(axes, []).append(store)
    return list(groups.items())


@dataclass(slots=True)
class _Stages:
    """The stages of stores over some axes; `shared` are reads of what was stored already."""

    kernel: Kernel
    axes: tuple[Axis, ...]
    shared: dict[Scalar, Scalar]
    found: list[Stage] = field(default_factory=list)
    made: dict[Scalar, Scalar] = field(default_factory=dict)

    def stores(self, stores: Sequence[Store]) -> tuple[Store, ...]:
        """The stores, with reads in place of what is stored before."""
        formulas = [store.value for store in stores]
        kinds = kinds_of(*formulas)
        free: dict[Scalar, frozenset[Axis]] = {}
        for part in walk(*formulas):
            free[part] = _free(part, free)
            self.made[part] = self._part(part, free[part], kinds)
        return tuple(Store(s.buffer, s.index, self.made[s.value], s.ordered) for s in stores)

    def _part(self, part: Scalar, free: frozenset[Axis], kinds: dict[Scalar, Kind]) -> Scalar:
        """One formula, of its operands, which are made."""
        operands = tuple([self.made[x] for x in part.operands])
        same = all(a is b for a, b in zip(operands, part.operands, strict=True))
        changed = part if same else Scalar(part.primitive, operands, part.value)
        if part.primitive != "reduce" or not self._is_shared(part, free):
            return changed
        if part not in self.shared:
            kind = kinds[part]
            assert isinstance(kind, DType)
            self.shared[part] = self._stored(changed, free, kind)
        return self.shared[part]

    def _is_shared(self, part: Scalar, free: frozenset[Axis]) -> bool:
        points = product(axis.extent for axis in part.value[1])
        if isinstance(points, int) and points <= SHORT:
            return False
        return any(axis not in free and not _is_one(axis.extent) for axis in self.axes)

    def _stored(self, part: Scalar, free: frozenset[Axis], dtype: DType) -> Scalar:
        """A read of what one more stage stores."""
        order = [axis for axis in self.axes if axis in free]
        order += sorted(free.difference(order), key=lambda axis: axis.serial)
        buffer = Buffer(TensorType(dtype, tuple(axis.extent for axis in order)), "part")
        index = tuple(axis.position for axis in order)
        kernel = Kernel(
            self.kernel.name, tuple(order), (Store(buffer, index, part),), self.kernel.lines
        )
        wanted = product(axis.extent for axis in self.axes)
        self.found.append(Stage(collapse(kernel), wanted))
        return read(buffer)(*index)


def _free(part: Scalar, known: dict[Scalar, frozenset[Axis]]) -> frozenset[Axis]:
    found = frozenset[Axis]().union(*(known[x] for x in part.operands))
    if part.primitive == "position":
        return frozenset((part.value,))
    return found - frozenset(part.value[1]) if part.primitive == "reduce" else found


def _is_one(size: Dimension) -> bool:
    return isinstance(size, int) and size == 1
