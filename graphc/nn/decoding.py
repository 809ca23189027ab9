"""Decoding: a step that reads its own output, or the target in its place (teacher forcing)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from graphc.build import describe
from graphc.errors import DTypeError, ShapeError, require, trimmed
from graphc.graph import Tensor, outputs_of
from graphc.ops.broadcast import cast, same_dtype
from graphc.ops.composition import composition
from graphc.ops.control import identity, named
from graphc.ops.joining import concatenate
from graphc.ops.measure import shape as shape_of
from graphc.ops.nesting import flatten
from graphc.ops.scan import scan
from graphc.ops.select import where
from graphc.ops.shape import expand_dims, swapaxes
from graphc.ops.source import as_tensor

_Called: TypeAlias = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
_Run: TypeAlias = Callable[[Callable[..., Any], Any, list[Any]], Any]


def _same(output: Tensor) -> Tensor:
    return output


@trimmed
def decode(
    step: Callable[[Tensor, Any], tuple[Any, Any]], first: Any, state: Any, targets: Any = None, *,
    forcing: Any = None, feedback: Callable[[Tensor], Any] = _same, n_steps: Any = None,
    time_major: bool = False, truncate_gradient: int | None = None,
    checkpoint: int | str | None = None, name: str | None = None,
) -> tuple[Tensor, Any]:  # fmt: skip
    """Run `step(input, state) -> (output, state)` on its own outputs, or on `targets`.

    The first input is `first` `[batch, ...]`. The input of a later step is the target of the step
    before where `forcing` holds, else `feedback(output)` of the step before (the output itself
    unless given; `lambda scores: g.argmax(scores, -1)` feeds back the likeliest symbol). `forcing`
    is True, False, or bools: a scalar (a fed one switches from training to use), `[time]`, or one a
    step of each row, shaped as the first two axes of `targets` (scheduled sampling, S. Bengio et
    al., 2015, draws them by g.random.bernoulli); by default it is whether there are targets.
    Teacher forcing: R. J. Williams, D. Zipser, "A learning algorithm for continually running fully
    recurrent neural networks", Neural Computation 1 (1989).

    Shapes: targets `[batch, time, ...]`, or `[time, batch, ...]` if `time_major`, the outputs too;
    without targets, `n_steps` says how many steps there are. `state` is a tensor or a nesting of
    them. Returns the outputs, and the state after the last step. Errors: ShapeError, DTypeError.

    >>> double = lambda x, state: (x * 2.0, state + x)
    >>> decode(double, [1.0], zeros([1]), n_steps=3)[0].eval()
    array([[2., 4., 8.]], dtype=float32)
    >>> decode(double, [1.0], zeros([1]), [[5.0, 6.0, 7.0]])[0].eval()
    array([[ 2., 10., 12.]], dtype=float32)
    """
    forced = targets is not None if forcing is None else forcing
    require(targets is not None or forced is False, "decode", "forcing needs targets", forced)
    known = targets is not None or n_steps is not None
    require(known, "decode", "n_steps must be given where there are no targets", n_steps)
    begin = as_tensor(first)
    rows = None if targets is None else _time_first(as_tensor(targets), time_major)
    leaves, rebuild = flatten(state)
    states = [as_tensor(leaf) for leaf in leaves]

    def called(row: Tensor, before: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        output, after = step(row, rebuild(iter(before)))
        return as_tensor(output), [as_tensor(leaf) for leaf in flatten(after)[0]]

    def run(step: Callable[..., Any], sequences: Any, initial: list[Any]) -> Any:
        return scan(
            step, sequences, initial, truncate_gradient=truncate_gradient, checkpoint=checkpoint,
            n_steps=shape_of(rows)[0] if n_steps is None else n_steps, name=name or "decode",
        )  # fmt: skip

    if forced is True:
        assert rows is not None
        stacks, last = _taught(called, run, begin, rows, states)
    else:
        choices = [] if rows is None or forced is False else [rows, _each_step(forced, time_major)]
        stacks, last = _free(called, run, begin, choices, states, feedback)
    outputs = stacks[0] if time_major else swapaxes(stacks[0], 0, 1)
    return named(outputs, name), rebuild(iter(last))


def _taught(
    called: _Called, run: _Run, begin: Tensor, rows: Tensor, states: list[Tensor]
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Each step reads the target before its own: a sequence, known before the loop."""

    def step(row: Tensor, *before: Tensor) -> list[Tensor]:
        output, after = called(row, before)
        return [output, *after]

    inputs = concatenate([expand_dims(cast(begin, rows.dtype), 0), rows])[:-1]
    stacks = run(step, inputs, [None, *states])
    return stacks, outputs_of(stacks[0].node)[: len(states)]


def _free(
    called: _Called, run: _Run, begin: Tensor, choices: Sequence[Tensor], states: list[Tensor],
    feedback: Callable[[Tensor], Any],
) -> tuple[list[Tensor], tuple[Tensor, ...]]:  # fmt: skip
    """The next input is a state; `choices` are targets, and which of them to take instead."""
    sequences = [choice for choice in choices if choice.shape != ()]

    def step(*given: Tensor) -> list[Tensor]:
        chosen, (row, *before) = given[: len(sequences)], given[len(sequences) :]
        output, after = called(row, before)
        following = cast(feedback(output), begin.dtype)
        if chosen:
            teach = chosen[1] if len(chosen) == 2 else choices[1]
            target = cast(chosen[0], begin.dtype)
            following = where(_beside(teach, target), target, following)
        return [output, following, *after]

    stacks = run(step, sequences, [None, begin, *states])
    return stacks, outputs_of(stacks[0].node)[1 : 1 + len(states)]


@composition("teach", "target", dtype=same_dtype)
def _beside(teach: Any, target: Any, *, name: str | None = None) -> Tensor:
    """A choice for all, or one a row, with axes for the rest of a row."""
    if not teach.shape:
        return identity(teach)
    columns: Tensor = teach.reshape((*teach.shape, *(1,) * (len(target.shape) - len(teach.shape))))
    return columns


def _each_step(forcing: Any, time_major: bool) -> Tensor:
    teach = as_tensor(forcing)
    if teach.dtype.kind != "b":
        raise DTypeError(
            f"decode: forcing must be bools, got {teach.type}\n  it is {describe(teach)}"
        )
    flat = teach.shape is None or len(teach.shape) < 2 or time_major
    return teach if flat else swapaxes(teach, 0, 1)


def _time_first(targets: Tensor, time_major: bool) -> Tensor:
    if targets.shape is not None and len(targets.shape) < 2:
        axes = "[time, batch, ...]" if time_major else "[batch, time, ...]"
        raise ShapeError(
            f"decode: targets must be {axes}, got {targets.type}\n  it is {describe(targets)}"
        )
    return targets if time_major else swapaxes(targets, 0, 1)
