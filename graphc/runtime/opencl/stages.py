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
from graphc.dtypes import DType, float32, float64
from graphc.kernel import Axis, Buffer, Kernel, Store, kinds_of, read
from graphc.runtime.opencl.primitives import FUNCTIONS
from graphc.scalar import Kind, Scalar, walk
from graphc.types import TensorType

SHORT = 4  # points of a reduction that is computed again rather than stored


@dataclass(frozen=True, slots=True)
class Stage:
    """A kernel, and 0 where nobody needs it."""

    kernel: Kernel
    wanted: Dimension = 1


def stages(kernel: Kernel, functions: bool = False) -> list[Stage]:
    """The stages of a kernel, in order."""
    found: list[Stage] = []
    shared: dict[Scalar, Scalar] = {}
    for axes, stores in _alike(kernel):
        maker = _Stages(kernel, axes, shared, functions)
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
    functions: bool
    found: list[Stage] = field(default_factory=list)
    plain: list[Kernel] = field(default_factory=list)  # those of `found`, not collapsed
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
        if not self._is_long(part, kinds) or not self._is_shared(free):
            return changed
        if part not in self.shared:
            kind = kinds[part]
            assert isinstance(kind, DType)
            self.shared[part] = self._stored(changed, free, kind)
        return self.shared[part]

    def _is_long(self, part: Scalar, kinds: dict[Scalar, Kind]) -> bool:
        """Whether a formula takes longer than to read what it gives."""
        if part.primitive == "reduce":
            points = product(axis.extent for axis in part.value[1])
            return not isinstance(points, int) or points > SHORT
        kind = kinds[part]
        return self.functions and part.primitive in FUNCTIONS and kind in (float32, float64)

    def _is_shared(self, free: frozenset[Axis]) -> bool:
        return any(axis not in free and not _is_one(axis.extent) for axis in self.axes)

    def _stored(self, part: Scalar, free: frozenset[Axis], dtype: DType) -> Scalar:
        """A read of what one more stage stores, or the last one beside what it stores already."""
        order = [axis for axis in self.axes if axis in free]
        order += sorted(free.difference(order), key=lambda axis: axis.serial)
        buffer = Buffer(TensorType(dtype, tuple(axis.extent for axis in order)), "part")
        index = tuple(axis.position for axis in order)
        stores: tuple[Store, ...] = (Store(buffer, index, part),)
        if self.found and part.primitive != "reduce":
            last = self.plain[-1]
            made = {store.buffer for store in last.stores}
            reads = {f.value[0] for f in walk(part) if f.primitive == "read"}
            functions = all(store.value.primitive in FUNCTIONS for store in last.stores)
            if last.axes == tuple(order) and functions and not reads & made:
                stores = (*last.stores, *stores)
                self.found.pop()
                self.plain.pop()
        kernel = Kernel(self.kernel.name, tuple(order), stores, self.kernel.lines)
        self.plain.append(kernel)
        self.found.append(Stage(collapse(kernel), product(axis.extent for axis in self.axes)))
        return read(buffer)(*index)


def _free(part: Scalar, known: dict[Scalar, frozenset[Axis]]) -> frozenset[Axis]:
    found = frozenset[Axis]().union(*(known[x] for x in part.operands))
    if part.primitive == "position":
        return frozenset((part.value,))
    return found - frozenset(part.value[1]) if part.primitive == "reduce" else found


def _is_one(size: Dimension) -> bool:
    return isinstance(size, int) and size == 1
