"""`Session(check="reference")`: what differs is found and named, and rounding is no difference."""

import numpy as np
import pytest

import graphc as g
from graphc.runtime.check import differing
from tests.devices import FreshDevice, WrongDevice


def nudged(array):
    return array * np.asarray(1 + 1e-4, array.dtype)


def test_the_first_operation_that_differs_is_named():
    x = g.placeholder("float32", ["n", 3], name="x")
    before = g.tanh(x)
    middle = g.exp(before)  # this is the line
    y = g.sum(g.sqrt(middle + 1.0) * 2.0, 1)
    feed = {x: np.linspace(-1, 1, 12).reshape(4, 3)}
    with g.Session(WrongDevice("exp", nudged), check="reference") as s:
        with pytest.raises(g.NumericsError, match="exp: the device 'wrong' must agree") as error:
            s.run([before, y], feed)
        text = str(error.value)
        assert "12 of 12 values differ, most at [3, 2]: 2.14" in text and " ulp" in text
        assert f"exp was called at test_check.py:{middle.node.where.line}" in text
        assert s.run(before, feed).shape == (4, 3)


def test_updates_are_compared_and_a_wrong_one_does_not_land():
    v = g.Variable([1.0, 2.0])
    with g.Session(WrongDevice("exp", nudged), check="reference") as s:
        with pytest.raises(g.NumericsError, match="exp: the device 'wrong' must agree"):
            s.run(g.assign(v, g.exp(v)))
        assert s.get(v).tolist() == [1, 2]


def test_whole_numbers_shapes_and_special_values_must_be_the_same():
    x = g.placeholder("int32", [4])
    f = g.placeholder("float32", [4])
    faults = {
        "negative": (lambda a: a + (a == -2), -x, "1 of 4 values differ, most at [2]: -1 inst"),
        "square": (lambda a: a.astype(np.float64), g.square(f), "gives float64[4], not float32"),
        "exp": (
            lambda a: np.where(a > 2, np.nan, a),
            g.exp(f),
            "most at [1]: nan instead of 2.718",
        ),
        "absolute": (
            lambda a: np.where(a > 2, -np.inf, a),
            abs(f),
            "most at [3]: -inf instead of 3",
        ),
    }
    for op, (change, y, text) in faults.items():
        with (
            g.Session(WrongDevice(op, change), check="reference") as s,
            pytest.raises(g.NumericsError) as error,
        ):
            s.run(y, {y.node.inputs[0]: np.arange(4)})
        assert text in str(error.value) and str(error.value).startswith(f"{op}: ")


def test_a_fault_that_needs_the_whole_run_is_told_as_one():
    x = g.placeholder("float32", [2], name="x")
    broken = WrongDevice("exp", nudged, lambda graph: len(graph.outputs) == 2)
    with (
        g.Session(broken, check="reference") as s,
        pytest.raises(g.NumericsError, match="fetched without the rest of its run, it agrees"),
    ):
        s.run([x + 1.0, g.exp(x)], {x: [1, 2]})


def test_rounding_is_no_difference():
    """Sums that cancel, and a comparison that is close: other roundings give other numbers."""
    x = g.placeholder("float32", [4096], name="x")
    ulp = np.float32(1 + 2**-23)
    device = WrongDevice("exp", lambda a: a * ulp)
    grown = g.exp(x)
    centred = grown - g.mean(grown)
    fetches = [g.sum(centred), g.sum(centred) * 1e-6, grown > np.exp(np.float32(0.5)), grown]
    values = np.full(4096, 0.5, np.float32)
    values[:1000] = np.linspace(0, 3, 1000)
    with g.Session(device, check="reference") as s:
        for fetch in fetches:
            s.run(fetch, {x: values})


def test_right_devices_pass_and_keep_what_they_offer():
    x, v = g.placeholder("float32", ["n"], name="x"), g.Variable(np.ones(3, np.float32))
    noise = g.random.normal([3])
    fetches = [g.sum(x) * v + noise, g.assign_add(v, 1.0)]
    for device in (FreshDevice(), "interp", "reference"):
        with g.Session(device, check="reference", seed=1) as s:
            for n in (0, 1, 5):
                s.run(fetches, {x: np.full(n, 1e30)})
            assert s.get(v).tolist() == [4, 4, 4]
    with g.Session(FreshDevice(), check="reference") as s:
        assert s.memory_plan(x * 2.0, {"n": 7}) == {"n": 7}
        assert "kernels: 3" in str(s.compile_report())
        assert s.device == "fresh"


def test_fed_inner_tensors_stop_the_search():
    x = g.placeholder("float32", [3], name="x")
    h = g.exp(x)
    y = g.exp(g.sin(h))
    with (
        g.Session(WrongDevice("exp", nudged), check="reference") as s,
        pytest.raises(g.NumericsError) as error,
    ):
        s.run(y, {h: [1, 2, 3]})
    line = y.node.where.line
    assert f"exp was called at test_check.py:{line}" in str(error.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_differences_are_told_in_ulp(dtype):
    want = np.array([1.0, 2.0, np.inf, np.nan], dtype)
    got = want.copy()
    assert differing(got, want) is None
    got[1] = want[1] * (1 + 2000 * np.finfo(dtype).eps) if dtype != "float64" else 2.0001
    assert "1 of 4 values differ, most at [1]" in differing(got, want)
    assert differing(got, want).endswith(" ulp")
    got[1], got[2] = want[1], -np.inf
    assert "most at [2]: -inf instead of inf" in differing(got, want)
    assert differing(want[:0], want[:0]) is None
