"""Python's operators and NumPy's methods on tensors: one table, installed when the package loads."""

from __future__ import annotations

from typing import Any

from graphc.graph import Tensor
from graphc.ops import arith, broadcast, contraction, shape


def _swapped(function: Any) -> Any:
    return lambda self, other: function(other, self)


METHODS: dict[str, Any] = {
    "__add__": arith.add,
    "__radd__": _swapped(arith.add),
    "__sub__": arith.subtract,
    "__rsub__": _swapped(arith.subtract),
    "__mul__": arith.multiply,
    "__rmul__": _swapped(arith.multiply),
    "__neg__": arith.negative,
    "__matmul__": contraction.matmul,
    "__rmatmul__": _swapped(contraction.matmul),
    "sum": broadcast.sum,
    "astype": broadcast.cast,
    "reshape": lambda self, *shape_: shape.reshape(
        self, shape_[0] if len(shape_) == 1 else shape_
    ),
    "transpose": lambda self, *axes: shape.transpose(
        self, None if not axes else axes[0] if len(axes) == 1 else axes
    ),
    "T": property(shape.transpose),
}


def install() -> None:
    """Give `Tensor` its operators and methods."""
    for method, function in METHODS.items():
        setattr(Tensor, method, function)
