"""Every sum of products through one driver: C[b, m, n] = sum over k of A(b, m, k) B(b, k, n).

Enters: sizes and strides at run time, and a function that is given the finished sums. Leaves: a
library for each dtype, compiled once, whatever the shapes; what a kernel makes of the sums is a
small function of its own, which the driver calls. `driver_library.contraction_library(dtype,
target)` exports

    contract(ptr sizes, ptr operands, ptr workspace, i64 begin, i64 end, ptr store, ptr closure)
    i64 tiles(ptr sizes)            how many units of work there are
    i64 workspace(ptr sizes)        bytes of workspace of one call of `contract`
    i64 parts(ptr sizes)            into how many sums k is cut; 1 for most sizes
    cut(ptr sizes, ptr launch)      see `Routine.cut`
    store_plain                     a `store` that writes the sums to C, see `PLAIN`

`sizes` is an array of i64 in the order of `NAMES`: three axes each for batches, rows (m) and sums
(k), one for columns (n), and strides in elements. An unused axis has the extent 1 and the stride
0. Transposed, sliced, reversed and broadcast operands, and the windows of a convolution, are read
in place. `operands` holds the addresses of A and B. The workspace is aligned to 64 bytes.

`contract` computes the units begin ... end - 1. For each finished tile it calls

    void store(ptr closure, ptr partial, i64 rows, i64 columns, i64 row, i64 column, i64 batch)

where row i of the tile starts at element i * `tile_shape(dtype, target)[0]` of `partial`. `row` and
`batch` count the places of their axes in row-major order. `columns` may be anything from one to
the width; what stands behind the last column up to the width is readable, and means nothing.
`partial` is aligned to 64 bytes. Each element of C is in one tile. Threads call it at once. A
store that divides `row` into its axes does so for each tile, not for each row: a division costs
as much as a vector of results. Lines of C that the next tile writes are worth a prefetch.

Where k is deep and C small, units are parts of k. Then (`parts` > 1) each call must be for one
unit, with a workspace of its own, all of them next to each other in the order of the units; the
first word of the first must be zero when a launch begins. Whoever finishes last adds the parts up
in their order and stores. `cut` writes a `Launch` that keeps these rules.

The bits of a result depend on the sizes alone, not on threads or how units are spread over calls.

The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix
multiplication" (2008); the offset tables those of Matthews, "High-performance tensor
contraction without transposition" (2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

AXES = 3  # of each kind: batches, rows, sums


def _axes(prefix: str, *kinds: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{kind}{i}" for kind in kinds for i in range(AXES))


NAMES = (
    *_axes("", "batch", "m", "k"), "n",
    *_axes("a_", "batch", "m", "k"),
    *_axes("b_", "batch", "k"), "b_n",
)  # fmt: skip
# The closure of `store_plain`: these words, then the address of C and the address of `sizes`.
PLAIN = (*_axes("c_", "batch", "m"), "c_n")
EXTENTS = NAMES[: 3 * AXES + 1]


def size_array(values: Mapping[str, int]) -> Any:
    """The array that the functions take; axes that are left out are not there.

    >>> size_array({"m0": 2, "k0": 3, "n": 4})[:10].tolist()
    [1, 1, 1, 2, 1, 1, 3, 1, 1, 4]
    """
    found = [values.get(name, int(name in EXTENTS)) for name in NAMES]
    return np.array(found, np.int64)


def plain_closure(values: Mapping[str, int], c: int, sizes: int) -> Any:
    """What `store_plain` takes: strides of C by name, its address, the address of the sizes."""
    return np.array([*(values.get(name, 0) for name in PLAIN), c, sizes], np.int64)


def matmul_sizes(
    m: int, k: int, n: int, a: Sequence[int], b: Sequence[int], c: Sequence[int] = (0, 0)
) -> dict[str, int]:
    """The sizes of a plain product: strides of A as (m, k), of B as (k, n), of C as (m, n)."""
    return {
        "m0": m, "k0": k, "n": n,
        "a_m0": a[0], "a_k0": a[1], "b_k0": b[0], "b_n": b[1], "c_m0": c[0], "c_n": c[1],
    }  # fmt: skip
