"""Derives graphc/runtime/math/coefficients.py: polynomials of least maximal error.

    python tools/minimax.py > graphc/runtime/math/coefficients.py

Each row below is a function over an interval, the number of coefficients and a weight that turns
an error of the polynomial into one of the function it serves. Remez' exchange (E. Remez 1934; J.-M.
Muller, Elementary Functions, 3rd ed. 2016, section 3.5) runs over a dense Chebyshev grid in
arithmetic of 60 digits. Where the interval lies on one side of 0, coefficients are rounded one
after the other, lowest first, and those still free are fitted again, so that rounding one is made
good by the next; around 0 the higher powers alone have no unique best fit, and all are rounded at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

GRID = 1200
ROUNDS = 60
Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Row:
    """A polynomial of `terms` coefficients for `function` on an interval, kept as `dtype`."""

    name: str
    dtype: str
    terms: int
    start: float
    stop: float
    function: Function
    weight: Function


def solve(matrix: list[list[Any]], right: list[Any]) -> list[Any]:
    """The solution of a linear system."""
    return list(mp.lu_solve(mp.matrix(matrix), mp.matrix(right)))


def extrema(error: list[Any], count: int) -> list[int]:
    """Where an alternating error is largest: `count` neighbouring extrema of alternating sign."""
    places: list[int] = []
    for i, e in enumerate(error):
        if places and (error[places[-1]] > 0) == (e > 0):
            if abs(e) > abs(error[places[-1]]):
                places[-1] = i
        elif e != 0:
            places.append(i)
    while len(places) > count:
        places.pop(0 if abs(error[places[0]]) < abs(error[places[-1]]) else -1)
    return places


def remez(xs: list[Any], values: list[Any], weights: list[Any], powers: range) -> list[Any]:
    """Coefficients of x**p, p in powers, whose largest weighted error on the grid is least."""
    table = [[w * x**p for p in powers] for x, w in zip(xs, weights, strict=True)]
    targets = [w * v for w, v in zip(weights, values, strict=True)]
    count, coefficients = len(powers) + 1, []
    places = [round(i * (len(xs) - 1) / (count - 1)) for i in range(count)]
    for _ in range(ROUNDS):
        rows = [[*table[place], mp.mpf((-1) ** i)] for i, place in enumerate(places)]
        *coefficients, level = solve(rows, [targets[place] for place in places])
        error = [mp.fdot(row, coefficients) - t for row, t in zip(table, targets, strict=True)]
        following = extrema(error, count)
        if len(following) < count or max(map(abs, error)) <= abs(level) * mp.mpf("1.001"):
            break
        places = following
    return coefficients


def fit(row: Row) -> tuple[list[float], float]:
    """The rounded coefficients, and log2 of the largest weighted error that they leave."""
    middle, half = (mp.mpf(row.start) + row.stop) / 2, (mp.mpf(row.stop) - row.start) / 2
    xs = [middle - half * mp.cos(mp.pi * (i + mp.mpf("0.37")) / GRID) for i in range(GRID)]
    values, weights = [row.function(x) for x in xs], [row.weight(x) for x in xs]
    rounded: list[float] = []
    rest = values
    best: list[Any] = []
    for fixed in range(row.terms):
        best = best[1:]
        if not best or row.start >= 0:
            best = remez(xs, rest, weights, range(fixed, row.terms))
        rounded.append(float(np.dtype(row.dtype).type(float(best[0]))))
        rest = [r - rounded[-1] * x**fixed for r, x in zip(rest, xs, strict=True)]
    worst = max(abs(r * w) for r, w in zip(rest, weights, strict=True))
    return rounded, float(mp.log(worst, 2))


def _root(function: Function) -> Function:
    """A function of x**2, given as one of x."""
    return lambda v: function(mp.sqrt(v))


def _atanh(s: Any) -> Any:
    return 2 * mp.atanh(s) / s


def _rows() -> list[Row]:
    ln2, octant, third = 0.34658, 0.80, 0.02945  # third: ((sqrt 2 - 1) / (sqrt 2 + 1))**2

    def both(name: str, terms: tuple[int, int], interval: tuple[float, float],
             function: Function, weight: Function) -> list[Row]:  # fmt: skip
        return [
            Row(f"{name}_{bits}", f"float{bits}", n, *interval, function, weight)
            for bits, n in zip((32, 64), terms, strict=True)
        ]

    def erf_tail(name: str, dtype: str, terms: int, stop: float) -> Row:
        return Row(name, dtype, terms, 0.0, stop, lambda v: -mp.log(mp.erfc(1 + v)),
                   lambda v: mp.erfc(1 + v))  # fmt: skip

    return [
        *both("EXP", (5, 10), (-ln2, ln2), lambda r: (mp.expm1(r) - r) / r**2, lambda r: r * r),
        Row("LOG_32", "float32", 8, -0.25, 0.5,
            lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, lambda f: f**3 / mp.log1p(f)),
        Row("LOG_64", "float64", 7, 0.0, third, _root(lambda s: (_atanh(s) - 2) / s**2),
            lambda v: v / 2),
        *both("SIN", (3, 6), (0.0, octant**2),
              _root(lambda r: (mp.sin(r) - r) / r**3), lambda v: v),
        *both("COS", (3, 6), (0.0, octant**2),
              _root(lambda r: (mp.cos(r) - 1 + r * r / 2) / r**4), lambda v: v * v),
        *both("ATAN", (9, 20), (0.0, 1.0), _root(lambda z: (mp.atan(z) - z) / z**3), lambda v: v),
        *both("ASIN", (5, 12), (0.0, 0.25), _root(lambda x: (mp.asin(x) - x) / x**3), lambda v: v),
        *both("TANH", (3, 6), (0.0, 0.0301), _root(lambda x: (mp.tanh(x) - x) / x**3), lambda v: v),
        *both("ERF", (7, 14), (0.0, 1.0), _root(lambda x: mp.erf(x) / x - 1), lambda v: mp.mpf(1)),
        erf_tail("ERF_TAIL_32", "float32", 8, 3.0),
        erf_tail("ERF_TAIL_64", "float64", 19, 5.0),
        Row("POWER_LOG2", "float64", 5, 0.0, third, _root(lambda s: _atanh(s) / mp.log(2)),
            lambda v: mp.mpf("0.34")),
        Row("POWER_EXP2", "float64", 7, -0.5, 0.5, lambda r: 2**r, lambda r: mp.mpf(1)),
        Row("POWER_LOG", "float64", 7, 0.0, third,
            _root(lambda s: (_atanh(s) - 2 - 2 * s * s / 3) / s**4), lambda v: v * v / 2),
    ]  # fmt: skip


HEADER = '''"""Polynomials of least maximal error, lowest power first: written by tools/minimax.py.

The comment of each is log2 of its largest error, relative to the function that it serves.
"""

from __future__ import annotations
'''


def main() -> None:
    """Write the module to standard output."""
    wanted = sys.argv[1:]
    mp.mp.dps = 60
    print(HEADER)
    for row in _rows():
        if not wanted or any(row.name.startswith(prefix) for prefix in wanted):
            coefficients, error = fit(row)
            print(f"{row.name} = (  # 2**{error:.1f}")
            for c in coefficients:
                print(f"    {c!r},")
            print(")", flush=True)


if __name__ == "__main__":
    main()
