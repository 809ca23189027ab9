"""The gradient of a strided convolution in its images, as convolutions at stride 1.

Pixel `start + stride * p` gets tap `t` from window `p - (t * dilation - start) / stride`, so only
the taps for which that divides reach it: every pixel of a phase (the same place between the
strides) is reached by the same taps, and their windows lie side by side.

Enters: the cotangent `g`, the filters, and the phases of both axes. Leaves: one convolution a
phase, all of one padded `g`, and their results as one image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphc.build import make
from graphc.dims import Dimension, Shape, derived, floordiv
from graphc.graph import Tensor
from graphc.ops.interleave import INTERLEAVE
from graphc.ops.slicing import slice_build, unslice_build
from graphc.ops.source import full_of
from graphc.ops.window import same_count

Convolve: TypeAlias = Callable[[Tensor, Tensor, tuple[int, int], "str | None"], Tensor]


@dataclass(frozen=True, slots=True)
class Phase:
    """The taps that reach every stride-th pixel: `first`, `first + step`, ... (`taps` of them).

    The pixel at `p` reads windows `p + start`, `p + start + move`, ... with the taps in reverse.
    """

    first: int
    step: int
    taps: int
    start: int
    move: int

    @property
    def reach(self) -> int:
        """How many windows a pixel reads over, beyond its first."""
        return (self.taps - 1) * self.move


@dataclass(frozen=True, slots=True)
class Axis:
    """The phases of one axis of the images, each of `count` pixels, and the zeros around `g`."""

    phases: tuple[Phase, ...]
    count: Dimension
    before: int
    length: Dimension  # of `g` and its zeros

    @property
    def stride(self) -> int:
        """How many phases there are."""
        return len(self.phases)


def _phase(start: int, taps: int, stride: int, dilation: int) -> Phase:
    reached = [t for t in range(taps) if (start - t * dilation) % stride == 0]
    if not reached:
        return Phase(0, 1, 0, 0, 1)
    step = reached[1] - reached[0] if len(reached) > 1 else 1
    place = (start - reached[0] * dilation) // stride
    move = step * dilation // stride if len(reached) > 1 else 1
    return Phase(reached[0], step, len(reached), place - (len(reached) - 1) * move, move)


def phases_of(
    taps: int, stride: int, dilation: int, before: int, pixels: Dimension, windows: Dimension
) -> Axis:
    """The phases of an axis of `pixels`, with `before` cells of padding in front of them."""
    phases = tuple(_phase(i + before, taps, stride, dilation) for i in range(stride))
    count = same_count(pixels, stride)
    reached = [phase for phase in phases if phase.taps]
    zeros = max(0, *(-phase.start for phase in reached))
    last = max(phase.start + phase.reach for phase in reached)
    return Axis(phases, count, zeros, derived("max", windows, count + last) + zeros)


def _reversed_taps(filters: Tensor, rows: Phase, columns: Phase, groups: int) -> Tensor:
    """The taps of a phase, last first, with inputs and outputs exchanged: a view."""
    assert filters.shape is not None
    *_, inner, outputs = filters.shape
    both = (rows, columns)
    starts = (*(p.first + (p.taps - 1) * p.step for p in both), 0, 0)
    lengths = (rows.taps, columns.taps, inner, outputs)
    steps = (*(-p.step if p.taps > 1 else 1 for p in both), 1, 1)
    taken = slice_build(filters, starts, lengths, steps)
    if groups == 1:
        return taken.transpose((0, 1, 3, 2))
    if inner == 1 and outputs == groups:
        return taken
    outer = floordiv(outputs, groups)
    apart = taken.reshape((*lengths[:3], groups, outer)).transpose((0, 1, 4, 3, 2))
    return apart.reshape((*lengths[:2], outer, groups * inner))


def convolved(
    g: Tensor, filters: Tensor, axes: Sequence[Axis], groups: int, convolve: Convolve,
    name: str | None,
) -> list[Tensor | None]:  # fmt: skip
    """The pixels of each pair of phases, row phases outermost; None for those that stay 0."""
    assert g.shape is not None
    rows, columns = axes
    batch, channels = g.shape[0], g.shape[3]
    around = (batch, rows.length, columns.length, channels)
    zero = np.zeros((), g.dtype.numpy).item()
    image = unslice_build(g, (0, rows.before, columns.before, 0), (1,) * 4, around, zero)
    found: list[Tensor | None] = []
    for row, column in itertools.product(rows.phases, columns.phases):
        if not row.taps or not column.taps:
            found.append(None)
            continue
        starts = (0, rows.before + row.start, columns.before + column.start, 0)
        lengths = (batch, rows.count + row.reach, columns.count + column.reach, channels)
        read = slice_build(image, starts, lengths, (1,) * 4)
        taps = _reversed_taps(filters, row, column, groups)
        found.append(convolve(read, taps, (row.move, column.move), name))
    return found


def interleaved(
    parts: Sequence[Tensor | None], axes: Sequence[Axis], starts: Shape, size: Shape
) -> Tensor:
    """The images of `size`, from `starts` on, whose phases the parts are."""
    real = [part for part in parts if part is not None]
    first = real[0]
    assert first.shape is not None
    batch, height, width, channels = first.shape
    lengths, corner = (batch, *size, channels), (0, *starts, 0)
    if len(parts) == 1:
        return slice_build(first, corner, lengths, (1,) * 4)
    strides = (axes[0].stride, axes[1].stride)
    if len(real) == 1:
        number = next(i for i, part in enumerate(parts) if part is not None)
        place = divmod(number, strides[1])
        shape = (batch, height * strides[0], width * strides[1], channels)
        whole = unslice_build(first, (0, *place, 0), (1, *strides, 1), shape)
        return slice_build(whole, corner, lengths, (1,) * 4)
    zeros = full_of(0, first.shape, first.dtype)
    listed = [zeros if part is None else part for part in parts]
    return make(INTERLEAVE, listed, {"strides": strides, "starts": starts, "size": size})
