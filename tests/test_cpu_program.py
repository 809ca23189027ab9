"""CPU programs: memory, bindings, results, errors. Most of their kernels are interpreted."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph, Node
from graphc.kernel import Buffer, Kernel
from graphc.lower import lower
from graphc.plan import Demand, Plan
from graphc.runtime.cpu.binder import SMALL
from graphc.runtime.cpu.binding import Arenas
from graphc.runtime.cpu.context import Context
from graphc.runtime.cpu.program import CpuProgram
from graphc.runtime.cpu.routine import Routine
from graphc.runtime.cpu.target import Target, host
from graphc.runtime.device import Environment
from graphc.runtime.faults import Needed
from graphc.runtime.leases import Leases, rounded
from tests.cpu_support import graph_of, interpreted, program_of
from tests.support import ENTROPY_WORDS

BIG = SMALL // 4  # float32 elements that are not small in rows of several


def environment(program: CpuProgram, variables: Any = None, note: Any = None, **n: int) -> Any:
    sizes = {symbol: n[str(symbol)] for symbol in program.recipe.symbols}
    return Environment(sizes, variables or {}, ENTROPY_WORDS, note)


def rows(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> tuple[CpuProgram, Graph]:
    """Maps, a sort by the host between them, and roots of every kind."""
    x = g.placeholder("float32", ["n", 3])
    total = g.sum(g.exp(x), axis=1)
    inner = g.sort(total) * 2.0 + total
    graph = graph_of(inner, total, x, inner, inputs=(x,))
    return program_of(graph), graph


@pytest.mark.parametrize("n", [4, 1, 0, 3 * BIG, 5, 2 * BIG, 4])
def test_runs_of_any_size_follow_each_other(model: Any, n: int) -> None:
    program, _ = model
    x = rows(n)
    inner, total, same, again = program.run([x], environment(program, n=n))
    want = np.exp(x).sum(axis=1)
    np.testing.assert_allclose(total, want, rtol=1e-6)
    np.testing.assert_allclose(inner, np.sort(want) * 2 + want, rtol=1e-6)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(again, inner)


@pytest.mark.parametrize("n", [2, 3 * BIG])
def test_results_are_the_callers_own(model: Any, n: int) -> None:
    program, _ = model
    x = rows(n)
    first = program.run([x], environment(program, n=n))
    kept = [array.copy() for array in first]
    second = program.run([x + 1], environment(program, n=n))
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    arrays = [x, *first, *second]
    assert not any(
        np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i] if a.size
    )
    assert all(array.flags.writeable and array.flags.c_contiguous for array in first)


def made(kind: str, n: int) -> Any:
    x = rows(2 * n)
    if kind == "strided":
        return x[::2]
    if kind == "reversed":
        return x[:n][::-1]
    if kind == "fortran":
        return np.asfortranarray(x[:n])
    if kind == "read-only":
        x.flags.writeable = False
        return x[:n]
    raw = np.zeros(12 * n + 1, np.uint8)  # unaligned
    array = raw[1:].view(np.float32).reshape(n, 3)
    array[...] = x[:n]
    return array


@pytest.mark.parametrize("kind", ["strided", "reversed", "fortran", "read-only", "unaligned"])
@pytest.mark.parametrize("n", [2, 3 * BIG])
def test_feeds_of_any_layout(model: Any, kind: str, n: int) -> None:
    program, _ = model
    x = made(kind, n)
    results = program.run([x], environment(program, n=n))
    np.testing.assert_allclose(results[1], np.exp(x).sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(results[2], x)


@pytest.mark.parametrize("count", [3, 3 * BIG])
def test_variables_are_read_as_they_are_now(count: int) -> None:
    v, w = (g.Variable(np.zeros(count, np.float32)) for _ in range(2))
    program = program_of(graph_of(v * 2.0 + w, v, inputs=()))
    one, two = (np.arange(count, dtype=np.float32) + k for k in range(2))
    strided = np.stack([two, two], axis=1)[:, 0]
    for a, b in ((one, two), (one, one), (two, one), (strided, two), (strided, two)):
        values = {v.node: a, w.node: b}
        for _ in range(2):
            total, same = program.run([], environment(program, values))
            np.testing.assert_array_equal(total, a * 2 + b)
            np.testing.assert_array_equal(same, a)
            assert not np.shares_memory(same, a)


def test_random_numbers_are_those_of_the_run() -> None:
    graph = graph_of(g.random.uniform((5,)), inputs=())
    program = program_of(graph)
    [first] = program.run([], environment(program))
    other = Environment({}, {}, np.array([1, 1], np.uint64))
    [second], [again] = program.run([], other), program.run([], environment(program))
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


def test_aliases_and_constants_of_a_plan() -> None:
    x = g.placeholder("float32", (2, 3))
    plan = lower(graph_of(x * 2.0, inputs=(x,)))
    [root], [fed] = plan.roots, plan.inputs
    flat_type = g.placeholder("float32", (6,)).type
    flat, flat_fed, constant = (Buffer(flat_type, name) for name in ("flat", "fed", "constant"))
    values = np.arange(6, dtype=np.float32)
    more = Plan(
        plan.inputs, (), (), plan.steps, (flat, root, flat_fed, constant, constant),
        ((flat, root), (flat_fed, fed)), ((constant, values),),
    )  # fmt: skip
    array = rows(2)
    results = program_of(more).run([array], Environment({}, {}, ENTROPY_WORDS))
    wants = [array.ravel() * 2, array * 2, array.ravel(), values, values]
    for got, want in zip(results, wants, strict=True):
        np.testing.assert_array_equal(got, want)
    assert not any(np.shares_memory(results[3], a) for a in (values, results[4]))


def test_intermediates_share_an_arena() -> None:
    x = g.placeholder("float32", ["n"])
    y = x
    for _ in range(10):
        y = g.sort(y * 2.0) + 1.0  # a host call, so that nothing is fused across it
    program = program_of(graph_of(y, inputs=(x,)))
    peak = program.memory(dict.fromkeys(program.recipe.symbols, 1024))
    assert peak.arena <= 4096 and peak.outputs == 4096
    assert 4096 <= peak.host <= 2 * 4096
    assert peak.total == peak.arena + peak.workspace + peak.outputs + peak.host


def test_what_the_host_made_is_handed_out_itself_unless_it_is_anothers() -> None:
    x = g.placeholder("float32", (4,))
    constant = g.constant(np.arange(4, dtype=np.float32))
    program = program_of(graph_of(g.sort(x), constant, constant, inputs=(x,)))
    results = [program.run([np.ones(4, np.float32)], environment(program)) for _ in range(2)]
    for total, one, two in results:
        np.testing.assert_array_equal(total, np.ones(4))
        np.testing.assert_array_equal(one, [0, 1, 2, 3])
        np.testing.assert_array_equal(two, one)
        one[:] = two[:] = total[:] = -1


# ---------------------------------------------------------------------------- results' memory


def test_memory_of_a_dropped_result_is_used_again() -> None:
    leases = Leases()
    first, address = leases.take((100, 100), np.dtype(np.float32), 40_000)
    first[...] = 1
    view = first[10:20].T
    del first
    second, other = leases.take((100, 100), np.dtype(np.float32), 40_000)
    assert other != address and (view == 1).all()
    del view, second
    again, same = leases.take((100, 99), np.dtype(np.float32), 39_600)
    assert same in (address, other) and again.ctypes.data == same
    third, new = leases.take((100, 100), np.dtype(np.float32), 40_000)
    assert {same, new} == {address, other}
    del again, third
    assert leases.idle == 2 * rounded(40_000)
    leases.keep(rounded(40_000))
    assert leases.idle == rounded(40_000)
    leases.keep(0)
    assert leases.idle == 0


@pytest.mark.parametrize("count", [1, 64, 16_385, 10**6, 10**6 + 1, 2**30])
def test_leases_are_little_larger_than_asked(count: int) -> None:
    assert count <= rounded(count) <= max(64, 1.13 * count)
    assert rounded(rounded(count)) == rounded(count)


def test_a_held_memoryview_keeps_a_result(model: Any) -> None:
    program, _ = model
    n = 3 * BIG
    x = rows(n)
    held = memoryview(program.run([x], environment(program, n=n))[1])
    want = bytes(held)
    for _ in range(3):
        program.run([x * 0], environment(program, n=n))
    assert bytes(held) == want


# ---------------------------------------------------------------------------- contexts


def test_an_idle_program_keeps_one_large_context(model: Any) -> None:
    program, _ = model
    n = 40 * BIG * 10
    program.run([rows(n)], environment(program, n=n))
    contexts = [Context(program.recipe, Arenas(program.recipe)) for _ in range(3)]
    assert len(program._idle) == 1 and len(contexts) == 3


def test_many_threads_run_one_program(model: Any) -> None:
    program, _ = model
    faults: list[str] = []

    def work(seed: int) -> None:
        for i in range(12):
            n = [3, 40, BIG][(seed + i) % 3]
            x = rows(n, seed)
            results = program.run([x], environment(program, n=n))
            if not np.allclose(results[1], np.exp(x).sum(axis=1), rtol=1e-5):
                faults.append(f"{seed}: {n}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_runs_it_too(model: Any) -> None:
    program, _ = model
    x = rows(BIG)
    [_, want, *_] = program.run([x], environment(program, n=BIG))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            [_, got, *_] = program.run([x], environment(program, n=BIG))
            code = 0 if np.array_equal(got, want) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------------------- errors, notes


def test_a_fault_names_the_index_and_the_line_and_leaves_the_program_whole() -> None:
    x, i = g.placeholder("float32", (3,)), g.placeholder("int64", (2,))
    program = program_of(graph_of(g.gather(x, i, axis=0), inputs=(x, i)))
    values = np.arange(3, dtype=np.float32)
    for _ in range(2):
        with pytest.raises(g.ShapeError, match=r"index 7 is out(.|\n)*test_cpu_program.py:"):
            program.run([values, np.array([1, 9])], environment(program))
        [got] = program.run([values, np.array([1, 2])], environment(program))
        np.testing.assert_array_equal(got, [1, 2])


CUT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64))


@CUT
def one_unit(_: Any, launch: Any) -> None:
    launch[:3] = [1, 1, 0]


def test_an_extremum_of_nothing_is_refused_where_it_has_a_result() -> None:
    x = g.placeholder("float32", ["n", "m"])

    def generate(kernel: Kernel, target: Target) -> list[Routine]:
        [made] = interpreted(kernel, target)
        [axis] = [f.value[1] for f in kernel.formulas() if f.primitive == "reduce"]
        needs = (Needed((axis[0].extent,), "max needs an element"),)
        count = kernel.axes[0].extent
        return [
            replace(
                made, count=count, needs=needs, cut=ctypes.cast(one_unit, ctypes.c_void_p).value
            )
        ]

    program = CpuProgram(lower(graph_of(g.max(x, axis=1), inputs=(x,))), generate, host())
    with pytest.raises(g.ShapeError, match="max needs an element"):
        program.run([np.zeros((2, 0), np.float32)], environment(program, n=2, m=0))


def test_sizes_that_a_plan_demands_to_be_equal() -> None:
    x = g.placeholder("float32", ["n"])
    plan = lower(graph_of(x * 2.0, inputs=(x,)))
    [n] = plan.inputs[0].type.shape or ()
    half = Demand(n // 2 * 2, n, "reshape: the sizes must multiply to as many elements")
    program = program_of(replace(plan, demands=(half,)))
    for _ in range(2):
        program.run([np.ones(4, np.float32)], environment(program, n=4))
        with pytest.raises(g.ShapeError, match=r"reshape: (.|\n)*in this run: 4 and 5"):
            program.run([np.ones(5, np.float32)], environment(program, n=5))


def test_memory_that_there_is_not_is_an_error_with_the_largest_arrays() -> None:
    n = g.placeholder("float32", ["n"])
    square = n[:, None] * n[None, :]
    program = program_of(graph_of(g.cumsum(square, axis=0), square, inputs=(n,)))
    with pytest.raises(g.DeviceError, match=r"out of memory(.|\n)*test_cpu_program.py:"):
        program.run([np.zeros(2**24, np.float32)], environment(program, n=2**24))
    [_, got] = program.run([np.ones(2, np.float32)], environment(program, n=2))
    np.testing.assert_array_equal(got, np.ones((2, 2)))


def test_the_first_kernel_that_makes_a_nan_is_named() -> None:
    x = g.placeholder("float32", (3,))
    graph = graph_of(g.cumsum(g.log(x)) + 1.0, inputs=(x,))
    program = program_of(graph, check="nan")
    with pytest.raises(g.NumericsError, match="log: made 1 NaN of 3 values"):
        program.run([np.array([1, -1, 2], np.float32)], environment(program))
    with_nan = np.array([1, np.nan, 2], np.float32)
    program.run([with_nan], environment(program))  # the user's own
    program.run([np.ones(3, np.float32)], environment(program))


def test_each_kernel_and_host_call_is_noted(model: Any) -> None:
    program, _ = model
    noted: list[Any] = []

    def note(what: Node | Kernel, seconds: float, moved: int, work: int = 0) -> None:
        noted.append((what, moved, work))
        assert seconds >= 0

    x = rows(4)
    noted_results = program.run([x], environment(program, note=note, n=4))
    plain = program.run([x], environment(program, n=4))
    for a, b in zip(noted_results, plain, strict=True):
        np.testing.assert_array_equal(a, b)
    kinds = [type(what) for what, _, _ in noted]
    assert kinds == [Kernel, Node, Kernel]
    assert [moved for _, moved, _ in noted] == [4 * (12 + 4), 4 * (4 + 4), 4 * (4 + 4 + 4)]


def test_the_native_device_is_a_session_away() -> None:
    x = g.placeholder("float32", ["n", 3])
    w = g.Variable(np.ones((3, 2), np.float32))
    update = g.assign(w, w * 2.0)
    with g.Session(device="cpu", threads=1) as s:
        for n in (2, 1, 0, 500):
            np.testing.assert_allclose(s.run(x @ w, {x: rows(n)}), rows(n) @ s.get(w), rtol=1e-5)
            s.run(update)
        assert s.get(w)[0, 0] == 16
