"""What kernels cost, and what a machine can do: what a profile is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.costs import operations
from graphc.dims import Dim
from graphc.graph import Graph
from graphc.lower import lower
from graphc.passes import optimise
from graphc.plan import Call
from graphc.runtime.cpu.roofline import limits
from graphc.runtime.device import Limits
from graphc.runtime.profile import Spent


def _operations(y: Any) -> list[Any]:
    steps = lower(optimise(Graph((y,)))).steps
    return [operations(step.kernel) for step in steps if isinstance(step, Call)]


def test_a_product_is_two_operations_a_term() -> None:
    a = g.placeholder("float32", ["m", "k"])
    b = g.placeholder("float32", ["k", 7])
    assert _operations(a @ b) == [14 * Dim.symbol("m") * Dim.symbol("k")]


def test_what_depends_on_fewer_axes_is_counted_there() -> None:
    x = g.placeholder("float32", [5, 4])
    [total] = _operations(x / g.exp(x).sum(1, keepdims=True))
    assert total == 5 * 4 * 3  # an exponential and a sum for each element, then a quotient


def test_indices_cost_nothing() -> None:
    x = g.placeholder("float32", [6, 4])
    assert _operations(x[::-2, 1:].transpose([1, 0]) + 1) == [9]


def test_the_limits_of_this_machine_are_plausible() -> None:
    found = limits()
    assert found.operations > 1e8 and found.bytes > 1e7
    assert limits() is found  # measured once


@pytest.mark.parametrize(
    ("spent", "text"),
    [
        (Spent("a", "matmul", "", 1.0, 10, 500), " 50% of peak"),
        (Spent("a", "add", "", 2.0, 150, 10), " 75% of copy"),
    ],
)
def test_a_share_is_of_the_nearer_limit(spent: Spent, text: str) -> None:
    assert spent.share(Limits(1000.0, 100.0)) == text


def test_a_profile_shows_shares_on_the_cpu() -> None:
    x = g.placeholder("float32", [64, 64])
    with g.Session() as session:
        profile = session.profile(g.exp(x) @ x, {x: np.ones((64, 64), np.float32)})
    assert " of peak" in str(profile) or " of copy" in str(profile)
    assert [row.work for row in profile.rows] == [64 * 64, 2 * 64**3]
