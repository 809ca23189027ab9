"""Learning rates: fed, scheduled, as tensors; each schedule against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as g
from tests.optim_support import START, STEPS, adam, loop, problem, slopes


def test_the_rate_may_be_fed() -> None:
    rate = g.placeholder(g.float32, [], name="rate")
    w = g.Variable([1.0, 2.0], name="w")
    step = g.optim.SGD(rate).minimize(g.sum(w))
    with g.Session() as session:
        session.run(step, {rate: 0.5})
        session.run(step, {rate: 0.25})
        np.testing.assert_array_equal(session.get(w), [0.25, 1.25])
        with pytest.raises(g.FeedError, match="rate"):
            session.run(step)


def test_hyperparameters_may_be_tensors() -> None:
    beta = g.placeholder(g.float64, [], name="beta")
    variables, loss = problem()
    step = g.optim.Adam(g.Variable(0.001, trainable=False, dtype="float64"), beta).minimize(loss)
    assert {u.variable.name for u in step.updates if u.variable.trainable} == {"w", "b"}
    with g.Session() as session:
        for _ in range(STEPS):
            session.run(step, {beta: 0.9})
        for variable, expected in zip(variables, loop(adam()), strict=True):
            np.testing.assert_allclose(session.get(variable), expected, rtol=1e-10)


def test_a_schedule_follows_the_steps() -> None:
    variables, loss = problem()
    schedule = g.optim.exponential_decay(0.01, 5, 0.5)
    step = g.optim.SGD(schedule).minimize(loss)
    values = [np.array(v) for v in START]
    with g.Session() as session:
        for t in range(STEPS):
            session.run(step)
            rate = 0.01 * 0.5 ** (t / 5)
            values = [w - rate * d for w, d in zip(values, slopes(*values), strict=True)]
        for variable, expected in zip(variables, values, strict=True):
            np.testing.assert_allclose(session.get(variable), expected, rtol=1e-10)


def test_any_callable_is_a_schedule() -> None:
    w = g.Variable(1.0, name="w")
    step = g.optim.SGD(lambda t: g.where(t < 1, 0.5, 0.25)).minimize(w * 1.0)
    with g.Session() as session:
        for expected in (0.5, 0.25, 0.0):
            session.run(step)
            assert session.get(w) == expected


def cosine(part: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * part))


def restarts(t: int, first: int, longer: float, lower: float) -> float:
    length, height = float(first), 1.0
    while t >= length:
        t, length, height = t - int(length), length * longer, height * lower
    return height * cosine(t / length)


def stepped(t: int) -> float:
    return 1.0 if t <= 10 else 0.5 if t <= 20 else 0.1


SCHEDULES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "constant": (g.optim.constant(0.3), lambda t: 0.3),
    "exponential": (g.optim.exponential_decay(0.1, 7, 0.9), lambda t: 0.1 * 0.9 ** (t / 7)),
    "staircase": (
        g.optim.exponential_decay(0.1, 7, 0.9, staircase=True),
        lambda t: 0.1 * 0.9 ** (t // 7),
    ),
    "step": (g.optim.step_decay(1.0, 10), lambda t: 0.1 ** (t // 10)),
    "piecewise": (g.optim.piecewise_constant([10, 20], [1.0, 0.5, 0.1]), stepped),
    "polynomial": (
        g.optim.polynomial_decay(0.1, 30, 0.01, power=2.0),
        lambda t: 0.09 * (1 - min(t, 30) / 30) ** 2 + 0.01,
    ),
    "cycle": (
        g.optim.polynomial_decay(0.1, 30, 0.01, cycle=True),
        lambda t: 0.09 * (1 - t / (30 * max(1, math.ceil(t / 30)))) + 0.01,
    ),
    "inverse": (g.optim.inverse_time_decay(0.1, 5, 0.5), lambda t: 0.1 / (1 + 0.5 * t / 5)),
    "inverse_staircase": (
        g.optim.inverse_time_decay(0.1, 5, 0.5, staircase=True),
        lambda t: 0.1 / (1 + 0.5 * (t // 5)),
    ),
    "cosine": (
        g.optim.cosine_decay(0.1, 40, alpha=0.2),
        lambda t: 0.1 * (0.8 * cosine(min(t, 40) / 40) + 0.2),
    ),
    "restarts": (
        g.optim.cosine_restarts(0.1, 10, 2.0, 0.5),
        lambda t: 0.1 * restarts(t, 10, 2.0, 0.5),
    ),
    "even_restarts": (
        g.optim.cosine_restarts(0.1, 7, t_mul=1.0, m_mul=0.9),
        lambda t: 0.1 * restarts(t, 7, 1.0, 0.9),
    ),
    "warmup": (g.optim.warmup(0.1, 10, 0.01), lambda t: 0.01 + 0.09 * min(t / 10, 1)),
    "warmup_decay": (
        g.optim.warmup(g.optim.cosine_decay(0.1, 40), 10),
        lambda t: 0.1 * t / 10 if t < 10 else 0.1 * cosine(min(t - 10, 40) / 40),
    ),
}


@pytest.mark.parametrize("dtype", [g.int64, g.float64])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_their_formulas(name: str, dtype: Any) -> None:
    schedule, formula = SCHEDULES[name]
    step = g.placeholder(dtype, [], name="step")
    rate = schedule(step)
    assert rate.shape == () and rate.dtype is (g.float64 if dtype is g.float64 else g.float32)
    with g.Session() as session:
        found = [float(session.run(rate, {step: t})) for t in range(160)]
    tolerance = 1e-12 if dtype is g.float64 else 3e-6
    np.testing.assert_allclose(found, [formula(t) for t in range(160)], rtol=1e-5, atol=tolerance)


def test_wrong_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="one more than boundaries, got 2 and 2"):
        g.optim.piecewise_constant([1, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="boundaries must rise"):
        g.optim.piecewise_constant([2, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="decay_steps must be positive, got 0"):
        g.optim.exponential_decay(0.1, 0, 0.5)
    with pytest.raises(ValueError, match="t_mul must be at least 1"):
        g.optim.cosine_restarts(0.1, 10, t_mul=0.5)
    with pytest.raises(ValueError, match=r"warmup was called at test_schedules\.py:"):
        g.optim.warmup(0.1, steps=0)


def test_an_error_of_the_users_own_rate_keeps_its_frames() -> None:
    def rate(step: g.Tensor) -> float:
        raise ValueError("the user's")

    w = g.Variable(1.0)
    with pytest.raises(ValueError, match="the user's") as info:
        g.optim.SGD(rate).minimize(w * w)
    assert info.traceback[-1].name == "rate"
