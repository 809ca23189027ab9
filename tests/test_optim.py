"""Optimisers against hand-written NumPy loops: rules, dtypes, slots, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.optim import curvature
from tests.optim_support import (
    ADADELTA,
    CASES,
    OPTIMISERS,
    START,
    STEPS,
    Array,
    height,
    hessian_times,
    loop,
    problem,
    slopes,
    train,
)


@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_are_those_of_the_paper(case: str) -> None:
    optimiser, rule = CASES[case]
    for found, expected in zip(train(optimiser(), STEPS), loop(rule), strict=True):
        assert np.abs(found - START[0 if found.ndim else 1]).max() > 1e-4  # it did move
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_esgd_divides_by_the_rows_of_the_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    noise: list[Any] = []

    def normal(shape: Any, dtype: Any, name: str) -> Any:
        noise.append(g.placeholder(dtype, shape, name=name))
        return noise[-1]

    monkeypatch.setattr(curvature, "normal", normal)
    variables, loss = problem()
    step = g.optim.ESGD(0.01, damping=0.1).minimize(loss)
    rng = np.random.default_rng(3)
    values, sums = [np.array(v) for v in START], [np.zeros(3), np.zeros(())]
    with g.Session() as session:
        for t in range(1, STEPS + 1):
            z = [rng.normal(size=3), rng.normal(size=())]
            session.run(step, dict(zip(noise, z, strict=True)))
            product = hessian_times(*values, z)
            sums = [s + p**2 for s, p in zip(sums, product, strict=True)]
            values = [
                w - 0.01 * d / (np.sqrt(s / t) + 0.1)
                for w, d, s in zip(values, slopes(*values), sums, strict=True)
            ]
        for variable, expected in zip(variables, values, strict=True):
            np.testing.assert_allclose(session.get(variable), expected, rtol=1e-10)


RATES = (0.01, 0.01, 0.02, 0.5, 20.0, 0.05, 0.05, 0.05, 0.05, 0.01, 0.1)


@pytest.mark.parametrize("position", range(len(OPTIMISERS)))
def test_every_optimiser_reaches_the_minimum(position: int) -> None:
    _, loss = problem()
    train_step = OPTIMISERS[position](RATES[position]).minimize(loss)
    newton_w, newton_b = START
    for _ in range(50):
        matrix = np.zeros((4, 4))
        for i, unit in enumerate(np.eye(4)):
            matrix[:, i] = np.append(*hessian_times(newton_w, newton_b, [unit[:3], unit[3]]))
        move = np.linalg.solve(matrix, np.append(*slopes(newton_w, newton_b)))
        newton_w, newton_b = newton_w - move[:3], newton_b - move[3]
    best = height(newton_w, newton_b)
    with g.Session(seed=0) as session:
        before = float(session.run(loss))
        for _ in range(400):
            session.run(train_step)
        after = float(session.run(loss))
    assert after - best < 0.02 * (before - best)


# ---------------------------------------------------------------------------- dtypes and state


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("position", range(len(OPTIMISERS)))
def test_numbers_widen_nothing(dtype: Any, position: int) -> None:
    variables, loss = problem(dtype)
    optimiser = OPTIMISERS[position](10.0 if position == ADADELTA else 0.1)
    counter = optimiser.step
    step = optimiser.minimize(loss)
    kept = {u.variable.dtype for u in step.updates if u.variable is not counter}
    assert kept == {variables[0].dtype}
    assert all(u.value.dtype is u.variable.dtype for u in step.updates)
    with g.Session(seed=0) as session:
        session.run(step)
        values = [session.get(u.variable) for u in step.updates]
    assert all(np.isfinite(v).all() for v in values)
    assert values[0].dtype == dtype
    assert not np.array_equal(values[0], START[0].astype(dtype))


@pytest.mark.parametrize("position", range(len(OPTIMISERS) - 1))  # ESGD's noise has its dtype
def test_float32_follows_float64(position: int) -> None:
    make = OPTIMISERS[position]
    narrow, wide = train(make(0.001), 10, np.float32), train(make(0.001), 10)
    for a, b in zip(narrow, wide, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("position", range(len(OPTIMISERS)))
def test_training_goes_on_after_restore(position: int, tmp_path: Any) -> None:
    _, loss = problem()
    optimiser = OPTIMISERS[position](0.01)
    counter = optimiser.step
    step = optimiser.minimize(loss)
    assert step.updates[-1].variable is counter
    noiseless = OPTIMISERS[position] is not g.optim.ESGD

    def run(session: g.Session, steps: int) -> list[Array]:
        for _ in range(steps):
            session.run(step)
        return [session.get(u.variable) for u in step.updates]

    with g.Session(seed=3) as session:
        whole = run(session, 10)
    with g.Session(seed=3) as session:
        half = run(session, 5)
        session.save(tmp_path / "half.zip")
    with g.Session(seed=3) as session:
        session.restore(tmp_path / "half.zip")
        for variable, value in zip((u.variable for u in step.updates), half, strict=True):
            np.testing.assert_array_equal(session.get(variable), value)
        resumed = run(session, 5)
    assert int(resumed[-1]) == 10
    if noiseless:
        for a, b in zip(whole, resumed, strict=True):
            np.testing.assert_array_equal(a, b)


def test_slots_are_named_after_their_variable_and_stay_out_of_training() -> None:
    with g.name_scope("layer"):
        w = g.Variable([1.0, 2.0], name="w")
    loss = g.sum(w * w)
    optimiser = g.optim.Adam(0.1)
    with g.name_scope("training"):
        optimiser.minimize(loss)
    slots = optimiser.slots(w)
    assert {k: v.name for k, v in slots.items()} == {
        "m": "layer/w/adam/m",
        "v": "layer/w/adam/v",
    }
    assert not any(v.trainable for v in optimiser.variables)
    assert optimiser.variables == [optimiser.step, *slots.values()]
    assert (optimiser.step.name, optimiser.step.dtype) == ("adam/step", g.int64)
    assert g.optim.Adam(0.1, name="other").step.name == "other/step"


def test_slots_are_made_once_for_all_applications() -> None:
    w = g.Variable([1.0, 2.0], name="w")
    optimiser = g.optim.SGD(0.1, momentum=0.9)
    counter = optimiser.step
    first = optimiser.minimize(g.sum(w * w))
    second = optimiser.minimize(g.sum(w * w * w))
    assert [u.variable for u in first.updates] == [u.variable for u in second.updates]
    with g.Session() as session:
        session.run(first)
        session.run(second)
        assert int(session.get(counter)) == 2


def test_steps_are_counted_only_where_something_reads_them() -> None:
    w = g.Variable([1.0, 2.0], name="w")
    loss = g.sum(w * w)
    plain = g.optim.SGD(0.1)
    assert [u.variable for u in plain.minimize(loss).updates] == [w]
    assert plain.variables == []
    with pytest.raises(g.FetchError, match="step must be asked for before minimize"):
        _ = plain.step
    for optimiser in (
        g.optim.SGD(g.optim.step_decay(0.1, 10)), g.optim.SGD(lambda step: 0.1), g.optim.Adam(0.1)
    ):  # fmt: skip
        with g.name_scope("training"):
            updates = optimiser.minimize(loss).updates
        assert updates[-1].variable is optimiser.step
        assert optimiser.step.name == f"{optimiser.name}/step"


def test_a_frozen_variable_is_left_alone() -> None:
    w, frozen = g.Variable(1.0, name="w"), g.Variable(2.0, trainable=False, name="frozen")
    step = g.optim.SGD(0.1).minimize(w * frozen)
    assert [u.variable.name for u in step.updates] == ["w"]
    named = g.optim.SGD(0.1).minimize(w * frozen, [frozen])
    assert [u.variable.name for u in named.updates] == ["frozen"]


def test_only_variables_that_the_gradient_reaches_are_trained() -> None:
    w, cut, apart = (g.Variable(1.0, name=n) for n in ("w", "cut", "apart"))
    step = g.optim.SGD(0.1).minimize(w * g.stop_gradient(cut * 2.0))
    assert [u.variable for u in step.updates] == [w]
    with pytest.raises(g.GradientError, match=r'"w"(.|\n)*cut by stop_gradient'):
        g.optim.SGD(0.1).minimize(g.stop_gradient(w) * 2.0)
    with pytest.raises(g.GradientError, match="must depend on a trainable variable"):
        g.optim.SGD(0.1).minimize(g.sum(g.placeholder(g.float32, [3])))
    with pytest.raises(g.DTypeError, match="only floats have gradients"):
        g.optim.SGD(0.1).minimize(g.sum(g.Variable([1, 2])))
    with pytest.raises(g.GradientError, match="apart"):
        g.optim.SGD(0.1).minimize(w * 2.0, [apart])


def test_a_loss_of_unknown_rank_trains() -> None:
    x = g.placeholder(g.float32)
    w = g.Variable([1.0, 2.0], name="w")
    step = g.optim.Adam(0.1).minimize(g.mean((x * w - 1.0) ** 2))
    with g.Session() as session:
        session.run(step, {x: np.ones((5, 2), np.float32)})
        np.testing.assert_allclose(session.get(w), [1.0, 1.9], atol=1e-5)


def test_zero_gradients_make_no_nan() -> None:
    for make in OPTIMISERS:
        w = g.Variable([1.0, 2.0], name="w")
        step = make(0.1).minimize(g.sum(w * 0.0))
        with g.Session(check="nan", seed=0) as session:
            for _ in range(3):
                session.run(step)
            assert np.isfinite(session.get(w)).all()


# ---------------------------------------------------------------------------- errors


def test_two_optimisers_must_not_write_one_variable_in_one_run() -> None:
    w = g.Variable(1.0, name="w")
    first, second = g.optim.SGD(0.1).minimize(w * w), g.optim.Adam(0.1).minimize(w * w)
    with g.Session() as session, pytest.raises(g.FetchError, match="w"):
        session.run([first, second])


def test_wrong_losses_and_variables_are_refused() -> None:
    w, n = g.Variable([1.0, 2.0], name="w"), g.Variable(1, name="n")
    optimiser = g.optim.SGD(0.1)
    with pytest.raises(g.ShapeError, match=r"the loss must be a scalar, got f32\[2\]"):
        optimiser.minimize(w * w)
    with pytest.raises(g.DTypeError, match="the loss must be a tensor, got float"):
        optimiser.minimize(1.0)  # type: ignore[arg-type]
    with pytest.raises(g.DTypeError, match=r'only floats have gradients, got i64(.|\n)*"n"'):
        optimiser.minimize(g.sum(w), [w, n])
    with pytest.raises(g.DTypeError, match="only Variables can be trained"):
        optimiser.minimize(g.sum(w), [w * 2.0])  # type: ignore[list-item]
    with pytest.raises(g.GradientError, match="given only once"):
        optimiser.minimize(g.sum(w), [w, w])
    with pytest.raises(g.GradientError, match="at least one variable must have a gradient"):
        optimiser.apply([(None, w)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="SGD: learning_rate must not be negative, got -1") as info:
        g.optim.SGD(-1.0)
    assert "SGD was called at test_optim.py:" in str(info.value)
    assert len(info.traceback) == 2, "graphc's own frames are left behind"
    with pytest.raises(ValueError, match="Adam: beta_2 must be at least 0 and less than 1"):
        g.optim.Adam(beta_2=1.0)


@pytest.mark.parametrize("size", ["batch", 5, None])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_column_minus_a_row_is_refused_in_a_loss(size: Any, swapped: bool) -> None:
    x, y = g.placeholder(g.float32, [size, 3]), g.placeholder(g.float32, [size], name="y")
    w = g.Variable(np.zeros((3, 1), np.float32), name="w")
    error = y - x @ w if swapped else x @ w - y
    with pytest.raises(g.ShapeError) as caught:
        g.optim.SGD(0.1).minimize(g.mean(error**2))
    text = str(caught.value)
    assert text.startswith("subtract: both sides of a loss must have one shape (")
    assert "would broadcast silently" in text and 'placeholder "y" (test_optim.py:' in text
    g.optim.SGD(0.1).minimize(g.mean(((x @ w)[:, 0] - y) ** 2))


def test_one_variable_needs_no_list() -> None:
    w, b = g.Variable([[1.0, 2.0]], name="w"), g.Variable(0.0, name="b")
    with g.Session() as session:
        session.run(g.optim.SGD(0.5).minimize(g.sum(w) + b, w))
        np.testing.assert_array_equal(session.get(w), [[0.5, 1.5]])
        assert session.get(b) == 0


def test_pairs_that_are_meant_are_let_pass() -> None:
    x = g.Variable(np.arange(4.0), name="x")
    wide, single = g.Variable(np.ones((4, 1)), name="wide"), g.Variable(np.ones((1, 1)), name="one")
    differences = [x[:, None] - x, x.reshape([4, 1]) - x, g.sum(wide * x, 1, keepdims=True) - x]
    column, row = g.placeholder("float32", ["n", 1]), g.placeholder("float32", ["m"])
    differences += [column * x[0] - row]
    differences += [wide - g.constant(np.ones(3)), wide - 1.0, single - g.constant(np.ones(1))]
    for difference in differences:
        g.optim.SGD(0.1).minimize(g.sum(difference**2))
