"""Contexts: sizes that change, memory that is planned and given back, threads, closing, forks."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.runtime.cpu import context as contexts
from graphc.runtime.cpu.device import CpuDevice
from graphc.runtime.cpu.program import CpuProgram
from graphc.runtime.device import Environment
from tests.cpu_support import graph_of
from tests.support import ENTROPY_WORDS

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Any:
    return g.Variable((0.06 * RNG.normal(size=shape)).astype(np.float32))


def program(build: Callable[[Any], Any]) -> CpuProgram:
    x = g.placeholder("float32", ["n", 8])
    found = CpuDevice().compile(graph_of(build(x), inputs=(x,)))
    assert isinstance(found, CpuProgram)
    return found


def run(made: CpuProgram, n: int) -> Any:
    sizes = dict.fromkeys(made.recipe.symbols, n)
    [result] = made.run([np.ones((n, 8), np.float32)], Environment(sizes, {}, ENTROPY_WORDS))
    return result


def cascade(x: Any) -> Any:
    """Intermediates that nothing fuses away."""
    for _ in range(3):
        x = g.nn.relu(g.matmul(x, g.constant(np.eye(8, dtype=np.float32))) * 2.0)
        x = x - g.sum(x, axis=0)
    return g.sum(x, axis=1)


# ---------------------------------------------------------------------------- sizes


def test_a_thousand_sizes_are_one_compilation_and_right() -> None:
    x = g.placeholder("float32", ["batch", 12])
    w, b = weights(12, 5), weights(5)
    y = g.nn.softmax(x @ w + b)
    rows = RNG.normal(size=(1001, 12)).astype(np.float32)
    with g.Session() as s:
        run_one = s.prepare([y, g.sum(y)], [x])
        want = s.run(y, {x: rows})
        for n in RNG.permutation(np.arange(2, 1002)).tolist():
            got, total = run_one(rows[:n])
            np.testing.assert_allclose(got, want[:n], rtol=1e-5, atol=1e-6)
            assert total == pytest.approx(n, rel=1e-4)
        counts = [row for row in s.compile_report().rows if "sizes" in row.reason]
        assert counts == []


def test_sizes_shrink_grow_and_vanish() -> None:
    made = program(cascade)
    for n in (3, 4000, 1, 0, 17, 4001, 9000, 2, 4000):
        result = run(made, n)
        assert result.shape == (n,) and not result.any()


def test_a_size_that_no_machine_has_leaves_the_program_whole() -> None:
    made = program(cascade)
    run(made, 4)
    key = dict.fromkeys(made.recipe.symbols, 2**61)
    with pytest.raises(g.DeviceError, match="out of memory"):
        made.run([np.ones((4, 8), np.float32)], Environment(key, {}, ENTROPY_WORDS))
    with pytest.raises(g.DeviceError, match="out of memory"):
        made.memory(key)
    assert run(made, 4).shape == (4,)


# ---------------------------------------------------------------------------- memory


def test_a_block_that_runs_do_not_need_any_more_is_given_back() -> None:
    made = program(cascade)
    run(made, 200_000)
    [context] = made._idle
    large = len(context.block)
    assert large > contexts.GENEROUS
    for _ in range(contexts.PATIENCE // 2):
        run(made, 5)
    run(made, 200_000)  # so that it starts to wait anew
    for _ in range(contexts.PATIENCE - 1):
        run(made, 5)
    assert len(context.block) == large
    for _ in range(2):
        run(made, 5)
    assert len(context.block) < large // 10
    assert run(made, 200_000).shape == (200_000,)


def test_no_old_value_of_a_variable_is_kept() -> None:
    for count in (10, 100_000):
        v = g.Variable(np.zeros(count, np.float32))
        step = g.assign(v, v + 1.0)
        with g.Session() as s:
            values = []
            for _ in range(4):
                s.run(step)
                s.run(g.sum(v))
                values.append(weakref.ref(s._state.values[v]))
            gc.collect()
            assert [ref() is not None for ref in values] == [False, False, False, True]


def dense(checkpoint: bool, layers: int) -> tuple[Any, Any]:
    """A deep network with its gradients, by layers of 128."""
    x = g.placeholder("float32", ["batch", 128])

    def block(h: Any, matrices: list[Any]) -> Any:
        for matrix in matrices:
            h = g.tanh(h @ matrix)
        return h

    h: Any = x
    for _ in range(layers // 4):
        matrices = [weights(128, 128) for _ in range(4)]
        h = g.checkpoint(lambda h, m=matrices: block(h, m))(h) if checkpoint else block(h, matrices)
    return g.optim.SGD(0.1).minimize(g.mean(h**2)), x


def convolutions() -> tuple[Any, Any]:
    """A small convolution network."""
    x = g.placeholder("float32", ["batch", 14, 14, 3])
    h = g.nn.relu(g.nn.conv2d(x, weights(3, 3, 3, 16)))
    h = g.nn.max_pool2d(g.nn.relu(g.nn.conv2d(h, weights(3, 3, 16, 16))), 2)
    loss = g.mean((h.reshape([-1, 400]) @ weights(400, 10)) ** 2)
    return g.optim.SGD(0.1).minimize(loss), x


def peaks(step: Any, x: Any, batch: int) -> tuple[int, int]:
    """What the plan says, and what the first run allocates."""
    feed = RNG.normal(size=(batch, *x.shape[1:])).astype(np.float32)
    with g.Session() as s:
        plan = s.memory_plan(step, {"batch": batch})
        run_one = s.prepare(step, [x])
        for fetch_set, _ in s._sets.values():
            s.run([g.sum(v) for v in fetch_set.variables])  # so that they have values
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        run_one(feed)
        most = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    return plan.total, most


def test_the_plan_of_memory_is_what_a_run_takes() -> None:
    for step, x in (dense(False, 4), dense(False, 24), dense(True, 24), convolutions()):
        planned, measured = peaks(step, x, 512)
        assert planned > 1e6
        assert measured == pytest.approx(planned, rel=0.05)


def test_checkpoints_lower_the_peak() -> None:
    plain, lower_peak = (peaks(*dense(checkpoint, 24), 1024)[1] for checkpoint in (False, True))
    assert lower_peak < 0.7 * plain


# ---------------------------------------------------------------------------- threads


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run it so many times at once; the first error is raised here."""
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_sixteen_threads_run_one_session_with_sizes_of_their_own() -> None:
    x = g.placeholder("float32", ["n", 64])
    w = weights(64, 64)
    y = g.tanh(x @ w) @ w
    with g.Session() as s:
        matrix = s.get(w)

        def work(number: int) -> None:
            for turn in range(12):
                n = 1 + (37 * number + 101 * turn) % 300
                a = np.full((n, 64), (number + 1) / 16, np.float32)
                want = np.tanh(a @ matrix) @ matrix
                np.testing.assert_allclose(s.run(y, {x: a}), want, rtol=1e-3, atol=1e-4)

        in_threads(16, work)


def test_no_update_of_sixteen_threads_is_lost() -> None:
    x = g.placeholder("float32", ["n"])
    total = g.Variable(np.zeros(1000, np.float32))
    add = g.assign_add(total, g.zeros([1000]) + g.sum(x))
    with g.Session() as s:
        in_threads(16, lambda i: [s.run(add, {x: np.ones(n)}) for n in (1, i + 1, 2)] and None)
        assert (s.get(total) == 16 * 3 + sum(range(1, 17))).all()


def test_a_session_may_be_closed_while_others_run() -> None:
    x = g.placeholder("float32", ["n", 128])
    w = weights(128, 128)
    y = g.sum(g.tanh(x @ w), axis=1)
    step = g.assign(w, w * 0.5)
    for _ in range(3):
        session = g.Session()
        session.run(y, {x: np.ones((4, 128))})
        done = []

        def work(number: int, session: Any = session, done: list[int] = done) -> None:
            for n in range(1, 10_000):
                try:
                    fetches = step if number == 0 else y
                    session.run(fetches, {x: np.ones((n % 50, 128))})
                except g.DeviceError as error:
                    assert "closed" in str(error)
                    done.append(number)
                    return

        timer = threading.Timer(0.2, session.close)
        timer.start()
        in_threads(6, work)
        timer.join()
        assert sorted(done) == list(range(6))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_threads_run_leaves_a_child_that_runs_or_raises() -> None:
    x = g.placeholder("float32", ["n", 200])
    w = weights(200, 200)
    y = g.sum(g.tanh(x @ w) @ w)
    step = [y, g.assign(w, w * 0.99)]
    with g.Session() as s:
        s.run(step, {x: np.ones((300, 200))})
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                s.run(step, {x: np.ones((300, 200))})

        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            codes = [forked(lambda: s.run(y, {x: np.ones((300, 200))})) for _ in range(5)]
        finally:
            stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert set(codes) <= {0, 3}


def forked(work: Callable[[], Any]) -> int:
    """The exit status of a child that does something: 0, or 3 for a DeviceError."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except g.DeviceError:
            code = 3
        finally:
            os._exit(code)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")
