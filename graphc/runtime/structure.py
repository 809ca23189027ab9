"""The structure of a kernel: what two kernels of equal code have in common.

Enters: a kernel. Leaves: a key that is equal where kernels differ only in their buffers, names and
lines; and the buffers, in the order of their places in it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from graphc.kernel import Axis, Buffer, Kernel
from graphc.scalar import Scalar


class Structure(NamedTuple):
    """A kernel but for its buffers, and these."""

    key: Hashable
    buffers: tuple[Buffer, ...]


def structure(kernel: Kernel) -> Structure:
    """What two kernels of equal code have in common: `key`; and what takes the places in it."""
    return _Structure().of(kernel)


class _Structure:
    """Numbers for axes, buffers and formulas, in the order in which they are met."""

    def __init__(self) -> None:
        self.axes: dict[Axis, int] = {}
        self.buffers: dict[Buffer, int] = {}
        self.formulas: dict[Scalar, int] = {}
        self.key: list[Hashable] = []

    def of(self, kernel: Kernel) -> Structure:
        """The structure of a whole kernel."""
        for axis in (*kernel.axes, *kernel.order):
            self.axis(axis)
        for formula in kernel.formulas():
            operands = tuple([self.formulas[x] for x in formula.operands])
            value = self.value(formula.primitive, formula.value)
            self.formulas[formula] = len(self.formulas)
            self.key.append((formula.primitive, operands, value))
        for store in kernel.stores:
            places = tuple([self.formulas[x] for x in store.formulas])
            self.key.append((self.buffer(store.buffer), places, store.ordered))
        return Structure((len(kernel.axes), len(kernel.order), *self.key), tuple(self.buffers))

    def axis(self, axis: Axis) -> int:
        """The number of an axis; its extent is part of the key."""
        if axis not in self.axes:
            self.axes[axis] = len(self.axes)
            self.key.append(axis.extent)
        return self.axes[axis]

    def buffer(self, buffer: Buffer) -> int:
        """The number of a buffer; its type is part of the key."""
        if buffer not in self.buffers:
            self.buffers[buffer] = len(self.buffers)
            self.key.append((buffer.type.dtype, buffer.type.shape))
        return self.buffers[buffer]

    def value(self, primitive: str, value: Any) -> Hashable:
        """What a formula holds beside its operands."""
        match primitive:
            case "position":
                return self.axis(value)
            case "read":
                buffer, outside = value
                return self.buffer(buffer), _number(outside)
            case "reduce":
                kind, axes, initial = value
                return kind, tuple(map(self.axis, axes)), _number(initial)
            case "number":
                return _number(value)
        return (type(value), value)


def _number(value: Any) -> Hashable:
    """A number as code has it: -0.0 is not 0.0, 1 not True, and NaN is itself."""
    return type(value), repr(value)
