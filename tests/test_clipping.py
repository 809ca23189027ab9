"""Clipping by norm, by common norm, by value; and between an optimiser's two halves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import graphc as g
from tests.optim_support import START, problem, slopes


def test_clip_by_norm() -> None:
    with g.Session() as session:
        for value in ([3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [[1.0, 2.0], [3.0, 4.0]]):
            array = np.array(value)
            size = np.sqrt((array**2).sum())
            found = session.run(g.optim.clip_by_norm(array, 1.0))
            np.testing.assert_allclose(found, array / max(size, 1.0), rtol=1e-14)
        rows = np.array([[3.0, 4.0], [0.3, 0.4]])
        found = session.run(g.optim.clip_by_norm(rows, 1.0, axis=1))
        np.testing.assert_allclose(found, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-14)


def test_clip_by_norm_has_a_gradient_at_zero_and_elsewhere() -> None:
    x = g.placeholder(g.float64, [3], name="x")
    y = g.sum(g.optim.clip_by_norm(x, 1.0) * np.array([1.0, 2.0, 3.0]))
    [slope] = g.gradients(y, [x])
    with g.Session() as session:
        np.testing.assert_array_equal(session.run(slope, {x: np.zeros(3)}), [1.0, 2.0, 3.0])
    assert g.check_gradient(y, x, {x: [1.0, -2.0, 0.5]}).ok


def test_clip_by_global_norm() -> None:
    parts = [np.array([3.0, 0.0]), np.array([[0.0, 4.0]])]
    clipped, size = g.optim.clip_by_global_norm(parts, 2.5)
    within, _ = g.optim.clip_by_global_norm(parts, 10.0)
    broken, infinite = g.optim.clip_by_global_norm([*parts, np.array([np.inf])], 1.0)
    with g.Session() as session:
        assert session.run(size) == 5.0
        for a, b in zip(session.run(clipped), parts, strict=True):
            np.testing.assert_allclose(a, b / 2, rtol=1e-14)
        for a, b in zip(session.run(within), parts, strict=True):
            np.testing.assert_array_equal(a, b)
        assert np.isinf(session.run(infinite))
        assert all(np.isnan(a).all() for a in session.run(broken))


def test_half_precision_norms_do_not_overflow() -> None:
    value = np.array([3000.0, 4000.0], np.float16)
    clipped, size = g.optim.clip_by_global_norm([value], 5.0)
    with g.Session() as session:
        assert session.run(size) == 5000.0
        assert session.run(clipped[0]).dtype == np.float16
        np.testing.assert_allclose(session.run(clipped[0]), [3.0, 4.0], rtol=1e-3)


def test_clip_by_value() -> None:
    with g.Session() as session:
        found = session.run(g.optim.clip_by_value(np.array([-3.0, 0.5, 3.0, np.nan]), -1, 1))
    np.testing.assert_array_equal(found, [-1.0, 0.5, 1.0, np.nan])


def test_integers_have_no_norm_to_clip() -> None:
    with pytest.raises(g.DTypeError, match=r"only floats can be clipped by norm, got i64\[2\]"):
        g.optim.clip_by_norm(np.array([1, 2]), 1.0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"clip_value": 1.0}, [1.0, -0.5, 1.0]),
        ({"clip_norm": 1.0}, [3 / math.hypot(3, 0.5), -0.5 / math.hypot(3, 0.5), 1.0]),
        ({"global_clip_norm": 1.0}, [d / math.sqrt(25.25) for d in (3.0, -0.5, 4.0)]),
    ],
)
def test_optimisers_clip(options: Any, expected: list[float]) -> None:
    w, b = (g.Variable(np.zeros(n), name=k) for n, k in ((2, "w"), ((), "b")))
    loss = g.sum(w * np.array([3.0, -0.5])) + 4.0 * b
    step = g.optim.SGD(1.0, **options).minimize(loss)
    with g.Session() as session:
        session.run(step)
        found = np.append(session.get(w), session.get(b))
    np.testing.assert_allclose(found, -np.array(expected), rtol=1e-12)


def test_gradients_can_be_changed_between_the_halves() -> None:
    variables, loss = problem()
    optimiser = g.optim.SGD(0.01)
    pairs = [(2.0 * d, v) for d, v in optimiser.gradients(loss)]
    assert [v for _, v in pairs] == variables
    step = optimiser.apply([*pairs])
    with g.Session() as session:
        session.run(step)
        for variable, start, d in zip(variables, START, slopes(*START), strict=True):
            np.testing.assert_allclose(session.get(variable), start - 0.02 * d, rtol=1e-12)
