"""What of the workloads pyopencl.array has: elementwise formulas, a kernel for each operation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyopencl as cl
import pyopencl.array as arrays
from pyopencl import clmath
from pyopencl.tools import ImmediateAllocator, MemoryPool

from .workloads import Data, Held, Unsupported, Workload

VERSION = cl.VERSION_TEXT
HALF, TENTH, ONE, TWO, THREE = map(np.float32, (0.5, 0.1, 1, 2, 3))


def opened() -> Any:
    """A queue on the device that BENCH_DEVICE numbers ("opencl:1"): over all platforms."""
    number = int(os.environ.get("BENCH_DEVICE", "").partition(":")[2] or 0)
    found = [device for platform in cl.get_platforms() for device in platform.get_devices()]
    return cl.CommandQueue(cl.Context([found[number]]))


def chain_mem(x: Any) -> Any:
    return (x * TWO + ONE) * x - x / THREE


def chain_math(x: Any) -> Any:
    return clmath.tanh(x * HALF + TENTH) * clmath.exp(-x * x) + clmath.log1p(x * x)


FORMULAS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (chain_mem, chain_math)}


def stepper(
    workload: Workload, sizes: dict[str, int], data: Data, variant: str
) -> Callable[[dict[str, Any]], Any]:
    """A function of one feed that does a step."""
    if workload.formula not in FORMULAS:
        raise Unsupported("pyopencl.array has elementwise formulas only")
    formula, queue = FORMULAS[workload.formula], opened()
    warnings.simplefilter("ignore")  # some compilers report that all is well
    pool = MemoryPool(ImmediateAllocator(queue))  # results lie where earlier ones lay

    def sent(known: dict[str, Any]) -> dict[str, Any]:
        return {name: arrays.to_device(queue, array, pool) for name, array in known.items()}

    parameters = sent(data.parameters)

    def step(feed: dict[str, Any]) -> Any:
        value = formula(**sent(feed), **parameters)
        queue.finish()
        return [Held(value.get)] if data.held else [value.get()]

    return step
