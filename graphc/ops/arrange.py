"""Elements repeated, reordered and surrounded: tile, repeat, flip, roll, pad. All are views.

Each is a composition of slices, reshapes, broadcasts and joins, so each has their gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dims import Dimension, Shape, derived
from graphc.errors import ShapeError, trimmed
from graphc.graph import Tensor
from graphc.ops.broadcast import broadcast_to, same_dtype
from graphc.ops.composition import composition
from graphc.ops.follow import as_dimension, as_shape, located
from graphc.ops.joining import concatenate_build
from graphc.ops.shape import check_of, ravel
from graphc.ops.slicing import along, slice_build, unslice_build
from graphc.ops.source import as_tensor, literal

# ---------------------------------------------------------------------------- tile, repeat


@composition("x", dtype=same_dtype)
def _tile(x: Any, reps: Shape, *, name: str | None = None) -> Tensor:
    rank = max(len(x.shape), len(reps))
    sizes = (1,) * (rank - len(x.shape)) + x.shape
    counts = (1,) * (rank - len(reps)) + reps
    pairs = [(count, size) for count, size in zip(counts, sizes, strict=True)]
    apart = x.reshape(tuple(d for _, size in pairs for d in (1, size)))
    spread = broadcast_to(apart, tuple(d for pair in pairs for d in pair))
    return spread.reshape(tuple(count * size for count, size in pairs))


@trimmed
@located
def tile(x: Any, reps: Any, *, name: str | None = None) -> Tensor:
    """`x` laid side by side `reps` times an axis; NumPy's rule for missing axes.

    >>> tile([1, 2], 2).eval()
    array([1, 2, 1, 2])
    """
    counts = as_shape(reps)
    if any(isinstance(c, int) and c < 0 for c in counts):
        raise ShapeError(f"tile: reps must not be negative, got {list(counts)}")
    tensor: Tensor = _tile(x, counts, name=name)
    return tensor


@composition("x", dtype=same_dtype)
def _repeat(x: Any, repeats: Any, axis: int | None, *, name: str | None = None) -> Any:
    if axis is None:
        x, axis = ravel(x), 0
    check = check_of(_repeat, x)
    axis = check.axis(axis, len(x.shape))
    before, size, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    if isinstance(repeats, tuple):
        if (fits := check.ask(size, len(repeats))) is None:
            return None
        if not fits:
            check.fail(f"repeats must be one count, or one for each of {size}, repeats={repeats}")
        rows = literal(np.repeat(np.arange(len(repeats)), repeats))
        taken: Tensor = x[(*(slice(None),) * axis, rows)]
        return taken
    apart: Tensor = x.reshape((*before, size, 1, *after))
    spread = broadcast_to(apart, (*before, size, repeats, *after))
    return spread.reshape((*before, size * repeats, *after))


@trimmed
@located
def repeat(x: Any, repeats: Any, axis: int | None = None, *, name: str | None = None) -> Tensor:
    """Each element (or slice along `axis`) `repeats` times: one count, or one for each.

    >>> repeat([1, 2], 2).eval()
    array([1, 1, 2, 2])
    """
    if isinstance(repeats, (list, tuple, np.ndarray)) and np.ndim(repeats) == 1:
        counts: Any = tuple(int(r) for r in repeats)
    else:
        counts = as_dimension(repeats, "repeats")
    listed = counts if isinstance(counts, tuple) else (counts,)
    if any(isinstance(c, int) and c < 0 for c in listed):
        raise ShapeError(f"repeat: repeats must not be negative, got {repeats}")
    tensor: Tensor = _repeat(x, counts, axis, name=name)
    return tensor


# ---------------------------------------------------------------------------- flip, roll


@composition("x", dtype=same_dtype)
def flip(x: Any, axis: Any = None, *, name: str | None = None) -> Tensor:
    """`x` with the order of elements reversed along `axis` (one, several, or None for all).

    >>> flip([1, 2, 3]).eval()
    array([3, 2, 1])
    """
    axes = check_of(flip, x).axes(axis, len(x.shape))
    starts = tuple(d - 1 if i in axes else 0 for i, d in enumerate(x.shape))
    steps = tuple(-1 if i in axes else 1 for i in range(len(x.shape)))
    return slice_build(x, starts, x.shape, steps, name)


@composition("x", dtype=same_dtype)
def _roll(x: Any, shift: Any, axis: Any, *, name: str | None = None) -> Tensor:
    if axis is None:
        flat = ravel(x)
        for by in shift if isinstance(shift, tuple) else (shift,):
            flat = _rolled(flat, by, 0)
        return flat.reshape(x.shape)
    check = check_of(_roll, x)
    axes = axis if isinstance(axis, tuple) else (axis,)
    shifts = shift if isinstance(shift, tuple) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        check.fail(f"shift and axis must be equally many, shift={shift} axis={axis}")
    for by, one in zip(shifts, axes, strict=True):
        x = _rolled(x, by, check.axis(one, len(x.shape)))
    return x  # type: ignore[no-any-return]  # a tensor


def _rolled(x: Tensor, shift: Dimension, axis: int) -> Tensor:
    assert x.shape is not None
    size = x.shape[axis]
    moved = derived("mod", shift, size)
    if isinstance(moved, int) and moved == 0:
        return x
    kept = size - moved
    return concatenate_build(along(x, axis, kept, moved), along(x, axis, 0, kept), axis=axis)


@trimmed
@located
def roll(x: Any, shift: Any, axis: Any = None, *, name: str | None = None) -> Tensor:
    """`x` with elements moved on by `shift` along `axis`, from the end to the front again.

    `axis` None rolls the flattened elements. `shift` may be an integer scalar tensor.

    >>> roll([1, 2, 3], 1).eval()
    array([3, 1, 2])
    """
    if isinstance(shift, (list, tuple)):
        shifts: Any = tuple(as_dimension(s, "shift") for s in shift)
    else:
        shifts = as_dimension(shift, "shift")
    tensor: Tensor = _roll(x, shifts, axis, name=name)
    return tensor


# ---------------------------------------------------------------------------- pad


def _edge(x: Tensor, axis: int, low: Dimension, high: Dimension) -> tuple[Tensor, Tensor]:
    assert x.shape is not None
    size, before, after = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    return (
        broadcast_to(along(x, axis, 0, 1), (*before, low, *after)),
        broadcast_to(along(x, axis, size - 1, 1), (*before, high, *after)),
    )


def _reflect(x: Tensor, axis: int, low: Dimension, high: Dimension) -> tuple[Tensor, Tensor]:
    assert x.shape is not None
    return along(x, axis, low, low, -1), along(x, axis, x.shape[axis] - 2, high, -1)


def _symmetric(x: Tensor, axis: int, low: Dimension, high: Dimension) -> tuple[Tensor, Tensor]:
    assert x.shape is not None
    return along(x, axis, low - 1, low, -1), along(x, axis, x.shape[axis] - 1, high, -1)


def _wrap(x: Tensor, axis: int, low: Dimension, high: Dimension) -> tuple[Tensor, Tensor]:
    assert x.shape is not None
    return along(x, axis, x.shape[axis] - low, low), along(x, axis, 0, high)


MODES = {"edge": _edge, "reflect": _reflect, "symmetric": _symmetric, "wrap": _wrap}


@composition("x", dtype=same_dtype)
def _pad(x: Any, widths: Any, mode: str, value: Any, *, name: str | None = None) -> Tensor:
    rank = len(x.shape)
    if len(widths) == 1:
        widths = widths * rank
    if len(widths) != rank:
        check_of(_pad, x).fail(f"pad_width must have a pair for each axis, pad_width={widths}")
    if mode == "constant":
        starts = tuple(low for low, _ in widths)
        shape = tuple(low + d + high for d, (low, high) in zip(x.shape, widths, strict=True))
        return unslice_build(x, starts, (1,) * rank, shape, value, name)
    for axis, (low, high) in enumerate(widths):
        parts = MODES[mode](x, axis, low, high)
        listed = (parts[0], x, parts[1])
        kept = [t for t, width in zip(listed, (low, 1, high), strict=True) if width != 0]
        x = concatenate_build(*kept, axis=axis)
    return x  # type: ignore[no-any-return]  # a tensor


def _widths(pad_width: Any) -> tuple[tuple[Dimension, Dimension], ...]:
    """NumPy's forms: one int, one pair, or a pair an axis."""
    if isinstance(pad_width, np.ndarray):
        pad_width = pad_width.tolist()
    if not isinstance(pad_width, (list, tuple)):
        pad_width = (pad_width,)
    rows = list(pad_width)
    if not any(isinstance(row, (list, tuple)) for row in rows):
        rows = [rows * 2 if len(rows) == 1 else rows]
    pairs = [as_shape(row) * 2 if len(row) == 1 else as_shape(row) for row in rows]
    if any(len(pair) != 2 for pair in pairs):
        raise ShapeError(
            f"pad: pad_width must be an int, a pair, or a pair an axis, got {pad_width}"
        )
    if any(isinstance(width, int) and width < 0 for pair in pairs for width in pair):
        raise ShapeError(f"pad: widths must not be negative, got {pad_width}")
    return tuple((pair[0], pair[1]) for pair in pairs)


@trimmed
@located
def pad(
    x: Any,
    pad_width: Any,
    mode: str = "constant",
    constant_values: Any = 0,
    *,
    name: str | None = None,
) -> Tensor:
    """`x` with elements put before and after it: `pad_width` is an int, a pair, or a pair an axis.

    Modes: "constant" (`constant_values`, one number), "edge", and "reflect", "symmetric" and "wrap"
    (once around: widths are at most the size).

    >>> pad([1, 2], (1, 0)).eval()
    array([0, 1, 2])
    """
    if mode != "constant" and mode not in MODES:
        raise ShapeError(f"pad: mode must be constant, {', '.join(MODES)}, got {mode!r}")
    tensor = as_tensor(x)
    value = np.asarray(constant_values).astype(tensor.dtype.numpy).item()
    padded: Tensor = _pad(tensor, _widths(pad_width), mode, value, name=name)
    return padded
