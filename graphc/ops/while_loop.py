"""`while_loop`: TensorFlow's loop, as a guarded `loop` node.

Enters: a condition and a body, functions of the loop's variables. Leaves: their last values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any

from graphc.build import describe
from graphc.context import origin
from graphc.dims import Dim, Dimension
from graphc.dtypes import bool_, int64
from graphc.errors import ShapeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.bodies import Frame, close, drawing, parameter
from graphc.ops.follow import as_dimension
from graphc.ops.loop import ENDLESS, loop
from graphc.ops.nesting import flatten, matched
from graphc.ops.random import entropy_of
from graphc.ops.source import as_tensor
from graphc.ops.states import Start, arguments, call, settled
from graphc.types import TensorType


class _While:
    """One call of `while_loop`: its variables, and what the functions make of them."""

    def __init__(
        self, cond: Callable[..., Any], body: Callable[..., Any], given: Any, name: str | None
    ) -> None:
        self.cond, self.body, self.given = cond, body, given
        leaves, self.rebuild = flatten(given)
        if not leaves:
            raise ShapeError("while_loop: loop_vars must hold a variable or more")
        self.starts = [Start(leaf) for leaf in leaves]
        self.frame = Frame(name or "while_loop")
        self.index = parameter(TensorType(int64, ()), "step", self.frame)
        self.states: list[Tensor] = []

    def built(self, as_numbers: frozenset[int]) -> tuple[list[Tensor], list[Tensor]]:
        """What one call of both gives: whether to go on, and the variables that follow, twice."""
        several = isinstance(self.given, (list, tuple))
        flat = several and len(self.given) == len(self.starts)
        names = chain(arguments(self.body) if flat or not several else (), repeat(None))
        self.states = [
            parameter(s.tensor.type, next(names) or s.tensor.node.name, self.frame)
            for s in self.starts
        ]
        entering = [
            start.given if k in as_numbers else state
            for k, (start, state) in enumerate(zip(self.starts, self.states, strict=True))
        ]
        with drawing(entropy_of(self.index)):
            result = call("while_loop", self.body, self.arguments(entering), "body")
            following = [as_tensor(leaf) for leaf in self.leaves(result)]
            return [self.condition(following), *following], following

    def arguments(self, values: Sequence[Any]) -> Sequence[Any]:
        """What the functions are called with: the entries of a list, or a tensor, or a dict."""
        rebuilt = self.rebuild(iter(values))
        return rebuilt if isinstance(rebuilt, (list, tuple)) else (rebuilt,)

    def leaves(self, result: Any) -> list[Any]:
        """Those of what the body returns; one variable may come bare, or in a list."""
        listed, comes = isinstance(self.given, (list, tuple)), isinstance(result, (list, tuple))
        if listed and len(self.given) == 1 and not comes:
            result = [result]
        elif not listed and comes and len(result) == 1:
            result = result[0]
        return matched(self.given, result, "while_loop: the body must return the form of loop_vars")

    def condition(self, values: Sequence[Any]) -> Tensor:
        """Whether to go on, for some values of the variables."""
        condition = as_tensor(call("while_loop", self.cond, self.arguments(values), "cond"))
        if condition.shape not in ((), None):
            raise ShapeError(
                f"while_loop: the condition must be a scalar, got {condition.type}\n"
                f"  it is {describe(condition)}; while_loop was called at {origin()[0]}"
            )
        return condition.astype(bool_)


def _most(max_steps: Any) -> Dimension:
    if max_steps is None:
        return ENDLESS
    steps = as_dimension(max_steps, "while_loop: max_steps")
    holds = isinstance(steps, Dim) or steps >= 0
    require(holds, "while_loop", "max_steps must not be negative", steps)
    return steps


@trimmed
def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    max_steps: Any = None,
    *,
    name: str | None = None,
) -> Any:
    """TensorFlow's while_loop: `loop_vars = body(*loop_vars)` as long as `cond(*loop_vars)` holds.

    `loop_vars` is a tensor, or a list, tuple or dict of tensors, nested at will (a dict is passed
    as it is); `body` returns the same form, and the result has it. Each keeps its shape and dtype;
    Python numbers take the dtype that the body needs, for which it may be called again. `max_steps`
    (a number or an integer tensor) ends the loop in any case; a gradient through a loop that is
    itself inside of another needs it. Other tensors may simply be used. Random numbers inside are
    fresh each step. Gradients run the loop once to count its steps.

    Errors: ShapeError, DTypeError, which name the variable and the line; ValueError.

    >>> total = while_loop(lambda i, s: i < 5, lambda i, s: (i + 1, s + i), [0, 0])
    >>> [int(value) for value in Session().run(total)]
    [5, 10]
    """
    most = _most(max_steps)
    loops = _While(cond, body, loop_vars, name)
    following = settled("while_loop", loops.starts, loops.built, lambda k: loops.states[k])
    initial = [start.tensor for start in loops.starts]
    first = loops.condition(initial)
    go = parameter(first.type, None, loops.frame)
    closed, captured = close(following, [loops.index, go, *loops.states], loops.frame)
    out = loop(
        [first, *initial, *captured],
        name,
        body=closed, length=most, states=len(initial) + 1, guarded=True,
    )  # fmt: skip
    loops.frame.node = out[0].node
    return loops.rebuild(iter(out[1:-1]))
