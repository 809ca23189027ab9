"""Quick kernels of the OpenCL device: tiles of products, rows, columns, trees and sections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.collapse import collapse
from graphc.contractions import match as match_product
from graphc.dims import Dim, Dimension, Symbol, evaluate
from graphc.dtypes import DType, bool_, float16, float32, float64, int32, int64, uint8
from graphc.kernel import Buffer, Kernel, Source, Store, along, axes_over, cast, read, reduce, wide
from graphc.runtime.opencl import rows, tiles, tuning
from graphc.runtime.opencl.blocks import Blocks
from graphc.runtime.opencl.building import Builder
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.panels import Panels
from graphc.runtime.opencl.products import apart
from graphc.runtime.opencl.reductions import sections
from graphc.runtime.opencl.routine import Routine
from graphc.runtime.opencl.source import points
from graphc.runtime.opencl.stages import Stage
from graphc.runtime.opencl.terms import stored_terms
from graphc.scalar import Scalar, apply, primitive
from graphc.types import TensorType
from tests.opencl_support import Memory, here, queue, results

PANELS = Panels(4, 2, 8, 16, 32, 16)
BLOCKS = Blocks(8, 8, 4, 4, 8)
TILES = {"panels": PANELS, "blocks": BLOCKS}
SPELLINGS = ("nn", "nt", "tn", "tt")
GENERATOR = np.random.default_rng(5)


def buffer(shape: Sequence[Dimension], dtype: DType = float32, name: str = "x") -> Buffer:
    return Buffer(TensorType(dtype, tuple(shape)), name)


def operand(shape: Sequence[Dimension], dtype: DType, turned: bool) -> tuple[Buffer, Any]:
    """A matrix, perhaps stored transposed, and its element."""
    made = buffer(shape[::-1] if turned else shape, dtype)
    source = read(made)
    return made, (lambda i, j: source(j, i)) if turned else source


Epilogue = Callable[[Scalar, Scalar, Scalar, Any], list[Scalar]]


def plain(total: Scalar, row: Scalar, column: Scalar, bias: Source) -> list[Scalar]:
    return [total]


def biased(total: Scalar, row: Scalar, column: Scalar, bias: Source) -> list[Scalar]:
    return [apply("maximum", total + bias(column), 0.0), total * total]


def placed(total: Scalar, row: Scalar, column: Scalar, bias: Source) -> list[Scalar]:
    return [apply("select", row < column, total, apply("exp", -(total * total)))]


def product(
    sizes: Sequence[Dimension], spelling: str, dtype: DType = float32, epilogue: Epilogue = plain
) -> tuple[Kernel, list[Buffer]]:
    """A product of matrices with something done to it, and what it reads."""
    m, k, n = sizes
    a, x = operand((m, k), dtype, spelling[0] == "t")
    b, y = operand((k, n), dtype, spelling[1] == "t")
    bias = buffer((n,), dtype)
    axes, (i, j) = axes_over((m, n))
    total = reduce("sum", (k,), lambda r: x(i, r) * y(r, j))
    values = epilogue(total, i, j, read(bias))
    stores = tuple(Store(buffer((m, n), dtype, "y"), (i, j), value) for value in values)
    return Kernel("product", axes, stores), [a, b, bias]


def filled(buffers: Sequence[Buffer], sizes: dict[Symbol, int] | None = None) -> dict[Any, Any]:
    found = {}
    for each in buffers:
        shape = [evaluate(size, sizes or {}) for size in each.type.shape or ()]
        found[each] = GENERATOR.standard_normal(shape).astype(each.type.dtype.numpy)
    return found


def routine(kernel: Kernel, tile: Panels | Blocks) -> Routine:
    found = match_product(collapse(kernel))
    assert found is not None
    return tiles.compile_product(found, tile, here())


def agree(found: Sequence[Any], wanted: Sequence[Any], dtype: DType, terms: int = 1) -> None:
    """Within the bound of a sum of so many terms around 1."""
    for one, other in zip(found, wanted, strict=True):
        scale = np.finfo(dtype.numpy).eps * (4 + terms)
        np.testing.assert_allclose(one, other, rtol=scale * 4, atol=scale * 8)


def needs_double(dtype: DType) -> None:
    if dtype is float64 and not here().fp64:
        pytest.skip("the device has no float64")


# ---------------------------------------------------------------------------- products


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_sizes_around_a_tile(tile: str, spelling: str, dtype: DType) -> None:
    """One text serves all of these sizes: they are arguments."""
    needs_double(dtype)
    m, k, n = symbols("mkn")
    kernel, buffers = product((m, k, n), spelling, dtype)
    made = routine(kernel, TILES[tile])
    for values in [
        (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (2, 5, 1), (1, 7, 9), (15, 15, 31),
        (16, 16, 32), (17, 17, 33), (33, 31, 65), (7, 100, 40),
    ]:  # fmt: skip
        sizes = dict(zip([symbol(d) for d in (m, k, n)], values, strict=True))
        found, wanted = results([made], kernel, filled(buffers, sizes), sizes)
        agree(found, wanted, dtype, values[1])


def symbols(names: str) -> list[Dim]:
    """Sizes that a run brings."""
    return [Dim.symbol(name) for name in names]


def symbol(dimension: Dimension) -> Symbol:
    assert isinstance(dimension, Dim)
    (found,) = dimension.symbols()
    return found


@pytest.mark.parametrize("epilogue", [biased, placed])
@pytest.mark.parametrize("tile", TILES)
def test_epilogues(tile: str, epilogue: Epilogue) -> None:
    kernel, buffers = product((37, 50, 45), "nn", float32, epilogue)
    found, wanted = results([routine(kernel, TILES[tile])], kernel, filled(buffers))
    assert len(found) == len(kernel.stores)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tile", TILES)
def test_batches(tile: str) -> None:
    x, y, z = buffer((3, 20, 9)), buffer((3, 9, 33)), buffer((3, 20, 33))
    axes, (b, i, j) = axes_over((3, 20, 33))
    total = reduce("sum", (9,), lambda r: read(x)(b, i, r) * read(y)(b, r, j))
    kernel = Kernel("batches", axes, (Store(z, (b, i, j), total),))
    agree(*results([routine(kernel, TILES[tile])], kernel, filled([x, y])), float32, 9)


@pytest.mark.parametrize("tile", TILES)
def test_windows(tile: str) -> None:
    """A convolution: three axes of rows, three of sums, and neither operand is a matrix."""
    x, w, y = buffer((2, 9, 10, 3)), buffer((2, 3, 3, 17)), buffer((2, 8, 8, 17))
    axes, (b, p, q, c) = axes_over((2, 8, 8, 17))
    total = reduce(
        "sum", (2, 3, 3), lambda i, j, k: read(x)(b, p + i, q + j, k) * read(w)(i, j, k, c)
    )
    kernel = Kernel("windows", axes, (Store(y, (b, p, q, c), total),))
    agree(*results([routine(kernel, TILES[tile])], kernel, filled([x, w])), float32, 18)


@pytest.mark.parametrize("tile", TILES)
def test_results_that_lie_across(tile: str) -> None:
    """The columns of the result are not neighbours in memory."""
    a, b, c = buffer((20, 30)), buffer((30, 40)), buffer((40, 20))
    axes, (j, i) = axes_over((40, 20))
    total = reduce("sum", (30,), lambda r: read(a)(i, r) * read(b)(r, j))
    kernel = Kernel("across", axes, (Store(c, (j, i), total),))
    agree(*results([routine(kernel, TILES[tile])], kernel, filled([a, b])), float32, 30)


def test_values_that_are_no_numbers_stay_in_their_rows() -> None:
    kernel, buffers = product((19, 21, 35), "nn")
    values = filled(buffers)
    values[buffers[0]][18, 20] = np.nan
    values[buffers[1]][3, 34] = np.inf
    for tile in TILES.values():
        (found,), (wanted,) = results([routine(kernel, tile)], kernel, values)
        assert np.array_equal(np.isfinite(found), np.isfinite(wanted))


def test_every_candidate_is_right() -> None:
    """Those of this device, of devices with other vectors, and of many threads."""
    kernel, buffers = product((150, 70, 130), "nt")
    values = filled(buffers)
    for kind, width in (("cpu", 16), ("cpu", 8), ("cpu", 4), ("gpu", 1)):
        device = here().without(type=kind, vector_width=width)
        found = tiles.candidates(device, float32)
        assert found
        for tile in dict.fromkeys([*found[:2], found[-1]]):
            agree(*results([routine(kernel, tile)], kernel, values), float32, 70)


def test_candidates_fit() -> None:
    small = here().without(local_memory=32_768, work_group=64)
    for kind in ("cpu", "gpu"):
        found = tiles.candidates(small.without(type=kind), float64)
        assert found
        assert all(tile.local_memory(8) <= 32_768 and tile.group <= 64 for tile in found)
    assert not tiles.candidates(here().without(local_memory=1), float32)


def test_blocks_are_even() -> None:
    for tile in tiles.candidates(here().without(type="gpu"), float32):
        assert isinstance(tile, Blocks) and tile.is_even()


def test_products_of_equal_form_are_one_text() -> None:
    """Known sizes are arguments too: a network's layers are compiled once."""
    made = [routine(product(sizes, "nn")[0], PANELS) for sizes in ((40, 50, 60), (80, 30, 70))]
    assert made[0].code == made[1].code
    assert made[0].sizes != made[1].sizes


@pytest.mark.parametrize(
    ("sizes", "yes"), [((64, 64, 64), True), ((2, 64, 64), False), ((64, 3, 64), False)]
)
def test_what_pays(sizes: Sequence[int], yes: bool) -> None:
    kernel, _ = product(sizes, "nn")
    assert (tiles.match(collapse(kernel), here()) is not None) is yes


def test_tiles_are_many_enough_for_all_units() -> None:
    """Of a size that one tile would hold."""
    kernel, _ = product((128, 64, 384), "nn")
    made = tiles.match(collapse(kernel), here().without(type="cpu", compute_units=8))
    assert made is not None
    assert evaluate(made.items[0], {}) // made.group[0] >= 4


# ---------------------------------------------------------------------------- beside products


def whole(kernels: Sequence[Kernel]) -> list[Routine]:
    found: list[Routine] = []
    for each in kernels:
        quick = tiles.match(each, here())
        found += points(each, here()) if quick is None else [quick]
    return found


def bent(total: Scalar, row: Scalar, column: Scalar, bias: Source) -> list[Scalar]:
    return [apply("erf", total + bias(column)) * total, apply("log", total * total + 1.0)]


def test_slow_functions_have_a_kernel_of_their_own() -> None:
    kernel, buffers = product((40, 30, 50), "nn", float32, bent)
    steps = apart(collapse(kernel), like("cpu"))
    assert [len(step.stores) for step in steps] == [1, 2]
    assert len(apart(collapse(kernel), like("gpu"))) == 1
    found, wanted = results(whole(steps), kernel, filled(buffers))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_half_precision_is_copied_first() -> None:
    a, b, c = (buffer(shape, float16) for shape in ((33, 40), (40, 50), (33, 50)))
    axes, (i, j) = axes_over((33, 50))
    total = reduce(
        "sum", (40,), lambda k: wide(read(a)(i, k), float16) * wide(read(b)(k, j), float16)
    )
    kernel = Kernel("half", axes, (Store(c, (i, j), cast(total, float16)),))
    steps = apart(collapse(kernel), here())
    assert len(steps) == 3
    (found,), (wanted,) = results(whole(steps), kernel, filled([a, b]))
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)


def test_what_is_best_whole_stays_so() -> None:
    for kernel in (
        product((40, 30, 50), "nn", float32, biased)[0],
        reduction((9, 9), (1,), "sum")[0],
    ):
        assert len(apart(collapse(kernel), here())) == 1


def test_tuning_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large products alone ask for it, and the answer is on disk for the next process."""
    monkeypatch.setenv("GRAPHC_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "SIZE", 64)
    monkeypatch.setattr(tuning, "LEAST_WORK", 1_000)
    small, large = (
        match_product(collapse(product(sizes, "nn")[0])) for sizes in ((8, 8, 8), (32, 32, 32))
    )
    assert small is not None and large is not None
    context, device = queue().context, queue().device
    builder = Builder(context, device, here())
    made = tuning.Tuning(context, device, builder, here())
    assert made(small) is None and builder.built == 0
    found = made(large)
    assert found in tiles.candidates(here(), float32) and builder.built > 0
    built = builder.built
    assert tuning.Tuning(context, device, builder, here())(large) == found
    assert builder.built == built
    monkeypatch.setenv("GRAPHC_CACHE", "off")
    assert tuning.Tuning(context, device, builder, here())(large) is None


# ---------------------------------------------------------------------------- rows and columns


def reduction(
    shape: Sequence[Dimension], axes: Sequence[int], kind: str, dtype: DType = float32,
    element: Callable[[Scalar], Any] = lambda x: x, initial: Any = None,
) -> tuple[Kernel, Buffer]:  # fmt: skip
    x = buffer(shape, dtype)
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    outer, index = axes_over(kept)
    value = along(kind, index, read(x), axes, False, element, initial)
    result = bool_ if kind in ("any", "all") else dtype
    return collapse(Kernel("reduction", outer, (Store(buffer(kept, result), index, value),))), x


def values_of(x: Buffer, sizes: dict[Symbol, int] | None = None) -> Any:
    shape = [evaluate(size, sizes or {}) for size in x.type.shape or ()]
    if x.type.dtype.is_float:
        return GENERATOR.standard_normal(shape).astype(x.type.dtype.numpy)
    return GENERATOR.integers(0, 3, shape).astype(x.type.dtype.numpy)


def like(kind: str) -> Capabilities:
    return here().without(type=kind)


SHAPES = [
    ((300,), (0,)), ((7, 1000), (1,)), ((100, 33), (0,)), ((3, 70, 65), (1,)), ((4, 5, 36), (0, 2)),
    ((9, 17, 65), (0, 1)), ((0, 40), (1,)), ((2, 31), (0, 1)), ((130, 1), (0,)), ((40, 64), (1,)),
]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("dtype", [float32, float64, float16, int32, uint8], ids=str)
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
def test_reductions(kind: str, dtype: DType, device: str) -> None:
    needs_double(dtype)
    found_any = False
    for shape, axes in SHAPES:
        kernel, x = reduction(shape, axes, kind, dtype)
        made = rows.match(kernel, like(device))
        if made is not None:
            found_any = True
            scale = 0.1 if kind == "prod" else 1.0
            value = values_of(x)
            value = (value * scale).astype(value.dtype) if dtype.is_float else value
            (found,), (wanted,) = results([made], kernel, {x: value})
            if not dtype.is_float:
                assert np.array_equal(found, wanted)
            else:
                eps = float(np.finfo(dtype.numpy).eps)
                np.testing.assert_allclose(found, wanted, rtol=40 * eps, atol=100 * eps)
    assert found_any


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("kind", ["any", "all"])
def test_logical_reductions(kind: str, device: str) -> None:
    for shape, axes in SHAPES:
        kernel, x = reduction(shape, axes, kind, bool_)
        made = rows.match(kernel, like(device))
        if made is not None:
            for value in (
                values_of(x) > 0,
                np.ones(x.type.shape, bool),
                np.zeros(x.type.shape, bool),
            ):
                (found,), (wanted,) = results([made], kernel, {x: value})
                assert np.array_equal(found, wanted)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_rows_of_any_length_are_one_text(device: str) -> None:
    m, n = symbols("mn")
    kernel, x = reduction((m, n), (1,), "sum")
    made = rows.match(kernel, like(device))
    assert made is not None
    for values in [(0, 3), (3, 0), (1, 1), (5, 15), (5, 16), (5, 17), (2, 5000), (300, 40)]:
        sizes = dict(zip([symbol(d) for d in (m, n)], values, strict=True))
        (found,), (wanted,) = results([made], kernel, {x: values_of(x, sizes)}, sizes)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_columns_of_any_length_are_one_text() -> None:
    m, n = symbols("mn")
    kernel, x = reduction((m, n), (0,), "sum")
    made = rows.match(kernel, like("cpu"))
    assert made is not None
    for values in [(0, 3), (3, 0), (1, 1), (63, 15), (64, 64), (65, 65), (2000, 3), (40, 300)]:
        sizes = dict(zip([symbol(d) for d in (m, n)], values, strict=True))
        (found,), (wanted,) = results([made], kernel, {x: values_of(x, sizes)}, sizes)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_what_is_made_of_reductions(device: str) -> None:
    """Two of them in one formula, of elements that are computed, with an initial value."""
    x, y = buffer((21, 80)), buffer((21,))
    (i,), (at,) = axes_over((21,))
    most = reduce("max", (80,), lambda k: read(x)(at, k), 0.5)
    total = reduce("sum", (80,), lambda k: apply("exp", read(x)(at, k)))
    kernel = Kernel("made", (i,), (Store(y, (at,), apply("log", total) + most),))
    made = rows.match(kernel, like(device))
    assert made is not None
    (found,), (wanted,) = results([made], kernel, filled([x]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_what_is_no_number_is_kept(device: str) -> None:
    for kind in ("sum", "max", "min"):
        kernel, x = reduction((9, 50), (1,), kind)
        made = rows.match(kernel, like(device))
        assert made is not None
        value = values_of(x)
        value[2, 49], value[4, 7], value[6] = np.nan, -np.inf, -0.0
        (found,), (wanted,) = results([made], kernel, {x: value})
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        assert np.isnan(found[2]) and not np.isnan(np.delete(found, 2)).any()


def test_long_sums_are_exact_enough() -> None:
    """A million times 0.1 in float32; plain addition would be wrong in the third digit."""
    kernel, x = reduction((1_000_000,), (0,), "sum")
    for device in ("cpu", "gpu"):
        made = [
            rows.match(part.kernel, like(device)) or points(part.kernel, like(device))[0]
            for part in sections(Stage(kernel), like(device))
        ]
        memory = Memory()
        memory.put(x, np.full(1_000_000, 0.1, np.float32))
        for each in made:
            memory.launcher(each)()
        found = float(memory.get(kernel.stores[0].buffer))
        assert abs(found / (1_000_000 * float(np.float32(0.1))) - 1) < 1e-5


def test_slow_terms_are_stored_first() -> None:
    kernel, x = reduction((40, 90), (1,), "sum", float32, lambda x: apply("log", x * x + 1.0))
    parts = stored_terms(Stage(kernel), like("cpu"))
    assert len(parts) == 2
    (found,), (wanted,) = results(whole([part.kernel for part in parts]), kernel, filled([x]))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for device, element in (("gpu", "log"), ("cpu", "exp")):
        stage = Stage(reduction((40, 90), (1,), "sum", float32, primitive(element))[0])
        assert stored_terms(stage, like(device)) == [stage]


def test_terms_that_are_more_than_their_arrays_are_not_stored() -> None:
    x, y, z = buffer((50,)), buffer((60,)), buffer((50,))
    (i,), (at,) = axes_over((50,))
    total = reduce("sum", (60,), lambda k: apply("log", read(x)(at) * read(y)(k)))
    stage = Stage(Kernel("outer", (i,), (Store(z, (at,), total),)))
    assert stored_terms(stage, like("cpu")) == [stage]


# ---------------------------------------------------------------------------- sections


def in_sections(kernel: Kernel, device: Capabilities) -> list[Routine]:
    parts = sections(Stage(kernel), device)
    assert len(parts) > 1
    found: list[Routine] = []
    for part in parts:
        quick = rows.match(part.kernel, device)
        found += points(part.kernel, device) if quick is None else [quick]
    return found


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("sum", float32), ("sum", int64), ("prod", int32), ("max", float32), ("min", int32),
     ("any", bool_), ("all", bool_)],
)  # fmt: skip
def test_sections(kind: str, dtype: DType, device: str) -> None:
    for shape, axes in [
        ((20_000,), (0,)),
        ((3000, 3), (0,)),
        ((2, 5001), (1,)),
        ((70, 3, 80), (0, 2)),
    ]:
        kernel, x = reduction(shape, axes, kind, dtype)
        value = values_of(x)
        (found,), (wanted,) = results(in_sections(kernel, like(device)), kernel, {x: value})
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["sum", "max"])
def test_sections_of_any_length(kind: str) -> None:
    (n,) = symbols("n")
    kernel, x = reduction((n,), (0,), kind)
    made = in_sections(kernel, here())
    for length in (1, 2, 15, 16, 17, 33, 1000, 4097):
        sizes = {symbol(n): length}
        (found,), (wanted,) = results(made, kernel, {x: values_of(x, sizes)}, sizes)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_few_terms_are_not_cut() -> None:
    for shape, axes in [((100,), (0,)), ((5000, 8), (1,)), ((10, 20), (0,))]:
        stage = Stage(reduction(shape, axes, "sum")[0])
        assert sections(stage, here()) == [stage]


def test_equal_runs_give_equal_bits() -> None:
    kernel, x = reduction((50_000,), (0,), "sum")
    made, value = in_sections(kernel, here()), GENERATOR.standard_normal(50_000)
    runs = [results(made, kernel, {x: value})[0][0] for _ in range(3)]
    assert len({run.tobytes() for run in runs}) == 1
