"""Views, joins, cuts and what is made of sizes, against NumPy; sizes that a program computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.dims import Dim
from graphc.dtypes import float32, float64, int32, int64
from graphc.errors import DTypeError, GraphcError, ShapeError
from graphc.graph import Graph, Tensor
from graphc.ops import arrange, creation, joining, measure
from graphc.ops import shape as views
from graphc.ops.arith import floor_divide
from graphc.ops.broadcast import broadcast_to
from graphc.ops.control import identity
from graphc.ops.follow import as_shape, follow
from graphc.ops.gradient import gradients
from graphc.ops.select import maximum, minimum
from graphc.ops.source import as_tensor, placeholder
from graphc.runtime.session import Session

Array = np.ndarray[Any, Any]
SPELLINGS = ("static", "symbolic", "rankless")


def spelled(array: Array, spelling: str) -> Tensor:
    """A placeholder for an array: its shape known, symbolic, or unknown."""
    shapes: dict[str, Any] = {
        "static": array.shape, "symbolic": [None] * array.ndim, "rankless": None,
    }  # fmt: skip
    return placeholder(array.dtype, shapes[spelling])


def drawn(*sizes: int) -> Array:
    return np.asarray(np.random.default_rng(len(sizes)).uniform(-2.0, 2.0, sizes))


def run(fetches: Any, feeds: Any = None) -> Any:
    return Session().run(fetches, feeds)


# ---------------------------------------------------------------------------- NumPy's functions

Both = Callable[[Any, Any], Any]  # (module, array or tensor)


class Ours:
    """The builders under NumPy's names."""

    def __getattr__(self, name: str) -> Any:
        for module in (views, joining, arrange, creation):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


OURS = Ours()
LAWS: dict[str, tuple[Both, tuple[tuple[int, ...], ...]]] = {
    "reshape": (lambda m, x: m.reshape(x, (-1, 3)), ((2, 3), (0, 3), (3,), (2, 1, 3))),
    "transpose": (lambda m, x: m.transpose(x), ((2, 3), (), (4,), (2, 0, 3))),
    "transpose axes": (lambda m, x: m.transpose(x, (1, -1, 0)), ((2, 3, 4), (2, 0, 3))),
    "swapaxes": (lambda m, x: m.swapaxes(x, 0, -1), ((2, 3, 4), (5,))),
    "moveaxis": (lambda m, x: m.moveaxis(x, 0, -1), ((2, 3, 4), (5,))),
    "moveaxis two": (lambda m, x: m.moveaxis(x, [0, -1], [1, 0]), ((2, 3, 4), (2, 3))),
    "expand_dims": (lambda m, x: m.expand_dims(x, 0), ((), (2, 3))),
    "expand_dims two": (lambda m, x: m.expand_dims(x, (0, -1)), ((), (2, 3))),
    "squeeze": (lambda m, x: m.squeeze(x), ((1, 2, 1), (), (1,), (3,), (1, 0))),
    "squeeze axis": (lambda m, x: m.squeeze(x, (0, -1)), ((1, 2, 1), (1, 1))),
    "ravel": (lambda m, x: m.ravel(x), ((), (2, 3), (0, 3))),
    "concatenate": (lambda m, x: m.concatenate([x, x, x], -1), ((3,), (2, 3), (0, 2))),
    "concatenate flat": (lambda m, x: m.concatenate([x, x], None), ((), (2, 3))),
    "stack": (lambda m, x: m.stack([x, x], -1), ((), (3,), (2, 0))),
    "stack one": (lambda m, x: m.stack([x]), ((), (3,))),
    "split": (lambda m, x: m.split(x, 3, 1)[1], ((2, 3), (2, 6), (0, 3))),
    "split at": (lambda m, x: m.split(x, [1, 4], 0)[-2], ((5,), (3, 2), (0, 2))),
    "split from the end": (lambda m, x: m.split(x, [-2])[0], ((5,), (1, 2))),
    "tile": (lambda m, x: m.tile(x, (2, 1, 3)), ((2,), (2, 3), (2, 3, 1, 2), ())),
    "tile none": (lambda m, x: m.tile(x, 0), ((2,), (2, 3))),
    "repeat": (lambda m, x: m.repeat(x, 3), ((), (2, 3), (0,))),
    "repeat axis": (lambda m, x: m.repeat(x, 2, -1), ((2, 3), (1,))),
    "flip": (lambda m, x: m.flip(x), ((), (2, 3), (0, 2))),
    "flip axis": (lambda m, x: m.flip(x, (0, -1)), ((2, 3, 4),)),
    "roll": (lambda m, x: m.roll(x, 4), ((3,), (2, 3), (0,), ())),
    "roll axis": (lambda m, x: m.roll(x, -1, 1), ((2, 3), (2, 0))),
    "roll axes": (lambda m, x: m.roll(x, (1, 2), (0, 1)), ((2, 3),)),
    "pad": (lambda m, x: m.pad(x, 2), ((3,), (2, 3), (0,))),
    "pad value": (
        lambda m, x: m.pad(x, ((1, 0), (0, 2)), constant_values=7.0), ((2, 3), (0, 2))
    ),
    "pad edge": (lambda m, x: m.pad(x, (1, 2), mode="edge"), ((3,), (2, 3))),
    "pad reflect": (lambda m, x: m.pad(x, ((1, 2),), mode="reflect"), ((3,), (4, 3))),
    "pad symmetric": (lambda m, x: m.pad(x, 2, mode="symmetric"), ((3,), (2, 3))),
    "pad wrap": (lambda m, x: m.pad(x, (1, 2), mode="wrap"), ((3,), (2, 3))),
    "diag": (lambda m, x: m.diag(x), ((3,), (0,), (3, 3), (2, 4), (4, 2))),
    "diag above": (lambda m, x: m.diag(x, 2), ((3,), (2, 4), (4, 2), (1, 1), (0, 3))),
    "diag below": (lambda m, x: m.diag(x, -1), ((3,), (2, 4), (4, 2), (1, 1), (3, 0))),
    "diagonal": (lambda m, x: m.diagonal(x, 1, -1, 0), ((3, 4, 2), (2, 3))),
    "tril": (lambda m, x: m.tril(x, 1), ((3, 3), (2, 4, 2), (0, 2))),
    "triu": (lambda m, x: m.triu(x, -1), ((4, 3), (2, 2, 4))),
    "zeros_like": (lambda m, x: m.zeros_like(x), ((), (2, 3))),
    "full_like": (lambda m, x: m.full_like(x, 3), ((2, 3),)),
}  # fmt: skip
ROWS = [(law, shape, s) for law, (_, shapes) in LAWS.items() for shape in shapes for s in SPELLINGS]


@pytest.mark.parametrize(("law", "sizes", "spelling"), ROWS, ids=str)
def test_as_numpy(law: str, sizes: tuple[int, ...], spelling: str) -> None:
    function = LAWS[law][0]
    array = drawn(*sizes)
    want = function(np, array)
    x = spelled(array, spelling)
    y = function(OURS, x)
    got = run(y, {x: array})
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype
    if spelling == "static":
        assert y.shape == want.shape


@pytest.mark.parametrize(("law", "sizes", "spelling"), ROWS, ids=str)
def test_gradients(law: str, sizes: tuple[int, ...], spelling: str) -> None:
    """All are linear, so the adjoint satisfies <w, f(t)> = <f'(w), t>; and again, of its square."""
    if law.endswith("_like"):
        return
    function = LAWS[law][0]
    array, tangent = drawn(*sizes), drawn(*sizes, 1)[..., 0]
    x = spelled(array, spelling)
    y = function(OURS, x)
    offset = function(np, np.zeros(sizes))  # what does not come from x
    moved = function(np, tangent) - offset
    weights = drawn(*moved.shape)
    first = gradients(y, [x], [weights])[0]
    (square,) = gradients((y * y * y).sum(), [x])
    (second,) = gradients((square * tangent).sum(), [x])
    got, curved = run([first, second], {x: array})
    np.testing.assert_allclose((got * tangent).sum(), (weights * moved).sum(), atol=1e-12)
    want = (6 * function(np, array) * moved * moved).sum()
    np.testing.assert_allclose((curved * tangent).sum(), want, atol=1e-11)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.integers(0, 2),
    st.sampled_from(SPELLINGS),
)
def test_joining_and_cutting_are_inverse(counts: list[int], axis: int, spelling: str) -> None:
    parts = [drawn(*(n if i == axis else 2 for i in range(3))) for n in counts]
    tensors = [spelled(part, spelling) for part in parts]
    feeds = dict(zip(tensors, parts, strict=True))
    joined = joining.concatenate(tensors, axis)
    cuts = [int(c) for c in np.cumsum(counts)[:-1]]
    for got, part in zip(run(joining.split(joined, cuts, axis), feeds), parts, strict=True):
        np.testing.assert_array_equal(got, part)
    same = [tensors[0]] * 3
    rows = run(joining.unstack(joining.stack(same, axis), 3, axis), feeds)
    np.testing.assert_array_equal(rows, [parts[0]] * 3)


@given(st.lists(st.integers(-7, 7), min_size=2, max_size=3), st.sampled_from(SPELLINGS))
def test_rolls_add_up(shifts: list[int], spelling: str) -> None:
    array = drawn(5)
    x = spelled(array, spelling)
    y = x
    for shift in shifts:
        y = arrange.roll(y, shift)
    got = run([y, arrange.flip(arrange.flip(x))], {x: array})
    np.testing.assert_array_equal(got[0], np.roll(array, sum(shifts)))
    np.testing.assert_array_equal(got[1], array)


@pytest.mark.parametrize("law", [law for law, (_, s) in LAWS.items() if "pad" not in law])
def test_built_once_for_all_sizes(law: str) -> None:
    function = LAWS[law][0]
    x = placeholder("float64", ["n", 3])
    session = Session()
    for n in (0, 1, 2, 5):
        array = drawn(n, 3)
        try:
            want = function(np, array)
        except ValueError:
            with pytest.raises(GraphcError):
                session.run(function(OURS, x), {x: array})
            continue
        np.testing.assert_array_equal(session.run(function(OURS, x), {x: array}), want)


def test_dtypes_are_promoted_when_joined() -> None:
    joined = joining.concatenate([as_tensor([1], int32), [0.5], np.array([2.0])])
    assert joined.dtype is float64
    assert joining.stack([1, as_tensor(0.5)]).dtype is float32
    np.testing.assert_array_equal(run(joining.stack([1, as_tensor(0.5)])), [1.0, 0.5])


@pytest.mark.parametrize("repeats", [[1, 0, 3], np.array([2, 2, 2])])
def test_repeats_for_each(repeats: Any) -> None:
    array = drawn(2, 3)
    np.testing.assert_array_equal(
        run(arrange.repeat(array, repeats, 1)), np.repeat(array, repeats, 1)
    )


# ---------------------------------------------------------------------------- made of sizes


def test_creation_as_numpy() -> None:
    rows: list[tuple[Any, Any]] = [
        (creation.zeros((2, 3)), np.zeros((2, 3), np.float32)),
        (creation.ones(3, int32), np.ones(3, np.int32)),
        (creation.full((2,), [1, 2]), np.full((2,), [1, 2])),
        (creation.fill([2], 1.5), np.full(2, 1.5, np.float32)),
        (creation.ones_like([1, 2], "float64"), np.ones(2)),
        (creation.arange(5), np.arange(5)),
        (creation.arange(5, 1, -2), np.arange(5, 1, -2)),
        (creation.arange(2, 9, 3, "int8"), np.arange(2, 9, 3, np.int8)),
        (creation.arange(0.0, 1.0, 0.25), np.arange(0.0, 1.0, 0.25, np.float32)),
        (creation.arange(5, 1), np.arange(5, 1)),
        (creation.linspace(0, 1, 5, dtype="float64"), np.linspace(0, 1, 5)),
        (creation.linspace(0, 1, 4, False, "float64"), np.linspace(0, 1, 4, False)),
        (creation.eye(3, 4, 1, "float64"), np.eye(3, 4, 1)),
        (creation.eye(2), np.eye(2, dtype=np.float32)),
        (creation.one_hot([0, 2, 5, -1], 3, "int8"), [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]),
        (creation.one_hot([0, 1], 3, axis=0), [[1, 0], [0, 1], [0, 0]]),
        (measure.shape(drawn(2, 3)), [2, 3]),
        (measure.size(drawn(2, 3)), 6),
        (measure.rank(drawn(2, 3)), 2),
    ]
    for tensor, want in rows:
        got = run(tensor)
        np.testing.assert_array_equal(got, want)
        assert got.shape == np.shape(want) == tensor.shape
        if isinstance(want, np.ndarray):
            assert got.dtype == want.dtype


def test_a_range_between_tensors() -> None:
    low, high, count = (placeholder(d, []) for d in ("float64", "float64", "int32"))
    y = creation.linspace(low, high, count)
    gradient = gradients(y.sum(), [low, high])
    for n in (0, 1, 2, 5):
        got, sums = run([y, gradient], {low: -1.0, high: 2.0, count: n})
        np.testing.assert_allclose(got, np.linspace(-1.0, 2.0, n), atol=1e-15)
        np.testing.assert_allclose(sums, (n / 2, n / 2) if n != 1 else (1, 0), atol=1e-12)


def test_symbolic_creation() -> None:
    x = placeholder("float32", ["n", None])
    n, m = measure.shape(x)
    fetches = [
        creation.zeros([n, 2]), creation.eye(n, m), creation.arange(n),
        creation.arange(1, n + 1, 2),
        creation.one_hot(creation.arange(n) - 1, m), creation.full(measure.shape(x), 2.0),
        creation.arange(n, 2 * n),
    ]  # fmt: skip
    session = Session()
    for rows in (0, 1, 4):
        got = session.run(fetches, {x: np.zeros((rows, 3), np.float32)})
        places = np.arange(rows)[:, None] - 1
        wants = [
            np.zeros((rows, 2)), np.eye(rows, 3), np.arange(rows), np.arange(1, rows + 1, 2),
            places == np.arange(3), np.full((rows, 3), 2.0), np.arange(rows, 2 * rows),
        ]  # fmt: skip
        for a, b in zip(got, wants, strict=True):
            np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------- following sizes


def sizes_of(tensor: Tensor) -> list[str]:
    return [str(d) for d in follow(tensor).reshape(-1)]


def test_what_is_followed() -> None:
    x = placeholder("float32", ["n", 3, "m"])
    s = measure.shape(x)
    rows: list[tuple[Tensor, list[str]]] = [
        (s, ["n", "3", "m"]),
        (s[::-1], ["m", "3", "n"]),
        (s[0], ["n"]),
        (s[[2, 0]], ["m", "n"]),
        (s[1:] + 1, ["4", "m+1"]),
        (joining.stack([s[0], -1]), ["n", "-1"]),
        (joining.concatenate([s[:1] * s[2:], [5]]), ["m*n", "5"]),
        (s.astype(int32)[0] * 2 - 1, ["2*n-1"]),
        (floor_divide(s[0] * 6, 3), ["2*n"]),
        (floor_divide(s[0], 2), ["(n//2)"]),
        (s[0] % 2, ["(n%2)"]),
        (minimum(s[0], 4), ["min(4,n)"]),
        (maximum(s[0], s[0] - 1), ["n"]),
        (-s[1], ["-3"]),
        (s.sum(), ["m+n+3"]),
        (identity(s.reshape((3, 1))).transpose(), ["n", "3", "m"]),
        (views.squeeze(views.expand_dims(s[1], 0)), ["3"]),
        (broadcast_to(s[0], (2,)), ["n", "n"]),
        (creation.arange(2, 5), ["2", "3", "4"]),
        (creation.zeros((2,), int64), ["0", "0"]),
        (measure.size(x), ["3*m*n"]),
        (measure.rank(x), ["3"]),
        (as_tensor(np.array([7, 8])), ["7", "8"]),
    ]
    for tensor, want in rows:
        assert sizes_of(tensor) == want
        assert follow(tensor).shape == tensor.shape


def test_what_is_not_followed_is_one_symbol_an_element() -> None:
    k = placeholder("int32", [2])
    a, b = follow(k)
    assert isinstance(a, Dim) and a != b and (a == follow(k)[0])
    symbol = a.as_symbol()
    assert symbol is not None and symbol.source == (k, 0)
    assert follow(k[1])[()] == b and as_shape([k[0] * 2, 3]) == (a * 2, 3)


def test_following_is_iterative() -> None:
    k = placeholder("int64", [])
    total: Tensor = k
    for _ in range(5000):
        total = total + 1
    assert follow(total)[()] == follow(k)[()] + 5000


def test_shapes_from_fed_values() -> None:
    x, k = placeholder("float64", [None]), placeholder("int32", [2])
    array = drawn(6)
    y = x.reshape(k)
    fetches = [
        y, gradients((y * y).sum(), [x])[0], creation.zeros(k), creation.arange(k[0]),
        broadcast_to(1.0, k), arrange.tile(x, k[1]), arrange.roll(x, k[0]),
    ]  # fmt: skip
    session = Session()
    for rows in (1, 2, 3, 6):
        sizes = (rows, 6 // rows)
        got = session.run(fetches, {x: array, k: sizes})
        wants = [
            array.reshape(sizes), 2 * array, np.zeros(sizes), np.arange(rows), np.ones(sizes),
            np.tile(array, sizes[1]), np.roll(array, rows),
        ]  # fmt: skip
        for a, b in zip(got, wants, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ShapeError, match="number of elements must stay"):
        session.run(y, {x: array, k: (4, 2)})


def test_shapes_of_unknown_length() -> None:
    x, y, k = placeholder("float64"), placeholder("float64"), placeholder("int64", [None])
    s = measure.shape(y)
    fetches = [
        x.reshape(s), x.reshape(k), creation.ones(s), x.reshape([s[0], -1]),
        x.reshape(joining.stack([-1, s[-1]])), creation.full(k, 2.0),
        gradients((x.reshape(k) * y.reshape(k)).sum(), [x])[0],
    ]  # fmt: skip
    session = Session()
    for sizes, k_sizes in (((2, 3), (6,)), ((6,), (3, 2)), ((1, 2, 3), (3, 1, 2))):
        a, b = drawn(6), drawn(*sizes)
        got = session.run(fetches, {x: a, y: b, k: k_sizes})
        wants = [
            a.reshape(sizes), a.reshape(k_sizes), np.ones(sizes), a.reshape(sizes[0], -1),
            a.reshape(-1, sizes[-1]), np.full(k_sizes, 2.0), b.reshape(-1),
        ]  # fmt: skip
        for one, other in zip(got, wants, strict=True):
            np.testing.assert_array_equal(one, other)


def test_minus_one_in_a_shape_tensor() -> None:
    x = placeholder("float32", ["n", 4])
    y = x.reshape(joining.stack([measure.shape(x)[0] * 2, -1]))
    assert [str(d) for d in y.shape or ()] == ["2*n", "2"]
    assert str(views.reshape(x, as_tensor(np.array([-1, 2]))).shape) == "(2*n, 2)"


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda x: x.reshape(4, 2), ShapeError, "the number of elements must stay 6, shape=[4, 2]"),
        (lambda x: x.reshape(-1, -1), ShapeError, "only one size may be -1"),
        (lambda x: x.reshape(2.5), DTypeError, "must be an integer, got 2.5"),
        (lambda x: x.reshape(as_tensor([2.0, 3.0])), DTypeError, "a shape must hold integers"),
        (lambda x: x.reshape(as_tensor([[6]])), ShapeError, "a shape must have one axis"),
        (lambda x: x.transpose(0, 0), ShapeError, "axes must name each axis of x once"),
        (
            lambda x: views.squeeze(x, 0),
            ShapeError,
            "only an axis of size 1 can be squeezed, axis=0",
        ),
        (lambda x: views.expand_dims(x, 4), ShapeError, "axis 4 is out of range for rank 3"),
        (lambda x: joining.concatenate([x, x[0]]), ShapeError, "must have the same rank"),
        (lambda x: joining.concatenate([x, x[:, 1:]]), ShapeError, "match except along axis=0"),
        (lambda x: joining.concatenate([1.0, 2.0]), ShapeError, "g.stack joins them"),
        (lambda x: joining.concatenate([]), ShapeError, "must not be empty"),
        (lambda x: joining.stack([x, x[1:]]), ShapeError, "must have the same shape"),
        (lambda x: joining.split(x, 2, 1), ShapeError, "2 sections must divide the size 3"),
        (lambda x: joining.split(x, 0), ShapeError, "sections must be positive"),
        (lambda x: joining.unstack(x, 5), ShapeError, "must have the size num=5"),
        (lambda x: arrange.pad(x, -1), ShapeError, "widths must not be negative"),
        (lambda x: arrange.pad(x, ((1, 1),) * 3), ShapeError, "a pair for each axis"),
        (lambda x: arrange.pad(x, 1, mode="none"), ShapeError, "mode must be constant"),
        (lambda x: arrange.pad(x, 4, mode="reflect"), ShapeError, "out of range for axis 0"),
        (lambda x: arrange.repeat(x, [1, 2], 1), ShapeError, "one for each of 3"),
        (lambda x: arrange.tile(x, -1), ShapeError, "must not be negative"),
        (lambda x: creation.diag(x[None]), ShapeError, "a vector or a matrix"),
        (lambda x: creation.tril(x[0]), ShapeError, "at least two axes"),
        (lambda x: creation.one_hot(x, 3), DTypeError, "indices must be integers"),
        (lambda x: creation.arange(0, 3, 0), ShapeError, "step must not be 0"),
    ],
)
def test_wrong_shapes(build: Any, error: type[GraphcError], text: str) -> None:
    with pytest.raises(error) as raised:
        build(placeholder("float32", [2, 3], name="x"))
    assert text in str(raised.value) and "was called at test_shape_ops.py" in str(raised.value)


def test_sections_that_do_not_divide_are_found_in_the_run() -> None:
    x = placeholder("float64", ["n"])
    parts = joining.split(x, 2)
    session = Session()
    np.testing.assert_array_equal(session.run(parts[1], {x: drawn(4)}), drawn(4)[2:])
    with pytest.raises(ShapeError):
        session.run(parts[1], {x: drawn(5)})


def test_nothing_is_built_for_nothing() -> None:
    x = placeholder("float32", ["n", 3])
    assert x.reshape(x.shape) is x and x[:] is x and x.transpose(0, 1) is x
    assert joining.concatenate([x]) is x
    assert [n.op.name for n in Graph((x.T.T,)).nodes][-1] in ("transpose", "placeholder")
