"""Running routines of the OpenCL device one by one: what its program does, plainly."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graphc.dims import Symbol, evaluate
from graphc.dtypes import Array
from graphc.kernel import Buffer, Kernel
from graphc.runtime.interp.evaluate import run_kernel
from graphc.runtime.opencl.capabilities import Capabilities, capabilities
from graphc.runtime.opencl.drivers import hush
from graphc.runtime.opencl.routine import Routine

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")


@functools.cache
def device() -> Any:
    """The first OpenCL device; a test that asks for one is skipped where there is none."""
    try:
        found = [d for platform in cl.get_platforms() for d in platform.get_devices()]
    except cl.Error:
        found = []
    if not found:
        pytest.skip("no OpenCL driver is installed")
    return found[0]


@functools.cache
def here() -> Capabilities:
    """What that device can do."""
    return capabilities(device())


@functools.cache
def context() -> Any:
    """Held here: on Intel's driver, a queue does not keep its context alive."""
    return cl.Context([device()])


@functools.cache
def queue() -> Any:
    """A queue of that device."""
    return cl.CommandQueue(context())


@functools.cache
def _function(text: str, group: tuple[int, ...], helpers: tuple[str, ...]) -> Any:
    shape = ", ".join(map(str, (*group, 1, 1)[:3]))
    head = f"kernel __attribute__((reqd_work_group_size({shape}))) void routine"
    hush()
    whole = "\n".join(["#pragma OPENCL FP_CONTRACT OFF", *helpers, head + text])
    return cl.Kernel(cl.Program(context(), whole).build(["-cl-std=CL1.2", "-w"]), "routine")


class Memory:
    """The buffers of a run on the device."""

    def __init__(self, sizes: Mapping[Symbol, int] | None = None) -> None:
        self.sizes = sizes or {}
        self.held: dict[Buffer, Any] = {}

    def shape(self, buffer: Buffer) -> tuple[int, ...]:
        return tuple(evaluate(size, self.sizes) for size in buffer.type.shape or ())

    def put(self, buffer: Buffer, value: Array) -> None:
        """The value of a buffer."""
        array = np.ascontiguousarray(value, buffer.type.dtype.numpy)
        held = cl.Buffer(context(), cl.mem_flags.READ_WRITE, max(array.nbytes, 16))
        if array.size:
            cl.enqueue_copy(queue(), held, array)
        self.held[buffer] = held

    def get(self, buffer: Buffer) -> Array:
        """What a buffer holds."""
        array = np.empty(self.shape(buffer), buffer.type.dtype.numpy)
        if array.size:
            cl.enqueue_copy(queue(), array, self.held[buffer])
        return array

    def launcher(self, routine: Routine) -> Any:
        """A function that enqueues a routine; buffers that have no value yet are made of NaN."""
        for buffer in routine.buffers:
            if buffer not in self.held:
                dtype = buffer.type.dtype
                fill = np.nan if dtype.is_float else 1
                self.put(buffer, np.full(self.shape(buffer), fill, dtype.numpy))
        function = _function(routine.code, routine.group, routine.helpers)
        arguments: list[Any] = []
        for buffer in routine.buffers:
            arguments += [self.held[buffer], np.int64(0)]
        arguments += [np.int64(evaluate(size, self.sizes)) for size in routine.sizes]
        function.set_args(*arguments)
        counts = [evaluate(size, self.sizes) for size in routine.items]
        whole = [-(-n // each) * each for n, each in zip(counts, routine.group, strict=True)]

        def launch() -> None:
            if all(whole):
                cl.enqueue_nd_range_kernel(queue(), function, whole, routine.group)

        return launch

    def finish(self) -> None:
        """Wait."""
        queue().finish()


def results(
    routines: Sequence[Routine],
    kernel: Kernel,
    values: Mapping[Buffer, Array],
    sizes: Mapping[Symbol, int] | None = None,
) -> tuple[list[Array], list[Array]]:
    """What routines store, and what the kernel means, for each store."""
    memory = Memory(sizes)
    for buffer, value in values.items():
        memory.put(buffer, value)
    for routine in routines:
        memory.launcher(routine)()
    found = [memory.get(store.buffer) for store in kernel.stores]
    wanted = {buffer: np.asarray(value) for buffer, value in values.items()}
    for store in kernel.stores:
        wanted[store.buffer] = np.empty(memory.shape(store.buffer), store.buffer.type.dtype.numpy)
    with np.errstate(all="ignore"):
        run_kernel(kernel, wanted, memory.sizes)
    return found, [wanted[store.buffer] for store in kernel.stores]
