"""Whole native programs against what ops mean: every op, every dtype, every layout of a feed.

One program holds many ops at once, so a table costs one compilation a dtype.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc as g
from graphc.dtypes import DTYPES, DType, bool_, float32, float64, int32, uint8, uint64
from graphc.graph import Graph, Op, Tensor
from graphc.ops import OPS
from graphc.ops.domain import Case
from graphc.passes.specialise import specialise
from graphc.runtime.cpu.device import CpuDevice
from graphc.runtime.cpu.program import CpuProgram
from graphc.runtime.cpu.target import host
from graphc.runtime.cpu.tile import Tile
from graphc.runtime.device import Environment
from tests.support import (
    ENTROPY_WORDS,
    SPELLINGS,
    Compiled,
    apply,
    assert_same,
    inputs_of,
    kinds,
    values,
)

DEVICE = CpuDevice()
SILENT = [op for op in OPS.values() if op.domain.cases and op.name != "print"]
WHOLE = (float32, int32, uint8, bool_)  # in the other dtypes, every third case
ENTROPY_IN = (uint64,)
ULPS = 4


@dataclass
class Batch:
    """Many applications, each fetched, and what is fed."""

    inputs: list[Tensor]
    arrays: list[Any]
    outputs: list[Tensor]
    made: list[tuple[Op, Case]]  # of each output

    @classmethod
    def of(cls, rows: Sequence[tuple[Op, Case]], draw: Callable[[Op, Case], list[Any]]) -> Batch:
        """Each row over what is drawn for it."""
        batch = cls([], [], [], [])
        for op, case in rows:
            arrays = draw(op, case)
            tensors = [SPELLINGS["static"](array) for array in arrays]
            outputs = apply(op, tensors, case.attrs)
            batch.inputs += tensors
            batch.arrays += arrays
            batch.outputs += outputs
            batch.made += [(op, case)] * len(outputs)
        return batch

    def graph(self) -> Graph:
        """The plain graph: no pass has hidden an op."""
        return specialise(Graph(tuple(self.outputs), (), tuple(self.inputs)))


def native(graph: Graph, arrays: Sequence[Any], sizes: Any = None) -> list[Any]:
    """The values of the roots, by the native device."""
    results = DEVICE.compile(graph).run(arrays, Environment(sizes or {}, {}, ENTROPY_WORDS))
    return [np.asarray(result) for result in results]


def described(op: Op, case: Case) -> str:
    return f"{op.name} of {[draw.shape for draw in case.draws]} {case.attrs}"


# ---------------------------------------------------------------------------- every op


def _rows(dtype: DType) -> list[tuple[Op, Case]]:
    step = 1 if dtype in WHOLE else 3
    return [
        row
        for op in SILENT
        if dtype in (ENTROPY_IN if op.name == "random_bits" else kinds(op))
        for row in itertools.product([op], op.domain.cases[::-step])
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_op_in_one_program(dtype: DType) -> None:
    batch = Batch.of(_rows(dtype), lambda op, case: inputs_of(op, case, dtype))
    graph = batch.graph()
    wanted = values(graph, batch.arrays, {})
    got = native(graph, batch.arrays)
    for a, b, row in zip(got, wanted, batch.made, strict=True):
        assert_same(a, b, described(*row), slack=ULPS)


POINTWISE = [op for op in SILENT if op.family == "pointwise"]
ZEROS_TIE = {"maximum", "minimum", "fmax", "fmin"}  # NumPy takes either; here 0.0 exceeds -0.0
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-39, -1e-39,
     1.1754944e-38, 3.4028235e38, -3.4028235e38, 16777217.0, -7.25, 88.7, -104.0],
)  # fmt: skip


def special(op: Op, case: Case, dtype: DType) -> list[Any]:
    """Each operand over every special value and numbers of all sizes; two operands, each pair."""
    count = len(case.draws)
    rng = np.random.default_rng(count)
    usual = rng.normal(size=30) * 10.0 ** rng.integers(-12, 12, 30)
    numbers = np.concatenate([SPECIAL, usual]).astype(dtype.numpy)
    pairs = [axis.ravel() for axis in np.meshgrid(numbers, numbers, indexing="ij")]
    columns = [*pairs, *(rng.permutation(pairs[0]) for _ in range(count - 2))][:count]
    booleans = [draw.kind == "bool" for draw in case.draws]
    return [c != 0 if boolean else c for c, boolean in zip(columns, booleans, strict=True)]


def close(got: Any, want: Any, exact: Any, what: str, ulps: int, zeros: bool) -> None:
    """Within some units in the last place; what is not finite, and signs, as they must be."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=what)
    signed = finite if zeros else finite & (want != 0)
    np.testing.assert_array_equal(np.signbit(got[signed]), np.signbit(want[signed]), err_msg=what)
    error = got.astype(np.float64) - exact.astype(np.float64)
    units = np.where(finite, np.abs(error) / np.spacing(np.abs(want)).astype(np.float64), 0)
    worst = int(np.argmax(units))
    assert units[worst] <= ulps, f"{what}: {units[worst]} ulp at element {worst}"


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_special_values_of_pointwise_ops(dtype: DType) -> None:
    rows = [(op, op.domain.cases[0]) for op in POINTWISE if "f" in op.domain.kinds]
    with np.errstate(all="ignore"):
        batch = Batch.of(rows, lambda op, case: special(op, case, dtype))
        graph = batch.graph()
        wanted = values(graph, batch.arrays, {})
        got = native(graph, batch.arrays)
        for a, b, (op, case) in zip(got, wanted, batch.made, strict=True):
            if b.dtype.kind != "f":
                np.testing.assert_array_equal(a, b, err_msg=op.name)
                continue
            wide = [x.astype(np.float64) if x.dtype.kind == "f" else x
                    for x in special(op, case, dtype)]  # fmt: skip
            exact = np.asarray(op.oracle(*wide, **case.attrs))
            close(a, b, exact, op.name, ULPS, op.name not in ZEROS_TIE)


def test_zeros_of_both_signs_have_an_order() -> None:
    x, y = g.placeholder("float32", [2]), g.placeholder("float32", [2])
    graph = Graph((g.maximum(x, y), g.minimum(x, y)), (), (x, y))
    most, least = native(graph, [np.float32([0.0, -0.0]), np.float32([-0.0, 0.0])])
    assert not np.signbit(most).any() and np.signbit(least).all()


# ---------------------------------------------------------------------------- layouts of feeds


def _unaligned(x: Any) -> Any:
    array = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    array[...] = x
    return array


def _read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "fortran": np.asfortranarray,
    "read-only": _read_only,
    "unaligned": _unaligned,
    "unaligned rows": lambda x: _unaligned(np.pad(x, ((0, 0), (1, 2))))[:, 1:-2],
    "stretched": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.fixture(scope="module")
def mixed() -> tuple[CpuProgram, Any]:
    """Kernels of all families and a call of the host, over float, whole and truth feeds."""
    x, w = g.placeholder("float32", (37, 19)), g.placeholder("float32", (19, 35))
    i, b = g.placeholder("int64", (37, 19)), g.placeholder("bool", (37, 19))
    half = g.placeholder("float16", (37, 19))
    image = g.reshape(x, (1, 37, 19, 1))
    fetches = (
        x @ w, g.nn.softmax(x), g.sum(x, 0), g.where(b, x, -x), g.take_along_axis(x, i, 1),
        g.sort(x), g.nn.max_pool2d(image, 2), g.cumsum(x), half @ w, g.argmax(x, 1), x, i, b,
    )  # fmt: skip
    inputs = (x, w, i, b, half)
    graph = specialise(Graph(fetches, (), inputs))
    return DEVICE.compile(graph), graph


@pytest.mark.parametrize("layout", LAYOUTS)
def test_feeds_of_any_layout(mixed: Any, layout: str) -> None:
    program, graph = mixed
    rng = np.random.default_rng(0)
    feeds = [
        rng.normal(size=(37, 19)).astype(np.float32), rng.normal(size=(19, 35)).astype(np.float32),
        rng.integers(-19, 19, (37, 19)), rng.random((37, 19)) < 0.5,
        rng.normal(size=(37, 19)).astype(np.float16),
    ]  # fmt: skip
    made = [LAYOUTS[layout](feed) for feed in feeds]
    kept = [np.array(feed) for feed in made]
    got = program.run(made, Environment({}, {}, ENTROPY_WORDS))
    for a, b in zip(got, values(graph, kept, {}), strict=True):
        assert_same(a, b, layout, slack=20)
    for feed, before in zip(made, kept, strict=True):
        np.testing.assert_array_equal(feed, before)
    with g.Session() as session:
        [again] = session.run([graph.roots[0]], dict(zip(graph.inputs, made, strict=True)))
    assert again.tobytes() == got[0].tobytes()


# ---------------------------------------------------------------------------- sizes of contractions


def _around(tile: int) -> list[int]:
    return [0, 1, tile - 1, tile, tile + 1]


def _agree(compiled: Compiled, program: Any, arrays: Sequence[Any], sizes: Any) -> None:
    """The native program and the oracles, whose sums may differ by the rounding of their terms."""
    environment = Environment(sizes, {}, ENTROPY_WORDS)
    got, wanted = program.run(arrays, environment), compiled.program.run(arrays, environment)
    for index, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert_same(np.asarray(a), np.asarray(b), f"{index} of {sizes}", slack=10)


def _sized(inputs: Sequence[Tensor], fetches: Sequence[Tensor]) -> Callable[..., None]:
    """A check of one program, compiled once, for arrays of any sizes."""
    compiled = Compiled.of(fetches, inputs, [(2,) * (x.ndim or 0) for x in inputs])
    program = DEVICE.compile(compiled.graph)

    def check(*shapes: tuple[int, ...]) -> None:
        sizes = {}
        for x, shape in zip(inputs, shapes, strict=True):
            for d, size in zip(x.shape or (), shape, strict=True):
                if not isinstance(d, int):
                    sizes[d.as_symbol()] = size
        rng = np.random.default_rng(sum(map(sum, shapes)))
        arrays = [
            rng.normal(size=shape).astype(x.dtype.numpy)
            for x, shape in zip(inputs, shapes, strict=True)
        ]
        _agree(compiled, program, arrays, sizes)

    return check


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_sizes_of_products_around_a_tile(dtype: DType) -> None:
    tile = Tile.of(host(), dtype.name)
    x, y = g.placeholder(dtype, ["m", "k"]), g.placeholder(dtype, ["k", "n"])
    turned, b = g.placeholder(dtype, ["n", "k"]), g.placeholder(dtype, ["n"])
    product = x @ y
    check = _sized([x, y, turned, b], [
        product, x @ g.transpose(turned), g.nn.relu(product + b), g.sum(product * b, 0),
        g.einsum("mk,kn->nm", x, y), g.tensordot(x, turned, [[1], [1]]),
        *g.gradients(g.sum(product * product), [x, y]),
    ])  # fmt: skip
    for m, k, n in itertools.product(_around(tile.rows), _around(tile.lanes), _around(tile.width)):
        check((m, k), (k, n), (n, k), (n,))


def test_sizes_of_batched_products() -> None:
    x, y = (
        g.placeholder("float32", ["b", "q", "h", "d"]),
        g.placeholder("float32", ["b", "k", "h", "d"]),
    )
    scores = g.einsum("bqhd,bkhd->bhqk", x, y)
    mixed = g.einsum("bhqk,bkhd->bqhd", g.nn.softmax(scores), y)
    check = _sized([x, y], [scores, mixed, *g.gradients(g.sum(mixed * mixed), [x, y])])
    tile = Tile.of(host(), "float32")
    sizes = _around(tile.rows), [1, tile.width, tile.width + 1], (0, 1, 3), (0, 1, tile.lanes + 1)
    for b, (q, k, h, d) in zip(itertools.cycle((2, 1, 0)), itertools.product(*sizes)):
        check((b, q, h, d), (b, k, h, d))


CONVOLUTIONS: list[dict[str, Any]] = [
    {"padding": "VALID"},
    {"padding": "SAME", "strides": 2},
    {"padding": "SAME", "dilations": 2},
    {"padding": ((1, 0), (2, 1)), "data_format": "NCHW"},
]


@pytest.mark.parametrize("attrs", CONVOLUTIONS, ids=str)
def test_sizes_of_convolutions(attrs: dict[str, Any]) -> None:
    first = attrs.get("data_format") == "NCHW"
    names = ["n", "c", "h", "w"] if first else ["n", "h", "w", "c"]
    x, w = g.placeholder("float32", names), g.placeholder("float32", [3, 2, "c", "o"])
    y = g.nn.conv2d(x, w, **attrs)
    check = _sized([x, w], [y, *g.gradients(g.sum(y * y), [x, w])])
    tile = Tile.of(host(), "float32")
    channels = _around(tile.lanes)
    outputs = _around(tile.width)
    for index, (c, o) in enumerate(itertools.product(channels, outputs)):
        n, h, width = (0, 1, 2)[index % 3], (5, 6, 9)[index % 3], (4, 7, 5)[index % 3]
        check((n, c, h, width) if first else (n, h, width, c), (3, 2, c, o))


# ---------------------------------------------------------------------------- what runs must refuse


def _vector(size: int) -> Any:
    return np.arange(size, dtype=np.float32)


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_an_element_that_is_not_there_is_an_error_with_its_line(device: str, size: int) -> None:
    x = g.placeholder("float32", [None])
    late, early = x[2] * 2.0, g.exp(x[-3])
    slope = g.gradients(x[2], x)
    with g.Session(device=device) as session:
        for fetch in (late, early, slope):
            session.run(fetch, {x: _vector(3)})
            with pytest.raises(g.ShapeError, match=r"slice: .*out of range(.|\n)*test_devices"):
                session.run(fetch, {x: _vector(size)})
            session.run(fetch, {x: _vector(5)})


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_bounds_of_slices_are_clamped(device: str) -> None:
    x = g.placeholder("float32", [None])
    fetches = [x[2:4], x[-3:-1], x[7::-2], g.pad(x, [[2, 3]])]
    with g.Session(device=device) as session:
        for size in (0, 1, 2, 3, 4, 9):
            fed = _vector(size)
            wanted = [fed[2:4], fed[-3:-1], fed[7::-2], np.pad(fed, (2, 3))]
            for a, b in zip(session.run(fetches, {x: fed}), wanted, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_a_window_that_fits_nowhere_is_an_error_with_its_line(device: str) -> None:
    x, w = g.placeholder("float32", [None] * 4), g.placeholder("float32", [5, 3, None, 2])
    fetches = [g.nn.conv2d(x, w), g.nn.max_pool2d(x, 5), g.nn.avg_pool2d(x, 5)]
    with g.Session(device=device) as session:
        for fetch in fetches:
            feeds = {x: np.ones((1, 5, 6, 1))}
            if fetch is fetches[0]:
                feeds[w] = np.ones((5, 3, 1, 2))
            session.run(fetch, feeds)
            for shape in ((1, 4, 6, 1), (2, 1, 6, 1)):
                with pytest.raises(g.ShapeError, match=r"window must fit(.|\n)*test_devices"):
                    session.run(fetch, feeds | {x: np.ones(shape)})


LOOKED_INTO: dict[str, tuple[int, Callable[[Any], Any]]] = {  # the axis, of size 5, and an operand
    "numbers": (0, lambda x: g.arange(5) * 2.0),
    "full": (0, lambda x: g.zeros([5])),
    "repeated": (0, lambda x: g.broadcast_to(x[0, 0], [5])),
    "repeated_rows": (1, lambda x: g.broadcast_to(x[0, :5], [3, 5])),
    "slice": (1, lambda x: x[:, :5]),
    "step": (1, lambda x: x[:, ::2]),
    "reshaped": (1, lambda x: x.reshape([4, 5])),
    "turned": (1, lambda x: x[:, 4::-1]),
    "transposed": (0, lambda x: x[:, :5].transpose([1, 0])),
    "computed": (1, lambda x: g.exp(x[:, :5])),
}


@pytest.mark.parametrize("device", ["reference", "interp", "cpu"])
@pytest.mark.parametrize("name", LOOKED_INTO)
def test_an_index_beyond_a_view_is_an_error(device: str, name: str) -> None:
    """Also where the array behind the view goes on, or no array is behind it at all."""
    axis, operand = LOOKED_INTO[name]
    x, at = g.placeholder("float32", [2, 10], "x"), g.placeholder("int64", [None], "at")
    array = np.arange(20, dtype=np.float32).reshape(2, 10)
    fetch, whole = g.take(operand(x), at, axis), operand(x)
    with g.Session(device=device) as session:
        known = session.run(whole, {x: array})
        fed = np.array([4, -5, 0])
        found = session.run(fetch, {x: array, at: fed})
        np.testing.assert_allclose(found, np.take(known, fed, axis), rtol=1e-6)
        for bad in (5, 7, -6):
            rule = rf"gather: .*out of range for axis {axis} of size 5(.|\n)*test_devices"
            with pytest.raises(g.ShapeError, match=rule):
                session.run(fetch, {x: array, at: np.array([0, bad])})


@pytest.mark.parametrize("device", ["reference", "interp", "cpu"])
def test_an_index_beyond_a_single_number_is_an_error(device: str) -> None:
    at = g.placeholder("int64", [None])
    fetch = g.take(g.constant(np.full(1, 7, np.float32)), at)
    with g.Session(device=device) as session:
        np.testing.assert_array_equal(session.run(fetch, {at: [0, -1]}), [7, 7])
        with pytest.raises(g.ShapeError, match="out of range for axis 0 of size 1"):
            session.run(fetch, {at: [0, 1]})


@pytest.mark.parametrize("device", ["reference", "interp", "cpu"])
def test_a_wrong_class_is_an_error_of_the_loss(device: str) -> None:
    """Its row is not stored: the loss is made again at the class, and must look at its bounds."""
    x, y = g.placeholder("float32", [None, 5], "x"), g.placeholder("int32", [None], "y")
    loss = g.mean(g.nn.sparse_softmax_cross_entropy_with_logits(y, x))
    for fetch in ([loss], [loss, *g.gradients(loss, [x])], g.gradients(loss, [x])):
        with g.Session(device=device) as session:
            array = np.ones((3, 5), np.float32)
            session.run(fetch, {x: array, y: [0, 4, 2]})
            for bad in (5, 9, -1):
                with pytest.raises(g.ShapeError, match=r"out of range for axis 1 of size 5"):
                    session.run(fetch, {x: array, y: [0, bad, 2]})
