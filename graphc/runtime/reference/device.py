"""Runs a graph node by node with each op's oracle: the meaning of a graph, and a place to debug.

Enters: an optimised graph. Leaves: a `ReferenceProgram`, a flat list of steps over slots, where a
value is dropped after its last use. Set a breakpoint in `ReferenceProgram._step` to walk through a
model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.build import failure
from graphc.dims import Dim, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError, GraphcError, NumericsError, ShapeError
from graphc.graph import Graph, Node, Tensor
from graphc.ops.random import ENTROPY
from graphc.ops.source import VARIABLE
from graphc.runtime.device import Environment, Limits


@dataclass(frozen=True, slots=True)
class _Step:
    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    symbolic: bool  # attributes hold sizes that a run decides
    last_uses: tuple[int, ...]  # slots that nothing reads after this step


def _has_dims(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_dims, value))
    return isinstance(value, Dim)


def resolved(value: Any, sizes: Mapping[Symbol, int]) -> Any:
    """An attribute with every symbolic size replaced by its value."""
    if isinstance(value, Dim):
        return evaluate(value, sizes)
    if isinstance(value, tuple) and _has_dims(value):
        return tuple(resolved(v, sizes) for v in value)
    return value


class ReferenceProgram:
    """A graph as a list of steps."""

    def __init__(self, graph: Graph, check: str | None = None) -> None:
        self._slots: dict[tuple[Node, int], int] = {}
        self._check = check
        self._feeds = [self._slot(t) for t in graph.inputs]
        fed = {t.node for t in graph.inputs}
        nodes = [node for node in graph.nodes if node not in fed]
        self._roots = [self._slot(t) for t in graph.roots]
        self._steps = self._schedule(nodes)

    def _slot(self, tensor: Tensor) -> int:
        return self._slots.setdefault((tensor.node, tensor.index), len(self._slots))

    def _schedule(self, nodes: Sequence[Node]) -> list[_Step]:
        for node in nodes:
            for index in range(len(node.types)):
                self._slots.setdefault((node, index), len(self._slots))
        seen = set(self._roots)
        steps = []
        for node in reversed(nodes):
            inputs = tuple(self._slot(t) for t in node.inputs)
            outputs = tuple(self._slots[node, i] for i in range(len(node.types)))
            dead = {slot for slot in (*inputs, *outputs) if slot not in seen}
            seen |= dead
            symbolic = any(map(_has_dims, node.attrs.values()))
            steps.append(_Step(node, inputs, outputs, symbolic, tuple(sorted(dead))))
        steps.reverse()
        return steps

    def run(self, feeds: Sequence[Array], environment: Environment) -> list[Array]:
        """The values of the roots."""
        values: list[Any] = [None] * len(self._slots)
        for slot, array in zip(self._feeds, feeds, strict=True):
            values[slot] = array
        with np.errstate(all="ignore"):
            run = self._step if environment.note is None else self._noted
            for step in self._steps:
                run(step, values, environment)
        return [values[slot] for slot in self._roots]

    def _noted(self, step: _Step, values: list[Any], environment: Environment) -> None:
        """One step, timed for a profile."""
        assert environment.note is not None
        moved = sum(values[slot].nbytes for slot in step.inputs)
        start = time.perf_counter()
        self._step(step, values, environment)
        seconds = time.perf_counter() - start
        kept = [values[slot] for slot in step.outputs if values[slot] is not None]
        environment.note(step.node, seconds, moved + sum(array.nbytes for array in kept))

    def _step(self, step: _Step, values: list[Any], environment: Environment) -> None:
        node = step.node
        arrays = [values[slot] for slot in step.inputs]
        if node.op is VARIABLE:
            results: Sequence[Any] = (environment.variables[node],)
        elif node.op is ENTROPY:
            results = (environment.entropy,)
        else:
            results = apply_oracle(node, arrays, environment.sizes if step.symbolic else None)
        for slot, result, type in zip(step.outputs, results, node.types, strict=True):
            array = np.asarray(result)
            dtype = type.dtype.numpy
            values[slot] = array if array.dtype == dtype else array.astype(dtype)
        if self._check == "nan":
            _check_nan(node, arrays, [values[slot] for slot in step.outputs])
        for slot in step.last_uses:
            values[slot] = None


def apply_oracle(
    node: Node, arrays: Sequence[Array], sizes: Mapping[Symbol, int] | None
) -> Sequence[Any]:
    """The outputs of a node by its oracle; `sizes` None where no attribute holds a symbol."""
    attrs = node.attrs
    if sizes is not None:
        attrs = {k: resolved(v, sizes) for k, v in attrs.items()}
    try:
        result = node.op.oracle(*arrays, **attrs)
    except GraphcError:
        raise
    except (ValueError, IndexError, np.linalg.LinAlgError) as error:
        kind = NumericsError if isinstance(error, np.linalg.LinAlgError) else ShapeError
        raise kind(_run_failure(node, arrays, str(error))) from error
    except MemoryError as error:
        raise DeviceError(_run_failure(node, arrays, f"out of memory: {error}")) from error
    return (result,) if node.op.outputs is None else result


def _run_failure(node: Node, arrays: Sequence[Array], rule: str) -> str:
    """The text of an error in a run: the types and the shapes that came."""
    text = failure(node.op, rule, node.inputs, node.where)
    if arrays:
        text += "\n  in this run: " + ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays[:6])
    return text


def _range(array: Array) -> str:
    if array.size == 0:
        return "empty"
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return "no finite value"
    return f"{finite.min():.6g} to {finite.max():.6g}"


def _check_nan(node: Node, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Raise at the first node that makes a NaN of inputs that have none."""
    if any(a.dtype.kind == "f" and np.isnan(a).any() for a in inputs):
        return
    for array in outputs:
        if array.dtype.kind == "f" and (count := int(np.isnan(array).sum())):
            ranges = "; ".join(
                f"{name}: {_range(a)}"
                for name, a in zip(node.op.params, inputs, strict=False)
                if a.dtype.kind == "f"
            )
            rule = f"made {count} NaN of {array.size} values" + (f" ({ranges})" if ranges else "")
            raise NumericsError(failure(node.op, rule, node.inputs, node.where))


class ReferenceDevice:
    """The device of that name."""

    name = "reference"
    notes = True

    def compile(self, graph: Graph, check: str | None = None) -> ReferenceProgram:
        """A program that runs the graph in NumPy."""
        return ReferenceProgram(graph, check)

    def limits(self) -> Limits | None:
        """None: it is not after speed."""
        return None
