"""Variables that stay with their program from run to run: the same values, whoever looks."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.runtime import prepared as runs
from graphc.runtime.cpu.residence import BRIEF

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(5, 8)).astype(np.float32), RNG.normal(size=(5, 1)).astype(np.float32)


def network(optimizer: Any, batch: Any = "batch") -> Any:
    """Fetches, feeds and variables of a training step."""
    random = np.random.default_rng(1)
    x, y = g.placeholder("float32", [batch, 8]), g.placeholder("float32", [batch, 1])
    w = g.Variable(random.normal(size=(8, 4)).astype(np.float32), name="w")
    b = g.Variable(np.zeros(4, np.float32), name="b")
    v = g.Variable(random.normal(size=(4, 1)).astype(np.float32), name="v")
    loss = g.mean((g.nn.relu(x @ w + b) @ v - y) ** 2)
    return [loss, optimizer.minimize(loss)], [x, y], [w, b, v]


def keeper(session: g.Session) -> Any:
    return session._state.values.keeper


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, programs keep nothing."""
    monkeypatch.setattr(runs.Keeper, "of", lambda *_: None)


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("make", [lambda: g.optim.SGD(0.1), lambda: g.optim.Adam(0.01)])
def test_training_has_the_bits_that_it_has_otherwise(
    make: Any, look: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for keeps in (True, False):
        if not keeps:
            without(monkeypatch)
        fetches, feeds, variables = network(make())
        with g.Session() as s:
            step, losses = s.prepare(fetches, feeds), []
            for n in (5, 4, 5, 5, 3, 5, 2, 5):
                losses.append(step(X[:n], Y[:n])[0])
                if look:
                    s.get(variables[0])
            assert (keeper(s) is not None) is (keeps and not look)
            found.append([*losses, *map(s.get, variables)])
            assert keeper(s) is None
    for kept, other in zip(*found, strict=True):
        np.testing.assert_array_equal(kept, other)


def test_random_numbers_are_those_of_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for keeps in (True, False):
        if not keeps:
            without(monkeypatch)
        v = g.Variable(np.zeros(6, np.float32))
        step = g.assign_add(v, g.random.normal([6], name="noise"))
        with g.Session(seed=3) as s:
            run = s.prepare([step], [])
            for _ in range(5):
                run()
            found.append(s.get(v))
    np.testing.assert_array_equal(*found)


def test_whoever_reads_or_writes_in_between_sees_and_changes_the_newest(tmp_path: Any) -> None:
    a, b = g.Variable(0.0, name="a"), g.Variable(10.0, name="b")
    both = g.group(g.assign_add(a, 1.0), g.assign_sub(b, 1.0))
    with g.Session() as s:
        step, read = s.prepare([both], []), s.prepare([a, b, a + b], [])

        def steps(n: int) -> None:
            for _ in range(n):
                step()

        steps(4)
        assert keeper(s) is not None
        assert read() == [4, 6, 10]
        steps(2)
        assert s.run([a, b]) == [6, 4]
        steps(2)
        s.set(a, 100.0)
        steps(1)
        assert (s.get(a), s.get(b)) == (101, 1)
        steps(1)
        s.save(tmp_path / "values")
        steps(1)
        s.restore(tmp_path / "values")
        assert (s.get(a), s.get(b)) == (102, 0)
        steps(3)
        s.initialize([a])
        assert (s.get(a), s.get(b)) == (0, -3)
        steps(3)
        profile = s.profile([both])
        assert profile.rows and s.run([a, b]) == [3, -6]


def test_two_programs_write_the_same_variables_in_turn() -> None:
    a, b = g.Variable(1.0), g.Variable(2.0)
    with g.Session() as s:
        swap = s.prepare([g.group(g.assign(a, b * 1.0), g.assign(b, a * 1.0))], [])
        double = s.prepare([g.assign(a, a + a)], [])
        for _ in range(3):
            swap()
            swap()
            swap()
            double()
            double()
        assert s.run([a, b]) == [32, 4]


def test_a_fault_leaves_all_values_as_they_were() -> None:
    v, count = g.Variable(np.arange(4, dtype=np.float32)), g.Variable(0.0)
    at = g.placeholder("int32", [])
    update = g.group(g.assign_add(count, 1.0), g.assign(v, v + g.take(v, at)))
    with g.Session() as s:
        step = s.prepare([g.sum(v), update], [at])
        for _ in range(3):
            step(0)
        with pytest.raises(g.ShapeError, match="out of range"):
            step(7)
        assert keeper(s) is not None
        step(1)
        assert s.get(count) == 4
        np.testing.assert_array_equal(s.get(v), np.arange(4) + 1)


def test_sizes_that_need_more_memory_or_more_work_keep_the_values() -> None:
    fetches, feeds, variables = network(g.optim.SGD(0.01))
    plain, plain_feeds, plain_variables = network(g.optim.SGD(0.01))
    most = BRIEF // 16  # rows: too much work to hold others up
    x, y = RNG.normal(size=(most, 8)).astype(np.float32), np.ones((most, 1), np.float32)
    with g.Session() as s, g.Session() as other:
        step = s.prepare(fetches, feeds)
        for n in (2, 3, 5, 70, 9, 100, most, 3, 2, most, 110, 4):
            step(x[:n], y[:n])
            assert n == 2 or (keeper(s) is None) is (n == most)
            other.run(plain, dict(zip(plain_feeds, (x[:n], y[:n]), strict=True)))
            other.run(plain_variables)
        for mine, theirs in zip(variables, plain_variables, strict=True):
            np.testing.assert_array_equal(s.get(mine), other.get(theirs))


def test_readers_of_other_threads_see_updates_as_a_whole() -> None:
    a, b = g.Variable(np.zeros(9, np.float32)), g.Variable(np.zeros(9, np.float32))
    wrong: list[Any] = []
    with g.Session() as s:
        step = s.prepare([g.group(g.assign_add(a, 1.0), g.assign_add(b, 1.0))], [])
        read, done = s.prepare(g.sum(g.abs(a - b)), []), threading.Event()

        def look() -> None:
            while not done.is_set():
                if read() != 0:
                    wrong.append(s.run([a, b]))

        threads = [threading.Thread(target=look) for _ in range(3)]
        writers = [threading.Thread(target=lambda: [step() for _ in range(700)]) for _ in range(2)]
        for thread in [*threads, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in threads:
            thread.join()
        assert not wrong
        np.testing.assert_array_equal(s.get(a), np.full(9, 1400, np.float32))


def test_a_run_inside_of_a_run_of_the_same_thread() -> None:
    v = g.Variable(1.0)
    with g.Session() as s:
        step = s.prepare([v * 3.0, g.assign(v, v * 2.0)], [])
        for _ in range(3):
            step()
        residence = keeper(s)._residence
        inner, calls = residence.run, itertools.count()

        def run(*arguments: Any) -> Any:
            if next(calls) == 0:
                assert step()[0] == 24  # a handler of a signal, say
                assert s.get(v) == 16
            return inner(*arguments)

        residence.run = run
        assert step()[0] == 24
        assert s.get(v) == 16  # the outer one lands last, as it had read 8
        assert step()[0] == 48 and s.get(v) == 32


def test_closing_forgets_what_is_kept() -> None:
    v = g.Variable(1.0)
    s = g.Session()
    step = s.prepare([g.assign(v, v * 2.0)], [])
    for _ in range(3):
        step()
    s.close()
    with pytest.raises(g.DeviceError, match="closed"):
        step()


def test_what_is_only_read_may_be_large_and_of_any_order() -> None:
    table = RNG.normal(size=(300, 200)).astype(np.float32)
    big, v = g.Variable(table), g.Variable(np.zeros(200, np.float32))
    x = g.placeholder("float32", [None, 300])
    step = g.assign_add(v, g.sum(x @ big, axis=0))
    rows = RNG.normal(size=(2, 300)).astype(np.float32)
    with g.Session() as s:
        run = s.prepare([step], [x])
        total = np.zeros(200, np.float64)
        for i in range(6):
            if i % 2:
                s.set(big, np.asfortranarray(table * i))
            run(rows)
            total += (rows.astype(np.float64) @ s.get(big)).sum(axis=0)
            run(rows)
            total += (rows.astype(np.float64) @ s.get(big)).sum(axis=0)
        assert keeper(s) is None
        np.testing.assert_allclose(s.get(v), total, rtol=1e-4, atol=1e-3)


def test_a_variable_that_is_written_and_not_read_is_kept_by_nobody() -> None:
    v, x = g.Variable(np.zeros(3, np.float32)), g.placeholder("float32", [3])
    with g.Session() as s:
        step = s.prepare([g.assign(v, x * 2.0)], [x])
        for i in range(3):
            step(np.full(3, i, np.float32))
        assert keeper(s) is None and s.get(v).tolist() == [4, 4, 4]
