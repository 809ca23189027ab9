"""Which tile is quickest on a device: measured once for a driver and a dtype, and kept on disk.

Enters: a product that a device is to compute. Leaves: a tile, or None for the one that suits the
device's type. Some candidates are timed on a square product of random numbers, which takes seconds,
so only a product that is large itself asks for it, and only where its answer can be kept: without
a folder for caches nothing is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import Any

import numpy as np

from graphc import config, lazy
from graphc.collapse import collapse
from graphc.contractions import Product, turns
from graphc.contractions import match as match_product
from graphc.dims import evaluate
from graphc.dtypes import DType
from graphc.errors import GraphcError
from graphc.kernel import Buffer, Kernel, Store, axes_over, read, reduce
from graphc.runtime.cache import DiskCache, content_key
from graphc.runtime.opencl.blocks import Blocks
from graphc.runtime.opencl.building import Builder
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.panels import Panels
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.tiles import Tile, candidates, compile_product
from graphc.types import TensorType

opencl = lazy.Module("pyopencl")
FORMAT = "graphc tile 1"
LEAST_WORK = 2**27  # multiply-adds of a product that is worth finding out
SIZE = 1_024  # of the product that is timed
MOST = 6  # candidates
ROUNDS = 8  # runs of each, of which the quickest counts
GAIN = 0.95  # of the usual tile's time: what is not clearly quicker is no reason to differ
KINDS: dict[str, type[Panels] | type[Blocks]] = {"Panels": Panels, "Blocks": Blocks}


class Tuning:
    """The tiles of one device."""

    def __init__(self, context: Any, device: Any, builder: Builder, about: Capabilities) -> None:
        self._context, self._device, self._builder, self._about = context, device, builder, about
        self._known: dict[DType, Tile | None] = {}

    def __call__(self, product: Product) -> Tile | None:
        """The tile for a product; None for the usual one."""
        dtype = product.dtype
        if dtype not in self._known:
            folder = config.cache_folder()
            if folder is None or not _is_large(product):
                return None
            self._known[dtype] = self._found(DiskCache(folder), dtype)
        return self._known[dtype]

    def _found(self, disk: DiskCache, dtype: DType) -> Tile | None:
        key = content_key(FORMAT, self._about.driver, dtype.name)
        tiles = candidates(self._about, dtype)[:MOST]
        kept = _tile(disk.get(key))
        if kept in tiles:
            return kept
        if len(tiles) < 2:
            return None
        tile = self._quickest(tiles, dtype)
        disk.put(key, json.dumps([type(tile).__name__, *astuple(tile)]).encode())
        return tile

    def _quickest(self, tiles: Sequence[Tile], dtype: DType) -> Tile:
        """The first, unless another one is clearly quicker."""
        product = _square(dtype)
        routines = [compile_product(product, tile, self._about) for tile in tiles]
        times = [float("inf")] * len(tiles)
        queue = opencl.CommandQueue(self._context, self._device)
        buffers = self._buffers(dtype)
        timers: dict[int, Callable[[], float]] = {}
        for number, routine in enumerate(routines):
            with suppress(GraphcError, opencl.Error):  # one that a driver refuses is no candidate
                timers[number] = self._timer(routine, buffers, queue)
                timers[number]()
        for _ in range(ROUNDS):  # one after the other: what else is running slows all of them
            for number, timer in timers.items():
                times[number] = min(times[number], timer())
        for buffer in buffers:
            buffer.release()
        best = times.index(min(times))
        return tiles[best] if times[best] < GAIN * times[0] else tiles[0]

    def _buffers(self, dtype: DType) -> list[Any]:
        values = np.random.default_rng(1).random((SIZE, SIZE)).astype(dtype.numpy)
        flags = opencl.mem_flags.READ_WRITE | opencl.mem_flags.COPY_HOST_PTR
        return [opencl.Buffer(self._context, flags, hostbuf=values) for _ in range(3)]

    def _timer(self, routine: Routine, buffers: Sequence[Any], queue: Any) -> Callable[[], float]:
        """A function that runs a routine, and gives the seconds that it took."""
        (function,) = self._builder.functions([routine])
        kernel, arguments = function.kernel(), list[Any]()
        for buffer in buffers:
            arguments += [buffer, np.int64(0)]
        arguments += [np.int64(evaluate(size, {})) for size in routine.sizes]
        kernel.set_args(*arguments)
        items = [evaluate(size, {}) for size in routine.items]

        def timer() -> float:
            start = time.perf_counter()
            opencl.enqueue_nd_range_kernel(queue, kernel, items, routine.group)
            queue.finish()
            return time.perf_counter() - start

        return timer


def _is_large(product: Product) -> bool:
    counts = [turns(axes) for axes in (product.rows, (product.column,), product.sums)]
    work = 1
    for count in counts:
        work *= count or 0
    return work >= LEAST_WORK


def _tile(data: bytes | None) -> Tile | None:
    """A tile as it was kept."""
    try:
        name, *sizes = json.loads(data or b"[]")
        return KINDS[name](*sizes)
    except (ValueError, KeyError, TypeError):
        return None


def _square(dtype: DType) -> Product:
    """The product of two square matrices."""
    a, b, c = (Buffer(TensorType(dtype, (SIZE, SIZE)), name) for name in "abc")
    axes, (i, j) = axes_over((SIZE, SIZE))
    total = reduce("sum", (SIZE,), lambda k: read(a)(i, k) * read(b)(k, j))
    found = match_product(collapse(Kernel("tuning", axes, (Store(c, (i, j), total),))))
    assert found is not None
    return found
