"""The OpenCL device as a whole: every op, sessions, variables that stay, errors, threads.

Where no driver is, all of it is skipped; CI installs PoCL.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.dtypes import DTYPES, DType, float32, float64, int32
from graphc.graph import Graph
from graphc.passes.specialise import specialise
from graphc.runtime.device import Environment
from graphc.runtime.opencl.device import OpenclDevice, open_opencl
from graphc.runtime.opencl.platforms import look
from tests.support import ENTROPY_WORDS, assert_same, generator, inputs_of, kinds, values
from tests.test_devices import (
    ENTROPY_IN,
    POINTWISE,
    SILENT,
    ULPS,
    ZEROS_TIE,
    Batch,
    close,
    described,
    special,
)

pytestmark = pytest.mark.skipif(not look().devices, reason="no OpenCL driver is installed")


@pytest.fixture(scope="module")
def device() -> OpenclDevice:
    return open_opencl("opencl")


@pytest.fixture
def session(device: OpenclDevice) -> Any:
    with g.Session(device=device, seed=3) as opened:
        yield opened


def run(device: OpenclDevice, graph: Graph, arrays: Any) -> list[Any]:
    return device.compile(graph).run(arrays, Environment({}, {}, ENTROPY_WORDS))


# ---------------------------------------------------------------------------- what ops mean


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_op_in_one_program(
    device: OpenclDevice, dtype: DType, request: pytest.FixtureRequest
) -> None:
    every = request.config.getoption("--thorough") and dtype in (float32, int32)
    step = 1 if every else 3
    rows = [
        (op, case)
        for op in SILENT
        if dtype in (ENTROPY_IN if op.name == "random_bits" else kinds(op))
        for case in op.domain.cases[::-step]
    ]
    batch = Batch.of(rows, lambda op, case: inputs_of(op, case, dtype))
    graph = batch.graph()
    wanted = values(graph, batch.arrays, {})
    got = run(device, graph, batch.arrays)
    for a, b, row in zip(got, wanted, batch.made, strict=True):
        assert_same(a, b, described(*row), slack=ULPS)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_special_values_of_pointwise_ops(device: OpenclDevice, dtype: DType) -> None:
    rows = [(op, op.domain.cases[0]) for op in POINTWISE if "f" in op.domain.kinds]
    with np.errstate(all="ignore"):
        batch = Batch.of(rows, lambda op, case: special(op, case, dtype))
        graph = batch.graph()
        wanted = values(graph, batch.arrays, {})
        got = run(device, graph, batch.arrays)
        for a, b, (op, case) in zip(got, wanted, batch.made, strict=True):
            if b.dtype.kind != "f":
                np.testing.assert_array_equal(a, b, err_msg=op.name)
                continue
            wide = [
                x.astype(np.float64) if x.dtype.kind == "f" else x for x in special(op, case, dtype)
            ]
            exact = np.asarray(op.oracle(*wide, **case.attrs))
            # What cancels, as in logaddexp, shows the roundings of products without fma.
            ulps = ULPS if device.capabilities.fused else 2 * ULPS
            close(a, b, exact, op.name, ulps, op.name not in ZEROS_TIE)


def test_random_numbers_are_those_of_the_cpu(session: Any) -> None:
    draws = [
        g.random.uniform((1000,)), g.random.normal((33, 7)), g.random.randint((50,), 0, 9),
        g.random.permutation(20),
    ]  # fmt: skip
    with g.Session(device="cpu", seed=3) as cpu:
        for got, want in zip(session.run(draws), cpu.run(draws), strict=True):
            assert_same(got, want, "random")


@pytest.mark.parametrize("count", [0, 1, 65, 100_003])
def test_sums_of_any_length_are_stable(session: Any, count: int) -> None:
    x = g.placeholder("float32", [None])
    array = generator(count).uniform(0.0, 1.0, count).astype(np.float32)
    got = session.run([g.sum(x), g.mean(x * x) if count else g.sum(x)], {x: array})
    wide = array.astype(np.float64)
    want = [wide.sum(), (wide * wide).mean() if count else 0.0]
    np.testing.assert_allclose(got, want, rtol=3e-7)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_extrema_of_bytes(session: Any, dtype: str) -> None:
    x = g.placeholder(dtype, [None, None])
    for shape in ((1, 3), (2, 20), (40, 5)):
        array = (np.arange(np.prod(shape)).reshape(shape) % 60 + 2).astype(dtype)
        for axis in (0, 1):
            got = session.run([g.min(x, axis=axis), g.max(x, axis=axis)], {x: array})
            np.testing.assert_array_equal(got, [array.min(axis), array.max(axis)])


# ---------------------------------------------------------------------------- runs


def _model() -> tuple[Any, Any, Any]:
    x = g.placeholder("float32", [None, 8], "x")
    w = g.Variable(np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5), name="w")
    loss = g.mean((g.nn.softmax(x @ w) - 0.3) ** 2)
    return x, w, loss


def test_training_is_that_of_the_cpu_and_variables_stay(session: Any) -> None:
    x, w, loss = _model()
    train = g.optim.Adam(0.05).minimize(loss)
    feeds = [generator(i).normal(size=(4 + i % 3, 8)).astype(np.float32) for i in range(9)]
    with g.Session(device="cpu", seed=3) as cpu:
        for array in feeds:
            got, want = (s.run([loss, train], {x: array})[0] for s in (session, cpu))
            np.testing.assert_allclose(got, want, rtol=1e-5)
        assert session._state.values.keeper is not None  # nothing came back to the host
        assert_same(session.get(w), cpu.get(w), "w", slack=20)
        session.set(w, np.zeros((8, 5), np.float32))
        assert session.run(loss, {x: feeds[0]}) == pytest.approx(0.01, rel=1e-5)
        session.run([loss, train], {x: feeds[0]})
        cpu.set(w, np.zeros((8, 5), np.float32))
        cpu.run([loss, train], {x: feeds[0]})
        assert_same(session.get(w), cpu.get(w), "w", slack=20)


def test_a_fault_changes_no_variable(session: Any) -> None:
    table = g.Variable(np.arange(12, dtype=np.float32).reshape(6, 2), name="table")
    at = g.placeholder("int64", [None])
    step = g.assign(table, table + g.sum(g.gather(table, at)))
    session.run(step, {at: [0, 5]})
    before = session.get(table)
    for _ in range(2):
        with pytest.raises(g.ShapeError, match="index 6 is out of range for axis 0 of size 6"):
            session.run(step, {at: [0, 6]})
        np.testing.assert_array_equal(session.get(table), before)
    session.run(step, {at: [1]})
    assert (session.get(table) > before).all()


def test_a_new_batch_size_builds_nothing(device: OpenclDevice, session: Any) -> None:
    x, _, loss = _model()
    call = session.prepare(loss, [x])
    call(np.ones((3, 8), np.float32))
    built = device._builder.built
    for n in (1, 7, 200, 3):
        array = generator(n).normal(size=(n, 8)).astype(np.float32)
        assert np.isfinite(call(array))
    assert device._builder.built == built


def test_results_are_the_callers_own(session: Any) -> None:
    x = g.placeholder("float32", [None])
    array = np.arange(4, dtype=np.float32)
    one, same, fed = session.run([x + 1.0, x + 1.0, x * 1.0], {x: array})
    one[:] = 9
    fed[:] = 9
    again = session.run([x + 1.0, x + 1.0, x * 1.0], {x: array})
    np.testing.assert_array_equal(again[0], [1, 2, 3, 4])
    np.testing.assert_array_equal(array, [0, 1, 2, 3])
    assert same.flags.writeable


@pytest.mark.parametrize("size", [6, 60_000])
@pytest.mark.parametrize(
    "layout",
    [lambda x: x[::2], lambda x: x[::-1], lambda x: x.reshape(2, -1).T[:, 0], lambda x: x[1:]],
    ids=["stepped", "backwards", "column", "unaligned"],
)
def test_feeds_of_any_layout(session: Any, layout: Any, size: int) -> None:
    x = g.placeholder("float32", [None])
    array = layout(np.arange(size, dtype=np.float32))
    array.flags.writeable = False
    np.testing.assert_array_equal(session.run(x * 2.0, {x: array}), array * 2)


def test_many_threads_run_one_program(session: Any) -> None:
    x = g.placeholder("float32", [None, 8])
    call = session.prepare(g.sum(g.tanh(x), axis=1), [x])
    arrays = [generator(i).normal(size=(50 + i, 8)).astype(np.float32) for i in range(8)]
    found: dict[int, Any] = {}

    def work(number: int) -> None:
        found[number] = [call(arrays[number]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, array in enumerate(arrays):
        for got in found[number]:
            np.testing.assert_allclose(got, np.tanh(array).sum(1), rtol=2e-5, atol=1e-6)


# ---------------------------------------------------------------------------- errors


def test_the_operation_that_makes_a_nan_is_named(device: OpenclDevice) -> None:
    x = g.placeholder("float32", [3], "x")
    with (
        g.Session(device=device, check="nan") as session,
        pytest.raises(g.NumericsError, match="log: made 1 NaN of 3 values"),
    ):
        session.run(g.log(x) + 1.0, {x: [1.0, -1.0, 2.0]})


def test_float64_on_a_device_without_it_is_refused(device: OpenclDevice) -> None:
    small = OpenclDevice(
        device.memory.context, None, device.capabilities.without(fp64=False), "small"
    )
    x = g.placeholder("float64", [3], "x")
    with g.Session(device=small) as session, pytest.raises(g.DeviceError, match="no float64"):
        session.run(x + 1.0, {x: np.ones(3)})


def test_memory_that_there_is_not_lists_the_largest_tensors(device: OpenclDevice) -> None:
    limits = device.capabilities.without(allocation_limit=2**20, global_memory=2**22)
    small = OpenclDevice(device.memory.context, device.context_device, limits, "small")
    x = g.placeholder("float32", [None], "x")
    y = g.cumsum(g.cumsum(x, 0), 0)
    with g.Session(device=small) as session:
        assert session.run(y, {x: np.ones(100_000, np.float32)})[-1] > 1e9
        with pytest.raises(g.DeviceError, match=r"out of memory.*1,048,576") as caught:
            session.run(y, {x: np.ones(300_000, np.float32)})
        text = str(caught.value)
        assert "1,200,000 bytes" in text and "test_opencl_program.py:" in text
        assert session.run(y, {x: np.ones(3, np.float32)})[-1] == 6.0


def test_sizes_that_must_be_equal(session: Any) -> None:
    a, b = g.placeholder("float32", [None], "a"), g.placeholder("float32", [None], "b")
    with pytest.raises(g.ShapeError):
        session.run(a + b, {a: np.ones(3), b: np.ones(4)})


def test_an_extremum_of_nothing(session: Any) -> None:
    x = g.placeholder("float32", [None, None])
    y = g.max(x, axis=1)
    with pytest.raises(g.ShapeError, match="max of no elements has no value"):
        session.run(y, {x: np.ones((2, 0))})
    assert session.run(y, {x: np.ones((0, 0))}).shape == (0,)


# ---------------------------------------------------------------------------- seeing


def test_each_kernel_and_host_call_is_noted(session: Any) -> None:
    x = g.placeholder("float32", [None, 4])
    profile = session.profile([g.sum(g.exp(x)), g.sort(x, 0)], {x: np.ones((50, 4), np.float32)})
    assert {row.op for row in profile.rows} >= {"sort"}
    assert all(row.seconds >= 0 for row in profile.rows) and len(profile.rows) >= 2
    assert profile.device.startswith("opencl:")


def test_graphs_of_every_case_agree_after_all_passes(session: Any) -> None:
    x = g.placeholder("float32", [None, 6, 6, 2], "x")
    k = g.Variable(generator(1).normal(size=(3, 3, 2, 4)).astype(np.float32), name="k")
    y = g.nn.max_pool2d(g.nn.relu(g.nn.conv2d(x, k)), 2)
    fetches = [y, *g.gradients([g.sum(y * y)], [x, k])]
    array = generator(2).normal(size=(3, 6, 6, 2)).astype(np.float32)
    with g.Session(device="reference") as reference:
        wanted = reference.run(fetches, {x: array})
    for got, want in zip(session.run(fetches, {x: array}), wanted, strict=True):
        assert_same(got, want, "conv", slack=ULPS)
    assert specialise(Graph((y,), (), (x,))).nodes
