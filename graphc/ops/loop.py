"""The loop: one record behind scan and while. Its body is a graph, run once a step.

A step gets the number of the step, a row of each sequence, the states, and the captures (tensors
from outside that never change). It leaves the next states, and rows to stack. Rows are counted by
a *walk* `(start, step)`: step t reads or writes row `start + step * t`.

A `guarded` loop goes on while its state 0, a bool, is true, for `length` steps at most; stacks keep
zeros in the rows that no step has written, and the last output is how many steps there were.

Outputs: the last states; for each state among `histories`, all values that it had, the initial one
first; the stacks; of a guarded loop, the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from graphc.build import Check, bound, describe, make_all
from graphc.control import ENDLESS as ENDLESS
from graphc.dims import Dimension, Shape, derived
from graphc.dtypes import Array, DType, int64
from graphc.errors import GradientError
from graphc.graph import Attrs, Body, Graph, Op, Tensor, topological
from graphc.ops.bodies import PARAMETER, alike, settle
from graphc.ops.branch import BRANCH
from graphc.ops.compare import less, less_equal
from graphc.ops.domain import Domain
from graphc.ops.follow import as_dimension
from graphc.ops.gradient import connected, gradients, zeros_like_type
from graphc.ops.logic import logical_and
from graphc.ops.select import where
from graphc.ops.slicing import unslice_build
from graphc.ops.source import FULL, as_tensor
from graphc.types import TensorType

Walk: TypeAlias = "tuple[Dimension, int]"


def _check_body(
    check: Check, *types: TensorType, body: Body, length: Dimension, reads: Any, states: int
) -> None:
    """What goes in must be what the body takes, and states must come out as they go in."""
    _, *taken = body.graph.inputs
    for number, (type, parameter) in enumerate(zip(types, taken, strict=True)):
        if number < len(reads) and type.shape == ():
            check.fail(f"sequence {number} must have an axis to run over")
        given = type.shape if number >= len(reads) or type.shape is None else type.shape[1:]
        if type.dtype is not parameter.dtype or not _same(check, given, parameter.shape):
            check.fail(f"the body takes {parameter.type} as its operand {number}")
    for number, out in enumerate(body.graph.outputs[:states]):
        before = taken[len(reads) + number]
        if out.dtype is not before.dtype or not _same(check, before.shape, out.shape):
            name = f' "{before.node.name}"' if before.node.name else ""
            check.fail(
                f"a state must keep its shape and dtype, but state {number}{name} goes in as "
                f"{bound(before.type)} and comes out as {bound(out.type)}, of {describe(out)}"
            )
    for number, walk in enumerate(reads):
        shape = types[number].shape
        needed = rows_of(walk, length, shape)
        if isinstance(needed, int) and length != 0 and _exceeds(needed, shape):
            check.fail(f"sequence {number} must have {needed} rows for {length} steps")


def rows_of(walk: Walk, length: Dimension, shape: Shape | None) -> Dimension:
    """How many rows a sequence must have for so many steps of a walk that begins inside of it."""
    assert shape is not None
    start, step = walk
    return (start if step > 0 else shape[0] - 1 - start) + abs(step) * (length - 1) + 1


def _exceeds(needed: int, shape: Shape | None) -> bool:
    """Whether an array has too few rows; sizes that only a run knows are compared then."""
    rows = shape[0] if shape else None
    return isinstance(rows, int) and needed > rows


def _same(check: Check, a: Shape | None, b: Shape | None) -> bool:
    if a is None or b is None:
        check.settled = False
        return True
    return len(a) == len(b) and all(check.ask(x, y) is not False for x, y in zip(a, b, strict=True))


def _dtype(check: Check, *types: TensorType, body: Body, states: int, histories: Any,
           guarded: bool, **_: Any) -> tuple[DType, ...]:  # fmt: skip
    found = [t.dtype for t in body.graph.outputs]
    past = [found[k] for k in histories]
    return (*found[:states], *past, *found[states:], *([int64] if guarded else []))


def _shape(
    check: Check, *types: TensorType, body: Body, length: Dimension, reads: Any, states: int,
    histories: Any, guarded: bool, **_: Any,
) -> tuple[Shape | None, ...]:  # fmt: skip
    settle(check, body)
    _check_body(check, *types, body=body, length=length, reads=reads, states=states)
    initial = [t.shape for t in types[len(reads) : len(reads) + states]]
    stacks = [t.shape for t in body.graph.outputs[states:]]
    if any(shape is None for shape in (*initial, *stacks)):
        check.settled = False
    past = [_stacked(length + 1, initial[k]) for k in histories]
    rows = [_stacked(length, shape) for shape in stacks]
    return (*initial, *past, *rows, *([()] if guarded else []))


def _stacked(length: Dimension, shape: Shape | None) -> Shape | None:
    return None if shape is None else (length, *shape)


def _outputs(body: Body, histories: Any, guarded: bool, **_: Any) -> int:
    return len(body.graph.outputs) + len(histories) + guarded


class BoundBody(Protocol):
    """A body that runs, for an oracle: with the sizes of a run."""

    @property
    def results(self) -> Sequence[tuple[tuple[int, ...], Any]]:
        """Shape and NumPy's dtype of each result."""

    def __call__(self, *arrays: Array) -> Sequence[Array]:
        """The results for some operands."""


def _oracle(
    *arrays: Array, body: BoundBody, length: int, index: tuple[int, int],
    reads: Sequence[tuple[int, int]], writes: Sequence[tuple[int, int]], states: int,
    histories: Sequence[int], guarded: bool, **_: Any,
) -> tuple[Array, ...]:  # fmt: skip
    """Step by step."""
    count = len(reads)
    sequences, captured = arrays[:count], arrays[count + states :]
    _check_run(sequences, reads, length)
    carried = arrays[count : count + states]
    past: list[list[Array]] = [[carried[k]] for k in histories]
    stacks = [np.zeros((length, *shape), dtype) for shape, dtype in body.results[states:]]
    t = 0
    while t < length and (not guarded or carried[0]):
        read = [x[start + step * t] for x, (start, step) in zip(sequences, reads, strict=True)]
        results = body(np.asarray(index[0] + index[1] * t), *read, *carried, *captured)
        carried = tuple(results[:states])
        for kept, k in zip(past, histories, strict=True):
            kept.append(carried[k])
        for stack, row, (start, step) in zip(stacks, results[states:], writes, strict=True):
            stack[start + step * t] = row
        t += 1
    padded = [_padded(values, length + 1) for values in past]
    return (*carried, *padded, *stacks, *([np.asarray(t)] if guarded else []))


def _check_run(sequences: Sequence[Array], reads: Sequence[tuple[int, int]], length: int) -> None:
    """Raise where a run has too few rows."""
    if length < 0:
        raise ValueError(f"the number of steps must not be negative, it is {length}")
    for number, (x, walk) in enumerate(zip(sequences, reads, strict=True)):
        needed = rows_of(walk, length, x.shape)
        assert isinstance(needed, int)
        if length and needed > len(x):
            raise ValueError(
                f"sequence {number} must have {needed} rows for {length} steps, it has {len(x)}"
            )


def _padded(values: Sequence[Array], length: int) -> Array:
    stack = np.zeros((length, *values[0].shape), values[0].dtype)
    stack[: len(values)] = values
    return stack


# ---------------------------------------------------------------------------- gradient


@dataclass(frozen=True)
class Parts:
    """The operands, the parameters and the results of a loop, by what they are."""

    index: Tensor
    slices: Sequence[Tensor]
    states: Sequence[Tensor]
    captured: Sequence[Tensor]
    following: Sequence[Tensor]
    rows: Sequence[Tensor]

    @staticmethod
    def of(body: Body, reads: Sequence[Any], states: int) -> Parts:
        """Those of a body."""
        index, *rest = body.graph.inputs
        first, second = len(reads), len(reads) + states
        results = body.graph.outputs
        return Parts(
            index, rest[:first], rest[first:second], rest[second:],
            results[:states], results[states:],
        )  # fmt: skip


def loop(inputs: Sequence[Tensor], name: str | None = None, **attrs: Any) -> tuple[Tensor, ...]:
    """A node of the record; attributes that are not given are those of the plainest loop."""
    full = {
        "index": (0, 1), "reads": (), "writes": (), "states": 0, "histories": (), "guarded": False,
        "truncate": None, "checkpoint": None,
    } | attrs  # fmt: skip
    return make_all(LOOP, inputs, full, name)


def _is_zero(tensor: Tensor) -> bool:
    return tensor.node.op is FULL and tensor.node.attrs["value"] == 0


def _is_nested(tensor: Tensor) -> bool:
    """Whether a tensor is made inside of a body."""
    return any(node.op is PARAMETER for node in topological([tensor]))


def _reversed(walk: Walk, last: Dimension) -> Walk:
    start, step = walk
    return start + step * last, -step


class _Backward:
    """The loop that runs back: it computes each step again from the states before it.

    The body is that of the loop, with a `gradient` node that the pass `differentiate` expands. A
    guarded loop inside of another has a number of steps that no size tells: it is run back over
    `length` steps, of which a branch leaves out those that were not made.
    """

    def __init__(self, ys: Sequence[Tensor], xs: Sequence[Tensor], attrs: dict[str, Any]) -> None:
        self.xs, self.attrs = xs, attrs
        self.parts = Parts.of(attrs["body"], attrs["reads"], attrs["states"])
        self.count = ys[-1] if attrs["guarded"] else None
        self.masked = self.count is not None and _is_nested(self.count)
        if self.count is None or self.masked:
            self.steps: Dimension = attrs["length"]
            if self.steps == ENDLESS:
                raise GradientError(
                    "gradients: a while_loop inside of another loop or of a branch must have "
                    f"max_steps\n  it is {describe(ys[-1])}"
                )
        else:
            self.steps = as_dimension(self.count)
        self.truncate = attrs["truncate"]
        kept = self.truncate is None or self.masked
        self.length = self.steps if kept else derived("min", self.steps, self.truncate)
        self.last = self.steps - 1

    def histories(self) -> Sequence[Tensor]:
        """All values of all states, from the loop run with stacks for them."""
        states = self.attrs["states"]
        kept = {**self.attrs, "histories": tuple(range(states))}
        if self.attrs["length"] == ENDLESS:
            kept["length"] = self.steps
        return make_all(LOOP, self.xs, kept)[states : 2 * states]

    def seeds(self, gs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Walk]]:
        """What in the body has a cotangent of its own a step: it, the stack of these, the walk."""
        states, past = self.attrs["states"], self.attrs["histories"]
        found: list[tuple[Tensor, Tensor, Walk]] = []
        for k, g in zip(past, gs[states:], strict=False):
            found.append((self.parts.following[k], g, (1, 1)))
        stacked = gs[states + len(past) :]
        for row, g, walk in zip(self.parts.rows, stacked, self.attrs["writes"], strict=False):
            found.append((row, g, walk))
        return [each for each in found if each[0].dtype.is_float and not _is_zero(each[1])]

    def __call__(self, gs: Sequence[Tensor]) -> list[Tensor | None]:
        """The cotangents of the operands."""
        parts, attrs = self.parts, self.attrs
        carried = [k for k, state in enumerate(parts.states) if state.dtype.is_float]
        seeds = self.seeds(gs)
        deltas = [alike(parts.states[k]) for k in carried]
        rows = [alike(y) for y, _, _ in seeds]
        ys = [*(parts.following[k] for k in carried), *(y for y, _, _ in seeds)]
        sources = [t for t in (*parts.slices, *parts.states, *parts.captured) if t.dtype.is_float]
        reached = connected(ys, sources) if ys else set()
        xs = [t for t in sources if t in reached]
        if not xs and not carried:
            return [None] * len(self.xs)
        given = gradients(ys, xs, [*deltas, *rows]) if xs else []
        found = dict(zip(xs, given, strict=True))
        captures = [t for t in parts.captured if t in found]
        sums = [alike(t) for t in captures]
        slices = [t for t in parts.slices if t in found]
        before = [*deltas, *sums]
        entering = [parts.states[k] for k in carried]
        following = [found[t] if t in found else zeros_like_type(t) for t in entering]
        following += [a + found[t] for a, t in zip(sums, captures, strict=True)]
        body = Graph(
            (*following, *(found[t] for t in slices)), (),
            (parts.index, *parts.slices, *parts.states, *rows, *before, *parts.captured),
        )  # fmt: skip
        read = [*self.xs[: len(parts.slices)], *self.histories(), *(g for _, g, _ in seeds)]
        initial = [gs[k] for k in carried] + [zeros_like_type(t) for t in captures]
        walks = [*attrs["reads"], *((0, 1) for _ in parts.states), *(walk for _, _, walk in seeds)]
        captured = self.xs[len(parts.slices) + len(parts.states) :]
        if self.count is not None and self.masked:
            body, captured = self.counted(body, before), (*captured, self.count)
        out = loop(
            [*read, *initial, *captured],
            body=Body(body),
            length=self.length,
            index=_reversed(attrs["index"], self.last),
            reads=tuple(_reversed(walk, self.last) for walk in walks),
            writes=tuple(self.written(parts.slices.index(t)) for t in slices),
            states=len(before),
            checkpoint=attrs["checkpoint"],
        )
        return self.sent(gs, out, carried, captures, slices)

    def counted(self, step: Graph, before: Sequence[Tensor]) -> Graph:
        """A step back that passes `before` on where the loop had ended; it takes the count too."""
        assert self.count is not None
        inputs, passed, count = map(alike, step.inputs), map(alike, before), alike(self.count)
        given, kept = list(inputs), list(passed)
        start, by = self.attrs["index"]
        made = (given[0] - as_tensor(start, int64)) * by
        live = less(made, count)
        if self.truncate is not None:
            live = logical_and(live, less_equal(count - self.truncate, made))
        zeros = [zeros_like_type(t) for t in step.outputs[len(before) :]]
        places = [step.inputs.index(t) for t in before]
        sides = {"then": Body(step), "otherwise": Body(Graph((*kept, *zeros), (), tuple(kept)))}
        operands = (live, *given, *(given[k] for k in places))
        results = make_all(BRANCH, operands, {**sides, "split": len(given)})
        return Graph(results, (), (*given, count))

    def written(self, number: int) -> Walk:
        """Rows of a sequence's cotangent, in the order of the sequence."""
        _, step = self.attrs["reads"][number]
        return (self.length - 1, -1) if step > 0 else (0, 1)

    def sent(
        self, gs: Sequence[Tensor], out: Sequence[Tensor], carried: Sequence[int],
        captures: Sequence[Tensor], slices: Sequence[Tensor],
    ) -> list[Tensor | None]:  # fmt: skip
        """One cotangent an operand, of its type."""
        parts, states = self.parts, self.attrs["states"]
        result: list[Tensor | None] = [None] * len(self.xs)
        for k, delta in zip(carried, out, strict=False):
            if self.truncate is not None:
                steps = self.count if self.count is not None and self.masked else self.steps
                whole = less_equal(as_tensor(steps), as_tensor(self.truncate))
                delta = where(whole, delta, zeros_like_type(delta))
            result[len(parts.slices) + k] = delta
        for place, k in enumerate(self.attrs["histories"]):
            at = len(parts.slices) + k
            if result[at] is not None and not _is_zero(gs[states + place]):
                result[at] = result[at] + gs[states + place][0]
        first = len(parts.slices) + len(parts.states)
        for t, total in zip(captures, out[len(carried) :], strict=False):
            result[first + parts.captured.index(t)] = total
        for t, stack in zip(slices, out[len(carried) + len(captures) :], strict=True):
            number = parts.slices.index(t)
            x, (start, step) = self.xs[number], self.attrs["reads"][number]
            lowest = start + (self.steps - self.length if step > 0 else -self.last)
            assert x.shape is not None
            rest = len(x.shape) - 1
            result[number] = unslice_build(
                stack, (lowest, *(0,) * rest), (1,) * (rest + 1), x.shape
            )
        return result


def _vjp(gs: Sequence[Tensor], ys: Sequence[Tensor], *xs: Tensor, **attrs: Any) -> list[Any]:
    return _Backward(ys, xs, attrs)(gs)


def loop_entering(types: Sequence[TensorType], attrs: Attrs) -> dict[str, Sequence[TensorType]]:
    """The types of the parameters of the body, from those of the operands."""
    count = len(attrs["reads"])
    rows = [t if t.shape is None else TensorType(t.dtype, t.shape[1:]) for t in types[:count]]
    return {"body": (attrs["body"].graph.inputs[0].type, *rows, *types[count:])}


LOOP = Op(
    "loop", "control", ("operand",), _dtype, _shape,
    oracle=_oracle,
    vjp=_vjp,
    outputs=_outputs,
    domain=Domain(()),
)  # fmt: skip
