"""Kernels over rows that are passed several times, on OpenCL devices of both types.

Code for a GPU is run on whatever is there, which reports to be one. Where no driver is, all of it
is skipped; CI installs PoCL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph
from graphc.lower import lower
from graphc.passes import optimise
from graphc.plan import Call
from graphc.runtime.opencl.device import OpenclDevice, open_opencl
from graphc.runtime.opencl.generate import compile_kernel
from graphc.runtime.opencl.platforms import look
from tests.support import generator

pytestmark = pytest.mark.skipif(not look().devices, reason="no OpenCL driver is installed")
DIGITS = {"float32": 2e-6, "float64": 1e-14, "float16": 2e-3}


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest) -> OpenclDevice:
    found = open_opencl("opencl")
    reported = found.capabilities.without(type=request.param)
    return OpenclDevice(found.memory.context, found.context_device, reported, "opencl:other")


def normal(x: Any) -> Any:
    """Rows of mean 0 and variance 1."""
    mean = g.mean(x, -1, keepdims=True)
    return (x - mean) / g.sqrt(g.mean((x - mean) ** 2, -1, keepdims=True) + 1e-5)


def largest(x: Any) -> Any:
    """Flags of what is largest in its row, and whole numbers scaled by the row's largest."""
    n = g.cast(x * 10.0, "int32")
    return g.cast(n - g.max(n, -1, keepdims=True), x.dtype) + g.cast(
        x == g.max(x, -1, keepdims=True), x.dtype
    )


FUNCTIONS: list[Callable[[Any], Any]] = [
    g.nn.softmax, g.nn.log_softmax, normal, largest,
    lambda x: g.log(g.sum(g.exp(x - g.max(x, -1, keepdims=True)), -1)),
    lambda x: g.gradients([g.sum(g.nn.softmax(x) ** 2)], [x])[0],
    lambda x: g.exp(x) / g.sum(g.exp(x) * g.sigmoid(x), -1, keepdims=True) + g.min(x),
]  # fmt: skip
NAMES = ["softmax", "log_softmax", "normal", "largest", "logsumexp", "gradient", "twice"]


@pytest.mark.parametrize("make", FUNCTIONS, ids=NAMES)
@pytest.mark.parametrize("dtype", list(DIGITS))
def test_rows_of_all_lengths(device: OpenclDevice, make: Callable[[Any], Any], dtype: str) -> None:
    random = generator(7)
    with g.Session(device=device) as session, g.Session("reference") as reference:
        for length in (None, 40, 130, 4200) if dtype == "float32" else (None, 130):
            x = g.placeholder(dtype, [None, length], "x")
            y = make(x)
            for count in (1, 7) if length else (1, 15, 16, 17, 33, 1025):
                array = random.normal(0, 2, (5, length or count)).astype(dtype)
                got, want = (s.run(y, {x: array}) for s in (session, reference))
                scale = np.abs(want).max() + 1
                np.testing.assert_allclose(got, want, rtol=0, atol=8 * DIGITS[dtype] * scale)


@pytest.mark.parametrize("length", [33, None])
def test_special_values_stay_in_their_rows(device: OpenclDevice, length: int | None) -> None:
    array = generator(1).normal(size=(9, 33)).astype(np.float32)
    array[1, 32], array[2, 0], array[3, 16], array[4] = np.nan, np.inf, -np.inf, -np.inf
    x = g.placeholder("float32", [None, length], "x")
    fetches = [g.nn.softmax(x), normal(x), g.logsumexp(x, -1)]
    with g.Session(device=device) as session, g.Session("cpu") as cpu:
        for got, want in zip(*(s.run(fetches, {x: array}) for s in (session, cpu)), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def test_rows_of_several_axes_and_none(device: OpenclDevice) -> None:
    x = g.placeholder("float32", [None, 3, None], "x")
    y = [g.nn.softmax(x), normal(x), g.max(g.nn.softmax(x), -1)]
    with g.Session(device=device) as session, g.Session("cpu") as cpu:
        for shape in ((4, 3, 50), (1, 3, 1), (0, 3, 9)):
            array = generator(2).normal(size=shape).astype(np.float32)
            for got, want in zip(*(s.run(y, {x: array}) for s in (session, cpu)), strict=True):
                np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
        with pytest.raises(g.ShapeError, match="of no elements has no value"):
            session.run(y, {x: np.ones((4, 3, 0), np.float32)})


def _kernels(y: Any, device: OpenclDevice) -> list[int]:
    """Of each kernel of a plan, how many launches it is."""
    steps = lower(optimise(Graph((y,)))).steps
    kernels = [step.kernel for step in steps if isinstance(step, Call)]
    return [len(compile_kernel(kernel, device.capabilities)) for kernel in kernels]


@pytest.mark.parametrize("make", FUNCTIONS[:5], ids=NAMES[:5])
def test_it_is_one_launch(device: OpenclDevice, make: Callable[[Any], Any]) -> None:
    assert _kernels(make(g.placeholder("float32", ["n", 1000])), device) == [1]
    assert _kernels(make(g.placeholder("float32", ["n", "m"])), device) == [1]


def test_one_long_row_is_shared_by_all(device: OpenclDevice) -> None:
    assert sum(_kernels(g.nn.softmax(g.placeholder("float32", [1, 1_000_000])), device)) > 1


def test_terms_are_kept_for_the_stores(device: OpenclDevice) -> None:
    if device.capabilities.type != "cpu":
        return
    steps = lower(optimise(Graph((g.nn.softmax(g.placeholder("float32", ["n", 1024])),)))).steps
    [routine] = compile_kernel(steps[0].kernel, device.capabilities)
    assert routine.code.count("graphc_exp_") == 1
