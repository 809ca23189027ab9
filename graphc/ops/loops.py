"""Loops in order: running sums, writes at indices that are data, binary search.

Enters: the operands of an op, and its result, as sources. Leaves: the `Loop` that fills the result:
`Op.loop`. Of several updates of one element each sees what those before it have left.
"""

from __future__ import annotations

from typing import Any

from graphc.dims import Dim
from graphc.kernel import Axis, Index, Loop, Source, axes_over, cast, lift
from graphc.places import counted
from graphc.scalar import Scalar, apply, select

PRIMITIVE = {"add": "add", "multiply": "multiply", "min": "minimum", "max": "maximum"}


def _updated(y: Source, index: Index, update: Scalar, mode: str) -> Scalar:
    """What an element holds after an update."""
    return update if mode == "set" else apply(PRIMITIVE[mode], y(*index), update)


def scatter_loop(
    y: Source,
    x: Source,
    updates: Source,
    *indices: Source,
    axes: tuple[int, ...],
    position: int,
    mode: str,
) -> Loop:
    """A copy of `x`, then the updates, in the order of the indices, at what these say."""
    loops, at = axes_over(updates.shape)
    end = position + len(indices[0].shape)
    places = {
        axis: counted(source(*at[position:end]), source.dtype, y.shape[axis])
        for source, axis in zip(indices, axes, strict=True)
    }
    rest = iter((*at[:position], *at[end:]))
    index = tuple([places[a] if a in places else next(rest) for a in range(len(y.shape))])
    value = _updated(y, index, updates(*at), mode)
    return Loop(
        (*loops[:position], *loops[end:]), loops[position:end], index, value, lambda i: x(*i)
    )


def add_along_axis_loop(y: Source, x: Source, updates: Source, indices: Source, axis: int) -> Loop:
    """A copy of `x`, then the updates in their order along the axis."""
    loops, at = axes_over(indices.shape)
    place = counted(indices(*at), indices.dtype, y.shape[axis])
    index = (*at[:axis], place, *at[axis + 1 :])
    value = _updated(y, index, updates(*at), "add")
    return Loop((*loops[:axis], *loops[axis + 1 :]), (loops[axis],), index, value, lambda i: x(*i))


class _Line:
    """Walking along one axis of a result."""

    def __init__(self, y: Source, axis: int, reverse: bool) -> None:
        self.y = y
        loops, at = axes_over(y.shape)
        self.axes, self.order = (*loops[:axis], *loops[axis + 1 :]), (loops[axis],)
        here = lift(y.shape[axis]) - 1 - at[axis] if reverse else at[axis]
        before = here + 1 if reverse else here - 1
        self.here = (*at[:axis], here, *at[axis + 1 :])
        self.before = (*at[:axis], before, *at[axis + 1 :])

    def loop(self, value: Any) -> Loop:
        """The loop that writes a value at each step."""
        return Loop(self.axes, self.order, self.here, value)


def cumsum_loop(y: Source, x: Source, axis: int, reverse: bool = False) -> Loop:
    """`y[k] = y[k - 1] + x[k]`; before the first is -0.0, which changes no number."""
    line = _Line(y, axis, reverse)
    nothing = -0.0 if y.dtype.is_float else 0
    return line.loop(y.within(line.before, nothing) + cast(x(*line.here), y.dtype))


def cumprod_loop(y: Source, x: Source, axis: int, reverse: bool = False) -> Loop:
    """`y[k] = y[k - 1] * x[k]`."""
    line = _Line(y, axis, reverse)
    return line.loop(y.within(line.before, 1) * cast(x(*line.here), y.dtype))


def exclusive_cumprod_loop(y: Source, x: Source, axis: int, reverse: bool = False) -> Loop:
    """`y[k] = y[k - 1] * x[k - 1]`, the first is 1."""
    line = _Line(y, axis, reverse)
    return line.loop(y.within(line.before, 1) * x.within(line.before, 1))


def linear_recurrence_loop(
    y: Source, a: Source, b: Source, axis: int, reverse: bool = False
) -> Loop:
    """`y[k] = a[k - 1] * y[k - 1] + b[k - 1]`, the first is 0; a product with 0 is 0."""
    line = _Line(y, axis, reverse)
    factor, rest = (x.within(line.before, 0) for x in (a, b))
    before = y.within(line.before, 0)
    product = select(apply("equal", before, 0.0), 0.0, factor * before)
    return line.loop(product + rest)


MOST_STEPS = 48  # of a search in a vector whose size a run decides: it has fewer than 2**48


def searchsorted_loop(y: Source, ordered: Source, values: Source, side: str) -> Loop:
    """How many elements stand before each value, found bit by bit, the highest first."""
    size = ordered.shape[0]
    steps = Axis(MOST_STEPS if isinstance(size, Dim) else size.bit_length())
    axes, at = axes_over(values.shape)
    step = apply("shift_left", lift(1), lift(steps.extent) - 1 - steps.position)
    more = y(*at) + step
    other, value = ordered.within((more - 1,), 0), values(*at)
    floats = ordered.dtype.is_float
    stands = _precedes(other, value, floats)
    if side == "right":
        stands = apply("bit_not", _precedes(value, other, floats))
    found = select(apply("less_equal", more, lift(size)) & stands, more, y(*at))
    return Loop(axes, (steps,), at, found, lambda _: lift(0))


def _precedes(a: Scalar, b: Scalar, floats: bool) -> Scalar:
    """Whether `a` stands before `b`; NaN stands after every number."""
    less = a < b
    if not floats:
        return less
    is_nan = apply("bit_not", apply("equal", b, b))
    return less | (apply("equal", a, a) & is_nan)
