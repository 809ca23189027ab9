"""Pooling as kernels, against the oracles: ties, NaN, zeros of both signs; where kernels read."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from graphc.affine import place
from graphc.kernel import Kernel
from graphc.lower import expanded, lower
from graphc.nn import avg_pool2d, max_pool2d
from graphc.ops.gradient import gradients
from graphc.ops.source import placeholder
from graphc.plan import Call
from graphc.runtime.device import Environment
from graphc.runtime.interp.device import InterpProgram
from tests.support import ENTROPY_WORDS, Compiled, generator

GEOMETRY = list(
    itertools.product(
        ((2, 2), (3, 1), (1, 1), (3, 2)),  # windows
        ((1, 1), (2, 2), (2, 3), (3, 3)),  # strides
        ("VALID", "SAME", ((1, 0), (0, 0))),
    )
)
TABLE = [(k, s, p) for k, s, p in GEOMETRY if not isinstance(p, tuple) or k[0] > 1]


def special(shape: tuple[int, ...]) -> Any:
    """Few different values, so that there are ties, and some that are no numbers."""
    rng = generator("pooling", shape)
    values = np.array([0.0, -0.0, 1.0, -1.0, 2.0, np.nan, -np.inf, np.inf], np.float32)
    return rng.choice(values, shape, p=[0.2, 0.2, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05])


@pytest.mark.parametrize("skipped", ["", "normalise_windows"])
@pytest.mark.parametrize("sizes", ["static", "all"])
@pytest.mark.parametrize(("size", "strides", "padding"), TABLE)
def test_kernels_are_the_oracles(
    size: Any, strides: Any, padding: Any, sizes: str, skipped: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("GRAPHC_SKIP", skipped)
    x, declared = special((2, 6, 7, 3)), ["n", "h", "w", 3]
    images = placeholder("float32", x.shape if sizes == "static" else declared)
    y, mean = max_pool2d(images, size, strides, padding), avg_pool2d(images, size, strides, padding)
    g, h = placeholder("float32", [None] * 4), placeholder("float32", [None] * 4)
    (dx,), (dm,) = gradients(y, [images], [g]), gradients(mean, [images], [g])
    (back,) = gradients(dx, [g], [h])
    rng = generator("cotangents", size, strides)
    shape = (2, *_counts(size, strides, padding), 3)
    given = rng.choice(np.array([-0.0, 0.5, -2.0, 8.0], np.float32), shape)
    feeds = [x, given, rng.choice(np.array([-0.0, 1.5, -2.0], np.float32), x.shape)]
    inputs = [images, g, h]
    plain = Compiled.of([y, dx, back, mean, dm], inputs, [a.shape for a in feeds])
    environment = Environment(plain.sizes, {}, ENTROPY_WORDS)
    got = InterpProgram(plain.graph).run(feeds, environment)
    want = plain(*feeds)
    for a, b in zip(got[:3], want[:3], strict=True):
        np.testing.assert_array_equal(a, b)
        numbers = ~np.isnan(b)
        np.testing.assert_array_equal(np.signbit(a)[numbers], np.signbit(b)[numbers])
    for a, b in zip(got[3:], want[3:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def _counts(size: Any, strides: Any, padding: Any) -> list[int]:
    if padding == "SAME":
        return [-(-n // s) for n, s in zip((6, 7), strides, strict=True)]
    extra = (0, 0) if padding == "VALID" else tuple(map(sum, padding))
    places = zip((6, 7), size, strides, extra, strict=True)
    return [(n + e - k) // s + 1 for n, k, s, e in places]


def kernels(build: Any, sizes: Any, back: bool) -> list[Kernel]:
    """The kernels of a pool, or of its gradient alone."""
    images, g = placeholder("float32", sizes), placeholder("float32", [None] * 4)
    y = build(images)
    fetch = gradients(y, [images], [g])[0] if back else y
    shapes = [(3, 8, 6, 4), (3, 4, 3, 4)]
    graph = Compiled.of([fetch], [images, g], shapes).graph
    return [step.kernel for step in lower(graph).steps if isinstance(step, Call)]


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
@pytest.mark.parametrize("sizes", [(3, 8, 6, 4), ("n", 8, 6, 4)])
def test_windows_that_fit_are_read_plainly(pool: Any, sizes: Any, back: bool) -> None:
    for kernel in kernels(lambda x: pool(x, 2), sizes, back):
        reads = [part for part in kernel.formulas() if part.primitive == "read"]
        assert reads
        for part in reads:
            buffer, outside = part.value
            assert outside is None
            channel = place(part.operands[3:], buffer.type.shape[3:])
            assert channel is not None and list(channel.steps.items()) == [(kernel.axes[-1], 1)]


def test_a_mean_over_windows_that_fit_divides_by_a_number() -> None:
    [kernel] = kernels(lambda x: avg_pool2d(x, 2), ("n", "h", "w", 4), False)
    assert not any(part.primitive in ("divide", "minimum") for part in kernel.formulas())


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
def test_a_cell_sums_over_the_windows_that_see_it(pool: Any) -> None:
    """3x3 at stride 2: four windows at most, not nine taps."""
    images = placeholder("float32", ["n", 9, 9, 4])
    (dx,) = gradients(pool(images, 3, 2), [images])
    steps = lower(Compiled.of([dx]).graph).steps
    kernel = steps[-1].kernel if isinstance(steps[-1], Call) else None
    assert kernel is not None
    sums = [p for p in kernel.formulas() if p.primitive == "reduce" and p.value[0] == "sum"]
    assert [[axis.extent for axis in part.value[1]] for part in sums] == [[2, 2]]


@pytest.mark.parametrize("strides", [3, 2])
def test_the_winner_of_a_window_is_found_once(strides: int) -> None:
    """Not for each cell that the window sees: its gradient then is a comparison."""
    images = placeholder("float32", ["n", 9, 9, 4])
    graph = expanded(Compiled.of(gradients(max_pool2d(images, 3, strides), [images])).graph)
    names = [node.op.name for node in graph.nodes]
    assert names.count("max_pool2d_place") == names.count("max_pool2d_spread") == 1
    assert "max_pool2d_gradient" not in names
    last = lower(graph).steps[-1]
    assert isinstance(last, Call)
    assert not any(p.primitive == "reduce" and p.value[0] != "sum" for p in last.kernel.formulas())
