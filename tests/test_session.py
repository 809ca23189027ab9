"""Sessions: fetches, feeds, variables, updates, threads, memory."""

import collections
import gc
import threading
import tracemalloc

import numpy as np
import pytest

import graphc as g


def model():
    x = g.placeholder("float32", ["batch", 3], name="x")
    w = g.Variable(np.ones((3, 2), np.float32), name="w")
    return x, w, g.sum(x @ w)


def test_fetches_in_any_nesting_come_back_in_it():
    Pair = collections.namedtuple("Pair", "first second")
    a, v = g.constant(2.0), g.Variable(1.0)
    with g.Session() as s:
        got = s.run({"a": a, "l": [a, (v, g.assign(v, 5.0))], "p": Pair(a + 1.0, [])})
    assert got["a"] == 2 and got["l"][0] == 2 and got["l"][1] == (1, None)
    assert isinstance(got["p"], Pair) and got["p"].first == 3 and got["p"].second == []


def test_a_run_reads_old_values_and_writes_land_together():
    a, b = g.Variable(1.0), g.Variable(2.0)
    with g.Session() as s:
        swap = g.group(g.assign(a, b), g.assign(b, a))
        assert s.run([a, b, swap]) == [1, 2, None]
        assert s.run([a, b]) == [2, 1]
        s.run([g.assign_add(a, 10.0), g.assign_sub(b, 1.0)])
        assert s.run([a, b]) == [12, 0]


def test_the_value_of_an_update_is_a_tensor():
    v = g.Variable([1.0, 2.0])
    update = g.assign_add(v, 1.0)
    with g.Session() as s:
        assert s.run([v, update.value, update])[1].tolist() == [2, 3]
        assert s.get(v).tolist() == [2, 3]


def test_any_tensor_can_be_fed():
    x, w, y = model()
    h = x @ w
    z = g.sum(h * h)
    with g.Session() as s:
        assert s.run(z, {h: np.full((4, 2), 2.0)}) == 32
        assert s.run(y, {x: np.ones((2, 3)), w: np.zeros((3, 2))}) == 0
        assert s.run(y, {x: np.ones((2, 3))}) == 12


def test_feeds_are_cast_by_same_kind_rules():
    x = g.placeholder("float32", [None])
    i = g.placeholder("int8", [None])
    with g.Session() as s:
        for value in ([1, 2], [1.5, 2.5], np.arange(2), np.float64([1, 2]), (True, False)):
            assert s.run(x * 1.0, {x: value}).dtype == np.float32
        assert s.run(i, {i: [100, -100]}).dtype == np.int8
        assert s.run(i, {i: []}).shape == (0,)
        for wrong in ([1.5], [300], ["a"], [1j]):
            with pytest.raises(g.FeedError):
                s.run(i, {i: wrong})


def test_all_faults_of_feeds_are_in_one_message():
    x = g.placeholder("float32", ["n", 3], name="x")
    y = g.placeholder("int32", ["n"], name="y")
    z = g.placeholder("float32", [], name="z")
    total = g.sum(x) + g.sum(y) + z
    with g.Session() as s:
        with pytest.raises(g.FeedError) as error:
            s.run(total, {x: np.ones((2, 4)), y: [1.5]})
        assert '"x"' in str(error.value) and '"y"' in str(error.value)
        with pytest.raises(g.FeedError) as error:
            s.run(total, {x: np.ones((2, 3))})
        assert '"y"' in str(error.value) and '"z"' in str(error.value)
        with pytest.raises(g.FeedError, match="n is 2 in axis 0"):
            s.run(total, {x: np.ones((2, 3)), y: [1, 2, 3], z: 0})


def test_sizes_are_compiled_once():
    x, w, y = model()
    train = g.assign_sub(w, g.gradients(y, [w])[0])
    with g.Session() as s:
        for batch in (*range(0, 40), 1, 1000):
            s.run([y, train], {x: np.ones((batch, 3))})
        assert s.compile_report().count == 1


def test_unknown_ranks_are_bound_at_the_run():
    x, y = g.placeholder(), g.placeholder()
    z = g.sum(x * y)
    dx, dy = g.gradients(z, [x, y])
    with g.Session() as s:
        for a, b in [
            ((3,), (3,)),
            ((2, 3), (3,)),
            ((), (4,)),
            ((2, 1), (1, 5)),
            ((2, 1, 3), (4, 1)),
        ]:
            got = s.run([z, dx, dy], {x: np.ones(a), y: np.full(b, 2.0)})
            full = np.broadcast_shapes(a, b)
            count = int(np.prod(full))
            assert got[0] == 2 * count
            assert got[1].shape == a and got[2].shape == b
            assert got[1].sum() == 2 * count and got[2].sum() == count


def test_variables_initialise_in_dependency_order():
    a = g.Variable(2.0)
    b = g.Variable(a * 3.0)
    c = g.Variable(lambda: b + a)
    with g.Session() as s:
        assert s.run(c) == 8
        s.set(a, 10)
        assert s.run([a, b, c]) == [10, 6, 8]
        s.initialize([b])
        assert s.get(b) == 30
        s.initialize()
        assert s.run([a, b, c]) == [2, 6, 8]


def test_results_are_the_callers_own():
    v = g.Variable(np.zeros(3, np.float32))
    x = g.placeholder("float32", [3])
    array = np.ones(3, np.float32)
    with g.Session() as s:
        for fetched in (v, x, g.identity(v), x[::2], g.constant([1.0])):
            result = s.run(fetched, {x: array})
            result[...] = 99
        a, b = s.run([v + 0.0, v + 0.0])
        a[...] = 5
        assert b.sum() == 0 and s.get(v).sum() == 0 and array.sum() == 3
        assert s.run(g.constant([1.0])) == [1]


def test_set_keeps_its_own_copy():
    v = g.Variable(np.zeros(3, np.float32))
    array = np.ones(3, np.float32)
    with g.Session() as s:
        s.set(v, array)
        array[:] = 7
        assert s.get(v).tolist() == [1, 1, 1]


def test_updates_of_many_threads_are_not_lost():
    counter = g.Variable(0.0, dtype="float64")
    x = g.placeholder("float64", [None])
    add, double = g.assign_add(counter, g.sum(x)), g.sum(x * 2.0)
    failures = []
    with g.Session() as s:

        def work(number):
            for n in range(50):
                size = 1 + (number + n) % 5
                s.run(add, {x: np.ones(size) / size})
                if s.run(double, {x: np.ones(size)}) != 2 * size:
                    failures.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert s.get(counter) == pytest.approx(16 * 50)


def test_a_closed_session_says_so():
    s = g.Session()
    s.close()
    with pytest.raises(g.DeviceError, match="closed"):
        s.run(g.constant(1.0))


@pytest.mark.parametrize("fresh", [False, True])
def test_memory_stays_flat(fresh):
    x, _, y = model()
    array = np.ones((2, 3), np.float32)
    with g.Session() as s:

        def runs(count):
            for i in range(count):
                s.run(y * float(i) if fresh else y, {x: array})
            gc.collect()

        tracemalloc.start()  # before the warm-up, so that what it holds may be replaced
        runs(300)
        before = tracemalloc.get_traced_memory()[0]
        runs(300 if fresh else 1000)  # each fresh one is compiled
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 100_000


def test_check_nan_names_the_first_node():
    x = g.placeholder("float32", [2], name="x")
    y = g.exp(g.log(x)) * 2.0
    with g.Session(check="nan") as s:
        assert s.run(y, {x: [1, 2]}).shape == (2,)
        with pytest.raises(g.NumericsError, match=r"log: made 1 NaN of 2 values \(x: -1 to 2\)"):
            s.run(y, {x: [-1, 2]})


def test_check_nan_names_the_op_that_makes_one_of_constants():
    y = g.sum(g.log(g.constant([-1.0, 1.0])))
    with pytest.raises(g.NumericsError, match="log: made 1 NaN of 2 values"):
        g.Session(check="nan").run(y)
    assert np.isnan(g.Session().run(y))
    assert np.isnan(g.Session().run(g.constant(np.nan) + 1.0))


def test_prepare_takes_arrays_in_the_order_given():
    a, b = g.placeholder("float32", []), g.placeholder("float32", [])
    with g.Session() as s:
        run = s.prepare({"difference": a - b}, [b, a])
        assert run(1.0, 5.0) == {"difference": 4}
        with pytest.raises(g.FeedError, match="2 arrays"):
            run(1.0)


def test_sizes_from_tensors_that_are_fed():
    n = g.placeholder("int64", [], name="n")
    x = g.placeholder("float32", [None], name="x")
    y = g.reshape(x, g.stack([n, -1]))
    with g.Session() as s:
        assert s.run(y, {x: np.arange(6), n: 2}).shape == (2, 3)
        assert s.run(y, {x: np.arange(6), n: 3}).shape == (3, 2)
        with pytest.raises(g.ShapeError):
            s.run(y, {x: np.arange(6), n: 4})


def test_one_device_named_cpu_and_clear_words_about_others():
    assert g.Session(device="reference").device == "reference"
    with pytest.raises(g.DeviceError, match="opencl"):
        g.Session(device="opencl:1")
    with pytest.raises(g.DeviceError, match="no device"):
        g.Session(device="tpu")


def test_sizes_of_tensors_of_unknown_rank_that_the_graph_does_not_compute():
    p, c = g.placeholder("float32", name="p"), g.placeholder("float32", [])
    flat = g.reshape(p, [-1])
    filled = g.broadcast_to(c, g.shape(flat))
    fetches = [filled, g.zeros_like(flat), g.zeros([flat.shape[0], 2]), g.gradients(filled, [c])[0]]
    with g.Session() as s:
        for shape in ((2, 3), (4,), (5, 1), (3, 2)):
            values = s.run(fetches, {p: np.ones(shape), c: 3})
            count = int(np.prod(shape))
            assert [v.shape for v in values] == [(count,), (count,), (count, 2), ()]
            assert values[0].sum() == 3 * count and values[3] == count


def test_a_profile_times_each_kernel():
    x, w, y = model()
    with g.Session() as s:
        profile = s.profile([g.sum(g.exp(x @ w)), y, g.assign(w, w * 2.0)], {x: np.ones((4, 3))})
        assert s.get(w).sum() == 6
    assert {"matmul", "sum"} <= set(profile.by_op()) and profile.device == "cpu"
    assert all(row.seconds > 0 and row.bytes > 0 and row.work > 0 for row in profile.rows)
    assert all("test_session.py:" in row.where for row in profile.rows)


def test_a_profile_times_each_step_and_writes_nothing():
    x, w, y = model()
    h = g.exp(x @ w, name="activations")
    with g.Session(device="reference") as s:
        profile = s.profile([g.sum(h), y, g.assign(w, w * 2.0)], {x: np.ones((4, 3))})
        assert s.get(w).sum() == 6
    assert {"matmul", "exp", "sum"} <= set(profile.by_op())
    row = next(r for r in profile.rows if r.op == "exp")
    assert row.bytes == 2 * 4 * 2 * 4 and row.name == "activations"
    assert row.where.startswith("test_session.py:") and row.where in str(profile)
    with g.Session(device="interp") as s, pytest.raises(g.DeviceError, match="times no steps"):
        s.profile(y, {x: np.ones((4, 3))})


def test_dumps_hold_each_stage_as_text_and_as_a_picture(tmp_path, monkeypatch):
    x, _, y = model()
    monkeypatch.setenv("GRAPHC_DUMP", str(tmp_path))
    with g.Session() as s:
        s.run(y, {x: np.ones((2, 3))})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[:4] == ["00-build.dot", "00-build.txt", "01-specialise.dot", "01-specialise.txt"]
    assert (tmp_path / "00-build.dot").read_text().startswith("digraph")
