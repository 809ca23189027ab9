"""Many threads on one session: nothing is lost, nothing hangs, nothing is half written."""

import os
import random
import sys
import threading

import numpy as np
import pytest

import graphc as g
from graphc.runtime import function
from graphc.runtime.locks import ForkLock


@pytest.fixture(autouse=True)
def frequent_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(count, work):
    """Run `work(number)` in threads; what any of them raised is raised here."""
    faults = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if faults:
        raise faults[0]


def test_all_kinds_of_work_on_one_session(tmp_path):
    a, b = g.Variable(0.0, name="a"), g.Variable(0.0, name="b")
    both = g.group(g.assign_add(a, 1.0), g.assign_add(b, 1.0))
    x = g.placeholder("float64")
    total = g.sum(x * 2.0)
    slope = g.gradients(total, x)[0]
    written = [0] * 16

    def work(number):
        choices = random.Random(number)
        for step in range(15):
            shape = tuple(choices.choice([1, 2, 3]) for _ in range(choices.randrange(4)))
            value, dx = s.run([total + float(step), slope], {x: np.ones(shape)})
            assert value == 2 * np.prod(shape) + step and dx.shape == shape
            s.run(both)
            written[number] += 1
            first, second = s.run([a, b])
            assert first == second
            with pytest.raises(g.GraphcError):
                s.run(g.reshape(x, [7, -1]), {x: np.ones(3)})
            str(s.compile_report())
            if step % 5 == 0:
                s.save(tmp_path / "all.zip")

    with g.Session() as s:
        together(16, work)
        assert s.get(a) == sum(written)
    with g.Session() as s:
        s.restore(tmp_path / "all.zip", variables=[a, b])
        assert s.get(a) == s.get(b)


def test_restoring_and_initialising_are_never_seen_half_done(tmp_path):
    a, b = g.Variable(0.0, name="a"), g.Variable(0.0, name="b")
    both = g.group(g.assign_add(a, 1.0), g.assign_add(b, 1.0))

    def work(number):
        for _ in range(30):
            if number % 4 == 0:
                s.restore(tmp_path / "pair.zip", variables=[a, b])
            elif number % 4 == 1:
                s.run(both)
            elif number % 4 == 2:
                s.initialize([a, b])
            else:
                first, second = s.run([a, b])
                assert first == second

    with g.Session() as s:
        s.run(both)
        s.save(tmp_path / "pair.zip")
        together(8, work)


def test_a_session_closed_meanwhile_never_starts_anew():
    v = g.Variable(0.0)
    add = g.assign_add(v, 1.0)

    def work(number):
        try:
            for step in range(100):
                if number == 0 and step == 20:
                    s.close()
                if number % 2:
                    assert s.run(v) >= 5
                else:
                    s.run(add)
        except g.DeviceError as error:
            assert "closed" in str(error)

    for _ in range(5):
        s = g.Session()
        s.set(v, 5.0)
        together(6, work)


def test_threads_that_come_first_share_the_default_session():
    found = set()
    function._process_session.cache_clear()
    together(16, lambda _: found.add(function.default_session()))
    assert len(found) == 1


def test_a_jitted_function_may_call_itself_while_it_is_traced():
    inner = []

    @g.jit
    def double(x):
        if not inner:
            inner.append(None)
            inner[0] = double(np.ones((2, 2)))
        return x * 2.0

    together(1, lambda _: double(np.ones(3)))
    assert inner[0].shape == (2, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_lock_that_another_thread_held_at_a_fork_raises():
    lock, held, done = ForkLock(), threading.Event(), threading.Event()

    def hold():
        with lock():
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        try:
            with lock():
                os._exit(1)
        except g.DeviceError:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done.set()
    thread.join()
    assert status == 0
    with lock():
        pass
