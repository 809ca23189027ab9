"""The sizes of a tensor as integer tensors: shape, size, rank. They read no data."""

from __future__ import annotations

from typing import Any

from graphc.build import make
from graphc.dims import Dim, product
from graphc.dtypes import int64
from graphc.errors import trimmed
from graphc.graph import Tensor
from graphc.ops.composition import composition
from graphc.ops.source import SIZE, SIZES, full_of


def _int64(*_: Any, **__: Any) -> Any:
    return int64


@composition("x", dtype=_int64, rankless=lambda: (Dim.symbol(),))
def shape(x: Any, *, name: str | None = None) -> Tensor:
    """The sizes of `x` as a vector of int64, usable in reshape, stack, arange ...

    >>> shape([[1, 2, 3]]).eval()
    array([1, 3])
    """
    return make(SIZES, (), {"dims": x.shape}, name)


@composition("x", dtype=_int64, rankless=lambda: ())
def _element_count(x: Any, *, name: str | None = None) -> Tensor:
    return make(SIZE, (), {"dim": product(x.shape), "dtype": int64}, name)


@trimmed
def size(x: Any, *, name: str | None = None) -> Tensor:
    """How many elements `x` has, an int64 scalar.

    >>> size([[1, 2, 3]]).eval()
    array(3)
    """
    tensor: Tensor = _element_count(x, name=name)
    return tensor


@composition("x", dtype=_int64, rankless=lambda: ())
def rank(x: Any, *, name: str | None = None) -> Tensor:
    """How many axes `x` has, an int64 scalar.

    >>> rank([[1, 2, 3]]).eval()
    array(2)
    """
    return full_of(len(x.shape), (), int64, name)
