"""Broadcasting: NumPy's, for sizes known now, and for sizes that a run brings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from graphc.dims import Dim
from graphc.errors import ShapeError
from graphc.ops.arith import add
from graphc.ops.broadcast import broadcast_to
from graphc.ops.gradient import gradients
from graphc.ops.source import placeholder
from tests.support import run

shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
broadcastable = mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=4, max_dims=4)


def _arrays(*listed: tuple[int, ...]) -> list[Any]:
    return [np.arange(np.prod(shape), dtype=np.float64).reshape(shape) for shape in listed]


def _numpys(a: Any, b: Any) -> Any:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        return None


@given(shapes, shapes)
def test_known_shapes(a: Any, b: Any) -> None:
    x, y = placeholder("float32", a), placeholder("float32", b)
    wanted = _numpys(a, b)
    if wanted is None:
        with pytest.raises(ShapeError, match="add: shapes must broadcast, got a: f32"):
            add(x, y)
    else:
        assert add(x, y).shape == wanted


@given(broadcastable, st.data())
def test_sizes_bound_at_the_run(drawn: Any, data: Any) -> None:
    arrays = _arrays(*drawn.input_shapes)
    inputs = []
    for array in arrays:
        kept = data.draw(st.lists(st.booleans(), min_size=array.ndim, max_size=array.ndim))
        declared = [d if keep else None for d, keep in zip(array.shape, kept, strict=True)]
        inputs.append(placeholder("float64", data.draw(st.sampled_from([declared, None]))))
    total = add(*inputs)
    if total.shape is not None:
        assert len(total.shape) == len(drawn.result_shape)
        for inferred, real in zip(total.shape, drawn.result_shape, strict=True):
            assert isinstance(inferred, Dim) or inferred == real
    got, *slopes = run([total, *gradients(total, inputs)], dict(zip(inputs, arrays, strict=True)))
    np.testing.assert_array_equal(got, arrays[0] + arrays[1])
    for slope, array in zip(slopes, arrays, strict=True):
        assert slope.shape == array.shape
        if array.size:
            np.testing.assert_array_equal(slope, np.full(array.shape, got.size / array.size))


@given(shapes, shapes)
def test_mismatches_are_found_at_the_run(a: Any, b: Any) -> None:
    if _numpys(a, b) is not None:
        return
    arrays = _arrays(a, b)
    inputs = [placeholder("float64", [None] * len(shape)) for shape in (a, b)]
    with pytest.raises(ShapeError, match="shapes must broadcast"):
        run([add(*inputs)], dict(zip(inputs, arrays, strict=True)))


@given(shapes, shapes)
def test_broadcast_to(a: Any, b: Any) -> None:
    x = placeholder("float32", a)
    if _numpys(a, b) == b:
        assert broadcast_to(x, b).shape == b
    else:
        with pytest.raises(ShapeError, match="broadcast_to: "):
            broadcast_to(x, b)


def test_one_name_is_one_size() -> None:
    x, y = placeholder("float32", ("n", 3)), placeholder("float32", ("n", 1))
    total = add(x, y)
    assert total.shape == (Dim.symbol("n"), 3)
    assert total.node.settled


def test_open_sizes_stay_open() -> None:
    x, y = placeholder("float32", (None, 3)), placeholder("float32", (None, 3))
    total = add(x, y)
    assert not total.node.settled
    for rows, columns in ((4, 4), (1, 4), (4, 1), (1, 1), (0, 1), (0, 0)):
        arrays = [np.ones((rows, 3), np.float32), np.ones((columns, 3), np.float32)]
        (got,) = run([total], {x: arrays[0], y: arrays[1]})
        assert got.shape == np.broadcast_shapes((rows, 3), (columns, 3))
