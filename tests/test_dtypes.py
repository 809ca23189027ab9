"""Promotion: NumPy 2's, but for Python floats, which alone make float32."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.dtypes import (
    BY_NUMPY,
    DTYPES,
    DType,
    as_dtype,
    bool_,
    float32,
    float64,
    floating,
    int64,
    promote,
    weak,
)
from graphc.errors import DTypeError
from graphc.ops.arith import add, multiply
from graphc.ops.source import as_tensor, as_tensors, constant, placeholder

dtypes = st.sampled_from(DTYPES)
numbers = st.one_of(st.booleans(), st.integers(-100, 100), st.floats(-10, 10))


@given(dtypes, dtypes)
def test_promotion_is_numpys(a: DType, b: DType) -> None:
    assert promote(a, b).numpy == np.promote_types(a.numpy, b.numpy)
    assert promote(a, b) is promote(b, a)
    assert promote(a, a) is a
    assert promote(promote(a, b), a) is promote(a, b)


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("b", DTYPES, ids=str)
def test_builders_promote(a: DType, b: DType) -> None:
    x, y = placeholder(a, ()), placeholder(b, ())
    assert add(x, y).dtype.numpy == np.result_type(a.numpy, b.numpy)


def _numpys(number: Any, dtype: DType) -> Any:
    return np.result_type(dtype.numpy, number)


@given(dtypes, numbers)
def test_python_numbers_are_weak(dtype: DType, number: Any) -> None:
    if dtype.kind == "u" and number < 0:
        return  # an error, see below
    got = multiply(placeholder(dtype, (2,)), number).dtype
    if isinstance(number, float) and not dtype.is_float:
        assert got is float32  # NumPy: float64
    else:
        assert got.numpy == _numpys(number, dtype)
    assert got is multiply(number, placeholder(dtype, (2,))).dtype


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_float], ids=str)
def test_no_python_number_widens_a_float_graph(dtype: DType) -> None:
    x = placeholder(dtype, ("batch",))
    assert (x * 2.5 + 1 - True).dtype is dtype


def test_python_numbers_alone() -> None:
    assert [as_tensor(v).dtype for v in (True, 1, 1.5)] == [bool_, int64, float32]
    assert constant([1.5, 2.0]).dtype is float32
    assert constant(np.array([1.5])).dtype is float64
    assert constant(np.float64(1.5)).dtype is float64
    assert add(1, 2.5).dtype is float32
    assert add(1, 2).dtype is int64
    assert weak(1, bool_) is int64 and weak(1.5, int64) is float32


@given(st.lists(st.one_of(dtypes, numbers), min_size=1, max_size=4))
def test_operands_meet_in_one_dtype(operands: list[Any]) -> None:
    tensors = [v for v in operands if isinstance(v, DType)]
    if any(not isinstance(v, (bool, DType)) and v < 0 for v in operands):
        return
    listed = as_tensors([placeholder(v, ()) if isinstance(v, DType) else v for v in operands])
    got = np.result_type(*(t.dtype.numpy for t in listed))
    plain = [v for v in operands if not isinstance(v, DType)]
    if tensors and not any(isinstance(v, float) for v in plain):
        assert got == np.result_type(*(t.numpy for t in tensors), *plain)


@pytest.mark.parametrize("number", [300, -1, 1.5, float("nan")])
def test_a_number_that_does_not_fit_is_refused(number: float) -> None:
    with pytest.raises(DTypeError):
        constant(number, dtype="uint8")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_spellings(dtype: DType) -> None:
    assert as_dtype(dtype.name) is dtype
    assert as_dtype(dtype.numpy) is dtype
    assert as_dtype(dtype.numpy.type) is dtype
    assert as_dtype(dtype.numpy.newbyteorder()) is dtype
    assert dtype == dtype.numpy and dtype.numpy == dtype and dtype == dtype.name
    assert hash(dtype) == hash(dtype.numpy)
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert str(dtype) == dtype.numpy.name and dtype.itemsize == dtype.numpy.itemsize


def test_python_types() -> None:
    assert [as_dtype(t) for t in (bool, int, float)] == [bool_, int64, float32]
    assert (float32 == "no such dtype") is False
    assert (float32 == 3) is False


@pytest.mark.parametrize("spelling", ["float128x", complex, "datetime64[s]", object, str, 3, None])
def test_foreign_dtypes_are_refused(spelling: Any) -> None:
    if spelling is None:
        return
    with pytest.raises(DTypeError, match="is no dtype of graphc; there are bool, int8"):
        as_dtype(spelling)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_floating_is_numpys_for_exp(dtype: DType) -> None:
    assert BY_NUMPY[np.exp(np.zeros(1, dtype.numpy)).dtype] is floating(dtype)


def test_float_is_the_dtype_of_pythons_floats_however_it_is_spelt():
    assert as_dtype("float") is as_dtype(float) is as_dtype("float32")
    assert as_dtype("double") is as_dtype("float64")
    for spelling in (float, "float"):
        assert float32 == spelling
        assert float64 != spelling
