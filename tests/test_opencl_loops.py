"""Loops on the OpenCL device: those that are one launch, and those that the host walks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.graph import Graph
from graphc.runtime.opencl.device import OpenclDevice, open_opencl
from graphc.runtime.opencl.platforms import look
from graphc.runtime.opencl.program import OpenclProgram
from graphc.runtime.opencl.recipe import Action, Again, Either, Launch
from tests.support import generator

pytestmark = pytest.mark.skipif(not look().devices, reason="no OpenCL driver is installed")

SIZE = 21  # neither a strip nor some of them
X = g.placeholder("float32", ["time"], name="x")
K = g.placeholder("int64", [], name="k")
ROWS = g.placeholder("float32", ["time", 8], name="rows")
WIDE = g.placeholder("float32", ["time", "width"], name="wide")
PAIRS = g.placeholder("float32", ["steps", 3, 7], name="pairs")
BIAS = g.placeholder("float32", [7], name="bias")


class Noting:
    """The device, with the programs that it has made."""

    name, notes = "opencl", True

    def __init__(self, device: OpenclDevice) -> None:
        self.device, self.programs = device, list[OpenclProgram]()

    def compile(self, graph: Graph, check: str | None = None) -> Any:
        """A program, noted where it is not checked."""
        made = self.device.compile(graph, check)
        if isinstance(made, OpenclProgram):
            self.programs.append(made)
        return made

    def limits(self) -> None:
        """None are known."""


@pytest.fixture(scope="module")
def device() -> OpenclDevice:
    return open_opencl("opencl")


@pytest.fixture
def noting(device: OpenclDevice) -> Noting:
    return Noting(device)


def walked(actions: Sequence[Action]) -> Iterator[Action]:
    """All actions, also those inside of others."""
    for action in actions:
        yield action
        if isinstance(action, Again):
            yield from walked(action.inside)
        elif isinstance(action, Either):
            yield from walked((*action.then, *action.otherwise))


def counts(noting: Noting) -> tuple[int, int]:
    """How many loops of a program are one launch, and how many the host walks.

    Of the program that has most: lengths that data decide are computed by one of their own.
    """
    found = []
    for program in noting.programs:
        actions = list(walked(program.recipe.actions))
        whole = sum(isinstance(a, Launch) and a.loop is not None for a in actions)
        found.append((whole, sum(isinstance(a, Again) for a in actions)))
    return max(found, key=sum)


def agree(noting: Noting, fetches: Any, feeds: Any, tolerance: float = 0.0) -> list[Any]:
    """Run, and hold the results against those of the interpreted kernels."""
    wanted_of, listed = [], [fetches] if isinstance(fetches, g.Tensor) else [*fetches]
    with g.Session(device=noting) as session, g.Session(device="interp") as other:
        got = session.run(listed, feeds)
        wanted_of = other.run(listed, feeds)
    for a, b in zip(got, wanted_of, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    return got


# ---------------------------------------------------------------------------- numbers


def collatz(n: Any) -> list[Any]:
    """How many steps it takes to come to 1."""
    step = lambda n, s: (g.where(g.equal(n % 2, 0), n // 2, 3 * n + 1), s + 1)  # noqa: E731
    return list(g.while_loop(lambda n, s: n > 1, step, (n, 0)))


def halving(x: Any) -> Any:
    """A scan that ends early."""
    return g.scan(lambda row, v: (v / 2 + row, g.until(v < 3.0)), x, 16.0)


def repeated(step: Callable[..., Any], start: Any) -> Any:
    """A state after each of `K` steps."""
    return g.scan(step, outputs_info=start, n_steps=K)


NUMBERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "while": (lambda: collatz(K), {K: 27}),
    "false at once": (lambda: collatz(K), {K: 1}),
    "until": (lambda: halving(X), {X: np.zeros(20)}),
    "until, in the first step": (lambda: halving(X), {X: np.full(5, -9.0)}),
    "steps are over before": (lambda: halving(X), {X: np.ones(2)}),
    "sum": (lambda: g.scan(lambda r, s: s + r, X, 0.0), {X: np.arange(9.0)}),
    "no steps": (lambda: g.scan(lambda r, s: s + r, X, 0.0), {X: []}),
    "last of no steps": (
        lambda: g.while_loop(lambda i, s: i < K, lambda i, s: (i + 1, s * 3), (0, 7)), {K: 0}
    ),
    "int64 wraps": (lambda: repeated(lambda p: p * 3 + 1, g.constant(1)), {K: 90}),
    "int8 wraps": (lambda: repeated(lambda p: p * 3 + 1, g.constant(1, "int8")), {K: 9}),
    "float16": (
        lambda: g.scan(lambda r, s: s * 0.75 + r, X.astype("float16"), g.constant(0, "float16")),
        {X: np.linspace(0, 3, 30)},
    ),
    "bool": (
        lambda: g.scan(lambda r, s: g.logical_xor(r > 0.0, s), X, g.constant(False)),
        {X: [1, -1, 1, 1, -1]},
    ),
    "taps": (
        lambda: g.scan(
            lambda now, third, second: third + second * now,
            X,
            {"initial": np.ones(3, np.float32), "taps": [-3, -2]},
        ),
        {X: np.arange(12.0)},
    ),
    "backwards": (
        lambda: g.scan(lambda r, s: s * 0.5 + r, X, 0.0, go_backwards=True), {X: np.arange(7.0)}
    ),
    "the number of the step": (
        lambda: repeated(lambda i, a: (i + 1, a * 2 + i), [g.constant(0), g.constant(1)]), {K: 8}
    ),
    "exchanged": (
        lambda: repeated(lambda a, b: [b, a + b], [g.constant(0), g.constant(1)]), {K: 30}
    ),
    "a branch": (
        lambda: g.scan(
            lambda r, s: g.ifelse(r > s, lambda: g.ifelse(r > 2.0, r * 2.0, s + r), lambda: s - r),
            X, 0.5,
        ),
        {X: [1, 4, 2, 9, -3]},
    ),
    "elements by data": (
        lambda: g.while_loop(
            lambda i, s: i < g.shape(X)[0] - 1, lambda i, s: (i + 1, s + X[i] * X[i + 1]), (0, 0.0)
        ),
        {X: np.arange(6.0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_loop_over_numbers_is_one_launch(noting: Noting, name: str) -> None:
    make, feeds = NUMBERS[name]
    agree(noting, make(), feeds)
    assert counts(noting) == (1, 0)


# ---------------------------------------------------------------------------- arrays


def decay(rows: Any, start: Any) -> Any:
    """A recurrence, point by point."""
    return g.scan(lambda row, s: s * 0.75 + row, rows, start)


def two(pairs: Any, bias: Any) -> Any:
    """Several kernels in a step: what one makes, another reads."""

    def step(row: Any, s: Any) -> Any:
        mixed = s * 0.5 + row + bias
        return [mixed, g.maximum(mixed, s) - row[0, 0]]

    return g.scan(step, pairs, [g.zeros([3, 7]), None])


def ends(rows: Any) -> Any:
    """Numbers beside arrays, and a guard of them."""
    step = lambda row, s, k: ([s * 0.5 + row, k * 2], g.until(k > 20))  # noqa: E731
    return g.scan(step, rows, [g.zeros([8]), g.constant(3)])


def shapes(count: int, width: int = SIZE) -> Any:
    return generator(count).normal(size=(count, width)).astype(np.float32)


ARRAYS: dict[str, tuple[Callable[[], Any], Any]] = {
    "a strip": (lambda: decay(ROWS, g.zeros([8])), {ROWS: shapes(5, 8)}),
    "no steps": (lambda: decay(ROWS, g.zeros([8])), {ROWS: np.zeros((0, 8))}),
    "the last alone": (lambda: decay(ROWS, g.zeros([8]))[-1], {ROWS: shapes(6, 8)}),
    "a rest": (lambda: decay(WIDE, g.zeros_like(WIDE[0])), {WIDE: shapes(5)}),
    "strips": (lambda: decay(WIDE, g.zeros_like(WIDE[0])), {WIDE: shapes(4, 67)}),
    "no points": (lambda: decay(WIDE, g.zeros_like(WIDE[0])), {WIDE: shapes(4, 0)}),
    "one point": (lambda: decay(WIDE, g.zeros_like(WIDE[0])), {WIDE: shapes(4, 1)}),
    "several kernels": (
        lambda: two(PAIRS, BIAS), {PAIRS: shapes(4).reshape(4, 3, 7), BIAS: np.arange(7.0)}
    ),
    "one number a step": (
        lambda: g.scan(lambda r, s: s * 0.5 + r, X, g.zeros([3, 7])), {X: np.arange(5.0)}
    ),
    "a guard": (lambda: ends(ROWS), {ROWS: shapes(9, 8)}),
    "a guard that comes late": (lambda: ends(ROWS), {ROWS: shapes(2, 8)}),
    "a branch": (
        lambda: g.scan(lambda r, s: g.ifelse(r[0] > 0.0, s * 0.5 + r, s - r), ROWS, g.zeros([8])),
        {ROWS: shapes(7, 8)},
    ),
    "float16": (
        lambda: decay(WIDE.astype("float16"), g.zeros_like(WIDE[0]).astype("float16")),
        {WIDE: shapes(6)},
    ),
    "int16 and bool": (
        lambda: g.scan(
            lambda row, s, b: [s * 3 + row.astype("int16"), g.logical_xor(b, row > 0.0)],
            WIDE, [g.zeros_like(WIDE[0]).astype("int16"), WIDE[0] > 0.0],
        ),
        {WIDE: 100 * shapes(12)},
    ),
    "uint8": (
        lambda: g.scan(
            lambda row, s: g.minimum(s, row.astype("uint8")), ROWS, g.ones([8]).astype("uint8") * 99
        ),
        {ROWS: 10 + 3 * abs(shapes(5, 8))},
    ),
    "a short sum": (
        lambda: g.scan(lambda row, s: s * 0.5 + g.sum(row), PAIRS, g.zeros([5])),
        {PAIRS: np.arange(84.0).reshape(4, 3, 7)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_a_loop_over_points_is_one_launch(noting: Noting, name: str) -> None:
    make, feeds = ARRAYS[name]
    agree(noting, make(), feeds, 1e-6 if name == "a short sum" else 0.0)
    assert counts(noting) == (1, 0)


def test_the_gradient_of_a_recurrence_is_one_launch_too(noting: Noting) -> None:
    start = g.placeholder("float32", [8])
    loss = g.sum(decay(g.sin(ROWS), start) ** 2)
    feeds = {ROWS: shapes(7, 8), start: np.arange(8.0)}
    agree(noting, [loss, *g.gradients(loss, [ROWS, start])], feeds, 1e-5)
    assert counts(noting)[1] == 0


def test_an_inner_loop_is_one_launch_of_each_step(noting: Noting) -> None:
    rows = g.placeholder("float32", ["n", 6])
    inner = lambda row: g.scan(lambda v, s: s * 0.5 + v, row, 0.0)  # noqa: E731
    agree(noting, g.scan(inner, rows), {rows: shapes(5, 6)})
    assert counts(noting) == (1, 1)


def test_a_new_length_builds_nothing(noting: Noting) -> None:
    with g.Session(device=noting) as session:
        call = session.prepare(decay(WIDE, g.zeros_like(WIDE[0])), [WIDE])
        call(shapes(2))
        built = noting.device._builder.built
        for count, width in ((0, 4), (3, 17), (50, 100)):
            assert call(shapes(count, width)).shape == (count, width)
        assert noting.device._builder.built == built


# ---------------------------------------------------------------------------- faults and checks


def test_an_index_out_of_range_inside_names_the_line(noting: Noting) -> None:
    at = g.placeholder("int64", ["n"])
    total = g.scan(lambda i, s: s + X[i], at, 0.0)  # here
    with g.Session(device=noting) as session:
        for _ in range(2):
            rule = r"index 4 is out of range for axis 0 of size 4(.|\n)*test_opencl_loops.py:\d+"
            with pytest.raises(g.ShapeError, match=rule):
                session.run(total, {X: np.ones(4), at: [0, 4, 1]})
        assert session.run(total[-1], {X: np.ones(4), at: [0, 3]}) == 2.0
    assert counts(noting) == (1, 0)


@pytest.mark.parametrize("width", [0, 4, 80])
def test_an_index_out_of_range_ends_a_loop_that_waits_for_it(noting: Noting, width: int) -> None:
    grow = lambda i, h: (i + 1, h @ g.ones([width, width]) if width else h)  # noqa: E731
    loop = g.while_loop(lambda i, h: X[i] < 5.0, grow, (0, g.ones([width])))
    with g.Session(device=noting) as session:
        with pytest.raises(g.ShapeError, match="index 3 is out of range for axis 0 of size 3"):
            session.run(loop, {X: np.ones(3)})
        assert session.run(loop, {X: [1, 1, 7]})[0] == 2


def test_the_side_not_taken_reads_nothing(noting: Noting) -> None:
    step = lambda i, s: (i + 1, g.ifelse(i < g.shape(X)[0], lambda: s + X[i], lambda: s - 1.0))  # noqa: E731
    total = repeated(step, [g.constant(0), g.constant(0.0)])[1]
    with g.Session(device=noting) as session:
        np.testing.assert_array_equal(session.run(total, {X: [3, 4], K: 4}), [3, 7, 6, 5])
    assert counts(noting) == (0, 1)


def test_no_steps_read_nothing(noting: Noting) -> None:
    loop = g.while_loop(lambda i, s: i < K, lambda i, s: (i + 1, s + X[i]), (9, 0.0))
    with g.Session(device=noting) as session:
        assert session.run(loop, {X: [1.0], K: 9}) == (9, 0.0)
        with pytest.raises(g.ShapeError, match="index 9 is out of range for axis 0 of size 1"):
            session.run(loop, {X: [1.0], K: 10})
    assert counts(noting) == (1, 0)


@pytest.mark.parametrize("start", [0.0, g.zeros([8])], ids=["number", "array"])
def test_a_nan_inside_is_named(device: OpenclDevice, start: Any) -> None:
    loop = g.scan(lambda r, s: s + g.sqrt(r), X, start)
    with g.Session(device=device, check="nan") as session:
        assert np.isfinite(session.run(loop, {X: [1, 4]})).all()
        with pytest.raises(g.NumericsError, match=r"sqrt: made 1 NaN(.|\n)*in step 1 of the loop"):
            session.run(loop, {X: [1, -1, 4]})


def test_a_profile_says_what_is_inside_of_a_launch(device: OpenclDevice) -> None:
    with g.Session(device=device) as session:
        profile = session.profile(collatz(K), {K: 27})
    [row] = [row for row in profile.rows if row.op == "loop"]
    assert row.times == 111 and row.seconds > 0 and "test_opencl_loops.py" in row.where
    assert {inner.times for inner in row.inside} == {111}
    assert not any(inner.timed for inner in row.inside)


# ---------------------------------------------------------------------------- arrays as a whole


def mirror(width: int) -> Any:
    """A matrix that turns a vector around, and halves it."""
    return np.eye(width, dtype=np.float32)[::-1] * np.float32(0.5)


def guarded(width: int, least: float) -> Any:
    """A product, again and again, until it is small."""
    small = lambda h, k: g.sum(h) > least  # noqa: E731
    return g.while_loop(small, lambda h, k: (h @ mirror(width), k + 1), (g.ones([width]), 0))


def numbered(width: int) -> Any:
    """Steps that know which they are."""
    step = lambda i, h: (i + 1, h @ mirror(width) + (i % 7).astype("float32"))  # noqa: E731
    return repeated(step, [g.constant(0), g.ones([width])])[1][-1]


def products(width: int) -> Any:
    """Steps that need all of a state."""
    return repeated(lambda h: g.tanh(h @ mirror(width)) + 1.0, g.ones([width]))


def turned(width: int) -> Any:
    """Steps that read a state elsewhere, and not in one order."""
    step = lambda h: g.concatenate([h[1:], h[:1] * 0.5])  # noqa: E731
    return repeated(lambda h: step(h) + g.sum(h @ mirror(width)) * 0.01, g.ones([width]))[-1]


WIDTHS = {"little": 4, "much": 80}
AGAIN: dict[str, tuple[Callable[[int], Any], Any]] = {
    "products": (products, {K: 9}),
    "one step": (products, {K: 1}),
    "no steps": (lambda width: products(width)[-1:], {K: 0}),
    "neighbours": (turned, {K: 7}),
    "many steps, numbered": (numbered, {K: 2100}),
    "a guard": (lambda width: guarded(width, 0.01), {}),
    "a guard that is false": (lambda width: guarded(width, 99.0), {}),
}  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", AGAIN)
def test_steps_of_little_work_are_one_launch_and_others_are_walked(
    noting: Noting, name: str, width: str
) -> None:
    make, feeds = AGAIN[name]
    agree(noting, make(WIDTHS[width]), feeds, 2e-6)
    assert counts(noting) == ((1, 0) if width == "little" else (0, 1))


def attention(row: Any, s: Any) -> Any:
    """Several kernels, and reductions that many points share."""
    weights = g.nn.softmax(s + row)
    return [g.sum(weights * s) + row * weights, g.argmax(weights), weights > 0.2]


LITTLE: dict[str, tuple[Callable[[], Any], Any]] = {
    "several kernels": (
        lambda: g.scan(attention, ROWS, [g.zeros([8]), None, None]), {ROWS: shapes(6, 8)}
    ),
    "until": (
        lambda: g.scan(
            lambda row, s: (s[::-1] * 0.5 + row, g.until(g.sum(s) > 3.0)), ROWS, g.ones([8])
        ),
        {ROWS: shapes(20, 8)},
    ),
    "backwards": (
        lambda: g.scan(lambda row, s: s[::-1] * 0.5 + row, ROWS, g.ones([8]), go_backwards=True),
        {ROWS: shapes(5, 8)},
    ),
    "int64 and bool": (
        lambda: repeated(
            lambda s, b: [g.sum(s) * 3 - s, g.logical_xor(b, s[::-1] % 2 > 0)],
            [g.constant([1, 2, 5]), g.constant([True, False, True])],
        ),
        {K: 60},
    ),
    "bytes": (
        lambda: repeated(lambda s: s[::-1] * 3 + 1, g.constant([1, 2, 5], "int8")), {K: 7}
    ),
    "rows of taps": (
        lambda: g.scan(
            lambda row, third, first: g.sum(third) * 0.1 + first[::-1] * 0.5 + row,
            ROWS, {"initial": np.ones((3, 8), np.float32), "taps": [-3, -1]},
        ),
        {ROWS: shapes(7, 8)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LITTLE)
def test_a_loop_over_small_arrays_is_one_launch(noting: Noting, name: str) -> None:
    make, feeds = LITTLE[name]
    agree(noting, make(), feeds, 1e-6)
    assert counts(noting) == (1, 0)


def test_an_index_out_of_range_of_a_small_state_is_an_error(noting: Noting) -> None:
    picked = repeated(lambda s, i: [s + s[i] + g.sum(s), i + 1], [g.ones([3]), g.constant(0)])[0]
    with g.Session(device=noting) as session:
        assert session.run(picked, {K: 3}).shape == (3, 3)
        with pytest.raises(g.ShapeError, match="index 3 is out of range for axis 0 of size 3"):
            session.run(picked, {K: 4})
    assert counts(noting) == (1, 0)


def test_a_walk_of_many_lengths(noting: Noting) -> None:
    wide = g.placeholder("float32", ["time", 80])
    weights = np.full((80, 80), 0.01, np.float32)
    hidden = g.scan(lambda row, h: g.tanh(h @ weights + row), wide, g.zeros([80]))
    with g.Session(device=noting) as session, g.Session() as cpu:
        for count in (3, 1, 0, 1500, 2):
            got, want = (s.run(hidden, {wide: shapes(count, 80)}) for s in (session, cpu))
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert counts(noting) == (0, 1)


@pytest.mark.parametrize("kind", ["a branch", "a loop"])
def test_an_extremum_of_nothing_that_no_run_comes_to_is_none(noting: Noting, kind: str) -> None:
    if kind == "a loop":
        out = g.scan(lambda s: g.max(WIDE * s[0], 1)[:1], outputs_info=g.ones([1]), n_steps=K)
    else:
        out = g.ifelse(K > 0, lambda: g.max(WIDE, 1), lambda: g.sum(WIDE, 1))
    empty = np.zeros((1, 0), np.float32)
    with g.Session(device=noting) as session:
        session.run(out, {WIDE: empty, K: 0})
        for _ in range(2):
            with pytest.raises(g.ShapeError, match="max of no elements has no value"):
                session.run(out, {WIDE: empty, K: 1})
        assert session.run(out, {WIDE: np.ones((1, 2)), K: 1}).size == 1
