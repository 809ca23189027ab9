"""Pooling: the largest, or the mean, of every window of images.

The gradient of a maximum goes to the first of the largest cells of its window, in reading order;
`max_pool2d_gradient` (scatter to those cells) and `max_pool2d_select` (gather from them) are each
other's adjoints. A mean counts only cells of the image, never its padding (as TensorFlow has it).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Shape
from graphc.dtypes import Array, DType, int32
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import as_floats, same_dtype
from graphc.ops.domain import Draw, cases
from graphc.ops.pooled import (
    lowest,
    max_element,
    max_gradient_element,
    mean_element,
    mean_gradient_element,
    place_element,
    select_element,
    spread_element,
)
from graphc.ops.source import as_tensor
from graphc.ops.window import (
    NONE,
    Padding,
    Pair,
    cropped,
    from_nhwc,
    layout_of,
    padded,
    padding_of,
    pair_of,
    require_windows,
    resolve_cells,
    settled_padding,
    taps,
    to_nhwc,
    wide,
    window_counts,
)
from graphc.types import TensorType


def _pooled_shape(
    check: Check, x: TensorType, size: Pair, strides: Pair, padding: Padding, **_: Any
) -> Shape:
    assert x.shape is not None
    if len(x.shape) != 4:
        check.fail("takes images [batch, height, width, channels]")
    if padding != "SAME" and any(max(c) >= k for c, k in zip(padding, size, strict=True)):
        check.fail(f"padding must be less than the window, size={size}, padding={padding}")
    counts = window_counts(check, x.shape[1:3], size, strides, padding)
    return (x.shape[0], *counts, x.shape[3])


def _cells(x: Array, size: Pair, strides: Pair, padding: Padding) -> Any:
    return resolve_cells(x.shape[1:3], size, strides, padding)


# ---------------------------------------------------------------------------- max


def _max_oracle(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    cells, counts = _cells(x, size, strides, padding)
    image = padded(x, cells, lowest(x.dtype))
    result = None
    for _, _, seen in taps(image, size, strides, counts):
        result = seen.copy() if result is None else np.maximum(result, seen, out=result)
    assert result is not None
    return result


def _winners(x: Array, size: Pair, strides: Pair, cells: Any, counts: Pair) -> Array:
    """For each window, which of its cells is the first largest (the first NaN, if there is one)."""
    inside = padded(np.ones((1, *x.shape[1:3], 1), bool), cells, False)
    image = padded(x, cells, lowest(x.dtype))
    best, which = None, np.full((x.shape[0], *counts, x.shape[3]), -1, np.int32)
    both = zip(taps(image, size, strides, counts), taps(inside, size, strides, counts), strict=True)
    for (row, column, seen), (_, _, real) in both:
        better = np.broadcast_to(real, seen.shape)
        if best is None:
            best = seen.copy()
        else:
            larger = (seen > best) | ((seen != seen) & (best == best))
            better = better & (larger | (which < 0))
            np.copyto(best, seen, where=better)
        which[better] = row * size[1] + column
    return which


def _place_oracle(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    return _winners(x, size, strides, *_cells(x, size, strides, padding))


def _spread_oracle(
    g: Array, place: Array, image: Pair, size: Pair, strides: Pair, padding: Padding
) -> Array:
    cells, counts = resolve_cells(image, size, strides, padding)
    require_windows(g, counts)
    return _spread(g, place, image, size, strides, cells, counts)


def _spread(
    g: Array, which: Array, image: Any, size: Pair, strides: Pair, cells: Any, counts: Pair
) -> Array:
    """Each window's cotangent, added to the cell that it takes its value from."""
    total = padded(np.zeros((g.shape[0], *image, g.shape[3]), wide(g.dtype)), cells)
    for row, column, seen in taps(total, size, strides, counts):
        seen += np.where(which == row * size[1] + column, g, g.dtype.type(0))
    return cropped(total, cells, image).astype(g.dtype)


def _max_gradient_oracle(g: Array, x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    cells, counts = _cells(x, size, strides, padding)
    which = _winners(x, size, strides, cells, counts)
    return _spread(g, which, x.shape[1:3], size, strides, cells, counts)


def _select_oracle(h: Array, x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    cells, counts = _cells(x, size, strides, padding)
    which = _winners(x, size, strides, cells, counts)
    result = np.zeros(which.shape, h.dtype)
    for row, column, seen in taps(padded(h, cells), size, strides, counts):
        np.copyto(result, seen, where=which == row * size[1] + column)
    return result


def _gradient_shape(check: Check, g: TensorType, x: TensorType, **attrs: Any) -> Shape:
    assert g.shape is not None and x.shape is not None
    for have, want in zip(g.shape, _pooled_shape(check, x, **attrs), strict=True):
        check.equal(have, want, "g must have the shape of the pooled images")
    return x.shape


def _select_shape(check: Check, h: TensorType, x: TensorType, **attrs: Any) -> Shape:
    assert h.shape is not None and x.shape is not None
    for have, want in zip(h.shape, x.shape, strict=True):
        check.equal(have, want, "h and x must have one shape")
    return _pooled_shape(check, x, **attrs)


def _builder(of: Callable[[], Op]) -> Callable[..., Tensor]:
    """The canonicaliser of one kind of pooling."""

    def build(
        x: Tensor, size: Pair, strides: Pair, padding: Padding, data_format: str = "NHWC",
        name: str | None = None,
    ) -> Tensor:  # fmt: skip
        op, attrs = of(), {"size": size, "strides": strides, "padding": padding}
        if x.shape is None:
            return make(op, (x,), {**attrs, "data_format": data_format}, name)
        if len(x.shape) != 4:
            Check(op, (x,), attrs).fail("takes images [batch, height, width, channels]")
        images = to_nhwc(x, data_format)
        assert images.shape is not None
        attrs["padding"] = settled_padding(padding, images.shape[1:3], size, strides)
        inner = name if data_format == "NHWC" else None
        return from_nhwc(make(op, (images,), attrs, inner), data_format, name)

    return build


def _attrs(size: Pair, strides: Pair, padding: Padding = NONE, **more: Any) -> dict[str, Any]:
    return {"size": size, "strides": strides, "padding": padding, **more}


def _apart(*shape: int) -> Draw:
    return Draw(shape, distinct=True)


MAX_POOL2D: Op = Op(
    "max_pool2d", "reduction", ("x",), same_dtype, _pooled_shape, _max_oracle,
    element=max_element,
    build=_builder(lambda: MAX_POOL2D),
    vjp=lambda g, y, x, **attrs: make(MAX_POOL2D_GRADIENT, (g, x), attrs),
    domain=cases(
        (_apart(2, 4, 4, 3), _attrs((2, 2), (2, 2))),
        (_apart(1, 5, 4, 2), _attrs((3, 2), (2, 1), "SAME")),
        (_apart(1, 3, 4, 1), _attrs((2, 3), (1, 2), ((1, 0), (2, 1)))),
        (_apart(1, 2, 4, 3), _attrs((2, 2), (1, 1), data_format="NCHW")),
        (_apart(0, 2, 2, 1), _attrs((2, 2), (2, 2))), (_apart(1, 1, 1, 1), _attrs((1, 1), (1, 1))),
        kinds="iuf",
    ),
)  # fmt: skip
MAX_POOL2D_GRADIENT: Op = Op(
    "max_pool2d_gradient", "opaque", ("g", "x"), same_dtype, _gradient_shape, _max_gradient_oracle,
    element=max_gradient_element,
    vjp=lambda h, y, g, x, **attrs: (make(MAX_POOL2D_SELECT, (h, x), attrs), None),
    domain=cases(
        ((2, 2, 2, 3), _apart(2, 4, 4, 3), _attrs((2, 2), (2, 2))),
        ((1, 3, 4, 2), _apart(1, 5, 4, 2), _attrs((3, 2), (2, 1), "SAME")),
    ),
)  # fmt: skip
MAX_POOL2D_SELECT: Op = Op(
    "max_pool2d_select", "opaque", ("h", "x"), same_dtype, _select_shape, _select_oracle,
    element=select_element,
    vjp=lambda g, y, h, x, **attrs: (make(MAX_POOL2D_GRADIENT, (g, x), attrs), None),
    domain=cases(
        ((2, 4, 4, 3), _apart(2, 4, 4, 3), _attrs((2, 2), (2, 2))),
        ((1, 5, 4, 2), _apart(1, 5, 4, 2), _attrs((3, 2), (2, 1), "SAME")),
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- max, in two steps


def _place_dtype(check: Check, x: TensorType, **_: Any) -> DType:
    return int32


def _spread_shape(
    check: Check, g: TensorType, place: TensorType, image: Shape, **attrs: Any
) -> Shape:
    assert g.shape is not None and place.shape is not None
    for have, want in zip(place.shape, g.shape, strict=True):
        check.equal(have, want, "g and the places must have one shape")
    return _mean_gradient_shape(check, g, image, **attrs)


MAX_POOL2D_PLACE: Op = Op(
    "max_pool2d_place", "opaque", ("x",), _place_dtype, _pooled_shape, _place_oracle,
    element=place_element,
    cuts="the place in a window of its maximum is a whole number",
    domain=cases(
        (_apart(2, 4, 4, 3), _attrs((2, 2), (2, 2))),
        (_apart(1, 5, 4, 2), _attrs((3, 2), (2, 1), "SAME")),
        (_apart(0, 2, 2, 1), _attrs((2, 2), (2, 2))),
        kinds="iuf",
    ),
)  # fmt: skip
MAX_POOL2D_SPREAD: Op = Op(
    "max_pool2d_spread", "opaque", ("g", "place"),
    lambda check, g, place, **_: g.dtype,
    _spread_shape, _spread_oracle,
    element=spread_element,
    cuts="devices make it when all gradients have been taken",
    domain=cases(
        ((2, 2, 2, 3), Draw((2, 2, 2, 3), 0, 3, kind="int"),
         _attrs((2, 2), (2, 2), image=(4, 4))),
        ((1, 3, 4, 2), Draw((1, 3, 4, 2), 2, 3, kind="int"),
         _attrs((3, 2), (2, 1), "SAME", image=(5, 4))),
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- mean


def _shares(sizes: Any, size: Pair, strides: Pair, cells: Any, counts: Pair) -> Array:
    """For each window, one divided by its number of cells inside the image: [1, H, W, 1]."""
    inside = padded(np.ones((1, *sizes, 1), np.float64), cells)
    total = np.zeros((1, *counts, 1))
    for _, _, seen in taps(inside, size, strides, counts):
        total += seen
    share: Array = 1.0 / total
    return share


def _mean_oracle(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    cells, counts = _cells(x, size, strides, padding)
    total = np.zeros((x.shape[0], *counts, x.shape[3]), wide(x.dtype))
    for _, _, seen in taps(padded(x, cells), size, strides, counts):
        total += seen
    total *= _shares(x.shape[1:3], size, strides, cells, counts).astype(total.dtype)
    return total.astype(x.dtype)


def _mean_gradient_oracle(
    g: Array, image: Pair, size: Pair, strides: Pair, padding: Padding
) -> Array:
    cells, counts = resolve_cells(image, size, strides, padding)
    require_windows(g, counts)
    dtype = wide(g.dtype)
    part = g * _shares(image, size, strides, cells, counts).astype(dtype)
    total = padded(np.zeros((g.shape[0], *image, g.shape[3]), dtype), cells)
    for _, _, seen in taps(total, size, strides, counts):
        seen += part
    return cropped(total, cells, image).astype(g.dtype)


def _mean_gradient_shape(check: Check, g: TensorType, image: Shape, **attrs: Any) -> Shape:
    assert g.shape is not None
    if len(g.shape) != 4:
        check.fail("takes images [batch, height, width, channels]")
    shape = (g.shape[0], *image, g.shape[3])
    pooled = _pooled_shape(check, TensorType(g.dtype, shape), **attrs)
    for have, want in zip(g.shape, pooled, strict=True):
        check.equal(have, want, "g must have the shape of the pooled images")
    return shape


def _mean_vjp(g: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> Tensor:
    assert x.shape is not None
    return make(AVG_POOL2D_GRADIENT, (g,), {"image": x.shape[1:3], **attrs})


AVG_POOL2D: Op = Op(
    "avg_pool2d", "reduction", ("x",), same_dtype, _pooled_shape, _mean_oracle,
    element=mean_element,
    build=_builder(lambda: AVG_POOL2D),
    vjp=_mean_vjp,
    domain=cases(
        ((2, 4, 4, 3), _attrs((2, 2), (2, 2))), ((1, 5, 4, 2), _attrs((3, 2), (2, 1), "SAME")),
        ((1, 3, 4, 1), _attrs((2, 3), (1, 2), ((1, 0), (2, 1)))),
        ((1, 2, 4, 3), _attrs((2, 2), (1, 1), data_format="NCHW")),
        ((0, 2, 2, 1), _attrs((2, 2), (2, 2))),
    ),
)  # fmt: skip
AVG_POOL2D_GRADIENT: Op = Op(
    "avg_pool2d_gradient", "opaque", ("g",), same_dtype, _mean_gradient_shape,
    _mean_gradient_oracle,
    element=mean_gradient_element,
    vjp=lambda h, y, g, image, **attrs: make(AVG_POOL2D, (h,), attrs),
    domain=cases(
        ((2, 2, 2, 3), _attrs((2, 2), (2, 2), image=(4, 4))),
        ((1, 3, 4, 2), _attrs((3, 2), (2, 1), "SAME", image=(5, 4))),
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- builders


def _pool(
    op: Op, x: Tensor, size: Any, strides: Any, padding: Any, layout: str, name: str | None
) -> Tensor:
    check = Check(op, (x,), {})
    layout = layout_of(check, layout)
    window = pair_of(check, "size", size, layout)
    assert op.build is not None
    tensor: Tensor = op.build(
        x,
        size=window,
        strides=window if strides is None else pair_of(check, "strides", strides, layout),
        padding=padding_of(check, padding, layout),
        data_format=layout,
        name=name,
    )
    return tensor


@trimmed
def max_pool2d(
    x: Any, size: Any, strides: Any = None, padding: Any = "VALID", data_format: str = "NHWC",
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The largest value of every window of `size` (one int, or height and width).

    Shapes: `[batch, height, width, channels]` ("NHWC") or `[batch, channels, height, width]`
    ("NCHW"), as `conv2d` has them; `strides` None is `size`. Padding (as in `conv2d`) never wins.
    The gradient goes to the first largest cell of a window. ShapeError: a rank other than 4, a
    window larger than the padded image, as much padding as window.

    >>> max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2).eval()[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    images = as_tensor(x)
    if images.dtype.kind == "b":
        Check(MAX_POOL2D, (images,), {}).fail("takes numbers, not booleans", DTypeError)
    return _pool(MAX_POOL2D, images, size, strides, padding, data_format, name)


@trimmed
def avg_pool2d(
    x: Any, size: Any, strides: Any = None, padding: Any = "VALID", data_format: str = "NHWC",
    *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The mean of every window, over those of its cells that lie in the image, not in its padding.

    Arguments, shapes and errors are those of `max_pool2d`; integers give floats, as in `mean`.

    >>> avg_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2).eval()[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    return _pool(AVG_POOL2D, as_floats(x), size, strides, padding, data_format, name)
