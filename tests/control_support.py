"""What the tests of loops and branches share: the devices, and a graph held against another.

A loop is held against its unrolled graph: the same function, called once for each step in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import graphc as g
from graphc.graph import Tensor
from tests.devices import OPENCL

DEVICES = ("reference", "interp", "cpu", *OPENCL)
LENGTHS = (0, 1, 2, 7)


def stacked(steps: Sequence[Tensor], shape: tuple[int, ...], dtype: Any = "float64") -> Tensor:
    """What a scan stacks, of its steps one by one; they may be none."""
    rows = [g.expand_dims(step, 0) for step in steps]
    return g.concatenate([g.zeros((0, *shape), dtype), *rows])


def loss_of(ys: Sequence[Tensor]) -> Tensor:
    """A number that each element of each y has another influence on."""
    terms = []
    for place, y in enumerate(ys):
        flat = g.reshape(y, [-1])
        weights = g.cos(g.arange(g.shape(flat)[0]).astype(y.dtype) * 0.7 + float(place))
        terms.append(g.sum(weights * g.sin(flat + 0.3)))
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def derivatives(ys: Sequence[Tensor], xs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """First and second gradients of a loss of `ys`."""
    first = g.gradients(loss_of(ys), list(xs), unconnected="zero")
    second = g.gradients(loss_of(first), list(xs), unconnected="zero")
    return first, second


def agree(
    device: str,
    looped: Sequence[Tensor],
    unrolled: Sequence[Tensor],
    xs: Sequence[Tensor],
    feeds: Mapping[Tensor, Any],
    tolerance: float = 1e-9,
) -> None:
    """Hold values, first and second gradients of two ways to write one thing against each other.

    `xs` are float64 placeholders that both graphs read.
    """
    names = ("values", "first gradients", "second gradients")
    with g.Session(device=device) as session:
        got = session.run((list(looped), *derivatives(looped, xs)), feeds)
    with g.Session(device="reference") as session:
        want = session.run((list(unrolled), *derivatives(unrolled, xs)), feeds)
    for name, ours, theirs in zip(names, got, want, strict=True):
        for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert a.shape == b.shape, f"{name}[{place}]: {a.shape} and {b.shape}"
            np.testing.assert_allclose(
                a, b, rtol=tolerance, atol=tolerance, err_msg=f"{name}[{place}]"
            )


def raised(kind: type[Exception], program: Callable[[], Any]) -> str:
    """The text of the error that a program raises."""
    try:
        program()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__} was raised")
