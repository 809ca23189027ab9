"""The same bits for any number of threads and in every run; random numbers are the reference's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Tensor
from tests.determinism import WORKLOADS, digests

ROOT = Path(__file__).resolve().parent.parent


PROCESSES = ("16 1 2 16 16", "2 2", "1 1")  # cores, and limits of threads


def _found(process: str) -> dict[str, list[list[str]]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.determinism", *process.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found: dict[str, list[list[str]]] = json.loads(done.stdout)
    return found


def test_bits_do_not_depend_on_threads() -> None:
    found = [_found(process) for process in PROCESSES]
    for build in WORKLOADS:
        rows = [row for process in found for row in process[build.__name__]]
        assert len(rows) == 6 and len(rows[0]) > 1
        differing = {i for row in rows for i in range(len(row)) if row[i] != rows[0][i]}
        assert not differing, f"results {sorted(differing)} of {build.__name__}"


def test_the_digests_see_a_difference() -> None:
    x = g.placeholder("float32", [3])
    made = [g.exp(x)], {x: np.ones(3)}, []
    other = [g.exp(x)], {x: np.nextafter(np.ones(3, np.float32), np.float32(2))}, []
    assert digests(made, 1) == digests(made, 2) != digests(other, 1)


# ---------------------------------------------------------------------------- random numbers

FLOATS = ("float32", "float64")
SHAPE = (37, 29)
# Made of exp, log, sin and cos of equal words: native code has digits of its own at the very end.
COMPUTED = {"normal", "truncated_normal", "exponential", "gumbel"}
DISTRIBUTIONS: dict[str, Callable[[], list[Tensor]]] = {
    "uniform": lambda: [g.random.uniform(SHAPE, -2.0, 3.0, dtype=d) for d in FLOATS],
    "normal": lambda: [g.random.normal(SHAPE, 1.0, 2.0, dtype=d) for d in FLOATS],
    "truncated_normal": lambda: [g.random.truncated_normal(SHAPE, dtype=d) for d in FLOATS],
    "exponential": lambda: [g.random.exponential(SHAPE, dtype=d) for d in FLOATS],
    "gumbel": lambda: [g.random.gumbel(SHAPE, dtype=d) for d in FLOATS],
    "bernoulli": lambda: [g.random.bernoulli(SHAPE, 0.3)],
    "integers": lambda: [g.random.integers(SHAPE, -5, 90, dtype=d) for d in ("int8", "int64")],
    "categorical": lambda: [g.random.categorical(g.constant(np.linspace(0, 2, 60).reshape(4, 15)))],
    "permutation": lambda: [g.random.permutation(101)],
    "shuffle": lambda: [g.random.shuffle(g.constant(np.arange(60).reshape(20, 3)))],
    "dropout": lambda: [g.nn.dropout(g.constant(np.ones(SHAPE, np.float32)), rate=0.4)],
}


def drawn_on(device: str, fetches: list[Tensor]) -> list[Any]:
    with g.Session(device=device, seed=11) as session:
        return [array for _ in range(2) for array in session.run(fetches)]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_random_numbers_are_the_references(name: str) -> None:
    fetches = DISTRIBUTIONS[name]()
    pairs = zip(drawn_on("cpu", fetches), drawn_on("reference", fetches), strict=True)
    for got, want in pairs:
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        if name not in COMPUTED:
            np.testing.assert_array_equal(got, want)
        else:  # a normal number near 0 is a difference of larger ones
            unit = float(np.finfo(got.dtype).eps)
            np.testing.assert_allclose(got, want, rtol=8 * unit, atol=8 * unit)


def test_every_distribution_is_listed() -> None:
    public = {
        name
        for name, value in vars(g.random).items()
        if getattr(value, "__module__", "") == g.random.__name__ and not name.startswith("_")
    }
    assert public - {"unit_interval", "randint"} == set(DISTRIBUTIONS) - {"dropout"}
