"""The native function that binds sizes: dimensions, launches, places in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.dims import FUNCTIONS, Dim, Dimension, derived
from graphc.errors import DeviceError
from graphc.runtime.cpu.binder import FITS, FORM, OVERFLOW, WORD, binder
from graphc.runtime.sizes import MOST, Dimensions

N, M, K = (Dim.symbol(name) for name in "nmk")


def native(dimensions: Dimensions, sizes: Any) -> tuple[int, Any]:
    """The status and the values of all dimensions, as the native function finds them."""
    values, form = dimensions.template.copy(), np.zeros(len(FORM), np.int64)
    for place, size in zip(dimensions.places, sizes, strict=True):
        values[place] = size
    form[WORD["values"]] = values.ctypes.data
    form[WORD["tape"]] = dimensions.rows.ctypes.data
    form[WORD["tapes"]] = len(dimensions.rows)
    return binder()(form.ctypes.data), values


def dims() -> st.SearchStrategy[Dimension]:
    leaves = st.sampled_from([N, M, K]) | st.integers(-5, 70)

    def grown(inner: st.SearchStrategy[Dimension]) -> st.SearchStrategy[Dimension]:
        pairs = st.tuples(inner, inner)
        return (
            pairs.map(lambda p: p[0] + p[1])
            | pairs.map(lambda p: p[0] * p[1])
            | st.tuples(st.sampled_from(sorted(FUNCTIONS)), pairs).map(
                lambda t: derived(t[0], *t[1])
            )
        )

    return st.recursive(leaves, grown, max_leaves=8)


@given(st.lists(dims(), max_size=6), st.tuples(*[st.integers(-9, 3000)] * 3))
@settings(max_examples=400, deadline=None)
def test_dimensions_have_the_values_that_python_gives_them(
    listed: list[Dimension], sizes: tuple[int, ...]
) -> None:
    dimensions = Dimensions()
    for dimension in (N, M, K, *listed):
        dimensions.number(dimension)
    dimensions.ready()
    try:
        want = dimensions.exact(sizes)
    except DeviceError:
        assert native(dimensions, sizes)[0] == OVERFLOW
        return
    status, values = native(dimensions, sizes)
    assert status in (FITS, OVERFLOW)  # the latter also where an intermediate is too large
    if status == FITS:
        np.testing.assert_array_equal(values[: len(want)], want)
    else:
        assert np.abs(want).max() > 2**20


@pytest.mark.parametrize("power", range(5))
def test_sizes_that_no_machine_has_are_noticed(power: int) -> None:
    dimensions = Dimensions()
    dimensions.number(N * N * N * N)
    dimensions.ready()
    size = 1000 * 10**power
    status, values = native(dimensions, [size])
    assert status == (FITS if size**4 <= MOST else OVERFLOW)
    if status == FITS:
        assert values[0] == size**4
    else:
        with pytest.raises(RuntimeError, match="out of memory"):
            dimensions.exact([size])


def test_a_constant_that_no_machine_has_is_noticed() -> None:
    dimensions = Dimensions()
    dimensions.number(2**70)
    dimensions.ready()
    assert native(dimensions, [])[0] == OVERFLOW
