"""Random graphs over the registry: what optimised graphs compute must be what plain ones compute.

A `Program` is a list of steps: inputs, and ops over earlier steps. It is grown from the cases of
the ops' own domains, so that every step is well defined; run plainly (oracle by oracle) and through
the pipeline; and differentiated against central differences. What fails is shrunk step by step
while it still fails, and printed as a program of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from graphc.build import assuming
from graphc.dtypes import DType, bool_, float32, float64, int32, uint8
from graphc.errors import GraphcError
from graphc.graph import Graph, Op, Tensor
from graphc.ops import OPS
from graphc.ops.domain import Case, Draw
from graphc.ops.gradient import gradients
from graphc.passes.specialise import specialise
from graphc.runtime.cpu.device import CpuDevice
from graphc.runtime.device import Environment
from graphc.runtime.interp.device import InterpDevice, InterpProgram
from graphc.runtime.opencl.device import OpenclDevice, open_opencl
from graphc.runtime.session import Session
from graphc.types import Assumptions
from tests.devices import OPENCL
from tests.support import (
    ENTROPY_WORDS,
    SPELLINGS,
    Compiled,
    apply,
    assert_same,
    bindings,
    directional,
    drawn,
    drawn_dtype,
    values,
)

Array: TypeAlias = "np.ndarray[Any, Any]"
HIDDEN = {"print", "random_bits"}  # one writes to the terminal, one is no function of its inputs
DTYPES = (
    float64,
    float64,
    float32,
    int32,
    uint8,
    bool_,
)  # float64 most: it has difference quotients
TRIES = 4  # of these the op that reads the most results of other ops comes next
LIMIT = 1e3  # larger values make rounding, not mistakes
DEVICES: dict[str, Callable[[Graph], Any]] = {
    "interp": InterpDevice().compile,
    "unfused": functools.partial(InterpProgram, fused=False),
    "cpu": CpuDevice().compile,
    "cpu, 1 thread": CpuDevice(1).compile,
    **{name: lambda graph: _opencl().compile(graph) for name in OPENCL},
}
SESSIONS = "sessions"  # sessions on both devices, at sizes of several kinds
SIZES, OTHER_SIZES = 3, (0, 1, 2, 3, 5, 9, 17)
FIXED = {"searchsorted", "interleave"}  # for other sizes these want other attributes, or values
USUAL = ("interp",)
EVERY = (*(name for name in DEVICES if name not in OPENCL), SESSIONS)  # that compile quickly


@functools.cache
def _opencl() -> OpenclDevice:
    return open_opencl("opencl")


@dataclass(frozen=True)
class Step:
    """An input with its value, or an op over outputs `(step, output)` of earlier steps."""

    op: Op | None
    operands: tuple[tuple[int, int], ...]
    attrs: dict[str, Any]
    results: tuple[Array, ...]
    smooth: bool = True


@dataclass(frozen=True)
class Program:
    """Steps, of which those that no other reads are fetched."""

    steps: tuple[Step, ...]
    spelling: str

    def fetched(self) -> list[tuple[int, int]]:
        """The outputs that nothing reads."""
        read = {pair for step in self.steps for pair in step.operands}
        return [
            (i, k)
            for i, step in enumerate(self.steps)
            for k in range(len(step.results))
            if (i, k) not in read and step.op is not None
        ]

    def build(self) -> tuple[list[Tensor], list[Array], list[Tensor]]:
        """The placeholders, what to feed them, and the fetches."""
        built: list[tuple[Tensor, ...]] = []
        inputs: list[Tensor] = []
        feeds: list[Array] = []
        for step in self.steps:
            if step.op is None:
                tensor = SPELLINGS[self.spelling](step.results[0])
                inputs.append(tensor)
                feeds.append(step.results[0])
                built.append((tensor,))
            else:
                built.append(apply(step.op, [built[i][k] for i, k in step.operands], step.attrs))
        return inputs, feeds, [built[i][k] for i, k in self.fetched()]

    def source(self) -> str:
        """The program as Python."""
        lines = [
            "import numpy as np",
            "import graphc",
            "from graphc.ops import OPS",
            "from graphc.ops.source import placeholder",
            "from tests.support import apply, run",
            "",
        ]
        feeds = []
        for i, step in enumerate(self.steps):
            if step.op is None:
                array = step.results[0]
                declared = {
                    "static": tuple(array.shape), "symbolic": [None] * array.ndim, "rankless": None
                }[self.spelling]  # fmt: skip
                lines.append(f"x{i} = (placeholder({array.dtype.name!r}, {declared}),)")
                literal = f"np.array({array.tolist()}, np.{array.dtype}).reshape({array.shape})"
                feeds.append(f"x{i}[0]: {literal}")
            else:
                operands = ", ".join(f"x{j}[{k}]" for j, k in step.operands)
                lines.append(f"x{i} = apply(OPS[{step.op.name!r}], [{operands}], {step.attrs})")
        fetches = ", ".join(f"x{i}[{k}]" for i, k in self.fetched())
        lines += [f"feeds = {{{', '.join(feeds)}}}", f"print(run([{fetches}], feeds))"]
        return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------- growing


def _fits(array: Array, draw: Draw, dtype: DType) -> bool:
    if array.shape != draw.shape or array.dtype != drawn_dtype(draw, dtype).numpy:
        return False
    if draw.make is not None or draw.distinct:
        return False
    inside = array.astype(np.float64)
    return bool(((inside >= draw.low) & (inside <= draw.high)).all()) or array.dtype == bool


def _evaluate(op: Op, arrays: Sequence[Array], attrs: dict[str, Any]) -> tuple[Array, ...]:
    tensors = [SPELLINGS["static"](array) for array in arrays]
    graph = specialise(Graph(apply(op, tensors, attrs), (), tuple(tensors)))
    return tuple(values(graph, arrays, {}))


def _tame(results: Sequence[Array]) -> bool:
    return all(
        bool(np.isfinite(a).all()) and float(np.abs(a.astype(np.float64)).max(initial=0)) < LIMIT
        for a in results
    )


def grow(seed: int, size: int = 12) -> Program:
    """A random program of about `size` ops."""
    rng = np.random.default_rng(seed)
    dtype = DTYPES[int(rng.integers(len(DTYPES)))]
    table = _table(dtype)
    steps: list[Step] = []
    for _ in range(size):
        candidates = [_candidate(table, steps, dtype, rng) for _ in range(TRIES)]
        op, case, operands, added = max(candidates, key=lambda c: _depth(steps, c[2]))
        arrays = [(steps + added)[i].results[k] for i, k in operands]
        results = _evaluate(op, arrays, case.attrs)
        if _tame(results):
            steps += [*added, Step(op, operands, case.attrs, results, _is_smooth(op, results))]
    return Program(tuple(steps), ("static", "symbolic", "rankless")[int(rng.integers(3))])


def _is_smooth(op: Op, results: Sequence[Array]) -> bool:
    """Whether a difference quotient across this op says what the gradient is."""
    floats = any(array.dtype.kind == "f" for array in results)
    return op.domain.smooth and (op.vjp is not None or not floats)


@functools.cache
def _table(dtype: DType) -> list[list[tuple[Op, Case]]]:
    """For each op that takes the dtype, its cases."""
    return [
        [(op, case) for case in op.domain.cases if case.draws]
        for op in OPS.values()
        if op.name not in HIDDEN and dtype.kind in op.domain.kinds
        if any(case.draws for case in op.domain.cases)
    ]


def _candidate(
    table: list[list[tuple[Op, Case]]], steps: list[Step], dtype: DType, rng: np.random.Generator
) -> tuple[Op, Case, tuple[tuple[int, int], ...], list[Step]]:
    """An op that could come next, its operands, and the inputs that it would need."""
    rows = table[int(rng.integers(len(table)))]
    op, case = rows[int(rng.integers(len(rows)))]
    return (op, case, *_operands(steps, case, dtype, rng))


def _depth(steps: list[Step], operands: Sequence[tuple[int, int]]) -> int:
    """How many operands are results of ops."""
    return sum(i < len(steps) and steps[i].op is not None for i, _ in operands)


def _operands(
    steps: list[Step], case: Case, dtype: DType, rng: np.random.Generator
) -> tuple[tuple[tuple[int, int], ...], list[Step]]:
    """Earlier results where some fit a draw, else new inputs."""
    operands, added = [], []
    for draw in case.draws:
        found = [
            (i, k)
            for i, step in enumerate(steps)
            for k, array in enumerate(step.results)
            if _fits(array, draw, dtype)
        ]
        computed = [pair for pair in found if steps[pair[0]].op is not None]
        if found and rng.random() < 0.85:
            choice = computed if computed and rng.random() < 0.85 else found
            operands.append(choice[-1 - int(rng.integers(min(len(choice), 4)))])
        else:
            operands.append((len(steps) + len(added), 0))
            added.append(Step(None, (), {}, (drawn(draw, dtype, rng),)))
    return tuple(operands), added


# ---------------------------------------------------------------------------- checking


def check(program: Program, on: Sequence[str] = USUAL) -> None:
    """Raise an AssertionError where the optimised program differs from the plain one.

    `on`: names of `DEVICES`, which must agree too, and perhaps `SESSIONS`.
    """
    inputs, feeds, fetches = program.build()
    if not fetches:
        return
    shapes = [array.shape for array in feeds]
    types, sizes = bindings(inputs, shapes)
    with assuming(Assumptions(sizes, types=types)):
        plain = specialise(Graph(tuple(fetches), (), tuple(inputs)))
    wanted = values(plain, feeds, sizes)
    compiled = Compiled.of(fetches, inputs, shapes)
    for got, again, want in zip(
        compiled(*feeds), values(compiled.graph, feeds, compiled.sizes), wanted, strict=True
    ):
        assert_same(got, want, "optimised", slack=300)
        assert_same(again, want, "optimised, oracle by oracle", slack=300)
    _check_devices(compiled, feeds, on)
    if all(step.smooth for step in program.steps):
        _check_gradient(inputs, feeds, fetches, on)
    if SESSIONS in on and not any(s.op is not None and s.op.name in FIXED for s in program.steps):
        _check_sessions(inputs, feeds, fetches)


def _check_devices(compiled: Compiled, feeds: Sequence[Array], on: Sequence[str]) -> None:
    """Kernels must compute what the graph means, whatever their number of threads, to the bit."""
    environment = Environment(compiled.sizes, {}, ENTROPY_WORDS)
    wanted = compiled(*feeds)
    single = any(t.dtype is float32 for node in compiled.graph.nodes for t in node.types)
    found: dict[str, list[Array]] = {}
    for name in (name for name in DEVICES if name in on):
        found[name] = [*map(np.asarray, DEVICES[name](compiled.graph).run(feeds, environment))]
        for a, b in zip(found[name], wanted, strict=True):
            assert a.dtype == b.dtype
            if single and b.dtype == np.float64:  # it was rounded to single precision on the way
                a, b = a.astype(np.float32), b.astype(np.float32)
            assert_same(a, b, f"on {name}", slack=300)
    cpu = [[a.tobytes() for a in arrays] for name, arrays in found.items() if "cpu" in name]
    assert all(each == cpu[0] for each in cpu), "bits depend on the threads"


def _check_sessions(inputs: list[Tensor], feeds: list[Array], fetches: list[Tensor]) -> None:
    """One session a device, fed arrays of several sizes, one after another."""
    listed = [feeds, *(_resized(feeds, number) for number in range(SIZES)), feeds]
    with Session("cpu") as native, Session("reference") as plain:
        for arrays in listed:
            fed = dict(zip(inputs, arrays, strict=True))
            try:
                wanted = plain.run(fetches, fed)
            except (GraphcError, ValueError, IndexError):
                continue  # the program is not defined for these sizes
            got = native.run(fetches, fed)
            if _tame(wanted):
                for a, b in zip(got, wanted, strict=True):
                    a, b = (_rounded(np.asarray(each)) for each in (a, b))
                    assert_same(a, b, f"sessions at {[a.shape for a in arrays]}", slack=300)


def _rounded(array: Array) -> Array:
    """In single precision: the value may have been there on its way."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _resized(arrays: Sequence[Array], number: int) -> list[Array]:
    """Other sizes where there were equal ones, filled with the values that there were.

    What a size becomes does not depend on what else there is, so that smaller programs fail alike.
    """
    rng = np.random.default_rng(number)
    other = [int(k) if rng.random() < 0.3 else int(rng.choice(OTHER_SIZES)) for k in range(100)]
    shapes = [tuple(other[size] if size else 0 for size in array.shape) for array in arrays]
    return [
        np.resize(a, shape) if a.size else np.zeros(shape, a.dtype)
        for a, shape in zip(arrays, shapes, strict=True)
    ]


def _check_gradient(
    inputs: list[Tensor], feeds: list[Array], fetches: list[Tensor], on: Sequence[str]
) -> None:
    ys = [y for y in fetches if y.dtype is float64]
    places = [i for i, x in enumerate(inputs) if x.dtype is float64]
    if not ys or not places:
        return
    slopes = gradients(ys, [inputs[i] for i in places], unconnected="zero")
    compiled = Compiled.of([*ys, *slopes], inputs, [array.shape for array in feeds])
    _check_devices(compiled, feeds, on)
    rng = np.random.default_rng(0)
    directions = [rng.uniform(-1, 1, feeds[i].shape) for i in places]

    def total(*floats: Array) -> float:
        arrays = list(feeds)
        for i, value in zip(places, floats, strict=True):
            arrays[i] = value
        return float(sum(float(y.sum()) for y in compiled(*arrays)[: len(ys)]))

    found = compiled(*feeds)[len(ys) :]
    slope = float(sum(np.sum(g * v) for g, v in zip(found, directions, strict=True)))
    points = [feeds[i] for i in places]
    near, far = (directional(total, points, directions, step) for step in (1e-5, 3e-5))
    scale = 1.0 + abs(near)
    if abs(near - far) < 1e-5 * scale:  # else a kink is near, and no difference says anything
        assert abs(slope - near) < 1e-4 * scale, f"gradient {slope}, by differences {near}"


def fails(program: Program, on: Sequence[str] = USUAL) -> str | None:
    """What is wrong with a program; None if nothing."""
    try:
        check(program, on)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


# ---------------------------------------------------------------------------- shrinking


def shrink(program: Program, failing: Callable[[Program], Any] = fails) -> Program:
    """Drop steps, or make inputs of them, as long as the program still fails."""
    changed = True
    while changed:
        changed = False
        for index in reversed(range(len(program.steps))):
            for smaller in _smaller(program, index):
                if failing(smaller):
                    program, changed = smaller, True
                    break
    return program


def _smaller(program: Program, index: int) -> list[Program]:
    """The program without one step, or with that step's result fed."""
    if index >= len(program.steps):
        return []
    step = program.steps[index]
    read = any(i == index for other in program.steps for i, _ in other.operands)
    if not read:
        return [replace(program, steps=_without(program.steps, index))]
    if step.op is not None and len(step.results) == 1:
        fed = (*program.steps[:index], Step(None, (), {}, step.results))
        return [replace(program, steps=(*fed, *program.steps[index + 1 :]))]
    return []


def _without(steps: tuple[Step, ...], index: int) -> tuple[Step, ...]:
    """The steps without one that none reads, later ones renumbered."""
    return tuple(
        replace(step, operands=tuple((i - (i > index), k) for i, k in step.operands))
        for place, step in enumerate(steps)
        if place != index
    )
