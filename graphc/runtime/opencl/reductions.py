"""Long reductions at few points, in two stages: sections first, then what these gave.

Enters: a `Stage`. Leaves: the stages that compute the same, with more independent points:

    y[p] = sum(k < n: f(p, k))
    part[p, s] = sum(c < m: f(p, s * m + c))                       with m = (n - 1) // sections
    y[p] = sum(s < sections: part[p, s]) + sum(c < n - sections * m: f(p, sections * m + c))

What is added to what depends on sizes alone. The last terms are at least one, so that an extremum
of nothing is found out where it was before, and no read needs a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.collapse import collapse, substituted
from graphc.dims import Dimension, derived, floordiv, product
from graphc.dtypes import DType
from graphc.kernel import ARGUMENTS, Axis, Buffer, Kernel, Store, kinds_of, lift, read
from graphc.runtime.opencl.capabilities import Capabilities
from graphc.runtime.opencl.stages import Stage
from graphc.scalar import Scalar, apply, walk
from graphc.types import TensorType

COMBINED = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}
LOGICAL = {"any": "bit_or", "all": "bit_and"}
SECTIONS = {"cpu": 8, "gpu": 16}  # for each compute unit
LEAST_TERMS = 4_096  # of all reductions of a kernel together that are worth two launches
LEAST_SECTION = 64  # terms


def sections(stage: Stage, capabilities: Capabilities) -> list[Stage]:
    """The stages of a stage: itself, or those of its sections and itself over them."""
    kernel = stage.kernel
    count = _count(kernel, capabilities)
    if count < 2:
        return [stage]
    kinds = kinds_of(*(store.value for store in kernel.stores))
    made: dict[Scalar, Scalar] = {}
    found: list[Stage] = []
    for part in walk(*(store.value for store in kernel.stores)):
        operands = tuple([made[x] for x in part.operands])
        same = all(a is b for a, b in zip(operands, part.operands, strict=True))
        made[part] = part if same else Scalar(part.primitive, operands, part.value)
        if part.primitive == "reduce":
            kind = kinds[part]
            assert isinstance(kind, DType)
            first, made[part] = _cut(kernel, part, kind, count)
            found.append(Stage(collapse(first), stage.wanted))
    stores = tuple(Store(s.buffer, s.index, made[s.value], s.ordered) for s in kernel.stores)
    last = Kernel(kernel.name, kernel.axes, stores, kernel.lines)
    return [*found, Stage(last, stage.wanted)]


def _count(kernel: Kernel, capabilities: Capabilities) -> int:
    """How many sections pay; 1 where none do."""
    reductions = [f for f in kernel.formulas() if f.primitive == "reduce"]
    points = product(axis.extent for axis in kernel.axes)
    if kernel.ordered or not reductions or not isinstance(points, int) or points == 0:
        return 1
    if not all(map(_is_plain, reductions)):
        return 1
    wanted = SECTIONS.get(capabilities.type, 16) * capabilities.compute_units
    terms = [product(axis.extent for axis in part.value[1]) for part in reductions]
    known = [n for n in terms if isinstance(n, int)]
    if points >= wanted or (points > 8 and len(known) < len(terms)):
        return 1
    if len(known) == len(terms) and points * max(known) < LEAST_TERMS:
        return 1
    lengths = [_longest(part.value[1]).extent for part in reductions]
    limits = [n // 2 for n in lengths if isinstance(n, int)]
    limits += [n // LEAST_SECTION for n in known]
    return min([-(-wanted // points), *limits])


def _is_plain(part: Scalar) -> bool:
    kind, _, _ = part.value
    return kind not in ARGUMENTS and all(f.primitive != "reduce" for f in walk(*part.operands))


def _longest(axes: Sequence[Axis]) -> Axis:
    """The axis that is cut: the first of unknown extent, else the longest."""
    unknown = [axis for axis in axes if not isinstance(axis.extent, int)]
    return unknown[0] if unknown else max(axes, key=lambda axis: _known(axis.extent))


def _known(size: Dimension) -> int:
    return size if isinstance(size, int) else 0


def _cut(kernel: Kernel, part: Scalar, dtype: DType, count: int) -> tuple[Kernel, Scalar]:
    """The kernel of a reduction's sections, and what the reduction is of them."""
    kind, axes, initial = part.value
    axis = _longest(axes)
    length = floordiv(derived("max", 0, axis.extent - 1), count)
    section, inner, rest = Axis(count), Axis(length), Axis(axis.extent - length * count)
    buffer = Buffer(TensorType(dtype, (*(a.extent for a in kernel.axes), count)), "sections")
    (body,) = part.operands
    start = _identity(kind, dtype)
    within = substituted(body, {axis: section.position * lift(length) + inner.position})
    others = tuple(inner if a is axis else a for a in axes)
    value = Scalar("reduce", (within,), (kind, others, start))
    index = tuple(a.position for a in kernel.axes)
    store = Store(buffer, (*index, section.position), value)
    first = Kernel(kernel.name, (*kernel.axes, section), (store,), kernel.lines)
    along = Axis(count)
    parts = Scalar("reduce", (read(buffer)(*index, along.position),), (kind, (along,), start))
    after = substituted(body, {axis: lift(length * count) + rest.position})
    others = tuple(rest if a is axis else a for a in axes)
    last = Scalar("reduce", (after,), (kind, others, initial))
    return first, apply((COMBINED | LOGICAL)[kind], parts, last)


def _identity(kind: str, dtype: DType) -> bool | int | float:
    """What a reduction of nothing is in a section."""
    if kind == "sum":
        return -0.0 if dtype.is_float else 0
    if kind in ("prod", "all", "any"):
        return kind != "any" if dtype.name == "bool" or kind != "prod" else 1
    if dtype.is_float:
        return float("-inf" if kind == "max" else "inf")
    if dtype.name == "bool":
        return kind == "min"
    signed = dtype.kind == "i"
    low, high = -(1 << (dtype.bits - 1)) if signed else 0, (1 << (dtype.bits - signed)) - 1
    return low if kind == "max" else high
