"""conv2d and its two gradients: three contractions, each the others' adjoints.

With T(x, f, g) = <g, conv2d(x, f)>, which is linear in each of its three arguments, conv2d is
dT/dg, `conv2d_input_gradient` is dT/dx and `conv2d_filter_gradient` is dT/df. So every derivative,
of any order, is one of the three again. Images are NHWC inside, filters HWIO. "Convolution" is
cross-correlation here, as in every network library (V. Dumoulin, F. Visin: "A guide to convolution
arithmetic for deep learning", 2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.build import Check, make
from graphc.dims import Dim, Shape
from graphc.dtypes import Array
from graphc.errors import DTypeError, trimmed
from graphc.graph import Op, Tensor
from graphc.ops.broadcast import same_dtype
from graphc.ops.composition import composition
from graphc.ops.contraction import promoted_tensors
from graphc.ops.domain import cases
from graphc.ops.elements import conv2d_element, filter_gradient_element, input_gradient_element
from graphc.ops.source import as_tensors
from graphc.ops.window import (
    NONE,
    Padding,
    Pair,
    cropped,
    extent,
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

# ---------------------------------------------------------------------------- type rules


def _check_ranks(check: Check, *shapes: Shape | None) -> None:
    if any(shape is not None and len(shape) != 4 for shape in shapes):
        check.fail("takes images [batch, height, width, channels] and filters [H, W, I, O]")


def _check_groups(check: Check, groups: int, outputs: Any) -> None:
    if not isinstance(groups, int) or isinstance(groups, bool) or groups < 1:
        check.fail(f"groups must be a positive int, got groups={groups!r}")
    if isinstance(outputs, int) and outputs % groups:
        check.fail(f"groups must divide the {outputs} output channels, groups={groups}")


def _conv2d_shape(
    check: Check, x: TensorType, filters: TensorType, strides: Pair, padding: Padding,
    dilations: Pair, groups: int, **_: Any,
) -> Shape:  # fmt: skip
    assert x.shape is not None and filters.shape is not None
    _check_ranks(check, x.shape, filters.shape)
    batch, *sizes, channels = x.shape
    *kernel, inner, outputs = filters.shape
    _check_groups(check, groups, outputs)
    rule = "the channels of x must be those of the filters [H, W, I, O]"
    check.equal(channels, inner * groups, rule + (f" times groups={groups}" if groups > 1 else ""))
    counts = window_counts(check, sizes, kernel, strides, padding, dilations)
    return (batch, *counts, outputs)


def _input_shape(
    check: Check, g: TensorType, filters: TensorType, size: Shape, strides: Pair,
    padding: Padding, dilations: Pair, groups: int,
) -> Shape:  # fmt: skip
    assert g.shape is not None and filters.shape is not None
    _check_ranks(check, g.shape, filters.shape)
    batch, *given, channels = g.shape
    *kernel, inner, outputs = filters.shape
    _check_groups(check, groups, outputs)
    check.equal(channels, outputs, "the channels of g must be the last of the filters [H, W, I, O]")
    counts = window_counts(check, size, kernel, strides, padding, dilations)
    for have, want in zip(given, counts, strict=True):
        check.equal(have, want, f"images of {list(size)} make g of {list(counts)}")
    return (batch, *size, inner * groups)


def _filter_shape(
    check: Check, x: TensorType, g: TensorType, size: Shape, strides: Pair, padding: Padding,
    dilations: Pair, groups: int,
) -> Shape:  # fmt: skip
    assert x.shape is not None and g.shape is not None
    _check_ranks(check, x.shape, g.shape)
    _check_groups(check, groups, g.shape[3])
    check.equal(x.shape[0], g.shape[0], "x and g must have one batch size")
    counts = window_counts(check, x.shape[1:3], size, strides, padding, dilations)
    for have, want in zip(g.shape[1:3], counts, strict=True):
        check.equal(have, want, f"filters of {list(size)} make g of {list(counts)}")
    return (*size, x.shape[3] // groups, g.shape[3])


# ---------------------------------------------------------------------------- oracles


def _wide(x: Array) -> Array:
    """float16 is computed in float32."""
    return x.astype(wide(x.dtype), copy=False)


def _rows(x: Array, kernel: Any, strides: Pair, dilations: Pair, groups: int) -> Array:
    """Every window of padded images as a row: [groups, batch * windows, H * W * channels]."""
    reach = tuple(int(extent(k, d)) for k, d in zip(kernel, dilations, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(1, 2))  # type: ignore[call-overload]
    windows = windows[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    batch, height, width, channels, *_ = windows.shape
    inner = channels // groups
    split = windows.reshape(batch, height, width, groups, inner, *kernel)
    return split.transpose(3, 0, 1, 2, 5, 6, 4).reshape(
        groups, batch * height * width, kernel[0] * kernel[1] * inner
    )


def _matrices(filters: Array, groups: int) -> Array:
    """Filters as one matrix a group: [groups, H * W * channels, outputs]."""
    height, width, inner, outputs = filters.shape
    split = filters.reshape(height * width * inner, groups, outputs // groups)
    return split.transpose(1, 0, 2)


def _columns(g: Array, groups: int) -> Array:
    """Images as one matrix a group: [groups, cells, channels]."""
    *cells, channels = g.shape
    return g.reshape(int(np.prod(cells)), groups, channels // groups).transpose(1, 0, 2)


def _conv2d_oracle(
    x: Array, filters: Array, strides: Pair, padding: Padding, dilations: Pair, groups: int
) -> Array:
    kernel = filters.shape[:2]
    cells, counts = resolve_cells(x.shape[1:3], kernel, strides, padding, dilations)
    shape = (x.shape[0], *counts, filters.shape[3])
    if 0 in shape:
        return np.zeros(shape, x.dtype)
    rows = _rows(padded(_wide(x), cells), kernel, strides, dilations, groups)
    product = rows @ _matrices(_wide(filters), groups)
    return product.transpose(1, 0, 2).reshape(shape).astype(x.dtype)


def _input_oracle(
    g: Array, filters: Array, size: Pair, strides: Pair, padding: Padding, dilations: Pair,
    groups: int,
) -> Array:  # fmt: skip
    *kernel, inner, _ = filters.shape
    cells, counts = resolve_cells(size, kernel, strides, padding, dilations)
    require_windows(g, counts)
    product = _columns(_wide(g), groups) @ _matrices(_wide(filters), groups).transpose(0, 2, 1)
    batch, channels = g.shape[0], inner * groups
    parts = product.reshape(groups, batch, *counts, *kernel, inner).transpose(1, 2, 3, 4, 5, 0, 6)
    (top, bottom), (left, right) = cells
    border = (batch, size[0] + top + bottom, size[1] + left + right, channels)
    total = np.zeros(border, product.dtype)
    for row, column, seen in taps(total, kernel, strides, counts, dilations):
        seen += parts[:, :, :, row, column].reshape(seen.shape)
    return cropped(total, cells, size).astype(g.dtype)


def _filter_oracle(
    x: Array, g: Array, size: Pair, strides: Pair, padding: Padding, dilations: Pair, groups: int
) -> Array:
    cells, counts = resolve_cells(x.shape[1:3], size, strides, padding, dilations)
    require_windows(g, counts)
    inner, outputs = x.shape[3] // groups, g.shape[3]
    if x.size == 0 or g.size == 0:
        return np.zeros((*size, inner, outputs), x.dtype)
    rows = _rows(padded(_wide(x), cells), size, strides, dilations, groups)
    product = rows.transpose(0, 2, 1) @ _columns(_wide(g), groups)
    return product.transpose(1, 0, 2).reshape(*size, inner, outputs).astype(x.dtype)


# ---------------------------------------------------------------------------- records


def _conv2d_vjp(g: Tensor, y: Tensor, x: Tensor, filters: Tensor, **attrs: Any) -> Any:
    assert x.shape is not None and filters.shape is not None
    return (
        make(CONV2D_INPUT_GRADIENT, (g, filters), {"size": x.shape[1:3], **attrs}),
        make(CONV2D_FILTER_GRADIENT, (x, g), {"size": filters.shape[:2], **attrs}),
    )


def _input_vjp(h: Tensor, y: Tensor, g: Tensor, filters: Tensor, size: Shape, **attrs: Any) -> Any:
    assert filters.shape is not None
    return (
        make(CONV2D, (h, filters), attrs),
        make(CONV2D_FILTER_GRADIENT, (h, g), {"size": filters.shape[:2], **attrs}),
    )


def _filter_vjp(h: Tensor, y: Tensor, x: Tensor, g: Tensor, size: Shape, **attrs: Any) -> Any:
    assert x.shape is not None
    return (
        make(CONV2D_INPUT_GRADIENT, (g, h), {"size": x.shape[1:3], **attrs}),
        make(CONV2D, (x, h), attrs),
    )


def _conv2d_build(
    x: Tensor, filters: Tensor, strides: Pair, padding: Padding, dilations: Pair, groups: int,
    data_format: str = "NHWC", name: str | None = None,
) -> Tensor:  # fmt: skip
    attrs = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
    if x.shape is None or filters.shape is None:
        return make(CONV2D, (x, filters), {**attrs, "data_format": data_format}, name)
    _check_ranks(Check(CONV2D, (x, filters), attrs), x.shape, filters.shape)
    images = to_nhwc(x, data_format)
    assert images.shape is not None
    reaches = [extent(k, d) for k, d in zip(filters.shape[:2], dilations, strict=True)]
    attrs["padding"] = settled_padding(padding, images.shape[1:3], reaches, strides)
    inner = name if data_format == "NHWC" else None
    return from_nhwc(make(CONV2D, (images, filters), attrs, inner), data_format, name)


def _attrs(
    strides: Any = (1, 1),
    padding: Any = NONE,
    dilations: Any = (1, 1),
    groups: int = 1,
    **rest: Any,
) -> dict[str, Any]:
    own = {"strides": strides, "padding": padding, "dilations": dilations, "groups": groups}
    return own | rest


CONV2D = Op(
    "conv2d", "contraction", ("x", "filters"), same_dtype, _conv2d_shape, _conv2d_oracle,
    element=conv2d_element,
    build=_conv2d_build,
    vjp=_conv2d_vjp,
    domain=cases(
        ((2, 4, 3, 2), (3, 2, 2, 3), _attrs()),
        ((1, 5, 4, 1), (2, 2, 1, 2), _attrs(strides=(2, 1), padding="SAME")),
        ((1, 4, 4, 2), (2, 2, 1, 4), _attrs(padding=((1, 0), (0, 2)), groups=2)),
        ((1, 5, 5, 2), (2, 3, 1, 2), _attrs(strides=(2, 1), dilations=(2, 2), groups=2)),
        ((1, 2, 4, 3), (2, 2, 2, 1), _attrs(data_format="NCHW")),
        ((0, 3, 3, 1), (2, 2, 1, 1), _attrs()), ((1, 1, 1, 1), (1, 1, 1, 1), _attrs()),
        kinds="iuf",
    ),
)  # fmt: skip
CONV2D_INPUT_GRADIENT = Op(
    "conv2d_input_gradient", "contraction", ("g", "filters"), same_dtype, _input_shape,
    _input_oracle,
    element=input_gradient_element,
    vjp=_input_vjp,
    domain=cases(
        ((2, 2, 2, 3), (3, 2, 2, 3), _attrs(size=(4, 3))),
        ((1, 3, 4, 2), (2, 2, 1, 2), _attrs(size=(5, 4), strides=(2, 1), padding="SAME")),
        ((1, 2, 1, 4), (2, 3, 1, 4), _attrs(size=(4, 5), dilations=(2, 2), groups=2)),
        ((0, 2, 2, 1), (2, 2, 1, 1), _attrs(size=(3, 3))),
    ),
)  # fmt: skip
CONV2D_FILTER_GRADIENT = Op(
    "conv2d_filter_gradient", "contraction", ("x", "g"), same_dtype, _filter_shape, _filter_oracle,
    element=filter_gradient_element,
    vjp=_filter_vjp,
    domain=cases(
        ((2, 4, 3, 2), (2, 2, 2, 3), _attrs(size=(3, 2))),
        ((1, 5, 4, 1), (1, 3, 4, 2), _attrs(size=(2, 2), strides=(2, 1), padding="SAME")),
        ((1, 4, 5, 2), (1, 2, 1, 4), _attrs(size=(2, 3), dilations=(2, 2), groups=2)),
        ((0, 3, 3, 1), (0, 2, 2, 1), _attrs(size=(2, 2))),
    ),
)  # fmt: skip


# ---------------------------------------------------------------------------- builders


def _operands(x: Any, filters: Any, op: Op) -> list[Tensor]:
    tensors = as_tensors((x, filters))
    if tensors[0].dtype is not tensors[1].dtype:
        tensors = promoted_tensors((tensors[0], tensors[1]))
    if tensors[0].dtype.kind == "b":
        Check(op, tensors, {}).fail("takes numbers, not booleans", DTypeError)
    return tensors


@trimmed
def conv2d(
    x: Any, filters: Any, strides: Any = 1, padding: Any = "VALID", dilations: Any = 1,
    data_format: str = "NHWC", groups: int = 1, *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """Each filter's product with every window of the images (cross-correlation).

    Shapes: `x` is `[batch, height, width, channels]` ("NHWC") or `[batch, channels, height, width]`
    ("NCHW"), `filters` are `[H, W, channels / groups, outputs]` in both. The result has `x`'s
    layout, `outputs` channels, and `(size + padding - reach) // stride + 1` cells along each axis,
    where a filter reaches over `(H - 1) * dilation + 1` cells.

    `padding` is "VALID" (none), "SAME" (TensorFlow's: `ceil(size / stride)` cells), one number of
    cells, two (height, width), or `((top, bottom), (left, right))`. `strides` and `dilations` are
    one int or two. `groups` splits the channels; as many groups as channels is a depthwise
    convolution. ShapeError: ranks other than 4, channels or groups that do not fit, filters that
    reach over more than the padded image.

    >>> conv2d(np.ones((1, 3, 3, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)).eval()[0, 0, 0]
    array([4.], dtype=float32)
    """
    tensors = _operands(x, filters, CONV2D)
    check = Check(CONV2D, tensors, {})
    layout = layout_of(check, data_format)
    _check_groups(check, groups, None)
    return _conv2d_build(
        tensors[0],
        tensors[1],
        strides=pair_of(check, "strides", strides, layout),
        padding=padding_of(check, padding, layout),
        dilations=pair_of(check, "dilations", dilations, layout),
        groups=groups,
        data_format=layout,
        name=name,
    )


@composition("x", "filters", dtype=same_dtype)
def conv2d_transpose(
    x: Any, filters: Any, strides: Any = 1, padding: Any = "VALID", output_size: Any = None,
    dilations: Any = 1, data_format: str = "NHWC", groups: int = 1, *, name: str | None = None,
) -> Tensor:  # fmt: skip
    """The adjoint of `conv2d` in its images: what would give `x` its gradient, as a layer.

    Shapes: `x` `[batch, height, width, inputs]` and filters `[H, W, outputs / groups, inputs]` (the
    order of TensorFlow) give `[batch, height', width', outputs]`. `output_size`, two sizes, says
    which of the images that `conv2d` would shrink to `x` is meant; left out, it is
    `size * stride` for "SAME" and the smallest one, `(size - 1) * stride + reach - padding`, else.

    >>> x, filters = np.ones((1, 2, 2, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)
    >>> conv2d_transpose(x, filters, strides=2).type
    TensorType(dtype=graphc.float32, shape=(1, 4, 4, 1))
    """
    g, f = _operands(x, filters, CONV2D_INPUT_GRADIENT)
    check = Check(CONV2D_INPUT_GRADIENT, (g, f), {})
    layout = layout_of(check, data_format)
    _check_ranks(check, g.shape, f.shape)
    g = to_nhwc(g, layout)
    assert g.shape is not None and f.shape is not None
    steps, holes = (
        pair_of(check, what, value, layout)
        for what, value in (("strides", strides), ("dilations", dilations))
    )
    cells = padding_of(check, padding, layout)
    reaches = [extent(k, d) for k, d in zip(f.shape[:2], holes, strict=True)]
    size = _transposed_size(check, g.shape[1:3], reaches, steps, cells, output_size)
    attrs = {
        "size": size,
        **_attrs(steps, settled_padding(cells, size, reaches, steps), holes, groups),
    }
    inner = name if layout == "NHWC" else None
    return from_nhwc(make(CONV2D_INPUT_GRADIENT, (g, f), attrs, inner), layout, name)


def _transposed_size(
    check: Check, sizes: Any, reaches: Any, strides: Pair, padding: Padding, given: Any
) -> Shape:
    if given is not None:
        listed = tuple(given) if isinstance(given, (tuple, list)) else (given, given)
        if len(listed) != 2 or not all(isinstance(d, (int, Dim)) for d in listed):
            check.fail(f"output_size must be two sizes (height, width), got {given!r}")
        return listed
    if padding == "SAME":
        return tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    return tuple(
        (size - 1) * stride + reach - sum(cells)
        for size, stride, reach, cells in zip(sizes, strides, reaches, padding, strict=True)
    )
