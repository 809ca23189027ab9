"""Memory of a device: allocations, copies of arrays that runs share, and errors of lacking it.

Enters: arrays, and numbers of bytes. Leaves: `cl.Buffer`s. A variable's array never changes, so its
copy on the device serves every run and every program until the array is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from graphc import lazy
from graphc.dtypes import Array
from graphc.errors import DeviceError
from graphc.runtime.opencl.capabilities import Capabilities

opencl = lazy.Module("pyopencl")
LISTED = 10  # of the largest tensors
LEAST = 64  # bytes of a buffer


class Place(NamedTuple):
    """Where something lies: a `cl.Buffer`, and bytes from its start."""

    memory: Any
    offset: int


class Live(NamedTuple):
    """A tensor in memory, for errors."""

    name: str
    bytes: int
    lines: Sequence[object]


class Memory:
    """The memory of one context."""

    def __init__(self, context: Any, capabilities: Capabilities) -> None:
        self.context, self.capabilities = context, capabilities
        self._copies: dict[int, tuple[Any, Any]] = {}

    def allocate(self, size: int) -> Any:
        """A buffer of so many bytes; a MemoryError where there is no such memory."""
        if size > self.capabilities.allocation_limit:
            raise MemoryError(
                f"{size:,} bytes were asked for in one buffer, and {self.capabilities.name} "
                f"allows {self.capabilities.allocation_limit:,}"
            )
        flags = opencl.mem_flags.READ_WRITE
        try:
            return opencl.Buffer(self.context, flags, max(LEAST, size))
        except (opencl.MemoryError, opencl.Error) as error:
            raise MemoryError(f"{size:,} bytes were asked for ({error})") from error

    def around(self, array: Array) -> Any:
        """A buffer that is an array's own memory, which the device shares with the host."""
        flags = opencl.mem_flags.READ_ONLY | opencl.mem_flags.USE_HOST_PTR
        return opencl.Buffer(self.context, flags, hostbuf=array)

    def copy(self, queue: Any, array: Array) -> Any:
        """The copy of an array that never changes, made where there is none yet."""
        found = self._copies.get(id(array))
        if found is not None and found[0]() is array:
            return found[1]
        memory = self.allocate(array.nbytes)
        write(queue, Place(memory, 0), array, wait=True)
        key = id(array)
        self._copies[key] = (weakref.ref(array, lambda _: self._copies.pop(key, None)), memory)
        return memory

    def close(self) -> None:
        """Free all copies."""
        self._copies.clear()


def write(queue: Any, place: Place, array: Array, wait: bool = False) -> Array:
    """Copy an array to a place; gives what must live until the queue is finished."""
    if not array.flags.c_contiguous:
        array = array.copy()
    if array.nbytes:
        opencl.enqueue_copy(queue, place.memory, array, dst_offset=place.offset, is_blocking=wait)
    return array


def fetch(queue: Any, place: Place, array: Array, wait: bool = False) -> None:
    """Copy what lies at a place into an array."""
    if array.nbytes:
        opencl.enqueue_copy(queue, array, place.memory, src_offset=place.offset, is_blocking=wait)


def move(queue: Any, source: Place, target: Place, size: int) -> None:
    """Copy bytes on the device."""
    if size and source != target:
        opencl.enqueue_copy(
            queue, target.memory, source.memory, byte_count=size,
            src_offset=source.offset, dst_offset=target.offset,
        )  # fmt: skip


def exhausted(error: MemoryError, device: str, live: Sequence[Live]) -> DeviceError:
    """The error of a run that found no memory, with the largest tensors that live at once."""
    lines = [f"run: out of memory on {device}: {error}; the largest tensors in memory are"]
    for each in sorted(live, key=lambda one: -one.bytes)[:LISTED]:
        where = ", ".join(map(str, [line for line in each.lines if line is not None][:2]))
        lines.append(
            f"  %{each.name}: {each.bytes:,} bytes" + (f", made at {where}" if where else "")
        )
    return DeviceError("\n".join(lines))
