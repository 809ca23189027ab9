"""No NaN from what was not selected: values, first and second gradients, outside and in loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphc as g
from graphc.ops.branch import ifelse
from graphc.ops.scan import scan
from tests.control_support import DEVICES


@pytest.fixture(params=DEVICES, scope="module")
def session(request):
    return g.Session(device=request.param, seed=3)


BAD: dict[str, tuple[Callable[[Any], Any], float]] = {
    # what is infinite or NaN, or has no finite slope, at a point
    "sqrt at 0": (g.sqrt, 0.0),
    "sqrt below 0": (g.sqrt, -1.0),
    "log at 0": (g.log, 0.0),
    "log below 0": (g.log, -1.0),
    "log1p at -1": (g.log1p, -1.0),
    "log2 at 0": (g.log2, 0.0),
    "log10 at 0": (g.log10, 0.0),
    "division by 0": (lambda x: 1.0 / x, 0.0),
    "0 by 0": (lambda x: x / x, 0.0),
    "power below 0": (lambda x: x**0.5, -1.0),
    "half power at 0": (lambda x: x**0.5, 0.0),
    "negative power at 0": (lambda x: x**-1.5, 0.0),
    "power of itself at 0": (lambda x: x ** (x - 1.0), 0.0),
    "exp beyond": (lambda x: g.exp(x * 1000.0), 1.0),
    "exp of exp": (lambda x: g.exp(g.exp(x * 10.0)), 1.0),
    "square beyond": (lambda x: (x * 1e30) ** 2 * x, 1.0),
    "norm at 0": (lambda x: g.linalg.norm(g.stack([x, x * 2.0])), 0.0),
    "arccos at 1": (g.arccos, 1.0),
    "arcsin at -1": (g.arcsin, -1.0),
    "arctanh at 1": (g.arctanh, 1.0),
    "arccosh below 1": (g.arccosh, 0.5),
    "tan of inf": (lambda x: g.tan(1.0 / x), 0.0),
    "sigmoid of log": (lambda x: g.nn.sigmoid(g.log(x)), 0.0),
    "tanh of a quotient": (lambda x: g.tanh(1.0 / x), 0.0),
    "softplus of log": (lambda x: g.nn.softplus(-g.log(x)), 0.0),
    "cube root at 0": (g.cbrt, 0.0),
    "remainder by 0": (lambda x: 1.0 % x, 0.0),
    "logaddexp of -inf": (lambda x: g.logaddexp(g.log(x), g.log(x)), 0.0),
    "abs of log": (lambda x: g.abs(g.log(x)), 0.0),
    "prod of quotients": (lambda x: g.prod(g.stack([1.0 / x, x])), 0.0),
    "log of softmax": (lambda x: g.sum(g.nn.log_softmax(g.stack([x / x, x]))), 0.0),
    "variance of one": (lambda x: g.sqrt(g.var(g.stack([x, x]))), 0.0),
    "logsumexp": (lambda x: g.logsumexp(g.stack([g.log(x), g.log(x)])), 0.0),
}  # fmt: skip


class Choice(NamedTuple):
    """A way to leave something out: what it gives, for the bad value and the operand."""

    choose: Callable[[Any, Any], Any]
    value: Callable[[float], float]
    slope: float


CHOICES = {
    "where": Choice(lambda bad, x: g.where(x > 50.0, bad, x * 3.0), lambda x: x * 3, 3.0),
    "where, turned": Choice(lambda bad, x: g.where(x < 50.0, x * 3.0, bad), lambda x: x * 3, 3.0),
    "switch": Choice(lambda bad, x: g.switch(x > 50.0, bad, x * 3.0), lambda x: x * 3, 3.0),
    "ifelse": Choice(lambda bad, x: ifelse(x > 50.0, bad, x * 3.0), lambda x: x * 3, 3.0),
    "ifelse, turned": Choice(
        lambda bad, x: ifelse(x < 50.0, x * 3.0, lambda: bad), lambda x: x * 3, 3.0
    ),
    "ifelse in where": Choice(
        lambda bad, x: g.where(x > 50.0, ifelse(x < 60.0, bad, bad * 2.0), x * 3.0),
        lambda x: x * 3, 3.0,
    ),
    "element": Choice(lambda bad, x: g.stack([bad, x * 3.0])[1], lambda x: x * 3, 3.0),
    "times 0": Choice(
        lambda bad, x: x * 3.0 + 0.0 * g.where(x > 50.0, bad, 0.0), lambda x: x * 3, 3.0
    ),
}  # fmt: skip


def _slopes(y, x):
    first = g.gradients(y, [x], unconnected="zero")[0]
    return [y, first, g.gradients(first, [x], unconnected="zero")[0]]


def _looped(function, x):
    """In each step of a loop, on a state and on a row."""
    rows = scan(lambda t, s: [function(t) + 0.0 * s, s * 0.5], g.stack([x, x]), [None, x])[0]
    return rows[1]


@pytest.mark.parametrize("place", ["outside", "scan"])
@pytest.mark.parametrize("bad", BAD)
def test_what_was_not_selected(session, bad, place):
    function, at = BAD[bad]
    x = g.placeholder("float32", ())
    fetches = {}
    for name, choice in CHOICES.items():

        def build(t, choice=choice):
            return choice.choose(function(t), t)

        fetches[name] = _slopes(build(x) if place == "outside" else _looped(build, x), x)
    for name, got in session.run(fetches, {x: at}).items():
        expected = [CHOICES[name].value(at), CHOICES[name].slope, 0.0]
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=name)


EXTREMA: dict[str, tuple[Callable[[Any], Any], float, tuple[float, float]]] = {
    # one operand is infinite, and the other one is taken: where, and its value and slope there
    "maximum of log": (lambda x: g.maximum(g.log(x), x * 3.0), 0.0, (0.0, 3.0)),
    "minimum of a quotient": (lambda x: g.minimum(x * 3.0, 1.0 / x), 0.0, (0.0, 3.0)),
    "max of log": (lambda x: g.max(g.stack([g.log(x), x * 3.0])), 0.0, (0.0, 3.0)),
    "min of a quotient": (lambda x: g.min(g.stack([x * 3.0, 1.0 / x])), 0.0, (0.0, 3.0)),
    "clip of a quotient": (lambda x: g.clip(1.0 / x, -1.0, 2.0) + x * 3.0, 0.0, (2.0, 3.0)),
    "clip of log": (lambda x: g.clip(g.log(x), -1.0, 2.0) + x * 3.0, 0.0, (-1.0, 3.0)),
    "clip to a slope": (lambda x: g.clip(1.0 / x, -1.0, x * 3.0), 0.0, (0.0, 3.0)),
    "clip of a root": (lambda x: g.clip(g.sqrt(x), 1.0, 2.0) + x * 3.0, 0.0, (1.0, 3.0)),
    "relu of log": (lambda x: g.nn.relu(g.log(x)) + x * 3.0, 0.0, (0.0, 3.0)),
    "nan_to_num": (lambda x: g.nan_to_num(x / x, nan=2.0) + x * 3.0, 0.0, (2.0, 3.0)),
    "norm at 0": (lambda x: g.linalg.norm(g.stack([x, x])) + x * 3.0, 0.0, (0.0, 3.0)),
    "abs at 0": (lambda x: g.abs(x) + x * 3.0, 0.0, (0.0, 3.0)),
    "square at 0": (lambda x: x**2.0 + x * 3.0, 0.0, (0.0, 3.0)),
    "power of 0": (lambda x: x**0.0 + x * 3.0, 0.0, (1.0, 3.0)),
    "first power at 0": (lambda x: x**1.0 * 3.0, 0.0, (0.0, 3.0)),
    "sign at 0": (lambda x: g.sign(x) + x * 3.0, 0.0, (0.0, 3.0)),
    "sum without elements": (lambda x: g.sum(g.log(x * g.zeros([0]))) + x * 3.0, 0.0, (0.0, 3.0)),
    "root of a square": (lambda x: g.where(x > 0.0, g.sqrt(x * x), x * 3.0), 0.0, (0.0, 3.0)),
    "xlogx": (lambda x: g.where(x > 0.0, x * g.log(x), 0.0) + x * 3.0, 0.0, (0.0, 3.0)),
}  # fmt: skip


@pytest.mark.parametrize("place", ["outside", "scan", "ifelse in a scan"])
@pytest.mark.parametrize("name", EXTREMA)
def test_extrema_and_points_without_a_slope(session, name, place):
    function, at, expected = EXTREMA[name]
    x = g.placeholder("float32", ())

    def inside(t):
        return ifelse(t < 50.0, lambda: function(t), lambda: g.log(t - 60.0))

    y = function(x) if place == "outside" else _looped(function if place == "scan" else inside, x)
    got = session.run([y, *g.gradients(y, [x])], {x: at})
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert np.isfinite(session.run(_slopes(y, x)[2], {x: at}))
