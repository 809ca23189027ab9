"""The worker pool: every chunk once, whoever calls, forks, nests, raises or leaves."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from graphc.runtime.cpu import cores, pool_code, threads
from graphc.runtime.cpu.cores import cpu_quota, thread_count
from graphc.runtime.cpu.jit import compile_module
from graphc.runtime.cpu.target import host
from graphc.runtime.cpu.threads import BODY, Pool, pool

BODIES = """
declare void @graphc_parallel_for(ptr, ptr, i64, i64)

define void @count(ptr %counts, i64 %begin, i64 %end) {
entry:
  br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%following, %loop]
  %place = getelementptr i64, ptr %counts, i64 %i
  %old = load i64, ptr %place
  %new = add i64 %old, 1
  store i64 %new, ptr %place
  %following = add i64 %i, 1
  %more = icmp slt i64 %following, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}

define void @repeat(ptr %counts, i64 %count, i64 %grain, i64 %times) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%following, %loop]
  call void @graphc_parallel_for(ptr @count, ptr %counts, i64 %count, i64 %grain)
  %following = add i64 %i, 1
  %more = icmp slt i64 %following, %times
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path_factory.getbasetemp() / "threads-cache"))


@pytest.fixture(params=[True, False], ids=["futex", "polling"])
def crew(request):
    if request.param and not pool_code.sleeps_on_futex():
        pytest.skip("this system has no futex")
    made = Pool(5, futex=request.param)
    made.start()
    yield made
    made.stop()


def native(crew):
    """`repeat(counts, count, grain, times)` over this pool, and the address of its body."""
    library = compile_module(BODIES, host(), symbols=crew.symbols())
    size = ctypes.c_int64
    repeat = library.function("repeat", None, ctypes.c_void_p, size, size, size)
    return repeat, library.address("count")


def chunks(crew, count, grain, limit=0):
    """The chunks that a Python body sees, and the threads that it sees them on."""
    seen = []
    body = BODY(lambda _, begin, end: seen.append((begin, end, threading.get_ident())))
    crew.parallel_for(body, None, count, grain, limit)
    return sorted(chunk[:2] for chunk in seen), {chunk[2] for chunk in seen}


# --------------------------------------------------------------------------------------- the chunks


@pytest.mark.parametrize("many", [1, 2, 5])
@pytest.mark.parametrize(
    ("count", "grain", "expected"),
    [
        (10, 3, [(0, 3), (3, 6), (6, 9), (9, 10)]),
        (9, 3, [(0, 3), (3, 6), (6, 9)]),
        (2, 3, [(0, 2)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
        (3, 0, [(0, 1), (1, 2), (2, 3)]),
        (2, -7, [(0, 1), (1, 2)]),
        (0, 4, []),
        (-5, 4, []),
        (2**63 - 1, 2**62, [(0, 2**62), (2**62, 2**63 - 1)]),
    ],
)
def test_chunks_depend_on_count_and_grain_alone(many, count, grain, expected):
    crew = Pool(many)
    for limit in (0, 1, 2, 100, -1):
        assert chunks(crew, count, grain, limit)[0] == expected
    crew.stop()


def test_every_element_once_however_often(crew):
    repeat, _ = native(crew)
    for count, grain, times in ((1000, 7, 500), (64, 1, 500), (3, 1, 3000), (5, 5, 100)):
        counts = np.zeros(count, np.int64)
        repeat(counts.ctypes.data, count, grain, times)
        assert (counts == times).all()


@pytest.mark.parametrize("count", [2, 64, 101])
def test_each_thread_begins_with_the_range_at_its_place(count):
    """So that it finds in its caches what it has written in an earlier call."""
    crew = Pool(3)
    crew.start()
    for _ in range(3):
        met, first = threading.Barrier(min(3, count)), {}

        def body(_context, begin, _end, met=met, first=first):
            if threading.current_thread().name not in first:
                first[threading.current_thread().name] = begin
                met.wait(10)

        crew.parallel_for(BODY(body), None, count, 1)
        own = threading.current_thread().name
        if count == 2:
            assert sorted(first.values()) == [0, 1]
        else:
            workers = {name: begin for name, begin in first.items() if name != own}
            assert first[own] == 0
            assert sorted(workers.values()) == [count // 3, 2 * count // 3]
    crew.stop()


def test_a_range_whose_thread_stays_away_is_done_by_the_others():
    crew = Pool(2)
    crew.start()
    caller, done = threading.get_ident(), []

    def body(_context, begin, _end):
        if threading.get_ident() != caller:
            time.sleep(0.2)
        done.append(begin)

    crew.parallel_for(BODY(body), None, 100, 1)
    crew.stop()
    assert sorted(done) == list(range(100))
    assert sum(begin >= 50 for begin in done[:-1]) >= 48  # the sleeper had one or two of them


def test_work_after_sleep(crew):
    repeat, _ = native(crew)
    counts = np.zeros(40, np.int64)
    for _ in range(20):
        repeat(counts.ctypes.data, 40, 1, 3)
        time.sleep(0.004)
    assert (counts == 60).all()


def meet(crew, limit, count):
    """Threads in a call whose bodies wait for each other, as far as they come."""
    inside, most, lock = [0], [0], threading.Lock()

    def body(_context, _begin, _end):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        with lock:
            inside[0] -= 1

    crew.parallel_for(BODY(body), None, count, 1, limit)
    return most[0]


def test_threads_take_part_up_to_the_limit(crew):
    assert meet(crew, 0, 30) > 1
    assert meet(crew, 1, 4) == 1
    assert meet(crew, 2, 30) == 2
    assert chunks(crew, 20, 1, limit=1)[1] == {threading.get_ident()}


def test_a_pool_of_one_has_no_threads():
    before = threading.active_count()
    crew = Pool(1)
    assert chunks(crew, 4, 1)[1] == {threading.get_ident()}
    assert threading.active_count() == before
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Pool(0)


def test_the_process_has_one_pool():
    assert pool() is pool()
    assert pool().threads == thread_count()


# ------------------------------------------------------------------------ who calls, and from where


def test_calls_from_many_threads_at_once(crew):
    repeat, body = native(crew)
    wrong = []

    def work():
        counts = np.zeros(300, np.int64)
        repeat(counts.ctypes.data, 300, 4, 300)
        for _ in range(50):
            crew.parallel_for(body, counts.ctypes.data, 300, 4)
        if not (counts == 350).all():
            wrong.append(counts)

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers) and not wrong


def test_a_call_inside_a_body_is_serial(crew):
    seen = []

    def outer(_context, begin, _end):
        thread = threading.get_ident()
        inner = BODY(
            lambda _, first, last: seen.append((begin, first, last, threading.get_ident() - thread))
        )
        crew.parallel_for(inner, None, 5, 2)

    crew.parallel_for(BODY(outer), None, 6, 1)
    assert sorted(seen) == [(i, *c, 0) for i in range(6) for c in ((0, 2), (2, 4), (4, 5))]


def test_a_body_that_raises_spares_the_others(crew, monkeypatch):
    raised, seen = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: raised.append(what.exc_type))

    def body(_context, begin, _end):
        seen.append(begin)
        if begin % 2:
            raise KeyError(begin)

    crew.parallel_for(BODY(body), None, 8, 1)
    assert sorted(seen) == [*range(8)] and raised == [KeyError] * 4
    assert chunks(crew, 4, 2)[0] == [(0, 2), (2, 4)]


def test_without_a_start_the_caller_does_it_all():
    crew = Pool(4)
    repeat, _ = native(crew)
    counts = np.zeros(10, np.int64)
    before = threading.active_count()
    repeat(counts.ctypes.data, 10, 1, 5)
    assert (counts == 5).all() and threading.active_count() == before


# ----------------------------------------------------------------------------- beginning and ending


def test_stop_and_start_again(crew):
    repeat, _ = native(crew)
    counts = np.zeros(50, np.int64)
    for _ in range(5):
        workers = list(crew._workers)
        time.sleep(0.02)  # they sleep by now
        crew.stop()
        assert workers and not any(worker.is_alive() for worker in workers)
        repeat(counts.ctypes.data, 50, 3, 10)
        crew.start()
        crew.start()
        assert len(crew._workers) == 4
        repeat(counts.ctypes.data, 50, 3, 10)
        assert meet(crew, 0, 10) > 1
    assert (counts == 100).all()


def test_a_system_out_of_threads(monkeypatch):
    real, allowed = threading.Thread.start, [2]

    def start(thread):
        if not allowed[0]:
            raise RuntimeError("can't start new thread")
        allowed[0] -= 1
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    crew = Pool(9)
    crew.start()
    monkeypatch.undo()
    assert len(crew._workers) == 2 and meet(crew, 0, 20) in (2, 3)
    crew.stop()


def test_idle_workers_sleep(crew):
    repeat, _ = native(crew)
    counts = np.zeros(50, np.int64)
    repeat(counts.ctypes.data, 50, 1, 100)
    time.sleep(0.3)  # spinning is over by then, even where other processes have the processors
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1  # four workers that spin would take 0.5 or more


PRELUDE = """
import ctypes, os, sys, threading, time, warnings
warnings.simplefilter("ignore")
from graphc.runtime.cpu import threads
from graphc.runtime.cpu.threads import BODY, Pool
crew = Pool(4)
def chunks(count=9, grain=2):
    seen = []
    crew.parallel_for(BODY(lambda _, begin, end: seen.append((begin, end))), None, count, grain)
    assert sorted(seen) == [(i, min(i + grain, count)) for i in range(0, count, grain)], seen
chunks()
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_end_of_a_process_does_not_hang():
    run("")
    run("sys.exit(0)")
    run("crew.stop(); crew.stop()")
    run("del crew")
    run("threads.pool().start()")
    # A daemon thread that still works in the pool when the interpreter ends.
    run("threading.Thread(target=lambda: [chunks() for _ in range(10**9)], daemon=True).start()")


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FORK = """
for _ in range(10):
    child = os.fork()
    if child == 0:
        assert crew._workers == []
        chunks()
        assert len(crew._workers) == 3
        for _ in range(20):
            chunks()
        sys.exit(0)  # as programs end: with the handlers that were registered
    chunks()
    assert os.waitpid(child, 0)[1] == 0
"""


@needs_fork
def test_a_child_starts_workers_of_its_own():
    run(FORK)


@needs_fork
def test_a_fork_while_other_threads_work():
    run(
        """
over = threading.Event()
seen = set()
def slowly(_context, _begin, _end):
    seen.add(threading.get_ident())
    time.sleep(0.003)
slow = BODY(slowly)
def work():
    while not over.is_set():
        crew.parallel_for(slow, None, 20, 1)
callers = [threading.Thread(target=work) for _ in range(3)]
for caller in callers:
    caller.start()
for _ in range(8):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        seen.clear()
        crew.parallel_for(slow, None, 20, 1)
        os._exit(0 if len(seen) > 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
over.set()
for caller in callers:
    caller.join()
"""
    )


@needs_fork
def test_a_fork_while_another_thread_starts_the_pool():
    run(
        """
with crew._lock:  # as a thread in `start` holds it
    child = os.fork()
    if child == 0:
        chunks()
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    )


@needs_fork
def test_a_child_without_a_start_works_alone():
    run(
        """
run = crew._run
body = BODY(lambda _, begin, end: seen.append(begin))
child = os.fork()
if child == 0:
    seen = []
    run(ctypes.cast(body, ctypes.c_void_p), None, 5, 1, 0)
    os._exit(0 if seen == [0, 1, 2, 3, 4] else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    )


@needs_fork
def test_processes_of_multiprocessing():
    out = run(
        """
import multiprocessing
def work(index):
    chunks()
    return index
with multiprocessing.get_context("fork").Pool(3) as processes:
    print(processes.map(work, range(6)))
"""
    )
    assert out == "[0, 1, 2, 3, 4, 5]\n"


# ----------------------------------------------------------------------- how many threads there are


def tree(root, texts):
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


GROUP = "proc/self/cgroup"
HOME = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, None),
        ({GROUP: "0::/\n", f"{HOME}/cpu.max": "max 100000\n"}, None),
        ({GROUP: "0::/\n", f"{HOME}/cpu.max": "250000 100000\n"}, 2.5),
        ({GROUP: "0::/a/b\n", f"{HOME}/a/cpu.max": "150000 50000"}, 3.0),
        # Every level limits; the smallest counts.
        (
            {
                GROUP: "0::/a/b\n",
                f"{HOME}/a/cpu.max": "400000 100000",
                f"{HOME}/a/b/cpu.max": "max 100000",
                f"{HOME}/cpu.max": "600000 100000",
            },
            4.0,
        ),
        # A container that sees its own group as the root.
        ({GROUP: "0::/docker/1234\n", f"{HOME}/cpu.max": "100000 100000"}, 1.0),
        # Version 1, under both names of its mount, and with no limit.
        (
            {
                GROUP: "4:memory:/x\n3:cpu,cpuacct:/x\n",
                f"{HOME}/cpu,cpuacct/x/cpu.cfs_quota_us": "300000\n",
                f"{HOME}/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                GROUP: "3:cpu,cpuacct:/x\n",
                f"{HOME}/cpu/cpu.cfs_quota_us": "50000",
                f"{HOME}/cpu/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            {
                GROUP: "3:cpu:/\n",
                f"{HOME}/cpu/cpu.cfs_quota_us": "-1",
                f"{HOME}/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        # Both versions at once.
        (
            {
                GROUP: "1:cpu:/y\n0::/y\n",
                f"{HOME}/unified/y/cpu.max": "max 100000",
                f"{HOME}/cpu/y/cpu.cfs_quota_us": "200000",
                f"{HOME}/cpu/y/cpu.cfs_period_us": "100000",
            },
            2.0,
        ),
        # What nobody should meet.
        ({GROUP: "nonsense\n::\n", f"{HOME}/cpu.max": "x"}, None),
        ({GROUP: "0::/\n", f"{HOME}/cpu.max": "100000"}, None),
        ({GROUP: "0::/\n", f"{HOME}/cpu.max": "100000 0"}, None),
    ],
)
def test_the_quota_of_the_control_groups(tmp_path, texts, expected):
    assert cpu_quota(tree(tmp_path, texts)) == expected


@pytest.mark.parametrize(
    ("quota", "available", "expected"),
    [("max", 8, 8), (50000, 8, 1), (250000, 8, 2), (1600000, 8, 8), (300000, 1, 1)],
)
def test_threads_are_as_many_as_both_allow(tmp_path, monkeypatch, quota, available, expected):
    tree(tmp_path, {GROUP: "0::/\n", f"{HOME}/cpu.max": f"{quota} 100000\n"})
    monkeypatch.setattr(cores, "available_cpus", lambda: available)
    assert thread_count(tmp_path) == expected


def test_the_affinity_is_respected():
    assert 1 <= cores.available_cpus() <= (os.cpu_count() or 1)
    assert thread_count() <= cores.available_cpus()


def test_the_number_of_workers_fits_the_gate():
    assert pool_code.MOST_WORKERS < 2**16
    assert Pool(10**6).threads == pool_code.MOST_WORKERS == threads.MOST_WORKERS
