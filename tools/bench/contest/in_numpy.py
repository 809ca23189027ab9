"""What of the workloads NumPy itself has: elementwise formulas and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .workloads import Data, Unsupported, Workload

VERSION = np.__version__
HALF, TENTH = np.float32(0.5), np.float32(0.1)


def tiny(a: Any, b: Any, c: Any, d: Any) -> Any:
    return (a * 1.0 + (b - 2.0) - (c + 3.0)) * d / 4.0 * 5.0


def chain_mem(x: Any) -> Any:
    return (x * 2 + 1) * x - x / 3


def chain_math(x: Any) -> Any:
    return np.tanh(x * HALF + TENTH) * np.exp(-x * x) + np.log1p(x * x)


def matmul(a: Any, b: Any) -> Any:
    return a @ b


def matmul_turned(a: Any, b: Any) -> Any:
    return a.T @ b


FORMULAS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (tiny, chain_mem, chain_math, matmul, matmul_turned)
}


def stepper(
    workload: Workload, sizes: dict[str, int], data: Data, variant: str
) -> Callable[[dict[str, Any]], Any]:
    """A function of one feed that does a step."""
    if workload.formula not in FORMULAS:
        raise Unsupported("NumPy has no gradients and no layers")
    formula, parameters = FORMULAS[workload.formula], data.parameters
    return lambda feed: formula(**feed, **parameters)
