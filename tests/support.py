"""What the tests share: inputs drawn from an op's domain, and a second way to run a graph.

`Compiled` runs optimised graphs on the reference device for feeds of given shapes, as a session
does. `values` is the plain meaning: oracle by oracle, holding every node's type against the array
that its oracle really gave.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.build import assuming, make
from graphc.dims import Dim, Symbol, evaluate
from graphc.dtypes import DTYPES, DType, bool_, float32, int64
from graphc.graph import Graph, Node, Op, Tensor
from graphc.ops.domain import Case, Draw
from graphc.ops.random import ENTROPY
from graphc.ops.source import placeholder
from graphc.passes import optimise
from graphc.runtime.device import Environment
from graphc.runtime.reference.device import ReferenceDevice, resolved
from graphc.types import Assumptions, TensorType

ENTROPY_WORDS = np.array([1, 0], np.uint64)


# ---------------------------------------------------------------------------- drawing inputs


def generator(*words: Any) -> np.random.Generator:
    """A generator that the words alone determine."""
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def kinds(op: Op) -> tuple[DType, ...]:
    """The dtypes that an op is tested in; one is enough for an op without operands."""
    listed = tuple(dtype for dtype in DTYPES if dtype.kind in op.domain.kinds)
    if not any(case.draws for case in op.domain.cases):
        return listed[:1] or (float32,)
    return listed


def drawn_dtype(draw: Draw, dtype: DType) -> DType:
    """The dtype of one input while `dtype` is under test."""
    if draw.kind == "int":
        return int64
    if draw.kind == "bool":
        return bool_
    if draw.kind == "float":
        return dtype if dtype.is_float else float32
    return dtype


def drawn(draw: Draw, dtype: DType, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """One input's values."""
    kept = drawn_dtype(draw, dtype)
    if draw.make is not None:
        return np.asarray(draw.make(rng, draw.shape)).astype(kept.numpy)
    if kept is bool_:
        return rng.integers(0, 2, draw.shape).astype(bool)
    if kept.is_float:
        return _floats(draw, rng).astype(kept.numpy)
    return _integers(draw, kept, rng).astype(kept.numpy)


def _floats(draw: Draw, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    count = int(np.prod(draw.shape))
    if draw.distinct and count > 1:
        spaced = np.linspace(draw.low, draw.high, count)
        return rng.permutation(spaced).reshape(draw.shape)
    return rng.uniform(draw.low, draw.high, draw.shape)


def _integers(draw: Draw, dtype: DType, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    limits = np.iinfo(dtype.numpy)
    low = max(int(np.ceil(draw.low)), int(limits.min))
    high = min(max(int(np.floor(draw.high)), low), int(limits.max))
    if draw.distinct:
        count = int(np.prod(draw.shape))
        return (rng.permutation(count) + low).reshape(draw.shape)
    return rng.integers(low, high, draw.shape, endpoint=True)


def inputs_of(op: Op, case: Case, dtype: DType) -> list[np.ndarray[Any, Any]]:
    """The arrays of one case, the same in every run of the tests."""
    rng = generator(op.name, [draw.shape for draw in case.draws], dtype.name)
    return [drawn(draw, dtype, rng) for draw in case.draws]


def apply(op: Op, tensors: Sequence[Tensor], attrs: dict[str, Any]) -> tuple[Tensor, ...]:
    """The outputs of an op over tensors, built as its `build` says."""
    built = make(op, tensors, attrs) if op.build is None else op.build(*tensors, **attrs)
    return (built,) if isinstance(built, Tensor) else tuple(built)


def strided(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, every second element of a larger array: not contiguous."""
    return np.stack([array, array], axis=-1)[..., 0]


# ---------------------------------------------------------------------------- placeholders


def static(array: np.ndarray[Any, Any]) -> Tensor:
    """A placeholder of exactly this type."""
    return placeholder(array.dtype, array.shape)


def symbolic(array: np.ndarray[Any, Any]) -> Tensor:
    """A placeholder of this rank whose sizes are all open."""
    return placeholder(array.dtype, [None] * array.ndim)


def rankless(array: np.ndarray[Any, Any]) -> Tensor:
    """A placeholder of unknown rank."""
    return placeholder(array.dtype, None)


SPELLINGS: dict[str, Callable[[np.ndarray[Any, Any]], Tensor]] = {
    "static": static,
    "symbolic": symbolic,
    "rankless": rankless,
}


# ---------------------------------------------------------------------------- running


def bindings(
    tensors: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]
) -> tuple[dict[Tensor, TensorType], dict[Symbol, int]]:
    """The refined types of fed tensors, and the value of every symbol in them."""
    types, sizes = {}, {}
    for tensor, shape in zip(tensors, shapes, strict=True):
        declared = tensor.shape
        if declared is None:
            declared = tuple(Dim.symbol() for _ in shape)
        types[tensor] = TensorType(tensor.dtype, declared)
        for dimension, size in zip(declared, shape, strict=True):
            symbol = dimension.as_symbol() if isinstance(dimension, Dim) else None
            if symbol is not None:
                sizes[symbol] = size
    return types, sizes


@dataclass
class Compiled:
    """A graph, optimised for feeds of these shapes."""

    graph: Graph
    sizes: Mapping[Symbol, int]
    program: Any

    @classmethod
    def of(
        cls,
        fetches: Sequence[Tensor],
        inputs: Sequence[Tensor] = (),
        shapes: Sequence[tuple[int, ...]] = (),
        pipeline: Any = None,
    ) -> Compiled:
        """Optimise and compile."""
        types, sizes = bindings(inputs, shapes)
        graph = Graph(tuple(fetches), (), tuple(inputs))
        with assuming(Assumptions(sizes, types=types)):
            graph = optimise(graph) if pipeline is None else optimise(graph, pipeline=pipeline)
        return cls(graph, sizes, ReferenceDevice().compile(graph))

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        return list(self.program.run(arrays, Environment(self.sizes, {}, ENTROPY_WORDS)))


def run(
    fetches: Sequence[Tensor], feeds: Mapping[Tensor, np.ndarray[Any, Any]] | None = None
) -> list[np.ndarray[Any, Any]]:
    """The values of some tensors, through the whole pipeline."""
    feeds = feeds or {}
    shapes = [array.shape for array in feeds.values()]
    return Compiled.of(fetches, list(feeds), shapes)(*feeds.values())


def values(
    graph: Graph, arrays: Sequence[np.ndarray[Any, Any]], sizes: Mapping[Symbol, int]
) -> list[np.ndarray[Any, Any]]:
    """The roots of a graph by its oracles alone; every node's type must be the real one."""
    fed = zip(graph.inputs, arrays, strict=True)
    known: dict[tuple[Node, int], np.ndarray[Any, Any]] = {(t.node, t.index): a for t, a in fed}
    for node in graph.nodes:
        if (node, 0) in known:
            continue
        operands = [known[t.node, t.index] for t in node.inputs]
        attrs = {name: resolved(value, sizes) for name, value in node.attrs.items()}
        with np.errstate(all="ignore"):
            result = ENTROPY_WORDS if node.op is ENTROPY else node.op.oracle(*operands, **attrs)
        results = (result,) if node.op.outputs is None else result
        for index, (value, type) in enumerate(zip(results, node.types, strict=True)):
            known[node, index] = holds(np.asarray(value), type, sizes, node)
    return [known[t.node, t.index] for t in graph.roots]


def holds(
    array: np.ndarray[Any, Any], type: TensorType, sizes: Mapping[Symbol, int], what: Any
) -> np.ndarray[Any, Any]:
    """The array, which must be of the type."""
    assert type.shape is not None, f"{what}: the rank of {type} is still unknown"
    shape = tuple(evaluate(d, sizes) for d in type.shape)
    assert (array.dtype, array.shape) == (type.dtype.numpy, shape), (
        f"{what}: inferred {type}, but its oracle gave {array.dtype}{list(array.shape)}"
    )
    return array


# ---------------------------------------------------------------------------- comparing


def tolerance(dtype: np.dtype[Any]) -> float:
    """How far two ways to compute one value may differ, relative to the largest value."""
    return {"e": 4e-3, "f": 4e-6, "d": 1e-12}.get(dtype.char, 0.0)


def assert_same(
    got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], what: Any, slack: float = 1.0
) -> None:
    """Equal dtype, shape, and values up to rounding (exactly, for whole numbers)."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape), (
        f"{what}: {got.dtype}{list(got.shape)}, not {want.dtype}{list(want.shape)}"
    )
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=str(what))
        return
    finite = np.abs(want[np.isfinite(want)].astype(np.float64))
    bound = slack * tolerance(got.dtype) * (1.0 + finite.max(initial=0.0))
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), rtol=0, atol=bound, err_msg=str(what)
    )


def directional(
    function: Callable[..., float],
    xs: Sequence[np.ndarray[Any, Any]],
    direction: Sequence[np.ndarray[Any, Any]],
    step: float = 1e-3,
) -> float:
    """The derivative of f along a direction, by a central difference of fourth order (float64).

    f'(x) = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12h + O(h^4): Abramowitz & Stegun 25.3.6.
    """

    def at(t: float) -> float:
        return function(*(x + t * v for x, v in zip(xs, direction, strict=True)))

    near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step)
