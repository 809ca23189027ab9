"""Memory of a device: allocations, copies of arrays that runs share, and errors of lacking it.

Enters: arrays, and numbers of bytes. Leaves: `cl.Buffer`s. A variable's array never changes, so its
copy on the device serves every run and every program until the array is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from graphc import lazy
from graphc.dtypes import Array
from graphc.errors import DeviceError
from graphc.runtime.opencl.capabilities import Capabilities

opencl = lazy.Module("pyopencl")
LISTED = 10  # of the largest tensors
LINE = 64  # bytes that what is shared begins with: drivers copy other arrays, slowly,
ANYWHERE = ("Portable Computing Language",)  # but for these
LEAST = 64  # bytes of a buffer


class Place(NamedTuple):
    """Where something lies: a `cl.Buffer`, and bytes from its start."""

    memory: Any
    offset: int


NOWHERE = Place(None, 0)


class Live(NamedTuple):
    """A tensor in memory, for errors."""

    name: str
    bytes: int
    origin: str  # where it was made


class Holder(Protocol):
    """What keeps memory that it does not need at the moment."""

    def spare(self) -> None:
        """Let go of that."""

    def close(self) -> None:
        """Let go of everything."""


class Memory:
    """The memory of one context; what `holders` keep for later runs is given up before it lacks."""

    def __init__(self, context: Any, capabilities: Capabilities) -> None:
        self.context, self.capabilities = context, capabilities
        self.holders: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._copies: dict[int, tuple[Any, Any]] = {}

    def allocate(self, size: int) -> Any:
        """A buffer of so many bytes; a MemoryError where there is no such memory."""
        self._demand(size)
        try:
            return self._allocated(size)
        except MemoryError:
            for holder in list(self.holders):
                holder.spare()
            return self._allocated(size)

    def _demand(self, size: int) -> None:
        if size > self.capabilities.allocation_limit:
            raise MemoryError(
                f"{size:,} bytes were asked for in one buffer, and {self.capabilities.name} "
                f"allows {self.capabilities.allocation_limit:,}"
            )

    def _allocated(self, size: int) -> Any:
        flags = opencl.mem_flags.READ_WRITE
        try:
            return opencl.Buffer(self.context, flags, max(LEAST, size))
        except (opencl.MemoryError, opencl.Error) as error:
            raise MemoryError(f"{size:,} bytes were asked for ({error})") from error

    def around(self, array: Array, written: bool = False) -> Any:
        """A buffer that is an array's own memory, which the device shares with the host."""
        self._demand(array.nbytes)
        access = opencl.mem_flags.READ_WRITE if written else opencl.mem_flags.READ_ONLY
        return opencl.Buffer(self.context, access | opencl.mem_flags.USE_HOST_PTR, hostbuf=array)

    def shares(self, array: Array) -> bool:
        """Whether the device can read an array where it is."""
        capabilities = self.capabilities
        if not (capabilities.unified and array.flags.c_contiguous):
            return False
        return capabilities.platform in ANYWHERE or array.ctypes.data % LINE == 0

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
        """Free everything."""
        for holder in list(self.holders):
            holder.close()
        self._copies.clear()


class Staging:
    """Memory of the host that the device copies from and to by itself: arrays pass through it."""

    def __init__(self, memory: Memory, queue: Any, size: int) -> None:
        flags = opencl.mem_flags.READ_WRITE | opencl.mem_flags.ALLOC_HOST_PTR
        buffer = opencl.Buffer(memory.context, flags, size)
        access = opencl.map_flags.READ | opencl.map_flags.WRITE
        self._mapped, _ = opencl.enqueue_map_buffer(queue, buffer, access, 0, (size,), np.uint8)

    def like(self, array: Array) -> Array:
        """Its memory, as an array of this kind; None of it is the array's."""
        found: Array = self._mapped[: array.nbytes].view(array.dtype).reshape(array.shape)
        return found

    def holds(self, size: int) -> bool:
        """Whether so many bytes pass at once."""
        return bool(self._mapped.nbytes >= size)


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


def show(queue: Any, memory: Any, array: Array) -> None:
    """Let the host see what the device has written to an array's own memory (`Memory.around`)."""
    mapped, _ = opencl.enqueue_map_buffer(
        queue, memory, opencl.map_flags.READ, 0, array.shape, array.dtype, is_blocking=False
    )
    mapped.base.release(queue)


def move(queue: Any, source: Place, target: Place, size: int) -> None:
    """Copy bytes on the device."""
    if size and source != target:
        opencl.enqueue_copy(
            queue, target.memory, source.memory, byte_count=size,
            src_offset=source.offset, dst_offset=target.offset,
        )  # fmt: skip


def exhausted(error: MemoryError, device: str, live: Sequence[Live]) -> DeviceError:
    """The error of a run that found no memory, with the largest tensors that live at once."""
    largest = sorted(live, key=lambda one: -one.bytes)[:LISTED]
    return DeviceError(
        f"run: out of memory on {device}: {error}; the largest tensors in memory are"
        + "".join(f"\n  %{each.name}: {each.bytes:,} bytes, {each.origin}" for each in largest)
    )
