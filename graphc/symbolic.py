"""What Python and NumPy may ask of an array, but not of a symbolic one: each question has an answer
that says what to write instead.

`Tensor` inherits these. They raise TypeError, as Python's own protocols do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from graphc import hints
from graphc.dims import Dim

REFLECTED = {
    "add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__",
    "floor_divide": "__rfloordiv__", "remainder": "__rmod__", "power": "__rpow__",
    "matmul": "__rmatmul__", "bitwise_and": "__rand__", "bitwise_or": "__ror__",
    "bitwise_xor": "__rxor__", "left_shift": "__rlshift__", "right_shift": "__rrshift__",
    "less": "__gt__", "less_equal": "__ge__", "greater": "__lt__", "greater_equal": "__le__",
}  # fmt: skip
"""What `ufunc(array, tensor)` is as a method of the tensor."""


def _no_length(tensor: Any) -> str:
    """Why the size of the first axis is not known."""
    if tensor.shape is None:
        return f"of {tensor!r}: its rank is unknown before a run"
    if not tensor.shape:
        return f"of {tensor!r}: it has no axes"
    return (
        f"of {tensor!r}: the size {tensor.shape[0]} is not known before a run; "
        "g.shape(x)[0] is its value as a tensor"
    )


class Symbolic:
    """The base of `Tensor`."""

    __slots__ = ()
    shape: Any

    if not TYPE_CHECKING:  # for a type checker, a missing name is an error

        def __getattr__(self, name: str) -> NoReturn:
            label = f"{type(self).__name__!r} object"
            raise hints.missing(self, label, name, hints.TENSOR)

    def __bool__(self) -> bool:
        raise TypeError(
            f"the truth of {self!r} is not known before a run; use g.where(condition, x, y) or "
            "g.ifelse(condition, then, otherwise), and g.equal(x, y) to compare elements"
        )

    def __len__(self) -> int:
        if not self.shape or isinstance(self.shape[0], Dim):
            raise TypeError(f"len() {_no_length(self)}")
        return int(self.shape[0])

    def __iter__(self: Any) -> Iterator[Any]:
        if not self.shape or isinstance(self.shape[0], Dim):
            raise TypeError(f"iteration {_no_length(self)}, g.scan loops over it")
        return map(self.__getitem__, range(self.shape[0]))

    def __float__(self) -> float:
        raise TypeError(
            f"{self!r} is no number before a run; Session.run or .eval() give its value"
        )

    def __int__(self) -> int:
        raise TypeError(
            f"{self!r} is no number before a run; Session.run or .eval() give its value"
        )

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError(
                f"{self!r} has no value to format as {spec!r} before a run; Session.run or .eval() "
                "give it"
            )
        return repr(self)

    def __copy__(self) -> Any:
        return self  # it never changes

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} is not pickled: a graph is its program; Session.save(path) keeps variables"
        )

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} does not change; x.at[index].set(value) makes a tensor that differs there"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's side of `array + tensor`; no other function of NumPy takes a tensor."""
        if method == "__call__" and len(inputs) == 2 and inputs[1] is self:
            if ufunc.__name__ in ("equal", "not_equal"):
                return ufunc.__name__ == "not_equal"  # tensors compare by identity
            if (reflected := REFLECTED.get(ufunc.__name__)) and options.keys() <= {"out"}:
                return getattr(self, reflected)(inputs[0])
        raise TypeError(
            f"np.{ufunc.__name__} of {self!r}: it is symbolic; use graphc's function of the same "
            f"name, g.{ufunc.__name__}"
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        raise TypeError(
            f"np.{function.__name__} of {self!r}: it is symbolic; use graphc's function of the "
            f"same name, g.{function.__name__}"
        )

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} holds no values before a run; Session.run or .eval() give them, and "
            "graphc's own functions take tensors (g.sum instead of np.sum)"
        )
