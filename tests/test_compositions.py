"""meshgrid, allclose, diff, put_along_axis against NumPy, at known, open and unknown shapes."""

import numpy as np
import pytest

import graphc as g

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("sizes", [(), (3,), (3, 2), (2, 0, 4), (2, 3, 1, 2)])
@pytest.mark.parametrize("shape", [None, [None]])
def test_meshgrid(sizes, indexing, shape):
    arrays = [RNG.normal(size=n).astype("float32") for n in sizes]
    feeds = {g.placeholder("float32", shape): array for array in arrays}
    grids = g.Session().run(g.meshgrid(*feeds, indexing=indexing), feeds)
    expected = np.meshgrid(*arrays, indexing=indexing)
    assert len(grids) == len(expected)
    for grid, wanted in zip(grids, expected, strict=True):
        np.testing.assert_array_equal(grid, wanted)
        assert grid.dtype == wanted.dtype


def test_meshgrid_refuses_matrices_and_other_indexing():
    with pytest.raises(g.ShapeError, match=r"takes vectors, got i64\[1,2\]"):
        g.meshgrid([[1, 2]])
    with pytest.raises(g.ShapeError, match='"xy" or "ij"'):
        g.meshgrid([1, 2], indexing="yx")


@pytest.mark.parametrize("shape", [None, [None, None], [3, 4]])
@pytest.mark.parametrize(("n", "axis"), [(0, 0), (1, -1), (1, 0), (2, 1), (3, 0), (5, 1)])
def test_diff(shape, n, axis):
    x = g.placeholder("float32", shape)
    array = RNG.normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(
        g.diff(x, n, axis).eval({x: array}), np.diff(array, n, axis), strict=True
    )


def test_diff_of_booleans_and_its_gradient():
    array = np.array([True, False, False, True])
    np.testing.assert_array_equal(g.diff(array).eval(), np.diff(array), strict=True)
    x = g.placeholder("float64", [None])
    [slope] = g.gradients(g.sum(g.diff(x) ** 2), [x])
    np.testing.assert_allclose(slope.eval({x: [1.0, 2.0, 4.0]}), [-2, -2, 4])
    with pytest.raises(g.DTypeError, match="n must be an int"):
        g.diff(x, -1)


@pytest.mark.parametrize("equal_nan", [False, True])
@pytest.mark.parametrize("other", [[1.0, 2.0], [1.0, 2.00001], [1.0, 2.1], [1.0, np.nan], 1.0])
def test_allclose(other, equal_nan):
    base = np.array([1.0, np.nan if equal_nan else 2.0])
    found = g.allclose(base, np.array(other), equal_nan=equal_nan).eval()
    assert found.shape == ()
    assert bool(found) == np.allclose(base, other, equal_nan=equal_nan)


@pytest.mark.parametrize("shape", [None, [None, None], [3, 4]])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_put_along_axis(shape, axis):
    x, values = g.placeholder("float32", shape), g.placeholder("float32", shape and [None, None])
    array = RNG.normal(size=(3, 4)).astype("float32")
    indices = np.argsort(array, axis)[:2] if axis == 0 else np.argsort(array, axis)[:, :2]
    written = RNG.normal(size=indices.shape).astype("float32")
    expected = array.copy()
    np.put_along_axis(expected, indices, written, axis)
    result = g.put_along_axis(x, indices, values, axis)
    np.testing.assert_array_equal(result.eval({x: array, values: written}), expected, strict=True)
    slopes = g.gradients(g.sum(result * result), [x, values])
    to_x, to_values = g.Session().run(slopes, {x: array, values: written})
    kept = 2 * array
    np.put_along_axis(kept, indices, 0, axis)
    np.testing.assert_allclose(to_x, kept)
    np.testing.assert_allclose(to_values, 2 * written)


def test_put_along_axis_keeps_the_dtype_and_names_its_operands():
    x = np.zeros((2, 2), np.int32)
    result = g.put_along_axis(x, [[0], [1]], 7, 1)
    np.testing.assert_array_equal(result.eval(), np.array([[7, 0], [0, 7]], np.int32), strict=True)
    with pytest.raises(g.ShapeError, match="same rank"):
        g.put_along_axis(x, [0], 7, 1)
    with pytest.raises(g.DTypeError):
        g.put_along_axis(x, [[0], [1]], 7.5, 1)


def test_constants_and_other_names():
    assert (g.pi, g.e, g.inf, g.newaxis) == (np.pi, np.e, np.inf, None)
    assert np.isnan(g.nan)
    assert g.concat is g.concatenate
    assert (g.constant([1.0]) * g.pi).dtype is g.float32
