"""Runs plans with interpreted kernels: a second opinion between the reference and native code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.dims import evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError, NumericsError, ShapeError
from graphc.graph import Graph
from graphc.kernel import Buffer, Kernel
from graphc.lower import lower
from graphc.plan import Call, Host
from graphc.runtime.device import Environment, Limits
from graphc.runtime.interp.evaluate import run_kernel
from graphc.runtime.reference.device import apply_oracle


class InterpProgram:
    """A plan, run step by step."""

    def __init__(self, graph: Graph, check: str | None = None, fused: bool = True) -> None:
        self.plan = lower(graph, fused)
        self._check = check

    def run(self, feeds: Sequence[Array], environment: Environment) -> list[Array]:
        """The values of the roots."""
        buffers = self.buffers(feeds, environment)
        return [buffers[buffer] for buffer in self.plan.roots]

    def buffers(self, feeds: Sequence[Array], environment: Environment) -> dict[Buffer, Array]:
        """The values of all buffers after a run: nothing is dropped, so that tests can look."""
        buffers: dict[Buffer, Array] = dict(zip(self.plan.inputs, feeds, strict=True))
        buffers |= {b: environment.variables[node] for node, b in self.plan.variables}
        buffers |= dict.fromkeys(self.plan.entropy, environment.entropy)
        buffers |= dict(self.plan.constants)
        with np.errstate(all="ignore"):
            for step in self.plan.steps:
                match step:
                    case Call(kernel):
                        self._call(kernel, buffers, environment)
                    case Host():
                        _run_host(step, buffers, environment)
        return buffers

    def _call(self, kernel: Kernel, buffers: dict[Buffer, Array], environment: Environment) -> None:
        try:
            for store in kernel.stores:
                buffers[store.buffer] = _empty(store.buffer, environment)
            run_kernel(kernel, buffers, environment.sizes)
        except (ValueError, IndexError) as error:
            raise ShapeError(_failure(kernel, str(error))) from error
        except MemoryError as error:
            raise DeviceError(_failure(kernel, f"out of memory: {error}")) from error
        if self._check == "nan":
            _check_nan(kernel, buffers)


def _failure(kernel: Kernel, rule: str) -> str:
    lines = "".join(f"\n  {kernel.name} was called at {where}" for where in kernel.lines)
    return f"{kernel.name}: {rule}{lines}"


def _empty(buffer: Buffer, environment: Environment) -> Array:
    shape = [evaluate(d, environment.sizes) for d in buffer.type.shape or ()]
    return np.empty(shape, buffer.type.dtype.numpy)


def _is_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _check_nan(kernel: Kernel, buffers: dict[Buffer, Array]) -> None:
    """Raise at the first kernel that makes a NaN of inputs that have none."""
    if any(_is_nan(buffers[b]) for b in kernel.reads()):
        return
    for store in kernel.stores:
        array = buffers[store.buffer]
        if _is_nan(array):
            count = int(np.isnan(array).sum())
            raise NumericsError(_failure(kernel, f"made {count} NaN of {array.size} values"))


def _run_host(step: Host, buffers: dict[Buffer, Array], environment: Environment) -> None:
    """One op by its oracle."""
    arrays = [buffers[b] for b in step.inputs]
    results = apply_oracle(step.node, arrays, environment.sizes)
    for buffer, array in zip(step.outputs, results, strict=True):
        buffers[buffer] = np.asarray(array).astype(buffer.type.dtype.numpy, copy=False)


class InterpDevice:
    """The device of that name."""

    name = "interp"
    notes = False

    def compile(self, graph: Graph, check: str | None = None) -> InterpProgram:
        """A program that interprets the graph's kernels."""
        return InterpProgram(graph, check)

    def limits(self) -> Limits | None:
        """None: it is not after speed."""
        return None
