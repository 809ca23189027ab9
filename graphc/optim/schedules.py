"""Learning rates that change with the step, as nodes of the graph.

A `Schedule` is called with the tensor of an optimiser's steps (0 in the first run) and returns the
rate, a scalar tensor. It is computed in float32, or in the dtype of a floating step. Formulas and
arguments follow TensorFlow's, unless a paper is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from graphc.dtypes import float32
from graphc.errors import require, trimmed
from graphc.graph import Tensor
from graphc.ops.elementary import log
from graphc.ops.rounding import ceil, floor
from graphc.ops.select import maximum, minimum, where
from graphc.ops.source import as_tensor
from graphc.ops.trigonometric import cos

Number: TypeAlias = "float | Tensor"  # a hyperparameter


class Schedule:
    """A function of the step. Schedules of your own need not be one: any callable will do.

    >>> Schedule(lambda time: 0.1 / (1.0 + time), "harmonic")(as_tensor(3)).eval()
    array(0.025, dtype=float32)
    """

    def __init__(self, formula: Callable[[Tensor], Tensor], text: str) -> None:
        self._formula = formula
        self._text = text

    def __call__(self, step: Tensor) -> Tensor:
        """The rate at `step`."""
        time = step if step.dtype.is_float else step.astype(float32)
        return self._formula(time)

    def __repr__(self) -> str:
        return f"<schedule {self._text}>"


def _number(value: Number, time: Tensor) -> Tensor:
    return as_tensor(value, time.dtype).astype(time.dtype)


def _positive(schedule: str, **numbers: Number) -> None:
    """Numbers that are known must be positive, else a ValueError."""
    for name, value in numbers.items():
        if not isinstance(value, Tensor):
            require(value > 0, schedule, f"{name} must be positive", value)


def constant(rate: Number) -> Schedule:
    """The same rate at every step.

    >>> constant(0.1)
    <schedule constant(0.1)>
    """
    return Schedule(lambda time: _number(rate, time), f"constant({rate})")


@trimmed
def exponential_decay(
    initial: Number, decay_steps: Number, decay_rate: Number, staircase: bool = False
) -> Schedule:
    """`initial * decay_rate ** (step / decay_steps)`; `staircase` rounds the exponent down.

    >>> exponential_decay(0.1, 100, 0.5)(as_tensor(200)).eval()
    array(0.025, dtype=float32)
    """
    _positive("exponential_decay", decay_steps=decay_steps)

    def formula(time: Tensor) -> Tensor:
        exponent = time / _number(decay_steps, time)
        exponent = floor(exponent) if staircase else exponent
        return _number(initial, time) * _number(decay_rate, time) ** exponent

    return Schedule(formula, f"exponential_decay({initial}, {decay_steps}, {decay_rate})")


@trimmed
def step_decay(initial: Number, every: Number, factor: Number = 0.1) -> Schedule:
    """`initial`, times `factor` after each `every` steps.

    >>> step_decay(1.0, every=10, factor=0.5)(as_tensor(25)).eval()
    array(0.25, dtype=float32)
    """
    return exponential_decay(initial, every, factor, staircase=True)


@trimmed
def piecewise_constant(boundaries: Sequence[float], values: Sequence[Number]) -> Schedule:
    """`values[i]` up to and including the step `boundaries[i]`, then the next; the last for ever.

    >>> piecewise_constant([10, 20], [1.0, 0.5, 0.1])(as_tensor(11)).eval()
    array(0.5, dtype=float32)
    """
    label, rising, counts = "piecewise_constant", list(boundaries), (len(values), len(boundaries))
    require(counts[0] == counts[1] + 1, label, "values must be one more than boundaries", *counts)
    require(rising == sorted(rising), label, "boundaries must rise", rising)

    def formula(time: Tensor) -> Tensor:
        rate = _number(values[-1], time)
        for boundary, value in zip(reversed(boundaries), reversed(values[:-1]), strict=True):
            rate = where(time <= _number(boundary, time), _number(value, time), rate)
        return rate

    return Schedule(formula, f"piecewise_constant({list(boundaries)}, {list(values)})")


@trimmed
def polynomial_decay(
    initial: Number,
    decay_steps: Number,
    end: Number = 0.0001,
    power: Number = 1.0,
    cycle: bool = False,
) -> Schedule:
    """`(initial - end) * (1 - step / decay_steps) ** power + end`, and `end` from there on.

    `cycle` starts again instead: over 2, 3 ... times `decay_steps`, as the steps go on.

    >>> polynomial_decay(1.0, 100, end=0.0)(as_tensor(25)).eval()
    array(0.75, dtype=float32)
    """
    _positive("polynomial_decay", decay_steps=decay_steps)

    def formula(time: Tensor) -> Tensor:
        part = time / _number(decay_steps, time)
        part = part / maximum(ceil(part), 1.0) if cycle else minimum(part, 1.0)
        last = _number(end, time)
        return (_number(initial, time) - last) * (1.0 - part) ** _number(power, time) + last

    return Schedule(formula, f"polynomial_decay({initial}, {decay_steps}, {end}, {power})")


@trimmed
def inverse_time_decay(
    initial: Number, decay_steps: Number, decay_rate: Number, staircase: bool = False
) -> Schedule:
    """`initial / (1 + decay_rate * step / decay_steps)`; `staircase` rounds the quotient down.

    >>> inverse_time_decay(1.0, 10, 0.5)(as_tensor(20)).eval()
    array(0.5, dtype=float32)
    """
    _positive("inverse_time_decay", decay_steps=decay_steps)

    def formula(time: Tensor) -> Tensor:
        part = time / _number(decay_steps, time)
        part = floor(part) if staircase else part
        return _number(initial, time) / (1.0 + _number(decay_rate, time) * part)

    return Schedule(formula, f"inverse_time_decay({initial}, {decay_steps}, {decay_rate})")


def _cosine(initial: Number, part: Tensor, height: Tensor | float, floor_part: Number) -> Tensor:
    """From `initial * height` at part 0 down to `initial * floor_part` at part 1, as a cosine."""
    low = _number(floor_part, part)
    wave = height * 0.5 * (1.0 + cos(math.pi * part))
    return _number(initial, part) * ((1.0 - low) * wave + low)


@trimmed
def cosine_decay(initial: Number, decay_steps: Number, alpha: Number = 0.0) -> Schedule:
    """Half a cosine from `initial` to `alpha * initial` over `decay_steps`, and there from then on.

    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    >>> cosine_decay(1.0, 100)(as_tensor(0)).eval()
    array(1., dtype=float32)
    """
    _positive("cosine_decay", decay_steps=decay_steps)

    def formula(time: Tensor) -> Tensor:
        part = minimum(time / _number(decay_steps, time), 1.0)
        return _cosine(initial, part, 1.0, alpha)

    return Schedule(formula, f"cosine_decay({initial}, {decay_steps}, {alpha})")


@trimmed
def cosine_restarts(
    initial: Number,
    first_decay_steps: Number,
    t_mul: float = 2.0,
    m_mul: float = 1.0,
    alpha: Number = 0.0,
) -> Schedule:
    """Cosine decays that start again: each `t_mul` times as long and `m_mul` times as high.

    SGDR, the paper of `cosine_decay`.

    >>> cosine_restarts(1.0, 10)(as_tensor(10)).eval()
    array(1., dtype=float32)
    """
    _positive("cosine_restarts", first_decay_steps=first_decay_steps, m_mul=m_mul)
    require(t_mul >= 1.0, "cosine_restarts", "t_mul must be at least 1", t_mul)
    slack = 1e-5  # so that a restart is not missed by rounding

    def formula(time: Tensor) -> Tensor:
        done = time / _number(first_decay_steps, time)
        if t_mul == 1.0:
            restart = floor(done + slack)
            part = done - restart
        else:
            restart = floor(log(1.0 + done * (t_mul - 1.0)) / math.log(t_mul) + slack)
            length = t_mul**restart
            part = (done - (length - 1.0) / (t_mul - 1.0)) / length
        return _cosine(initial, maximum(part, 0.0), m_mul**restart, alpha)

    return Schedule(formula, f"cosine_restarts({initial}, {first_decay_steps}, {t_mul}, {m_mul})")


@trimmed
def warmup(after: Number | Schedule, steps: Number, start: Number = 0.0) -> Schedule:
    """A straight line from `start` to the first rate of `after`, over `steps`; then `after` itself.

    `after` is a rate, or a schedule, which sees the steps since the warm-up. P. Goyal and others,
    "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    >>> warmup(1.0, steps=10)(as_tensor(5)).eval()
    array(0.5, dtype=float32)
    """
    _positive("warmup", steps=steps)
    schedule = after if isinstance(after, Schedule) else constant(after)

    def formula(time: Tensor) -> Tensor:
        length = _number(steps, time)
        rate = schedule(maximum(time - length, 0.0))
        part = minimum(time / length, 1.0)
        return where(part < 1.0, _number(start, time) * (1.0 - part) + rate * part, rate)

    return Schedule(formula, f"warmup({after}, {steps}, {start})")
