"""Windows that slide over the two middle axes of images: what convolution and pooling share.

Enters: strides, padding and sizes as users write them. Leaves: canonical attributes, the sizes of
outputs (symbolic ones too), and, for the oracles, padded arrays and the strided view of each tap.
Images are `[batch, height, width, channels]` inside; other layouts are transposed at the border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graphc.build import Check
from graphc.dims import Dim, Dimension, Shape, derived, exact_quotient, floordiv
from graphc.dtypes import Array
from graphc.graph import Tensor
from graphc.kernel import Index, Number, Source, cast, conjunction, is_within, lift, quotient, where
from graphc.ops.shape import transpose
from graphc.places import affine
from graphc.scalar import Scalar

Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = Any  # "SAME", or ((top, bottom), (left, right))

NONE = ((0, 0), (0, 0))
LAYOUTS = ("NHWC", "NCHW")
SPATIAL = {"NHWC": slice(1, 3), "NCHW": slice(2, 4)}


def _is_int(value: Any, least: int) -> bool:
    whole = hasattr(value, "__index__") and not isinstance(value, (bool, Tensor, Dim))
    return whole and int(value.__index__()) >= least


def pair_of(check: Check, what: str, value: Any, layout: str = "NHWC") -> Pair:
    """One positive int for both axes, or two; TensorFlow's four, with ones around them, too."""
    listed = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(listed) == 4:
        middle = SPATIAL[layout]
        outside = (*listed[: middle.start], *listed[middle.stop :])
        listed = listed[middle] if all(_is_int(v, 1) and v == 1 for v in outside) else ()
    if len(listed) != 2 or not all(_is_int(v, 1) for v in listed):
        check.fail(f"{what} must be one positive int or two (height, width), got {what}={value!r}")
    return int(listed[0]), int(listed[1])


def padding_of(check: Check, value: Any, layout: str = "NHWC") -> Padding:
    """`"SAME"`, or cells as ((top, bottom), (left, right)): of a word, an int, two, or pairs."""
    if isinstance(value, str):
        if value.upper() in ("SAME", "VALID"):
            return "SAME" if value.upper() == "SAME" else NONE
        check.fail(f'padding must be "VALID", "SAME" or numbers of cells, padding={value!r}')
    listed = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(listed) == 4:
        listed = listed[SPATIAL[layout]]
    pairs = tuple(tuple(v) if isinstance(v, (tuple, list)) else (v, v) for v in listed)
    if len(pairs) != 2 or not all(len(p) == 2 and all(_is_int(v, 0) for v in p) for p in pairs):
        check.fail(
            "padding must be one number of cells (0 or more), two, or two pairs "
            f"((top, bottom), (left, right)), padding={value!r}"
        )
    return tuple((int(a), int(b)) for a, b in pairs)


def layout_of(check: Check, value: Any) -> str:
    """The data format, checked."""
    if value not in LAYOUTS:
        check.fail(f'data_format must be "NHWC" or "NCHW", data_format={value!r}')
    return str(value)


def to_nhwc(x: Tensor, layout: str) -> Tensor:
    """Images in the layout that ops have inside."""
    return x if layout == "NHWC" else transpose(x, (0, 2, 3, 1))


def from_nhwc(y: Tensor, layout: str, name: str | None = None) -> Tensor:
    """Images in the layout that the user has."""
    return y if layout == "NHWC" else transpose(y, (0, 3, 1, 2), name=name)


def extent(kernel: Dimension, dilation: int) -> Dimension:
    """How far a window reaches."""
    return (kernel - 1) * dilation + 1


def same_cells(size: int, reach: int, stride: int) -> Pair:
    """TensorFlow's SAME: as many outputs as strides fit, the odd cell after the image."""
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def same_count(size: Dimension, stride: int) -> Dimension:
    """How many strides it takes to pass over an axis: the number of outputs of SAME."""
    exact = exact_quotient(size, stride)
    return floordiv(size + (stride - 1), stride) if exact is None else exact


def settled_padding(padding: Padding, sizes: Any, reaches: Any, strides: Pair) -> Padding:
    """SAME in cells, where these are known without a run (any size, at stride 1)."""
    if padding != "SAME":
        return padding
    cells = []
    for size, reach, stride in zip(sizes, reaches, strides, strict=True):
        if isinstance(reach, Dim) or (isinstance(size, Dim) and stride > 1) or size == 0:
            return padding
        cells.append(same_cells(1 if isinstance(size, Dim) else size, reach, stride))
    return tuple(cells)


def window_counts(
    check: Check, sizes: Any, kernel: Any, strides: Pair, padding: Padding, dilations: Pair = (1, 1)
) -> tuple[Dimension, Dimension]:
    """How many windows fit along height and width."""
    counts = []
    for axis, (size, taps) in enumerate(zip(sizes, kernel, strict=True)):
        stride, reach = strides[axis], extent(taps, dilations[axis])
        if padding == "SAME":
            counts.append(same_count(size, stride))
            continue
        room = size + sum(padding[axis])
        if isinstance(size, int) and isinstance(reach, int) and (size == 0 or room < reach):
            check.fail(_too_small(axis, room, reach))
        counts.append(floordiv(room - reach, stride) + 1)
    return counts[0], counts[1]


def _too_small(axis: int, room: Dimension, reach: Dimension) -> str:
    return (
        f"the window must fit into the padded image: it reaches over {reach} of "
        f"{room} cells of {('height', 'width')[axis]}"
    )


def resolve_cells(
    sizes: tuple[int, ...], kernel: Any, strides: Pair, padding: Padding, dilations: Pair = (1, 1)
) -> tuple[tuple[Pair, Pair], Pair]:
    """In a run: cells of padding, and the numbers of windows; ValueError where none fits."""
    cells, counts = [], []
    for axis, size in enumerate(sizes):
        reach = int(extent(kernel[axis], dilations[axis]))
        if padding == "SAME":
            cells.append(same_cells(size, reach, strides[axis]))
            counts.append(-(-size // strides[axis]))
            continue
        room = size + sum(padding[axis])
        if size == 0 or room < reach:
            raise ValueError(_too_small(axis, room, reach))
        cells.append(padding[axis])
        counts.append((room - reach) // strides[axis] + 1)
    return (cells[0], cells[1]), (counts[0], counts[1])


def padded(x: Array, cells: tuple[Pair, Pair], value: Any = 0) -> Array:
    """The images inside a border of `value`; the array itself where there is no border."""
    if cells == NONE:
        return x
    (top, bottom), (left, right) = cells
    batch, height, width, channels = x.shape
    shape = (batch, height + top + bottom, width + left + right, channels)
    result = np.full(shape, value, x.dtype)
    result[:, top : top + height, left : left + width] = x
    return result


def wide(dtype: Any) -> Any:
    """The NumPy dtype in which an oracle adds up: float32 for float16."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def require_windows(g: Array, counts: Pair) -> None:
    """In a run: the cotangent must have one cell a window, else a ValueError."""
    if g.shape[1:3] != counts:
        raise ValueError(f"g must have {list(counts)} windows, but has {list(g.shape[1:3])}")


def cropped(x: Array, cells: tuple[Pair, Pair], sizes: tuple[int, int]) -> Array:
    """The images without their border."""
    top, left = cells[0][0], cells[1][0]
    return x[:, top : top + sizes[0], left : left + sizes[1]]


def taps(
    x: Array, kernel: Any, strides: Pair, counts: Pair, dilations: Pair = (1, 1)
) -> Iterator[tuple[int, int, Array]]:
    """For each cell of the window, in order, what all windows see there: a view of `x`."""
    for row in range(kernel[0]):
        top = row * dilations[0]
        rows = slice(top, top + (counts[0] - 1) * strides[0] + 1 if counts[0] else top, strides[0])
        for column in range(kernel[1]):
            left = column * dilations[1]
            end = left + (counts[1] - 1) * strides[1] + 1 if counts[1] else left
            yield row, column, x[:, rows, left : end : strides[1]]


# ---------------------------------------------------------------------------- formulas


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows over the two middle axes of images, as formulas."""

    sizes: Shape
    kernel: Shape
    strides: Pair
    padding: Padding
    dilations: Pair = (1, 1)
    all_exist: bool = True  # no formula asks what a window sees that there is not

    @property
    def before(self) -> Shape:
        """Cells of padding above and to the left."""
        if self.padding != "SAME":
            return self.padding[0][0], self.padding[1][0]
        return tuple(map(_same_before, self.sizes, self.kernel, self.strides, self.dilations))

    def cells(self, window: Index, tap: Index) -> Index:
        """The cell of the image, or of its padding, that a window sees at a tap."""
        parts = zip(window, tap, self.strides, self.dilations, self.before, strict=True)
        return tuple(affine(affine(o, s) + affine(t, d), 1, -b) for o, t, s, d, b in parts)

    def seen(self, x: Source, window: Index, tap: Index, outside: Number) -> Scalar:
        """The cell of `x` at `window = (batch, row, column, channel)` and a tap."""
        place = (window[0], *self.cells(window[1:3], tap), window[3])
        if self.padding == NONE and self.all_exist:
            return x(*place)
        return x.within(place, outside)

    def is_real(self, window: Index, tap: Index) -> Scalar | None:
        """Whether what is seen is a cell of the image, not of its padding (None: always)."""
        return None if self.padding == NONE else is_within(self.cells(window, tap), self.sizes)

    def windows(self, cell: Index, tap: Index) -> tuple[Index, Scalar | None]:
        """The window that sees a cell at a tap, and on which condition one does.

        Whether there are so many windows is not in the condition.
        """
        parts = zip(cell, tap, self.strides, self.dilations, self.before, strict=True)
        found = [quotient(affine(c, 1, b) - affine(t, d), s) for c, t, s, d, b in parts]
        hits = [hit for _, hit in found if hit is not None]
        return tuple(window for window, _ in found), conjunction(hits)

    def given(self, g: Source, cell: Index, tap: Index, channel: Scalar) -> Scalar:
        """What the window that sees a cell at a tap holds in `g`: 0 where there is none."""
        window, hit = self.windows(cell[1:3], tap)
        return where(hit, g.within((cell[0], *window, channel), 0), cast(0, g.dtype))

    @property
    def overlap(self) -> Shape:
        """How many windows, at most, see one cell along each axis."""
        rows, columns = (-(-k // s) for k, s in zip(self.kernel, self.strides, strict=True))
        return rows, columns

    def covering(self, cell: Index, back: Index) -> tuple[Index, Index, Scalar | None]:
        """The last window but `back` that may see a cell, at which tap, and whether it reaches.

        For back from 0 to `overlap` these are all windows that do, by rising taps.
        """
        windows, found, reaches = [], [], []
        for axis, stride in enumerate(self.strides):
            place, size = affine(cell[axis], 1, self.before[axis]), self.kernel[axis]
            last, rest = (place // stride, place % stride) if stride > 1 else (place, lift(0))
            if self.overlap[axis] != 1:
                last, rest = last - back[axis], rest + affine(back[axis], stride)
            windows.append(last)
            found.append(rest)
            if size % stride:
                reaches.append(rest < lift(size))
        return tuple(windows), tuple(found), conjunction(reaches)

    def cover_all(self, counts: Shape) -> bool:
        """Whether each cell is known to lie between the strides of one of `counts` windows."""
        if self.padding != NONE or self.overlap != (1, 1):
            return False
        rests = [n - c * s for n, c, s in zip(self.sizes, counts, self.strides, strict=True)]
        return all(isinstance(rest, int) and rest <= 0 for rest in rests)


def _same_before(size: Dimension, taps: Dimension, stride: int, dilation: int) -> Dimension:
    """`same_cells`, for sizes that a run may decide."""
    counts = same_count(size, stride)
    return floordiv(derived("max", (counts - 1) * stride + extent(taps, dilation) - size, 0), 2)
