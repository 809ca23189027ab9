"""Random numbers: the generator's published answers, each distribution's shape, and who moves what.

Every statistical test has a fixed seed, so it gives the same figures in every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from graphc import init, random
from graphc.context import name_scope
from graphc.dtypes import float16, float32, float64, uint32, uint64
from graphc.errors import DTypeError, GradientError, ShapeError
from graphc.graph import Tensor
from graphc.ops.gradient import gradients
from graphc.ops.random import philox, random_bits
from graphc.ops.source import Variable, as_tensor, placeholder
from graphc.runtime.session import Session

COUNT = 40_000
FLOATS = (float16, float32, float64)


def draw(tensor: Tensor, feeds: Any = None, seed: int = 1) -> np.ndarray[Any, Any]:
    value: np.ndarray[Any, Any] = Session(seed=seed).run(tensor, feeds)
    return value


# ---------------------------------------------------------------------------- the generator


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers(counter: Any, key: Any, words: str) -> None:
    """Random123's kat_vectors, philox4x32 with ten rounds."""
    got = philox(np.array(counter, np.uint64), key)
    assert " ".join(f"{int(word):08x}" for word in got) == words


def test_an_element_depends_on_its_index_alone() -> None:
    for dtype in (uint32, uint64):
        for count, shape in ((3, (2, 5)), (9_999, (2, 20_001))):
            few, many = (draw(random_bits(s, dtype, "b", 5)) for s in ((count,), shape))
            np.testing.assert_array_equal(few, many.ravel()[:count])
    few, many = (draw(random.normal(shape, seed=5, dtype="float64")) for shape in ((3,), (2, 5)))
    np.testing.assert_array_equal(few, many.ravel()[:3])


def test_words_of_64_bits_are_two_of_32() -> None:
    halves = draw(random_bits((8,), uint32, "b", 5)).astype(np.uint64)
    whole = draw(random_bits((4,), uint64, "b", 5))
    np.testing.assert_array_equal(whole, halves[::2] | halves[1::2] << np.uint64(32))


def test_every_bit_is_fair() -> None:
    words = draw(random_bits((COUNT,), uint64, "b", 5))
    ones = [int(((words >> np.uint64(i)) & np.uint64(1)).sum()) for i in range(64)]
    assert max(abs(n - COUNT / 2) for n in ones) < 4.5 * np.sqrt(COUNT) / 2


# ---------------------------------------------------------------------------- the distributions

SHAPES = [
    ("uniform", lambda **k: random.uniform(**k), stats.uniform()),
    ("uniform", lambda **k: random.uniform(low=-3.0, high=2.0, **k), stats.uniform(-3, 5)),
    ("normal", lambda **k: random.normal(**k), stats.norm()),
    ("normal", lambda **k: random.normal(mean=2.0, stddev=3.0, **k), stats.norm(2, 3)),
    ("truncated", lambda **k: random.truncated_normal(**k), stats.truncnorm(-2, 2)),
    (
        "truncated",
        lambda **k: random.truncated_normal(mean=1.0, stddev=0.5, **k),
        stats.truncnorm(-2, 2, 1, 0.5),
    ),
    ("exponential", lambda **k: random.exponential(scale=2.0, **k), stats.expon(scale=2)),
    ("gumbel", lambda **k: random.gumbel(loc=1.0, scale=2.0, **k), stats.gumbel_r(1, 2)),
]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("name", "build", "law"), SHAPES)
def test_the_law_of_each_distribution(name: str, build: Any, law: Any, dtype: Any) -> None:
    sample = draw(build(shape=(COUNT,), dtype=dtype, seed=11))
    assert sample.dtype == dtype.numpy and np.isfinite(sample).all()
    wide = sample.astype(np.float64)
    if dtype is not float16:  # which has too few values for a test of a continuous law
        assert stats.kstest(wide, law.cdf).pvalue > 1e-3
        assert len(np.unique(sample)) > 0.99 * COUNT
    error = law.std() / np.sqrt(COUNT)
    assert abs(wide.mean() - law.mean()) < 4 * error + 1e-3 * (dtype is float16)
    assert abs(wide.std() / law.std() - 1) < 0.03


def test_neighbours_and_runs_are_uncorrelated() -> None:
    session, x = Session(seed=3), random.normal((COUNT,))
    first, second = session.run(x), session.run(x)
    pairs = [(first[:-1], first[1:]), (first, second), (first[::2], first[1::2])]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(a))


def test_truncation_holds() -> None:
    sample = draw(random.truncated_normal((COUNT,), mean=0.0, stddev=1.0, seed=2))
    assert np.abs(sample).max() <= 2.0 and np.abs(sample).max() > 1.99


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 1.01), (1000.0, 1001.0), (-1.0, 0.0)])
def test_uniform_never_reaches_its_upper_bound(low: float, high: float, dtype: Any) -> None:
    start, end = dtype.numpy.type(low), dtype.numpy.type(high)
    sample = draw(random.uniform((COUNT,), low, high, dtype, seed=4))
    assert sample.min() >= start
    assert sample.max() < end
    assert abs(sample.astype(np.float64).mean() - (float(start) + float(end)) / 2) < float(
        end - start
    )  # coarse: between two neighbours there may be only the lower one


def test_uniform_on_a_coarse_grid_is_even() -> None:
    """In float16 [1024, 1028) holds four numbers, each with a quarter of the draws."""
    sample = draw(random.uniform((COUNT,), 1024.0, 1028.0, float16, seed=4))
    values, counts = np.unique(sample, return_counts=True)
    np.testing.assert_array_equal(values, [1024, 1025, 1026, 1027])
    assert stats.chisquare(counts).pvalue > 1e-3


def test_uniform_of_an_empty_interval_is_its_bound() -> None:
    np.testing.assert_array_equal(draw(random.uniform((3,), 2.0, 2.0)), [2, 2, 2])


def test_bernoulli() -> None:
    sample = draw(random.bernoulli((COUNT,), 0.3, seed=5))
    assert sample.dtype == bool
    assert stats.binomtest(int(sample.sum()), COUNT, 0.3).pvalue > 1e-3
    assert draw(random.bernoulli((COUNT,), 1.0)).all()
    assert not draw(random.bernoulli((COUNT,), 0.0)).any()
    p = as_tensor(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(draw(random.bernoulli((3, 2), p, "int32")), [[0, 1]] * 3)


@pytest.mark.parametrize("bounds", [(10,), (-5, 5), (250, 256)])
def test_integers_are_even(bounds: tuple[int, ...]) -> None:
    sample = draw(random.integers((COUNT,), *bounds, seed=6))
    low, high = (0, *bounds)[-2:]
    values, counts = np.unique(sample, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(low, high))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_integers_of_every_width() -> None:
    whole = draw(random.integers((COUNT,), -(2**63), 2**63, seed=6))
    assert stats.kstest(whole / 2.0**63, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    small = draw(random.integers((COUNT,), -128, 128, "int8", seed=6))
    assert (small.min(), small.max(), small.dtype) == (-128, 127, np.int8)
    unsigned = draw(random.integers((COUNT,), 0, 2**64, "uint64", seed=6))
    assert unsigned.max() > 2**63
    low, high = as_tensor(np.array([0, 100])), as_tensor(np.array([2, 103]))
    ours = draw(random.integers((COUNT, 2), low, high))
    np.testing.assert_array_equal([ours.min(0), ours.max(0)], [[0, 100], [1, 102]])


def test_categorical() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    logits = np.stack([np.log(weights), np.array([0.0, -np.inf, 0.0, -np.inf])])
    sample = draw(random.categorical(logits, COUNT, seed=7))
    assert sample.shape == (2, COUNT)
    counts = np.bincount(sample[0], minlength=4)
    assert stats.chisquare(counts, weights / 10 * COUNT).pvalue > 1e-3
    assert set(np.unique(sample[1])) == {0, 2}
    assert draw(random.categorical(logits[0], dtype="int32")).shape == ()


def test_permutations_are_even() -> None:
    rows = np.array([draw(random.permutation(3, seed=k)) for k in range(150)])
    assert (np.sort(rows, axis=1) == np.arange(3)).all()
    _, counts = np.unique(rows @ [9, 3, 1], return_counts=True)
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-3


def test_shuffle_moves_whole_rows_and_their_gradients() -> None:
    x = placeholder("float64", [None, 2])
    y = random.shuffle(x, seed=8)
    weights = np.arange(20.0).reshape(10, 2)
    (dx,) = gradients(y, [x], [weights])
    rows = np.arange(20.0).reshape(10, 2) * 10
    value, gradient = Session().run([y, dx], {x: rows})
    assert not np.array_equal(value, rows)
    np.testing.assert_array_equal(np.sort(value, axis=0), rows)
    order = (value[:, 0] / 20).astype(int)
    np.testing.assert_array_equal(gradient[order], weights)


# ---------------------------------------------------------------------------- parameters


def test_gradients_flow_to_parameters() -> None:
    mean, spread = placeholder("float64", (3,)), placeholder("float64", ())
    y = random.normal((4, 3), mean, spread, "float64", seed=9)
    d_mean, d_spread = gradients(y, [mean, spread])
    value, a, b = Session().run([y, d_mean, d_spread], {mean: [1.0, 2.0, 3.0], spread: 2.0})
    np.testing.assert_array_equal(a, [4, 4, 4])
    np.testing.assert_allclose(b, ((value - [1, 2, 3]) / 2).sum())
    low, high = placeholder("float64", ()), placeholder("float64", ())
    u = random.uniform((5,), low, high, "float64", seed=9)
    d_low, d_high = gradients(u, [low, high])
    value, a, b = Session().run([u, d_low, d_high], {low: -1.0, high: 3.0})
    unit = (value + 1) / 4
    np.testing.assert_allclose([a, b], [(1 - unit).sum(), unit.sum()])


def test_there_is_no_gradient_of_a_probability() -> None:
    p = placeholder("float32", ())
    with pytest.raises(GradientError, match="less"):
        gradients(random.bernoulli((3,), p, "float32"), [p])


def test_parameters_must_broadcast_to_the_shape() -> None:
    with pytest.raises(ShapeError, match="broadcast"):
        random.normal((3,), mean=np.zeros(4))
    with pytest.raises(ShapeError, match="at least as many axes"):
        random.normal((3,), mean=np.zeros((2, 3)))


# ---------------------------------------------------------------------------- shapes


def test_sizes_of_a_placeholder() -> None:
    x = placeholder("float32", ["batch", 3])
    noise = random.normal(x.shape)
    assert str(noise.type) == "f32[batch,3]"
    assert draw(noise + x, {x: np.zeros((5, 3), np.float32)}).shape == (5, 3)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_shapes_that_are_tensors(dtype: Any) -> None:
    n, sizes = placeholder("int64", ()), placeholder("int32", [None])
    a, b = random.normal((n, 2), dtype=dtype), random.normal(sizes, dtype=dtype)
    values = Session(seed=1).run([a, b], {n: 4, sizes: np.array([2, 1, 3], np.int32)})
    assert [v.shape for v in values] == [(4, 2), (2, 1, 3)]


def test_empty_and_scalar_shapes() -> None:
    for shape in ((), (0,), (2, 0, 3), 4):
        expected = shape if isinstance(shape, tuple) else (shape,)
        for build in (random.normal, random.uniform, random.truncated_normal, random.bernoulli):
            assert draw(build(shape)).shape == expected


def test_shuffle_of_an_unknown_rank() -> None:
    x = placeholder("int64")
    value = draw(random.shuffle(x), {x: np.arange(6).reshape(6, 1)})
    np.testing.assert_array_equal(np.sort(value.ravel()), np.arange(6))


def test_categorical_of_an_unknown_rank_keeps_its_key() -> None:
    x = placeholder("float32")
    one, other = random.categorical(x, 50, name="a"), random.categorical(x, 50, name="b")
    session = Session(seed=1)
    a, b = session.run([one, other], {x: np.zeros((2, 9), np.float32)})
    assert a.shape == (2, 50) and (a != b).any()


# ---------------------------------------------------------------------------- seeds and names


def test_a_session_seed_repeats_the_whole_sequence() -> None:
    x = random.normal((3,))
    sessions = [Session(seed=s) for s in (1, 1, 2)]
    first, same, other = ([s.run(x) for _ in range(3)] for s in sessions)
    np.testing.assert_array_equal(first, same)
    assert (np.array(first) != np.array(other)).all()
    assert (first[0] != first[1]).all()


def test_numbers_survive_what_else_is_in_the_graph() -> None:
    with name_scope("model"):
        alone = draw(random.normal((3,), name="noise"))
    other = random.normal((3,), name="more")
    with name_scope("model"):
        noise = random.normal((3,), name="noise")
    beside, _ = Session(seed=1).run([noise * 1.0, random.uniform((5,)) + other[0]])
    np.testing.assert_array_equal(beside, alone)


def test_ops_of_one_graph_differ() -> None:
    a, b = Session(seed=1).run([random.normal((4,)), random.normal((4,))])
    assert (a != b).all()


def test_an_own_seed_stands_alone() -> None:
    """The same in every session, whatever its seed, under every name, and for every scale."""
    a = draw(random.normal((4,), seed=5), seed=1)
    b = draw(random.normal((4,), 1.0, 2.0, seed=5, name="other"), seed=2)
    np.testing.assert_allclose(a * 2 + 1, b, rtol=1e-6)
    np.testing.assert_array_equal(a, Session().run(random.normal((4,), seed=5)))
    assert (draw(random.normal((4,), seed=6)) != a).all()
    session, x = Session(), random.normal((4,), seed=5)
    assert (session.run(x) != session.run(x)).all()  # the run still counts


def test_two_uses_of_one_tensor_are_one_draw() -> None:
    x = random.normal((4,))
    np.testing.assert_array_equal(draw(x - x), np.zeros(4))


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: random.normal((2, -1)), ShapeError, "must not be negative"),
        (lambda: random.normal((2,), dtype="int32"), DTypeError, "dtype must be floating"),
        (lambda: random.normal((2,), stddev=-1.0), ValueError, "stddev must be"),
        (lambda: random.normal((2,), seed="x"), DTypeError, "a seed must be an int"),
        (lambda: random.normal((2,), mean=np.array([True])), DTypeError, "must be numbers"),
        (lambda: random.uniform((2,), 1.0, 0.0), ValueError, "low must be at most high"),
        (lambda: random.uniform((2,), 0.0, np.inf), ValueError, "finite"),
        (lambda: random.uniform((2,), -6e4, 6e4, "float16"), ValueError, "finite"),
        (lambda: random.bernoulli((2,), 1.5), ValueError, "p must be a probability"),
        (lambda: random.integers((2,), 5, 5), ValueError, "low must be less than high"),
        (lambda: random.integers((2,), 300, dtype="int8"), ValueError, "fit int8"),
        (lambda: random.integers((2,), 3, dtype="float32"), DTypeError, "must be an integer type"),
        (lambda: random.categorical([1, 2]), DTypeError, "logits must be floats"),
        (lambda: random.shuffle(3.0), ShapeError, "at least one axis"),
    ],
)
def test_errors(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


# ---------------------------------------------------------------------------- initialisers

FANS = {(6, 50): (6, 50), (3, 3, 16, 32): (144, 288), (7,): (7, 7), (): (1, 1)}


def test_fans() -> None:
    assert {shape: init.fans(shape) for shape in FANS} == FANS


@pytest.mark.parametrize(
    ("build", "variance"),
    [
        (init.glorot_uniform, 2 / 300),
        (init.glorot_normal, 2 / 300),
        (init.he_uniform, 2 / 100),
        (init.he_normal, 2 / 100),
        (init.lecun_uniform, 1 / 100),
        (init.lecun_normal, 1 / 100),
        (
            lambda s, **k: init.variance_scaling(s, 1.0, "fan_out", "truncated_normal", **k),
            1 / 200,
        ),
    ],
)
def test_variances_of_initialisers(build: Any, variance: float) -> None:
    sample = draw(build((100, 200), seed=3)).astype(np.float64)
    assert abs(sample.mean()) < 4 * np.sqrt(variance / sample.size)
    assert abs(sample.var() / variance - 1) < 0.04


def test_uniform_initialisers_have_the_bounds_of_their_papers() -> None:
    for build, limit in ((init.glorot_uniform, 6 / 300), (init.he_uniform, 6 / 100)):
        top = np.abs(draw(build((100, 200), seed=3))).max()
        assert 0.999 * np.sqrt(limit) < top <= np.sqrt(limit)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 2, 3, 5)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = draw(init.orthogonal(shape, gain=2.0, seed=4)).reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)


def test_orthogonal_has_no_preferred_sign() -> None:
    corners = [draw(init.orthogonal((2, 2), seed=k))[0, 0] for k in range(80)]
    assert 22 < sum(c > 0 for c in corners) < 58


def test_fixed_initialisers() -> None:
    values = Session().run(
        [init.zeros((2,)), init.ones(2, "int32"), init.constant((1,), 0.5), init.identity((2, 3))]
    )
    for got, want in zip(values, ([0, 0], [1, 1], [0.5], [[1, 0, 0], [0, 1, 0]]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_variables_start_from_initialisers() -> None:
    w = Variable(init.glorot_uniform((4, 5)), name="w")
    v = Variable(init.glorot_uniform((4, 5)), name="v")
    assert w.shape == (4, 5)
    a, b = Session(seed=1).run([w, v])
    assert (a != b).all()
    np.testing.assert_array_equal(Session(seed=1).run(w), a)


def test_initialisers_take_known_sizes() -> None:
    x = placeholder("float32", [None, 3])
    with pytest.raises(ShapeError, match="known sizes"):
        init.he_normal(x.shape)
    with pytest.raises(ValueError, match="mode must be"):
        init.variance_scaling((2, 3), mode="fan")
    with pytest.raises(ShapeError, match="at least two sizes"):
        init.orthogonal((3,))
