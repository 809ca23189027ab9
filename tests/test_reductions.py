"""Reductions, running sums and sorting against NumPy over drawn shapes and axes; ties, NaN, 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.dims import Dim
from graphc.errors import GradientError, ShapeError
from graphc.graph import Tensor
from graphc.ops.cumulative import cumprod, cumsum
from graphc.ops.gradient import gradients
from graphc.ops.moments import logsumexp, std, var
from graphc.ops.reduce import (
    all,
    any,
    argmax,
    argmin,
    count_nonzero,
    max,
    mean,
    min,
    prod,
)
from graphc.ops.sorting import argsort, searchsorted, sort, top_k
from graphc.ops.source import as_tensor, placeholder
from tests.support import SPELLINGS, Compiled, assert_same, directional, run

Array = Any
SPELLED = st.sampled_from(sorted(SPELLINGS))
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
DTYPES = ("bool", "int8", "uint16", "int64", "float32", "float64")


def _reference_logsumexp(x: Array, axis: Any, keepdims: bool) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


TWINS: dict[str, tuple[Callable[..., Tensor], Callable[..., Any]]] = {
    "prod": (prod, np.prod), "max": (max, np.max), "min": (min, np.min), "mean": (mean, np.mean),
    "any": (any, np.any), "all": (all, np.all), "var": (var, np.var), "std": (std, np.std),
    "count_nonzero": (count_nonzero, np.count_nonzero),
    "logsumexp": (logsumexp, _reference_logsumexp),
}  # fmt: skip


def _array(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith(("int", "uint")):
        return rng.integers(0, 5, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


@st.composite
def _axes(draw: Any) -> tuple[tuple[int, ...], Any]:
    """A shape, and axes of it: None, an int, or some, counted from either end."""
    shape = draw(SHAPES)
    rank = len(shape)
    if draw(st.booleans()) or not rank:
        return shape, draw(st.sampled_from([None, ()]))
    some = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank))
    signed = tuple(a - rank if draw(st.booleans()) else a for a in some)
    return shape, signed[0] if len(signed) == 1 and draw(st.booleans()) else signed


def _meet(shape: tuple[int, ...], axis: Any) -> int:
    listed = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return int(np.prod([shape[a] for a in listed]))


@pytest.mark.parametrize("name", sorted(TWINS))
@settings(deadline=None, max_examples=60)
@given(_axes(), st.booleans(), st.sampled_from(DTYPES), SPELLED, st.integers(0, 99))
def test_any_axes(
    name: str, drawn: tuple[Any, Any], keepdims: bool, dtype: str, spelling: str, seed: int
) -> None:
    build, reference = TWINS[name]
    shape, axis = drawn
    if name == "logsumexp":
        dtype = "float64"
    x = _array(shape, dtype, seed)
    if _meet(shape, axis) == 0 and name in ("max", "min", "mean", "var", "std"):
        return  # test_over_no_elements
    tensor = SPELLINGS[spelling](x)
    (got,) = run([build(tensor, axis=axis, keepdims=keepdims)], {tensor: x})
    want = np.asarray(reference(x, axis=axis, keepdims=keepdims))
    assert_same(got, want, f"{name} of {dtype}{shape}, {axis}")


@pytest.mark.parametrize("build", [argmax, argmin])
@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 9), st.booleans(), SPELLED, st.integers(0, 99))
def test_argmax(
    build: Any, shape: tuple[int, ...], place: int, keepdims: bool, spelling: str, seed: int
) -> None:
    axis = None if place >= 2 * len(shape) else place - len(shape)
    if 0 in shape:
        return
    x = _array(shape, "int8", seed)
    tensor = SPELLINGS[spelling](x)
    (got,) = run([build(tensor, axis, keepdims)], {tensor: x})
    assert_same(got, np.asarray(getattr(np, build.__name__)(x, axis, keepdims=keepdims)), shape)


def test_nan_is_found_first() -> None:
    x = np.array([1.0, np.nan, 5.0, np.nan])
    for build in (argmax, argmin):
        assert run([build(x)])[0] == 1
    for build in (max, min):
        (value,), (cotangent,) = run([build(x)]), run(_gradient(build, x))
        assert np.isnan(value)
        np.testing.assert_array_equal(cotangent, [0, 0.5, 0, 0.5])


@pytest.mark.parametrize("build", [max, min, argmax, argmin])
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((0, 3), 0), ((2, 0), -1), ((0, 0), 0)])
def test_no_identity(build: Any, shape: tuple[int, ...], axis: Any) -> None:
    with pytest.raises(ShapeError, match="zero-size x has no identity"):
        build(np.zeros(shape), axis)
    open_ = placeholder("float64", [None] * len(shape))
    with pytest.raises(ShapeError, match=f"{build.__name__}: "):
        run([build(open_, axis)], {open_: np.zeros(shape)})
    assert build(np.zeros((0, 3)), 1).shape == (0,)


def test_over_no_elements() -> None:
    x = np.zeros((0, 3))
    want = {prod: 1.0, mean: np.nan, var: np.nan, std: np.nan, logsumexp: -np.inf}
    for build, value in want.items():
        np.testing.assert_array_equal(run([build(x, 0)])[0], [value] * 3)
        assert run([build(x, 1)])[0].shape == (0,)
    np.testing.assert_array_equal(run([max(x, 0, initial=-2.0)])[0], [-2.0] * 3)
    assert run([any(x)])[0] == False  # noqa: E712
    assert run([all(x)])[0] == True  # noqa: E712


def test_initial() -> None:
    x = as_tensor(np.array([[1.0, 5.0], [7.0, 2.0]]))
    largest = max(x, 1, initial=6.0)
    np.testing.assert_array_equal(run([largest])[0], [6.0, 7.0])
    np.testing.assert_array_equal(run(gradients(largest, [x]))[0], [[0, 0], [1, 0]])
    np.testing.assert_array_equal(run([min(x, 1, initial=1)])[0], [1.0, 1.0])


def test_wrong_axes() -> None:
    x = placeholder("float32", (2, 3))
    for build in (max, mean, prod, var, logsumexp, any):
        with pytest.raises(ShapeError, match="axis 2 is out of range for rank 2"):
            build(x, 2)
        with pytest.raises(ShapeError, match="must not be repeated"):
            build(x, (0, -2))
    with pytest.raises(ShapeError, match="axis must be an int"):
        argmax(x, (0, 1))


def test_dtypes() -> None:
    for dtype, accumulated in (("bool", "int64"), ("int8", "int64"), ("uint8", "uint64")):
        x = placeholder(dtype, None)
        assert [build(x).dtype for build in (prod, cumsum, cumprod)] == [accumulated] * 3
        assert [build(x).dtype for build in (mean, var, std)] == ["float64"] * 3
        assert max(x).dtype == dtype
    half = as_tensor(np.full(5000, 20.0, np.float16))
    assert run([mean(half)])[0] == np.float16(20.0)  # the sum is beyond float16
    assert run([var(half)])[0] == 0
    many = as_tensor(np.ones(70_000, np.float16))  # a count beyond float16
    np.testing.assert_allclose(run(gradients(mean(many), [many]))[0], 1 / 70_000, rtol=1e-2)


def test_everything_is_a_scalar_even_of_unknown_rank() -> None:
    x = placeholder("float32", None)
    for build in (max, min, prod, mean, var, std, logsumexp, any, all, argmax, argmin):
        assert build(x).shape == ()
        assert build(x, keepdims=True).shape is None


# ---------------------------------------------------------------------------- gradients


def _gradient(build: Any, x: Array, **attrs: Any) -> list[Tensor]:
    tensor = as_tensor(x)
    return gradients(build(tensor, **attrs), [tensor])


def test_ties_share() -> None:
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    third = 1 / 3
    want = [[0, 0.5, 0.5], [third, third, third]]
    np.testing.assert_allclose(run(_gradient(max, x, axis=1))[0], want)
    np.testing.assert_allclose(run(_gradient(min, -x, axis=1))[0], want)


@pytest.mark.parametrize("zeros", [(), (1,), (1, 3), (0, 1, 2)])
@pytest.mark.parametrize("build", [prod, cumprod])
def test_products_with_zeros(build: Any, zeros: tuple[int, ...]) -> None:
    """Exact first, second and third derivatives, by differences of ever higher derivatives."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0.5, 2, 5)
    x[list(zeros)] = 0.0
    tensor = placeholder("float64", (5,))
    weights = [rng.normal(size=5) for _ in range(3)]
    y = build(tensor) * as_tensor(weights[0])
    chain = [y.sum()]
    for v in weights:
        (g,) = gradients(chain[-1], [tensor])
        chain.append((g * as_tensor(v)).sum())
    compiled = Compiled.of(chain, [tensor], [(5,)])
    for order, v in enumerate(weights):
        slope = directional(lambda a, k=order: compiled(a)[k], [x], [v], step=1e-2)
        np.testing.assert_allclose(compiled(x)[order + 1], slope, rtol=1e-6, atol=1e-8)


def test_flat_deviation() -> None:
    x = np.full((2, 3), 0.75)
    tensor = as_tensor(x)
    y = std(tensor, 1).sum()
    (first,) = gradients(y, [tensor])
    (second,) = gradients((first * first).sum() + y, [tensor])
    for value in run([first, second]):
        np.testing.assert_array_equal(value, np.zeros((2, 3)))


def test_mean_of_symbolic_size() -> None:
    x = placeholder("float64", ["batch", 3])
    (g,) = gradients(mean(x), [x])
    assert isinstance(g.shape[0], Dim)  # type: ignore[index]
    for size in (1, 4):
        np.testing.assert_allclose(
            run([g], {x: np.zeros((size, 3))})[0], np.full((size, 3), 1 / size / 3)
        )


def test_logsumexp_at_infinities() -> None:
    rows = np.array([[-np.inf, -np.inf], [np.inf, 0], [np.inf, np.inf], [-np.inf, 2], [1e4, 1e4]])
    tensor = as_tensor(rows)
    y = logsumexp(tensor, 1)
    values, cotangents = run([y, *gradients(y, [tensor])])
    np.testing.assert_allclose(values, [-np.inf, np.inf, np.inf, 2, 1e4 + np.log(2)])
    np.testing.assert_allclose(cotangents, [[0.5, 0.5], [1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5]])


def test_indices_cut_gradients() -> None:
    x = placeholder("float32", (3,))
    with pytest.raises(GradientError, match=r"cut by argmax .*, for an index has no gradient"):
        gradients(argmax(x).astype("float32"), [x])
    with pytest.raises(GradientError, match=r"argsort .*, for an index has no gradient"):
        gradients(argsort(x).astype("float32"), [x])


# ---------------------------------------------------------------------------- running sums


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 5), st.booleans(), SPELLED, st.sampled_from(DTYPES))
def test_running(
    shape: tuple[int, ...], place: int, reverse: bool, spelling: str, dtype: str
) -> None:
    axis = None if place >= 2 * len(shape) else place - len(shape)
    x = _array(shape, dtype, 5)
    tensor = SPELLINGS[spelling](x)
    built = [cumsum(tensor, axis, reverse=reverse), cumprod(tensor, axis, reverse=reverse)]
    for got, reference in zip(run(built, {tensor: x}), (np.cumsum, np.cumprod), strict=True):
        source = x.ravel() if axis is None else x
        along = 0 if axis is None else axis
        want = np.flip(reference(np.flip(source, along), along), along) if reverse else reference(
            source, along
        )  # fmt: skip
        assert_same(got, want, f"{reference.__name__} of {shape}, {axis}")


# ---------------------------------------------------------------------------- sorting


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 5), st.booleans(), SPELLED, st.integers(0, 99))
def test_sort(
    shape: tuple[int, ...], place: int, descending: bool, spelling: str, seed: int
) -> None:
    axis = None if place >= 2 * len(shape) else place - len(shape)
    rng = np.random.default_rng(seed)
    x = rng.choice([0.0, 1.0, 2.0, np.nan, -np.inf], shape)
    tensor = SPELLINGS[spelling](x)
    built = [
        sort(tensor, axis, descending=descending),
        argsort(tensor, axis, descending=descending),
    ]
    values, order = run(built, {tensor: x})
    source, along = (x.ravel(), 0) if axis is None else (x, axis)
    rank = np.nan_to_num(source, nan=9.0, neginf=-9.0)
    want = np.argsort(-rank if descending else rank, along, kind="stable")
    np.testing.assert_array_equal(order, want)
    np.testing.assert_array_equal(values, np.take_along_axis(source, want, along))


def test_sorted_gradients() -> None:
    x = as_tensor(np.array([[3.0, 1.0, 2.0], [5.0, 9.0, 7.0]]))
    weights = as_tensor(np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]))
    (up,) = gradients(sort(x), [x], [weights])
    (down,) = gradients(sort(x, descending=True), [x], [weights])
    np.testing.assert_array_equal(run([up])[0], [[30, 10, 20], [40, 60, 50]])
    np.testing.assert_array_equal(run([down])[0], [[10, 30, 20], [60, 40, 50]])
    values, _ = top_k(x, 2)
    (of_top,) = gradients(values, [x], [weights[:, :2]])
    np.testing.assert_array_equal(run([of_top])[0], [[10, 0, 20], [0, 40, 50]])


@settings(deadline=None, max_examples=40)
@given(SHAPES.filter(len), st.data(), SPELLED)
def test_top_k(shape: tuple[int, ...], data: Any, spelling: str) -> None:
    k = data.draw(st.integers(0, shape[-1]))
    x = _array(shape, "int8", 11)
    tensor = SPELLINGS[spelling](x)
    values, indices = run(list(top_k(tensor, k)), {tensor: x})
    want = np.argsort(-x, -1, kind="stable")[..., :k]
    np.testing.assert_array_equal(indices, want)
    np.testing.assert_array_equal(values, np.take_along_axis(x, want, -1))


def test_top_k_is_bounded() -> None:
    with pytest.raises(ShapeError, match="k must be between 0 and the last size, 3, k=4"):
        top_k(placeholder("float32", (2, 3)), 4)
    with pytest.raises(ShapeError, match="k=-1"):
        top_k(placeholder("float32", (2, 3)), -1)
    open_ = placeholder("float32", [None])
    with pytest.raises(ShapeError, match="k=4"):
        run(list(top_k(open_, 4)), {open_: np.zeros(3, np.float32)})


def test_searchsorted() -> None:
    ordered, values = np.array([1, 3, 3, 7]), np.array([[0, 1], [3, 9]])
    for side in ("left", "right"):
        (got,) = run([searchsorted(ordered, values, side)])
        assert_same(got, np.searchsorted(ordered, values, side), side)  # type: ignore[call-overload]
    with pytest.raises(ShapeError, match='side must be "left" or "right"'):
        searchsorted(ordered, values, "middle")
    with pytest.raises(ShapeError, match="ordered must have one axis"):
        searchsorted(values, ordered)


def test_names() -> None:
    x = placeholder("float32", (2, 3))
    for build in (max, mean, argmax, logsumexp, std, cumsum, sort, argsort, count_nonzero):
        assert build(x, name="found").name == "found"
