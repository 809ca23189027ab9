"""`scan`: Theano's loop over sequences, as a `loop` node.

Enters: a function of one step, and what it runs over. Leaves: its outputs, stacked over the steps.
Taps become walks over the sequences; an output that reads itself at several steps back becomes
several states, each the one before it a step ago; a variable that a step writes is a state too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice, repeat
from typing import Any

from graphc.build import describe
from graphc.context import origin
from graphc.dims import Dim, Dimension, derived
from graphc.dtypes import bool_, int64
from graphc.errors import ShapeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.bodies import Frame, close, drawing, parameter
from graphc.ops.follow import as_dimension
from graphc.ops.logic import logical_not
from graphc.ops.loop import Walk, loop
from graphc.ops.measure import shape as shape_of
from graphc.ops.random import entropy_of
from graphc.ops.slicing import along
from graphc.ops.source import as_tensor
from graphc.ops.state import Update
from graphc.ops.states import Start, arguments, call, settled
from graphc.ops.steps import Step, read_step
from graphc.types import TensorType


class _Sequence:
    """What is walked over, and which rows a step reads, counted from its own."""

    def __init__(self, value: Any) -> None:
        given = _options(value, "input", "a sequence")
        self.tensor = tensor = as_tensor(given["input"])
        self.taps = _taps(given.get("taps"), 0, "a sequence")
        if tensor.shape == ():
            raise ShapeError(
                f"scan: a sequence must have an axis to run over, got {tensor.type}\n"
                f"  it is {describe(tensor)}; scan was called at {origin()[0]}"
            )
        self.first = min(0, *self.taps)  # the tap that is furthest back
        self.span = max(0, *self.taps) - self.first

    @property
    def rows(self) -> Dimension:
        """The size of its first axis."""
        shape = self.tensor.shape
        return as_dimension(shape_of(self.tensor)[0]) if shape is None else shape[0]

    @property
    def length(self) -> Dimension:
        """How many steps have all their taps."""
        return derived("max", 0, self.rows - self.span) if self.span else self.rows

    def walks(self, backwards: bool) -> list[Walk]:
        """The rows that each tap reads, from the start or from the end."""
        starts = [tap - self.first for tap in self.taps]
        if not backwards:
            return [(start, 1) for start in starts]
        return [(self.rows - self.span - 1 + start, -1) for start in starts]

    def slices(self, frame: Frame, names: Iterator[str | None]) -> list[Tensor]:
        """What the function gets of it: a row for each tap."""
        tensor = self.tensor
        type = TensorType(tensor.dtype, None if tensor.shape is None else tensor.shape[1:])
        return [parameter(type, next(names) or tensor.node.name, frame) for _ in self.taps]


class _Output:
    """One output: what it begins as, where it is read back, and how far back."""

    def __init__(self, value: Any = None) -> None:
        given = _options(value, "initial", "an output")
        self.start = None if given["initial"] is None else Start(given["initial"])
        self.taps = _taps(given.get("taps"), -1, "an output") if self.start else []
        self.states: list[Tensor] = []
        if any(tap >= 0 for tap in self.taps):
            raise ShapeError(f"scan: taps of an output are ints below 0, got taps={self.taps}")
        self.depth = -min(self.taps) if self.start else 0  # how many steps back are kept
        shape = self.start.tensor.shape if self.start else None
        if self.depth < 2 or shape is None:
            return
        assert self.start is not None
        if not shape or (isinstance(shape[0], int) and shape[0] < self.depth):
            raise ShapeError(
                f"scan: an initial value for taps={self.taps} must have {self.depth} rows, one for "
                f"each step before the first, got {self.start.tensor.type}\n"
                f"  it is {describe(self.start.tensor)}; scan was called at {origin()[0]}"
            )

    def initial(self) -> list[Tensor]:
        """Of each state, the latest first."""
        if self.start is None:
            return []
        tensor = self.start.tensor
        if self.depth == 1:
            return [tensor]
        return [tensor[self.depth - back] for back in range(1, self.depth + 1)]

    def enter(self, frame: Frame, as_numbers: bool, names: Iterator[str | None]) -> list[Any]:
        """What the function gets of it: fresh states, or the numbers that it begins as."""
        if self.start is None:
            return []
        called = {tap: next(names) for tap in self.taps}
        own = self.start.tensor.node.name
        self.states = [
            parameter(t.type, called.get(-back) or own, frame)
            for back, t in enumerate(self.initial(), 1)
        ]
        if not as_numbers:
            return [self.states[-tap - 1] for tap in self.taps]
        given: Any = self.start.given
        rows = [given] if self.depth == 1 else given
        return [rows[self.depth + tap] for tap in self.taps]


def _options(value: Any, key: str, what: str) -> Mapping[str, Any]:
    """`{key: ..., "taps": ...}`, of which the value alone is short."""
    if not isinstance(value, Mapping):
        return {key: value}
    if set(value) - {"taps"} != {key}:
        got = ", ".join(map(repr, value))
        raise ShapeError(f"scan: {what} is a tensor, or a dict of {key!r} and 'taps', got {got}")
    return value


def _taps(value: Any, default: int, what: str) -> list[int]:
    taps = as_list(value) or [default]
    if not all(isinstance(tap, int) and not isinstance(tap, bool) for tap in taps):
        raise ShapeError(f"scan: taps of {what} are ints, got taps={value!r}")
    return taps


def as_list(value: Any) -> list[Any]:
    """None, one, or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


class _Scan:
    """One call of `scan`: its parameters, and the step that the function makes of them."""

    def __init__(
        self, fn: Callable[..., Any], sequences: Any, outputs: Any, others: Any, name: str | None
    ) -> None:
        self.fn, self.name, self.others = fn, name, as_list(others)
        self.sequences = list(map(_Sequence, as_list(sequences)))
        self.frame = Frame(name or "scan")
        self.index = parameter(TensorType(int64, ()), "step", self.frame)
        names = self.names()
        self.slices = [row for s in self.sequences for row in s.slices(self.frame, names)]
        self.declared = list(map(_Output, as_list(outputs)))
        self.outputs = self.declared

    def names(self) -> Iterator[str | None]:
        """What the function calls its arguments."""
        return chain(arguments(self.fn), repeat(None))

    @property
    def carried(self) -> list[int]:
        """Which outputs are read back."""
        return [k for k, output in enumerate(self.declared) if output.start is not None]

    def step(self) -> Step:
        """The step, where each state comes out as it goes in."""
        starts = [o.start for o in self.declared if o.start is not None]
        carried = self.carried
        return settled("scan", starts, self.built, lambda k: self.declared[carried[k]].states[0])

    def built(self, as_numbers: frozenset[int]) -> tuple[Step, list[Tensor]]:
        """What one call of the function gives: the step, and of it the states that follow."""
        given: list[Any] = list(self.slices)
        names = islice(self.names(), len(given), None)
        for place, k in enumerate(self.carried):
            given += self.declared[k].enter(self.frame, place in as_numbers, names)
        with drawing(entropy_of(self.index)):
            step = read_step(call("scan", self.fn, [*given, *self.others], "fn"))
        found = step.outputs
        if self.declared and len(self.declared) != len(found):
            raise ShapeError(
                "scan: outputs_info must have an entry an output, got "
                f"{len(self.declared)} entries and {len(found)} outputs\n"
                f"  scan was called at {origin()[0]}"
            )
        self.outputs = self.declared or [_Output() for _ in found]
        return step, [found[k] for k in self.carried]

    def length(self, n_steps: Any) -> Dimension:
        """How many steps there are, or may be."""
        if n_steps is None:
            if not self.sequences:
                raise ShapeError("scan: n_steps must be given where there are no sequences")
            return derived("min", *(sequence.length for sequence in self.sequences))
        steps = as_dimension(n_steps, "scan: n_steps")
        require(isinstance(steps, Dim) or steps >= 0, "scan", "n_steps must not be negative", steps)
        for sequence in self.sequences:
            missing = sequence.rows - sequence.span - steps
            if isinstance(missing, int) and missing < 0 and steps != 0:
                taps = f" with taps={sequence.taps}" if sequence.span else ""
                raise ShapeError(
                    f"scan: a sequence must have a row for each step, got n_steps={steps} and "
                    f"{sequence.tensor.type}{taps}\n  the sequence is {describe(sequence.tensor)}; "
                    f"scan was called at {origin()[0]}"
                )
        return steps


def _count(value: Any, name: str, also: str | None = None) -> Any:
    """A number of steps, or None."""
    if value is None or (also is not None and value == also):
        return value
    whole = isinstance(value, int) and not isinstance(value, bool)
    rule = f"{name} must be a number of steps above 0" + (f" or {also!r}" if also else "")
    require(whole and value > 0, "scan", rule, value)
    return value


@trimmed
def scan(
    fn: Callable[..., Any],
    sequences: Any = None,
    outputs_info: Any = None,
    non_sequences: Any = None,
    n_steps: Any = None,
    go_backwards: bool = False,
    truncate_gradient: int | None = None,
    checkpoint: int | str | None = None,
    *,
    name: str | None = None,
) -> Any:
    """Theano's scan: run `fn` once a step; what it returns, stacked over the steps.

    `fn` takes one row of each of `sequences`, then the earlier values of each output that has an
    initial value in `outputs_info`, then `non_sequences` (other tensors it may simply use), and
    returns the outputs of the step: one, or a list; `until(condition)` behind them ends the loop
    after this step. A sequence is a tensor, or a dict of `input` and `taps` (which rows, counted
    from the step's own: `[-1, 0]`). An output is None (it is not read back), its initial value, or
    a dict of `initial` and `taps` (`[-1, -3]`: then `initial` has three rows, the oldest first).
    A state keeps its shape and dtype; Python numbers take the dtype that the step needs, for which
    `fn` may be called again.

    Without `n_steps` (a number or an integer tensor) there are as many steps as the sequences have
    rows for. `go_backwards` begins at the end of the sequences. `truncate_gradient` is the number
    of steps that gradients flow back (None or -1: all); `checkpoint` keeps fewer states for them
    ("sqrt", or how many steps lie between two that are kept).

    A step may write variables: an update (`assign(v, ...)`, a group of them) among its outputs, or
    Theano's dict of updates behind them. What `fn` builds then reads the value of the step, and the
    scan returns, in the same place, the update (the dict's as a group) that writes the last value:
    fetch it, or give it to `function`.

    Returns a tensor `[steps, ...]`, or a list of them. Random numbers inside are fresh each step.
    Errors: ShapeError, DTypeError, which name the state and the line; ValueError.

    >>> powers = scan(lambda before, x: before * x, None, as_tensor(1.0), as_tensor(2.0), n_steps=4)
    >>> powers.eval()
    array([ 2.,  4.,  8., 16.], dtype=float32)
    >>> pairs = scan(lambda a, b: a * b, {"input": as_tensor([1, 2, 3]), "taps": [0, 1]})
    >>> pairs.eval()
    array([2, 6])
    """
    truncate = None if truncate_gradient == -1 else _count(truncate_gradient, "truncate_gradient")
    _count(checkpoint, "checkpoint", "sqrt")
    scanning = _Scan(fn, sequences, outputs_info, non_sequences, name)
    length = scanning.length(n_steps)
    step = scanning.step()
    return _built(scanning, step, length, bool(go_backwards), truncate, checkpoint)


def _built(
    scanning: _Scan, step: Step, length: Dimension, backwards: bool, truncate: int | None,
    checkpoint: Any,
) -> Any:  # fmt: skip
    """The node, and what became of the step's outputs, in their form."""
    frame, outputs, guarded = scanning.frame, step.outputs, step.until is not None
    states: list[Tensor] = []
    following: list[Tensor] = []
    initial: list[Tensor] = []
    if step.until is not None:
        states.append(parameter(TensorType(bool_, ()), None, frame))
        following.append(logical_not(step.until))
        initial.append(as_tensor(True))
    for output, after in zip(scanning.outputs, outputs, strict=True):
        states += output.states
        following += [after, *output.states[:-1]] if output.states else []
        initial += output.initial()
    written: dict[Tensor, int] = {}
    for update in step.updates:
        written[update.variable] = len(states)
        states.append(parameter(update.variable.type, update.variable.node.name, frame))
        following.append(update.value)
        initial.append(update.variable)
    body, captured = close(
        [*following, *outputs], [scanning.index, *scanning.slices, *states], frame,
        {variable: states[k] for variable, k in written.items()},
    )  # fmt: skip
    reads = [(s.tensor, walk) for s in scanning.sequences for walk in s.walks(backwards)]
    out = loop(
        [*(x for x, _ in reads), *initial, *captured],
        scanning.name,
        body=body, length=length, reads=tuple(walk for _, walk in reads),
        writes=((0, 1),) * len(outputs), states=len(states), guarded=guarded,
        truncate=truncate, checkpoint=checkpoint,
    )  # fmt: skip
    frame.node = out[0].node
    stacks = list(out[len(states) : len(states) + len(outputs)])
    if guarded:
        count = as_dimension(out[-1])
        stacks = [
            stack[:count] if stack.shape is None else along(stack, 0, 0, count) for stack in stacks
        ]
    return step.result(
        dict(zip(outputs, stacks, strict=True)),
        lambda update: Update(update.variable, out[written[update.variable]], update.where),
    )
