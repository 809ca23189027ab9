"""Convolutions without padding, strides of gradients and groups: the same values, affine reads."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graphc.affine import place
from graphc.graph import Graph, Tensor
from graphc.kernel import Kernel
from graphc.lower import expanded, lower
from graphc.nn import conv2d, conv2d_transpose, depthwise_conv2d
from graphc.ops.gradient import gradients
from graphc.ops.source import placeholder
from graphc.plan import Call
from graphc.runtime.device import Environment
from graphc.runtime.interp.device import InterpProgram
from graphc.runtime.reference.device import ReferenceDevice
from graphc.scalar import walk
from graphc.verify import verify
from tests.support import ENTROPY_WORDS, Compiled, generator

Array = Any
PRODUCTS = ("conv2d", "conv2d_filter_gradient", "grouped_conv2d", "grouped_filter_gradient")

GEOMETRY = list(
    itertools.product(
        ((1, 1), (2, 1), (3, 2)),  # strides
        ("VALID", "SAME", ((0, 1), (3, 0))),
        ((1, 1), (1, 2), (3, 1)),  # dilations
        (1, 2, 4),  # groups
        ((3, 2), (1, 1), (2, 4)),  # the filters
    )
)
TABLE = [case for i, case in enumerate(GEOMETRY) if i % 3 == sum(map(ord, str(case))) % 3]


def drawn(*shapes: tuple[int, ...]) -> list[Array]:
    rng = generator("windows", shapes)
    return [rng.uniform(-1, 1, shape) for shape in shapes]


def model(x: Tensor, f: Tensor, *attrs: Any, orders: int) -> list[Tensor]:
    """A convolution, and its derivatives of some orders."""
    strides, padding, dilations, groups = attrs
    y = conv2d(x, f, strides, padding, dilations, groups=groups)
    fetches, value = [y], (y * y * y).sum()
    for _ in range(orders):
        found = gradients(value, [x, f])
        fetches += found
        value = sum((d * d).sum() for d in found)  # type: ignore[assignment]  # tensors add up
    return fetches


def close(got: Array, want: Array) -> None:
    """Equal up to sums in another order."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    scale = np.abs(want[np.isfinite(want)]).max(initial=1.0)
    np.testing.assert_allclose(got / scale, want / scale, rtol=0, atol=1e-11)


def agree(fetches: Sequence[Tensor], feeds: Mapping[Tensor, Array]) -> Graph:
    """The graph as kernels are made of it; its values, by oracles and kernels, are as before."""
    arrays = list(feeds.values())
    plain = Compiled.of(fetches, list(feeds), [array.shape for array in arrays])
    normal = expanded(plain.graph)
    verify(normal)
    environment = Environment(plain.sizes, {}, ENTROPY_WORDS)
    by_oracles = ReferenceDevice().compile(normal).run(arrays, environment)
    by_kernels = InterpProgram(plain.graph).run(arrays, environment)
    for want, *others in zip(plain(*arrays), by_oracles, by_kernels, strict=True):
        for got in others:
            close(np.asarray(got), want)
    for tensor, root in zip(plain.graph.roots, normal.roots, strict=True):
        assert root.type == tensor.type  # sizes are spelled as before
    return normal


def plain_reads(kernel: Kernel) -> None:
    """Every read of the sum of products is inside its buffer, and affine."""
    found = 0
    for formula in walk(*(store.value for store in kernel.stores)):
        if formula.primitive == "read":
            buffer, outside = formula.value
            assert outside is None, f"{kernel.name} reads around {buffer}"
            assert place(formula.operands, buffer.type.shape) is not None, f"{kernel.name}"
            found += 1
    assert found == 2


def products_are_plain(graph: Graph) -> int:
    """How many sums of products a graph has, all of which are plain."""
    kernels = [step.kernel for step in lower(graph, fused=False).steps if isinstance(step, Call)]
    products = [kernel for kernel in kernels if kernel.name in PRODUCTS]
    assert "conv2d_input_gradient" not in {kernel.name for kernel in kernels}
    for kernel in products:
        plain_reads(kernel)
    return len(products)


@pytest.mark.parametrize("sizes", ["static", "batch", "all"])
@pytest.mark.parametrize(("strides", "padding", "dilations", "groups", "kernel"), TABLE)
def test_values_stay_and_reads_are_plain(
    strides: Any, padding: Any, dilations: Any, groups: int, kernel: Any, sizes: str
) -> None:
    x, f = drawn((2, 9, 8, 4), (*kernel, 4 // groups, 4))
    declared = {"static": x.shape, "batch": ["n", 9, 8, 4], "all": ["n", "h", "w", 4]}[sizes]
    images, filters = placeholder("float64", declared), placeholder("float64", f.shape)
    fetches = model(images, filters, strides, padding, dilations, groups, orders=1)
    normal = agree(fetches, {images: x, filters: f})
    assert products_are_plain(normal) >= 3


SECOND = [case for i, case in enumerate(TABLE) if i % 8 == 0]


@pytest.mark.parametrize(("strides", "padding", "dilations", "groups", "kernel"), SECOND)
def test_second_derivatives(
    strides: Any, padding: Any, dilations: Any, groups: int, kernel: Any
) -> None:
    x, f = drawn((2, 9, 8, 4), (*kernel, 4 // groups, 4))
    images, filters = placeholder("float64", ["n", "h", "w", 4]), placeholder("float64", f.shape)
    fetches = model(images, filters, strides, padding, dilations, groups, orders=2)
    assert products_are_plain(agree(fetches, {images: x, filters: f})) >= 5


@pytest.mark.parametrize(("strides", "padding", "dilations", "groups", "kernel"), SECOND)
def test_the_general_formulas_mean_the_same(
    strides: Any, padding: Any, dilations: Any, groups: int, kernel: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What is left out by GRAPHC_SKIP, or cannot be normalised, runs as it is."""
    monkeypatch.setenv("GRAPHC_SKIP", "normalise_windows")
    x, f = drawn((2, 9, 8, 4), (*kernel, 4 // groups, 4))
    images, filters = placeholder("float64", ["n", "h", "w", 4]), placeholder("float64", f.shape)
    fetches = model(images, filters, strides, padding, dilations, groups, orders=1)
    normal = agree(fetches, {images: x, filters: f})
    assert "conv2d_input_gradient" in {node.op.name for node in normal.nodes}


@pytest.mark.parametrize("sizes", ["static", "all"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("strides", [1, 2, (3, 1)])
@pytest.mark.parametrize("padding", ["VALID", "SAME", 1])
def test_transposed_and_depthwise(sizes: str, layout: str, strides: Any, padding: Any) -> None:
    x, f, d = drawn((2, 5, 4, 3), (4, 3, 2, 3), (3, 2, 3, 2))
    x = x if layout == "NHWC" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    declared: Any = {"NHWC": ["n", "h", "w", 3], "NCHW": ["n", 3, "h", "w"]}[layout]
    images = placeholder("float64", x.shape if sizes == "static" else declared)
    up = conv2d_transpose(images, f, strides, padding, data_format=layout)
    deep = depthwise_conv2d(images, d, strides, padding, data_format=layout)
    single = depthwise_conv2d(images, d[..., :1], strides, padding, data_format=layout)
    values = [up, deep, single]
    fetches = [*values, *(gradients((y * y).sum(), [images])[0] for y in values)]
    assert products_are_plain(agree(fetches, {images: x})) >= 6


def test_a_size_of_the_filters_that_is_not_known_stays() -> None:
    x, f = drawn((1, 5, 6, 2), (2, 3, 2, 2))
    images, filters = placeholder("float64", [None] * 4), placeholder("float64", [None] * 4)
    y = conv2d(images, filters, 2, "SAME")
    normal = agree([y, *gradients(y, [images, filters])], {images: x, filters: f})
    names = {node.op.name for node in normal.nodes}
    assert {"conv2d", "conv2d_input_gradient", "conv2d_filter_gradient"} <= names


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 0), (2, 1))])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
def test_one_program_for_every_size(padding: Any, kernel: Any, strides: Any) -> None:
    images, filters = (
        placeholder("float64", ["n", "h", "w", 2]),
        placeholder("float64", (*kernel, 2, 3)),
    )
    y = conv2d(images, filters, strides, padding)
    fetches = [y, *gradients((y * y).sum(), [images, filters])]
    plain = Compiled.of(fetches, [images, filters], [(2, 9, 8, 2), (*kernel, 2, 3)])
    program = ReferenceDevice().compile(expanded(plain.graph))
    for shape in ((2, 9, 8), (1, 4, 5), (3, 7, 12), (0, 6, 6)):
        sizes = dict(zip(plain.sizes, shape, strict=True))
        environment = Environment(sizes, {}, ENTROPY_WORDS)
        arrays = drawn((*shape, 2), (*kernel, 2, 3))
        want = plain.program.run(arrays, environment)
        for a, b in zip(program.run(arrays, environment), want, strict=True):
            close(np.asarray(a), b)


def test_images_are_put_inside_zeros_once() -> None:
    images, filters = placeholder("float32", ["n", 8, 8, 2]), placeholder("float32", (3, 3, 2, 4))
    y = conv2d(images, filters, padding="SAME")
    graph = expanded(Compiled.of([y, *gradients(y * y, [filters])]).graph)
    assert [node.op.name for node in graph.nodes].count("unslice") == 1


def test_an_image_of_no_size_stays() -> None:
    images, filters = placeholder("float32", (2, 0, 3, 1)), placeholder("float32", (2, 2, 1, 1))
    graph = Compiled.of([conv2d(images, filters, padding="SAME")]).graph
    assert [node.op.name for node in expanded(graph).nodes] == ["placeholder"] * 2 + ["conv2d"]


# ---------------------------------------------------------------------------- channels


def channel_steps(graph: Graph, name: str) -> list[Any]:
    """How far apart neighbours along the last axis lie, in each read of a kernel."""
    (kernel,) = (
        step.kernel
        for step in lower(graph, fused=False).steps
        if isinstance(step, Call) and step.kernel.name == name
    )
    found = []
    for formula in walk(*(store.value for store in kernel.stores)):
        if formula.primitive == "read":
            offset = place(formula.operands, formula.value[0].type.shape)
            assert offset is not None, f"{name} reads {formula.value[0]} anywhere"
            found.append(offset.step(kernel.axes[-1]))
    return found


def test_depthwise_reads_channels_side_by_side() -> None:
    images, filters = placeholder("float32", ["n", 8, 8, 6]), placeholder("float32", (3, 3, 6, 1))
    y = depthwise_conv2d(images, filters, padding="SAME", strides=2)
    by_image, by_filter = gradients(y * y, [images, filters])
    for fetch, name in ((y, "conv2d"), (by_filter, "conv2d_filter_gradient")):
        assert channel_steps(Compiled.of([fetch]).graph, name)[-2:] == [1, 1]
    assert products_are_plain(expanded(Compiled.of([by_image]).graph)) == 5
