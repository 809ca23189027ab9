"""Convolution and pooling: against loops that spell out the definition, and their gradients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import signal

from graphc.errors import DTypeError, ShapeError
from graphc.graph import Tensor
from graphc.nn import avg_pool2d, conv2d, conv2d_transpose, depthwise_conv2d, max_pool2d
from graphc.ops.gradient import gradients
from graphc.ops.source import as_tensor, placeholder
from tests.support import generator, run

Array = Any


# ---------------------------------------------------------------------------- in loops


def cells_of(padding: Any, size: int, reach: int, stride: int, axis: int) -> tuple[int, int]:
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        outputs = int(np.ceil(size / stride))
        total = max((outputs - 1) * stride + reach - size, 0)
        return total // 2, total - total // 2
    pairs = padding if isinstance(padding, tuple) else (padding, padding)
    own = pairs[axis]
    return own if isinstance(own, tuple) else (own, own)


def windows(
    x: Array, kernel: Any, strides: Any, padding: Any, dilations: Any = (1, 1)
) -> Iterator[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """Each window: its place, and (row, column, y, x) of each of its cells inside the image."""
    height, width = x.shape[1:3]
    spans = []
    for axis, size in enumerate((height, width)):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        low, high = cells_of(padding, size, reach, strides[axis], axis)
        spans.append(range(-low, size + high - reach + 1, strides[axis]))
    for i, top in enumerate(spans[0]):
        for j, left in enumerate(spans[1]):
            inside = []
            for row, column in itertools.product(range(kernel[0]), range(kernel[1])):
                y, z = top + row * dilations[0], left + column * dilations[1]
                if 0 <= y < height and 0 <= z < width:
                    inside.append((row, column, y, z))
            yield i, j, inside


def looped_conv(
    x: Array, f: Array, strides: Any, padding: Any, dilations: Any, groups: int
) -> Array:
    places = list(windows(x, f.shape[:2], strides, padding, dilations))
    shape = (x.shape[0], max(p[0] for p in places) + 1, max(p[1] for p in places) + 1, f.shape[3])
    result = np.zeros(shape)
    inner, outer = f.shape[2], f.shape[3] // groups
    for i, j, inside in places:
        for row, column, y, z in inside:
            for group in range(groups):
                ours = slice(group * outer, (group + 1) * outer)
                seen = x[:, y, z, group * inner : (group + 1) * inner]
                result[:, i, j, ours] += seen @ f[row, column, :, ours]
    return result


def nchw(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


TABLE = list(
    itertools.product(
        ((1, 1), (2, 1), (2, 3)),
        ("VALID", "SAME", 1, (2, 0), ((0, 1), (2, 1))),
        ((1, 1), (2, 1), (1, 2)),
        (1, 2, 4),
        ("NHWC", "NCHW"),
    )
)


def drawn(*shapes: tuple[int, ...]) -> list[Array]:
    rng = generator("convolution", shapes)
    return [rng.uniform(-1, 1, shape) for shape in shapes]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv2d_is_its_definition(groups: int) -> None:
    x, f = drawn((2, 6, 7, 4), (3, 2, 4 // groups, 4))
    inputs, fetches, wanted = {}, [], []
    for strides, padding, dilations, row_groups, layout in TABLE:
        if row_groups != groups:
            continue
        image = x if layout == "NHWC" else nchw(x)
        node = placeholder("float64", [None] * 4)
        inputs[node] = image
        fetches.append(
            conv2d(node, f, strides, padding, dilations, data_format=layout, groups=groups)
        )
        y = looped_conv(x, f, strides, padding, dilations, groups)
        wanted.append(y if layout == "NHWC" else nchw(y))
    for got, want in zip(run(fetches, inputs), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize(("strides", "padding", "dilations", "groups", "layout"), TABLE)
def test_conv2d_infers_its_shape(
    strides: Any, padding: Any, dilations: Any, groups: int, layout: str
) -> None:
    x, f = drawn((1, 6, 7, 4), (3, 2, 4 // groups, 4))
    tensor = conv2d(
        x if layout == "NHWC" else nchw(x), f, strides, padding, dilations, layout, groups
    )
    (value,) = run([tensor])
    assert tensor.shape == value.shape


def test_conv2d_is_the_correlation_of_scipy() -> None:
    x, f = drawn((1, 9, 8, 1), (3, 4, 1, 1))
    (got,) = run([conv2d(x, f)])
    want = signal.correlate2d(x[0, :, :, 0], f[:, :, 0, 0], "valid")
    np.testing.assert_allclose(got[0, :, :, 0], want, atol=1e-12)


def adjoint_case(
    strides: Any, padding: Any, dilations: Any, groups: int, layout: str
) -> tuple[Array, Array, Tensor, Tensor, Tensor]:
    x, f = drawn((2, 6, 7, 4), (3, 2, 4 // groups, 4))
    images = placeholder("float64", x.shape if layout == "NHWC" else nchw(x).shape)
    filters = placeholder("float64", f.shape)
    y = conv2d(images, filters, strides, padding, dilations, layout, groups)
    return (x if layout == "NHWC" else nchw(x)), f, images, filters, y


@pytest.mark.parametrize(("strides", "padding", "dilations", "groups", "layout"), TABLE[::3])
def test_conv2d_gradients_are_adjoints(
    strides: Any, padding: Any, dilations: Any, groups: int, layout: str
) -> None:
    """conv2d is bilinear, so <g, conv2d(x, f)> is <dx, x> and <df, f>, exactly."""
    x, f, images, filters, y = adjoint_case(strides, padding, dilations, groups, layout)
    (g,) = drawn(tuple(y.shape))  # type: ignore[arg-type]
    dx, df = gradients(y, [images, filters], [g])
    value, by_image, by_filter = run([y, dx, df], {images: x, filters: f})
    want = np.sum(g * value)
    np.testing.assert_allclose(np.sum(by_image * x), want, rtol=1e-10)
    np.testing.assert_allclose(np.sum(by_filter * f), want, rtol=1e-10)


def total(y: Tensor) -> Tensor:
    """A function of third degree, so that the first three derivatives are not trivial."""
    return (y * y * y).sum()


@pytest.mark.parametrize(
    "build",
    [
        lambda x, f: conv2d(x, f, strides=(2, 1), padding="SAME"),
        lambda x, f: conv2d(x, f, dilations=(1, 2), padding=1),
        lambda x, f: conv2d(x, f.reshape((2, 2, 1, 4)), groups=2),
        lambda x, f: conv2d_transpose(x, f, strides=2),
        lambda x, f: avg_pool2d(conv2d(x, f), 2, 1, "SAME"),
        lambda x, f: max_pool2d(conv2d(x, f), (2, 1), 1, "SAME"),
    ],
)
def test_three_orders_of_derivatives(build: Any) -> None:
    x, f, u, v = drawn((1, 4, 5, 2), (2, 2, 2, 2), (1, 4, 5, 2), (2, 2, 2, 2))
    images, filters = placeholder("float64", [None] * 4), placeholder("float64", [None] * 4)

    def along(value: Tensor) -> Tensor:
        dx, df = gradients(value, [images, filters])
        return (dx * u).sum() + (df * v).sum()

    orders = [total(build(images, filters))]
    for _ in range(3):
        orders.append(along(orders[-1]))

    def at(step: float) -> list[Array]:
        return run(orders, {images: x + step * u, filters: f + step * v})

    h = 1e-5
    low, middle, high = at(-h), at(0.0), at(h)
    for order in range(3):
        by_difference = (high[order] - low[order]) / (2 * h)
        np.testing.assert_allclose(middle[order + 1], by_difference, rtol=1e-6, atol=1e-6)


def test_conv2d_transpose_is_the_gradient_in_the_images() -> None:
    images = placeholder("float64", (2, 5, 6, 3))
    x, f = drawn((2, 5, 6, 3), (3, 2, 3, 4))
    for strides, padding in itertools.product((1, 2, (1, 2)), ("VALID", "SAME", 1)):
        y = conv2d(images, f, strides, padding)
        (g,) = drawn(tuple(y.shape))  # type: ignore[arg-type]
        want = gradients(y, [images], [g])[0]
        got = conv2d_transpose(g, f, strides, padding, output_size=(5, 6))
        assert got.shape == (2, 5, 6, 3)
        np.testing.assert_allclose(*run([got, want], {images: x}), atol=1e-12)


def test_conv2d_transpose_sizes() -> None:
    x, f = drawn((1, 3, 4, 2), (3, 3, 5, 2))
    assert conv2d_transpose(x, f, 2).shape == (1, 7, 9, 5)
    assert conv2d_transpose(x, f, 2, "SAME").shape == (1, 6, 8, 5)
    assert conv2d_transpose(x, f, 2, 1).shape == (1, 5, 7, 5)
    assert conv2d_transpose(nchw(x), f, 2, data_format="NCHW").shape == (1, 5, 7, 9)
    with pytest.raises(ShapeError, match=r"images of \[9, 9\] make g of \[4, 4\]"):
        conv2d_transpose(x, f, 2, output_size=(9, 9))


def test_depthwise_is_one_convolution_a_channel() -> None:
    x, f = drawn((2, 5, 4, 3), (2, 2, 3, 2))
    (got,) = run([depthwise_conv2d(x, f, padding="SAME")])
    for channel, multiple in itertools.product(range(3), range(2)):
        one = slice(channel, channel + 1)
        want = looped_conv(
            x[..., one], f[:, :, one, multiple : multiple + 1], (1, 1), "SAME", (1, 1), 1
        )
        np.testing.assert_allclose(got[..., channel * 2 + multiple], want[..., 0], atol=1e-12)


# ---------------------------------------------------------------------------- pooling

POOLS = list(
    itertools.product(
        ((2, 2), (3, 1), (3, 2)),
        ((1, 1), (2, 1), (2, 3)),
        ("VALID", "SAME", ((1, 0), (0, 0)), ((1, 2), (0, 0))),
        ("NHWC", "NCHW"),
    )
)


@pytest.mark.parametrize(("size", "strides", "padding", "layout"), POOLS)
def test_pools_are_their_definitions(size: Any, strides: Any, padding: Any, layout: str) -> None:
    if padding != "SAME" and any(max(p) >= k for p, k in zip(padding, size) if padding != "VALID"):
        with pytest.raises(ShapeError, match="padding must be less than the window"):
            max_pool2d(np.ones((1, 5, 6, 2)), size, strides, padding)
        return
    (x,) = drawn((2, 5, 6, 2))
    places = list(windows(x, size, strides, padding))
    shape = (2, max(p[0] for p in places) + 1, max(p[1] for p in places) + 1, 2)
    largest, means = np.zeros(shape), np.zeros(shape)
    for i, j, inside in places:
        seen = np.stack([x[:, y, z] for _, _, y, z in inside])
        largest[:, i, j], means[:, i, j] = seen.max(0), seen.mean(0)
    image = x if layout == "NHWC" else nchw(x)
    tensors = [pool(image, size, strides, padding, layout) for pool in (max_pool2d, avg_pool2d)]
    for got, want, tensor in zip(run(tensors), (largest, means), tensors, strict=True):
        want = want if layout == "NHWC" else nchw(want)
        assert tensor.shape == got.shape
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_ties_go_to_the_first_cell_of_the_window() -> None:
    x = placeholder("float32", (1, 4, 4, 1))
    (dx,) = gradients(max_pool2d(x, 2), [x])
    (got,) = run([dx], {x: np.zeros((1, 4, 4, 1), np.float32)})
    want = np.zeros((4, 4))
    want[::2, ::2] = 1
    np.testing.assert_array_equal(got[0, :, :, 0], want)


def test_padding_never_wins_not_even_against_minus_infinity() -> None:
    x = placeholder("float32", (1, 3, 3, 1))
    y = max_pool2d(x, 2, 1, ((1, 0), (1, 0)))
    low = np.full((1, 3, 3, 1), -np.inf, np.float32)
    value, dx = run([y, gradients(y, [x])[0]], {x: low})
    assert np.all(value == -np.inf)
    assert dx.sum() == y.shape[1] * y.shape[2]  # type: ignore[index, operator]


def test_nan_wins_and_takes_the_gradient() -> None:
    x = placeholder("float32", (1, 2, 2, 1))
    image = np.array([1.0, np.nan, 3.0, np.nan], np.float32).reshape(1, 2, 2, 1)
    y = max_pool2d(x, 2)
    value, dx = run([y, gradients(y, [x])[0]], {x: image})
    assert np.isnan(value).all()
    np.testing.assert_array_equal(dx.ravel(), [0, 1, 0, 0])


def test_integers_pool_as_integers_and_average_as_floats() -> None:
    x = np.arange(-8, 8, dtype=np.int8).reshape(1, 4, 4, 1)
    largest, mean = max_pool2d(x, 2, padding="SAME"), avg_pool2d(x, 2)
    assert (largest.dtype.name, mean.dtype.name) == ("int8", "float16")
    a, b = run([largest, mean])
    np.testing.assert_array_equal(a.ravel(), [-3, -1, 5, 7])
    np.testing.assert_array_equal(b.ravel(), [-5.5, -3.5, 2.5, 4.5])


# ---------------------------------------------------------------------------- sizes and dtypes


def test_sizes_stay_symbolic() -> None:
    x = placeholder("float32", ["batch", "h", "w", 3])
    f = np.zeros((3, 3, 3, 8), np.float32)
    assert str(conv2d(x, f).type) == "f32[batch,h-2,w-2,8]"
    assert str(conv2d(x, f, padding="SAME").type) == "f32[batch,h,w,8]"
    assert str(conv2d(x, f, 2, "SAME").type) == "f32[batch,((h+1)//2),((w+1)//2),8]"
    assert str(max_pool2d(x, 2, 1).type) == "f32[batch,h-1,w-1,3]"
    channels = placeholder("float32", ["batch", 3, "h", "w"])
    assert str(conv2d(channels, f, data_format="NCHW").type) == "f32[batch,8,h-2,w-2]"


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_unknown_ranks_are_bound_in_the_run(layout: str) -> None:
    x, f = drawn((2, 5, 6, 3), (2, 2, 3, 4))
    image = x if layout == "NHWC" else nchw(x)

    def model(images: Tensor, filters: Tensor) -> list[Tensor]:
        y = conv2d(images, filters, 2, "SAME", data_format=layout)
        z = max_pool2d(y, 2, 1, data_format=layout)
        w = avg_pool2d(y, 2, 1, data_format=layout)
        t = conv2d_transpose(z, filters, data_format=layout)
        return [z, w, t, *gradients(total(z) + total(w) + total(t), [images, filters])]

    open_ = [placeholder("float64"), placeholder("float64")]
    known = [placeholder("float64", image.shape), placeholder("float64", f.shape)]
    fetches = model(*open_)
    assert all(t.shape is None for t in fetches[:3])
    got = run(fetches, dict(zip(open_, (image, f), strict=True)))
    want = run(model(*known), dict(zip(known, (image, f), strict=True)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_float16_is_accumulated_in_float32() -> None:
    x = np.full((1, 40, 40, 4), 1.0, np.float16)
    f = np.full((40, 40, 4, 1), 0.1, np.float16)
    (got,) = run([conv2d(x, f)])
    assert got.dtype == np.float16
    assert abs(float(got.item()) - 640) <= 1


def test_integers_convolve_exactly() -> None:
    x = np.arange(9, dtype=np.int32).reshape(1, 3, 3, 1)
    y = conv2d(x, np.ones((2, 2, 1, 1), np.int32))
    assert y.dtype.name == "int32"
    np.testing.assert_array_equal(run([y])[0].ravel(), [8, 12, 20, 24])


def test_empty_batches() -> None:
    x, f = placeholder("float32", [None, 4, 4, 2]), placeholder("float32", (2, 2, 2, 3))
    y = max_pool2d(conv2d(x, f), 2, 1)
    feeds = {x: np.zeros((0, 4, 4, 2), np.float32), f: np.ones((2, 2, 2, 3), np.float32)}
    value, dx, df = run([y, *gradients(y, [x, f])], feeds)
    assert (value.shape, dx.shape) == ((0, 2, 2, 3), (0, 4, 4, 2))
    np.testing.assert_array_equal(df, np.zeros((2, 2, 2, 3)))


def test_four_strides_of_tensorflow() -> None:
    x, f = drawn((1, 4, 4, 1), (2, 2, 1, 1))
    assert conv2d(x, f, strides=[1, 2, 1, 1]).shape == (1, 2, 3, 1)
    assert conv2d(nchw(x), f, strides=[1, 1, 2, 1], data_format="NCHW").shape == (1, 1, 2, 3)
    assert max_pool2d(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME").shape == (1, 2, 2, 1)


# ---------------------------------------------------------------------------- errors


def image_of(*shape: Any) -> Tensor:
    return placeholder("float32", shape, name="x")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: conv2d(image_of(3, 3), np.ones((2, 2, 1, 1))), "takes images"),
        (lambda: conv2d(image_of(1, 3, 3, 2), np.ones((2, 2))), "takes images"),
        (lambda: conv2d(image_of(1, 3, 3, 2), np.ones((2, 2, 3, 1))), "the channels of x must be"),
        (
            lambda: conv2d(image_of(1, 3, 3, 4), np.ones((2, 2, 1, 4)), groups=2),
            "times groups=2",
        ),
        (
            lambda: conv2d(image_of(1, 3, 3, 4), np.ones((2, 2, 2, 3)), groups=2),
            "groups must divide the 3 output channels, groups=2",
        ),
        (lambda: conv2d(image_of(1, 3, 3, 1), np.ones((2, 2, 1, 1)), groups=0), "groups must be a"),
        (
            lambda: conv2d(image_of(1, 3, 3, 1), np.ones((4, 2, 1, 1))),
            "it reaches over 4 of 3 cells of height",
        ),
        (
            lambda: conv2d(image_of(1, 3, 3, 1), np.ones((1, 2, 1, 1)), dilations=3),
            "it reaches over 4 of 3 cells of width",
        ),
        (lambda: conv2d(image_of(1, 3, 3, 1), np.ones((2, 2, 1, 1)), strides=0), "strides must be"),
        (lambda: conv2d(image_of(1, 3, 3, 1), np.ones((2, 2, 1, 1)), strides=(1, 2, 3)), "strides"),
        (lambda: conv2d(image_of(1, 3, 3, 1), np.ones((2, 2, 1, 1)), padding="FULL"), "padding"),
        (lambda: conv2d(image_of(1, 3, 3, 1), np.ones((2, 2, 1, 1)), padding=-1), "padding must"),
        (
            lambda: conv2d(image_of(1, 3, 3, 1), np.ones((2, 2, 1, 1)), data_format="NWHC"),
            "data_format must be",
        ),
        (lambda: max_pool2d(image_of(3, 3), 2), "max_pool2d: takes images"),
        (lambda: max_pool2d(image_of(1, 3, 3, 1), 4), "the window must fit"),
        (lambda: max_pool2d(image_of(1, 3, 3, 1), 2, padding=2), "padding must be less than"),
        (lambda: avg_pool2d(image_of(1, 3, 3, 1), 0), "size must be one positive int"),
    ],
)
def test_errors(build: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message.replace("(", r"\(")) as caught:
        build()
    assert "test_convolution.py" in str(caught.value)


def test_booleans_are_refused() -> None:
    truths = as_tensor(np.ones((1, 3, 3, 1), bool))
    with pytest.raises(DTypeError, match="not booleans"):
        conv2d(truths, truths)
    with pytest.raises(DTypeError, match="not booleans"):
        max_pool2d(truths, 2)


def test_a_window_too_large_for_the_fed_image() -> None:
    x = placeholder("float32", [None, None, None, 1], name="x")
    y = conv2d(x, np.ones((4, 4, 1, 1), np.float32))
    with pytest.raises(ShapeError, match="it reaches over 4 of 3 cells of height"):
        run([y], {x: np.ones((1, 3, 5, 1), np.float32)})
