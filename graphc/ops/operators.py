"""Python's operators and NumPy's methods on tensors: one table, installed with the package."""

from __future__ import annotations

from typing import Any

from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops import (
    arith,
    arrange,
    broadcast,
    compare,
    contraction,
    cumulative,
    gather,
    index,
    logic,
    moments,
    powers,
    reduce,
    select,
    shape,
)


def _swapped(function: Any) -> Any:
    return trimmed(lambda self, other: function(other, self))


@trimmed
def _reshape(self: Tensor, *sizes: Any) -> Tensor:
    """`x.reshape(2, 3)` or `x.reshape((2, 3))`: the elements in another shape."""
    return shape.reshape(self, sizes[0] if len(sizes) == 1 else sizes)


@trimmed
def _transpose(self: Tensor, *axes: Any) -> Tensor:
    """`x.transpose()`, `x.transpose(1, 0)` or `x.transpose((1, 0))`: the axes in another order."""
    return shape.transpose(self, None if not axes else axes[0] if len(axes) == 1 else axes)


METHODS: dict[str, Any] = {
    "__add__": arith.add,
    "__radd__": _swapped(arith.add),
    "__sub__": arith.subtract,
    "__rsub__": _swapped(arith.subtract),
    "__mul__": arith.multiply,
    "__rmul__": _swapped(arith.multiply),
    "__truediv__": arith.divide,
    "__rtruediv__": _swapped(arith.divide),
    "__floordiv__": arith.floor_divide,
    "__rfloordiv__": _swapped(arith.floor_divide),
    "__mod__": arith.remainder,
    "__rmod__": _swapped(arith.remainder),
    "__divmod__": arith.divmod,
    "__rdivmod__": _swapped(arith.divmod),
    "__pow__": powers.power,
    "__rpow__": _swapped(powers.power),
    "__and__": logic.bitwise_and,
    "__rand__": _swapped(logic.bitwise_and),
    "__or__": logic.bitwise_or,
    "__ror__": _swapped(logic.bitwise_or),
    "__xor__": logic.bitwise_xor,
    "__rxor__": _swapped(logic.bitwise_xor),
    "__lshift__": logic.left_shift,
    "__rlshift__": _swapped(logic.left_shift),
    "__rshift__": logic.right_shift,
    "__rrshift__": _swapped(logic.right_shift),
    "__lt__": compare.less,
    "__le__": compare.less_equal,
    "__gt__": compare.greater,
    "__ge__": compare.greater_equal,
    "__invert__": logic.invert,
    "__abs__": arith.absolute,
    "__pos__": arith.positive,
    "__neg__": arith.negative,
    "__matmul__": contraction.matmul,
    "__rmatmul__": _swapped(contraction.matmul),
    "sum": broadcast.sum,
    "mean": reduce.mean,
    "prod": reduce.prod,
    "max": reduce.max,
    "min": reduce.min,
    "any": reduce.any,
    "all": reduce.all,
    "argmax": reduce.argmax,
    "argmin": reduce.argmin,
    "var": moments.var,
    "std": moments.std,
    "cumsum": cumulative.cumsum,
    "cumprod": cumulative.cumprod,
    "dot": contraction.dot,
    "astype": broadcast.cast,
    "reshape": _reshape,
    "transpose": _transpose,
    "T": property(shape.transpose),
    "squeeze": shape.squeeze,
    "ravel": shape.ravel,
    "flatten": shape.ravel,
    "swapaxes": shape.swapaxes,
    "repeat": arrange.repeat,
    "take": gather.take,
    "clip": select.clip,
    "__getitem__": index.getitem,
    "at": property(index.At),
}


def install() -> None:
    """Give `Tensor` its operators and methods."""
    for method, function in METHODS.items():
        setattr(Tensor, method, function)
