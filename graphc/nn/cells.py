"""Recurrent cells: one step of a recurrent network, as a function of tensors.

Enters: a row of inputs `[batch, features]`, the state before it, and weights. Leaves: the state
after it. The layers (`rnn`, `lstm`, `gru`) run these over a sequence; `decode` runs whatever step
is made of them. Gates lie side by side in the columns of the weights, in Keras' order:

| cell | kernel | recurrent | bias | gates |
|---|---|---|---|---|
| rnn | `[features, units]` | `[units, units]` | `[units]` | |
| lstm | `[features, 4 units]` | `[units, 4 units]` | `[4 units]` | input, forget, new, output |
| gru | `[features, 3 units]` | `[units, 3 units]` | `[3 units]` | update, reset, new |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from graphc.build import describe
from graphc.dims import Dim
from graphc.errors import ShapeError, require, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import as_floats
from graphc.ops.control import named
from graphc.ops.elementary import sigmoid
from graphc.ops.joining import split
from graphc.ops.trigonometric import tanh

RNN_GATES, LSTM_GATES, GRU_GATES = 1, 4, 3


def recurrent_weights(cell: str, kernel: Any, recurrent: Any, gates: int) -> Tensor:
    """The weights from state to state, checked: one square block a gate, as wide as the kernel."""
    weights, entering = as_floats(recurrent), as_floats(kernel)
    times = "" if gates == 1 else f"{gates} * "
    if weights.shape is None:
        return weights
    if len(weights.shape) != 2 or _differ(weights.shape[1], weights.shape[0] * gates):
        _fail(cell, f"recurrent must be [units, {times}units]", "recurrent", weights)
    shape = entering.shape
    if shape is not None and (len(shape) != 2 or _differ(shape[1], weights.shape[1])):
        rule = f"kernel must be [features, {times}units], where recurrent is {weights.type}"
        _fail(cell, rule, "kernel", entering)
    return weights


def _fail(cell: str, rule: str, name: str, tensor: Tensor) -> NoReturn:
    raise ShapeError(f"{cell}: {rule}, got {name}: {tensor.type}\n  it is {describe(tensor)}")


def _differ(a: Any, b: Any) -> bool:
    difference = a - b
    return not isinstance(difference, Dim) and difference != 0


def entering(x: Any, kernel: Any, bias: Any = None) -> Tensor:
    """What the inputs send to the gates, for one step or for all at once."""
    sent = as_floats(x) @ as_floats(kernel)
    return sent if bias is None else sent + bias


# ---------------------------------------------------------------------------- steps


def rnn_step(sent: Tensor, hidden: Tensor, recurrent: Tensor, activation: Any) -> Tensor:
    """The state of a plain network, from what the inputs send."""
    after: Tensor = activation(sent + hidden @ recurrent)
    return after


def lstm_step(
    sent: Tensor, hidden: Tensor, cell: Tensor, recurrent: Tensor, peepholes: Any,
    forget_bias: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Hidden state and cell of a long short-term memory, from what the inputs send."""
    enter, keep, new, show = split(sent + hidden @ recurrent, LSTM_GATES, -1)
    if peepholes is not None:
        enter, keep = enter + cell * peepholes[0], keep + cell * peepholes[1]
    if not isinstance(forget_bias, (int, float)) or forget_bias != 0:
        keep = keep + forget_bias
    cell = sigmoid(keep) * cell + sigmoid(enter) * tanh(new)
    if peepholes is not None:
        show = show + cell * peepholes[2]
    return sigmoid(show) * tanh(cell), cell


def gru_step(
    sent: Tensor, hidden: Tensor, recurrent: Tensor, recurrent_bias: Any, reset_after: bool
) -> Tensor:
    """The state of a gated unit, from what the inputs send."""
    update_in, reset_in, new_in = split(sent, GRU_GATES, -1)
    if reset_after:
        back = hidden @ recurrent
        back = back if recurrent_bias is None else back + recurrent_bias
        to_update, to_reset, to_new = split(back, GRU_GATES, -1)
        update, reset = sigmoid(update_in + to_update), sigmoid(reset_in + to_reset)
        new = tanh(new_in + reset * to_new)
    else:
        of_update, of_reset, of_new = split(recurrent, GRU_GATES, -1)
        update = sigmoid(update_in + hidden @ of_update)
        reset = sigmoid(reset_in + hidden @ of_reset)
        new = tanh(new_in + (reset * hidden) @ of_new)
    return update * hidden + (1.0 - update) * new


def check_peepholes(peepholes: Any) -> Any:
    """Three rows of weights, from the cell to the gates; None for none."""
    if peepholes is None:
        return None
    rows = as_floats(peepholes)
    if rows.shape is not None and (len(rows.shape) != 2 or _differ(rows.shape[0], 3)):
        rule = "peepholes must be [3, units]: to input, forget and output gate"
        _fail("lstm", rule, "peepholes", rows)
    return rows


def check_resets(recurrent_bias: Any, reset_after: bool) -> None:
    """A bias beside the recurrent product is apart from the other only if the reset follows it."""
    require(
        recurrent_bias is None or reset_after, "gru", "recurrent_bias needs reset_after=True",
        reset_after,
    )  # fmt: skip


# ---------------------------------------------------------------------------- public cells


@trimmed
def rnn_cell(
    x: Any, state: Any, kernel: Any, recurrent: Any, bias: Any = None,
    activation: Callable[[Tensor], Tensor] = tanh, *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """One step of a plain recurrent network: `activation(x @ kernel + state @ recurrent + bias)`.

    Shapes: x `[batch, features]`, state and result `[batch, units]`. J. L. Elman, "Finding
    structure in time", Cognitive Science 14 (1990).

    >>> rnn_cell([[1.0]], [[0.5]], [[2.0]], [[-4.0]]).eval()
    array([[0.]], dtype=float32)
    """
    weights = recurrent_weights("rnn_cell", kernel, recurrent, RNN_GATES)
    after = rnn_step(entering(x, kernel, bias), as_floats(state), weights, activation)
    return named(after, name)


@trimmed
def lstm_cell(
    x: Any, state: Any, kernel: Any, recurrent: Any, bias: Any = None, peepholes: Any = None,
    forget_bias: Any = 0.0, *, name: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One step of a long short-term memory; `state` and the result are pairs (hidden, cell).

    The formula is that of `lstm`. Shapes: x `[batch, features]`, hidden and cell `[batch, units]`.

    >>> hidden, cell = lstm_cell([[0.0]], ([[0.0]], [[2.0]]), np.zeros((1, 4)), np.zeros((1, 4)))
    >>> cell.eval()
    array([[1.]])
    """
    weights = recurrent_weights("lstm_cell", kernel, recurrent, LSTM_GATES)
    hidden, cell = (as_floats(t) for t in state)
    rows = check_peepholes(peepholes)
    sent = entering(x, kernel, bias)
    shown, kept = lstm_step(sent, hidden, cell, weights, rows, forget_bias)
    return named(shown, name), kept


@trimmed
def gru_cell(
    x: Any, state: Any, kernel: Any, recurrent: Any, bias: Any = None, recurrent_bias: Any = None,
    reset_after: bool = True, *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """One step of a gated recurrent unit, by the formula of `gru`.

    Shapes: x `[batch, features]`, state and result `[batch, units]`.

    >>> gru_cell([[0.0]], [[2.0]], np.zeros((1, 3)), np.zeros((1, 3))).eval()
    array([[1.]])
    """
    check_resets(recurrent_bias, reset_after)
    weights = recurrent_weights("gru_cell", kernel, recurrent, GRU_GATES)
    sent = entering(x, kernel, bias)
    after = gru_step(sent, as_floats(state), weights, recurrent_bias, reset_after)
    return named(after, name)
