"""Runs plans with interpreted kernels: a second opinion between the reference and native code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from graphc.dims import evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError, GraphcError, NumericsError, ShapeError
from graphc.graph import Graph
from graphc.kernel import Buffer, Kernel
from graphc.lower import lower
from graphc.plan import Branch, Call, Demand, Host, Loop, Step, unmet
from graphc.runtime.device import Environment, Limits
from graphc.runtime.interp.evaluate import run_kernel
from graphc.runtime.numerics import check_kernel, has_nan
from graphc.runtime.reference.device import ReferenceDevice, apply_oracle, in_step

Buffers: TypeAlias = "dict[Buffer, Array]"


class InterpProgram:
    """A plan, run step by step."""

    def __init__(self, graph: Graph, check: str | None = None, fused: bool = True) -> None:
        self.plan, self._graph = lower(graph, fused), graph
        self._check = check

    def run(self, feeds: Sequence[Array], environment: Environment) -> list[Array]:
        """The values of the roots."""
        try:
            buffers = self.buffers(feeds, environment)
        except NumericsError:
            if self._check is not None:  # the reference names the node in the kernel, if it can
                ReferenceDevice().compile(self._graph, self._check).run(feeds, environment)
            raise
        return [buffers[buffer] for buffer in self.plan.roots]

    def buffers(self, feeds: Sequence[Array], environment: Environment) -> dict[Buffer, Array]:
        """The values of all buffers after a run: nothing is dropped, so that tests can look."""
        _hold(self.plan.demands, environment)
        buffers: dict[Buffer, Array] = dict(zip(self.plan.inputs, feeds, strict=True))
        buffers |= {b: environment.variables[node] for node, b in self.plan.variables}
        buffers |= dict.fromkeys(self.plan.entropy, environment.entropy)
        buffers |= dict(self.plan.constants)
        with np.errstate(all="ignore"):
            self._run(self.plan.steps, buffers, environment)
        return buffers

    def _run(self, steps: Sequence[Step], buffers: Buffers, environment: Environment) -> None:
        for step in steps:
            match step:
                case Call(kernel):
                    self._call(kernel, buffers, environment)
                case Host():
                    _run_host(step, buffers, environment)
                case Branch():
                    _hold(step.demands[not buffers[step.condition]], environment)
                    side = step.then if buffers[step.condition] else step.otherwise
                    self._run(side, buffers, environment)
                case Loop():
                    self._loop(step, buffers, environment)

    def _loop(self, loop: Loop, buffers: Buffers, environment: Environment) -> None:
        sizes = environment.sizes
        walks = {r.row: (evaluate(r.start, sizes), r.step) for r in (loop.index, *loop.reads)}
        written = [*loop.writes, *(rows for _, rows in loop.histories)]
        for rows in written:
            buffers[rows.of] = np.zeros_like(_empty(rows.of, environment))
        for number, rows in loop.histories:
            buffers[rows.of][0] = buffers[loop.states[number].initial]
        values = [buffers[state.initial] for state in loop.states]
        length, t = evaluate(loop.length, sizes), 0
        while t < length and (loop.count is None or values[0]):
            start, by = walks[loop.index.row]
            buffers[loop.index.row] = np.asarray(start + by * t)
            for rows in loop.reads:
                start, by = walks[rows.row]
                buffers[rows.row] = buffers[rows.of][start + by * t]
            buffers.update(zip((s.before for s in loop.states), values, strict=True))
            self._inside(loop, buffers, environment)
            for rows in written:
                buffers[rows.of][evaluate(rows.start, sizes) + rows.step * t] = buffers[rows.row]
            values = [buffers[state.after] for state in loop.states]
            t += 1
        buffers.update(zip((s.last for s in loop.states), values, strict=True))
        if loop.count is not None:
            buffers[loop.count] = np.asarray(t)

    def _inside(self, loop: Loop, buffers: Buffers, environment: Environment) -> None:
        """One step of a loop."""
        try:
            self._run(loop.steps, buffers, environment)
        except GraphcError as error:
            raise in_step(error, buffers[loop.index.row], loop.node) from error.__cause__

    def _call(self, kernel: Kernel, buffers: dict[Buffer, Array], environment: Environment) -> None:
        try:
            for store in kernel.stores:
                buffers[store.buffer] = _empty(store.buffer, environment)
            run_kernel(kernel, buffers, environment.sizes)
        except (ValueError, IndexError) as error:
            raise ShapeError(kernel.failure(str(error))) from error
        except MemoryError as error:
            raise DeviceError(kernel.failure(f"out of memory: {error}")) from error
        if self._check == "nan":
            _check_nan(kernel, buffers)


def _hold(demands: Sequence[Demand], environment: Environment) -> None:
    """Raise where sizes are not what they must be."""
    error = unmet(demands, environment.sizes)
    if error is not None:
        raise error


def _empty(buffer: Buffer, environment: Environment) -> Array:
    shape = [evaluate(d, environment.sizes) for d in buffer.type.shape or ()]
    return np.empty(shape, buffer.type.dtype.numpy)


def _check_nan(kernel: Kernel, buffers: dict[Buffer, Array]) -> None:
    """Raise at the first kernel that makes a NaN of inputs that have none."""
    if not any(has_nan(buffers[b]) for b in kernel.reads()):
        check_kernel(kernel, (buffers[store.buffer] for store in kernel.stores))


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
