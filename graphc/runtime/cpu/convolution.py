"""Convolutions as contractions: which sizes and strides make one of an NHWC image and its filters.

Enters: the geometry of a two-dimensional convolution. Leaves: sizes for the driver of
contractions, with three row axes and three sum axes. Nothing is copied: windows are read in place.
Padding is the caller's: the image (and for the gradient of the image, the gradient of the output)
has a border of zeros already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Instance(NamedTuple):
    """One contraction: its sizes, and where its operands start, in elements."""

    sizes: dict[str, int]
    a: int = 0
    b: int = 0
    c: int = 0


@dataclass(frozen=True)
class Convolution:
    """The padded image (batch, height, width, channels) and the filters (fh, fw, channels, out)."""

    batch: int
    height: int
    width: int
    channels: int
    filter_height: int
    filter_width: int
    out: int
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)

    @property
    def output(self) -> tuple[int, int, int, int]:
        """The shape of the result."""
        high, wide = (
            (size - (taps - 1) * dilation - 1) // stride + 1
            for size, taps, stride, dilation in zip(
                (self.height, self.width), (self.filter_height, self.filter_width),
                self.strides, self.dilations, strict=True,
            )
        )  # fmt: skip
        return self.batch, max(0, high), max(0, wide), self.out

    @property
    def _image(self) -> tuple[int, int, int]:
        return self.height * self.width * self.channels, self.width * self.channels, self.channels

    @property
    def _filters(self) -> tuple[int, int, int]:
        return self.filter_width * self.channels * self.out, self.channels * self.out, self.out

    def forward(self) -> Instance:
        """A is the image, B the filters, C the output."""
        _, high, wide, out = self.output
        image, row, pixel = self._image
        windows = image, row * self.strides[0], pixel * self.strides[1]
        taps = row * self.dilations[0], pixel * self.dilations[1], 1
        places = high * wide * out, wide * out, out
        return Instance(
            _sizes(
                (self.batch, high, wide),
                (self.filter_height, self.filter_width, self.channels),
                out,
                (windows, taps),
                (self._filters, 1),
                (places, 1),
            )
        )

    def filter_gradient(self) -> Instance:
        """A is the image, B the output's gradient, C the filters' gradient."""
        _, high, wide, out = self.output
        image, row, pixel = self._image
        windows = image, row * self.strides[0], pixel * self.strides[1]
        taps = row * self.dilations[0], pixel * self.dilations[1], 1
        places = high * wide * out, wide * out, out
        return Instance(
            _sizes(
                (self.filter_height, self.filter_width, self.channels),
                (self.batch, high, wide),
                out,
                (taps, windows),
                (places, 1),
                (self._filters, 1),
            )
        )

    def border(self) -> tuple[int, int]:
        """Zeros that `image_gradients` needs above (and below), left (and right) of its operand."""
        (fh, fw), (dh, dw) = (self.filter_height, self.filter_width), self.dilations
        return (fh - 1) * dh, (fw - 1) * dw

    def image_gradients(self) -> list[Instance]:
        """A is the output's gradient with a border of zeros, B the filters, C the image's gradient.

        One contraction for each place of a pixel between the strides: only every stride-th tap
        of the filters reaches it. Pixels that no window reads get zeros.
        """
        return [
            self._image_gradient(i, j)
            for i in range(min(self.strides[0], self.height))
            for j in range(min(self.strides[1], self.width))
        ]

    def _image_gradient(self, i: int, j: int) -> Instance:
        _, high, wide, out = self.output
        image, row, pixel = self._image
        top, left = self.border()
        line = (wide + 2 * left) * out
        vertical = _phase(i, self.filter_height, self.strides[0], self.dilations[0])
        horizontal = _phase(j, self.filter_width, self.strides[1], self.dilations[1])
        rows = -(-(self.height - i) // self.strides[0]), -(-(self.width - j) // self.strides[1])
        sizes = _sizes(
            (self.batch, *rows),
            (vertical.taps, horizontal.taps, out),
            self.channels,
            (
                ((high + 2 * top) * line, line, out),
                (-vertical.move * line, -horizontal.move * out, 1),
            ),
            ((vertical.step * self._filters[0], horizontal.step * self._filters[1], 1), out),
            ((image, row * self.strides[0], pixel * self.strides[1]), 1),
        )
        return Instance(
            sizes,
            (top + vertical.place) * line + (left + horizontal.place) * out,
            vertical.first * self._filters[0] + horizontal.first * self._filters[1],
            i * row + j * pixel,
        )


class _Phase(NamedTuple):
    """The taps that reach every stride-th pixel: first, first + step, ... and where they read."""

    first: int
    step: int
    taps: int
    place: int
    move: int


def _phase(start: int, taps: int, stride: int, dilation: int) -> _Phase:
    """Pixel start + stride * p gets tap t from window p - (t * dilation - start) / stride."""
    reached = [t for t in range(taps) if (start - t * dilation) % stride == 0]
    if not reached:
        return _Phase(0, 1, 0, 0, 0)
    step = reached[1] - reached[0] if len(reached) > 1 else 1
    place = (start - reached[0] * dilation) // stride
    return _Phase(reached[0], step, len(reached), place, step * dilation // stride)


def _sizes(
    rows: tuple[int, ...], sums: tuple[int, ...], n: int,
    a: tuple[tuple[int, ...], tuple[int, ...]],
    b: tuple[tuple[int, ...], int],
    c: tuple[tuple[int, ...], int],
) -> dict[str, int]:  # fmt: skip
    """Names for sizes and strides."""
    named = {"n": n, "b_n": b[1], "c_n": c[1]}
    for prefix, letter, values in (
        ("", "m", rows), ("", "k", sums), ("a_", "m", a[0]), ("a_", "k", a[1]),
        ("b_", "k", b[0]), ("c_", "m", c[0]),
    ):  # fmt: skip
        named.update({f"{prefix}{letter}{i}": value for i, value in enumerate(values)})
    return named
