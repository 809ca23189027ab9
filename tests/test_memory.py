"""The memory planner: what shares storage, and that nothing that lives at once overlaps."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.dims import Dim
from graphc.dtypes import DType, float32, float64, int32
from graphc.kernel import Axis, Buffer, Kernel, Store, read, reduce
from graphc.runtime import memory
from graphc.runtime.memory import Use, aligned, layout, lower_bound, storages
from graphc.runtime.sharing import shareable
from graphc.types import TensorType

PLACEMENTS = (memory.by_time, memory.by_size, memory.by_area)
LIVES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5000)), max_size=60
)


def buffer(name: str, shape: tuple[int | Dim, ...] = (4,), dtype: DType = float32) -> Buffer:
    return Buffer(TensorType(dtype, shape), name)


def assert_apart(firsts: list[int], lasts: list[int], sizes: list[int], offsets: list[int]) -> None:
    rows = [row for row in zip(firsts, lasts, offsets, sizes, strict=True) if row[3]]
    for (a, b, p, n), (c, d, q, m) in itertools.combinations(rows, 2):
        assert b < c or d < a or p + n <= q or q + m <= p


@given(LIVES)
@settings(max_examples=200, deadline=None)
def test_what_lives_at_once_does_not_overlap(lives: list[tuple[int, int, int]]) -> None:
    firsts, lasts = [a for a, _, _ in lives], [a + b for a, b, _ in lives]
    sizes = aligned(np.array([n for _, _, n in lives], np.int64)).tolist()
    for place in PLACEMENTS:
        offsets = list(place(firsts, lasts, sizes))
        assert_apart(firsts, lasts, sizes, offsets)
        assert all(offset >= 0 and offset % memory.ALIGN == 0 for offset in offsets)
    found = layout(firsts, lasts, sizes)
    assert_apart(firsts, lasts, sizes, found.offsets.tolist())
    assert found.total >= lower_bound(firsts, lasts, sizes)
    assert found.total == max((o + n for o, n in zip(found.offsets, sizes, strict=True)), default=0)


def training(layers: int, seed: int) -> tuple[list[int], list[int], list[int]]:
    """The lives in a network's step: what the forward pass keeps dies in the backward pass."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(layers):
        size = 65_536 * int(rng.choice([1, 2, 4, 8]))
        rows.append((2 * i, 2 * i + 1, 2 * size))
        rows.append((2 * i + 1, 4 * layers - 2 * i, size))
        rows.append((4 * layers - 2 * i, 4 * layers - 2 * i + 2, size // 2))
    return [a for a, _, _ in rows], [b for _, b, _ in rows], [n for _, _, n in rows]


@pytest.mark.parametrize("layers", [5, 50, 300])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_training_step_takes_little_more_than_it_must(layers: int, seed: int) -> None:
    firsts, lasts, sizes = training(layers, seed)
    found = layout(firsts, lasts, sizes)
    assert found.total <= 1.03 * lower_bound(firsts, lasts, sizes)


def test_ten_thousand_storages_are_placed_in_little_time() -> None:
    firsts, lasts, sizes = training(3_400, 0)
    start = time.perf_counter()
    layout(firsts, lasts, sizes)
    assert time.perf_counter() - start < 5


# ---------------------------------------------------------------------------- storages


def test_a_storage_lives_from_its_first_write_to_its_last_read() -> None:
    x, a, b, y = (buffer(name) for name in "xaby")
    uses = [Use([x], [a]), Use([a], [b]), Use([b, a], [y])]
    found = {s.buffers[0]: s for s in storages(uses, [y], [x])}
    assert set(found) == {a, b, y}
    assert (found[a].first, found[a].last, found[a].kept) == (0, 2, False)
    assert (found[b].first, found[b].last) == (1, 2)
    assert (found[y].first, found[y].last, found[y].kept) == (2, 3, True)


def test_a_result_takes_over_what_dies_in_its_step() -> None:
    x, a, b, y = (buffer(name) for name in "xaby")
    uses = [Use([x], [a], [(x, a)]), Use([a], [b], [(a, b)]), Use([b], [y], [(b, y)])]
    [only] = storages(uses, [y], [x])
    assert only.buffers == [a, b, y] and only.kept and (only.first, only.last) == (0, 3)


@pytest.mark.parametrize("why", ["read later", "a result", "its alias is read too"])
def test_nothing_is_taken_over_that_is_still_needed(why: str) -> None:
    x, a, b, y, alias = (buffer(name) for name in ("x", "a", "b", "y", "alias"))
    uses = [Use([x], [a]), Use([a], [b], [(a, b)]), Use([b], [y])]
    results, aliases = [y], [(alias, a)]
    if why == "read later":
        uses[2] = Use([b, alias], [y])
    elif why == "a result":
        results = [y, alias]
    else:
        uses[1] = Use([a, alias], [b], [(a, b)])
    found = storages(uses, results, [x], aliases)
    assert not any(a in s.buffers and b in s.buffers for s in found)
    assert any(a in s.buffers and alias in s.buffers for s in found)


def test_two_results_never_take_over_one_storage() -> None:
    x, a, p, q = (buffer(name) for name in "xapq")
    uses = [Use([x], [a]), Use([a], [p, q], [(a, p), (a, q)])]
    found = storages(uses, [p, q], [x])
    assert not any(p in s.buffers and q in s.buffers for s in found)


def test_a_result_that_nobody_writes_has_a_storage() -> None:
    y = buffer("y", (0,))
    [only] = storages([], [y], [])
    assert only.kept and only.buffers == [y]


# ---------------------------------------------------------------------------- sharing


def kernel(source: Buffer, target: Buffer, value: object, axes: tuple[Axis, ...]) -> Kernel:
    index = tuple(axis.position for axis in axes)
    return Kernel("k", axes, (Store(target, index, value),))  # type: ignore[arg-type]


def test_shareable_is_what_is_read_where_it_is_written() -> None:
    i, j = Axis(3), Axis(3)
    x, z, y = buffer("x", (3, 3)), buffer("z", (3, 3)), buffer("y", (3, 3))
    a, b = i.position, j.position
    at, turned = read(x)(a, b), read(x)(b, a)
    assert shareable(kernel(x, y, at + read(z)(a, b), (i, j))) == [(x, y), (z, y)]
    assert shareable(kernel(x, y, at + turned, (i, j))) == []
    assert shareable(kernel(x, y, read(x).within((a, b), 0), (i, j))) == []
    total = reduce("sum", (3,), lambda k: read(x)(a, k))
    assert shareable(kernel(x, y, at / total, (i, j))) == []
    assert shareable(kernel(x, y, read(z)(a, b) / total, (i, j))) == [(z, y)]


def test_shareable_asks_for_one_layout_and_one_reader() -> None:
    i = Axis(3)
    x, y, z = buffer("x", (3,)), buffer("y", (3,)), buffer("z", (3,))
    at = read(x)(i.position)
    assert shareable(kernel(x, buffer("d", (3,), float64), at, (i,))) == []
    assert shareable(kernel(x, buffer("w", (4,)), at, (i,))) == []
    n = buffer("n", (3,), int32)
    assert shareable(kernel(x, n, at, (i,))) == [(x, n)]
    index = (i.position,)
    both = Kernel("k", (i,), (Store(y, index, at + 1.0), Store(z, index, at * 2.0)))
    assert shareable(both) == []


# ---------------------------------------------------------------------------- sizes
