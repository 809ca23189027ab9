"""Memory of large results, used again once the user has dropped the array and all its views.

Fresh pages cost more than the arithmetic that fills them. Enters: bytes. Leaves: an array on
memory that came from an earlier result, if there is some of about that size. Memory comes back
when the last view of a result is gone, from whichever thread that happens in.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import Any

import numpy as np

from graphc.dtypes import Array

PAGE = 4_096  # drivers share memory that begins with a page, and copy other memory
STEPS = 8  # sizes between two powers of two


class _Memory(np.ndarray):  # type: ignore[type-arg]  # of bytes
    """A piece of memory. Views hold the array that they were made of, not what that was made of
    in turn, where its type is another: so a lease on this memory lives as long as they do."""

    address: int


class Leases:
    """The memory of one program's results."""

    def __init__(self) -> None:
        self._free: OrderedDict[int, list[_Memory]] = OrderedDict()  # last used sizes at the end
        self._lent: dict[int, tuple[Any, _Memory]] = {}

    def take(self, shape: tuple[int, ...], dtype: Any, count: int) -> tuple[Array, int]:
        """An array of `count` bytes, and its address."""
        size = rounded(count)
        try:
            memory = self._free[size].pop()
        except (KeyError, IndexError):
            raw = np.ndarray.__new__(_Memory, (size + PAGE,), np.uint8)
            memory = np.ndarray.__new__(_Memory, (size,), np.uint8, raw, -raw.ctypes.data % PAGE)
            memory.address = int(memory.ctypes.data)
        lease = np.ndarray((size,), np.uint8, memory)
        reference = weakref.ref(lease, self._back)
        self._lent[id(reference)] = reference, memory
        return np.ndarray(shape, dtype, lease), memory.address

    def _back(self, reference: Any) -> None:
        """The last view is gone."""
        _, memory = self._lent.pop(id(reference))
        self._free.setdefault(memory.size, []).append(memory)

    def keep(self, most: int) -> None:
        """Give memory back to the system until at most so many bytes lie idle."""
        sizes = list(self._free)  # the first ones met are the oldest
        total = self.idle
        for size in sizes:
            pieces = self._free.get(size, [])
            while total > most and pieces:
                pieces.pop()
                total -= size
            if not pieces and total > most:
                self._free.pop(size, None)

    @property
    def idle(self) -> int:
        """Bytes that wait to be used again."""
        return sum(size * len(pieces) for size, pieces in list(self._free.items()))


def rounded(count: int) -> int:
    """The next of eight sizes between powers of two."""
    step = max(64, (1 << max(0, count.bit_length() - 1)) // STEPS)
    return -(-count // step) * step
