"""Kernels that are products of matrices, and how to run a routine on NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.collapse import collapse
from graphc.contractions import Product, match
from graphc.dims import Dim, Symbol, evaluate
from graphc.dtypes import DType, float32
from graphc.kernel import Axis, Buffer, Kernel, Store, inlined, read, reduce
from graphc.lower import lower
from graphc.ops.elements import conv2d_element
from graphc.ops.window import NONE
from graphc.plan import Call
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.linking import addresses
from graphc.runtime.cpu.routine import (
    FAULT,
    FIRST,
    GRAIN,
    NAME,
    SHARE,
    TABLE,
    WORKSPACE,
    Launch,
    Routine,
)
from graphc.runtime.cpu.target import Target
from graphc.scalar import Scalar
from graphc.types import TensorType
from tests.support import Compiled

INTEGER, POINTER = ctypes.c_int64, ctypes.c_void_p
Sizes = Mapping[Symbol, int]
NO_SIZES: Sizes = {}


def buffer_of(*shape: Any, dtype: DType = float32, name: str = "x") -> Buffer:
    return Buffer(TensorType(dtype, shape), name)


def filled(kernel: Kernel, sizes: Sizes) -> dict[Buffer, Any]:
    """Small whole numbers, so that any order of summation gives the same bits."""
    rng = np.random.default_rng(5)
    found: dict[Buffer, Any] = {}
    for buffer in (*kernel.reads(), *(store.buffer for store in kernel.stores)):
        shape = [evaluate(d, sizes) for d in buffer.type.shape or ()]
        found[buffer] = rng.integers(-4, 5, shape).astype(buffer.type.dtype.numpy)
    return found


def graph_kernels(fetch: Any, *inputs: Any) -> list[Kernel]:
    shapes = [tuple(3 if isinstance(d, Dim) else d for d in x.shape) for x in inputs]
    graph = Compiled.of([fetch], inputs, shapes).graph
    return [collapse(step.kernel) for step in lower(graph).steps if isinstance(step, Call)]


def product_of_graph(fetch: Any, *inputs: Any) -> Product:
    """The only product among the kernels of a graph."""
    found = [match(kernel) for kernel in graph_kernels(fetch, *inputs)]
    (product,) = [product for product in found if product is not None]
    return product


def matmul_kernel(
    m: Any, k: Any, n: Any, dtype: DType = float32, a_turned: bool = False, b_turned: bool = False,
    epilogue: Any = None, batch: Sequence[Any] = (),
) -> Kernel:  # fmt: skip
    """C = epilogue(A @ B), with operands that may lie transposed."""
    a = buffer_of(*batch, *((k, m) if a_turned else (m, k)), dtype=dtype, name="a")
    b = buffer_of(*batch, *((n, k) if b_turned else (k, n)), dtype=dtype, name="b")
    c = buffer_of(*batch, m, n, dtype=dtype, name="c")
    axes = tuple(map(Axis, (*batch, m, n)))
    index = tuple(axis.position for axis in axes)

    def total(at: Any) -> Scalar:
        *first, i, j = at

        def term(r: Scalar) -> Scalar:
            left = (r, i) if a_turned else (i, r)
            right = (j, r) if b_turned else (r, j)
            return read(a)(*first, *left) * read(b)(*first, *right)

        return reduce("sum", (k,), term)

    source = inlined(c.type, total)
    value = source(*index)
    if epilogue is None:
        stores: tuple[Store, ...] = (Store(c, index, value),)
    else:
        stores = epilogue(c, index, source)
    return collapse(Kernel("matmul", axes, stores))


def matched(kernel: Kernel) -> Product:
    product = match(kernel)
    assert product is not None
    return product


def convolution_kernel(
    x: Sequence[Any], filters: Sequence[int], strides: Any = (1, 1), dilations: Any = (1, 1),
    dtype: DType = float32, turned: bool = False,
) -> Kernel:  # fmt: skip
    """A convolution without padding; `turned`: of images with the channels before the places."""
    n, high, wide_, channels = x
    sides = zip((high, wide_), filters, strides, dilations, strict=False)
    counts = [(size - (taps - 1) * d - 1) // s + 1 for size, taps, s, d in sides]
    shape = (n, channels, high, wide_) if turned else tuple(x)
    image, taps = buffer_of(*shape, dtype=dtype), buffer_of(*filters, dtype=dtype, name="f")
    out = (n, *counts, filters[3])
    c = buffer_of(*(out[0], out[3], out[1], out[2]) if turned else out, dtype=dtype, name="y")
    axes = tuple(map(Axis, c.type.shape or ()))
    stored = tuple(a.position for a in axes)
    index = (stored[0], stored[2], stored[3], stored[1]) if turned else stored
    source = read(image)
    if turned:
        source = inlined(TensorType(dtype, tuple(x)), lambda i: read(image)(i[0], i[3], i[1], i[2]))
    attrs = {"strides": strides, "padding": NONE, "dilations": dilations}
    value = conv2d_element(index, source, read(taps), 1, **attrs)
    return collapse(Kernel("conv2d", axes, (Store(c, stored, value),)))


def flipped_kernel(high: int, wide_: int, outputs: int, channels: int, taps: int) -> Kernel:
    """The image's gradient over a padded cotangent: filters are read with negative steps."""
    padded = buffer_of(2, high + 2 * (taps - 1), wide_ + 2 * (taps - 1), outputs, name="g")
    filters = buffer_of(taps, taps, channels, outputs, name="f")
    y = buffer_of(2, high + taps - 1, wide_ + taps - 1, channels, name="y")
    axes = tuple(map(Axis, y.type.shape or ()))
    n, i, j, c = (a.position for a in axes)

    def term(r: Scalar, s: Scalar, o: Scalar) -> Scalar:
        given = read(padded)(n, i - r + (taps - 1), j - s + (taps - 1), o)
        return given * read(filters)(r, s, c, o)

    value = reduce("sum", (taps, taps, outputs), term)
    return collapse(Kernel("input gradient", axes, (Store(y, (n, i, j, c), value),)))


# ---------------------------------------------------------------------------- running


def launched(routine: Routine, values: Sequence[int], count: int, threads: int) -> Launch:
    """How a run of these sizes calls a product; three units in a chunk of any other routine."""
    if routine.cut is None:
        return Launch(count, 3)
    words, launch = np.array(values, np.int64), np.array([count, threads, 0], np.int64)
    ctypes.CFUNCTYPE(None, POINTER, POINTER)(routine.cut)(words.ctypes.data, launch.ctypes.data)
    return Launch(*launch.tolist())


def run(
    routine: Routine, target: Target, arrays: Mapping[Buffer, Any], sizes: Mapping[Symbol, int],
    backwards: bool = False,
) -> None:  # fmt: skip
    """All chunks of a routine, in either order."""
    library = compile_module(routine.code, target, symbols=addresses(routine, target))
    function = library.function(NAME, None, POINTER, INTEGER, INTEGER)
    values = [evaluate(d, sizes) for d in routine.sizes]
    found = launched(routine, values, evaluate(routine.count, sizes), target.cores)
    chunks = range(0, found.count, found.grain)
    space = np.zeros(found.workspace * max(1, len(chunks)) + 64, np.uint8)
    listed = list(dict.fromkeys(routine.buffers))
    table = np.array([arrays[buffer].ctypes.data for buffer in listed], np.uint64)
    fault = np.zeros(2, np.int64)
    record = np.zeros(FIRST + len(routine.buffers) + len(values), np.int64)
    record[TABLE], record[FAULT] = table.ctypes.data, fault.ctypes.data
    record[WORKSPACE] = space.ctypes.data + -space.ctypes.data % 64
    record[SHARE], record[GRAIN] = found.workspace, found.grain
    record[FIRST:] = [*(listed.index(b) for b in routine.buffers), *values]
    for begin in reversed(chunks) if backwards else chunks:
        function(record.ctypes.data, begin, min(begin + found.grain, found.count))
    if fault[0]:
        found = routine.faults[int(fault[0]) - 1]
        raise AssertionError(found.rule.format(fault[1], evaluate(found.size, sizes)))
