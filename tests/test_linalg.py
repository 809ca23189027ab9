"""Linear algebra against NumPy: values, laws of the factorizations, awkward gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc import linalg
from graphc.errors import DTypeError, NumericsError, ShapeError
from graphc.graph import Tensor
from graphc.ops.gradient import gradients
from graphc.ops.norms import trace
from graphc.ops.source import as_tensor, placeholder
from tests.support import SPELLINGS, Compiled, assert_same, directional, run

Array = Any
SPELLED = st.sampled_from(sorted(SPELLINGS))
BATCHES = st.lists(st.integers(0, 3), max_size=2).map(tuple)


def _drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def _positive(seed: int, *shape: int) -> Array:
    a = _drawn(seed, *shape)
    return a @ np.swapaxes(a, -1, -2) + np.eye(shape[-1])


def _differentiated(build: Any, *arrays: Array, orders: int = 2) -> None:
    """Each derivative, up to `orders`, is the difference quotient of the one before."""
    rng = np.random.default_rng(7)
    tensors = [placeholder("float64", a.shape) for a in arrays]
    chain = [build(*tensors)]
    directions = [[rng.normal(size=a.shape) for a in arrays] for _ in range(orders)]
    for along in directions:
        found = gradients(chain[-1], tensors, unconnected="zero")
        terms = [(g * v).sum() for g, v in zip(found, along, strict=True)]
        chain.append(sum(terms[1:], start=terms[0]))
    compiled = Compiled.of(chain, tensors, [a.shape for a in arrays])
    values = compiled(*arrays)
    for order, along in enumerate(directions):
        slope = directional(lambda *xs, k=order: compiled(*xs)[k], arrays, along)
        np.testing.assert_allclose(values[order + 1], slope, rtol=3e-6, atol=1e-6)


def _weighted(*tensors: Tensor) -> Tensor:
    """A scalar that depends on every element of every tensor, nonlinearly."""
    rng = np.random.default_rng(5)
    terms = [
        (t * t * rng.normal(size=t.shape) + t * rng.normal(size=t.shape)).sum()  # type: ignore[arg-type]
        for t in tensors
    ]
    return sum(terms[1:], start=terms[0])


# ---------------------------------------------------------------------------- values

TWINS: dict[str, tuple[Any, Any, Any]] = {
    "det": (linalg.det, np.linalg.det, _positive),
    "inv": (linalg.inv, np.linalg.inv, _positive),
    "slogdet": (linalg.slogdet, np.linalg.slogdet, _drawn),
    "cholesky": (linalg.cholesky, np.linalg.cholesky, _positive),
    "eigh": (linalg.eigh, np.linalg.eigh, _positive),
    "eigvalsh": (linalg.eigvalsh, np.linalg.eigvalsh, _positive),
    "trace": (linalg.trace, np.linalg.trace, _drawn),
    "pinv": (linalg.pinv, np.linalg.pinv, _positive),
}


def _compare(built: Any, want: Any, feeds: Any, what: str) -> None:
    outputs = [built] if isinstance(built, Tensor) else list(built)
    wanted = [want] if isinstance(built, Tensor) else list(want)
    for got, expected in zip(run(outputs, feeds), wanted, strict=True):
        assert_same(got, np.asarray(expected), what, slack=100)


@pytest.mark.parametrize("name", sorted(TWINS))
@settings(deadline=None, max_examples=25)
@given(BATCHES, st.integers(0, 4), SPELLED, st.sampled_from(["float32", "float64"]))
def test_square(name: str, batch: Any, n: int, spelling: str, dtype: str) -> None:
    if name == "pinv" and n == 0:
        return  # NumPy's own has no largest singular value to compare with
    build, reference, draw = TWINS[name]
    a = draw(3, *batch, n, n).astype(dtype)
    tensor = SPELLINGS[spelling](a)
    _compare(build(tensor), reference(a), {tensor: a}, f"{name} {a.shape}")


@settings(deadline=None, max_examples=40)
@given(BATCHES, st.integers(0, 4), st.integers(1, 4), SPELLED)
def test_rectangular(batch: Any, m: int, n: int, spelling: str) -> None:
    a = _drawn(4, *batch, m, n)
    tensor = SPELLINGS[spelling](a)
    _compare(linalg.svd(tensor), np.linalg.svd(a, full_matrices=False), {tensor: a}, "svd")
    _compare(linalg.qr(tensor), np.linalg.qr(a), {tensor: a}, "qr")


SYSTEMS = (
    ((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 1)),
    ((4, 1, 2, 2), (3, 2, 2)), ((0, 2, 2), (2, 1)), ((1, 1), (1,)), ((2, 2), (2, 0)),
)  # fmt: skip


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@pytest.mark.parametrize(("a", "b"), SYSTEMS)
def test_solve(a: Any, b: Any, spelling: str) -> None:
    arrays = [_positive(1, *a), _drawn(2, *b)]
    tensors = [SPELLINGS[spelling](x) for x in arrays]
    feeds = dict(zip(tensors, arrays, strict=True))
    _compare(linalg.solve(*tensors), np.linalg.solve(*arrays), feeds, "solve")
    for lower, part in ((True, np.tril), (False, np.triu)):
        want = np.linalg.solve(part(arrays[0]), arrays[1])
        _compare(linalg.solve_triangular(*tensors, lower=lower), want, feeds, "solve_triangular")


NORMS: tuple[tuple[tuple[int, ...], Any, Any], ...] = (
    *(((5,), p, None) for p in (None, 1, 2, np.inf, -np.inf, 0, 3, 0.5, -1)),
    *(((3, 4), p, None) for p in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
    *(((2, 3, 4), p, 1) for p in (None, 1, 2, np.inf, 3)),
    *(((2, 3, 4), p, (-1, 0)) for p in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)),
    ((2, 3, 4), None, None), ((3, 4), 2, (1,)), ((2, 3, 4), None, (0, 2)), ((3, 0), "fro", None),
)  # fmt: skip


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "ord", "axis"), NORMS, ids=str)
def test_norm(shape: Any, ord: Any, axis: Any, keepdims: bool, spelling: str) -> None:
    x = _drawn(3, *shape)
    tensor = SPELLINGS[spelling](x)
    built = linalg.norm(tensor, ord, axis, keepdims)
    want = np.linalg.norm(x, ord, axis[0] if axis == (1,) else axis, keepdims)
    _compare(built, want, {tensor: x}, f"norm {ord}")
    if ord != 0:
        _differentiated(lambda t: _weighted(linalg.norm(t, ord, axis, keepdims)), x)


def test_norm_at_zero() -> None:
    x = as_tensor(np.zeros((2, 3)))
    for ord, axis in ((None, None), (2, 1), ("fro", None), (3, 0), (1, 1)):
        y = linalg.norm(x, ord, axis).sum()
        (first,) = gradients(y, [x])
        (second,) = gradients((first * first).sum() + y, [x])
        for value in run([first, second]):
            np.testing.assert_array_equal(value, np.zeros((2, 3)))


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 5, 8])
def test_matrix_power(n: int) -> None:
    a = _positive(2, 2, 3, 3) / 3
    for spelling in SPELLINGS.values():
        tensor = spelling(a)
        want = np.linalg.matrix_power(a, n)
        _compare(linalg.matrix_power(tensor, n), want, {tensor: a}, f"power {n}")
    assert linalg.matrix_power(np.eye(2, dtype=int), 2).dtype == "int64"


def test_trace() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    for offset in (-2, 0, 1, 3):
        for axes in ((0, 1), (-1, 0)):
            _compare(trace(x, offset, *axes), np.trace(x, offset, *axes), {}, "trace")
        _compare(linalg.trace(x, offset), np.linalg.trace(x, offset=offset), {}, "linalg.trace")


# ---------------------------------------------------------------------------- laws


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_factors_make_the_matrix(m: int, n: int, seed: int) -> None:
    a, s = _drawn(seed, m, n), _positive(seed, n, n)
    u, d, vh = linalg.svd(a)
    q, r = linalg.qr(a)
    w, v = linalg.eigh(s)
    low = linalg.cholesky(s)
    rebuilt = run([(u * d) @ vh, q @ r, q.T @ q])
    for got, want in zip(rebuilt, [a, a, np.eye(min(m, n))], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)
    for got in run([(v * w) @ v.T, low @ low.T]):
        np.testing.assert_allclose(got, s, rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------------------- gradients


def test_gradients_to_second_order() -> None:
    a, s, b = _positive(1, 3, 3) + _drawn(2, 3, 3) / 9, _positive(3, 3, 3), _drawn(4, 3, 2)
    _differentiated(lambda t: _weighted(linalg.det(t)), a)
    _differentiated(lambda t: _weighted(linalg.slogdet(t)[1]), a)
    _differentiated(lambda t: _weighted(linalg.inv(t)), a)
    _differentiated(lambda *t: _weighted(linalg.solve(*t)), a, b)
    _differentiated(lambda *t: _weighted(linalg.solve_triangular(*t)), a, b)
    _differentiated(lambda t: _weighted(linalg.cholesky(t)), s)
    _differentiated(lambda t: _weighted(*linalg.eigh(t)), s)
    _differentiated(lambda t: _weighted(linalg.matrix_power(t, -2)), a)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 3), (3, 1)])
def test_rectangular_gradients(shape: Any) -> None:
    a = _drawn(6, *shape)
    _differentiated(lambda t: _weighted(*linalg.svd(t)), a)
    _differentiated(lambda t: _weighted(*linalg.qr(t)), a)
    _differentiated(lambda t: _weighted(linalg.pinv(t)), a)


def test_rectangular_gradients_of_symbolic_sizes() -> None:
    """One compiled rule serves tall and wide matrices."""
    x = placeholder("float64", ["m", "n"])
    loss = sum((t * t * t).sum() for t in (*linalg.qr(x), *linalg.svd(x)))
    (g,) = gradients(loss, [x])
    for shape in ((4, 2), (2, 4), (3, 3)):
        compiled = Compiled.of([loss, g], [x], [shape])
        a, v = _drawn(6, *shape), _drawn(7, *shape)
        want = directional(lambda t, run=compiled: run(t)[0], [a], [v])
        np.testing.assert_allclose(np.sum(compiled(a)[1] * v), want, rtol=1e-6)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_det_of_singular_matrices(rank: int) -> None:
    """det is a polynomial: its first and second derivatives exist for every rank."""
    a = _drawn(8, 3, rank) @ _drawn(9, rank, 3)
    _differentiated(linalg.det, a, orders=2)
    _differentiated(linalg.det, _drawn(1, 4, 4), orders=3)
    _differentiated(linalg.det, np.eye(3), orders=3)


def test_nan_goes_through_det() -> None:
    x = placeholder("float64", (2, 2, 2))
    a = np.stack([np.eye(2), np.full((2, 2), np.nan)])
    y = linalg.det(x)
    (g,) = gradients(y, [x])
    (h,) = gradients((g * g).sum(), [x])
    for value in run([y, g, h], {x: a}):
        assert np.isfinite(value[0]).all()
        assert np.isnan(value[1]).all()


def test_symmetric_gradients() -> None:
    s = as_tensor(_positive(1, 4, 4))
    for y in (*linalg.eigh(s), linalg.cholesky(s), linalg.eigvalsh(s)):
        (g,) = run(gradients(_weighted(y), [s]))
        np.testing.assert_allclose(g, g.T, atol=1e-13)


def test_equal_eigenvalues() -> None:
    """What does not depend on the choice of vectors is right, and nothing is NaN."""
    x = placeholder("float64", (3, 3))
    a = np.eye(3)
    w, v = linalg.eigh(x)
    u, s, vh = linalg.svd(x)
    losses = [w.sum(), ((v * w) @ v.T * _drawn(1, 3, 3)).sum(), s.sum(), ((u * s) @ vh).sum()]
    found = [gradients(loss, [x])[0] for loss in losses]
    second = [
        gradients((g * g).sum() + loss, [x])[0] for g, loss in zip(found, losses, strict=True)
    ]
    compiled = Compiled.of([*found, *second], [x], [(3, 3)])
    values = compiled(a)
    assert all(np.isfinite(value).all() for value in values)
    np.testing.assert_allclose(values[0], a, atol=1e-14)
    np.testing.assert_allclose(values[2], a, atol=1e-14)


# ---------------------------------------------------------------------------- dtypes and errors


def test_dtypes() -> None:
    whole = np.array([[2, 0], [0, 3]])
    assert run([linalg.det(whole)])[0] == np.float64(6)
    assert linalg.inv(whole).dtype == linalg.norm(whole).dtype == "float64"
    half = as_tensor(whole.astype(np.float16))
    for y in (linalg.det(half), linalg.svd(half)[1], linalg.solve(half, half)):
        assert y.dtype == "float16"
        assert np.isfinite(run([y])[0]).all()
    mixed = linalg.solve(whole.astype(np.float32), np.ones(2))
    assert mixed.dtype == "float64"


SQUARES = [
    linalg.det, linalg.inv, linalg.cholesky, linalg.eigh, linalg.slogdet, linalg.eigvalsh,
    lambda a: linalg.solve(a, np.ones(2)),
]  # fmt: skip


@pytest.mark.parametrize("build", SQUARES)
def test_square_is_demanded(build: Any) -> None:
    with pytest.raises(ShapeError, match="a must be square, got a: f64"):
        build(placeholder("float64", (2, 3), name="a"))
    with pytest.raises(ShapeError, match="a must have at least two axes"):
        build(placeholder("float64", (3,)))
    for open_ in (placeholder("float64", [None, None]), placeholder("float64", None)):
        with pytest.raises(ShapeError, match="a must be square"):
            built = build(open_)
            run([built] if isinstance(built, Tensor) else list(built), {open_: np.ones((2, 3))})


def test_singular_matrices_are_named() -> None:
    a = placeholder("float64", (2, 2), name="a")
    feeds = {a: np.ones((2, 2))}
    for y, what in (
        (linalg.inv(a), "inv: Singular matrix"),
        (linalg.solve(a, np.ones(2)), "solve: Singular matrix"),
        (linalg.solve_triangular(a - 1.0, np.ones(2)), "solve_triangular: Singular matrix"),
        (linalg.cholesky(a - 2.0), "cholesky: Matrix is not positive definite"),
    ):
        with pytest.raises(NumericsError, match=what) as raised:
            run([y], feeds)
        assert "test_linalg.py" in str(raised.value)
    sign, logarithm = run(list(linalg.slogdet(a)), feeds)
    assert (sign, logarithm) == (0.0, -np.inf)


def test_wrong_arguments() -> None:
    a = placeholder("float64", (3, 3))
    with pytest.raises(ShapeError, match="a and b must have equally many rows"):
        linalg.solve(a, np.ones((2, 2)))
    with pytest.raises(ShapeError, match="b must be a vector or a matrix"):
        linalg.solve(a, 1.0)
    with pytest.raises(ShapeError, match="batch dimensions must broadcast"):
        linalg.solve(placeholder("float64", (2, 3, 3)), placeholder("float64", (4, 3, 1)))
    with pytest.raises(ShapeError, match="ord of a matrix must be None"):
        linalg.norm(a, 3)
    with pytest.raises(ShapeError, match="ord of a vector must be a number"):
        linalg.norm(a, "fro", 1)
    with pytest.raises(ShapeError, match="takes a vector or a matrix"):
        linalg.norm(placeholder("float64", (2, 3, 4)), 1)
    with pytest.raises(ShapeError, match="axis must be None, an int, or two different ints"):
        linalg.norm(a, None, (0, 0))
    with pytest.raises(DTypeError, match="n must be an int"):
        linalg.matrix_power(a, 0.5)
    with pytest.raises(DTypeError, match="a negative power takes floats"):
        linalg.matrix_power(np.eye(2, dtype=int), -1)
    with pytest.raises(ShapeError, match="matrix_power: a must be square"):
        linalg.matrix_power(placeholder("float64", (2, 3)), 2)
    with pytest.raises(ShapeError, match="x must have at least two axes"):
        trace(placeholder("float64", (3,)))


def test_names() -> None:
    a = placeholder("float64", (3, 3))
    for build in (linalg.det, linalg.inv, linalg.cholesky, linalg.norm, linalg.trace, linalg.pinv):
        assert build(a, name="found").name == "found"
    assert linalg.svd(a, name="found")[1].name == "found:1"
    assert linalg.matrix_power(a, 3, name="found").name == "found"
