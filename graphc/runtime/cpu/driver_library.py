"""The driver of contractions as loaded code: one library for each dtype and target.

Enters: a dtype and a target. Leaves: the `Library` that `contraction.py` describes, and how a run
cuts a product into chunks.
"""

from __future__ import annotations

import ctypes
import pkgutil
from collections.abc import Sequence

import numpy as np

from graphc.runtime.cpu import ir
from graphc.runtime.cpu.contraction import NAMES
from graphc.runtime.cpu.driver import Driver
from graphc.runtime.cpu.jit import Library, compile_module
from graphc.runtime.cpu.routine import Launch
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.cpu.tile import Tile
from graphc.runtime.once import once

SOURCES = ("contraction", "driver", "emission", "geometry", "packing", "panels", "store", "tile")


@once
def contraction_library(dtype: str, target: Target) -> Library:
    """The driver of a dtype: "float32" or "float64"."""

    def module() -> ir.Module:
        found = ir.Module()
        Driver(found, target, dtype).emit()
        return found

    source = "\n".join([dtype, repr(target), *map(_read, SOURCES)])
    return compile_module(module, target, "lean", source=source)


def _read(name: str) -> str:
    """A module's text: what it writes can change with every line of it."""
    return (pkgutil.get_data(__package__, f"{name}.py") or b"").decode()


def tile_shape(dtype: str, target: Target) -> tuple[int, int]:
    """The columns of a tile of sums, which its rows lie apart, and how many rows it has."""
    tile = Tile.of(target, dtype)
    return tile.width, tile.rows


def cut(values: Sequence[int], threads: int, dtype: str, target: Target | None = None) -> Launch:
    """The launch of a product with these sizes, in the order of `NAMES`; more may follow."""
    sizes, launch = np.array(values[: len(NAMES)], np.int64), np.array([0, threads, 0], np.int64)
    library = contraction_library(dtype, target or host())
    function = library.function("cut", None, ctypes.c_void_p, ctypes.c_void_p)
    function(sizes.ctypes.data, launch.ctypes.data)
    return Launch(*launch.tolist())
