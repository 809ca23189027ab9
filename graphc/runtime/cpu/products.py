"""Which products of matrices are quicker with packing and tiles than as loops on the CPU.

Enters: a product, as `graphc.contractions` finds it. Leaves: yes or no.
"""

from __future__ import annotations

from graphc.contractions import Product, is_one, turns

LEAST_WORK = 16_384  # multiply-adds of a product that is worth packing and tiles
LEAST_DEPTH = 8  # terms of a sum that pay for a tile where loops could read vectors as well
# Where they cannot, for the columns of B lie apart, and a sum is too short for vectors of its terms
SHORT, LEAST_APART = 32, 1_024


def pays(product: Product) -> bool:
    """Whether tiles and packing are quicker than plain loops; unknown sizes are thought large."""
    m = turns(product.rows)
    n = turns((product.column,))
    k = turns(product.sums)
    straight = is_one(product.b.step(product.column)) and is_one(product.c.step(product.column))
    if m == 1 or n == 1 or (k is not None and k < LEAST_DEPTH and straight):
        return False
    if m is None or n is None or k is None:
        return True
    apart = not straight and LEAST_DEPTH <= k < SHORT
    return m * n * k >= (LEAST_APART if apart else LEAST_WORK)
