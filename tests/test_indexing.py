"""`x[index]` and `x.at[index]` against NumPy: drawn indices, symbolic sizes, unknown ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.dims import Dim
from graphc.errors import DTypeError, GraphcError, ShapeError
from graphc.graph import Tensor
from graphc.ops.along_axis import take_along_axis
from graphc.ops.arrange import repeat
from graphc.ops.gather import gather, gather_nd, scatter_add, take
from graphc.ops.gradient import gradients
from graphc.ops.measure import shape
from graphc.ops.source import as_tensor, placeholder
from graphc.runtime.session import Session

SPELLINGS = ("static", "symbolic", "rankless")


def spelled(array: np.ndarray[Any, Any], spelling: str) -> Tensor:
    """A placeholder for an array: its shape known, symbolic, or unknown."""
    shapes: dict[str, Any] = {
        "static": array.shape, "symbolic": [None] * array.ndim, "rankless": None,
    }  # fmt: skip
    return placeholder(array.dtype, shapes[spelling])


def numbers(*sizes: int) -> np.ndarray[Any, Any]:
    return np.arange(1.0, np.prod(sizes, dtype=int) + 1.0).reshape(sizes)


def symbolic_index(index: Any, feeds: dict[Tensor, Any]) -> Any:
    """The same index with its arrays fed instead of written down."""
    items = index if isinstance(index, tuple) else (index,)
    listed = []
    for item in items:
        if isinstance(item, np.ndarray):
            fed = placeholder(item.dtype, [None] * item.ndim)
            feeds[fed] = item
            item = fed
        listed.append(item)
    return tuple(listed)


# ---------------------------------------------------------------------------- drawing indices


def _slices(size: int) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-size - 2, size + 2)
    step = st.none() | st.sampled_from([-3, -2, -1, 1, 2, 3])
    return st.builds(slice, bound, bound, step)


def _basic(size: int) -> st.SearchStrategy[Any]:
    return _slices(size) | st.integers(-size, size - 1) if size else _slices(size)


@st.composite
def basic_indices(draw: Any) -> tuple[tuple[int, ...], Any]:
    """A shape, and an index of ints, slices, None and an ellipsis."""
    sizes = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    used = draw(st.integers(0, len(sizes)))
    has_rest = draw(st.booleans())
    front = draw(st.integers(0, used)) if has_rest else used
    back = sizes[len(sizes) - (used - front) :]
    items: list[Any] = [draw(_basic(s)) for s in sizes[:front]]
    items += [Ellipsis] if has_rest else []
    items += [draw(_basic(s)) for s in back]
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    return sizes, tuple(items)


@st.composite
def advanced_indices(draw: Any) -> tuple[tuple[int, ...], Any]:
    """The same with arrays, whose shapes broadcast."""
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    common = draw(st.lists(st.integers(0, 3), max_size=2))
    items: list[Any] = []
    for size in sizes:
        kind = draw(st.sampled_from(["array", "array", "basic"]))
        if kind == "basic":
            items.append(draw(_basic(size)))
            continue
        own = common[draw(st.integers(0, len(common))) :]
        own = [1 if draw(st.booleans()) else d for d in own]
        values = st.integers(-size, size - 1)
        count = int(np.prod(own, dtype=int))
        listed = draw(st.lists(values, min_size=count, max_size=count))
        items.append(np.array(listed, np.int64).reshape(own))
    rest = draw(st.integers(0, len(items)))
    if draw(st.booleans()):
        items[rest : rest + draw(st.integers(0, 2))] = [Ellipsis]
    for _ in range(draw(st.integers(0, 2))):
        items.insert(draw(st.integers(0, len(items))), None)
    return sizes, tuple(items)


# ---------------------------------------------------------------------------- reading


@given(basic_indices(), st.sampled_from(SPELLINGS))
def test_basic(drawn: Any, spelling: str) -> None:
    sizes, index = drawn
    array = numbers(*sizes)
    x = spelled(array, spelling)
    y = x[index]
    got = Session().run(y, {x: array})
    np.testing.assert_array_equal(got, array[index])
    if spelling == "static":
        assert y.shape == array[index].shape


@given(advanced_indices(), st.sampled_from(SPELLINGS), st.booleans())
def test_advanced(drawn: Any, spelling: str, fed: bool) -> None:
    sizes, index = drawn
    array = numbers(*sizes)
    x = spelled(array, spelling)
    feeds: dict[Tensor, Any] = {x: array}
    y = x[symbolic_index(index, feeds) if fed else index]
    np.testing.assert_array_equal(Session().run(y, feeds), array[index])
    if spelling == "static" and not fed:
        assert y.shape == array[index].shape


# ---------------------------------------------------------------------------- updates

UFUNCS = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}


@given(
    basic_indices() | advanced_indices(),
    st.sampled_from(SPELLINGS),
    st.sampled_from(["set", "add", "multiply", "min", "max"]),
    st.booleans(),
)
def test_updates(drawn: Any, spelling: str, mode: str, scalar: bool) -> None:
    sizes, index = drawn
    array = numbers(*sizes)
    read = np.asarray(array[index])
    values = np.float64(7.0) if scalar else np.linspace(0.0, 9.0, read.size).reshape(read.shape)
    want = array.copy()
    if mode == "set":
        want[index] = values
    else:
        UFUNCS[mode].at(want, index, values)
    x, v = spelled(array, spelling), spelled(np.asarray(values), spelling)
    y = getattr(x.at[index], mode)(v)
    assert y.dtype is x.dtype
    np.testing.assert_allclose(Session().run(y, {x: array, v: values}), want, rtol=1e-14)


@given(basic_indices() | advanced_indices(), st.sampled_from(["get", "set", "add", "multiply"]))
def test_gradients(drawn: Any, mode: str) -> None:
    """Each output is linear in x and in v alone, so a difference of any size is the derivative."""
    sizes, index = drawn
    rng = np.random.default_rng(3)
    array = np.asarray(rng.uniform(1.0, 2.0, sizes))
    values = np.asarray(rng.uniform(1.0, 2.0, array[index].shape))
    x, v = placeholder("float64", array.shape), placeholder("float64", values.shape)

    def apply(x: Tensor, v: Tensor) -> Tensor:
        return x[index] * v if mode == "get" else getattr(x.at[index], mode)(v)

    y = apply(x, v)
    weights = rng.uniform(-1.0, 1.0, Session().run(y, {x: array, v: values}).shape)
    dx, dv = gradients((y * weights).sum(), [x, v], unconnected="zero")
    tx, tv = rng.uniform(-1.0, 1.0, array.shape), rng.uniform(-1.0, 1.0, values.shape)
    got_x, got_v = Session().run([(dx * tx).sum(), (dv * tv).sum()], {x: array, v: values})
    h = 1e-6
    for got, along in ((got_x, (h, 0.0)), (got_v, (0.0, h))):
        up, down = (
            Session().run(y, {x: array + s * along[0] * tx, v: values + s * along[1] * tv})
            for s in (1, -1)
        )
        np.testing.assert_allclose(got, ((up - down) * weights).sum() / (2 * h), atol=1e-6)


def test_updates_at_repeated_indices() -> None:
    x, v = placeholder("float64", [3]), placeholder("float64", [3])
    index = [1, 1, 0]
    feeds = {x: np.array([1.0, 2.0, 3.0]), v: np.array([4.0, 5.0, 6.0])}
    expected = {
        "set": ([0, 0, 1], [0, 1, 1]),
        "add": ([1, 1, 1], [1, 1, 1]),
        "multiply": ([6, 20, 1], [10, 8, 1]),
        "max": ([0, 0, 1], [0, 1, 1]),
        "min": ([1, 1, 1], [0, 0, 0]),
    }
    for mode, (wx, wv) in expected.items():
        dx, dv = gradients(getattr(x.at[index], mode)(v), [x, v])
        got = Session().run([dx, dv], feeds)
        np.testing.assert_allclose(got[0], wx, err_msg=mode)
        np.testing.assert_allclose(got[1], wv, err_msg=mode)


def test_products_with_zeros_have_gradients() -> None:
    x, v = placeholder("float64", [2]), placeholder("float64", [2])
    dv = gradients(x.at[[0, 0]].multiply(v), [v])[0]
    for values, want in (([0.0, 5.0], [15.0, 0.0]), ([0.0, 0.0], [0.0, 0.0])):
        got = Session().run(dv, {x: np.array([3.0, 1.0]), v: np.array(values)})
        np.testing.assert_allclose(got, want)


# ---------------------------------------------------------------------------- symbolic sizes

SYMBOLIC: tuple[Any, ...] = (
    np.s_[1:], np.s_[:-1], np.s_[::2], np.s_[::-1], np.s_[-2:], np.s_[:2], np.s_[3:1:-1],
    np.s_[-1::-2], np.s_[1:, ::-1], np.s_[:, None, 1], np.s_[..., -1], np.s_[:, [2, 0]],
    np.s_[None, 10:], np.s_[-10:3:2],
)  # fmt: skip


@pytest.mark.parametrize("index", SYMBOLIC, ids=str)
def test_built_once_for_all_sizes(index: Any) -> None:
    x = placeholder("float32", ["n", 3])
    y = x[index]
    dx = gradients((y * y).sum(), [x])[0]
    session = Session()
    for n in (0, 1, 2, 5):
        array = numbers(n, 3).astype(np.float32)
        want = np.zeros_like(array)
        want[index] = 2 * array[index]
        got, gradient = session.run([y, dx], {x: array})
        np.testing.assert_array_equal(got, array[index])
        np.testing.assert_array_equal(gradient, want)


def test_a_length_stays_an_expression() -> None:
    x = placeholder("float32", ["n"])
    n = x.shape[0] if x.shape else 0
    assert isinstance(n, Dim)
    assert x[::-1].shape == (n,) and x[:].shape == (n,)
    assert str(x[1:].shape) == "(max(0,n-1),)" and str(x[-2:].shape) == "(min(2,n),)"
    assert x[1:].shape == x[:-1].shape


def test_sizes_as_indices() -> None:
    x = placeholder("float32", ["n"])
    n = shape(x)[0]
    session = Session()
    array = numbers(6).astype(np.float32)
    reads = [x[n - 2], x[: n // 2], x[n // 2 :], x[-(n // 3) :], x[n - 1 :: -1]]
    wants = [array[4], array[:3], array[3:], array[-2:], array[::-1]]
    for got, want in zip(session.run(reads, {x: array}), wants, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("k", [-9, -3, -1, 0, 1, 4, 5, 9])
def test_fed_bounds(k: int) -> None:
    x, bound = placeholder("float64", [5]), placeholder("int32", [])
    array = numbers(5)
    reads = [x[:bound], x[bound:], x[bound::-1], x[:bound:-2], x[bound : bound + 2]]
    wants = [array[:k], array[k:], array[k::-1], array[:k:-2], array[k : k + 2]]
    for got, want in zip(Session().run(reads, {x: array, bound: k}), wants, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_fed_index() -> None:
    x, i = placeholder("float64", [None, 2]), placeholder("int64", [])
    dx = gradients(x[i].sum(), [x])[0]
    row, gradient = Session().run([x[i], dx], {x: numbers(3, 2), i: -1})
    np.testing.assert_array_equal(row, [5, 6])
    np.testing.assert_array_equal(gradient, [[0, 0], [0, 0], [1, 1]])


# ---------------------------------------------------------------------------- Python's protocols


def test_iteration_and_length() -> None:
    x = as_tensor(numbers(3, 2))
    a, b, c = x
    assert len(x) == 3 and len(list(x)) == 3
    np.testing.assert_array_equal(Session().run(c), [5, 6])
    assert a.shape == b.shape == (2,)
    for open_tensor in (placeholder("float32", ["n", 2]), placeholder("float32"), as_tensor(1.0)):
        with pytest.raises(TypeError):
            iter(open_tensor)


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        ((0, 0, 0), ShapeError, "too many indices: x has 2 axes, the index uses 3"),
        (7, ShapeError, "index 7 is out of range for axis 0 of size 3"),
        ((0, -5), ShapeError, "index -5 is out of range for axis 1 of size 4"),
        ([0, 3], ShapeError, "index 3 is out of range for axis 0 of size 3"),
        (np.ones((3, 4), bool), DTypeError, "g.where(mask, x, other)"),
        (True, DTypeError, "g.where(mask, x, other)"),
        (1.5, DTypeError, "1.5"),
        ([0.5], DTypeError, "must hold integers"),
        ("a", DTypeError, "'a'"),
        (slice(None, None, 0), ShapeError, "step of a slice must be an int other than 0"),
        (slice(1.0), DTypeError, "the bound of a slice must be an integer"),
        ((..., ...), ShapeError, "at most one ellipsis"),
        (([0, 1], [0, 1, 2]), ShapeError, "index arrays must broadcast"),
    ],
    ids=str,
)
def test_wrong_indices(index: Any, error: type[GraphcError], text: str) -> None:
    x = placeholder("float32", [3, 4], name="x")
    with pytest.raises(error) as raised:
        x[index]
    assert text in str(raised.value) and "test_indexing.py" in str(raised.value)
    with pytest.raises(error):
        x.at[index].set(1.0)


def test_an_index_out_of_range_in_a_run() -> None:
    x, i = placeholder("float32", [None]), placeholder("int64", [None])
    for y in (take(x, i), x[i], x.at[i].add(1.0), x.at[i].set(0.0), take_along_axis(x, i)):
        with pytest.raises(ShapeError, match="index 12 is out of range for axis 0 of size 10"):
            Session().run(y, {x: np.zeros(10, np.float32), i: [1, 12]})
    with pytest.raises(ShapeError, match="index 3 is out of range for axis 0, which must have 4"):
        Session().run(x[3], {x: np.zeros(2, np.float32)})


def test_updates_of_another_kind_are_refused() -> None:
    with pytest.raises(DTypeError, match="of a kind that int64 holds"):
        as_tensor([1, 2]).at[0].set(1.5)
    with pytest.raises(ShapeError, match="broadcast"):
        as_tensor([1.0, 2.0]).at[:].set(np.ones(3))


# ---------------------------------------------------------------------------- the gather family


@given(st.integers(-3, 2), st.lists(st.integers(-2, 1), max_size=4), st.sampled_from(SPELLINGS))
def test_take(axis: int, listed: list[int], spelling: str) -> None:
    array, indices = numbers(2, 3, 4), np.array(listed, np.int32)
    x, i = spelled(array, spelling), spelled(indices, spelling)
    feeds = {x: array, i: indices}
    got = Session().run([take(x, i, axis), gather(x, i, axis), take(x, i), take(x, 1, axis)], feeds)
    np.testing.assert_array_equal(got[0], np.take(array, indices, axis))
    np.testing.assert_array_equal(got[1], got[0])
    np.testing.assert_array_equal(got[2], np.take(array, indices))
    np.testing.assert_array_equal(got[3], np.take(array, 1, axis))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_take_along_axis(spelling: str) -> None:
    array = np.random.default_rng(0).uniform(size=(3, 4))
    for axis in (0, 1, -1, None):
        order = np.argsort(array, axis)
        x, i = spelled(array, spelling), spelled(order, spelling)
        got = Session().run(take_along_axis(x, i, axis), {x: array, i: order})
        np.testing.assert_array_equal(got, np.sort(array, axis))
    first = np.zeros((1, 4), np.int64)
    x, i = spelled(array, spelling), spelled(first, spelling)
    got = Session().run(take_along_axis(x, i, 1), {x: array, i: first})
    np.testing.assert_array_equal(got, np.take_along_axis(array, first, 1))


def test_gather_nd_and_scatter_add() -> None:
    array = numbers(2, 3, 4)
    points = np.array([[0, 1], [1, -1], [0, 1]])
    x = placeholder("float64", [None, 3, 4])
    read, added = gather_nd(x, points), scatter_add(x, [2, 2, 0], numbers(3)[:, None], 1)
    want = array.copy()
    np.add.at(want, (slice(None), [2, 2, 0]), numbers(3)[:, None])
    got = Session().run([read, added], {x: array})
    np.testing.assert_array_equal(got[0], array[points[:, 0], points[:, 1]])
    np.testing.assert_array_equal(got[1], want)


@pytest.mark.parametrize("sizes", [[2, 3], [None, None], None])
def test_sizes_that_a_run_brings_may_be_what_an_op_must_know(
    sizes: list[int | None] | None,
) -> None:
    """repeat by a list, and gather_nd, wait for a size, and say where it does not fit."""
    x, at = placeholder("float64", sizes, name="x"), np.arange(6.0).reshape(2, 3)
    points = placeholder("int64", None if sizes is None else [None] * 2, name="points")
    repeated, gathered = repeat(x, [1, 2], axis=0), gather_nd(x, points)
    feeds = {x: at, points: [[0, 2], [1, 0]]}
    with Session() as s:
        np.testing.assert_array_equal(s.run(repeated, feeds), np.repeat(at, [1, 2], axis=0))
        assert s.run(gathered, feeds).tolist() == [2, 3]
        assert s.run(gathered, {x: at, points: [[1]]}).tolist() == [[3, 4, 5]]
        [slope] = gradients((repeated * repeated).sum() + gathered.sum(), [x])
        expected = 2 * at * [[1], [2]]
        expected[0, 2] += 1
        expected[1, 0] += 1
        np.testing.assert_array_equal(s.run(slope, feeds), expected)
        with pytest.raises(ShapeError, match="1 to the rank of x long"):
            s.run(gathered, {x: at, points: [[0, 1, 2]]})
        if sizes != [2, 3]:
            with pytest.raises(ShapeError, match="one for each of"):
                s.run(repeated, {x: np.ones((3, 3))})
