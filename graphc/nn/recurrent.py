"""Recurrent layers: cells run over sequences by `scan`.

Enters: a sequence, and weights (`cells` says how they lie). Leaves: `(outputs, last)`, the hidden
state after every step (many to many) and the state after the last one (many to one); what is not
fetched is neither kept nor computed. All layers take these, by keyword:

- `initial_state`: `[batch, units]`, or `[units]` for all rows; zeros if None; a pair for `lstm`.
- `lengths`: `[batch]` integers, how many steps each row really has; or `mask`, bools shaped as the
  first two axes of `x`, true where a step is real. A step of padding keeps the state, its output
  is 0, and neither values nor gradients come out of what `x` holds there, not even NaN.
- `time_major`: whether `x` and the outputs are `[time, batch, ...]`; else `[batch, time, ...]`.
- `go_backwards`: from the last step to the first; outputs stay beside their inputs.
- `truncate_gradient`, `checkpoint`: as `scan` has them.

What the inputs send to the gates is one product for all steps, outside of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.build import describe
from graphc.dtypes import bool_, promote
from graphc.errors import DTypeError, ShapeError, require, trimmed
from graphc.graph import Tensor, outputs_of
from graphc.nn.cells import (
    GRU_GATES,
    LSTM_GATES,
    RNN_GATES,
    check_peepholes,
    check_resets,
    entering,
    gru_step,
    lstm_step,
    recurrent_weights,
    rnn_step,
)
from graphc.ops.broadcast import as_floats, broadcast_to, cast
from graphc.ops.compare import less
from graphc.ops.control import named
from graphc.ops.creation import arange, zeros
from graphc.ops.joining import concatenate
from graphc.ops.measure import shape as shape_of
from graphc.ops.scan import scan
from graphc.ops.select import where
from graphc.ops.shape import expand_dims, swapaxes
from graphc.ops.source import as_tensor
from graphc.ops.trigonometric import tanh

# ---------------------------------------------------------------------------- one layer


@dataclass(frozen=True)
class _Layer:
    """How a layer walks over its sequence."""

    label: str
    initial_state: Any
    lengths: Any
    mask: Any
    time_major: bool
    go_backwards: bool
    truncate_gradient: int | None
    checkpoint: int | str | None
    name: str | None

    def sequence(self, x: Any) -> Tensor:
        """The inputs, time first."""
        tensor = as_floats(x)
        if tensor.shape is not None and len(tensor.shape) != 3:
            first = "[time, batch" if self.time_major else "[batch, time"
            raise ShapeError(
                f"{self.label}: x must be {first}, features], got x: {tensor.type}\n"
                f"  it is {describe(tensor)}"
            )
        return tensor if self.time_major else swapaxes(tensor, 0, 1)

    def real(self, x: Tensor) -> Tensor | None:
        """Which steps are real, `[time, batch, 1]`; None where all are."""
        both = self.lengths is not None and self.mask is not None
        require(not both, self.label, "lengths or mask must be None", self.lengths, self.mask)
        if self.lengths is not None:
            counts = as_tensor(self.lengths)
            _check(self.label, "lengths must be [batch] integers", counts, "iu", 1)
            time = arange(shape_of(x)[0])
            return less(time[:, None, None], counts[:, None])
        if self.mask is None:
            return None
        mask = as_tensor(self.mask)
        _check(self.label, "mask must be bools, one a step of each row", mask, "biu", 2)
        kept = cast(mask, bool_)
        return expand_dims(kept if self.time_major else swapaxes(kept, 0, 1), 2)

    def states(self, count: int, sent: Tensor, recurrent: Tensor) -> list[Tensor]:
        """The states before the first step, `[batch, units]` each."""
        given = self.initial_state
        parts = [given] if count == 1 or given is None else list(given)
        require(
            given is None or len(parts) == count, self.label, f"its state has {count} parts",
            len(parts),
        )  # fmt: skip
        found = [None if given is None else as_floats(part) for part in parts]
        dtype = promote(sent.dtype, recurrent.dtype)
        for part in found:
            dtype = dtype if part is None else promote(dtype, part.dtype)
        units = shape_of(recurrent)[0] if recurrent.shape is None else recurrent.shape[0]
        batch = shape_of(sent)[1] if sent.shape is None else sent.shape[1]
        if given is None:
            return [zeros((batch, units), dtype)] * count
        return [broadcast_to(cast(p, dtype), (batch, units)) for p in found if p is not None]

    def __call__(
        self, x: Any, kernel: Any, bias: Any, recurrent: Tensor, count: int,
        step: Callable[..., Sequence[Tensor]],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:  # fmt: skip
        """Outputs and last states of a step that takes what is sent, and `count` states."""
        sequence = self.sequence(x)
        real = self.real(sequence)
        if real is not None:
            sequence = where(real, sequence, 0.0)
        sent = entering(sequence, kernel, bias)
        initial = self.states(count, sent, recurrent)

        def held(row: Tensor, *rest: Tensor) -> list[Tensor]:
            if real is None:
                return list(step(row, *rest))
            now, before = rest[0], rest[1:]
            pairs = zip(step(row, *before), before, strict=True)
            return [where(now, after, old) for after, old in pairs]

        stacks = scan(
            held, [sent] if real is None else [sent, real], initial,
            go_backwards=self.go_backwards, truncate_gradient=self.truncate_gradient,
            checkpoint=self.checkpoint, name=self.name or self.label,
        )  # fmt: skip
        outputs = stacks[0][::-1] if self.go_backwards else stacks[0]
        if real is not None:
            outputs = where(real, outputs, 0.0)
        last = outputs_of(stacks[0].node)[:count]  # unlike stacks[0][-1], there without a step
        return named(outputs if self.time_major else swapaxes(outputs, 0, 1), self.name), last


def _check(label: str, rule: str, tensor: Tensor, kinds: str, rank: int) -> None:
    text = f"{label}: {rule}, got {tensor.type}\n  it is {describe(tensor)}"
    if tensor.dtype.kind not in kinds:
        raise DTypeError(text)
    if tensor.shape is not None and len(tensor.shape) != rank:
        raise ShapeError(text)


# ---------------------------------------------------------------------------- public layers


@trimmed
def rnn(
    x: Any, kernel: Any, recurrent: Any, bias: Any = None, initial_state: Any = None, *,
    activation: Callable[[Tensor], Tensor] = tanh, lengths: Any = None, mask: Any = None,
    time_major: bool = False, go_backwards: bool = False, truncate_gradient: int | None = None,
    checkpoint: int | str | None = None, name: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A plain recurrent layer: `h = activation(x @ kernel + h @ recurrent + bias)` at each step.

    Shapes: x `[batch, time, features]`, kernel `[features, units]`, recurrent `[units, units]`,
    bias `[units]` or None. Returns the outputs `[batch, time, units]` and the last state `[batch,
    units]`. J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).

    `initial_state` is `[batch, units]`, `[units]`, or None for zeros. `lengths` (`[batch]`
    integers) or `mask` (`[batch, time]`) say which steps are real: the others keep the state and
    give 0. `time_major`: x, mask and outputs are `[time, batch, ...]`. `go_backwards` begins at the
    end; outputs stay beside their inputs. Errors: ShapeError, DTypeError.

    >>> outputs, last = rnn([[[1.0], [2.0]]], [[1.0]], [[1.0]], activation=identity)
    >>> outputs.eval()
    array([[[1.],
            [3.]]], dtype=float32)
    """
    layer = _Layer(
        "rnn", initial_state, lengths, mask, time_major, go_backwards, truncate_gradient,
        checkpoint, name,
    )  # fmt: skip
    weights = recurrent_weights("rnn", kernel, recurrent, RNN_GATES)
    outputs, (last,) = layer(
        x, kernel, bias, weights, 1,
        lambda sent, hidden: [rnn_step(sent, hidden, weights, activation)],
    )  # fmt: skip
    return outputs, last


@trimmed
def lstm(
    x: Any, kernel: Any, recurrent: Any, bias: Any = None, initial_state: Any = None, *,
    peepholes: Any = None, forget_bias: Any = 0.0, lengths: Any = None, mask: Any = None,
    time_major: bool = False, go_backwards: bool = False, truncate_gradient: int | None = None,
    checkpoint: int | str | None = None, name: str | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
    """A layer of long short-term memory: `(outputs, (hidden, cell))`.

    With `i, f, g, o` the four parts of `x @ kernel + h @ recurrent + bias`, and `p` the rows of
    `peepholes` (zeros if None), each step is

        c = sigmoid(f + p[1] * c + forget_bias) * c + sigmoid(i + p[0] * c) * tanh(g)
        h = sigmoid(o + p[2] * c) * tanh(c)

    where `o` sees the new cell. S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural
    Computation 9 (1997); the forget gate: F. Gers, J. Schmidhuber, F. Cummins, "Learning to
    forget", 2000; peepholes: F. Gers, J. Schmidhuber, "Recurrent nets that time and count", 2000.
    `forget_bias=1.0` lets a new network remember (R. Jozefowicz et al., 2015).

    Shapes: x `[batch, time, features]`, kernel `[features, 4 * units]`, recurrent `[units, 4 *
    units]`, bias `[4 * units]` or None, peepholes `[3, units]` or None. The order of the gates is
    that of Keras and PyTorch (TensorFlow 1's cells have g before f). Outputs are `[batch, time,
    units]`, hidden and cell `[batch, units]`; `initial_state` is a pair of these. The other
    arguments are those of `rnn`. Errors: ShapeError, DTypeError.

    >>> weights = np.zeros((1, 4)), np.zeros((1, 4))
    >>> outputs, (hidden, cell) = lstm(np.ones((1, 2, 1)), *weights, initial_state=([0.0], [8.0]))
    >>> cell.eval()
    array([[2.]])
    """
    layer = _Layer(
        "lstm", initial_state, lengths, mask, time_major, go_backwards, truncate_gradient,
        checkpoint, name,
    )  # fmt: skip
    weights = recurrent_weights("lstm", kernel, recurrent, LSTM_GATES)
    rows = check_peepholes(peepholes)
    outputs, (hidden, cell) = layer(
        x, kernel, bias, weights, 2,
        lambda sent, h, c: lstm_step(sent, h, c, weights, rows, forget_bias),
    )  # fmt: skip
    return outputs, (hidden, cell)


@trimmed
def gru(
    x: Any, kernel: Any, recurrent: Any, bias: Any = None, initial_state: Any = None, *,
    recurrent_bias: Any = None, reset_after: bool = True, lengths: Any = None, mask: Any = None,
    time_major: bool = False, go_backwards: bool = False, truncate_gradient: int | None = None,
    checkpoint: int | str | None = None, name: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A layer of gated recurrent units: `(outputs, last)`.

    With `z, r, n` the three parts of `x @ kernel + bias`, `U` those of `recurrent`, and `b` those
    of `recurrent_bias` (zeros if None), each step is

        z = sigmoid(z + h @ U[0] + b[0])
        r = sigmoid(r + h @ U[1] + b[1])
        n = tanh(n + r * (h @ U[2] + b[2]))        with reset_after, as cuDNN, Keras and PyTorch
        n = tanh(n + (r * h) @ U[2])               without it, as the paper
        h = z * h + (1 - z) * n

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical
    machine translation", EMNLP 2014.

    Shapes: x `[batch, time, features]`, kernel `[features, 3 * units]`, recurrent `[units, 3 *
    units]`, bias and recurrent_bias `[3 * units]` or None (recurrent_bias only with reset_after).
    The order of the gates is that of Keras (PyTorch has r before z). Outputs are `[batch, time,
    units]`, the last state `[batch, units]`. The other arguments are those of `rnn`. Errors:
    ShapeError, DTypeError.

    >>> outputs, last = gru(np.ones((1, 2, 1)), np.zeros((1, 3)), np.zeros((1, 3)), None, [8.0])
    >>> last.eval()
    array([[2.]])
    """
    layer = _Layer(
        "gru", initial_state, lengths, mask, time_major, go_backwards, truncate_gradient,
        checkpoint, name,
    )  # fmt: skip
    check_resets(recurrent_bias, reset_after)
    weights = recurrent_weights("gru", kernel, recurrent, GRU_GATES)
    outputs, (last,) = layer(
        x, kernel, bias, weights, 1,
        lambda sent, hidden: [gru_step(sent, hidden, weights, recurrent_bias, reset_after)],
    )  # fmt: skip
    return outputs, last


# ---------------------------------------------------------------------------- both directions

_MERGES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concatenate": lambda a, b: concatenate([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) * 0.5,
    "multiply": lambda a, b: a * b,
}


@trimmed
def bidirectional(
    layer: Callable[..., Any], x: Any, forward: Sequence[Any], backward: Sequence[Any],
    initial_state: Any = None, *, merge: str | None = "concatenate", name: str | None = None,
    **options: Any,
) -> tuple[Any, tuple[Any, Any]]:  # fmt: skip
    """A layer run over a sequence in both directions: `(outputs, (last, first))`.

    `layer` is `rnn`, `lstm`, `gru`, or a function of their kind; `forward` and `backward` are the
    weights of each direction, as the layer takes them; `initial_state` is a pair, one for each, or
    None; `options` go to both. `merge` is how outputs of the same step become one: "concatenate"
    (along the last axis), "sum", "mean", "multiply", or None for a pair of them. The last states
    are a pair in any case: after the last step of the sequence, and after its first. With `lengths`
    the backward direction begins at the last real step of each row. M. Schuster, K. K. Paliwal,
    "Bidirectional recurrent neural networks", IEEE Transactions on Signal Processing 45 (1997).

    >>> weights = [[1.0]], [[1.0]]
    >>> x = [[[1.0], [2.0], [4.0]]]
    >>> both, _ = bidirectional(rnn, x, weights, weights, activation=identity)
    >>> both.eval()
    array([[[1., 7.],
            [3., 6.],
            [7., 4.]]], dtype=float32)
    """
    known = merge is None or merge in _MERGES
    require(known, "bidirectional", f"merge is None or one of {sorted(_MERGES)}", merge)
    starts = (None, None) if initial_state is None else tuple(initial_state)
    require(len(starts) == 2, "bidirectional", "initial_state is a pair", len(starts))
    one, last = layer(x, *forward, initial_state=starts[0], go_backwards=False, **options)
    other, first = layer(x, *backward, initial_state=starts[1], go_backwards=True, **options)
    outputs = (one, other) if merge is None else named(_MERGES[merge](one, other), name)
    return outputs, (last, first)
