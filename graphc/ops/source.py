"""Sources: tensors that come from no tensor. And `as_tensor`, which makes one of any value.

Sizes in attributes may be symbolic: `full` over a symbolic shape, or `sizes`, the integer tensor of
some dimensions, need no input; a run binds their symbols.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc.build import Check, frozen_array, make
from graphc.dims import Dim, Shape
from graphc.dtypes import DType, as_dtype, float64, int64, promote, weak
from graphc.errors import DTypeError, ShapeError, brief, trimmed
from graphc.graph import Op, Tensor
from graphc.kernel import Index, cast, lift
from graphc.ops.domain import Domain, cases
from graphc.scalar import Scalar, apply, select
from graphc.types import TensorType, declared_shape


class Literal:
    """A constant's value: a read-only array that hashes and compares by its bytes."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self._hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.array.dtype, self.array.shape, self.array.tobytes()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Literal) or hash(self) != hash(other):
            return False
        a, b = self.array, other.array
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()

    def __repr__(self) -> str:
        if self.array.size > 6:
            return f"<{'x'.join(map(str, self.array.shape))} values>"
        return str(self.array.tolist())


def _attribute_dtype(check: Check, *types: TensorType, dtype: DType, **_: Any) -> DType:
    return dtype


def _attribute_shape(check: Check, *types: TensorType, shape: Shape, **_: Any) -> Shape:
    return shape


def no_oracle(**_: Any) -> np.ndarray[Any, Any]:
    """The oracle of a source that the runtime supplies."""
    raise AssertionError("the runtime supplies the values of placeholders and variables")


def _sizes_element(index: Index, dims: Shape) -> Scalar:
    """A table of a few sizes."""
    element = lift(dims[-1] if dims else 0)
    for place in reversed(range(len(dims) - 1)):
        element = select(apply("equal", index[0], place), lift(dims[place]), element)
    return element


def _arange_element(index: Index, start: Any, step: Any, count: Any, dtype: DType) -> Scalar:
    """In float64 or int64, as the oracle."""
    return lift(start) + lift(step) * (cast(index[0], float64) if dtype.is_float else index[0])


PLACEHOLDER = Op(
    "placeholder", "source", (), _attribute_dtype, _attribute_shape, no_oracle,
    domain=Domain(()), cuts="it is an input",
)  # fmt: skip
VARIABLE = Op(
    "variable", "source", (), _attribute_dtype, _attribute_shape, no_oracle,
    domain=Domain(()), cuts="it is an input",
)  # fmt: skip
CONSTANT = Op(
    "constant", "source", (),
    dtype=lambda check, value: as_dtype(value.array.dtype),
    shape=lambda check, value: value.array.shape,
    oracle=lambda value: value.array,
    domain=cases(({"value": Literal(frozen_array([[1.5, 2.0]]))},)),
)  # fmt: skip
FULL = Op(
    "full", "source", (), _attribute_dtype, _attribute_shape,
    oracle=lambda value, shape, dtype: np.full(shape, value, dtype.numpy),
    element=lambda index, value, shape, dtype: lift(value),
    domain=cases(
        *(({"value": 3, "shape": s, "dtype": as_dtype("float32")},) for s in ((), (0,), (2, 3)))
    ),
)  # fmt: skip
SIZES = Op(
    "sizes", "source", (),
    dtype=lambda check, dims: int64,
    shape=lambda check, dims: (len(dims),),
    oracle=lambda dims: np.array(dims, np.int64),
    element=_sizes_element,
    domain=cases(({"dims": (2, 3)},), ({"dims": ()},)),
)  # fmt: skip
SIZE = Op(
    "size", "source", (),
    dtype=_attribute_dtype,
    shape=lambda check, dim, dtype: (),
    oracle=lambda dim, dtype: np.array(dim).astype(dtype.numpy),
    element=lambda index, dim, dtype: lift(dim),
    domain=cases(({"dim": 3, "dtype": int64},)),
)  # fmt: skip
ARANGE = Op(
    "arange", "source", (), _attribute_dtype,
    shape=lambda check, start, step, count, dtype: (count,),
    oracle=lambda start, step, count, dtype: (
        start + step * np.arange(count, dtype=np.float64 if dtype.is_float else np.int64)
    ).astype(dtype.numpy),
    element=_arange_element,
    domain=cases(
        *(({"start": 1, "step": 2, "count": n, "dtype": as_dtype("float32")},) for n in (0, 1, 4))
    ),
)  # fmt: skip
EYE = Op(
    "eye", "source", (), _attribute_dtype,
    shape=lambda check, rows, columns, offset, dtype: (rows, columns),
    oracle=lambda rows, columns, offset, dtype: np.eye(rows, columns, offset, dtype.numpy),
    element=lambda index, rows, columns, offset, dtype: (
        apply("equal", index[1] - index[0], lift(offset))
    ),
    domain=cases(
        *(
            ({"rows": r, "columns": c, "offset": k, "dtype": as_dtype("float64")},)
            for r, c, k in ((3, 3, 0), (2, 4, 1), (4, 2, -1), (0, 2, 0))
        )
    ),
)  # fmt: skip


def literal(array: np.ndarray[Any, Any], name: str | None = None) -> Tensor:
    """A constant of an array, dtype and all."""
    return make(CONSTANT, (), {"value": Literal(frozen_array(array))}, name)


def full_of(value: Any, shape: Shape, dtype: DType, name: str | None = None) -> Tensor:
    """`full` from a canonical shape: the constant `value` at every index."""
    return make(FULL, (), {"value": value, "shape": shape, "dtype": dtype}, name)


def array_of(value: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """NumPy's reading of a value, with Python floats as float32."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DTypeError("constant: it has masked elements: .filled(number) gives an array without")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"constant: rows must have equal lengths, got {brief(value)}") from error
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"constant: no dtype of graphc holds {brief(value)} ({array.dtype})")
    explicit = isinstance(value, (np.ndarray, np.generic)) or _holds_arrays(value)
    if dtype is None:
        default = np.dtype(np.float32) if array.dtype == np.float64 else array.dtype
        return array if explicit else array.astype(default)
    _check_range(array, dtype)
    return array.astype(dtype.numpy)


def _holds_arrays(value: Any) -> bool:
    if not isinstance(value, (list, tuple)) or not value:
        return False
    first = value[0]
    return isinstance(first, (np.ndarray, np.generic)) or _holds_arrays(first)


def _check_range(array: np.ndarray[Any, Any], dtype: DType) -> None:
    """Whole numbers must fit, and fractions must not be lost, in an explicit dtype."""
    if dtype.kind not in "iu" or array.size == 0:
        return
    if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
        raise DTypeError(f"{dtype} holds no fractions, got {brief(array.tolist())}")
    limits = np.iinfo(dtype.numpy)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise DTypeError(f"{dtype} holds {limits.min} to {limits.max}, got {brief(array.tolist())}")


def _check_weak(number: float, dtype: DType) -> None:
    """A Python number must fit the dtype of the tensor that it stands beside."""
    try:
        _check_range(np.asarray(number), dtype)
    except DTypeError as error:
        raise DTypeError(f"a number takes the dtype of the tensor beside it: {error}") from None


def as_tensor(value: Any, dtype: DType | None = None, like: DType | None = None) -> Tensor:
    """A tensor of anything: tensors as they are, numbers, sizes, arrays and lists as constants.

    `dtype` fixes the type of a value that is no tensor; `like` is the type a Python number meets.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Dim):
        kept = dtype or weak(0, like)
        return make(SIZE, (), {"dim": value, "dtype": kept})
    if is_weak(value):
        kept = dtype or weak(value, like)
        _check_weak(value, kept)
        return full_of(value, (), kept)
    if isinstance(value, (list, tuple)) and _holds_tensors(value):
        raise DTypeError(
            f"a list that holds tensors is no tensor: use g.stack({brief(value)}) to make one"
        )
    if not isinstance(value, (np.ndarray, np.generic, list, tuple, numbers.Number)) and not hasattr(
        value, "__array__"
    ):
        raise DTypeError(f"no tensor can be made of {brief(value)} ({type(value).__name__})")
    return literal(array_of(value, dtype))


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return isinstance(value, (Tensor, Dim))


def is_weak(value: Any) -> bool:
    """Whether a value takes the dtype of the tensors beside it: Python's numbers, and sizes.

    NumPy's scalars are arrays of rank 0 with a dtype of their own, though `np.float64` is a float.
    """
    return isinstance(value, (bool, int, float, Dim)) and not isinstance(value, np.generic)


def as_tensors(values: Sequence[Any]) -> list[Tensor]:
    """Tensors of several operands, Python numbers and sizes typed by the tensors beside them.

    A Python float beside integers makes them all float32.
    """
    strong = [v if is_weak(v) else as_tensor(v) for v in values]
    met: DType | None = None
    for value in strong:
        if isinstance(value, Tensor):
            met = value.dtype if met is None else promote(met, value.dtype)
    result = met
    for value in strong:
        if not isinstance(value, Tensor):
            result = weak(0 if isinstance(value, Dim) else value, result)
    tensors = [as_tensor(v, like=result) for v in strong]
    if result is not None and result.is_float and (met is None or not met.is_float):
        return [t if t.dtype is result else t.astype(result) for t in tensors]
    return tensors


# ---------------------------------------------------------------------------- public builders


@trimmed
def placeholder(dtype: Any = "float32", shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor that a run feeds.

    `shape` None leaves even the rank open; a dimension may be an int, None, or a name: sizes of one
    name are equal wherever they occur.

    >>> placeholder("float32", ["batch", 784], name="x")
    <placeholder 'x': f32[batch,784] at <doctest graphc.ops.source.placeholder[0]>:1>
    """
    if isinstance(dtype, (list, tuple)) or dtype is None:
        raise DTypeError(f"placeholder: the dtype comes first, then the shape, got dtype={dtype!r}")
    attrs = {"dtype": as_dtype(dtype), "shape": declared_shape(shape)}
    return make(PLACEHOLDER, (), attrs, name)


@trimmed
def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor of fixed values. Python floats make float32, Python ints int64; arrays keep theirs.

    `shape` fills or reshapes: `constant(0.5, shape=[2, 3])`.

    >>> constant([1.0, 2.0]).type, constant(np.arange(3)).type
    (TensorType(dtype=graphc.float32, shape=(2,)), TensorType(dtype=graphc.int64, shape=(3,)))
    """
    if isinstance(value, Tensor):
        raise DTypeError(f"constant: the value must be known now, got the tensor {value!r}")
    array = array_of(value, None if dtype is None else as_dtype(dtype))
    if shape is not None:
        wanted = declared_shape(shape)
        try:
            array = np.full(wanted, array) if array.ndim == 0 else array.reshape(wanted)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"constant: {array.size} values do not fill {shape}") from error
    return literal(array, name)


class Variable(Tensor):
    """A tensor whose value a session keeps between runs, and which updates write.

    `initial_value` is array-like, a tensor (such as `init.glorot_uniform(...)`), or a callable that
    returns either. Each session initialises it on first use.

    >>> Variable(np.zeros((3, 2), np.float32), name="w").type
    TensorType(dtype=graphc.float32, shape=(3, 2))
    """

    __slots__ = ("initial", "trainable")

    @trimmed
    def __init__(
        self,
        initial_value: Any | Callable[[], Any],
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        value = initial_value() if callable(initial_value) else initial_value
        kept = None if dtype is None else as_dtype(dtype)
        if not isinstance(trainable, (bool, np.bool_)):
            raise DTypeError(
                f"Variable: trainable must be True or False, got {trainable!r}; a name is name=, "
                "a dtype dtype="
            )
        if isinstance(value, Tensor):
            initial = value if kept is None or value.dtype is kept else value.astype(kept)
        else:
            initial = literal(array_of(value, kept))
        attrs = {"dtype": initial.dtype, "shape": initial.shape}
        built = make(VARIABLE, (), attrs, name)
        super().__init__(built.node, 0, built.type)
        self.initial = initial
        self.trainable = bool(trainable)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} is not copied with what holds it: two copies would share one value or start "
            "apart; Variable(v) makes another one that starts with the initial value of v"
        )
