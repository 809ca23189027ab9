"""Which results of a kernel may be written over what it reads.

Enters: a kernel. Leaves: pairs of a buffer that it reads and one that it writes, of which each
element is read only to compute the very element at its place: so both may be one storage, if
nobody else wants the old values. This asks of a device that it writes an element of a result once,
after it has read what that element is made of.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from graphc.dims import Shape
from graphc.kernel import Buffer, Index, Kernel, Store
from graphc.scalar import Scalar, walk


class _Structure:
    """Formulas numbered by structure: equal ones get equal numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Scalar, int] = {}
        self._known: dict[Hashable, int] = {}

    def __call__(self, *formulas: Scalar) -> tuple[int, ...]:
        """The numbers of some formulas."""
        for part in walk(*[f for f in formulas if f not in self._numbers]):
            if part not in self._numbers:
                operands = tuple([self._numbers[x] for x in part.operands])
                key = (part.primitive, operands, type(part.value), part.value)
                self._numbers[part] = self._known.setdefault(key, len(self._known))
        return tuple([self._numbers[f] for f in formulas])


def shareable(kernel: Kernel) -> list[tuple[Buffer, Buffer]]:
    """Pairs (read, written) that may be one storage where the read one is not needed any more."""
    structure = _Structure()
    reads = _reads(kernel)
    written = {store.buffer for store in kernel.stores}
    return [
        (buffer, store.buffer)
        for buffer, places in reads.items()
        if buffer not in written and len({id(s) for s, _ in places}) == 1
        for store in [places[0][0]]
        if _same_layout(buffer, store.buffer)
        and _stored_once(kernel, store.buffer)
        and all(_at(formula, store.index, structure) for _, formula in places)
    ]


def _reads(kernel: Kernel) -> dict[Buffer, list[tuple[Store, Scalar | None]]]:
    """For each buffer, the stores that read it and the read formula (None: in a reduction)."""
    found: dict[Buffer, list[tuple[Store, Scalar | None]]] = {}
    for store in kernel.stores:
        inside = set(_reduced(store))
        for formula in walk(*store.formulas):
            if formula.primitive == "read":
                plain = None if formula in inside else formula
                found.setdefault(formula.value[0], []).append((store, plain))
    return found


def _reduced(store: Store) -> Iterator[Scalar]:
    """All formulas under a reduction of a store."""
    bodies = [x for f in walk(*store.formulas) if f.primitive == "reduce" for x in f.operands]
    return walk(*bodies)


def _at(formula: Scalar | None, index: Index, structure: _Structure) -> bool:
    return (
        formula is not None
        and formula.value[1] is None
        and structure(*formula.operands) == structure(*index)
    )


def _same_layout(one: Buffer, other: Buffer) -> bool:
    a, b = one.type, other.type
    return a.dtype.numpy.itemsize == b.dtype.numpy.itemsize and _shape(one) == _shape(other)


def _shape(buffer: Buffer) -> Shape:
    assert buffer.type.shape is not None
    return buffer.type.shape


def _stored_once(kernel: Kernel, buffer: Buffer) -> bool:
    return sum(store.buffer is buffer for store in kernel.stores) == 1
