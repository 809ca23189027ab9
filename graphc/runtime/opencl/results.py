"""Results: which of them the device writes where the user gets them, and how the others are read.

Enters: a recipe or a context, after its walk. Leaves: arrays that nobody else holds. Where device
and host share their memory, a large result is computed in the array that the run returns, and
nothing is copied. Elsewhere it comes through memory that the device writes by itself. In both
cases the array's own memory is that of an earlier result that the user has dropped, if there is
one: fresh pages cost more than the copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphc.dtypes import Array
from graphc.kernel import Buffer
from graphc.runtime.leases import Leases
from graphc.runtime.opencl.context import LARGE, Context
from graphc.runtime.opencl.memory import NOWHERE, Place, fetch, show


class Results:
    """The results of one run."""

    def __init__(self, context: Context, leases: Leases) -> None:
        """Give large results their places; a MemoryError where there is none."""
        self._context, self._leases = context, leases
        self._lent: dict[int, Array] = {}
        self._staged: list[tuple[Array, Array]] = []
        for slot in context.direct:
            array = self._leased(context.results[slot])
            context.place(slot, Place(context.memory.around(array, written=True), 0))
            self._lent[slot] = array

    def _leased(self, buffer: Buffer) -> Array:
        context = self._context
        shape, dtype = context.shape(buffer), buffer.type.dtype.numpy
        if context.size(buffer) < LARGE:
            return np.empty(shape, dtype)
        return self._leases.take(shape, dtype, context.size(buffer))[0]

    def read(self, roots: Sequence[Buffer], known: Mapping[Buffer, Array]) -> list[Array]:
        """The arrays of roots, there once the queue has finished; `known` are on the host."""
        return [
            np.array(known[root], order="C") if root in known else self._read(root)
            for root in roots
        ]

    def _read(self, root: Buffer) -> Array:
        context = self._context
        place, array = context.at(root), self._lent.get(context.recipe.slots[root])
        if array is not None:
            show(context.queue, place.memory, array)
            return array
        array = self._leased(root)
        staged = context.staged(root, array)
        if staged is not None:
            self._staged.append((array, staged))
        fetch(context.queue, place, array if staged is None else staged)
        return array

    def settle(self) -> None:
        """Complete the arrays and let go of them, once the queue has finished."""
        for array, staged in self._staged:
            array[...] = staged
        for slot in self._lent:
            self._context.places[slot] = NOWHERE
        self._leases.keep(self._context.outputs)
