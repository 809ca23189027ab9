"""Runs that come again: what is kept between them, and that it never shows in what they give."""

import collections
import sys
import threading
import weakref

import numpy as np
import pytest

import graphc as g
from graphc.runtime.prepared import MOST_BINDINGS
from graphc.runtime.reference.device import ReferenceProgram
from graphc.runtime.session import MOST_FETCH_SETS, MOST_SPELLINGS
from tests.devices import FreshDevice

DEVICES = {"fresh": FreshDevice, "reference": lambda: "reference"}


@pytest.fixture(params=sorted(DEVICES))
def session(request):
    with g.Session(DEVICES[request.param](), seed=7) as s:
        yield s


class Subclass(np.ndarray):
    """An array of another class."""


def pair():
    return g.placeholder("float32", ["n", 2], name="a"), g.placeholder("float32", [2], name="b")


def full(shape, value, dtype=np.float32):
    return np.full(shape, value, dtype)


# ---------------------------------------------------------------------------- feeds


def test_feeds_in_any_order_go_to_their_tensors(session):
    a, b = pair()
    x, y = full((3, 2), 5), full(2, 1)
    forward, backward = session.prepare(a - b, [a, b]), session.prepare(a - b, [b, a])
    for _ in range(3):
        assert (session.run(a - b, {a: x, b: y}) == 4).all()
        assert (session.run(b - a, {b: y, a: x}) == -4).all()
        assert (forward(x, y) == 4).all() and (backward(y, x) == 4).all()
    assert session.run(b - a, {b: y, a: y[None]}).shape == (1, 2)


def test_every_way_to_give_a_value_is_right_after_every_other(session):
    a, b = pair()
    total = a * 2.0 + b
    run = session.prepare(total, [a, b])
    ways = [
        full((3, 2), 1), full((1, 2), 1), full((3, 2), 1, np.float64), [[1, 1]], full((0, 2), 1),
        full((2, 3), 1).T, full((3, 2), 1, ">f4"), full((3, 2), 1).view(Subclass),
    ]  # fmt: skip
    for _ in range(2):
        for way in ways:
            for got in (run(way, (1.0, 1.0)), session.run(total, {a: way, b: full(2, 1)})):
                assert type(got) is np.ndarray and got.dtype == np.float32
                assert got.shape == np.shape(way) and (got == 3).all()


def test_wrong_feeds_are_errors_after_right_ones(session):
    a, b = pair()
    total = a + b
    run, good = session.prepare(total, [a, b]), {a: full((3, 2), 1), b: full(2, 1)}
    wrong = [
        {a: full((3, 3), 1), b: full(2, 1)},
        {a: full((3, 2), 1), b: full((2, 1), 1)},
        {a: full((3, 2), 1), b: "text"},
        {a: full((3, 2), 1), b: full(2, 1, complex)},
        {a: full((3, 2), 1), b: a},
    ]
    for _ in range(3):
        session.run(total, good), run(*good.values())
        for feeds in wrong:
            with pytest.raises(g.FeedError, match="feeds must fit"):
                session.run(total, feeds)
            with pytest.raises(g.FeedError, match="feeds must fit"):
                run(*feeds.values())
        for feeds in ([a, b], {a: good[a]}, {**good, "c": 1}, a, 3):
            with pytest.raises(g.FeedError):
                session.run(total, feeds)
        for arrays in ((), (1,), (1, 2, 3)):
            with pytest.raises(g.FeedError, match="2 arrays must be given"):
                run(*arrays)


def test_sizes_that_do_not_fit_are_errors_whatever_has_been_run(session):
    x, y = g.placeholder("float32", ["n", 3]), g.placeholder("float32", ["n"])
    run = session.prepare(g.sum(x, axis=1) * y, [x, y])

    def message(*sizes):
        with pytest.raises(g.GraphcError) as caught:
            run(*[np.ones(size, np.float32) for size in sizes])
        return str(caught.value)

    wrong = [((2, 4), (2,)), ((2, 3), (5,)), ((2, 3), (2, 1)), ((2,), (2,))]
    first = [message(*sizes) for sizes in wrong]
    for n in (4, 7, 1, 4):
        assert run(np.ones((n, 3), np.float32), np.full(n, 2, np.float32)).tolist() == [6.0] * n
        assert [message(*sizes) for sizes in wrong] == first


def test_a_pattern_of_sizes_that_is_new_is_compiled_in_the_midst_of_others(session):
    x, y = g.placeholder("float32", ["n"]), g.placeholder("float32", ["m"])
    run = session.prepare(x + y, [x, y])
    for n, m in ((3, 3), (3, 1), (4, 4), (1, 5), (2, 1), (6, 6), (1, 1), (7, 7)):
        total = run(np.ones(n, np.float32), np.ones(m, np.float32))
        assert total.tolist() == [2.0] * max(n, m)


def test_a_feed_that_nothing_reads_is_checked_all_the_same(session):
    a, b = pair()
    for _ in range(3):
        assert session.run(b * 2.0, {a: full((1, 2), 1), b: [1, 2]}).tolist() == [2, 4]
        with pytest.raises(g.FeedError, match='"a"'):
            session.run(b * 2.0, {a: full((1, 3), 1), b: full(2, 1)})


def test_sizes_that_are_values_are_looked_at_in_every_run(session):
    n, x = g.placeholder("int64", [], name="n"), g.placeholder("float32", [None])
    y = g.reshape(x, g.stack([n, -1]))
    run = session.prepare(y, [n, x])
    for rows in (2, 3, 6, 2):
        assert run(np.array(rows), full(6, 1)).shape == (rows, 6 // rows)
        assert session.run(y, {n: np.array(rows), x: full(6, 1)}).shape == (rows, 6 // rows)


def test_more_shapes_than_are_kept(session):
    a = g.placeholder("float32", ["n", 2])
    run = session.prepare(g.sum(a, 1), [a])
    for _ in range(2):
        for n in range(3 * MOST_BINDINGS):
            assert run(full((n, 2), 1)).shape == (n,)
    assert session.compile_report().count == 1


# ---------------------------------------------------------------------------- fetches


def test_nestings_of_the_same_tensors_are_kept_apart(session):
    Pair = collections.namedtuple("Pair", "first second")
    v = g.Variable(1.0)
    a, b, up = v + 1.0, v + 2.0, g.assign(v, v * 1.0)
    nestings = [
        a, [a], (a,), {"x": a}, {"y": a}, [a, b], (a, b), Pair(a, b), [a, (a, b)], (a, Pair(a, b)),
        {"x": a, "y": b}, {"y": b, "x": a}, {1: a}, {True: a}, {1.0: a}, [], (), {}, [up], up,
        [a, up], g.group(up), [[a]], {"x": [a]},
    ]  # fmt: skip

    def plain(value):
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, [plain(v) for v in value])
        if isinstance(value, dict):
            return [(repr(k), plain(v)) for k, v in value.items()]
        return value if value is None else float(value)

    def expected(value):
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, [expected(v) for v in value])
        if isinstance(value, dict):
            return [(repr(k), expected(v)) for k, v in value.items()]
        return {a: 2.0, b: 3.0}.get(value)

    for _ in range(3):
        for fetches in nestings:
            assert plain(session.run(fetches)) == expected(fetches), fetches


def test_what_a_session_keeps_of_fetches_is_bounded(session):
    v = g.Variable(1.0)
    for i in range(2 * MOST_FETCH_SETS):
        session.run(v + float(i))
    for i in range(3 * MOST_SPELLINGS):
        for _ in range(2):
            assert list(session.run({str(i): v})) == [str(i)]
    assert len(session._sets) == MOST_FETCH_SETS
    assert len(session._calls) <= MOST_FETCH_SETS + MOST_SPELLINGS


def test_fetches_in_use_outlive_those_that_are_not(session):
    v = g.Variable(1.0)
    often = v * 2.0
    session.run(often)
    for i in range(3 * MOST_FETCH_SETS):
        session.run(v + float(i))
        session.run(often)
    assert session.compile_report().count == 3 * MOST_FETCH_SETS + 1


# ---------------------------------------------------------------------------- variables


def test_values_are_those_at_the_start_of_each_run(session):
    v = g.Variable([1.0, 2.0])
    x = g.placeholder("float32", [2])
    read, add = session.prepare(v * 1.0, []), session.prepare(g.assign_add(v, x), [x])
    both = session.prepare([v, g.assign(v, v * 2.0)], [])
    one = full(2, 1)
    assert read().tolist() == [1, 2]
    for _ in range(2):
        session.set(v, [1, 1])
        assert read().tolist() == [1, 1]
        assert add(one) is None and read().tolist() == [2, 2]
        before, nothing = both()
        assert nothing is None and before.tolist() == [2, 2] and read().tolist() == [4, 4]
        session.initialize()
        assert read().tolist() == [1, 2] and session.run(v).tolist() == [1, 2]


def test_no_old_value_is_held(session):
    v, x = g.Variable(np.zeros(3)), g.placeholder("float64", ["n"])
    read, step = session.prepare(v * g.sum(x), [x]), session.prepare(g.assign(v, v + 1.0))
    held = []
    for n in range(20):
        for size in (n, n + 1):
            assert read(np.ones(size)).tolist() == [n * size] * 3
        step()
        held.append(weakref.ref(session._state.values[v]))
        assert sum(ref() is not None for ref in held) == 1


def test_a_prepared_call_of_a_closed_session_says_so():
    x, v = g.placeholder("float32", []), g.Variable(1.0)
    for fetch in (x * 2.0, x * v, g.assign(v, x)):
        for device in (FreshDevice(), "reference"):
            s = g.Session(device)
            run = s.prepare(fetch, [x])
            run(np.float32(1)), run(full((), 1)), s.run(fetch, {x: full((), 1)})
            s.close()
            with pytest.raises(g.DeviceError, match="closed"):
                run(full((), 1))
            with pytest.raises(g.DeviceError, match="closed"):
                s.run(fetch, {x: full((), 1)})


def test_readers_see_all_updates_of_a_run_or_none():
    a, b = g.Variable(0.0), g.Variable(0.0)
    faults = []
    with g.Session(FreshDevice()) as s:
        step = s.prepare(g.group(g.assign_add(a, 1.0), g.assign_add(b, 1.0)))
        read = s.prepare([a, b])
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)

        def work(number):
            try:
                for _ in range(200):
                    if number % 2:
                        step()
                    else:
                        first, second = read()
                        assert first == second
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        sys.setswitchinterval(before)
        assert not faults
        assert s.get(a) == 800 and s.get(b) == 800


# ---------------------------------------------------------------------------- results


def test_fresh_results_are_handed_out_and_kept_without_copies():
    device = FreshDevice()
    x, v = g.placeholder("float32", [3]), g.Variable(np.zeros(3, np.float32))
    with g.Session(device) as s:
        run = s.prepare([x * 2.0, v, g.assign(v, v + x)], [x])
        for n in range(3):
            doubled, old, _ = run(full(3, 1))
            ours = device.programs[0].last
            assert doubled is ours[0] and old is ours[1]
            assert s._state.values[v] is ours[2] and not ours[2].flags.writeable
            assert old.tolist() == [n] * 3 and doubled.flags.writeable
            old[...] = 99
        assert s.get(v).tolist() == [3, 3, 3]


def test_a_tensor_that_is_fetched_and_written_gives_two_arrays(session):
    v, w = g.Variable([1.0, 2.0]), g.Variable([0.0, 0.0])
    new = v + 1.0
    fetches = [new, new, g.assign(v, new), g.assign(w, new)]
    run = session.prepare(fetches)
    for n in range(3):
        first, second, *_ = run()
        assert first.tolist() == [2 + n, 3 + n] == session.get(w).tolist()
        first[...] = 0
        assert second.tolist() == [2 + n, 3 + n] == session.get(v).tolist()
        second[...] = 0


def test_random_numbers_count_runs_of_all_kinds():
    noise, x = g.random.uniform([4]), g.placeholder("float32", [])

    def fourth(warm):
        with g.Session(FreshDevice(), seed=3) as s:
            run = s.prepare(x * 1.0, [x])
            warm(s, run)
            return s.run(noise).tolist()

    quick = [np.float32(1).reshape(())] * 3
    expected = fourth(lambda s, run: [s.run(noise) for _ in range(3)])
    assert fourth(lambda s, run: [run(a) for a in quick]) == expected
    assert fourth(lambda s, run: [s.run(x * 1.0, {x: 1}) for _ in range(3)]) == expected
    assert fourth(lambda s, run: [s.run([noise, x], {x: 1}) for _ in range(3)]) == expected
    assert fourth(lambda s, run: [run(a) for a in quick[:2]]) != expected
    with g.Session(seed=3) as s:
        draws = {tuple(s.run(noise).tolist()) for _ in range(5)}
        assert len(draws) == 5 and tuple(expected) in draws


# ---------------------------------------------------------------------------- what it costs


def calls(function):
    """How many functions of Python a call runs, itself included."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_run_that_comes_again_does_next_to_nothing(monkeypatch):
    a, b = pair()
    x, y = full((3, 2), 1), full(2, 1)
    v = g.Variable(1.0)
    total, step = a * v + b, g.assign(v, v * 1.0)
    with g.Session(FreshDevice()) as s:
        run, train = s.prepare(total, [a, b]), s.prepare(step)
        for _ in range(3):
            s.run(total, {a: x, b: y}), run(x, y), train(), run(x, y)
        ready = [np.zeros((3, 2), np.float32)]
        monkeypatch.setattr("tests.devices.FreshProgram.run", lambda self, *_: ready)
        s.run(total, {a: full((2, 2), 1), b: y}), run(full((2, 2), 1), y), s.run(step), train()
        feeds = {a: full((2, 2), 1), b: y}
        run(*feeds.values()), s.run(total, feeds)
        assert calls(lambda: run(*feeds.values())) <= 1 + 2
        assert calls(lambda: s.run(total, feeds)) <= 1 + 4


def test_a_profile_runs_once_and_its_steps_alone(monkeypatch):
    v = g.Variable(1.0)
    runs = []
    plain = ReferenceProgram.run
    monkeypatch.setattr(ReferenceProgram, "run", lambda *a: (runs.append(1), plain(*a))[1])
    with g.Session("reference") as s:
        assert len(s.profile([v * 2.0, g.assign(v, v + 1.0)]).rows) >= 2
        assert len(runs) == 1 and s.get(v) == 1


# ---------------------------------------------------------------------------- memory plans, reports


def test_a_memory_plan_takes_sizes_or_feeds():
    x = g.placeholder("float32", ["n", "m"], name="x")
    y = g.placeholder("float32", [None], name="y")
    n = g.placeholder("int64", [], name="n")
    with g.Session(FreshDevice()) as s:
        assert s.memory_plan(x * 2.0, {"n": 10**9, "m": 10**6}) == {"n": 10**9, "m": 10**6}
        assert s.memory_plan(x * 2.0, {x: full((3, 4), 1)}) == {"n": 3, "m": 4}
        mixed = s.memory_plan([x * 2.0, y * 2.0], {"n": 1, "m": 2, y: full(5, 1)})
        assert sorted(mixed.values()) == [1, 2, 5]
        reshaped = g.reshape(y, g.stack([n, -1]))
        assert s.memory_plan(reshaped, {y: full(6, 1), n: 2})
        for fetch, sizes, text in [
            (x * 2.0, {"n": 3}, "its size m is open"),
            (y * 2.0, {}, r"its size \? is open|its size .* is open"),
            (x * 2.0, {"n": 3, "m": 1, "k": 2}, "there are: m, n"),
            (x * 2.0, {"n": -1}, "must be numbers"),
            (x * 2.0, {3: 1}, "must be numbers"),
            (x * 2.0, [3], "must be a dict"),
            (g.placeholder("float32", name="r") * 2.0, {}, "its rank is open"),
            (reshaped, {y: full(6, 1)}, 'placeholder "n"'),
            ([reshaped, n], {y: full(6, 1)}, 'is computed of placeholder "n" .*give an array'),
        ]:
            with pytest.raises(g.GraphcError, match=text):
                s.memory_plan(fetch, sizes)
    with g.Session("reference") as s, pytest.raises(g.DeviceError, match="plans no memory"):
        s.memory_plan(x * 2.0, {"n": 1, "m": 1})


def test_a_memory_plan_runs_nothing_and_initialises_nothing():
    x, w = g.placeholder("float32", ["n"]), g.Variable(g.random.normal([3]), name="w")
    draws = g.random.uniform([3])
    values = []
    for plan in (True, False):
        with g.Session(FreshDevice(), seed=5) as s:
            if plan:
                s.memory_plan(g.sum(x) * w, {"n": 5})
                assert not s._state.values.known()
            values.append([s.run(draws).tolist(), s.get(w).tolist()])
    assert values[0] == values[1]


def test_the_report_says_what_the_device_says():
    with g.Session(FreshDevice()) as s:
        s.run(g.constant(1.0) * 2.0)
        assert s.compile_report().rows[0].summary == {"kernels": 3}
        assert "kernels: 3" in str(s.compile_report())
