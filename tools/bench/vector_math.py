"""Nanoseconds an element of the CPU device's elementary functions, beside NumPy's and a copy.

    PYTHONPATH=. python tools/bench/vector_math.py [float32|float64] [name ...]

One thread, a million elements; medians of rounds in which all take turns, so that a busy machine
slows all alike.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.dtypes import BY_NUMPY
from graphc.runtime.cpu.target import host
from tests.math_support import call, library

COUNT, ROUNDS = 1_000_000 // 64 * 64, 15
NAMES = ("exp", "expm1", "log", "log1p", "tanh", "erf", "sin", "cos", "tan", "arctan", "arcsin",
         "power", "arctan2", "remainder", "floor_divide", "maximum")  # fmt: skip


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _runs(name: str, dtype: Any) -> dict[str, Callable[[], Any]]:
    """What is measured of a primitive."""
    generator = np.random.default_rng(0)
    low, high = (
        (-1, 1) if name == "arcsin" else (0.01, 10) if name in ("log", "power") else (-3, 10)
    )
    if name in ("log1p",):
        low = -0.9
    count = 2 if name in ("power", "arctan2", "remainder", "floor_divide", "maximum") else 1
    arrays = [generator.uniform(low, high, COUNT).astype(dtype) for _ in range(count)]
    to, kind = np.empty_like(arrays[0]), BY_NUMPY[np.dtype(dtype)]
    code = library(name, (kind,) * count, kind, host().lanes(kind.bits), host())
    runs = {"graphc": functools.partial(call, code, to, *arrays),
            "copy": functools.partial(np.copyto, to, arrays[0])}  # fmt: skip
    if name != "erf":
        runs["numpy"] = functools.partial(getattr(np, name), *arrays, out=to)
    return runs


def main() -> None:
    """Print the table."""
    dtype = np.dtype(sys.argv[1] if len(sys.argv) > 1 else "float32")
    print(f"{'ns an element':16}{'graphc':>8}{'numpy':>8}{'copy':>8}")
    for name in sys.argv[2:] or NAMES:
        runs = _runs(name, dtype)
        for run in runs.values():
            run()
        rounds = [{label: _seconds(run) for label, run in runs.items()} for _ in range(ROUNDS)]
        cells = [
            f"{statistics.median(r[label] for r in rounds) / COUNT * 1e9:8.3f}" if label in runs
            else f"{'-':>8}"
            for label in ("graphc", "numpy", "copy")
        ]  # fmt: skip
        print(f"{name:16}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
