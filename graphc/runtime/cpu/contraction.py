"""One generator for every sum of products: C[m, n] (+)= sum over k of A(m, k) B(k, n).

Enters: a `Contraction`, which says the dtype, how many axes stand for batches, rows (m) and sums
(k), what is constant, and what happens to a result before it is stored. Leaves: three functions
of a module, for every size:

    NAME(sizes, buffers, workspace, begin, end)   computes tiles begin ... end - 1
    NAME_tiles(sizes)                             how many tiles there are
    NAME_workspace(sizes)                         bytes of workspace that one call needs

`sizes` is an array of i64 in the order of `Contraction.names`: sizes in elements and strides in
elements, so that transposed, sliced and broadcast (stride 0) operands and, with several axes for
m and k, the windows of a convolution are read in place. `buffers` points to a, b, c and the
epilogue's own. `driver.emit(contraction, module, target)` writes them.

Any split of the tiles over threads gives the same bits: each element is summed in the order of k,
in blocks that depend on the size of k alone.

The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication" (2008); the offset tables those of Matthews, "High-performance tensor
contraction without transposition" (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Contraction:
    """What is to be generated. `known` gives sizes that are constants, by name."""

    name: str
    dtype: str = "float32"
    batch_axes: int = 0
    row_axes: int = 1
    sum_axes: int = 1
    accumulate: bool = False
    known: Mapping[str, int] = field(default_factory=dict)
    epilogue: Callable[..., Any] | None = None
    """Called with a builder, the vector of results and its `Point`; gives what is stored."""

    @property
    def names(self) -> tuple[str, ...]:
        """The sizes and strides, in the order of the array that the functions take."""
        batch = [f"batch{i}" for i in range(self.batch_axes)]
        row = [f"m{i}" for i in range(self.row_axes)]
        reduced = [f"k{i}" for i in range(self.sum_axes)]
        return tuple(
            [*batch, *row, *reduced, "n"]
            + [f"a_{axis}" for axis in (*batch, *row, *reduced)]
            + [f"b_{axis}" for axis in (*batch, *reduced, "n")]
            + [f"c_{axis}" for axis in (*batch, *row, "n")]
        )

    def sizes(self, values: Mapping[str, int]) -> Any:
        """The array of sizes; the values of `known` may be left out, others may not."""
        merged = {**values, **self.known}
        return np.array([merged[name] for name in self.names], np.int64)


def matmul_sizes(
    m: int, k: int, n: int, a: Sequence[int], b: Sequence[int], c: Sequence[int]
) -> dict[str, int]:
    """The sizes of a plain product: strides of A as (m, k), of B as (k, n), of C as (m, n)."""
    return {
        "m0": m, "k0": k, "n": n,
        "a_m0": a[0], "a_k0": a[1], "b_k0": b[0], "b_n": b[1], "c_m0": c[0], "c_n": c[1],
    }  # fmt: skip
