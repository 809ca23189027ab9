"""Softmaxes, losses and layers: against scipy and NumPy, at the edges, and in their gradients."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from scipy import special

from graphc import nn
from graphc.errors import DTypeError, ShapeError
from graphc.graph import Tensor
from graphc.ops.gradient import gradients
from graphc.ops.source import Variable, as_tensor, placeholder
from graphc.runtime.session import Session
from tests.support import generator, run


def drawn(*shape: int) -> Any:
    return generator("nn", shape).normal(size=shape)


def probabilities(*shape: int) -> Any:
    return special.softmax(drawn(*shape), axis=-1)


# ---------------------------------------------------------------------------- softmax


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmaxes_are_those_of_scipy(axis: int) -> None:
    x = drawn(3, 4) * 50
    a, b = run([nn.softmax(x, axis), nn.log_softmax(x, axis)])
    np.testing.assert_allclose(a, special.softmax(x, axis), rtol=1e-12)
    np.testing.assert_allclose(b, special.log_softmax(x, axis), rtol=1e-12)


def test_softmaxes_do_not_overflow() -> None:
    x = np.array([[1e30, 0.0, -1e30], [88.0, 89.0, 90.0], [-np.inf, 0.0, 0.0]], np.float32)
    a, b = run([nn.softmax(x), nn.log_softmax(x)])
    np.testing.assert_allclose(a, special.softmax(x.astype(np.float64), -1), rtol=1e-6)
    np.testing.assert_allclose(b, special.log_softmax(x.astype(np.float64), -1), rtol=1e-6)


def test_softmax_errors() -> None:
    with pytest.raises(ShapeError, match="at least one axis"):
        nn.softmax(1.0)
    with pytest.raises(ShapeError, match="axis 2 is out of range"):
        nn.log_softmax([[1.0]], axis=2)
    x = placeholder("float32")
    with pytest.raises(ShapeError, match="axis 1 is out of range"):
        run([nn.softmax(x, 1)], {x: np.ones(3, np.float32)})


# ---------------------------------------------------------------------------- cross entropies


def test_softmax_cross_entropy() -> None:
    logits, labels = drawn(5, 3), probabilities(5, 3)
    want = -(labels * special.log_softmax(logits, -1)).sum(-1)
    (got,) = run([nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)])
    np.testing.assert_allclose(got, want)
    (deep,) = run(
        [nn.softmax_cross_entropy_with_logits(labels[None], logits[None])]
    )  # more axes in front
    np.testing.assert_allclose(deep, want[None])


def test_sparse_softmax_cross_entropy() -> None:
    logits, numbers = drawn(5, 3), np.array([0, 2, 1, 1, 0], np.int32)
    want = -special.log_softmax(logits, -1)[np.arange(5), numbers]
    for kind in ("int32", "int64", "uint8"):
        loss = nn.sparse_softmax_cross_entropy_with_logits(
            labels=numbers.astype(kind), logits=logits
        )
        np.testing.assert_allclose(run([loss])[0], want)


def test_gradients_of_the_softmax_cross_entropies() -> None:
    """softmax - labels: J. Bridle, 1990."""
    x, numbers = placeholder("float64", [None, 3]), placeholder("int64", [None])
    t = placeholder("float64", [None, 3])
    dense = nn.softmax_cross_entropy_with_logits(labels=t, logits=x)
    sparse = nn.sparse_softmax_cross_entropy_with_logits(labels=numbers, logits=x)
    logits, classes = drawn(4, 3), np.array([0, 2, 1, 1])
    labels = np.eye(3)[classes]
    fetches = [gradients(dense, [x])[0], gradients(sparse, [x])[0], gradients(dense, [t])[0]]
    a, b, c = run(fetches, {x: logits, numbers: classes, t: labels})
    want = special.softmax(logits, -1) - labels
    np.testing.assert_allclose(a, want, atol=1e-12)
    np.testing.assert_allclose(b, want, atol=1e-12)
    np.testing.assert_allclose(c, -special.log_softmax(logits, -1), atol=1e-12)


def test_a_label_of_zero_forgives_a_logit_of_minus_infinity() -> None:
    x = placeholder("float32", (1, 3))
    loss = nn.softmax_cross_entropy_with_logits(labels=[[0.0, 1.0, 0.0]], logits=x)
    value, dx = run(
        [loss, gradients(loss, [x])[0]], {x: np.array([[0.0, 0.0, -np.inf]], np.float32)}
    )
    np.testing.assert_allclose(value, [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dx, [[0.5, -0.5, 0.0]], rtol=1e-6)


def test_class_numbers_out_of_range() -> None:
    numbers = placeholder("int64", [None])
    loss = nn.sparse_softmax_cross_entropy_with_logits(labels=numbers, logits=np.ones((2, 3)))
    for wrong in (3, -1):
        with pytest.raises(ShapeError, match=f"index {wrong} is out of range for axis 1"):
            run([loss], {numbers: np.array([0, wrong])})


def test_sigmoid_cross_entropy() -> None:
    logits, labels = drawn(5, 3) * 3, probabilities(5, 3)
    want = -labels * special.log_expit(logits) - (1 - labels) * special.log_expit(-logits)
    (got,) = run([nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)])
    np.testing.assert_allclose(got, want)


def test_sigmoid_cross_entropy_at_the_edges() -> None:
    z = np.array([0.0, 100.0, -100.0, 20.0, -20.0], np.float32)
    x = placeholder("float32", (5,))
    for label in (0, 1):
        loss = nn.sigmoid_cross_entropy_with_logits(labels=np.full(5, label), logits=x)
        assert loss.dtype.name == "float32"
        first = gradients(loss, [x])[0]
        value, d1, d2 = run([loss, first, gradients(first, [x])[0]], {x: z})
        wide = z.astype(np.float64)
        want = -special.log_expit(wide if label else -wide)
        np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-44)
        p = special.expit(wide)
        np.testing.assert_allclose(d1, p - label, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(d2, p * (1 - p), rtol=1e-6, atol=1e-8)


def test_crossentropies_from_probabilities() -> None:
    p, t = probabilities(4, 3), probabilities(4, 3)[::-1].copy()
    a, b, c = run(
        [
            nn.binary_crossentropy(p, t),
            nn.categorical_crossentropy(p, t),
            nn.categorical_crossentropy(output=p, target=np.array([2, 0, 1, 1])),
        ]
    )
    np.testing.assert_allclose(a, -t * np.log(p) - (1 - t) * np.log(1 - p))
    np.testing.assert_allclose(b, -(t * np.log(p)).sum(-1))
    np.testing.assert_allclose(c, -np.log(p[np.arange(4), [2, 0, 1, 1]]))


def test_certain_probabilities_make_no_nan() -> None:
    p, t = placeholder("float32", (2,)), np.array([0.0, 1.0], np.float32)
    loss = nn.binary_crossentropy(p, t)
    value, slope = run([loss, gradients(loss, [p])[0]], {p: t})
    np.testing.assert_array_equal(value, [0, 0])
    np.testing.assert_array_equal(slope, [1, -1])


def test_crossentropies_of_saturated_outputs_are_those_from_logits() -> None:
    x, t = placeholder("float32", (5,)), np.array([1.0, 0.0, 1.0, 0.0, 0.25], np.float32)
    z = np.array([-100.0, 100.0, 30.0, -30.0, -40.0], np.float32)
    rows, classes = placeholder("float32", (1, 3)), np.array([1])
    pairs = [
        (nn.binary_crossentropy(nn.sigmoid(x), t), nn.sigmoid_cross_entropy_with_logits(t, x), x),
        (
            nn.categorical_crossentropy(nn.softmax(rows), classes),
            nn.sparse_softmax_cross_entropy_with_logits(classes, rows),
            rows,
        ),
    ]
    feeds = {x: z, rows: np.array([[0.0, -200.0, 5.0]], np.float32)}
    for loss, from_logits, inputs in pairs:
        fetches = [loss, *gradients(loss, [inputs]), from_logits, *gradients(from_logits, [inputs])]
        value, slope, want, want_slope = run(fetches, feeds)
        np.testing.assert_allclose(value, want, rtol=1e-5)
        np.testing.assert_allclose(slope, want_slope, rtol=1e-5, atol=1e-12)


def test_targets_of_equal_rank_are_rows_even_if_integers() -> None:
    p, one_hot = probabilities(3, 3), np.eye(3, dtype=np.int64)
    (got,) = run([nn.categorical_crossentropy(p, one_hot)])
    np.testing.assert_allclose(got, -np.log(np.diag(p)))


def test_distances() -> None:
    a, b = drawn(4, 2), drawn(4, 2)[::-1].copy() * 2
    error = b - a
    huber = np.where(abs(error) <= 0.5, error**2 / 2, 0.5 * (abs(error) - 0.25))
    got = run(
        [nn.mean_squared_error(a, b), nn.mean_absolute_error(a, b), nn.huber_loss(a, b, delta=0.5)]
    )
    np.testing.assert_allclose(got, [(error**2).mean(), abs(error).mean(), huber.mean()])
    x = placeholder("float64", (3,))
    (dx,) = gradients(nn.huber_loss(np.zeros(3), x), [x])
    value, second = run([dx, gradients(dx, [x])[0]], {x: np.array([0.0, 0.5, 3.0])})
    np.testing.assert_allclose(value * 3, [0, 0.5, 1])
    np.testing.assert_allclose(second * 3, [1, 1, 0])


# ---------------------------------------------------------------------------- shapes of losses

ROWS = [nn.softmax_cross_entropy_with_logits, nn.categorical_crossentropy]
ELEMENTS = [nn.sigmoid_cross_entropy_with_logits, nn.binary_crossentropy]
SCALARS = [nn.mean_squared_error, nn.mean_absolute_error, nn.huber_loss]
ALL = ROWS + ELEMENTS + SCALARS


def message(builder: Any) -> str:
    a, b = list(inspect.signature(builder).parameters)[:2]
    return f"{builder.__name__}: {a} and {b} must have equal shapes"


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4, 3), (1, 3)), ((), (4,))])
def test_silent_broadcasts_are_refused(loss: Any, shapes: Any) -> None:
    a, b = (placeholder("float32", shape) for shape in shapes)
    with pytest.raises(ShapeError, match=message(loss)) as caught:
        loss(a, b)
    assert str(a.type) in str(caught.value) and str(b.type) in str(caught.value)
    assert "test_nn.py" in str(caught.value)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("spelling", [None, [None, None]])
def test_sizes_that_only_a_run_knows_are_compared_then(loss: Any, spelling: Any) -> None:
    a, b = placeholder("float32", spelling), placeholder("float32", spelling)
    tensor = loss(a, b)
    assert tensor.dtype.name == "float32"
    good = np.full((4, 3), 0.5, np.float32)
    (got,) = run([tensor], {a: good, b: good})
    assert got.shape == ((4,) if loss in ROWS else (4, 3) if loss in ELEMENTS else ())
    with pytest.raises(ShapeError, match=message(loss)):
        run([tensor], {a: good, b: good[:1]})
    with pytest.raises(ShapeError, match=message(loss)):
        run([tensor], {a: good[:, :1], b: good})


def test_ranks_that_only_a_run_knows_are_compared_then() -> None:
    a, b = placeholder("float32"), placeholder("float32")
    loss = nn.sigmoid_cross_entropy_with_logits(labels=a, logits=b)
    with pytest.raises(ShapeError, match=message(nn.sigmoid_cross_entropy_with_logits)):
        run([loss], {a: np.ones(4, np.float32), b: np.ones((4, 1), np.float32)})


@pytest.mark.parametrize("shape", [(4, 1), (), (3,), (4, 3)])
def test_class_numbers_have_the_shape_of_the_rows(shape: Any) -> None:
    with pytest.raises(ShapeError, match="labels must have the shape of logits without its last"):
        nn.sparse_softmax_cross_entropy_with_logits(
            labels=np.zeros(shape, int), logits=np.ones((4, 3))
        )
    if len(shape) < 2:
        with pytest.raises(ShapeError, match="target must have the shape of output without"):
            nn.categorical_crossentropy(np.ones((4, 3)), np.zeros(shape, int))


def test_one_compilation_serves_every_batch() -> None:
    x, t = placeholder("float32", [None, 3]), placeholder("float32", [None, 3])
    loss = nn.softmax_cross_entropy_with_logits(labels=t, logits=x)
    session = Session()
    for size in (4, 7, 2):
        assert session.run(loss, {x: np.ones((size, 3)), t: np.ones((size, 3))}).shape == (size,)
    assert len(session._sets) == 1
    ((fetch_set, _),) = session._sets.values()
    assert len(fetch_set.compilations) == 1


def test_float_class_numbers_are_refused() -> None:
    with pytest.raises(DTypeError, match="labels, class numbers, must be integers"):
        nn.sparse_softmax_cross_entropy_with_logits(labels=[1.0], logits=[[1.0, 2.0]])


# ---------------------------------------------------------------------------- normalisation


def numeric_gradient(function: Any, x: Any, h: float = 1e-6) -> Any:
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        result[index] = (function(x + step) - function(x - step)) / (2 * h)
    return result


def check_slope(build: Any, x: Any, weights: Any) -> None:
    """The gradient of <weights, y> and its own, against differences."""
    t = placeholder("float64", [None] * x.ndim)
    y = (build(t) * weights).sum()
    (dx,) = gradients(y, [t])
    along = (dx * weights).sum()
    (second,) = gradients(along, [t])
    got, got_second = run([dx, second], {t: x})
    want = numeric_gradient(lambda v: run([y], {t: v})[0], x)
    want_second = numeric_gradient(lambda v: run([along], {t: v})[0], x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got_second, want_second, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: nn.layer_norm(x, np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, 1.0])),
        lambda x: nn.batch_norm(x, np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, 1.0])),
        lambda x: nn.l2_normalize(x),
        lambda x: nn.softmax(x, 0),
        lambda x: nn.log_softmax(x),
        lambda x: nn.sigmoid_cross_entropy_with_logits(np.full((2, 3), 0.3), x),
    ],
)
def test_gradients(build: Any) -> None:
    check_slope(build, drawn(2, 3), drawn(3, 2).T.copy())


def test_moments() -> None:
    x = drawn(3, 4)
    mean, variance = run(list(nn.moments(x, 0, keepdims=True)))
    np.testing.assert_allclose(mean, x.mean(0, keepdims=True))
    np.testing.assert_allclose(variance, x.var(0, keepdims=True))


def test_layer_norm() -> None:
    x, scale, offset = drawn(3, 4), drawn(4), drawn(4)[::-1].copy()
    (got,) = run([nn.layer_norm(x, scale, offset, epsilon=1e-3)])
    centered = x - x.mean(-1, keepdims=True)
    want = centered / np.sqrt(x.var(-1, keepdims=True) + 1e-3) * scale + offset
    np.testing.assert_allclose(got, want)
    (both,) = run([nn.layer_norm(x, epsilon=0.0, axis=(0, 1))])
    np.testing.assert_allclose([both.mean(), both.var()], [0, 1], atol=1e-12)


def test_batch_norm() -> None:
    x, scale, offset = drawn(5, 2, 2, 3), drawn(3), drawn(3)[::-1].copy()
    (got,) = run([nn.batch_norm(x, scale, offset)])
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(variance + 1e-3) * scale + offset)
    (given,) = run([nn.batch_norm(x, scale, offset, mean=0.5, variance=4.0, epsilon=0.0)])
    np.testing.assert_allclose(given, (x - 0.5) / 2 * scale + offset)
    first = x.transpose(0, 3, 1, 2)
    (by_axis,) = run([nn.batch_norm(first, scale[:, None, None], axis=(0, 2, 3))])
    want = (x - mean) / np.sqrt(variance + 1e-3) * scale
    np.testing.assert_allclose(by_axis.transpose(0, 2, 3, 1), want)


@pytest.mark.parametrize("shape", [None, [None, 3]])
def test_running_batch_norm(shape: Any) -> None:
    x, training = placeholder("float64", shape), placeholder("bool", ())
    mean, variance = Variable(np.zeros(3)), Variable(np.ones(3))
    y, updates = nn.running_batch_norm(x, 1.0, 0.0, mean, variance, training, momentum=0.9)
    batch, session = drawn(6, 3) + 2, Session()
    got, _ = session.run([y, updates], {x: batch, training: True})
    np.testing.assert_allclose(
        got, (batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-3), rtol=1e-6
    )
    kept, spread = 0.1 * batch.mean(0), 0.9 + 0.1 * batch.var(0)
    for _ in range(2):  # inference changes nothing
        got, _ = session.run([y, updates], {x: batch, training: False})
        np.testing.assert_allclose(got, (batch - kept) / np.sqrt(spread + 1e-3), rtol=1e-6)
    np.testing.assert_allclose(session.run([mean, variance]), [kept, spread], rtol=1e-6)


def test_running_batch_norm_of_known_modes() -> None:
    mean, variance = Variable(np.zeros(3, np.float32)), Variable(np.ones(3, np.float32))
    x = drawn(6, 3).astype(np.float32)
    y, none = nn.running_batch_norm(x, None, None, mean, variance, training=False, epsilon=0.0)
    session = Session()
    np.testing.assert_array_equal(session.run([y, none])[0], x)
    _, updates = nn.running_batch_norm(x, None, None, mean, variance, momentum=0.0)
    session.run(updates)
    np.testing.assert_allclose(session.run(mean), x.mean(0), rtol=1e-5, atol=1e-6)


def test_l2_normalize_leaves_zeros() -> None:
    x = placeholder("float32", (2, 2))
    y = nn.l2_normalize(x)
    value, dx = run([y, gradients(y, [x])[0]], {x: np.array([[3, 4], [0, 0]], np.float32)})
    np.testing.assert_allclose(value, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.isfinite(dx).all()


# ---------------------------------------------------------------------------- embedding


def test_embedding_lookup() -> None:
    table, ids = placeholder("float64", (4, 2)), np.array([[1, 3], [1, 0]])
    rows = nn.embedding_lookup(table, ids)
    value, slope = run([rows, gradients(rows, [table])[0]], {table: drawn(4, 2)})
    np.testing.assert_array_equal(value, drawn(4, 2)[ids])
    np.testing.assert_array_equal(slope, [[1, 1], [2, 2], [0, 0], [1, 1]])


@pytest.mark.parametrize("wrong", [4, -1])
def test_embedding_ids_out_of_range(wrong: int) -> None:
    ids = placeholder("int32", [None])
    with pytest.raises(ShapeError, match="out of range for axis 0 of size 4"):
        run([nn.embedding_lookup(np.ones((4, 2)), ids)], {ids: np.array([wrong], np.int32)})


def test_embedding_ids_are_integers() -> None:
    with pytest.raises(DTypeError, match="ids must be integers"):
        nn.embedding_lookup(np.ones((4, 2)), [1.0])


# ---------------------------------------------------------------------------- dropout


def dropped(x: Any, *args: Any, **kwargs: Any) -> Any:
    return Session(seed=1).run(nn.dropout(x, *args, **kwargs))


def test_dropout_keeps_the_mean() -> None:
    y = dropped(np.ones(40_000, np.float32), 0.25)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.015


def test_dropout_masks_its_gradient_alike() -> None:
    x = placeholder("float64")
    y = nn.dropout(x, 0.5, name="drop")
    value, slope = Session(seed=1).run([y, gradients(y, [x])[0]], {x: np.ones(50)})
    np.testing.assert_array_equal(value, slope)
    assert 0 < (value == 0).sum() < 50


def test_dropout_drops_nan() -> None:
    y = dropped(np.full(100, np.nan, np.float32), 0.5)
    assert 0 < np.isnan(y).sum() < 100


def test_dropout_of_nothing() -> None:
    x = as_tensor([1.0, 2.0])
    assert nn.dropout(x, 0.5, training=False) is x
    assert nn.dropout(x, 0.0) is x


def test_dropout_by_tensors() -> None:
    x, rate, training = placeholder("float32"), placeholder("float32", ()), placeholder("bool", ())
    y = nn.dropout(x, rate, training)
    session, ones = Session(seed=1), np.ones((30, 30))
    np.testing.assert_array_equal(session.run(y, {x: ones, rate: 0.5, training: False}), ones)
    np.testing.assert_array_equal(session.run(y, {x: ones, rate: 0.0, training: True}), ones)
    some = session.run(y, {x: ones, rate: 0.5, training: True})
    assert set(np.unique(some)) == {0.0, 2.0}
    for wrong in (1.0, -0.1, np.nan):
        assert np.isnan(session.run(y, {x: ones, rate: wrong, training: True})).all()


def test_dropout_of_whole_channels() -> None:
    y = dropped(np.ones((4, 5, 5, 16)), 0.5, noise_shape=(4, 1, 1, 16))
    assert (y == y[:, :1, :1]).all() and len(np.unique(y)) == 2


def test_dropouts_of_unknown_rank_have_masks_of_their_own() -> None:
    x = placeholder("float32")
    first, second = nn.dropout(x, 0.5), nn.dropout(x, 0.5)
    a, b = Session(seed=1).run([first, second], {x: np.ones(64)})
    assert (a != b).any()


@pytest.mark.parametrize("rate", [1.0, -0.1, 2, float("nan")])
def test_dropout_rates_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be at least 0 and less than 1"):
        nn.dropout([1.0], rate)


def test_dropout_takes_floats() -> None:
    with pytest.raises(DTypeError, match="x must hold floats"):
        nn.dropout([1, 2], 0.5)


# ---------------------------------------------------------------------------- names


NAMED = [
    nn.softmax_cross_entropy_with_logits,
    nn.sigmoid_cross_entropy_with_logits,
    nn.binary_crossentropy,
    nn.categorical_crossentropy,
    nn.mean_squared_error,
]


@pytest.mark.parametrize("builder", NAMED)
def test_losses_take_names(builder: Any) -> None:
    tensor: Tensor = builder(np.full((2, 3), 0.5), np.full((2, 3), 0.5), name="loss")
    assert tensor.name == "loss"


def test_layers_take_names() -> None:
    x = np.ones((2, 3))
    for tensor in (
        nn.softmax(x, name="n"), nn.dropout(x, 0.5, name="n"), nn.layer_norm(x, name="n"),
        nn.batch_norm(x, name="n"), nn.embedding_lookup(x, [0], name="n"),
        nn.l2_normalize(x, name="n"),
        nn.conv2d(x.reshape(1, 2, 3, 1), x.reshape(2, 3, 1, 1), name="n"),
        nn.max_pool2d(x.reshape(1, 1, 2, 3), 2, data_format="NCHW", name="n"),
    ):  # fmt: skip
        assert tensor.name == "n"


def test_a_small_network_learns() -> None:
    """Convolution, pooling, dropout and cross entropy together: tell a row from a column."""
    rng = generator("stripes")
    images, classes = np.zeros((64, 6, 6, 1), np.float32), rng.integers(0, 2, 64)
    for image, kind, at in zip(images, classes, rng.integers(0, 6, 64), strict=True):
        image[at] = kind
        image[:, at] += 1 - kind
    x, t = placeholder("float32", [None, 6, 6, 1]), placeholder("int64", [None])
    f = Variable(rng.normal(0, 0.5, (3, 3, 1, 4)).astype(np.float32))
    w = Variable(rng.normal(0, 0.2, (16, 2)).astype(np.float32))
    hidden = nn.max_pool2d(nn.relu(nn.conv2d(x, f)), 2)
    logits = nn.dropout(hidden.reshape((-1, 16)), 0.1) @ w
    loss = nn.sparse_softmax_cross_entropy_with_logits(labels=t, logits=logits).mean()
    slopes = gradients(loss, [f, w])
    session = Session(seed=1)
    losses = []
    for _ in range(60):
        value, df, dw = session.run([loss, *slopes], {x: images, t: classes})
        losses.append(float(value))
        session.set(f, session.get(f) - 0.5 * df)
        session.set(w, session.get(w) - 0.5 * dw)
    assert losses[-1] < 0.15 < 0.5 < losses[0]
