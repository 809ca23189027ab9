"""Runs a graph node by node with each op's oracle: the meaning of a graph, and a place to debug.

Enters: an optimised graph. Leaves: a `ReferenceProgram`, a flat list of steps over slots, where a
value is dropped after its last use. Set a breakpoint in `ReferenceProgram._step` to walk through a
model.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.build import failure
from graphc.control import is_loop
from graphc.dims import Dim, Symbol, evaluate
from graphc.dtypes import Array
from graphc.errors import DeviceError, GraphcError, NumericsError, ShapeError
from graphc.graph import Graph, Node, Tensor, bodies
from graphc.kernel import Kernel
from graphc.ops.random import ENTROPY
from graphc.ops.source import VARIABLE
from graphc.runtime.device import Environment, Limits, Noted


@dataclass(frozen=True, slots=True)
class _Step:
    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    symbolic: bool  # attributes hold sizes that a run decides
    last_uses: tuple[int, ...]  # slots that nothing reads after this step
    bodies: dict[str, ReferenceProgram]  # of a loop or a branch


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
        self.roots = graph.roots
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
            inside = {k: ReferenceProgram(b.graph, self._check) for k, b in bodies(node).items()}
            steps.append(_Step(node, inputs, outputs, symbolic, tuple(sorted(dead)), inside))
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
        tally = Tally() if step.bodies else None
        start = time.perf_counter()
        self._step(step, values, environment._replace(note=tally))
        seconds = time.perf_counter() - start
        moved += sum(values[slot].nbytes for slot in step.outputs if values[slot] is not None)
        if tally is None:
            environment.note(step.node, seconds, moved)
        else:
            environment.note(step.node, seconds, moved, 0, tally.times, tally.rows)

    def _step(self, step: _Step, values: list[Any], environment: Environment) -> None:
        node = step.node
        arrays = [values[slot] for slot in step.inputs]
        if node.op is VARIABLE:
            results: Sequence[Any] = (environment.variables[node],)
        elif node.op is ENTROPY:
            results = (environment.entropy,)
        else:
            inside = {k: _Body(b, environment, node) for k, b in step.bodies.items()}
            sizes = environment.sizes if step.symbolic else None
            results = apply_oracle(node, arrays, sizes, inside)
        for slot, result, type in zip(step.outputs, results, node.types, strict=True):
            array = np.asarray(result)
            dtype = type.dtype.numpy
            values[slot] = array if array.dtype == dtype else array.astype(dtype)
        if self._check == "nan":
            _check_nan(node, arrays, [values[slot] for slot in step.outputs])
        for slot in step.last_uses:
            values[slot] = None


class Tally:
    """What the nodes of a body did, in all its runs."""

    def __init__(self) -> None:
        self._found: dict[Node | Kernel, Noted] = {}
        self._runs: Counter[Node | Kernel] = Counter()

    def __call__(
        self, what: Node | Kernel, seconds: float | None, moved: int, work: int = 0,
        times: int = 1, inside: Sequence[Noted] = (),
    ) -> None:  # fmt: skip
        """Add one run of a node."""
        self._runs[what] += 1
        known = self._found.get(what, Noted(what, 0.0, 0, 0, 0))
        timed = None if seconds is None or known.seconds is None else known.seconds + seconds
        self._found[what] = Noted(
            what, timed, known.moved + moved, known.work + work, known.times + times,
            _added(known.inside, inside),
        )  # fmt: skip

    @property
    def rows(self) -> list[Noted]:
        """What each did."""
        return list(self._found.values())

    @property
    def times(self) -> int:
        """How often the body has run: as often as the nodes that no branch leaves out."""
        return max(self._runs.values(), default=0)


def _added(before: Sequence[Noted], more: Sequence[Noted]) -> Sequence[Noted]:
    """Both together, node by node."""
    tally = Tally()
    for row in (*before, *more):
        tally(row.what, row.seconds, row.moved, row.work, row.times, row.inside)
    return tally.rows


def in_step(error: GraphcError, number: Any, loop: Node) -> GraphcError:
    """The error, saying in which step of a loop it came."""
    error.args = (f"{error}\n  in step {int(number)} of the loop at {loop.where}",)
    return error


class _Body:
    """A body of a control node, as its oracle calls it."""

    def __init__(self, program: ReferenceProgram, environment: Environment, node: Node) -> None:
        self._program, self._environment, self._node = program, environment, node

    @property
    def results(self) -> list[tuple[tuple[int, ...], Any]]:
        """Shape and NumPy's dtype of each result."""
        sizes = self._environment.sizes
        return [(resolved(t.shape, sizes), t.dtype.numpy) for t in self._program.roots]

    def __call__(self, *arrays: Array) -> list[Array]:
        """The results for some operands; those of a loop begin with the number of the step."""
        try:
            return self._program.run(arrays, self._environment)
        except GraphcError as error:
            if is_loop(self._node):
                raise in_step(error, arrays[0], self._node) from error.__cause__
            raise


def apply_oracle(
    node: Node,
    arrays: Sequence[Array],
    sizes: Mapping[Symbol, int] | None,
    inside: Mapping[str, Any] | None = None,
) -> Sequence[Any]:
    """The outputs of a node by its oracle; `sizes` None where no attribute holds a symbol.

    `inside` are the bodies of a control node, as functions.
    """
    attrs = {**node.attrs, **inside} if inside else node.attrs
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
